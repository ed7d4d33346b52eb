"""`NAME.tif` and `NAME.btf`: all planes of an array in one file.

All planes' IFDs stand at the front at a fixed stride and are computed when read; the planes
follow without gaps, as ImageJ wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from znfs.arrays.array import Array
from znfs.arrays.extents import Literal, Records, Slab
from znfs.node import Extent, File
from znfs.views.tiff import imagej, planes
from znfs.views.tiff.axes import Box, hyperstack, plane_axes
from znfs.views.tiff.calibration import resolution_tags, unitless_tags
from znfs.views.tiff.structure import (
    ASCII,
    BIG,
    CLASSIC,
    IMAGE_DESCRIPTION,
    MOST_INT,
    Plane,
    Tag,
    TiffFormat,
    sample_dtype,
)

_IMAGEJ_TYPES = frozenset(np.dtype(t) for t in ("u1", "<u2", "<i2", "<f4"))
# Planes start at a multiple of this, the page size, so that page cache and reads line up.
_ALIGN = 4096
_STRIP = 8 << 20


def imagej_file(array: Array, box: Box | None = None) -> File:
    """All planes, or `box` cut from each, in ImageJ's order.

    Below 4 GiB with an IFD per plane; beyond, ImageJ's own large form: one IFD, further planes
    implied by `images=N` in its description.
    """
    meta = array.meta
    box = box or Box.whole(meta)
    stack = hyperstack(meta)
    row, column = stack.order[-2:]
    plane = Plane.of(box.shape[row], box.shape[column], meta.dtype)
    first: list[Tag] = [
        (IMAGE_DESCRIPTION, ASCII, imagej.description(meta, stack, box.start)),
        *unitless_tags(meta.axes[row], meta.axes[column]),
        *imagej.metadata_tags(meta, stack),
    ]
    layout = _Layout(CLASSIC, plane, stack.count, first)
    if layout.data_at + stack.count * plane.nbytes >= CLASSIC.limit:
        layout = _Layout(CLASSIC, plane, 1, first)
    data = Slab(array, box.start, box.shape, stack.order)
    return File([*layout.extents(), data], array.version, array.mtime)


def big_file(array: Array) -> File:
    """All planes in storage order as BigTIFF, an IFD per plane."""
    meta = array.meta
    axes = plane_axes(meta)
    dtype = sample_dtype(meta.dtype)
    plane = Plane.of(meta.shape[axes.row], meta.shape[axes.column], dtype, _STRIP)
    count = prod(meta.shape[d] for d in axes.rest)
    every = resolution_tags(meta.axes[axes.row], meta.axes[axes.column])
    layout = _Layout(BIG, plane, count, every, every)
    data = Slab(array, order=(*axes.rest, axes.row, axes.column), dtype=dtype)
    return File([*layout.extents(), data], array.version, array.mtime)


def refuse_imagej(array: Array, box: Box | None = None) -> str | None:
    """Why the array, or `box` of it, has no ImageJ stack; None if it has."""
    meta = array.meta
    if why := planes.refuse(array):
        return why
    if meta.dtype not in _IMAGEJ_TYPES:
        return f"ImageJ does not hold {meta.dtype_name} exactly"
    stack = hyperstack(meta)
    row, column = stack.order[-2:]
    shape = box.shape if box else meta.shape
    if not CLASSIC.holds(shape[row] * shape[column] * meta.dtype.itemsize):
        return "a plane of 4 GiB or more does not fit classic TIFF"
    if max(shape[row], shape[column], stack.count) > MOST_INT:
        return "ImageJ counts rows, columns and planes up to 2^31 - 1"
    return None


class _Layout:
    """Header, `count` IFDs, padding, and then the planes from offset `data_at` on.

    `first` are further tags of the first IFD, `others` those of all others.
    """

    def __init__(
        self,
        tiff: TiffFormat,
        plane: Plane,
        count: int,
        first: list[Tag],
        others: Sequence[Tag] = (),
    ) -> None:
        self._tiff, self._plane, self._count = tiff, plane, count
        self._first, self._others = first, list(others)
        self._rest_at = tiff.header_size + len(tiff.ifd(plane.tags(tiff, 0) + first, 0))
        self._stride = len(tiff.ifd(plane.tags(tiff, 0) + self._others, 0))
        end = self._rest_at + (count - 1) * self._stride
        self._padding = -end % _ALIGN
        self.data_at = end + self._padding

    def extents(self) -> list[Extent]:
        """All that stands before the planes."""
        tiff, at = self._tiff, self._tiff.header_size
        tags = self._plane.tags(tiff, self.data_at) + self._first
        first = tiff.ifd(tags, at, self._rest_at if self._count > 1 else 0)
        return [
            Literal(tiff.header(at) + first),
            Records(self._count - 1, self._stride, self._ifd),
            Literal(b"\0" * self._padding),
        ]

    def _ifd(self, i: int) -> bytes:
        """The IFD of plane `i + 1`."""
        here = self._rest_at + i * self._stride
        tags = self._plane.tags(self._tiff, self.data_at + (i + 1) * self._plane.nbytes)
        after = 0 if i == self._count - 2 else here + self._stride
        return self._tiff.ifd(tags + self._others, here, after)
