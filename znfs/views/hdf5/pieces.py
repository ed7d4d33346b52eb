"""HDF5's chunks in terms of the store's: clipped to the shape, merged, converted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from znfs.arrays.array import Array, flat_bytes
from znfs.arrays.extents import as_bytes, boxes, by_stride, chunk_walk, chunks_ahead, touched
from znfs.cache.memory import Bytes
from znfs.meta import Index, Shape, ravel, unravel
from znfs.views.hdf5 import conversion
from znfs.views.hdf5.structures import MAX_CHUNK


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

    @property
    def count(self) -> int:
        return prod(self.grid)

    @classmethod
    def of(cls, shape: Shape, chunks: Shape, merge: int, itemsize: int) -> Pieces:
        """Merged chunks are the concatenation of their parts only if the chunk's extents before
        the axis are 1, so the axis is the first with several chunks, or none."""
        grid = [-(-s // c) for s, c in zip(shape, chunks, strict=True)]
        chunk = [min(s, c) for s, c in zip(shape, chunks, strict=True)]
        axis = next((d for d, n in enumerate(grid) if n > 1), 0)
        room = MAX_CHUNK // (prod(chunk) * itemsize)
        merge = max(1, min(merge, grid[axis], room)) if grid and prod(chunks[:axis]) == 1 else 1
        if grid:
            grid[axis] = -(-grid[axis] // merge)
            chunk[axis] = min(chunk[axis] * merge, shape[axis])
        return cls(tuple(grid), tuple(chunk), merge, axis, itemsize)


class PieceBlocks(ABC):
    """Something of each HDF5 chunk, one every `stride` bytes with zeros between.

    It is made of `part_nbytes` of each of the store's chunks, and cut after `nbytes`.
    """

    def __init__(
        self, array: Array, pieces: Pieces, part_nbytes: int, nbytes: int, stride: int
    ) -> None:
        self._array = array
        self._pieces = pieces
        self._part_nbytes = part_nbytes
        self._nbytes = nbytes
        self.stride = stride
        self.size = pieces.count * stride
        self._walk = chunk_walk(array)

    @abstractmethod
    def _copy(self, number: int, part: int, start: int, target: Bytes) -> None:
        """Copy what the `part`-th of the store's chunks gives to HDF5's chunk `number`, from its
        byte `start` on."""

    def read_into(self, start: int, out: memoryview) -> None:
        target = as_bytes(out)
        for number, lo, hi, at in by_stride(start, start + len(out), self.stride):
            data = max(0, min(hi, self._nbytes) - lo)
            if data:
                self._read_piece(number, lo, target[at : at + data])
            target[at + data : at + hi - lo] = 0

    def prefetch(self, start: int, stop: int) -> None:
        indexes = []
        for number in range(start // self.stride, -(-stop // self.stride)):
            lo = max(0, start - number * self.stride)
            hi = min(self._nbytes, stop - number * self.stride)
            for part in range(lo // self._part_nbytes, -(-hi // self._part_nbytes)):
                index = self._index(number, part)
                if index is not None:
                    indexes.append(index)
        self._array.prefetch(indexes)

    def ahead(self, start: int) -> Iterator[range]:
        if self._pieces.merge > 1:
            return iter(())  # of those, the kernel reads each ahead by itself
        return chunks_ahead(self._array, 0, start, self._pieces.count, self.stride, self._nbytes)

    def _read_piece(self, number: int, start: int, target: Bytes) -> None:
        for part, lo, hi, at in by_stride(start, start + len(target), self._part_nbytes):
            waited = self._look_ahead(self._index(number, part))
            self._copy(number, part, lo, target[at : at + hi - lo])
            if waited:
                self._walk.late()

    def _look_ahead(self, index: Index | None) -> bool:
        """The reader has come to a chunk of the store: whether it has to wait for it."""
        if index is None:
            return False
        self._walk.follow(ravel(index, self._array.meta.grid))
        return not self._array.is_cached(index)

    def _index(self, number: int, part: int) -> Index | None:
        """The store's chunk that is the `part`-th of an HDF5 chunk; None beyond the grid."""
        index = list(unravel(number, self._pieces.grid))
        axis = self._pieces.axis
        if index:
            index[axis] = index[axis] * self._pieces.merge + part
            if index[axis] >= self._array.meta.grid[axis]:
                return None
        return tuple(index)


class ConvertedBlocks(PieceBlocks):
    """Chunks that are clipped, merged or converted."""

    def __init__(self, array: Array, pieces: Pieces, dtype: np.dtype[Any], stride: int) -> None:
        part_nbytes = prod(array.meta.clipped_chunk) * dtype.itemsize
        super().__init__(array, pieces, part_nbytes, pieces.nbytes, stride)
        self._dtype = dtype

    def _copy(self, number: int, part: int, start: int, target: Bytes) -> None:
        lo, hi, where = touched(start, start + len(target), self._dtype.itemsize)
        view = clipped(self._array, self._index(number, part))
        values = conversion.convert(elements(view, lo, hi), self._dtype)
        target[:] = flat_bytes(values)[where]


def clipped(array: Array, index: Index | None) -> np.ndarray[Any, Any]:
    """What a chunk of the store gives to an HDF5 chunk: all but what lies beyond the shape of the
    array. Fill values for None."""
    block = np.broadcast_to(array.fill, array.meta.chunks) if index is None else array.block(index)
    part: tuple[Any, ...] = (*map(slice, array.meta.clipped_chunk), ...)
    view: np.ndarray[Any, Any] = block[part]
    return view


def elements(view: np.ndarray[Any, Any], lo: int, hi: int) -> np.ndarray[Any, Any]:
    """Elements [lo, hi) of `view`, which has them, in C order, as a new array of one dimension."""
    assert 0 <= lo <= hi <= view.size
    values = np.empty(hi - lo, view.dtype)
    at = 0
    for box_lo, box_hi in boxes(view.shape, lo, hi):
        box: tuple[Any, ...] = (*map(slice, box_lo, box_hi), ...)  # an array even if 0-d
        part = view[box]
        values[at : at + part.size] = part.reshape(-1)
        at += part.size
    return values
