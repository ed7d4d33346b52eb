"""Zarr v2, against zarr-python and by hand."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import BZ2, LZ4, LZMA, Blosc, Delta, FixedScaleOffset, GZip, Shuffle, Zlib, Zstd

from tests.reading import read_array, same
from znfs.errors import MetadataError, Unsupported
from znfs.formats import zarr2
from znfs.meta import ArrayMeta, GroupMeta

DTYPES = ["?", "i1", ">i2", "<u4", ">u8", "f2", ">f4", "f8", "c8", ">c16", "<M8[s]", "S3", ">U2"]
COMPRESSORS = {
    "none": None,
    "blosc-lz4": Blosc("lz4", 5, Blosc.SHUFFLE),
    "blosc-zstd": Blosc("zstd", 3, Blosc.BITSHUFFLE),
    "blosc-blosclz": Blosc("blosclz", 9, Blosc.NOSHUFFLE),
    "zstd": Zstd(1),
    "lz4": LZ4(),
    "zlib": Zlib(1),
    "gzip": GZip(1),
    "bz2": BZ2(1),
    "xz": LZMA(),
}
BASE = {"zarr_format": 2, "shape": [5], "chunks": [2], "dtype": "<f4", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None}  # fmt: skip


def document(**changes: object) -> bytes:
    return json.dumps({**BASE, **changes}).encode()


def array(attributes: object = None, **changes: object) -> ArrayMeta:
    docs = {".zarray": document(**changes)}
    if attributes is not None:
        docs[".zattrs"] = json.dumps(attributes).encode()
    meta = zarr2.parse(docs)
    assert isinstance(meta, ArrayMeta)
    return meta


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(0, 2 if dtype == "?" else 100, shape).astype("u4").astype(dtype)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_in_both_orders(tmp_path: Path, dtype: str, order: str):
    data = values((7, 5, 3), dtype)
    stored = zarr.create_array(
        tmp_path, shape=data.shape, chunks=(4, 3, 2), dtype=data.dtype, zarr_format=2, order=order
    )
    stored[:6] = data[:6]
    meta, got = read_array(tmp_path)
    assert same(got, stored[:])
    assert meta.dtype == data.dtype.newbyteorder("<")


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("shape", [(), (9,), (5, 7), (2, 3, 4, 5, 2)], ids=len)
def test_every_compressor(tmp_path: Path, name: str, shape: tuple[int, ...]):
    data = values(shape, "<u2")
    stored = zarr.create_array(
        tmp_path, shape=shape, chunks=tuple(min(n, 3) for n in shape), dtype="<u2", zarr_format=2,
        compressors=COMPRESSORS[name], chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    stored[...] = data
    assert same(read_array(tmp_path)[1], data)


@pytest.mark.parametrize(
    "filters",
    [
        [Delta("<i4", "<i2")],
        [Delta(">i4")],
        [Shuffle(4)],
        [FixedScaleOffset(offset=3, scale=2, dtype="<i4", astype="<i2"), Delta("<i2"), Shuffle(2)],
    ],
    ids=lambda fs: "+".join(f.codec_id for f in fs),
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_filters_and_chains(tmp_path: Path, filters: list, order: str):
    data = np.arange(105, dtype=filters[0].get_config().get("dtype", "<i4")).reshape(7, 5, 3)
    stored = zarr.create_array(
        tmp_path, shape=data.shape, chunks=(4, 3, 3), dtype=data.dtype, zarr_format=2,
        filters=filters, compressors=Zlib(), order=order,
    )  # fmt: skip
    stored[...] = data
    assert same(read_array(tmp_path)[1], stored[...])


def test_structs_with_fields_of_both_byte_orders(tmp_path: Path):
    dtype = np.dtype([("a", "<i2"), ("b", ">f4", (2,)), ("c", [("d", "S3"), ("e", ">U1")])])
    data = np.zeros(4, dtype)
    data["a"] = [1, 2, 3, 4]
    data["b"] = np.arange(8).reshape(4, 2)
    data["c"]["d"], data["c"]["e"] = b"xy", "é"
    fill = base64.b64encode(data[2:3].tobytes()).decode()
    spelled = [["a", "<i2"], ["b", ">f4", [2]], ["c", [["d", "|S3"], ["e", ">U1"]]]]
    (tmp_path / ".zarray").write_bytes(
        document(shape=[5], chunks=[2], dtype=spelled, fill_value=fill)
    )
    for k in range(2):
        (tmp_path / str(k)).write_bytes(data[2 * k : 2 * k + 2].tobytes())
    meta, got = read_array(tmp_path)
    little = dtype.newbyteorder("<")
    assert meta.dtype == little
    assert got[:4].tobytes() == data.astype(little).tobytes()
    assert got[4] == data[2].astype(little)


@pytest.mark.parametrize(
    ("dtype", "spelled", "value"),
    [
        ("<f4", "NaN", np.nan), ("<f4", "Infinity", np.inf), (">f8", "-Infinity", -np.inf),
        ("<f2", 1.5, 1.5), ("<f4", 1e20, 1e20), ("<f8", "1.5", 1.5), ("<f4", 3, 3.0),
        ("<i2", -3, -3), ("<i2", 7.0, 7), (">u8", 2**64 - 1, 2**64 - 1), ("<i4", "12", 12),
        ("|b1", True, True), ("|b1", 0, False), ("<c8", [1.0, "NaN"], complex(1, np.nan)),
        ("<c16", 2, 2 + 0j), ("<M8[s]", "NaT", np.datetime64("NaT")),
        ("<M8[ns]", -(2**63), np.datetime64("NaT")), ("<m8[D]", 4, np.timedelta64(4, "D")),
        ("|S3", "eHk=", b"xy"), ("|S3", "", b""), ("|S3", 0, b""), ("<U2", "é", "é"),
        ("<U2", 0, ""), ("<c8", [1, "Infinity"], complex(1, np.inf)), ("|V2", "AQI=", b"\1\2"),
        ("|b1", "true", True), ("|b1", "False", False), (">c8", "P4AAAEAAAAA=", 1 + 2j),
        ("<M8[s]", "1970-01-02", np.datetime64(86_400, "s")), ("<m8[s]", "7", 7),
        ("<m8[s]", 4.0, 4), ("<m8[s]", "NaT", np.timedelta64("NaT")), ("<M8[s]", "", "NaT"),
    ],
)  # fmt: skip
def test_fill_values(dtype: str, spelled: object, value: object):
    little = np.dtype(dtype).newbyteorder("<")
    expected = np.array(value, little) if little.kind != "V" else np.void(value)
    assert array(dtype=dtype, fill_value=spelled).fill == expected.tobytes()


def test_names_of_types_that_only_numpy_knows():
    assert array(dtype="float32").dtype == np.dtype("<f4")
    assert array(dtype="uint16").dtype == np.dtype("<u2")


def test_bools_of_a_fill_value_in_base64_are_0_or_1():
    spelled = base64.b64encode(b"\xff\xff").decode()
    assert array(dtype=[["a", "|u1"], ["b", "|b1"]], fill_value=spelled).fill == b"\xff\x01"


def test_null_fill_is_zero_and_not_given():
    meta = array(fill_value=None)
    assert meta.fill == bytes(4)
    assert not meta.fill_given
    assert array().fill_given
    assert array(dtype="<M8[s]", fill_value=None).fill == np.datetime64("NaT", "s").tobytes()


def test_json_that_only_python_writes():
    assert np.isnan(np.frombuffer(array(fill_value=float("nan")).fill, "<f4")[0])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("<i2", 1 << 20), ("|u1", -1), ("<f4", "much"), ("<i4", [1]), ("|S2", "not base64!"),
     ("|S1", "eHk="), ("<i4", {}), ("<U1", "xx"), ("|b1", "perhaps"), ("<i4", 1.5), ("<c8", [1]),
     ("<c8", [1, 2, 3]), ("<c8", "P4AAAA=="), ("|S2", {}), ("<U2", [1]), ("<m8[s]", 1.5),
     ("<m8[s]", [1]), ([["a", "<i2"], ["b", "<i2"]], [1]), ([["a", "<i2", [2]]], [[1, 2]])],
)  # fmt: skip
def test_fill_values_that_do_not_fit(dtype: object, value: object):
    with pytest.raises(MetadataError, match=r"\.zarray: no fill value"):
        array(dtype=dtype, fill_value=value)


def test_axes_and_attributes():
    meta = array({"_ARRAY_DIMENSIONS": ["time", "lat"], "units": "K"}, shape=[5, 4], chunks=[2, 2])
    assert meta.axis_names == ("time", "lat")
    assert meta.dimension_names == ("time", "lat")
    assert meta.attributes["_ARRAY_DIMENSIONS"] == ["time", "lat"]
    plain = array({"_ARRAY_DIMENSIONS": ["grid_y"]})
    assert plain.axis_names == ("x",)  # no alphanumeric name
    assert plain.dimension_names == ("grid_y",)
    assert array({"_ARRAY_DIMENSIONS": "no list"}).dimension_names is None
    assert array(shape=[1] * 5, chunks=[1] * 5).axis_names == ("i", "j", "z", "y", "x")


def test_keys():
    assert array(shape=[5, 4], chunks=[2, 2]).keys.key((1, 0)) == "1.0"
    nested = array(shape=[5, 4], chunks=[2, 2], dimension_separator="/")
    assert nested.keys.key((1, 0)) == "1/0"
    assert array(shape=[], chunks=[]).keys.key(()) == "0"


def test_groups_and_consolidated_metadata():
    assert zarr2.parse({".zattrs": b"{}"}) is None
    group = zarr2.parse({".zgroup": b'{"zarr_format": 2}', ".zattrs": b'{"a": 1}'})
    assert group == GroupMeta("zarr2", {"a": 1}, None)
    metadata = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"title": "t"},
        "x/.zarray": BASE,
        "x/.zattrs": {"_ARRAY_DIMENSIONS": ["k"]},
        "g/.zgroup": {"zarr_format": 2},
        "g/../.zgroup": {"zarr_format": 2},
        "/.zgroup": {"zarr_format": 2},
        "x/0": {},
    }
    consolidated = {"zarr_consolidated_format": 1, "metadata": metadata}
    group = zarr2.parse({".zmetadata": json.dumps(consolidated).encode()})
    assert isinstance(group, GroupMeta)
    assert group.attributes == {"title": "t"}
    assert group.consolidated is not None
    assert set(group.consolidated) == {"x", "g"}
    below = zarr2.parse(group.consolidated["x"])
    assert isinstance(below, ArrayMeta)
    assert below.axis_names == ("k",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zarr_format": 3}, "zarr_format is 3"),
        ({"shape": [-1]}, "extent -1"),
        ({"shape": [2**63]}, "extent"),
        ({"shape": [1] * 10**6, "chunks": [1] * 10**6}, "more than 32"),
        ({"shape": [1.5]}, "no integer"),
        ({"shape": [True]}, "no integer"),
        ({"shape": "5"}, "no list"),
        ({"chunks": [0]}, "extent 0"),
        ({"chunks": [2, 2]}, "2 dimensions"),
        ({"chunks": [float("nan")]}, "no integer"),
        ({"dtype": "<i3"}, "no data type"),
        ({"dtype": "os.system"}, "no data type"),
        ({"dtype": []}, "no data type"),
        ({"dtype": [["a", "<i4", [-1]]]}, "shape of field"),
        ({"order": "Z"}, "no order"),
        ({"dimension_separator": "//"}, "no dimension_separator"),
        ({"filters": 5}, "no list"),
        ({"compressor": "zlib"}, "no codec"),
    ],
)
def test_nonsense_is_named(changes: dict, words: str):
    with pytest.raises(MetadataError, match=words) as caught:
        array(**changes)
    assert str(caught.value).startswith(".zarray: ")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "|O"}, "raw keys read"),
        ({"chunks": [1 << 40]}, "4 GiB"),
        ({"compressor": {"id": "pickle"}}, "'pickle' runs code"),
        ({"filters": [{"id": "msgpack2"}]}, "no fixed size"),
        ({"compressor": {"id": "os"}}, "unknown"),
        ({"filters": [{"id": "delta", "dtype": "|O"}]}, "delta"),
        ({"compressor": {"id": "blosc", "cname": "snappy"}}, "snappy"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict, words: str):
    with pytest.raises(Unsupported, match=words):
        array(**changes)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"5", b"\xff\xfe\0", b"[" * 10**5, b'{"a":' * 10**5, b"1" * 5000]
)
def test_documents_that_are_no_json_object(data: bytes):
    for docs in ({".zarray": data}, {".zgroup": data}, {".zmetadata": data}):
        with pytest.raises(MetadataError, match=next(iter(docs))):
            zarr2.parse(docs)


def test_enormous_and_empty_shapes_are_arithmetic(tmp_path: Path):
    meta = array(shape=[2**60, 3], chunks=[1000, 3])
    assert meta.nbytes == 2**60 * 3 * 4
    empty = array(shape=[0, 3], chunks=[0, 3])
    assert empty.grid == (0, 1)
    (tmp_path / ".zarray").write_bytes(document(shape=[0, 3], chunks=[1, 3]))
    assert read_array(tmp_path)[1].shape == (0, 3)
