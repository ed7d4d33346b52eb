"""HDF5's chunks in terms of the store's: clipped to the shape, merged, converted."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from znfs.array import Array
from znfs.extents import Bytes, boxes, unravel
from znfs.meta import Index, Shape
from znfs.views.hdf5 import datatypes
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
            self._copy(number, part, self._view(index), skip, target[at : at + n])
            at += n

    def _view(self, index: Index | None) -> np.ndarray[Any, Any]:
        """What a chunk of the store gives to an HDF5 chunk; fill values beyond the grid."""
        fill, chunks = self._array.fill, self._array.meta.chunks
        block = np.broadcast_to(fill, chunks) if index is None else self._array.block(index)
        part_of_block: tuple[Any, ...] = (*map(slice, self._part), ...)
        view: np.ndarray[Any, Any] = block[part_of_block]
        return view

    def _copy(
        self, number: int, part: int, view: np.ndarray[Any, Any], start: int, target: Bytes
    ) -> None:
        """Bytes of a part of chunk `number`, converted, in C order, from its byte `start` on."""
        size = self._dtype.itemsize
        lo, hi = start // size, -(-(start + len(target)) // size)
        values = datatypes.convert(elements(view, lo, hi), self._dtype)
        target[:] = values.view(np.uint8)[start - lo * size :][: len(target)]

    def _index(self, number: int, part: int) -> Index | None:
        """The store's chunk that is the `part`-th of an HDF5 chunk; None beyond the grid."""
        index = list(unravel(number, self._pieces.grid))
        axis = self._pieces.axis
        if index:
            index[axis] = index[axis] * self._pieces.merge + part
            if index[axis] >= self._array.meta.grid[axis]:
                return None
        return tuple(index)


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
