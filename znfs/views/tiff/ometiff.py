"""`NAME.ome.tif`: the levels of an OME-Zarr or N5 image as one tiled pyramidal OME-TIFF (BigTIFF).

Planes follow each other as in `NAME.tif`: t, z, c, the channel fastest (OME's XYCZT). Each has an
IFD for the full resolution, and SubIFDs for the levels below. The file is

    header | IFDs of the first plane, with the description | IFDs of each further plane |
    per level: offsets of all tiles, and one table of byte counts for all planes |
    per level: tiles, plane after plane

All but the first plane's IFDs is arithmetic and computed when read. Where a level has fewer
slices than the first, the SubIFDs of several planes point at the same tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from znfs.arrays.array import Array, Group
from znfs.arrays.extents import Literal, Records, Zeros
from znfs.errors import Denied, Stale
from znfs.formats import ome
from znfs.formats.n5axes import numbered
from znfs.meta import ArrayMeta
from znfs.node import Extent, File
from znfs.views.tiff import imagej, omexml, planes
from znfs.views.tiff.axes import Hyperstack, hyperstack
from znfs.views.tiff.calibration import resolution_tags
from znfs.views.tiff.structure import (
    ASCII,
    BIG,
    BITS_PER_SAMPLE,
    COMPRESSION,
    IMAGE_DESCRIPTION,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    LONG,
    LONG8,
    MOST_INT,
    NEW_SUBFILE_TYPE,
    PHOTOMETRIC,
    PLANAR_CONFIGURATION,
    SAMPLE_FORMAT,
    SAMPLE_FORMATS,
    SAMPLES_PER_PIXEL,
    SHORT,
    SUB_IFDS,
    TILE_BYTE_COUNTS,
    TILE_LENGTH,
    TILE_OFFSETS,
    TILE_WIDTH,
    Elsewhere,
    Tag,
    sample_dtype,
)
from znfs.views.tiff.tiles import Tiles

# A chunk's side is a tile's side if TIFF allows (multiples of 16) and it lies in this range.
_TILE_SIDES = range(128, 4097, 16)
_DEFAULT_SIDE = 512
_MOST_TILE_BYTES = 64 << 20
# Of a plane. Readers hold its tables in memory: libtiff refuses 2^28, Bio-Formats runs out of it.
_MOST_TILES = 1 << 22
# Offsets are computed this many at a time.
_OFFSETS = 1024
# Tiles begin at multiples of their size if it is a power of two, so that one read needs one tile.
_LEAST_ALIGNMENT, _MOST_ALIGNMENT = 4096, 128 << 10
_LARGE = BIG.limit >> 14  # bytes of pixels from which on a file may be too large
_RED_GREEN_BLUE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def refuse(group: Group) -> str | None:
    """Why the image has no OME-TIFF; None if it has. Raises StoreError."""
    path, first = next(_nodes(group))
    if first is None:
        return f"its first level, {path}, cannot be read"
    if why := planes.refuse(first):
        return why
    if _dtype(first.meta).str[1:] not in omexml.PIXEL_TYPES:
        return f"OME has no pixel type for {first.meta.dtype}"
    stack = hyperstack(first.meta)
    if max(stack.count, *(first.meta.shape[d] for d in stack.order[-2:])) > MOST_INT:
        return "OME counts rows, columns and planes up to 2^31 - 1"
    if first.meta.nbytes >= _LARGE and image_file(group, group.name).size >= BIG.limit:
        return "too large (2^63 bytes or more)"
    return None


def is_image(group: Group) -> bool:
    """Whether the group has levels of an image: its metadata names them, or they are called so.
    Raises StoreError."""
    return bool(ome.level_axes(group.meta.attributes) or _counted(group))


def image_file(group: Group, name: str) -> File:
    """The OME-TIFF of an image that is not refused. Raises StoreError."""
    arrays = _levels(group)
    return File(
        _Layout(arrays, name).extents(), _version(group, arrays), max(a.mtime for a in arrays)
    )


def remarks(group: Group) -> list[str]:
    """Levels that the file leaves out. Raises StoreError."""
    kept = {array.path for array in _levels(group)}
    return [
        f"in OME-TIFF: level {path} is left out: it "
        + ("cannot be read" if node is None else "is no smaller image of the first")
        for path, node in _nodes(group)
        if node is None or node.path not in kept
    ]


def _nodes(group: Group) -> Iterator[tuple[str, Array | None]]:
    """The group's levels, and their arrays if these can be read."""
    for path in ome.levels(group.meta.attributes) or _counted(group):
        try:
            node = group.child(path)
        except Denied:
            node = None
        yield path, node if isinstance(node, Array) else None


def _counted(group: Group) -> Sequence[str]:
    """Levels that only their names tell."""
    try:
        names = numbered(group.names())
        first = group.child(names[0]) if names else None
    except Denied:
        return ()
    known = isinstance(first, Array) and ome.are_levels(group.meta, first.meta)
    return names if known else ()


def _levels(group: Group) -> list[Array]:
    """The first level, and those that are it at a lower resolution: they agree in type, channels
    and frames, and each is smaller than the one before."""
    kept: list[Array] = []
    for path, array in _nodes(group):
        if array is None and not kept:  # `refuse` saw it
            raise Stale(f"{group.path}: its level {path} has gone")
        if array is not None and (not kept or _is_smaller(array.meta, kept[-1].meta)):
            kept.append(array)
    return kept


def _is_smaller(meta: ArrayMeta, above: ArrayMeta) -> bool:
    if meta.dtype != above.dtype or _planes_differ(meta, above):
        return False
    return all(0 < n <= m for n, m in zip(meta.shape, above.shape, strict=True)) and (
        meta.shape != above.shape
    )


def _planes_differ(meta: ArrayMeta, other: ArrayMeta) -> bool:
    """Whether the planes of two levels do not correspond, slices aside; where one has more axes,
    they do not."""
    a, b = hyperstack(meta), hyperstack(other)
    return a.order != b.order or (a.frames, a.channels) != (b.frames, b.channels)


def is_rgb(meta: ArrayMeta, stack: Hyperstack) -> bool:
    """Whether three channels are the red, green and blue of one picture.

    They are if the author's display settings make the composite of the channels just that: uint8,
    in the colours red, green and blue, and nothing stretched.
    """
    if meta.dtype != np.uint8 or stack.channels != 3:
        return False
    shown = imagej.channels(meta, stack)
    return tuple(c.color for c in shown) == _RED_GREEN_BLUE and all(
        c.window in (None, (0.0, 255.0)) for c in shown
    )


def _dtype(meta: ArrayMeta) -> np.dtype[Any]:
    dtype = sample_dtype(meta.dtype)
    return np.dtype("<f4") if dtype == np.float16 else dtype  # OME has no half floats


def _side(length: int, chunk: int) -> int:
    """A tile's side along an axis of that length."""
    if chunk in _TILE_SIDES:
        return chunk
    return min(_DEFAULT_SIDE, -(-length // 16) * 16)


def _tile_sides(meta: ArrayMeta, row: int, column: int, pixel: int) -> tuple[int, int]:
    """Rows and columns of a level's tiles; of a very large level several chunks each."""
    height, width = meta.shape[row], meta.shape[column]
    rows, columns = _side(height, meta.chunks[row]), _side(width, meta.chunks[column])
    if rows * columns * pixel > _MOST_TILE_BYTES:
        rows, columns = _side(height, 0), _side(width, 0)
    while -(-height // rows) * -(-width // columns) > _MOST_TILES and (
        4 * rows * columns * pixel <= _MOST_TILE_BYTES
    ):
        rows, columns = 2 * rows, 2 * columns
    return rows, columns


def _alignment(nbytes: int) -> int:
    """Of tiles of that size: the largest power of two in it, within limits."""
    return max(_LEAST_ALIGNMENT, min(nbytes & -nbytes, _MOST_ALIGNMENT))


def _version(group: Group, arrays: Sequence[Array]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for version in (group.version, *(array.version for array in arrays)):
        digest.update(version.encode() + b"\0")
    return digest.hexdigest()


@dataclass
class _Level:
    """One resolution: its tiles, and where they and their tables stand."""

    meta: ArrayMeta
    stack: Hyperstack
    tiles: Tiles
    rows: int  # of a tile
    columns: int
    data_at: int = 0
    offsets_at: int = 0
    counts_at: int = 0

    def plane(self, p: int, above: Hyperstack, per_pixel: int) -> int:
        """This level's plane for plane `p` of the first level: the nearest slice below."""
        channels = above.channels // per_pixel
        rest, c = divmod(p, channels)
        t, z = divmod(rest, above.slices)
        return (t * self.stack.slices + z * self.stack.slices // above.slices) * channels + c


class _Layout:
    """Where everything stands in the file, for any number of planes and tiles."""

    def __init__(self, arrays: Sequence[Array], name: str) -> None:
        self._meta = meta = arrays[0].meta
        self._stack = stack = hyperstack(meta)
        self._dtype = _dtype(meta)
        self._samples = 3 if is_rgb(meta, stack) else 1
        self._levels = [self._level(array) for array in arrays]
        self._count = stack.count // self._samples
        self._description: list[Tag] = [
            (IMAGE_DESCRIPTION, ASCII, omexml.document(self._pixels(name)))
        ]
        self._place()

    def extents(self) -> list[Extent]:
        at = BIG.header_size
        out: list[Extent] = [Literal(BIG.header(at) + self._plane(0, at, self._description))]
        out.append(Records(self._count - 1, self._stride, self._record))
        for level in self._levels:
            if level.tiles.per_plane > 1:
                out += [self._offsets(level), self._counts(level)]
        end = sum(extent.size for extent in out)
        for level in self._levels:
            out += [Zeros(level.data_at - end), level.tiles]
            end = level.data_at + level.tiles.size
        return out

    def _level(self, array: Array) -> _Level:
        meta = array.meta
        stack = hyperstack(meta)
        row, column = stack.order[-2:]
        order = stack.order
        if self._samples > 1:
            assert stack.c is not None
            order = (*(d for d in order if d != stack.c), stack.c)
        pixel = self._samples * self._dtype.itemsize
        rows, columns = _tile_sides(meta, row, column, pixel)
        tiles = Tiles(array, order, rows, columns, self._dtype, self._samples > 1)
        return _Level(meta, stack, tiles, rows, columns)

    def _place(self) -> None:
        """Give every part its offset. An IFD's length does not depend on the offsets in it."""
        first = BIG.header_size
        self._rest_at = first + len(self._plane(0, first, self._description))
        self._stride = len(self._plane(0, 0, []))
        at = self._rest_at + (self._count - 1) * self._stride
        for level in self._levels:
            if level.tiles.per_plane > 1:
                level.offsets_at = at
                level.counts_at = at + self._offsets(level).size
                at = level.counts_at + self._counts(level).size
        for level in self._levels:
            at += -at % _alignment(level.tiles.nbytes)
            level.data_at = at
            at += level.tiles.size

    def _offsets(self, level: _Level) -> Records:
        """TileOffsets of all planes of a level."""
        count = level.tiles.size // level.tiles.nbytes

        def make(i: int) -> bytes:
            first = level.data_at + i * _OFFSETS * level.tiles.nbytes
            return (first + np.arange(_OFFSETS, dtype="<u8") * level.tiles.nbytes).tobytes()

        return Records(-(-count // _OFFSETS), 8 * _OFFSETS, make)

    def _counts(self, level: _Level) -> Records:
        """TileByteCounts of any plane of a level."""
        some = np.full(_OFFSETS, level.tiles.nbytes, "<u8").tobytes()
        return Records(-(-level.tiles.per_plane // _OFFSETS), 8 * _OFFSETS, lambda i: some)

    def _record(self, i: int) -> bytes:
        return self._plane(i + 1, self._rest_at + i * self._stride, [])

    def _plane(self, p: int, at: int, description: list[Tag]) -> bytes:
        """The IFDs of plane `p`, to stand at `at`: all levels, one behind the other."""
        tags = [self._tags(k, p) for k in range(len(self._levels))]
        tags[0] += description
        sub_ifds = [0] * (len(tags) - 1)
        if sub_ifds:
            tags[0].append((SUB_IFDS, LONG8, sub_ifds))
        ends = [at]
        for level_tags in tags:
            ends.append(ends[-1] + len(BIG.ifd(level_tags, 0)))
        if sub_ifds:
            tags[0][-1] = (SUB_IFDS, LONG8, ends[1:-1])
        following = 0 if p == self._count - 1 else ends[-1]
        return b"".join(
            BIG.ifd(level_tags, here, 0 if k else following)
            for k, (level_tags, here) in enumerate(zip(tags, ends, strict=False))
        )

    def _tags(self, k: int, p: int) -> list[Tag]:
        """The tags of level `k` of plane `p`."""
        level = self._levels[k]
        row, column = level.stack.order[-2:]
        tiles = level.tiles
        plane = level.plane(p, self._stack, self._samples)
        first = plane * tiles.per_plane
        bits = 8 * self._dtype.itemsize
        one = tiles.per_plane == 1
        return [
            (NEW_SUBFILE_TYPE, LONG, [1 if k else 0]),
            (IMAGE_WIDTH, LONG, [level.meta.shape[column]]),
            (IMAGE_LENGTH, LONG, [level.meta.shape[row]]),
            (BITS_PER_SAMPLE, SHORT, [bits] * self._samples),
            (COMPRESSION, SHORT, [1]),
            (PHOTOMETRIC, SHORT, [2 if self._samples > 1 else 1]),  # RGB, or black is zero
            (SAMPLES_PER_PIXEL, SHORT, [self._samples]),
            (PLANAR_CONFIGURATION, SHORT, [1]),
            (TILE_WIDTH, LONG, [level.columns]),
            (TILE_LENGTH, LONG, [level.rows]),
            (
                TILE_OFFSETS,
                LONG8,
                [level.data_at + first * tiles.nbytes]
                if one
                else Elsewhere(tiles.per_plane, level.offsets_at + 8 * first),
            ),
            (
                TILE_BYTE_COUNTS,
                LONG8,
                [tiles.nbytes] if one else Elsewhere(tiles.per_plane, level.counts_at),
            ),
            (SAMPLE_FORMAT, SHORT, [SAMPLE_FORMATS[self._dtype.kind]] * self._samples),
            *resolution_tags(level.meta.axes[row], level.meta.axes[column]),
        ]

    def _pixels(self, name: str) -> omexml.Pixels:
        meta, stack = self._meta, self._stack
        row, column = stack.order[-2:]
        return omexml.Pixels(
            name=name,
            dtype=self._dtype,
            order="XYCZT",
            x=meta.shape[column],
            y=meta.shape[row],
            z=stack.slices,
            c=stack.channels,
            t=stack.frames,
            axes={
                "x": meta.axes[column],
                "y": meta.axes[row],
                "z": None if stack.z is None else meta.axes[stack.z],
                "t": None if stack.t is None else meta.axes[stack.t],
            },
            channels=imagej.channels(meta, stack),
            samples=self._samples,
        )
