"""Stores of every writer and feature, below one folder, with what another library reads there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numcodecs
import numpy as np
import tensorstore as ts
import z5py
import zarr
import zarr.codecs as zc
import zarr.codecs.numcodecs as zn
from zarr.dtype import VariableLengthBytes

Values = np.ndarray[Any, Any]
SHAPE, CHUNKS = (5, 9, 11), (2, 4, 6)


@dataclass(frozen=True)
class Sample:
    """An array at `path` below the folder; `refused` holds words of the reason, if there is one."""

    path: str
    format: str
    feature: str
    writer: str
    oracle: str
    values: Values | None = None
    refused: str = ""


def values(dtype: Any = "u2", shape: tuple[int, ...] = SHAPE) -> Values:
    """Numbers that differ, of every byte; a third of the first axis is zeros."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng([dtype.itemsize, len(shape), ord(dtype.kind)])
    match dtype.kind:
        case "b":
            out = rng.integers(0, 2, shape).astype(dtype)
        case "f" | "c":
            out = (rng.standard_normal(shape) * 100).astype(dtype)
            out = out * dtype.type(1 - 2j) if dtype.kind == "c" else out
        case "M" | "m":
            out = rng.integers(0, 10**6, shape).astype("i8").view(dtype.newbyteorder("="))
        case "S" | "U":
            out = rng.integers(0, 10**4, shape).astype(str).astype(dtype)
        case "V":
            out = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype)
            out = out.reshape(shape)
        case _:
            info = np.iinfo(dtype)
            kind = dtype.newbyteorder("=")
            out = rng.integers(info.min, info.max, shape, kind, endpoint=True).astype(dtype)
    out = np.array(out)
    if shape and dtype.kind not in "SUV":
        out[: shape[0] // 3] = 0
    return out


def everything(root: Path) -> Iterator[Sample]:
    """Write all samples below `root`."""
    for write in (_zarr3, _zarr3_numcodecs, _zarr2, _variable, _tensorstore, _z5py, _by_hand):
        yield from write(root)


V3_TYPES = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16",
            "S7", "U5", "V3", "M8[s]", "m8[10ms]", [("a", "<i4"), ("b", "<f8")])  # fmt: skip
_S = {"shards": (4, 8, 12)}
V3_FEATURES: Mapping[str, Mapping[str, Any]] = {
    "no compressor": {"compressors": None},
    "gzip": {"compressors": zc.GzipCodec(level=6)},
    "zstd": {"compressors": zc.ZstdCodec(level=5, checksum=True)},
    **{
        f"blosc {name}, {shuffle}": {"compressors": zc.BloscCodec(cname=name, shuffle=shuffle)}
        for name, shuffle in [
            ("lz4", "shuffle"), ("lz4hc", "noshuffle"), ("zstd", "bitshuffle"),
            ("zlib", "shuffle"), ("blosclz", "shuffle"),
        ]
    },
    "crc32c": {"compressors": [zc.ZstdCodec(), zc.Crc32cCodec()]},
    "big-endian": {"serializer": zc.BytesCodec(endian="big")},
    "transpose": {"filters": zc.TransposeCodec(order=(2, 0, 1))},
    "chunk keys default, '.'": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "chunk keys v2, '.'": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "chunk keys v2, '/'": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "sharding, index at end": _S,
    "sharding, index at start": {"shards": {"shape": (4, 8, 12), "index_location": "start"}},
    "sharding, transposed": {**_S, "filters": zc.TransposeCodec(order=(1, 2, 0))},
    "sharding, no checksum of the index": {
        "chunks": (4, 8, 12), "compressors": None, "serializer": zc.ShardingCodec(
            chunk_shape=CHUNKS, codecs=[zc.BytesCodec(), zc.GzipCodec()],
            index_codecs=[zc.BytesCodec(endian="big")])},
    "sharding, nested": {
        "chunks": (4, 8, 12), "compressors": None, "serializer": zc.ShardingCodec(
            chunk_shape=(4, 4, 6), codecs=[zc.ShardingCodec(chunk_shape=CHUNKS)])},
    "sharding, compressed as a whole": {
        "chunks": (4, 8, 12), "compressors": zc.GzipCodec(),
        "serializer": zc.ShardingCodec(chunk_shape=CHUNKS)},
    "dimension_names": {"dimension_names": ("t", "lat", "lon")},
    "fill value NaN": {"dtype": "f4", "fill_value": np.nan},
    "fill value -Infinity": {"dtype": "f8", "fill_value": -np.inf},
    "fill value complex": {"dtype": "c8", "fill_value": 2 - 1j},
}  # fmt: skip


def _create(path: Path, data: Values, **more: Any) -> Values:
    """An array of zarr-python with the first chunks along the first axis left out."""
    more = {"shape": data.shape, "chunks": CHUNKS[: data.ndim], "dtype": data.dtype, **more}
    array = zarr.create_array(path, config={"write_empty_chunks": False}, **more)
    if data.size:
        array[...] = data
    if data.ndim and len(data) > 4:
        array[:4] = array.fill_value  # whole chunks that are not stored
    return np.asarray(zarr.open_array(path, mode="r")[...])


def _zarr3(root: Path) -> Iterator[Sample]:
    words = ("zarr-python 3", "zarr-python 3")
    for number, dtype in enumerate(V3_TYPES):
        path = f"zarr3/type{number}"
        data = _create(root / path, values(dtype), zarr_format=3)
        name = "struct" if isinstance(dtype, list) else np.dtype(dtype).name
        yield Sample(path, "Zarr v3", f"data type {name}", *words, data)
    for number, (feature, more) in enumerate(V3_FEATURES.items()):
        path = f"zarr3/feature{number}"
        data = _create(root / path, values(more.get("dtype", "u2")), zarr_format=3, **more)
        yield Sample(path, "Zarr v3", feature, *words, data)
    for shape in ((), (7,), (0, 4), (3, 2, 2, 3, 2)):
        path = f"zarr3/shape{len(shape)}d"
        data = _create(
            root / path, values("i4", shape), chunks=tuple(min(n, 2) or 1 for n in shape),
            zarr_format=3,
        )  # fmt: skip
        feature = "an extent of 0" if 0 in shape else f"{len(shape)} dimensions"
        yield Sample(path, "Zarr v3", feature, *words, data)
    group = zarr.create_group(root / "zarr3/consolidated", zarr_format=3)
    group.create_array("a/b", shape=SHAPE, chunks=CHUNKS, dtype="i4")[...] = values("i4")
    zarr.consolidate_metadata(group.store)
    yield Sample(
        "zarr3/consolidated/a/b", "Zarr v3", "inline consolidated metadata", *words, values("i4")
    )


_NUMCODECS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "delta": ("i4", {"filters": zn.Delta(dtype="<i4")}),
    "fixedscaleoffset": ("f8", {"filters": zn.FixedScaleOffset(
        offset=-500, scale=10, dtype="<f8", astype="<i4")}),
    "bitround": ("f4", {"filters": zn.BitRound(keepbits=9)}),
    "quantize": ("f8", {"filters": zn.Quantize(digits=2, dtype="<f8")}),
    "packbits": ("bool", {"filters": zn.PackBits()}),
    "astype": ("f8", {"filters": zn.AsType(encode_dtype="<f4", decode_dtype="<f8")}),
    "shuffle, zlib": ("u4", {"compressors": [zn.Shuffle(elementsize=4), zn.Zlib(level=3)]}),
    "bz2": ("u2", {"compressors": zn.BZ2()}),
    "lzma": ("u2", {"compressors": zn.LZMA(preset=1)}),
    "lz4": ("u2", {"compressors": zn.LZ4()}),
    "zstd": ("u2", {"compressors": zn.Zstd(level=3)}),
    "gzip": ("u2", {"compressors": zn.GZip(level=3)}),
    "blosc": ("u2", {"compressors": zn.Blosc(cname="zstd", shuffle=2)}),
    "adler32": ("u2", {"compressors": zn.Adler32()}),
    "crc32": ("u2", {"compressors": zn.CRC32()}),
    "fletcher32": ("u2", {"compressors": zn.Fletcher32()}),
    "jenkins_lookup3": ("u2", {"compressors": zn.JenkinsLookup3()}),
}  # fmt: skip


def _zarr3_numcodecs(root: Path) -> Iterator[Sample]:
    words = ("zarr-python 3", "zarr-python 3")
    for number, (name, (dtype, more)) in enumerate(_NUMCODECS.items()):
        path = f"zarr3/numcodecs{number}"
        more = {"compressors": None, **more}
        data = _create(root / path, values(dtype), zarr_format=3, **more)
        yield Sample(path, "Zarr v3", f"numcodecs.{name}", *words, data)


def _zarr2(root: Path) -> Iterator[Sample]:
    words = ("zarr-python 3", "zarr-python 3")
    features: dict[str, dict[str, Any]] = {
        "order F": {"order": "F"}, "no compressor": {"compressors": None},
        "dimension_separator '/'": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
        "zstd": {"compressors": numcodecs.Zstd(3)},
        "filters delta, shuffle": {"filters": [numcodecs.Delta("<u2"), numcodecs.Shuffle(2)]},
    }  # fmt: skip
    for number, (feature, more) in enumerate(features.items()):
        path = f"zarr2/feature{number}"
        data = _create(root / path, values(), zarr_format=2, **more)
        yield Sample(path, "Zarr v2", feature, *words, data)


def _variable(root: Path) -> Iterator[Sample]:
    """Text and bytes of variable length, which are compared in HDF5."""
    lengths = np.random.default_rng(2).integers(0, 40, SHAPE)
    numbers = np.arange(lengths.size).reshape(SHAPE).astype(str)
    kinds: dict[str, tuple[Any, Any, Values]] = {
        "string": (str, "né", (numbers.astype(object) * lengths)),
        "variable_length_bytes": (
            VariableLengthBytes(), b"\0\xff", numbers.astype("S").astype(object) * lengths
        ),
    }  # fmt: skip
    features: dict[str, tuple[int, dict[str, Any]]] = {
        "Zarr v3": (3, {}),
        "Zarr v3, blosc": (3, {"compressors": zc.BloscCodec()}),
        "Zarr v3, sharding": (3, _S),
        "Zarr v3, no compressor": (3, {"compressors": None}),
        "Zarr v2": (2, {}),
        "Zarr v2, order F": (2, {"order": "F"}),
        "Zarr v2, no compressor": (2, {"compressors": None}),
    }
    for kind, (dtype, fill, data) in kinds.items():
        for number, (feature, (version, more)) in enumerate(features.items()):
            path = f"zarr{version}/{kind}{number}"
            read = _create(
                root / path, data, dtype=dtype, fill_value=fill, zarr_format=version, **more
            )
            form, _, how = feature.partition(", ")
            name = f"data type {kind}{', ' * bool(how)}{how} (HDF5)"
            words = ("zarr-python 3", "zarr-python 3")
            yield Sample(path, form, name, *words, read.astype(object))


def _spec(driver: str, path: Path) -> dict[str, Any]:
    return {"driver": driver, "kvstore": f"file://{path}/"}


def _tensorstore(root: Path) -> Iterator[Sample]:
    for driver, form, codecs in (
        ("zarr3", "Zarr v3", ("gzip", "zstd", "blosc", "crc32c")),
        ("zarr", "Zarr v2", ("zlib", "bz2", "zstd", "blosc")),
        ("n5", "N5", ("raw", "gzip", "bzip2", "xz", "blosc", "zstd")),
    ):
        for codec in codecs:
            path = f"tensorstore/{driver}-{codec}"
            data = _with_tensorstore(root / path, driver, values("u2"), codec)
            yield Sample(path, form, codec, "tensorstore", "tensorstore", data)
    for dtype in ("bfloat16", "int4"):
        path = f"tensorstore/zarr3-{dtype}"
        data = values("i1").astype(getattr(ml_dtypes, dtype))
        schema = {"chunk_layout": {"chunk": {"shape": CHUNKS}}}
        spec = _spec("zarr3", root / path) | {"schema": schema}
        ts.open(spec, create=True, dtype=dtype, shape=SHAPE).result().write(data).result()
        # Neither type is NumPy's: the view holds what their values are in it.
        data = data.astype("f4" if dtype == "bfloat16" else "i1")
        yield Sample(path, "Zarr v3", f"data type {dtype}", "tensorstore", "tensorstore", data)


def _with_tensorstore(path: Path, driver: str, data: Values, codec: str) -> Values:
    if driver == "n5":
        compression: dict[str, Any] = {"type": codec}
        if codec == "blosc":
            compression |= {"cname": "lz4", "clevel": 5, "shuffle": 1}
        metadata: dict[str, Any] = {
            "dimensions": SHAPE[::-1], "blockSize": CHUNKS[::-1], "dataType": "uint16",
            "compression": compression,
        }  # fmt: skip
        store = ts.open(_spec(driver, path) | {"metadata": metadata}, create=True).result()
        store.write(data.T).result()
        return np.asarray(ts.open(_spec(driver, path)).result().read().result()).T
    if driver == "zarr":
        metadata = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "<u2", "compressor": {"id": codec}}
    else:
        metadata = {"shape": SHAPE, "data_type": "uint16", "chunk_grid": {
            "name": "regular", "configuration": {"chunk_shape": CHUNKS}},
            "codecs": [{"name": codec}]}  # fmt: skip
    store = ts.open(_spec(driver, path) | {"metadata": metadata}, create=True).result()
    store.write(data).result()
    return np.asarray(ts.open(_spec(driver, path)).result().read().result())


def _z5py(root: Path) -> Iterator[Sample]:
    (root / "z5py").mkdir()
    types = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
             "float64")  # fmt: skip
    features = [(dtype, "gzip") for dtype in types]
    features += [("uint16", c) for c in ("raw", "bzip2", "xz", "lz4", "blosc", "zstd")]
    with z5py.File(str(root / "z5py/a.n5"), "w") as f:
        for number, (dtype, codec) in enumerate(features):
            data = values(dtype)
            made = f.create_dataset(
                str(number), shape=SHAPE, chunks=CHUNKS, dtype=dtype, compression=codec
            )
            made[2:] = data[2:]  # z5py stores no empty chunks
            yield Sample(
                f"z5py/a.n5/{number}", "N5", f"{codec}, {dtype}", "z5py", "z5py", f[str(number)][:]
            )
    for form, version, codecs in (
        ("Zarr v2", 2, ("raw", "zlib", "gzip", "bzip2", "blosc", "zstd")),
        ("Zarr v3", 3, ("raw", "gzip", "blosc", "zstd")),
    ):
        path = f"z5py/v{version}.zr"
        with z5py.File(str(root / path), "w", use_zarr_format=True, zarr_format=version) as f:
            for codec in codecs:
                f.create_dataset(codec, data=values(), chunks=CHUNKS, compression=codec)
                yield Sample(f"{path}/{codec}", form, codec, "z5py", "z5py", f[codec][:])
            if version == 3:
                f.create_dataset("shards", data=values(), chunks=CHUNKS, shards=(4, 8, 12))
                data = f["shards"][:]
                yield Sample(f"{path}/shards", form, "sharding", "z5py", "z5py", data)


def _by_hand(root: Path) -> Iterator[Sample]:
    """What no writer at hand writes, and what znfs refuses."""
    for name, codec, text in (
        ("arrays", "vlen-array", "variable length"),
        ("pickled", "pickle", "runs code"),
    ):
        document = {
            "zarr_format": 2, "shape": [3], "chunks": [2], "dtype": "|O", "fill_value": None,
            "order": "C", "filters": [{"id": codec}], "compressor": None,
        }  # fmt: skip
        _put(root / f"refused/{name}", ".zarray", document)
        yield Sample(f"refused/{name}", "Zarr v2", codec, "by hand", "–", refused=text)
    base: dict[str, Any] = json.loads((root / "zarr3/feature0/zarr.json").read_text())
    for name, feature, change, text in (
        ("grid", "chunk grid that is unknown", {"chunk_grid": {"name": "hexagonal"}},
         "chunk grid 'hexagonal'"),
        ("transformer", "storage transformer",
         {"storage_transformers": [{"name": "x", "configuration": {}}]}, "storage transformer"),
        ("member", "member that must be understood", {"new": {"must_understand": True}},
         "must be understood"),
        ("codec", "codec that is unknown", {"codecs": [{"name": "x"}]}, "'x' is unknown"),
    ):  # fmt: skip
        _put(root / f"refused/{name}", "zarr.json", base | change)
        yield Sample(f"refused/{name}", "Zarr v3", feature, "by hand", "–", refused=text)
    objects = {"dimensions": [4], "blockSize": [4], "dataType": "object",
               "compression": {"type": "raw"}}  # fmt: skip
    _put(root / "refused/n5", "attributes.json", objects)
    yield Sample("refused/n5", "N5", "mode 2 (objects)", "by hand", "–", refused="object")
    yield from _by_hand_and_read(root, base)


def _by_hand_and_read(root: Path, base: Mapping[str, Any]) -> Iterator[Sample]:
    ignored = {**base} | {"note": {"must_understand": False}}
    path = root / "zarr3/ignored"
    _put(path, "zarr.json", ignored)
    data = np.full(SHAPE, base["fill_value"], "u2")
    yield Sample("zarr3/ignored", "Zarr v3", "member that need not be understood", "by hand",
                 "by hand", data)  # fmt: skip
    elements = np.arange(8, dtype=">i2")
    data = np.zeros((2, 6), "i2")
    data[:, :4] = elements.reshape(2, 4)
    for name, feature, compression, mode, body in (
        ("varlength", "mode 1 (varlength)", {"type": "raw"}, 1, elements.tobytes()),
        ("zlib", "gzip, useZlib", {"type": "gzip", "useZlib": True}, 0,
         zlib.compress(elements.tobytes())),
    ):  # fmt: skip
        n5 = {"dimensions": [6, 2], "blockSize": [4, 2], "dataType": "int16",
              "compression": compression, "n5": "1.5.0"}  # fmt: skip
        _put(root / f"byhand.n5/{name}", "attributes.json", n5)
        header = np.array([mode, 2], ">u2").tobytes() + np.array([4, 2], ">u4").tobytes()
        header += np.array([8], ">u4").tobytes() if mode else b""
        (root / f"byhand.n5/{name}/0").mkdir()
        (root / f"byhand.n5/{name}/0/0").write_bytes(header + body)
        yield Sample(f"byhand.n5/{name}", "N5", feature, "by hand", "by hand", data)


def _put(folder: Path, name: str, document: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))
