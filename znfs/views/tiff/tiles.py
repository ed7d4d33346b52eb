"""The tiles of all planes of an array."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from znfs.arrays.array import Array, flat_bytes
from znfs.arrays.extents import Slab, as_bytes, by_stride, touched
from znfs.arrays.lookahead import Walk
from znfs.meta import Index, unravel


class Tiles:
    """An extent: 2-D tiles of `rows` x `columns`, row by row of tiles, plane after plane.

    `order` has the array's axes as the planes follow each other, then the planes' rows and
    columns, and last, with `samples`, the axis whose elements make one pixel. What tiles have
    beyond the image's edge is of no meaning. Values are cast to `dtype`.
    """

    def __init__(
        self,
        array: Array,
        order: tuple[int, ...],
        rows: int,
        columns: int,
        dtype: np.dtype[Any],
        samples: bool = False,
    ) -> None:
        shape = array.meta.shape
        self._array = array
        self._order = order
        self._dtype = dtype
        self._rest = order[: -3 if samples else -2]
        self._row, self._column = order[len(self._rest) : len(self._rest) + 2]
        self._rows, self._columns = rows, columns
        pixel = dtype.itemsize * (shape[order[-1]] if samples else 1)
        self._pixel = pixel
        self._grid = (
            *(shape[d] for d in self._rest),
            -(-shape[self._row] // rows),
            -(-shape[self._column] // columns),
        )
        self.per_plane = prod(self._grid[-2:])
        self.nbytes = rows * columns * pixel
        self.size = prod(self._grid) * self.nbytes
        self._walk = Walk(prod(self._grid), self._begin, array.room)
        # Where a tile is a chunk, it is copied as a whole.
        chunks = array.meta.chunks
        self._are_chunks = (
            prod(chunks) == rows * columns == chunks[self._row] * chunks[self._column]
            and chunks[self._row] == rows
            and self._row < self._column
            and dtype == array.meta.dtype
            and not samples
        )

    def read_into(self, start: int, out: memoryview) -> None:
        if start // self.nbytes != (start + len(out) - 1) // self.nbytes:
            self.prefetch(start, start + len(out))  # let the tiles' loads overlap
        for i, lo, hi, at in by_stride(start, start + len(out), self.nbytes):
            part = out[at : at + hi - lo]
            if not (self._are_chunks and self._copy_chunk(i, lo, part)):
                self._read_tile(i, lo, part)
            self._walk.follow(i)

    def prefetch(self, start: int, stop: int) -> None:
        if self._are_chunks:
            tiles = range(start // self.nbytes, -(-stop // self.nbytes))
            self._array.prefetch(self._chunk(i) for i in tiles)
            return
        for i, lo, hi, _ in by_stride(start, stop, self.nbytes):
            slab, height, width = self._tile(i)
            row = self._columns * self._pixel
            first, last = lo // row, min(height, -(-hi // row))
            if first < last:
                slab.prefetch(first * width * self._pixel, last * width * self._pixel)

    def _begin(self, tiles: range) -> bool:
        self.prefetch(tiles.start * self.nbytes, tiles.stop * self.nbytes)
        return True  # bands that find no room are not asked for again

    def _chunk(self, i: int) -> Index:
        """The grid index of the chunk that tile `i` is."""
        index = [0] * len(self._grid)
        for d, at in zip(
            (*self._rest, self._row, self._column), unravel(i, self._grid), strict=True
        ):
            index[d] = at
        return tuple(index)

    def _copy_chunk(self, i: int, skip: int, out: memoryview) -> bool:
        """The bytes of a tile that is a chunk; False if the chunk is missing."""
        block = self._array.load(self._chunk(i))
        if block is None:
            return False
        as_bytes(out)[:] = flat_bytes(block)[skip : skip + len(out)]
        return True

    def _tile(self, i: int) -> tuple[Slab, int, int]:
        """What tile `i` has of the image, and how many rows and columns that is."""
        *rest, tile_row, tile_column = unravel(i, self._grid)
        shape = self._array.meta.shape
        start, length = [0] * len(shape), list(shape)
        for d, index in zip(self._rest, rest, strict=True):
            start[d], length[d] = index, 1
        for d, index, side in (
            (self._row, tile_row, self._rows),
            (self._column, tile_column, self._columns),
        ):
            start[d] = index * side
            length[d] = min(side, shape[d] - start[d])
        slab = Slab(self._array, tuple(start), tuple(length), self._order, self._dtype)
        return slab, length[self._row], length[self._column]

    def _read_tile(self, i: int, skip: int, out: memoryview) -> None:
        """The bytes of tile `i` from its byte `skip` on."""
        slab, height, width = self._tile(i)
        if width == self._columns:
            inside = max(0, min(slab.size - skip, len(out)))
            if inside:
                slab.read_into(skip, out[:inside])
            as_bytes(out[inside:])[:] = 0
            return
        row = self._columns * self._pixel
        first, last, where = touched(skip, skip + len(out), row)
        padded = np.zeros((last - first, row), np.uint8)
        there = min(last, height) - first
        if there > 0:
            part = np.empty((there, width * self._pixel), np.uint8)
            slab.read_into(first * part.shape[1], part.data.cast("B"))
            padded[:there, : part.shape[1]] = part
        as_bytes(out)[:] = flat_bytes(padded)[where]
