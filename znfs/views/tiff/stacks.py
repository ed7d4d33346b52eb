"""`NAME.tif` and `NAME.btf`: all planes of an array in one file.

All planes' IFDs stand at the front at a fixed stride and are computed when read; the planes
follow without gaps, as ImageJ wants them.
"""

from __future__ import annotations

import numpy as np

from znfs.array import Array
from znfs.extents import Literal, Records, Slab
from znfs.meta import ArrayMeta
from znfs.node import File
from znfs.views.tiff import planes
from znfs.views.tiff.axes import Hyperstack, hyperstack, plane_axes
from znfs.views.tiff.calibration import imagej_tags, imagej_unit, resolution_tags
from znfs.views.tiff.structure import (
    ASCII,
    BIG,
    CLASSIC,
    IMAGE_DESCRIPTION,
    Plane,
    Tag,
    TiffFormat,
    tiff_dtype,
)

_IMAGEJ_TYPES = frozenset(np.dtype(t) for t in ("u1", "<u2", "<i2", "<f4"))
# Planes start at a multiple of this, the page size, so that page cache and reads line up.
_ALIGN = 4096
_STRIP = 8 << 20


def imagej_file(array: Array) -> File:
    """All planes in ImageJ's order. Below 4 GiB an IFD per plane; beyond, ImageJ's own large
    form: one IFD, further planes implied by `images=N` in its description."""
    meta = array.meta
    stack = hyperstack(meta)
    row, column = stack.order[-2:]
    plane = Plane.of(meta.shape[row], meta.shape[column], meta.dtype)
    first: list[Tag] = [
        (IMAGE_DESCRIPTION, ASCII, describe(meta, stack)),
        *imagej_tags(meta.axes[row], meta.axes[column]),
    ]
    count = stack.frames * stack.slices * stack.channels
    table = _table_size(CLASSIC, plane, count, first)
    if table + count * plane.nbytes >= CLASSIC.limit:
        count = 1
    return _stack(array, CLASSIC, plane, count, first, stack.order)


def describe(meta: ArrayMeta, stack: Hyperstack) -> bytes:
    """ImageJ's ImageDescription (ij.io.FileSaver.getDescriptionString)."""
    count = stack.frames * stack.slices * stack.channels
    row, column = stack.order[-2:]
    lines = ["ImageJ=1.53t"]
    if count > 1:
        lines.append(f"images={count}")
        for key, n in (
            ("channels", stack.channels),
            ("slices", stack.slices),
            ("frames", stack.frames),
        ):
            if n > 1:
                lines.append(f"{key}={n}")
        if sum(n > 1 for n in (stack.channels, stack.slices, stack.frames)) > 1:
            lines.append("hyperstack=true")
        if stack.channels > 1:
            lines.append("mode=grayscale")
    if unit := imagej_unit(meta.axes[column].unit):
        lines.append(f"unit={unit}")
        other = imagej_unit(meta.axes[row].unit)
        if other and other != unit:
            lines.append(f"yunit={other}")
    if stack.z is not None and meta.axes[stack.z].scale:
        lines.append(f"spacing={meta.axes[stack.z].scale}")
    if stack.t is not None and meta.axes[stack.t].scale:
        lines.append(f"finterval={meta.axes[stack.t].scale}")
        if tunit := imagej_unit(meta.axes[stack.t].unit):
            lines.append(f"tunit={tunit}")
    return ("\n".join(lines) + "\n").encode("latin-1", "replace")


def big_file(array: Array) -> File:
    """All planes in storage order as BigTIFF, an IFD per plane."""
    meta = array.meta
    axes = plane_axes(meta)
    dtype = tiff_dtype(meta.dtype)
    assert dtype is not None  # the view was refused otherwise
    plane = Plane.of(meta.shape[axes.row], meta.shape[axes.column], dtype, _STRIP)
    count = 1
    for d in axes.rest:
        count *= meta.shape[d]
    first = resolution_tags(meta.axes[axes.row], meta.axes[axes.column])
    return _stack(array, BIG, plane, count, first, (*axes.rest, axes.row, axes.column), first)


def refuse_imagej(array: Array) -> str | None:
    """Why the array has no ImageJ stack; None if it has."""
    meta = array.meta
    if why := planes.refuse(array):
        return why
    if meta.dtype not in _IMAGEJ_TYPES:
        return f"ImageJ does not hold {meta.dtype} exactly"
    row, column = hyperstack(meta).order[-2:]
    if meta.shape[row] * meta.shape[column] * meta.dtype.itemsize >= CLASSIC.limit - (1 << 20):
        return "a plane of 4 GiB or more does not fit classic TIFF"
    return None


def _table_size(tiff: TiffFormat, plane: Plane, count: int, first: list[Tag]) -> int:
    """Bytes before the first plane."""
    head = tiff.header_size + len(tiff.ifd(plane.tags(tiff, 0) + first, 0))
    size = head + (count - 1) * len(tiff.ifd(plane.tags(tiff, 0), 0))
    return size + -size % _ALIGN


def _stack(
    array: Array,
    tiff: TiffFormat,
    plane: Plane,
    count: int,
    first: list[Tag],
    order: tuple[int, ...],
    others: list[Tag] | None = None,
) -> File:
    """Header, `count` IFDs, then the planes; `first` are the first IFD's further tags."""
    more = others or []
    at = tiff.header_size
    head_size = len(tiff.ifd(plane.tags(tiff, 0) + first, 0))
    stride = len(tiff.ifd(plane.tags(tiff, 0) + more, 0))
    rest_at = at + head_size
    data_at = rest_at + (count - 1) * stride
    padding = -data_at % _ALIGN
    data_at += padding

    def ifd(i: int) -> bytes:
        here = rest_at + i * stride
        last = i == count - 2
        tags = plane.tags(tiff, data_at + (i + 1) * plane.nbytes) + more
        return tiff.ifd(tags, here, 0 if last else here + stride)

    head = tiff.ifd(plane.tags(tiff, data_at) + first, at, rest_at if count > 1 else 0)
    return File(
        [
            Literal(tiff.header(at) + head),
            Records(count - 1, stride, ifd),
            Literal(b"\0" * padding),
            Slab(array, order=order, dtype=plane.dtype),
        ],
        array.version,
        array.mtime,
    )
