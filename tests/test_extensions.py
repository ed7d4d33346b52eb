"""The registry of Zarr extensions, by hand from its specifications: what reads, what is refused.

tests/conformance has stores of zarrs with some of the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.reading import parse, read_array
from znfs.errors import ChunkError, MetadataError
from znfs.tree import open_tree

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def write(root: Path, dtype: Any, codecs: list[Any], data: bytes, **more: Any) -> Path:
    shape = more.get("shape", [2, 3])
    document = {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs, **more,
    }  # fmt: skip
    key = "/".join(["c", *["0"] * len(shape)])
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    (root / key).write_bytes(data)
    (root / "zarr.json").write_text(json.dumps(document))
    return root


def codec(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "configuration": config}


def of_bits(text: str) -> bytes:
    """Bits in the order of the specification, the first of each byte its least significant."""
    return np.packbits([int(c) for c in text.replace(" ", "")], bitorder="little").tobytes()


@pytest.mark.parametrize(
    ("dtype", "config", "bits", "expected"),
    [
        ("bool", {}, "101101", [1, 0, 1, 1, 0, 1]),
        ("bool", {"padding_encoding": "last_byte"}, "101101", [1, 0, 1, 1, 0, 1]),
        ("bool", {"padding_encoding": "first_byte"}, "101101", [1, 0, 1, 1, 0, 1]),
        ("uint2", {}, "10 01 11 00 10 01", [1, 2, 3, 0, 1, 2]),
        ("int2", {}, "10 01 11 00 10 01", [1, -2, -1, 0, 1, -2]),
        ("int4", {"last_bit": 2}, "100 011 111 000 001 010", [1, -2, -1, 0, -4, 2]),
        ("uint16", {"first_bit": 4, "last_bit": 6}, "100 011 111 000 001 010",
         [16, 96, 112, 0, 64, 32]),
        ("int16", {"first_bit": 1, "last_bit": 3}, "100 011 111 000 001 010",
         [2, -4, -2, 0, -8, 4]),
    ],
)  # fmt: skip
def test_packbits(
    dtype: str, config: dict[str, Any], bits: str, expected: list[int], tmp_path: Path
) -> None:
    data = of_bits(bits)
    padding = bytes([-len(bits.replace(" ", "")) % 8])
    data = {"first_byte": padding + data, "last_byte": data + padding}.get(
        config.get("padding_encoding", ""), data
    )
    more = {"fill_value": False if dtype == "bool" else 0}
    _, got = read_array(write(tmp_path, dtype, [codec("packbits", **config)], data, **more))
    np.testing.assert_array_equal(got.reshape(-1), expected)
    write(tmp_path, dtype, [codec("packbits", **config)], data + b"\0", **more)
    with pytest.raises(ChunkError, match="packed_bits"):
        read_array(tmp_path)


@pytest.mark.parametrize("place", ["first_byte", "last_byte"])
def test_packbits_of_another_number_of_bits(place: str, tmp_path: Path) -> None:
    data = [of_bits("101101"), b"\1"]
    of = [codec("packbits", padding_encoding=place)]
    data = data[::-1] if place == "first_byte" else data
    write(tmp_path, "bool", of, b"".join(data), fill_value=False)
    with pytest.raises(ChunkError, match="1 bits of padding"):
        read_array(tmp_path)


@pytest.mark.parametrize("name", ["float32", "complex128", "int64", "bfloat16"])
def test_packbits_of_all_bits_is_what_bytes_is(name: str, tmp_path: Path) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    data = np.random.default_rng(3).standard_normal((300, 400)).astype(dtype)
    more = {"shape": [300, 400], "fill_value": [0, 0] if name.startswith("complex") else 0}
    _, got = read_array(write(tmp_path, name, [codec("packbits")], data.tobytes(), **more))
    np.testing.assert_array_equal(got, data.astype(got.dtype))


def test_packbits_of_some_bits_of_many_elements(tmp_path: Path) -> None:
    """More than are unpacked at once."""
    data = np.random.default_rng(3).integers(0, 8, 70_000).astype("u1")
    bits = of_bits("".join("".join(str(n >> k & 1) for k in range(3)) for n in data.tolist()))
    of = [codec("packbits", last_bit=2)]
    _, got = read_array(write(tmp_path, "uint8", of, bits, shape=[70_000], fill_value=0))
    np.testing.assert_array_equal(got, data)


VALUES = np.array([[-1.5, -0.5, 0.5], [1.5, 2.5, 200.0]])


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (None, [-2, 0, 0, 2, 2, 200]), ("nearest-even", [-2, 0, 0, 2, 2, 200]),
        ("towards-zero", [-1, 0, 0, 1, 2, 200]), ("towards-positive", [-1, 0, 1, 2, 3, 200]),
        ("towards-negative", [-2, -1, 0, 1, 2, 200]), ("nearest-away", [-2, -1, 1, 2, 3, 200]),
    ],
)  # fmt: skip
def test_cast_value_rounds(rounding: str | None, expected: list[int], tmp_path: Path) -> None:
    config = {"data_type": "float64"} | ({"rounding": rounding} if rounding else {})
    write(tmp_path, "int16", [codec("cast_value", **config), LITTLE], VALUES.tobytes())
    _, got = read_array(tmp_path)
    assert got.dtype == np.int16
    assert got.reshape(-1).tolist() == expected


def test_cast_value_to_a_wider_type(tmp_path: Path) -> None:
    """What is stored is longer than what is read, by more than any slack there is."""
    values = np.arange(1 << 19, dtype="u1").reshape(512, 1024)
    codecs = [codec("cast_value", data_type="float64"), LITTLE]
    write(tmp_path, "uint8", codecs, values.astype("<f8").tobytes(), shape=[512, 1024])
    _, got = read_array(tmp_path)
    assert np.array_equal(got, values)


@pytest.mark.parametrize(
    ("dtype", "stored", "beyond", "expected"),
    [
        ("int8", [127, -128, 300, -300, 128, 0], "clamp", [127, -128, 127, -128, 127, 0]),
        ("int8", [127, -128, 300, -300, 128, 0], "wrap", [127, -128, 44, -44, -128, 0]),
        ("int8", [127, -128, 300, -300, 128, 0], "error", None),
        ("uint64", [2.0**64, -1.0, 2.0**63, 0, 1, np.inf], "clamp",
         [2**64 - 1, 0, 2**63, 0, 1, 2**64 - 1]),
        ("int64", [2.0**63, -(2.0**63), -(2.0**64), 0, 1, -np.inf], "clamp",
         [2**63 - 1, -(2**63), -(2**63), 0, 1, -(2**63)]),
        ("int64", [2.0**63, 0, 0, 0, 0, 0], "error", None),
        ("int64", [-(2.0**63), 0, 0, 0, 0, 0], "error", [-(2**63), 0, 0, 0, 0, 0]),
        ("uint8", [256.0, -1.0, 513.0, 0, 1, 255.0], "wrap", [0, 255, 1, 0, 1, 255]),
        ("uint8", [np.inf, 0, 0, 0, 0, 0], "wrap", None),
        ("int64", [-1.0, -1000.0, 5.0, 2.0**63, -(2.0**63), 2.0**64 + 4096], "wrap",
         [-1, -1000, 5, -(2**63), -(2**63), 4096]),
        ("uint64", [-1.0, -3.0, 5.0, 2.0**63, -(2.0**63), -(2.0**64) - 4096], "wrap",
         [2**64 - 1, 2**64 - 3, 5, 2**63, 2**63, 2**64 - 4096]),
        ("int32", [np.nan, 0, 0, 0, 0, 0], "clamp", None),
        ("float32", [1e300, -1e300, 1.5, np.inf, 0, 2], "clamp",
         [3.4028234663852886e38, -3.4028234663852886e38, 1.5, np.inf, 0, 2]),
        ("float32", [1e300, 0, 0, 0, 0, 0], "error", None),
        ("float32", [1e30, np.nan, -np.inf, 0, 0, 0], "error",
         [np.float32(1e30), np.nan, -np.inf, 0, 0, 0]),
    ],
)  # fmt: skip
def test_cast_value_beyond_the_range(
    dtype: str, stored: list[Any], beyond: str, expected: list[Any] | None, tmp_path: Path
) -> None:
    data = np.array(stored)
    cast = codec("cast_value", data_type=data.dtype.name, out_of_range=beyond)
    write(tmp_path, dtype, [cast, LITTLE], data.tobytes())
    if expected is None:
        with pytest.raises(ChunkError, match="cast_value: holds"):
            read_array(tmp_path)
        return
    _, got = read_array(tmp_path)
    np.testing.assert_array_equal(got.reshape(-1), np.array(expected, dtype))


def test_scale_offset_and_cast_value(tmp_path: Path) -> None:
    """The example of the registry: floats as small integers, big-endian behind both."""
    stored = np.array([[0, 1, 2], [30, 100, 255]], ">u2")
    codecs = [
        codec("scale_offset", scale=2, offset=-5), codec("cast_value", data_type="uint16"),
        codec("bytes", endian="big"),
    ]  # fmt: skip
    _, got = read_array(write(tmp_path, "float32", codecs, stored.tobytes()))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, stored / 2 - 5)
    codecs[1] = codec("cast_value", data_type="float8_e4m3fn")
    small = np.array([0, 1, 2, -3, 4, 8], ml_dtypes.float8_e4m3fn)
    codecs[2] = codec("packbits")
    _, got = read_array(write(tmp_path, "float32", codecs, small.tobytes()))
    np.testing.assert_array_equal(got.reshape(-1), small.astype("f4") / 2 - 5)


@pytest.mark.parametrize("shape", [[[0, 1]], [-1], [3, 2], [[0], [1]], [2, -1, 1], [1, [0], 3]])
def test_reshape(shape: list[Any], tmp_path: Path) -> None:
    data = np.arange(6, dtype="<u2").reshape(2, 3)
    codecs = [codec("reshape", shape=shape), LITTLE]
    _, got = read_array(write(tmp_path, "uint16", codecs, data.tobytes()))
    np.testing.assert_array_equal(got, data)


def test_reshape_then_transpose(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<u2").reshape(2, 3)
    codecs = [codec("reshape", shape=[3, 2]), codec("transpose", order=[1, 0]), LITTLE]
    _, got = read_array(write(tmp_path, "uint16", codecs, data.reshape(3, 2).T.tobytes()))
    np.testing.assert_array_equal(got, data)


def test_squeeze(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<u2").reshape(2, 1, 3)
    codecs = [codec("zarrs.squeeze"), codec("transpose", order=[1, 0]), LITTLE]
    write(tmp_path, "uint16", codecs, data[:, 0].T.tobytes(), shape=[2, 1, 3])
    np.testing.assert_array_equal(read_array(tmp_path)[1], data)


@pytest.mark.parametrize(
    ("encoding", "key", "shape"),
    [
        (codec("suffix", suffix=".tif", base_encoding="default"), "c/0/0.tif", [2, 3]),
        (codec("suffix", suffix=".shard.zip", base_encoding=codec("v2")), "0.0.shard.zip", [2, 3]),
        (codec("zarrs.default_suffix", suffix="_x", separator="."), "c.0.0_x", [2, 3]),
        (codec("suffix", **{"suffix": ".tif", "base-encoding": {"name": "default"}}), "c.tif", []),
    ],
)  # fmt: skip
def test_chunk_keys_with_a_suffix(
    encoding: Any, key: str, shape: list[int], tmp_path: Path
) -> None:
    data = np.arange(6, dtype="<u2")[: int(np.prod(shape))]
    root = tmp_path / "a"
    write(root, "uint16", [LITTLE], b"", shape=shape, chunk_key_encoding=encoding)
    (root / key).parent.mkdir(exist_ok=True)
    (root / key).write_bytes(data.tobytes())
    assert read_array(root)[1].reshape(-1).tolist() == data.tolist()
    tree = open_tree(str(root))
    for path in (key, f"chunks/{key}"):
        file = tree.resolve(path)
        assert file.read(0, file.size) == data.tobytes()
    *above, name = key.split("/")
    assert list(tree.resolve("/".join(["chunks", *above])).names()) == [name]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"codecs": [codec("packbits", last_bit=16)]}, "packbits: bits 0 to 16 of 16"),
        ({"codecs": [codec("packbits", first_bit=5, last_bit=2)]}, "packbits: bits 5 to 2"),
        ({"codecs": [codec("packbits", padding_encoding="middle")]}, "padding_encoding"),
        ({"codecs": [codec("cast_value", data_type="nope"), LITTLE]}, "'nope' is unknown"),
        ({"codecs": [codec("cast_value", data_type="bool"), LITTLE]}, "cast_value: from"),
        ({"codecs": [codec("cast_value", data_type="int8", rounding="up"), LITTLE]}, "rounding"),
        ({"codecs": [codec("cast_value", data_type="int8", scalar_map={}), LITTLE]}, "scalar_map"),
        ({"codecs": [codec("scale_offset", scale=1, offset=1), LITTLE]}, "of floats"),
        ({"codecs": [codec("scale_offset", scale=0, offset=1), LITTLE], "data_type": "float32"},
         "scale is 0"),
        ({"codecs": [codec("scale_offset", scale="x", offset=1), LITTLE]}, "'x'"),
        ({"codecs": [codec("reshape", shape=[4]), LITTLE]}, "does not become"),
        ({"codecs": [codec("reshape", shape=[-1, -1]), LITTLE]}, "shape"),
        ({"codecs": [codec("reshape", shape=[-1, 4]), LITTLE]}, "does not become"),
        ({"codecs": [codec("reshape", shape=[[1], [0]]), LITTLE]}, "not in order"),
        ({"codecs": [codec("reshape", shape=[[7]]), LITTLE]}, "no axes"),
        ({"chunk_key_encoding": codec("fanout", max_children=101)}, "'fanout' is not read"),
        ({"chunk_key_encoding": codec("suffix", suffix="/x", base_encoding="v2")}, "suffix '/x'"),
        ({"chunk_key_encoding": codec("suffix", suffix=".x")}, "no chunk key encoding"),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    write(tmp_path, more.get("data_type", "uint16"), more.get("codecs", [LITTLE]), b"", **{
        k: v for k, v in more.items() if k not in ("codecs", "data_type")})  # fmt: skip
    with pytest.raises(MetadataError, match=words):
        parse(tmp_path)
