"""The volumes that are read, and the stores they are in. Made once, kept in a folder.

A volume is a smooth object plus Poisson noise and compresses like a microscope's image, to
about 60 %. The large one is the standard one repeated in all three axes: its chunks are as
hard to decode, and what it holds is known without a second copy.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

Shape = tuple[int, int, int]

DTYPE = np.dtype("<u2")
_SLAB = 64  # planes made at a time
_SEED = 20240607


@dataclass(frozen=True)
class Volume:
    """uint16, axes z y x; `shape` is a multiple of `base`, which is made of noise."""

    name: str
    base: Shape
    repeats: int = 1

    @property
    def shape(self) -> Shape:
        z, y, x = (n * self.repeats for n in self.base)
        return z, y, x

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * DTYPE.itemsize


QUICK = Volume("quick", (256, 512, 512))
STANDARD = Volume("standard", (256, 1024, 1024))
LARGE = Volume("large", (256, 1024, 1024), repeats=2)


@dataclass(frozen=True)
class Spec:
    """A store: one array, 3-D, chunks of equal sides."""

    volume: Volume
    codec: str  # a key of CODECS
    chunk: int = 64
    shard: int | None = None
    format: str = "zarr3"  # or "n5"

    @property
    def name(self) -> str:
        shard = f"-in-{self.shard}" if self.shard else ""
        return f"{self.volume.name}-{self.format}-{self.codec}-{self.chunk}{shard}"

    @property
    def label(self) -> str:
        """For the table."""
        kind = "N5" if self.format == "n5" else "Zarr"
        shard = f" in shards of {self.shard}³" if self.shard else ""
        return f"{kind} {self.codec} {self.chunk}³{shard}"

    @property
    def chunk_count(self) -> int:
        return int(np.prod([-(-n // self.chunk) for n in self.volume.shape]))


CODECS: dict[str, dict[str, Any]] = {
    "lz4": {
        "name": "blosc",
        "configuration": {
            "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0,
        },
    },
    "zstd": {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    "gzip": {"name": "gzip", "configuration": {"level": 5}},
}  # fmt: skip


class Data:
    """The folder of volumes and stores."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)

    def base(self, volume: Volume) -> np.ndarray[Any, Any]:
        """The noise of a volume, mapped from its file: shape `volume.base`."""
        side = "x".join(map(str, volume.base))
        path = self.made(f"base-{side}.npy", lambda target: _write_base(target, volume.base))
        mapped: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
        return mapped

    def expect(self, volume: Volume, box: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """What `box` of a volume holds."""
        base = self.base(volume)
        found: np.ndarray[Any, Any]
        axes = [
            np.arange(*part.indices(n)) % b
            for part, n, b in zip(box, volume.shape, volume.base, strict=True)
        ]
        if all(len(a) == 0 or a[-1] - a[0] == len(a) - 1 for a in axes):
            part = tuple(slice(int(a[0]), int(a[-1]) + 1) if len(a) else slice(0) for a in axes)
            found = base[part]
        else:
            found = base[np.ix_(*axes)]
        return found

    def store(self, spec: Spec) -> Path:
        """The folder of a store, written by tensorstore."""
        suffix = "n5" if spec.format == "n5" else "zarr"
        return self.made(f"{spec.name}.{suffix}", lambda target: self._write(target, spec))

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """`name` in the folder, made by `make(path)` if it is not there yet."""
        path = self.folder / name
        if not path.exists():
            self._say(f"making {name}")
            partial = self.folder / f".{name}.{os.getpid()}"
            try:
                make(partial)
                os.sync()  # dirty pages cannot be dropped
                partial.rename(path)
            finally:
                if partial.is_dir():
                    shutil.rmtree(partial)
                partial.unlink(missing_ok=True)
        return path

    def _write(self, target: Path, spec: Spec) -> None:
        array = ts.open(_driver(spec, target), create=True, open=False).result()
        step = spec.shard or spec.chunk
        for z in range(0, spec.volume.shape[0], step):
            part = (slice(z, z + step), slice(None), slice(None))
            box = self.expect(spec.volume, part)
            if spec.format == "n5":
                array[:, :, z : z + step].write(box.T).result()
            else:
                array[part].write(box).result()


def _driver(spec: Spec, target: Path) -> dict[str, Any]:
    kvstore = {"driver": "file", "path": f"{target}/"}
    if spec.format == "n5":
        metadata: dict[str, Any] = {
            "dimensions": spec.volume.shape[::-1],
            "blockSize": [spec.chunk] * 3,
            "dataType": "uint16",
            "compression": {"type": "gzip", "level": 5},
        }
        return {"driver": "n5", "kvstore": kvstore, "metadata": metadata}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    codecs = [little, CODECS[spec.codec]]
    if spec.shard:
        index = [little, {"name": "crc32c"}]
        codecs = [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [spec.chunk] * 3, "codecs": codecs, "index_codecs": index,
                },
            }
        ]  # fmt: skip
    grid = {"chunk_shape": [spec.shard or spec.chunk] * 3}
    metadata = {
        "shape": spec.volume.shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": grid},
        "dimension_names": ["z", "y", "x"],
        "codecs": codecs,
    }
    return {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}


def _write_base(target: Path, shape: Shape) -> None:
    with target.open("wb") as file:
        header = {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for slab in _slabs(shape):
            file.write(slab.tobytes())


def _slabs(shape: Shape) -> Iterator[np.ndarray[Any, Any]]:
    """A smooth field of bright spots on a dim background, photon noise on top, 100 of offset."""
    rng = np.random.default_rng(_SEED)
    coarse = rng.gamma(0.6, 120.0, tuple(max(2, n // 32) for n in shape))
    z, y, x = (_interpolation(n, c) for n, c in zip(shape, coarse.shape, strict=True))
    for at in range(0, shape[0], _SLAB):
        field = np.einsum("zc,cab->zab", z[at : at + _SLAB], coarse)
        field = np.matmul(np.matmul(y, field), x.T)
        yield (100 + rng.poisson(10 + field)).astype(DTYPE)


def _interpolation(n: int, coarse: int) -> np.ndarray[Any, Any]:
    """The matrix (n, coarse) that interpolates linearly."""
    at = np.linspace(0, coarse - 1, n)
    weights: np.ndarray[Any, Any] = np.maximum(0, 1 - abs(at[:, None] - np.arange(coarse)))
    return weights


def write_hollow(target: Path, shape: Shape, chunk: int) -> None:
    """A Zarr v2 array of which only the metadata exists; every chunk reads as fill value."""
    target.mkdir(parents=True)
    document = {
        "zarr_format": 2, "shape": shape, "chunks": [chunk] * 3, "dtype": "<u2", "order": "C",
        "fill_value": 0, "compressor": None, "filters": None,
    }  # fmt: skip
    (target / ".zarray").write_text(json.dumps(document))


def write_many(target: Path, groups: int, arrays: int) -> None:
    """A Zarr v2 group of `groups` groups of `arrays` small arrays each."""
    target.mkdir(parents=True)
    group = json.dumps({"zarr_format": 2})
    (target / ".zgroup").write_text(group)
    for g in range(groups):
        below = target / f"g{g:04}"
        below.mkdir()
        (below / ".zgroup").write_text(group)
        for a in range(arrays):
            write_hollow(below / f"a{a:04}", (4, 4, 4), 4)
