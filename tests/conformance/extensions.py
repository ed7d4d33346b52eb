"""The registry of Zarr extensions: what zarrs writes of it, what is made by hand from the
specifications, and what znfs refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts

from tests.conformance.samples import CHUNKS, SHAPE, Sample, Values, values

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
GZIP = {"name": "gzip", "configuration": {"level": 1}}


def codec(name: str, /, **config: Any) -> dict[str, Any]:
    return {"name": name, "configuration": config}


def _rectilinear(*shapes: Any) -> dict[str, Any]:
    return codec("rectilinear", kind="inline", chunk_shapes=shapes)


def _document(**more: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": SHAPE, "data_type": "uint16",
        "chunk_grid": codec("regular", chunk_shape=CHUNKS), "fill_value": 7,
        "chunk_key_encoding": {"name": "default"}, "codecs": [LITTLE, GZIP], "attributes": {},
        **more,
    }  # fmt: skip


_SHARDS = codec(
    "sharding_indexed", chunk_shape=[1, 3, 11], codecs=[LITTLE],
    index_codecs=[LITTLE, {"name": "crc32c"}],
)  # fmt: skip
ZARRS: Mapping[str, Mapping[str, Any]] = {
    "chunk grid rectilinear": {"chunk_grid": _rectilinear([2, 1, 2], [4, 2, 3], [5, 6])},
    "chunk grid rectilinear, run-length encoded": {
        "chunk_grid": _rectilinear([[1, 3], 2], [[4, 2], 100], 6)},
    "chunk grid rectilinear, all alike": {"chunk_grid": _rectilinear(2, [[3, 3]], [6, 6])},
    "chunk grid rectilinear, transpose": {
        "chunk_grid": _rectilinear([2, 3], [1, 8], 11),
        "codecs": [codec("transpose", order=[2, 0, 1]), LITTLE, GZIP]},
    "chunk grid rectilinear, of shards": {
        "chunk_grid": _rectilinear([2, 1, 2], [3, 6], 11), "codecs": [_SHARDS]},
    "chunk grid rectangular (ZEP 3)": {
        "chunk_grid": codec("rectangular", chunk_shape=[[2, 3], [4, 5], 6])},
    "chunk grid zarrs.regular_bounded": {
        "chunk_grid": codec("zarrs.regular_bounded", chunk_shape=CHUNKS)},
    "chunk keys zarrs.default_suffix": {
        "chunk_key_encoding": codec("zarrs.default_suffix", suffix=".bin")},
    "packbits": {"codecs": [{"name": "packbits"}]},
    "packbits, some bits": {"codecs": [codec("packbits", last_bit=10), GZIP]},
    "packbits, some bits, padded": {
        "codecs": [codec("packbits", last_bit=9, padding_encoding="last_byte")]},
    "packbits, int16, some bits": {
        "data_type": "int16", "codecs": [codec("packbits", last_bit=12)]},
    "packbits, bool": {"data_type": "bool", "fill_value": False, "codecs": [{"name": "packbits"}]},
    "reshape": {"codecs": [codec("reshape", shape=[[0, 1], [2]]), LITTLE, GZIP]},
    "reshape, transpose": {
        "codecs": [codec("reshape", shape=[-1, 3]), codec("transpose", order=[1, 0]), LITTLE]},
    "zarrs.squeeze": {
        "chunk_grid": codec("regular", chunk_shape=[1, 9, 11]),
        "codecs": [{"name": "zarrs.squeeze"}, LITTLE]},
    "bitround": {"data_type": "float32", "codecs": [codec("bitround", keepbits=9), LITTLE]},
}  # fmt: skip


def by_zarrs(root: Path) -> Iterator[Sample]:
    """Written and read back by zarrs, by its Python package zarrista."""
    zarrista = pytest.importorskip("zarrista")
    store = pytest.importorskip("zarrista.store").FilesystemStore(str(root))
    words = ("zarrs", "zarrs")
    everything = tuple(slice(0, n) for n in SHAPE)
    for number, (feature, more) in enumerate(ZARRS.items()):
        path = f"zarrs/{number}"
        document = _document(**more)
        data = values(document["data_type"])
        packed = document["codecs"][0].get("configuration", {})
        if "last_bit" in packed:
            beyond = 16 - packed["last_bit"] - 1
            data = data << beyond >> beyond  # what of the numbers can be stored
        array = zarrista.Array.from_metadata(document, store, f"/{path}")
        array.store_metadata()
        array.store_array_subset(everything, np.ascontiguousarray(data))
        for missing in list((root / path).rglob("c/0/0/0*")):
            missing.unlink()
        read = np.asarray(array.retrieve_array_subset(everything))
        yield Sample(path, "Zarr v3", feature, *words, read)


SMALL = ("int2", "float4_e2m1fn", "float8_e3m4", "float8_e4m3fn", "float8_e4m3fnuz",
         "float8_e4m3b11fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")  # fmt: skip


def small_types(root: Path) -> Iterator[Sample]:
    """Types that NumPy lacks, by tensorstore: the view holds their values in one that it has."""
    for name in SMALL:
        path = f"small/{name}"
        dtype = np.dtype(getattr(ml_dtypes, name))
        data = (values("i1") % 4 - (0 if "8m0" in name else 2)).astype(dtype)
        spec = {"driver": "zarr3", "kvstore": f"file://{root / path}/",
                "schema": {"chunk_layout": {"chunk": {"shape": CHUNKS}}}}  # fmt: skip
        store = ts.open(spec, create=True, dtype=name, shape=SHAPE).result()
        store.write(data).result()
        read = np.asarray(store.read().result()).astype("i1" if name == "int2" else "f4")
        yield Sample(path, "Zarr v3", f"data type {name}", "tensorstore", "tensorstore", read)


def by_hand(root: Path) -> Iterator[Sample]:
    """One chunk each, made from the specification."""
    data: Values = np.arange(24).reshape(2, 3, 4).astype("f4") / 4 - 2
    small = {"shape": data.shape, "chunk_grid": codec("regular", chunk_shape=data.shape),
             "data_type": "float32", "fill_value": 0}  # fmt: skip
    scaled = ((data + 2) * 4).astype("<i2")
    cases = [
        ("cast_value, scale_offset", [codec("scale_offset", scale=4, offset=-2),
                                      codec("cast_value", data_type="int16"), LITTLE],
         scaled.tobytes(), {}, "c/0/0/0"),
        ("cast_value, clamp", [codec("cast_value", data_type="float64", out_of_range="clamp"),
                               LITTLE], data.astype("<f8").tobytes(), {}, "c/0/0/0"),
        ("chunk keys suffix", [LITTLE], data.astype("<f4").tobytes(), {
            "chunk_key_encoding": codec("suffix", suffix=".raw", base_encoding={"name": "v2"})},
         "0.0.0.raw"),
    ]  # fmt: skip
    for number, (feature, codecs, chunk, more, key) in enumerate(cases):
        path = f"extended/{number}"
        _put(root / path, _document(**small, codecs=codecs, **more))
        (root / path / key).parent.mkdir(parents=True, exist_ok=True)
        (root / path / key).write_bytes(chunk)
        yield Sample(path, "Zarr v3", feature, "by hand", "by hand", data)


_NO_LIBRARY = "needs a library"
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    **{f"codec {name}": ({"codecs": [{"name": name}]}, why) for name, why in (
        ("zfp", _NO_LIBRARY), ("numcodecs.zfpy", _NO_LIBRARY), ("jpeg", _NO_LIBRARY),
        ("jpegxl", _NO_LIBRARY), ("zarrs.gdeflate", _NO_LIBRARY), ("optional", "may be missing"),
        ("n5_varlen", "variable length"), ("arrow-ipc", "is unknown"),
        ("numcodecs.pickle", "runs code"))},
    "codec scale_offset of integers": (
        {"codecs": [codec("scale_offset", scale=2, offset=1), LITTLE]}, "of floats"),
    **{f"data type {name}": ({"data_type": name}, why) for name, why in (
        ("complex_bfloat16", "no counterpart in NumPy"),
        ("complex_float16", "no counterpart in NumPy"), ("Q3f4", "no counterpart in NumPy"),
        ("complex_float8_e5m2", "no counterpart in NumPy"))},
    "data type optional": (
        {"data_type": codec("optional", name="uint8", configuration={})}, "may be missing"),
    "chunk keys fanout": ({"chunk_key_encoding": {"name": "fanout"}}, "'fanout' is not read"),
    "chunk keys template": (
        {"chunk_key_encoding": codec("template", template="{0}")}, "'template' is not read"),
    "chunk grid rectilinear, not inline": (
        {"chunk_grid": codec("rectilinear", kind="reference", chunk_shapes="x")}, "of kind"),
    "chunk grid rectilinear, chunks stored in other shapes": (
        {"chunk_grid": codec("rectilinear", kind="inline", chunk_shapes=[5, 9, 11],
                             encoded_chunk_shapes=[5, 9, 11])}, "encoded_chunk_shapes"),
    "storage transformer concat-parts": (
        {"storage_transformers": [codec("concat-parts")]}, "storage transformer"),
}  # fmt: skip


def refused(root: Path) -> Iterator[Sample]:
    for number, (feature, (more, why)) in enumerate(REFUSED.items()):
        path = f"registered/{number}"
        _put(root / path, _document(**more))
        yield Sample(path, "Zarr v3", feature, "by hand", "–", refused=why)


def _put(folder: Path, document: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(document))
