"""`tiff/`, `tiff.xz/`, `tiff.yz/`: one file a plane."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product, repeat
from math import prod

from znfs.arrays.array import Array
from znfs.arrays.extents import Literal, Slab
from znfs.forks import cached_property
from znfs.meta import Index, unravel
from znfs.node import File, Kind
from znfs.views.tiff.axes import Box, plane_axes
from znfs.views.tiff.calibration import resolution_tags
from znfs.views.tiff.structure import BIG, CLASSIC, Plane, sample_dtype, tiff_dtype

# Strips of this size: small enough for a tool that shows part of a plane, large enough that the
# offsets of a 4 GiB plane are 4,096 numbers.
_STRIP = 1 << 20


class PlanesDir:
    """The planes of an array in one orientation, named by their indexes, in storage order.

    With `box`, each is cut to it; the axes that are not the planes' stay whole.
    """

    def __init__(
        self, array: Array, name: str, orientation: str = "yx", box: Box | None = None
    ) -> None:
        meta = array.meta
        self._array = array
        self._name = name
        self._box = box or Box.whole(meta)
        self._dtype = sample_dtype(meta.dtype)
        self._axes = plane_axes(meta, orientation)
        self._lengths = tuple(meta.shape[d] for d in self._axes.rest)
        self._widths = tuple(len(str(n - 1)) for n in self._lengths)
        self._labels = tuple(meta.axes[d].name for d in self._axes.rest)
        self.version = array.version
        self.mtime = array.mtime

    def names(self, start: int = 0) -> Iterator[str]:
        if not start:
            # The common way, and three times as fast as unravelling every index.
            parts = [
                [f"_{label}{i:0{width}}" for i in range(n)] if n <= 1 << 16 else None
                for label, width, n in zip(self._labels, self._widths, self._lengths, strict=True)
            ]
            if None not in parts:
                for combination in product(*(p for p in parts if p is not None)):
                    yield f"{self._name}{''.join(combination)}.tif"
                return
        for i in range(start, prod(self._lengths)):
            yield self._file_name(unravel(i, self._lengths))

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return zip(self.names(start), repeat(Kind.FILE), strict=False)

    def lookup(self, name: str) -> File | None:
        index = self._parse(name)
        if index is None:
            return None
        box = self._box
        for d, i in zip(self._axes.rest, index, strict=True):
            box = box.with_axis(d, i, 1)
        axes = (*self._axes.rest, self._axes.row, self._axes.column)
        data = Slab(self._array, box.start, box.shape, axes, self._dtype)
        return File([Literal(self._header), data], self.version, self.mtime)

    @cached_property
    def _header(self) -> bytes:
        """What comes before the pixels: the same in all planes, and most of the work."""
        axes, shape = self._axes, self._box.shape
        plane = Plane.of(shape[axes.row], shape[axes.column], self._dtype, _STRIP)
        tiff = CLASSIC if CLASSIC.holds(plane.nbytes) else BIG
        named = self._array.meta.axes
        calibration = resolution_tags(named[axes.row], named[axes.column])
        at = tiff.header_size
        length = len(tiff.ifd(plane.tags(tiff, 0) + calibration, at))
        return tiff.header(at) + tiff.ifd(plane.tags(tiff, at + length) + calibration, at)

    def _file_name(self, index: Index) -> str:
        parts = zip(self._labels, index, self._widths, strict=True)
        return self._name + "".join(f"_{a}{i:0{w}}" for a, i, w in parts) + ".tif"

    def _parse(self, name: str) -> Index | None:
        if not (name.startswith(self._name) and name.endswith(".tif")):
            return None
        pattern = "".join(
            rf"_{re.escape(a)}(\d{{{w}}})" for a, w in zip(self._labels, self._widths, strict=True)
        )
        found = re.fullmatch(pattern, name[len(self._name) : -4], re.ASCII)
        if found is None:
            return None
        index = tuple(int(i) for i in found.groups())
        return index if all(i < n for i, n in zip(index, self._lengths, strict=True)) else None


def refuse(array: Array, orientation: str = "yx") -> str | None:
    """Why the array has no planes in this orientation; None if it has."""
    meta = array.meta
    if meta.ndim < 2:
        return f"{meta.ndim}-d arrays have no planes"
    if not meta.size:
        return "the array is empty"
    if tiff_dtype(meta.dtype) is None:
        return f"TIFF has no sample format for {meta.dtype_name}"
    if orientation != "yx" and meta.ndim < 3:
        return "needs three dimensions"
    axes = plane_axes(meta, orientation)
    if max(meta.shape[axes.row], meta.shape[axes.column]) >= 1 << 32:
        return "a TIFF's rows and columns stay below 2^32"
    return None
