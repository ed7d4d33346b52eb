"""Zarr v3, against zarr-python and tensorstore, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs import numcodecs as zn

from tests.reading import read_array, same
from znfs.codecs import Decoder
from znfs.errors import MetadataError, Unsupported
from znfs.formats import zarr3
from znfs.meta import ArrayMeta, ChunkKeys, GroupMeta

CORE = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128"]  # fmt: skip
SMALL = ["bfloat16", "float8_e3m4", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz",
         "float8_e5m2", "float8_e5m2fnuz", "int4", "int2", "float4_e2m1fn"]  # fmt: skip
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}
BASE: dict[str, Any] = {
    "zarr_format": 3, "node_type": "array", "shape": [5, 4], "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 2]}},
    "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [BYTES],
}  # fmt: skip


def typed(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def parse(**changes: Any) -> Any:
    merged = {k: v for k, v in {**BASE, **changes}.items() if v is not ...}
    return zarr3.parse({"zarr.json": json.dumps(merged).encode()})


def sharding(inner: list[int], codecs: list[Any] = [BYTES], **more: Any) -> dict[str, Any]:  # noqa: B006
    config = {"chunk_shape": inner, "codecs": codecs, "index_codecs": [BYTES, CRC], **more}
    return {"name": "sharding_indexed", "configuration": config}


def regular(*chunks: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}


@pytest.mark.parametrize("sharded", [False, True], ids=["chunks", "shards"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", CORE)
def test_core_types(tmp_path: Path, dtype: str, endian: str, sharded: bool):
    data = np.random.default_rng(1).integers(0, 2, (17, 5, 3)).astype(dtype)
    stored = zarr.create_array(
        tmp_path, shape=data.shape, chunks=(4, 3, 2), shards=(8, 6, 4) if sharded else None,
        dtype=dtype, serializer=BytesCodec(endian=endian), fill_value=1,
    )  # fmt: skip
    stored[:9] = data[:9]
    assert same(read_array(tmp_path)[1], stored[...])


COMPRESSORS = {
    "none": [],
    "blosc": [BloscCodec()],
    "gzip": [GzipCodec()],
    "zstd+crc32c": [ZstdCodec(checksum=True), Crc32cCodec()],
    "numcodecs": [zn.Shuffle(elementsize=2), zn.Zlib(), zn.Adler32(), zn.Fletcher32(), zn.CRC32()],
    "numcodecs-2": [zn.BZ2(), zn.LZMA(), zn.JenkinsLookup3(), zn.CRC32C()],
    "numcodecs-3": [zn.Blosc(), zn.Zstd(), zn.GZip(), zn.LZ4()],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shards", [None, (8, 6, 4)], ids=["chunks", "shards"])
@pytest.mark.parametrize("order", [None, (2, 0, 1), (2, 1, 0)], ids=str)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_codec_chains(tmp_path: Path, name: str, order: Any, shards: Any):
    data = np.random.default_rng(2).integers(0, 50, (9, 5, 7)).astype("u2")
    stored = zarr.create_array(
        tmp_path, shape=data.shape, chunks=(4, 3, 2), shards=shards, dtype="u2",
        filters=[TransposeCodec(order=order)] if order else None, compressors=COMPRESSORS[name],
    )  # fmt: skip
    stored[...] = data
    assert same(read_array(tmp_path)[1], data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("dtype", "filters"),
    [
        ("i4", [zn.Delta(dtype="<i4", astype="<i2")]),
        ("f8", [zn.FixedScaleOffset(offset=1, scale=4, dtype="<f8", astype="<i4")]),
        ("f4", [zn.Quantize(digits=2, dtype="<f4")]),
        ("f4", [zn.BitRound(keepbits=3)]),
        ("i4", [zn.AsType(encode_dtype="<i2", decode_dtype="<i4")]),
        ("bool", [zn.PackBits()]),
        ("i4", [zn.AsType(encode_dtype="<i2", decode_dtype="<i4"), zn.Delta(dtype="<i2")]),
    ],
    ids=str,
)
def test_numcodecs_filters(tmp_path: Path, dtype: str, filters: list[Any]):
    data = np.random.default_rng(3).integers(0, 50, (9, 5)).astype(dtype)
    stored = zarr.create_array(
        tmp_path, shape=data.shape, chunks=(4, 3), dtype=dtype, filters=filters
    )
    stored[...] = data
    assert same(read_array(tmp_path)[1], stored[...])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{}, {"elementsize": None}], ids=str)
@pytest.mark.parametrize("dtype", ["uint16", "float64"])
@pytest.mark.parametrize("sharded", [False, True])
def test_shuffle_takes_its_width_from_the_type(
    tmp_path: Path, dtype: str, sharded: bool, given: dict[str, Any]
):
    shuffle = {"name": "numcodecs.shuffle", "configuration": given}
    codecs: list[Any] = [BYTES, shuffle]
    if sharded:
        codecs = [sharding([4], codecs, index_codecs=[BYTES]), shuffle]
    document = {**BASE, "shape": [20], "data_type": dtype, "chunk_grid": regular(8)}
    (tmp_path / "zarr.json").write_text(json.dumps({**document, "codecs": codecs}))
    stored = zarr.open_array(tmp_path, mode="r+")
    stored[:] = np.arange(20)
    assert same(read_array(tmp_path)[1], stored[...])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("inside", [(), (1, 2, 0)], ids=str)
@pytest.mark.parametrize("before", [(), ((2, 0, 1),), ((2, 0, 1), (1, 0, 2))], ids=str)
def test_shards_in_shards_with_transposes(tmp_path: Path, before: Any, inside: Any, place: Any):
    data = np.random.default_rng(4).integers(0, 1000, (30, 30, 30)).astype("u2")
    inner = ShardingCodec(
        chunk_shape=(6, 3, 2), codecs=[BytesCodec(), GzipCodec()], index_location=place
    )
    outer = ShardingCodec(
        chunk_shape=(12, 6, 24), index_location=place,
        codecs=[*([TransposeCodec(order=inside)] if inside else []), inner],
    )  # fmt: skip
    stored = zarr.create(
        store=tmp_path, shape=data.shape, chunks=(24, 24, 24), dtype="u2", zarr_format=3,
        fill_value=7, codecs=[*(TransposeCodec(order=o) for o in before), outer],
    )  # fmt: skip
    stored[:20] = data[:20]
    meta, got = read_array(tmp_path)
    assert len(meta.shards) == 2
    assert same(got, stored[...])


@pytest.mark.filterwarnings("ignore")
def test_codecs_around_a_shard(tmp_path: Path):
    data = np.arange(240, dtype="i4").reshape(12, 20)
    stored = zarr.create(
        store=tmp_path, shape=data.shape, chunks=(6, 10), dtype="i4", zarr_format=3,
        codecs=[ShardingCodec(chunk_shape=(3, 5), codecs=[BytesCodec()]), GzipCodec()],
    )  # fmt: skip
    stored[...] = data
    meta, got = read_array(tmp_path)
    assert [c.name for c in meta.shards[0].outer] == ["gzip"]
    assert same(got, data)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", SMALL)
def test_types_that_numpy_lacks(tmp_path: Path, dtype: str, endian: str):
    codecs = [{"name": "bytes", "configuration": {"endian": endian}}]
    stored = ts.open(
        {
            "driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path)},
            "metadata": {"shape": [300], "data_type": dtype, "codecs": codecs, "fill_value": 1,
                         "chunk_grid": regular(256)},
        }, create=True,
    ).result()  # fmt: skip
    small = stored.dtype.numpy_dtype
    bits = np.arange(256, dtype=f"u{small.itemsize}") << (8 * small.itemsize - 8)
    if small.itemsize == 1 and "8" not in dtype:  # fewer bits: the others are padding
        bits &= 1 if "int" in dtype else 15
    stored[:256] = bits.view(small)
    meta, got = read_array(tmp_path)
    expected = np.asarray(stored.read().result())
    assert meta.dtype == ("i1" if "int" in dtype else "<f4")
    np.testing.assert_array_equal(got, expected.astype(meta.dtype))


def test_small_integers_ignore_their_padding():
    meta = parse(data_type="int4", shape=[4], chunk_grid=regular(4), codecs=[{"name": "bytes"}])
    got = Decoder(meta.codecs, meta.dtype, meta.chunks, meta.fill).decode(b"\x07\xf8\x0f\x01")
    assert got.tolist() == [7, -8, -1, 1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["<M8[ns]", "<m8[10s]", "S5", "<U3", "V3"])
def test_types_of_zarr_python(tmp_path: Path, dtype: str):
    data = np.arange(6).astype("u4").astype("S5" if dtype == "V3" else dtype)
    stored = zarr.create_array(tmp_path, shape=(9,), chunks=(4,), dtype=np.dtype(dtype))
    if dtype != "V3":
        stored[:6] = data
    meta, got = read_array(tmp_path)
    assert meta.dtype == np.dtype(dtype)
    assert same(got, stored[...])


@pytest.mark.parametrize("name", ["struct", "structured"])
def test_structs(name: str):
    fields = (
        [["a", "int16"], ["b", {"name": "raw_bytes", "configuration": {"length_bytes": 3}}]]
        if name == "structured"
        else [{"name": "a", "data_type": "int16"}, {"name": "b", "data_type": "r24"}]
    )
    kind = {"name": name, "configuration": {"fields": fields}}
    meta = parse(data_type=kind, fill_value={"a": 3, "b": [1, 2, 3]})
    assert meta.dtype == np.dtype([("a", "<i2"), ("b", "V3")])
    assert meta.fill == b"\3\0\1\2\3"
    assert parse(data_type=kind, fill_value="AwABAgM=").fill == b"\3\0\1\2\3"


@pytest.mark.parametrize(
    ("dtype", "spelled", "expected"),
    [
        ("float32", "NaN", np.float32(np.nan)), ("float64", "-Infinity", np.float64(-np.inf)),
        ("float32", "0x7fc00001", np.uint32(0x7FC00001)), ("float16", "0x3c00", np.float16(1)),
        ("float32", 1, np.float32(1)), ("bool", True, np.bool_(True)),
        ("uint64", 2**64 - 1, np.uint64(2**64 - 1)), ("int8", -128, np.int8(-128)),
        ("complex64", [1, "NaN"], np.complex64(complex(1, np.nan))),
        ("complex64", ["0x3f800000", 0], np.complex64(1)),
        ("r16", [1, 2], np.void(b"\1\2")),
        ("bfloat16", 0.1, np.float32(ml_dtypes.bfloat16(0.1))),
        ("bfloat16", "0x3f80", np.float32(1)), ("bfloat16", "-Infinity", np.float32(-np.inf)),
        ("float8_e5m2", "0x3c", np.float32(1)), ("int4", -8, np.int8(-8)),
    ],
)  # fmt: skip
def test_fill_values(dtype: str, spelled: object, expected: np.generic):
    assert parse(data_type=dtype, fill_value=spelled).fill == expected.tobytes()


def test_missing_fill_value():
    meta = parse(fill_value=None)
    assert meta.fill == bytes(4)
    assert not meta.fill_given
    with pytest.raises(MetadataError, match="fill_value"):
        parse(fill_value=...)


def test_keys():
    assert parse().keys == ChunkKeys("/", "c")
    encoding = {"name": "default", "configuration": {"separator": "."}}
    assert parse(chunk_key_encoding=encoding).keys.key((1, 2)) == "c.1.2"
    assert parse(chunk_key_encoding={"name": "v2"}).keys == ChunkKeys(".")
    encoding = {"name": "v2", "configuration": {"separator": "/"}}
    assert parse(chunk_key_encoding=encoding).keys.key((1, 2)) == "1/2"
    assert parse(shape=[], chunk_grid=regular()).keys.key(()) == "c"


def test_axes():
    assert parse().axis_names == ("y", "x")
    assert parse().dimension_names is None
    meta = parse(dimension_names=["lat", None])
    assert meta.axis_names == ("y", "x")
    assert meta.dimension_names == ("lat", None)
    assert parse(dimension_names=["t", "k"]).axis_names == ("t", "k")
    with pytest.raises(MetadataError, match="dimension_names"):
        parse(dimension_names=["t"])


def test_members_that_must_be_understood():
    parse(note={"must_understand": False})
    for note in ({"must_understand": True}, {}, 1, "x"):
        with pytest.raises(Unsupported, match="'note' must be understood"):
            parse(note=note)
    parse(storage_transformers=[])
    parse(storage_transformers=[{"name": "t", "must_understand": False}])
    with pytest.raises(Unsupported, match="storage transformer"):
        parse(storage_transformers=[{"name": "t"}])


def test_groups_and_consolidated_metadata(tmp_path: Path):
    group = zarr.create_group(tmp_path, attributes={"a": 1})
    group.create_group("g").create_array("x", shape=(4,), dtype="i4")
    zarr.consolidate_metadata(tmp_path)
    node = zarr3.parse({"zarr.json": (tmp_path / "zarr.json").read_bytes()})
    assert isinstance(node, GroupMeta)
    assert node.attributes == {"a": 1}
    assert node.consolidated is not None
    assert set(node.consolidated) == {"g", "g/x"}
    below = zarr3.parse(node.consolidated["g/x"])
    own = zarr3.parse({"zarr.json": (tmp_path / "g/x/zarr.json").read_bytes()})
    assert isinstance(below, ArrayMeta)
    assert below == own
    plain = zarr3.parse({"zarr.json": b'{"zarr_format": 3, "node_type": "group"}'})
    assert isinstance(plain, GroupMeta)
    assert plain.consolidated is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zarr_format": 2}, "zarr_format is 2"),
        ({"node_type": "tree"}, "no node_type"),
        ({"shape": [-1, 4]}, "extent -1"),
        ({"shape": [1] * 10**6}, "more than 32"),
        ({"chunk_grid": regular(0, 2)}, "extent 0"),
        ({"chunk_grid": regular(4)}, "1 dimensions"),
        ({"chunk_grid": 5}, "no chunk grid"),
        ({"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "-"}}}, "separator"),
        ({"codecs": {}}, "no list"),
        ({"codecs": [5]}, "no codec"),
        ({"codecs": [{"name": "bytes"}]}, "no endian"),
        ({"data_type": 5}, "no data type"),
        ({"data_type": "int4", "fill_value": 8}, "no fill value of type int4: 8"),
        ({"data_type": "uint2", "fill_value": 4}, "no fill value of type uint2: 4"),
        ({"data_type": "r7"}, "whole number of bytes"),
        *(({"data_type": typed("fixed_length_utf32", length_bytes=n)}, f"of {n} bytes")
          for n in (0, -4, 5)),
        *(({"data_type": typed("numpy.datetime64", unit=unit, scale_factor=n)}, "in units of")
          for unit, n in (("s", 0), ("s", -1), ("s", 1 << 31), ("fortnight", 1), (5, 1))),
        *(({"data_type": typed("struct", fields=fields)}, "a struct whose fields")
          for fields in ([], "x", None)),
        *(({"data_type": typed("struct", fields=[field])}, "no field of a struct")
          for field in (["a"], ["a", "int8", 1], [1, "int8"], 5)),
        ({"data_type": "string", "fill_value": [1]}, "no text"),
        ({"data_type": "variable_length_bytes", "fill_value": 5}, "no base64"),
        ({"codecs": [sharding([3, 2])]}, "does not divide"),
        ({"codecs": [sharding([0, 2])]}, "extent 0"),
        ({"codecs": [sharding([4, 2], index_location="middle")]}, "index_location"),
        ({"attributes": []}, "attributes is no object"),
        ({"shape": ...}, "has no 'shape'"),
    ],
)
def test_nonsense_is_named(changes: dict[str, Any], words: str):
    with pytest.raises(MetadataError, match=words) as caught:
        parse(**changes)
    assert str(caught.value).startswith("zarr.json: ")
    assert len(str(caught.value)) < 300


def test_shards_of_any_size():
    """Of which a chunk is one allocation, and no shard."""
    many = parse(codecs=[sharding([1 << 12, 1 << 12])], chunk_grid=regular(1 << 20, 1 << 20))
    assert many.chunks == (1 << 12, 1 << 12)
    assert many.shards[0].grid == (256, 256)


DEEP: list[Any] = [BYTES]
for _ in range(10):
    DEEP = [sharding([4, 2], DEEP)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_type": "string"}, "'bytes' cannot be applied to elements of variable length"),
        ({"data_type": {"name": "variable_length_bytes"}}, "cannot be applied to elements of"),
        ({"data_type": "string", "codecs": [{"name": "vlen-bytes"}]}, "vlen-bytes is not for"),
        ({"data_type": {"name": "struct", "configuration": {"fields": [["a", "string"]]}}},
         "must have a fixed size"),
        ({"data_type": "string", "codecs": [{"name": "vlen-utf8"}],
          "chunk_grid": regular(1 << 28, 2)}, "4 GiB"),
        ({"data_type": "string", "codecs": [{"name": "vlen-utf8"}],
          "chunk_grid": {"name": "rectilinear", "configuration": {
              "kind": "inline", "chunk_shapes": [[1, 3, 6], [5]]}}}, "rectilinear grid without"),
        ({"data_type": "float7"}, "unknown"),
        ({"codecs": []}, "turns the array into bytes"),
        ({"codecs": [BYTES, BYTES]}, "cannot be applied to bytes"),
        ({"codecs": [{"name": "gzip"}]}, "cannot be applied to an array"),
        ({"codecs": [BYTES, {"name": "numcodecs.pickle"}]}, "runs code"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "cannot be applied to an array"),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}, BYTES]}, "order"),
        ({"chunk_grid": {"name": "rectilinear"}}, "rectilinear"),
        ({"chunk_key_encoding": {"name": "fanout"}}, "fanout"),
        ({"chunk_grid": regular(1 << 33, 2)}, "4 GiB"),
        ({"codecs": [sharding([1, 1])], "chunk_grid": regular(1 << 24, 2)}, "a shard of"),
        ({"codecs": [sharding([4, 2], index_codecs=[BYTES, {"name": "gzip"}])]}, "shard index"),
        ({"codecs": [{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}},
                     sharding([4, 2])]}, "before sharding"),
        ({"codecs": [{"name": "cast_value", "configuration": {"data_type": "float64"}},
                     {"name": "n5_default", "configuration": {"codecs": [
                         {"name": "transpose", "configuration": {"order": [1, 0]}},
                         {"name": "bytes"}]}}]},
         "what a block lacks is unknown"),
        *(({"codecs": [typed("n5_default", codecs=inner)]}, words) for inner, words in (
            ([BYTES], "without transpose and bytes"),
            ([typed("transpose", order=[0, 1]), {"name": "bytes"}], "transposes by"),
            ([typed("transpose", order=[1, 0]), BYTES], "not big-endian"))),
        ({"codecs": DEEP}, "nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(changes: dict[str, Any], words: str):
    with pytest.raises(Unsupported, match=words) as caught:
        parse(**changes)
    assert str(caught.value).startswith("zarr.json: ")


def test_n5_blocks_in_zarr(tmp_path: Path):
    """The registered codec `n5_default`: tensorstore writes N5, zarr.json says the same."""
    metadata = {"dimensions": [9, 7], "blockSize": [4, 6], "dataType": "int16",
                "compression": {"type": "gzip"}}  # fmt: skip
    kvstore = {"driver": "file", "path": str(tmp_path)}
    spec = {"driver": "n5", "kvstore": kvstore, "metadata": metadata}
    stored = ts.open(spec, create=True).result()
    stored[...] = np.arange(63, dtype="i2").reshape(9, 7)
    inner = [{"name": "transpose", "configuration": {"order": [1, 0]}},
             {"name": "bytes", "configuration": {"endian": "big"}},
             {"name": "gzip", "configuration": {"level": 5}}]  # fmt: skip
    changes = {
        "shape": [9, 7], "chunk_grid": regular(4, 6), "data_type": "int16",
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
        "codecs": [{"name": "n5_default", "configuration": {"codecs": inner}}],
    }  # fmt: skip
    (tmp_path / "zarr.json").write_text(json.dumps({**BASE, **changes}))
    assert same(read_array(tmp_path)[1], stored.read().result())


def test_zero_dimensions_and_empty_arrays(tmp_path: Path):
    stored = zarr.create_array(tmp_path / "a", shape=(), dtype="f8", fill_value=2)
    assert same(read_array(tmp_path / "a")[1], stored[...])
    stored[...] = 5
    assert same(read_array(tmp_path / "a")[1], stored[...])
    zarr.create_array(tmp_path / "b", shape=(0, 3), chunks=(1, 3), dtype="f8")
    assert read_array(tmp_path / "b")[1].shape == (0, 3)
