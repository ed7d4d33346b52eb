"""Zarr v2 and v3 as tensorstore writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from tests.reading import read_array, same

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}
SHAPE = (13, 9, 7)


def written(folder: Path, driver: str, metadata: dict[str, Any]) -> ts.TensorStore:
    """A store whose last chunks along the first axis are missing."""
    kvstore = {"driver": "file", "path": str(folder)}
    spec = {"driver": driver, "kvstore": kvstore, "metadata": metadata}
    stored = ts.open(spec, create=True).result()
    dtype = stored.dtype.numpy_dtype
    values = np.random.default_rng(8).integers(0, 2 if dtype.kind == "b" else 100, SHAPE)
    stored[:9] = values[:9].astype(dtype)
    return stored


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["|b1", "|i1", ">i2", "<u4", ">f4", "<f8", "<c8", ">c16"])
@pytest.mark.parametrize(
    "compressor",
    [None, {"id": "zlib"}, {"id": "gzip"}, {"id": "bz2"}, {"id": "zstd", "level": 2},
     {"id": "blosc", "cname": "zstd", "clevel": 4, "shuffle": 2}],
    ids=lambda c: c["id"] if c else "none",
)  # fmt: skip
def test_zarr2(tmp_path: Path, dtype: str, order: str, compressor: Any):
    fill = True if dtype == "|b1" else [1, 2] if "c" in dtype else 3
    metadata = {
        "shape": SHAPE, "chunks": [5, 4, 3], "dtype": dtype, "order": order, "fill_value": fill,
        "compressor": compressor, "dimension_separator": "/",
    }  # fmt: skip
    stored = written(tmp_path, "zarr", metadata)
    assert same(read_array(tmp_path)[1], stored.read().result())


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=str)
@pytest.mark.parametrize(
    "inner",
    [
        [LITTLE],
        [{"name": "transpose", "configuration": {"order": [1, 2, 0]}}, LITTLE, {"name": "gzip"}],
        [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd"}, CRC],
        [LITTLE, {"name": "blosc", "configuration": {
            "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}}],
        [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [1, 2, 1], "codecs": [LITTLE], "index_codecs": [LITTLE, CRC]}}],
    ],
    ids=lambda codecs: "+".join(c["name"] for c in codecs),
)  # fmt: skip
def test_zarr3_shards(tmp_path: Path, inner: list[Any], order: list[int], location: str):
    chunk = [2, 4, 3]
    config = {
        "chunk_shape": [chunk[k] for k in order], "codecs": inner, "index_location": location,
        "index_codecs": [LITTLE, CRC],
    }  # fmt: skip
    metadata = {
        "shape": SHAPE, "data_type": "float32", "fill_value": "NaN",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 8, 6]}},
        "codecs": [{"name": "transpose", "configuration": {"order": order}},
                   {"name": "sharding_indexed", "configuration": config}],
    }  # fmt: skip
    stored = written(tmp_path, "zarr3", metadata)
    assert same(read_array(tmp_path)[1], stored.read().result())


def test_zarr2_structs(tmp_path: Path):
    spelled = [["a", "<i2"], ["b", ">f4"], ["c", "|u1", [2]]]
    dtype = np.dtype([("a", "<i2"), ("b", ">f4"), ("c", "u1", (2,))])
    data = np.zeros(7, dtype)
    data["a"], data["b"], data["c"] = np.arange(7), np.arange(7) / 3, [[1, 2]] * 7
    metadata = {"shape": [7], "chunks": [3], "dtype": spelled, "compressor": {"id": "zlib"}}
    kvstore = {"driver": "file", "path": str(tmp_path)}
    for field in dtype.names or ():
        spec = {"driver": "zarr", "kvstore": kvstore, "field": field, "metadata": metadata}
        ts.open(spec, create=True, open=True).result()[...] = data[field]
    meta, got = read_array(tmp_path)
    assert meta.dtype == dtype.newbyteorder("<")
    assert got.tobytes() == data.astype(meta.dtype).tobytes()
