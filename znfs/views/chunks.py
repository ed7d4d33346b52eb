"""`chunks/`: decoded chunks at the store's own keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product, repeat
from math import prod

import numpy as np

from znfs.arrays.array import Array, flat_bytes
from znfs.arrays.extents import Blocks, touched
from znfs.meta import Index, ravel, unravel
from znfs.node import File, Kind
from znfs.views import MOST_NAME_BYTES


class ChunksDir:
    """One level of the chunk keys: `fixed` are the parts of the key above it.

    With the separator `/` keys are nested (`c/0/0/0`, N5's `x/y/z`); otherwise they are all here.
    """

    def __init__(self, array: Array, fixed: tuple[str, ...] = ()) -> None:
        self._array = array
        self._fixed = fixed
        self._keys = array.meta.keys
        self.version = array.version
        self.mtime = array.mtime
        grid = array.meta.keyed_grid
        self._grid = tuple(reversed(grid)) if self._keys.reverse else grid  # as keys count
        self._nested = self._keys.separator == "/"
        last = not self._nested or len(fixed) + 1 == self._depth
        self._kind = Kind.FILE if last else Kind.DIRECTORY

    def names(self, start: int = 0) -> Iterator[str]:
        if self._nested:
            yield from self._nested_names(start)
        elif not self._grid:
            yield from [self._keys.key(())][start:]
        elif _longest_name(self._array) <= MOST_NAME_BYTES:
            yield from self._flat_names(start)
        else:
            listed = (n for n in self._flat_names(0) if len(n) <= MOST_NAME_BYTES)
            yield from islice(listed, start, None)

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return zip(self.names(start), repeat(self._kind), strict=False)

    def lookup(self, name: str) -> File | ChunksDir | None:
        if "/" in name:
            return None
        if not self._nested:
            return self._file(name)
        key = "/".join((*self._fixed, name))
        if len(self._fixed) + 1 == self._depth:
            return self._file(key)
        if not prod(self._grid) or not self._is_part(name):
            return None
        return ChunksDir(self._array, (*self._fixed, name))

    def _flat_names(self, start: int) -> Iterator[str]:
        prefix = self._keys.prefix + self._keys.separator if self._keys.prefix else ""
        for parts in _indexes(self._grid, start):
            yield prefix + self._keys.separator.join(map(str, parts)) + self._keys.suffix

    @property
    def _depth(self) -> int:
        """Parts of a nested key."""
        return max(1, len(self._grid) + bool(self._keys.prefix))

    def _level_size(self) -> int | None:
        """How many numbers this level has; None where it holds the one prefix, or the 0-d key."""
        level = len(self._fixed) - bool(self._keys.prefix)
        return None if level < 0 or not self._grid else self._grid[level]

    def _nested_names(self, start: int) -> Iterator[str]:
        if self._grid and not prod(self._grid):
            return
        n = self._level_size()
        if n is None:
            yield from [self._keys.prefix if self._grid else self._keys.key(())][start:]
        else:
            suffix = self._keys.suffix if self._kind is Kind.FILE else ""
            yield from (f"{number}{suffix}" for number in range(start, n))

    def _is_part(self, name: str) -> bool:
        n = self._level_size()
        if n is None:
            return name == self._keys.prefix
        if not (name.isascii() and name.isdigit()) or len(name) > len(str(n)):
            return False
        return str(int(name)) == name and int(name) < n

    def _file(self, key: str) -> File | None:
        index = self._keys.parse(key, self._array.meta.keyed_grid)
        return None if index is None else chunk_file(self._array, index)


def _longest_name(array: Array) -> int:
    """Bytes of the longest name below `chunks/`: names are ASCII."""
    keys, grid = array.meta.keys, array.meta.keyed_grid
    last = keys.key(tuple(max(n - 1, 0) for n in grid))
    return max(map(len, last.split("/")))


def remarks(array: Array) -> list[str]:
    """What is not listed."""
    if _longest_name(array) <= MOST_NAME_BYTES:
        return []
    return [f"chunks: names of more than {MOST_NAME_BYTES} bytes are not listed"]


def chunk_file(array: Array, index: Index) -> File:
    """One decoded chunk: C order, little-endian, always the full chunk shape."""
    if array.meta.is_assembled:
        return File([_StoredChunk(array, index)], array.version, array.mtime)
    return File([Blocks(array, ravel(index, array.meta.grid))], array.version, array.mtime)


class _StoredChunk:
    """A chunk that has a shape of its own."""

    def __init__(self, array: Array, index: Index) -> None:
        self._array = array
        self._index = index
        self.size = prod(array.meta.stored_shape(index)) * array.meta.dtype.itemsize

    def read_into(self, start: int, out: memoryview) -> None:
        lo, hi, where = touched(start, start + len(out), self._array.meta.dtype.itemsize)
        block = self._array.stored_chunk(self._index)
        part = np.full(hi - lo, self._array.fill) if block is None else block.reshape(-1)[lo:hi]
        out[:] = flat_bytes(part)[where].data

    def prefetch(self, start: int, stop: int) -> None:
        """Nothing lies ahead of one chunk."""


def _indexes(grid: tuple[int, ...], start: int) -> Iterator[Index]:
    """All indexes of `grid` in row-major order from the `start`-th on, in flat memory."""
    if max(grid) <= 1 << 16 and not start:  # product() holds each axis's numbers
        yield from product(*map(range, grid))
        return
    for i in range(start, prod(grid)):
        yield unravel(i, grid)
