"""OME-Zarr images for tests, and virtual files for programs that want a handle or a path."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from znfs.node import File
from znfs.tree import Tree

AXES = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    **{n: {"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"},
}
SIZES = {"t": 2.5, "c": 1.0, "z": 1.25, "y": 0.65, "x": 0.65}


def omero(*shown: tuple[str, str, float, float]) -> dict[str, Any]:
    """How channels are shown: of each its label, its colour, and the ends of its window."""
    return {
        "channels": [
            {"label": label, "color": color, "window": {"start": start, "end": end}}
            for label, color, start, end in shown
        ]
    }


def write_image(
    folder: Path,
    levels: Sequence[np.ndarray],
    axes: str = "tczyx",
    chunks: Sequence[int] | None = None,
    omero: dict[str, Any] | None = None,
    version: str = "0.4",
    scales: Sequence[Sequence[float]] | None = None,
) -> Path:
    """An OME-Zarr image: its levels are the arrays 0, 1, …, each with its own pixel size."""
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for k, level in enumerate(levels):
        sides = tuple(map(min, chunks or level.shape, level.shape))
        array = group.create_array(
            str(k), shape=level.shape, dtype=level.dtype, chunks=sides, fill_value=0
        )
        array[...] = level
        scale = [
            SIZES[a] * (n / m if a in "zyx" else 1)
            for a, n, m in zip(axes, levels[0].shape, level.shape, strict=True)
        ]
        step = {"type": "scale", "scale": list(scales[k]) if scales else scale}
        datasets.append({"path": str(k), "coordinateTransformations": [step]})
    image = {"name": "test", "axes": [AXES[a] for a in axes], "datasets": datasets}
    found: dict[str, Any] = {"multiscales": [image]}
    if omero is not None:
        found["omero"] = omero
    if version == "0.4":
        image["version"] = version
        group.attrs.update(found)
    else:
        group.attrs["ome"] = {"version": version, **found}
    return folder


def save(tree: Tree, path: str, target: Path) -> Path:
    """Write a virtual file to `target`."""
    with target.open("wb") as out:
        file = tree.resolve(path)
        for start in range(0, file.size, 1 << 22):
            out.write(file.read(start, 1 << 22))
    return target


class Handle(io.RawIOBase):
    """A virtual file as a file object, for Python readers of files too large to write out."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        )
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = self._file.read_into(self._at, memoryview(buffer).cast("B"))
        self._at += n
        return n
