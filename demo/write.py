"""Writers of the demonstration's stores, after the formats' specifications.

znfs only reads; these few lines spare the demonstration a Zarr library.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Zstd

from demo.volume import CHANNELS, PIXEL

F = np.ndarray[Any, Any]
Index = tuple[int, ...]

_MISSING = 2**64 - 1  # a shard's index says so of a chunk that is not there


def write_ome_zarr(path: Path, levels: list[F], inner: Index, shard: Index) -> None:
    """An OME-Zarr 0.5 image: a Zarr v3 group with one sharded array per level."""
    _write_json(
        path / "zarr.json",
        {"zarr_format": 3, "node_type": "group", "attributes": {"ome": _ome(levels)}},
    )
    for level, data in enumerate(levels):
        _write_sharded(path / str(level), data, inner, shard)


def write_n5(path: Path, name: str, data: F, chunk: Index) -> None:
    """An N5 container with the gzip-compressed dataset `name`; `data` is c, z, y, x.

    N5 counts axes the other way round and cuts chunks at the array's edge.
    """
    _write_json(path / "attributes.json", {"n5": "2.5.1"})
    _write_json(
        path / name / "attributes.json",
        {
            "dimensions": data.shape[::-1],
            "blockSize": chunk[::-1],
            "dataType": data.dtype.name,
            "compression": {"type": "gzip", "level": 5},
            "axes": ["x", "y", "z", "c"],
            "resolution": [*PIXEL[::-1], 1.0],
            "units": ["um", "um", "um", ""],
        },
    )
    for index, block in _blocks(data, chunk):
        header = struct.pack(f">HH{data.ndim}I", 0, data.ndim, *block.shape[::-1])
        values = np.ascontiguousarray(block, dtype=data.dtype.newbyteorder(">"))
        target = path.joinpath(name, *(str(i) for i in reversed(index)))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(header + gzip.compress(values.tobytes(), 5, mtime=0))


def _write_sharded(path: Path, data: F, inner: Index, shard: Index) -> None:
    """A Zarr v3 array of codec `sharding_indexed`, index at the end."""
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    zstd = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
    sharding = {
        "chunk_shape": inner,
        "codecs": [little, zstd],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    _write_json(
        path / "zarr.json",
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": data.shape,
            "data_type": data.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["c", "z", "y", "x"],
            "attributes": {},
        },
    )
    for index, part in _blocks(data, shard):
        target = path.joinpath("c", *(str(i) for i in index))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_shard(part, inner, shard))


def _shard(part: F, inner: Index, shard: Index) -> bytes:
    grid = tuple(s // c for s, c in zip(shard, inner, strict=True))
    entries = np.full((*grid, 2), _MISSING, dtype="<u8")
    body = bytearray()
    for index, block in _blocks(part, inner):
        if not block.any():
            continue
        full = np.pad(block, [(0, c - n) for c, n in zip(inner, block.shape, strict=True)])
        encoded = Zstd(3).encode(full.astype(full.dtype.newbyteorder("<")).tobytes())
        entries[index] = len(body), len(encoded)
        body += encoded
    table = entries.tobytes()
    return bytes(body) + table + struct.pack("<I", google_crc32c.value(table))


def _ome(levels: list[F]) -> dict[str, Any]:
    kinds = ("channel", "space", "space", "space")
    axes: list[dict[str, str]] = [
        {"name": n, "type": k} for n, k in zip("czyx", kinds, strict=True)
    ]
    for axis in axes[1:]:
        axis["unit"] = "micrometer"
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, PIXEL[0], *(p * 2**level for p in PIXEL[1:])]}
            ],
        }
        for level in range(len(levels))
    ]
    channels = [
        {"label": label, "color": color, "active": True,
         "window": {"min": 0, "max": 65535, "start": 150, "end": 2600}}
        for label, color in CHANNELS
    ]
    return {
        "version": "0.5",
        "multiscales": [{"name": "cells", "axes": axes, "datasets": datasets}],
        "omero": {"channels": channels},
    }


def _blocks(data: F, chunk: Index) -> Iterator[tuple[Index, F]]:
    """The chunks of `data`, those at its edge cut."""
    grid = (range(-(-s // c)) for s, c in zip(data.shape, chunk, strict=True))
    for index in product(*grid):
        part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
        yield index, data[part]


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1))
