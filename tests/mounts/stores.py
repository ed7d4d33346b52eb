"""The generated matrix of arrays: what each is, who writes it, and what it must read as."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tensorstore as ts
import z5py
import zarr

Values = np.ndarray[Any, Any]

SHAPES: dict[str, dict[int, tuple[int, ...]]] = {
    # whole chunks; and such that the last ones are cut
    "even": {1: (24,), 2: (12, 16), 3: (6, 8, 12), 4: (2, 4, 8, 6), 5: (2, 2, 4, 4, 6)},
    "cut": {1: (23,), 2: (11, 15), 3: (5, 9, 11), 4: (2, 3, 7, 5), 5: (2, 2, 3, 5, 5)},
}
CHUNKS = {1: (6,), 2: (4, 8), 3: (2, 4, 6), 4: (1, 2, 4, 3), 5: (1, 2, 2, 2, 3)}


@dataclass(frozen=True)
class Case:
    """One array of the matrix. `missing`: some chunks are not stored."""

    format: str
    dtype: str
    codec: str
    order: str
    ndim: int
    edge: str
    missing: bool
    shards: str

    @property
    def name(self) -> str:
        dtype = self.dtype.replace("<", "le_").replace(">", "be_").strip("|")
        stored = "sparse" if self.missing else "full"
        words = (dtype, self.codec, self.order, f"{self.ndim}d", self.edge, stored, self.shards)
        return "-".join(words)

    @property
    def shape(self) -> tuple[int, ...]:
        return SHAPES[self.edge][self.ndim]

    @property
    def chunks(self) -> tuple[int, ...]:
        return CHUNKS[self.ndim]

    @property
    def fill(self) -> Any:
        """The fill value; N5 has none but zero."""
        kind = np.dtype(self.dtype).kind
        if self.format == "n5":
            return np.dtype(self.dtype).type(0)
        return np.dtype(self.dtype).type({"b": True, "c": 2 - 1j, "f": 1.5}.get(kind, 7))

    def values(self) -> Values:
        """What the array holds: random bits, but those of chunks that are missing."""
        rng = np.random.default_rng(list(self.name.encode()))
        dtype = np.dtype(self.dtype).newbyteorder("=")
        if dtype.kind == "b":
            values = rng.integers(0, 2, self.shape).astype(dtype)
        elif dtype.kind in "fc":  # no NaN: comparisons are by value
            values = (rng.standard_normal(self.shape) * 100).astype(dtype)
            if dtype.kind == "c":
                values = values * dtype.type(1 - 2j)
        else:
            info = np.iinfo(dtype)
            values = rng.integers(info.min, info.max, self.shape, dtype, endpoint=True)
        if self.missing:
            for where in self.holes():
                values[where] = self.fill
        return values

    def holes(self) -> Iterator[tuple[slice, ...]]:
        """Every third chunk; of sharded arrays also all of the first shard."""
        unit = self.chunks
        grid = [range(-(-n // c)) for n, c in zip(self.shape, unit, strict=True)]
        for number, index in enumerate(product(*grid)):
            first = self.shards != "plain" and all(i < 2 for i in index)
            if first or number % 3 == 1:
                yield tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, unit, strict=True))


DTYPES = ("|b1", "|i1", "|u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">u4", "<i8", ">u8", ">f2",
          "<f4", ">f4", "<f8", ">f8", "<c8", ">c16")  # fmt: skip
N5_DTYPES = tuple(d for d in DTYPES if np.dtype(d).kind in "iuf" and d[1:] != "f2" and d[0] != "<")

FACTORS: dict[str, dict[str, Sequence[Any]]] = {
    "zarr2": {
        "dtype": DTYPES,
        "codec": ("none", "blosc-lz4", "blosc-zstd", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"),
        "order": "CF", "ndim": (1, 2, 3, 4, 5), "edge": ("even", "cut"),
        "missing": (False, True), "shards": ("plain",),
    },
    "zarr3": {
        "dtype": DTYPES,
        "codec": ("none", "blosc-lz4", "blosc-zstd", "zstd", "gzip", "crc32c", "zstd+crc32c"),
        "order": "CF", "ndim": (1, 2, 3, 4, 5), "edge": ("even", "cut"),
        "missing": (False, True), "shards": ("plain", "end", "start", "nested"),
    },
    "n5": {
        "dtype": N5_DTYPES,
        "codec": ("raw", "gzip", "bzip2", "xz", "lz4", "blosc", "zstd"),
        "order": "C", "ndim": (1, 2, 3, 4, 5), "edge": ("even", "cut"),
        "missing": (False, True), "shards": ("plain",),
    },
}  # fmt: skip


def cases(format: str) -> list[Case]:
    """Cases in which every two values of two factors meet (a greedy pairwise covering)."""
    factors = FACTORS[format]
    names = list(factors)
    wanted = {
        (a, x, b, y)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        for x, y in product(factors[a], factors[b])
    }
    rng = np.random.default_rng(1)
    chosen = []
    while wanted:
        seed = min(wanted, key=str)
        best: tuple[int, dict[str, Any]] = (-1, {})
        for _ in range(30):
            row = {n: v[rng.integers(len(v))] for n, v in factors.items()}
            row[seed[0]], row[seed[2]] = seed[1], seed[3]
            best = max(best, (len(wanted & _pairs(row)), row), key=lambda found: found[0])
        wanted -= _pairs(best[1])
        chosen.append(Case(format, **best[1]))
    return chosen


def _pairs(row: Mapping[str, Any]) -> set[tuple[str, Any, str, Any]]:
    names = list(row)
    return {(a, row[a], b, row[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def write(root: Path, case: Case) -> None:
    """Store the array at `root`."""
    _WRITERS[case.format](root, case, case.values())


def read(root: Path, case: Case) -> Values:
    """What a library other than znfs makes of the store at `root`, in native byte order."""
    values = _read(root, case)
    return values.astype(values.dtype.newbyteorder("="))


def _read(root: Path, case: Case) -> Values:
    if case.format == "n5":
        if case.codec == "zstd":  # z5py has no zstd
            spec = {"driver": "n5", "kvstore": f"file://{root}/"}
            return np.asarray(ts.open(spec, open=True, read=True).result().read().result()).T
        with z5py.File(str(root.parent), "r") as f:
            return np.asarray(f[root.name][:])
    driver = {"zarr2": "zarr", "zarr3": "zarr3"}[case.format]
    if np.dtype(case.dtype).kind == "c" or case.codec in ("lzma", "lz4"):
        return np.asarray(zarr.open_array(root, mode="r")[...])
    spec = {"driver": driver, "kvstore": f"file://{root}/"}
    return np.asarray(ts.open(spec, open=True, read=True).result().read().result())


_V2: dict[str, Any] = {
    "none": None,
    "blosc-lz4": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
    "blosc-zstd": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE),
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(5),
    "zlib": numcodecs.Zlib(5),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(5),
    "lzma": numcodecs.LZMA(preset=1),
}


def _write_zarr2(root: Path, case: Case, values: Values) -> None:
    array = zarr.create_array(
        root, shape=case.shape, chunks=case.chunks, dtype=case.dtype, zarr_format=2,
        order=case.order, compressors=_V2[case.codec], filters=None, fill_value=case.fill,
        chunk_key_encoding={"name": "v2", "separator": "./"[case.ndim % 2]},
        config={"write_empty_chunks": False},
    )  # fmt: skip
    array[...] = values


_V3: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "blosc-lz4": [{"name": "blosc", "configuration": {
        "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}}],
    "blosc-zstd": [{"name": "blosc", "configuration": {
        "cname": "zstd", "clevel": 3, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0}}],
    "zstd": [{"name": "zstd", "configuration": {"level": 3, "checksum": True}}],
    "gzip": [{"name": "gzip", "configuration": {"level": 5}}],
    "crc32c": [{"name": "crc32c"}],
}  # fmt: skip
_V3["zstd+crc32c"] = [*_V3["zstd"], *_V3["crc32c"]]


def _write_zarr3(root: Path, case: Case, values: Values) -> None:
    chain = _chain(case)
    outer = list(case.chunks)
    if case.shards != "plain":
        outer = [2 * c for c in case.chunks]
        chain = [_sharding(case.chunks, chain, case.shards)]
    if case.shards == "nested":
        chain = [_sharding(outer, chain, "end")]
        outer = [2 * n for n in outer]
    dtype = np.dtype(case.dtype)
    fill = case.fill
    document = {
        "zarr_format": 3, "node_type": "array", "shape": case.shape, "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": outer}},
        "chunk_key_encoding": [
            {"name": "default", "configuration": {"separator": "/"}},
            {"name": "default", "configuration": {"separator": "."}},
            {"name": "v2", "configuration": {"separator": "."}},
        ][case.ndim % 3],
        "fill_value": [fill.real.item(), fill.imag.item()] if dtype.kind == "c" else fill.item(),
        "codecs": chain, "attributes": {"case": case.name},
    }  # fmt: skip
    root.mkdir(parents=True)
    (root / "zarr.json").write_text(json.dumps(document))
    array = zarr.open_array(root, mode="r+", config={"write_empty_chunks": False})
    array[...] = values


def _chain(case: Case) -> list[dict[str, Any]]:
    dtype = np.dtype(case.dtype)
    endian = "big" if case.dtype[0] == ">" else "little"
    bytes_codec: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        bytes_codec["configuration"] = {"endian": endian}
    chain = [bytes_codec, *_V3[case.codec]]
    if case.order == "F":
        reverse = list(range(case.ndim))[::-1]
        chain.insert(0, {"name": "transpose", "configuration": {"order": reverse}})
    return chain


def _sharding(chunks: Sequence[int], chain: list[dict[str, Any]], where: str) -> dict[str, Any]:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    return {"name": "sharding_indexed", "configuration": {
        "chunk_shape": list(chunks), "codecs": chain, "index_codecs": index,
        "index_location": "start" if where == "start" else "end"}}  # fmt: skip


def _write_n5(root: Path, case: Case, values: Values) -> None:
    if case.codec == "zstd":
        _write_n5_tensorstore(root, case, values)
        return
    with z5py.File(str(root.parent), "a") as f:
        dataset = f.create_dataset(
            root.name, shape=case.shape, chunks=case.chunks, dtype=values.dtype.name,
            compression=case.codec,
        )  # fmt: skip
        if case.missing:
            _write_but_holes(dataset, case, values)
        else:
            dataset[...] = values


def _write_but_holes(dataset: Any, case: Case, values: Values) -> None:
    holes = {tuple(s.start for s in hole) for hole in case.holes()}
    grid = [range(0, n, c) for n, c in zip(case.shape, case.chunks, strict=True)]
    for start in product(*grid):
        if start not in holes:
            where = tuple(
                slice(i, min(i + c, n))
                for i, c, n in zip(start, case.chunks, case.shape, strict=True)
            )
            dataset[where] = values[where]


def _write_n5_tensorstore(root: Path, case: Case, values: Values) -> None:
    spec = {
        "driver": "n5", "kvstore": f"file://{root}/",
        "metadata": {
            "dimensions": case.shape[::-1], "blockSize": case.chunks[::-1],
            "dataType": values.dtype.name, "compression": {"type": "zstd", "level": 3},
        },
    }  # fmt: skip
    store = ts.open(spec, create=True).result()
    store.write(values.T).result()


_WRITERS = {"zarr2": _write_zarr2, "zarr3": _write_zarr3, "n5": _write_n5}
