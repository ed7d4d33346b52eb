"""The kinds of bytes a virtual file is made of (see node.Extent).

Offsets and sizes are bytes. An array's elements always read little-endian and in C order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, product
from math import prod
from mmap import PAGESIZE
from typing import Any

import numpy as np

from znfs.arrays.array import Array, Block, flat_bytes
from znfs.arrays.bands import Bands, BandSets
from znfs.arrays.lookahead import Boxes, ChunkWalk, Walk
from znfs.cache import BlockCache
from znfs.cache.memory import Bytes
from znfs.errors import Stale, StoreError, ZnfsError
from znfs.meta import Index, Shape, ravel, unravel
from znfs.stores.base import Store

# Bytes of pieces with gaps between that the kernel reads ahead. Larger pieces it asks for in
# several requests anyway, of which only the first is waited for: chunks of 4 MiB gained nothing.
_AHEAD = 2 << 20
# What part of a distant store's chunks may be guessed in vain, for the round trips that it saves.
# Of local stores nothing is guessed: with 1/64, random boxes took 1.02 to 1.15 of the time.
_WASTE = 1 / 32
# One axis of a box cut by the chunk grid: (chunk's index, part of the chunk, part of the box).
_Cut = tuple[int, slice, slice]


def as_bytes(out: memoryview) -> Bytes:
    """`out` as a writable array of bytes. numpy copies without the GIL; a memoryview does not."""
    return np.frombuffer(out, np.uint8)


def by_stride(start: int, stop: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """[start, stop) cut by a stride: which piece, from and to where in it, and where in the whole
    that is."""
    at = start
    while at < stop:
        i, skip = divmod(at, stride)
        n = min(stride - skip, stop - at)
        yield i, skip, skip + n, at - start
        at += n


def touched(start: int, stop: int, size: int) -> tuple[int, int, slice]:
    """The units [lo, hi) of `size` bytes that [start, stop) has part in, and where in these it
    lies."""
    lo, hi = start // size, -(-stop // size)
    return lo, hi, slice(start - lo * size, stop - lo * size)


class Literal:
    """Bytes known in full: a header."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, start: int, out: memoryview) -> None:
        out[:] = self._data[start : start + len(out)]

    def prefetch(self, start: int, stop: int) -> None:
        pass


class Zeros:
    """Padding."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read_into(self, start: int, out: memoryview) -> None:
        as_bytes(out)[:] = 0

    def prefetch(self, start: int, stop: int) -> None:
        pass


class Records:
    """`count` records of `stride` bytes, each computed when read: an index of any length.

    `make(i)` returns at most `stride` bytes; zeros fill the rest.
    """

    def __init__(self, count: int, stride: int, make: Callable[[int], bytes]) -> None:
        self._make = make
        self._stride = stride
        self.size = count * stride

    def read_into(self, start: int, out: memoryview) -> None:
        for i, lo, hi, at in by_stride(start, start + len(out), self._stride):
            record = self._make(i).ljust(self._stride, b"\0")
            out[at : at + hi - lo] = record[lo:hi]

    def prefetch(self, start: int, stop: int) -> None:
        pass


class Object:
    """A stored object as it is, of one version. Of a distant store, pieces stay in the cache."""

    _PIECE = 4 << 20

    def __init__(
        self, store: Store, cache: BlockCache, key: str, size: int, version: str
    ) -> None:
        self._store = store
        self._cache = cache
        self._key = key
        self._version = version
        self.size = size

    def read_into(self, start: int, out: memoryview) -> None:
        if self._store.local:
            out[:] = self._fetch(start, start + len(out))
            return
        for i, lo, hi, at in by_stride(start, start + len(out), self._PIECE):
            out[at : at + hi - lo] = self._piece(i)[lo:hi]

    def prefetch(self, start: int, stop: int) -> None:
        pass

    def _piece(self, i: int) -> bytes | memoryview:
        lo = i * self._PIECE
        hi = min(lo + self._PIECE, self.size)
        key = ("object", self._key, self._version, i)
        return self._cache.get(key, hi - lo, partial(self._fetch, lo, hi))  # type: ignore[no-any-return]

    def _fetch(self, start: int, stop: int) -> bytes | memoryview:
        blob = self._store.get(self._key, start, stop, if_match=self._version)
        if blob is None:
            raise Stale(f"{self._key}: is no longer there")
        if len(blob.data) != stop - start:
            raise StoreError(f"{self._key}: {len(blob.data)} bytes of {stop - start} at {start}")
        return blob.data


class Blocks:
    """Whole decoded chunks, padding included, one every `stride` bytes with zeros between.

    They are the `count` chunks from the `first`-th on in row-major order of the grid.
    """

    def __init__(
        self, array: Array, first: int = 0, count: int = 1, stride: int | None = None
    ) -> None:
        self._array = array
        self._first = first
        self._nbytes = array.meta.chunk_nbytes
        self._stride = stride or self._nbytes
        self._fill = flat_bytes(array.fill.reshape(1))
        self._walk = chunk_walk(array)
        self.size = count * self._stride

    def read_into(self, start: int, out: memoryview) -> None:
        target = as_bytes(out)
        for i, lo, hi, at in by_stride(start, start + len(out), self._stride):
            data = max(0, min(hi, self._nbytes) - lo)
            if data:
                self._walk.follow(self._first + i)
                if self._copy(self._index(i), lo, target[at : at + data]):
                    self._walk.late()
            target[at + data : at + hi - lo] = 0

    def prefetch(self, start: int, stop: int) -> None:
        slots = range(start // self._stride, -(-stop // self._stride))
        wanted = (i for i in slots if start < i * self._stride + self._nbytes)  # not just the gap
        self._array.prefetch(self._index(i) for i in wanted)

    def ahead(self, start: int) -> Iterator[range]:
        count = self.size // self._stride
        return chunks_ahead(self._array, self._first, start, count, self._stride, self._nbytes)

    def _index(self, i: int) -> Index:
        return unravel(self._first + i, self._array.meta.grid)

    def _copy(self, index: Index, skip: int, target: Bytes) -> bool:
        """Copy part of a chunk; returns whether it had to be waited for."""
        found = self._array.peek(index)
        block = self._array.load(index) if found is None else found[0]
        if block is None:
            _tile(self._fill, skip, target)
        else:
            target[:] = flat_bytes(block)[skip : skip + len(target)]
        return found is None


def chunks_ahead(
    array: Array, first: int, start: int, count: int, stride: int, nbytes: int
) -> Iterator[range]:
    """Spaced.ahead among `count` pieces of `nbytes`, one every `stride` bytes, which are the chunks
    from the `first`-th on."""
    i, skip = divmod(start, stride)
    if skip or stride - nbytes < PAGESIZE:
        return  # who copies the file, with its gaps or for want of any, the kernel reads ahead for
    walk = chunk_walk(array)
    for chunk in islice(walk.ahead(first + i), _AHEAD // nbytes):
        k = chunk - first
        if k >= count or not array.is_expected(unravel(chunk, array.meta.grid)):
            return
        walk.hand_over(chunk)
        yield range(k * stride, k * stride + nbytes)


def chunk_walk(array: Array) -> ChunkWalk:
    """What looks ahead for readers of whole chunks; all files of an array have it in common."""
    if "chunk walk" not in array.shared:
        grid = array.meta.grid or (1,)
        begin = partial(array.prefetch, ahead_of=array)
        walk = Walk(prod(grid), lambda run: begin(unravel(k, grid) for k in run), array.room)
        boxes = Boxes(grid, begin, waste=_WASTE if array.cache.far else 0)
        array.shared["chunk walk"] = ChunkWalk(grid, walk, boxes)
    found: ChunkWalk = array.shared["chunk walk"]
    return found


class Slab:
    """A box of an array as one unpadded run of elements in C order.

    `start` and `shape` are the box in the array's axes. `order` permutes the axes of the run
    (ImageJ's planes run t, z, c; OME-Zarr stores t, c, z). With `dtype`, values are cast to it.
    """

    def __init__(
        self,
        array: Array,
        start: Index | None = None,
        shape: Shape | None = None,
        order: tuple[int, ...] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        meta = array.meta
        self._array = array
        self._order = order or tuple(range(meta.ndim))
        box_start = start or (0,) * meta.ndim
        box_shape = meta.shape if shape is None else shape
        # Everything below counts in the run's own (permuted) axes.
        self._start = tuple(box_start[d] for d in self._order)
        self._shape = tuple(box_shape[d] for d in self._order)
        self._chunks = tuple(meta.chunks[d] for d in self._order)
        self._back = tuple(int(i) for i in np.argsort(self._order)) if self._order else ()
        self._dtype = dtype or meta.dtype
        self._itemsize = self._dtype.itemsize
        self.size = prod(self._shape) * self._itemsize
        run = tuple(meta.shape[d] for d in self._order)
        self._bands = BandSets.of(array, self._order) if _is_run(self._shape, run) else None
        # Whole planes; none if it has some rows of them.
        self._planes = prod(self._shape[:-2]) if self._shape[-2:] == run[-2:] else 0
        self._base = ravel(self._start, run)
        self._is_part = self._shape != run
        # Who reads of a plane reads the rest of it.
        self._wanted = self._base + prod(self._shape) if self._is_part else 0

    def read_into(self, start: int, out: memoryview) -> None:
        lo, hi, where = touched(start, start + len(out), self._itemsize)
        if (hi - lo) * self._itemsize == len(out):
            self._fill(lo, hi, np.frombuffer(out, self._dtype))
            return
        whole = np.empty(hi - lo, self._dtype)  # a range that cuts an element
        self._fill(lo, hi, whole)
        as_bytes(out)[:] = flat_bytes(whole)[where]

    def prefetch(self, start: int, stop: int) -> None:
        lo, hi, _ = touched(start, stop, self._itemsize)
        bands = self._choose(lo, hi, reading=False)
        if bands is not None:
            bands.prefetch(self._base + lo, self._base + hi)
        else:
            self._array.prefetch(self._indexes(lo, hi))

    def _choose(self, lo: int, hi: int, *, reading: bool) -> Bands | None:
        """The bands that serve elements [lo, hi) of the run, if any do."""
        if self._bands is None:
            return None
        return self._bands.choose(self._base + lo, self._base + hi, self._planes, reading=reading)

    def _fill(self, lo: int, hi: int, out: Block) -> None:
        """Elements [lo, hi) of the run into `out`."""
        bands = self._choose(lo, hi, reading=True)
        if bands is None or not self._copy(bands, lo, hi, out):
            self._gather(lo, hi, out)

    def _copy(self, bands: Bands, lo: int, hi: int, out: Block) -> bool:
        """As `_fill`, from bands; False if that is left to blocks."""
        first, last = self._base + lo, self._base + hi
        if self._is_look(bands, lo, hi):
            return bands.copy_cached(first, last, out)
        try:
            bands.copy(first, last, out, self._wanted)
        except Stale:
            raise
        except ZnfsError:
            return False  # a band needs all its chunks; a read may do without the one that failed
        return True

    def _is_look(self, bands: Bands, lo: int, hi: int) -> bool:
        """Whether it is less than a row, of somebody who jumps about: no reason to load a band."""
        is_short = hi - lo < self._shape[-1]
        return is_short and not self._is_part and not bands.follows(self._base + lo)

    def _gather(self, lo: int, hi: int, out: Block) -> None:
        """As `_fill`, block by block (never row by row: with 64-pixel
        chunks and reads of 128 KiB that was 1,325 against 15 MB/s)."""
        at = 0
        asked = False
        for box_lo, box_hi in boxes(self._shape, lo, hi):
            shape = tuple(b - a for a, b in zip(box_lo, box_hi, strict=True))
            count = prod(shape)
            target = out[at : at + count].reshape(shape)
            done = at
            at += count
            for cuts in product(*self._cuts(box_lo, box_hi)):
                index = self._index(cuts)
                found = self._array.peek(index)
                if found is None:
                    if not asked:
                        # The first miss: let the others' loads overlap with this one.
                        asked = True
                        self._array.prefetch(
                            i for i in self._indexes(lo + done, hi) if i != index
                        )
                    block = self._array.load(index)
                else:
                    block = found[0]
                inside: Any = (..., *(cut[2] for cut in cuts))  # with `...`, 0-d stays an array
                part = target[inside]
                if block is None:
                    part[...] = self._array.fill
                else:
                    part[...] = block.transpose(self._order)[tuple(cut[1] for cut in cuts)]

    def _indexes(self, lo: int, hi: int) -> Iterator[Index]:
        """The grid indexes elements [lo, hi) touch, each once, in the order they are read."""
        seen = set()
        for box_lo, box_hi in boxes(self._shape, lo, hi):
            for cuts in product(*self._cuts(box_lo, box_hi)):
                index = self._index(cuts)
                if index not in seen:
                    seen.add(index)
                    yield index

    def _index(self, cuts: tuple[_Cut, ...]) -> Index:
        return tuple(cuts[d][0] for d in self._back)

    def _cuts(self, box_lo: Index, box_hi: Index) -> list[list[_Cut]]:
        return [
            _cut(origin + lo, origin + hi, chunk)
            for origin, lo, hi, chunk in zip(
                self._start, box_lo, box_hi, self._chunks, strict=True
            )
        ]


def _cut(lo: int, hi: int, chunk: int) -> list[_Cut]:
    """[lo, hi) of one axis, cut by chunks of `chunk`."""
    cuts = []
    at = lo
    while at < hi:
        i, skip = divmod(at, chunk)
        n = min(chunk - skip, hi - at)
        cuts.append((i, slice(skip, skip + n), slice(at - lo, at - lo + n)))
        at += n
    return cuts


def boxes(shape: Shape, lo: int, hi: int) -> Iterator[tuple[Index, Index]]:
    """Elements [lo, hi) of an array of `shape` in C order, as at most 2·ndim-1 boxes in order."""
    if lo >= hi:
        return
    if not shape:
        yield (), ()
        return
    if len(shape) == 1:
        yield (lo,), (hi,)
        return
    inner = prod(shape[1:])
    first, head = divmod(lo, inner)
    last, tail = divmod(hi, inner)
    if first == last:
        yield from _below(first, boxes(shape[1:], head, tail))
        return
    if head:
        yield from _below(first, boxes(shape[1:], head, inner))
        first += 1
    if first < last:
        yield (first, *(0 for _ in shape[1:])), (last, *shape[1:])
    if tail:
        yield from _below(last, boxes(shape[1:], 0, tail))


def _below(i: int, inner: Iterator[tuple[Index, Index]]) -> Iterator[tuple[Index, Index]]:
    for lo, hi in inner:
        yield (i, *lo), (i + 1, *hi)


def _is_run(box: Shape, shape: Shape) -> bool:
    """Whether a box of `box` is one run of an array of `shape`, whole rows at least."""
    partial = next((d for d, n in enumerate(box) if n > 1), len(box) - 1)
    return box[partial + 1 :] == shape[partial + 1 :] and box[-1:] == shape[-1:]


def _tile(pattern: Bytes, skip: int, target: Bytes) -> None:
    """Fill `target` with the endless repetition of `pattern`, from its byte `skip` on."""
    if not pattern.any():
        target[:] = 0
        return
    phase = skip % len(pattern)
    count = -(-(phase + len(target)) // len(pattern))
    target[:] = np.tile(pattern, count)[phase : phase + len(target)]
