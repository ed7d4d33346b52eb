"""Where a dataset's elements are: its layout message, its index and its data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from znfs.array import Array
from znfs.errors import Unsupported
from znfs.extents import Blocks, Bytes, Slab, boxes, unravel
from znfs.meta import Index, Shape
from znfs.node import Extent
from znfs.views.hdf5 import datatypes, messages
from znfs.views.hdf5.btree import ChunkBTree
from znfs.views.hdf5.messages import Message
from znfs.views.hdf5.structures import MAX_CHUNK, MAX_RANK, PAGE, UNDEFINED, align, gap


@dataclass(frozen=True)
class Layout:
    """What a user may choose.

    `index`: "btree" (every reader) or "implicit" (HDF5 1.10 and later, no index bytes).
    `merge`: so many chunks of the store make one HDF5 chunk, for readers that walk the whole
    index; with the B-tree only.
    """

    index: str = "btree"
    merge: int = 1
    promote_float16: bool = False


class Storage(Protocol):
    """The plan sets both addresses; the layout message reads them when it is encoded."""

    layout: Message
    allocation: int  # space allocation time, for the fill value message
    index_size: int
    data_size: int
    index_address: int
    data_address: int

    def index_extents(self) -> list[Extent]: ...
    def data_extents(self) -> list[Extent]: ...


class NoStorage:
    """No element is stored: empty arrays, and dimensions without values."""

    allocation = messages.LATE
    index_size = data_size = index_address = data_address = 0

    def __init__(self) -> None:
        self.layout = messages.contiguous_layout(lambda: UNDEFINED, 0)

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return []


class Contiguous:
    """All elements in one run."""

    allocation = messages.LATE
    index_size = index_address = 0

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self.data_size = extent.size
        self.data_address = 0
        self.layout = messages.contiguous_layout(lambda: self.data_address, self.data_size)

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return [self._extent]


class Chunked:
    """Unfiltered chunks at a fixed stride, indexed by a version 1 B-tree."""

    allocation = messages.INCREMENTAL

    def __init__(self, array: Array, dtype: np.dtype[Any], merge: int) -> None:
        meta = array.meta
        pieces = Pieces.of(meta.shape, meta.chunks, merge, dtype.itemsize)
        nbytes = pieces.nbytes
        self._stride = align(nbytes + gap(nbytes), PAGE)
        self._index = ChunkBTree(pieces.grid, pieces.chunk, nbytes)
        self._data = _blocks(array, pieces, dtype, self._stride)
        self.index_size = self._index.size
        self.data_size = self._data.size
        self.index_address = self.data_address = 0
        self.layout = messages.chunked_layout(
            lambda: self.index_address, pieces.chunk, dtype.itemsize
        )

    def index_extents(self) -> list[Extent]:
        base, stride = self.data_address, self._stride
        return self._index.extents(self.index_address, lambda numbers: base + numbers * stride)

    def data_extents(self) -> list[Extent]:
        return [self._data]


class ImplicitlyIndexed:
    """Unfiltered chunks one after another without gaps: addresses need no index."""

    allocation = messages.EARLY
    index_size = index_address = 0

    def __init__(self, array: Array, dtype: np.dtype[Any]) -> None:
        pieces = Pieces.of(array.meta.shape, array.meta.chunks, 1, dtype.itemsize)
        self._data = _blocks(array, pieces, dtype, pieces.nbytes)
        self.data_size = self._data.size
        self.data_address = 0
        self.layout = messages.implicit_layout(
            lambda: self.data_address, pieces.chunk, dtype.itemsize
        )

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return [self._data]


def storage(array: Array, dtype: np.dtype[Any], layout: Layout) -> Storage:
    """The storage of an array whose elements are stored as `dtype`.

    Raises Unsupported where HDF5 has no way to describe it.
    """
    meta = array.meta
    if meta.ndim > MAX_RANK:
        raise Unsupported(f"{meta.ndim} dimensions; HDF5 has at most {MAX_RANK}")
    if any(n > UNDEFINED >> 1 for n in meta.shape):
        raise Unsupported("a dimension of 2^63 or more")
    if meta.size == 0:
        return NoStorage()
    if meta.ndim == 0:
        one = Pieces((), (), 1, 0, dtype.itemsize)
        return Contiguous(_blocks(array, one, dtype, dtype.itemsize))
    clipped = prod(map(min, meta.chunks, meta.shape))
    if clipped * dtype.itemsize > MAX_CHUNK:
        if not np.can_cast(meta.dtype, dtype) and not datatypes.same_bytes(meta.dtype, dtype):
            raise Unsupported("chunks of 4 GiB or more whose type must be converted")
        return Contiguous(Slab(array, dtype=dtype))
    if layout.index == "implicit":
        return ImplicitlyIndexed(array, dtype)
    return Chunked(array, dtype, layout.merge)


@dataclass(frozen=True)
class Pieces:
    """HDF5's chunks in terms of the store's: `merge` of them along `axis`, clipped to the shape.

    HDF5 writers refuse chunks longer than a dimension of fixed size, which Zarr allows.
    """

    grid: Shape
    chunk: Shape
    merge: int
    axis: int
    itemsize: int

    @property
    def nbytes(self) -> int:
        return prod(self.chunk) * self.itemsize

    @classmethod
    def of(cls, shape: Shape, chunks: Shape, merge: int, itemsize: int) -> Pieces:
        """Merged chunks are the concatenation of their parts only if the chunk's extents before
        the axis are 1, so the axis is the first with several chunks, or none."""
        grid = [-(-s // c) for s, c in zip(shape, chunks, strict=True)]
        chunk = [min(s, c) for s, c in zip(shape, chunks, strict=True)]
        axis = next((d for d, n in enumerate(grid) if n > 1), 0)
        room = MAX_CHUNK // (prod(chunk) * itemsize)
        merge = max(1, min(merge, grid[axis], room)) if prod(chunks[:axis]) == 1 else 1
        grid[axis] = -(-grid[axis] // merge)
        chunk[axis] = min(chunk[axis] * merge, shape[axis])
        return cls(tuple(grid), tuple(chunk), merge, axis, itemsize)


def _blocks(array: Array, pieces: Pieces, dtype: np.dtype[Any], stride: int) -> Extent:
    meta = array.meta
    count = prod(pieces.grid)
    if pieces.chunk == meta.chunks and datatypes.same_bytes(meta.dtype, dtype):
        return Blocks(array, 0, count, stride)
    return ConvertedBlocks(array, pieces, dtype, stride)


class ConvertedBlocks:
    """Chunks that are clipped, merged or converted, one every `stride` bytes."""

    def __init__(self, array: Array, pieces: Pieces, dtype: np.dtype[Any], stride: int) -> None:
        self._array = array
        self._pieces = pieces
        self._dtype = dtype
        self._stride = stride
        axis, chunks = pieces.axis, array.meta.chunks
        # What a chunk of the store gives to an HDF5 chunk: all but what lies beyond the shape.
        self._part = tuple(
            min(c, p) if d != axis or pieces.merge == 1 else c
            for d, (c, p) in enumerate(zip(chunks, pieces.chunk, strict=True))
        )
        self._part_nbytes = prod(self._part) * dtype.itemsize
        self.size = prod(pieces.grid) * stride

    def read_into(self, start: int, out: memoryview) -> None:
        target = np.frombuffer(out, np.uint8)
        at = 0
        while at < len(out):
            number, skip = divmod(start + at, self._stride)
            n = min(self._stride - skip, len(out) - at)
            data = max(0, min(self._pieces.nbytes - skip, n))
            if data:
                self._read_chunk(number, skip, target[at : at + data])
            target[at + data : at + n] = 0
            at += n

    def prefetch(self, start: int, stop: int) -> None:
        indexes = []
        for number in range(start // self._stride, -(-stop // self._stride)):
            lo = max(0, start - number * self._stride)
            hi = min(self._pieces.nbytes, stop - number * self._stride)
            for part in range(lo // self._part_nbytes, -(-hi // self._part_nbytes)):
                index = self._index(number, part)
                if index is not None:
                    indexes.append(index)
        self._array.prefetch(indexes)

    def _read_chunk(self, number: int, start: int, target: Bytes) -> None:
        at = 0
        while at < len(target):
            part, skip = divmod(start + at, self._part_nbytes)
            n = min(self._part_nbytes - skip, len(target) - at)
            index = self._index(number, part)
            meta = self._array.meta
            block = (
                np.broadcast_to(self._array.fill, meta.chunks)
                if index is None
                else self._array.block(index)
            )
            part_of_block: tuple[Any, ...] = (*map(slice, self._part), ...)
            view = block[part_of_block]
            _copy_converted(view, self._dtype, skip, target[at : at + n])
            at += n

    def _index(self, number: int, part: int) -> Index | None:
        """The store's chunk that is the `part`-th of an HDF5 chunk; None beyond the grid."""
        index = list(unravel(number, self._pieces.grid))
        axis = self._pieces.axis
        if index:
            index[axis] = index[axis] * self._pieces.merge + part
            if index[axis] >= self._array.meta.grid[axis]:
                return None
        return tuple(index)


def _copy_converted(
    view: np.ndarray[Any, Any], dtype: np.dtype[Any], start: int, target: Bytes
) -> None:
    """Bytes of `view` converted to `dtype`, in C order, from byte `start` on."""
    size = dtype.itemsize
    lo, hi = start // size, -(-(start + len(target)) // size)
    values = np.empty(hi - lo, dtype)
    at = 0
    for box_lo, box_hi in boxes(view.shape, lo, hi):
        box: tuple[Any, ...] = (*map(slice, box_lo, box_hi), ...)  # an array even if 0-d
        part = view[box]
        values[at : at + part.size] = datatypes.convert(part, dtype).reshape(-1)
        at += part.size
    target[:] = values.view(np.uint8)[start - lo * size :][: len(target)]
