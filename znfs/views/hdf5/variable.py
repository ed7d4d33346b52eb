"""Elements of variable length: references where elements are, and the heap they refer to.

Each chunk of the store has a *window* of the file for the global heap collections of its elements.
How large a window is, metadata tells: as large as the collections can be. Which collection holds an
element, its number tells; where in the window that collection begins, and what it holds, the chunk,
once it is read.

numpy's strings of fixed length are stored so too. Fixed ones would do for HDF5's own tools, but
netCDF-C writes beyond its buffers when it reads them, and h5py gives them as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from znfs.arrays.array import Array, flat_bytes
from znfs.arrays.extents import touched
from znfs.cache.memory import Bytes
from znfs.meta import Index
from znfs.node import Extent
from znfs.views.hdf5.heap import ELEMENT, WORD, Collection, encode_collection
from znfs.views.hdf5.items import Integers, Items, items, most_words, usual_nbytes
from znfs.views.hdf5.pieces import PieceBlocks, Pieces
from znfs.views.hdf5.structures import PAGE, align

# What a collection's elements take if each takes what there is room for: about what a reader of one
# string reads.
_COLLECTION_BYTES = 64 << 10
_LARGE = 1 << 20  # bytes of a collection, from which on it is kept


class Heap:
    """How a chunk's elements fill collections, and how these fill its window of `window` bytes.

    Raises Unsupported if fill values would not fit.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        count = prod(array.meta.clipped_chunk)
        fit = _COLLECTION_BYTES // Collection.taken(usual_nbytes(array.meta))
        self._each = max(1, min(fit, count, Collection.MOST_OBJECTS))
        collections = -(-count // self._each)
        self._bounds = np.minimum(np.arange(collections + 1) * self._each, count)
        headers = Collection.HEADER * (collections + count)
        # What empty elements lack to a collection's least size; and the last, which has fewer.
        lack = collections * max(0, PAGE - Collection.HEADER * (1 + self._each)) + PAGE
        self.window = align(WORD * most_words(array.meta) + headers + lack, PAGE)

    def items(self, index: Index | None) -> Items:
        """The elements of the chunk at `index`. Raises as Array.load does."""
        return items(self._array, index)

    def references(self, chunk: Items, lo: int, hi: int, address: int) -> Integers:
        """Elements [lo, hi) as HDF5 has them, of a chunk whose window is at `address`."""
        numbers = np.arange(lo, hi)
        values = np.zeros(hi - lo, ELEMENT)
        values["length"], _ = chunk.read(lo, hi)
        values["collection"] = address + self._offsets(chunk)[numbers // self._each]
        values["index"] = numbers % self._each + 1
        return values

    def read_into(self, index: Index | None, start: int, target: Bytes) -> None:
        """Bytes of the window of the chunk at `index`, from `start` on. Raises as Array.load."""
        chunk = self.items(index)
        offsets = self._offsets(chunk)
        at = 0
        while at < len(target):
            i = int(np.searchsorted(offsets, start + at, "right")) - 1
            if i == len(offsets) - 1:  # behind the last one
                target[at:] = 0
                return
            skip = start + at - int(offsets[i])
            part = self._collection(index, chunk, i, int(offsets[i + 1] - offsets[i]))[skip:]
            part = part[: len(target) - at]
            target[at : at + len(part)] = part
            at += len(part)

    def _offsets(self, chunk: Items) -> Integers:
        """Where collections begin in the window, and the last one ends."""
        words = np.diff(chunk.starts(self._bounds))
        headers = Collection.HEADER * (1 + np.diff(self._bounds))
        sizes = np.maximum(PAGE, headers + WORD * words)
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        assert offsets[-1] <= self.window
        return offsets

    def _collection(self, index: Index | None, chunk: Items, i: int, size: int) -> Bytes:
        def encode() -> Bytes:
            lengths, words = chunk.read(*self._bounds[i : i + 2].tolist())
            return encode_collection(lengths, words, size)

        if size <= _LARGE:
            return encode()
        # Long elements. Who reads them in pieces would have all made anew for each.
        key = self._array.key("collection", index, i, size)
        found: Bytes = self._array.cache.get(key, size, encode)
        return found


class References(PieceBlocks):
    """The references of HDF5's chunks. `window(number, part)` is the address of a window."""

    def __init__(
        self,
        array: Array,
        pieces: Pieces,
        stride: int,
        heap: Heap,
        window: Callable[[int, int], int],
    ) -> None:
        part_nbytes = prod(array.meta.clipped_chunk) * ELEMENT.itemsize
        super().__init__(array, pieces, part_nbytes, pieces.nbytes, stride)
        self._heap = heap
        self._window = window

    def _copy(self, number: int, part: int, start: int, target: Bytes) -> None:
        lo, hi, where = touched(start, start + len(target), ELEMENT.itemsize)
        chunk = self._heap.items(self._index(number, part))
        values = self._heap.references(chunk, lo, hi, self._window(number, part))
        target[:] = flat_bytes(values)[where]


class Windows(PieceBlocks):
    """The windows of the chunks that HDF5's chunks are made of."""

    def __init__(self, array: Array, pieces: Pieces, heap: Heap) -> None:
        nbytes = pieces.merge * heap.window
        super().__init__(array, pieces, heap.window, nbytes, nbytes)
        self._heap = heap

    def _copy(self, number: int, part: int, start: int, target: Bytes) -> None:
        self._heap.read_into(self._index(number, part), start, target)


class Interleaved:
    """Each HDF5 chunk's references, then its windows: who reads the file in order needs each of the
    store's chunks once."""

    def __init__(self, references: References, windows: Windows) -> None:
        self._references = references
        self._windows = windows
        self.stride = references.stride + windows.stride
        self.size = references.size + windows.size

    def read_into(self, start: int, out: memoryview) -> None:
        for extent, at, lo, hi in self._runs(start, start + len(out)):
            extent.read_into(at, out[lo - start : hi - start])

    def prefetch(self, start: int, stop: int) -> None:
        for extent, at, lo, hi in self._runs(start, stop):
            extent.prefetch(at, at + hi - lo)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[PieceBlocks, int, int, int]]:
        """[start, stop) as runs [lo, hi), each of one extent from its byte `at` on."""
        first = self._references.stride
        lo = start
        while lo < stop:
            number, skip = divmod(lo, self.stride)
            extent, begins = (self._references, 0) if skip < first else (self._windows, first)
            skip -= begins
            hi = min(stop, lo + extent.stride - skip)
            yield extent, number * extent.stride + skip, lo, hi
            lo = hi


def variable_data(
    array: Array, pieces: Pieces, address: Callable[[], int], *, dense: bool
) -> tuple[list[Extent], int]:
    """The data of a dataset that is to stand at `address()`, and the stride of its chunks.

    If they are `dense`, nothing lies between chunks. Raises Unsupported.
    """
    heap = Heap(array)
    windows = Windows(array, pieces, heap)
    stride = pieces.nbytes if dense else align(pieces.nbytes, PAGE)
    first, each = stride, stride + windows.stride
    if dense:
        first, each = pieces.count * stride, windows.stride

    def window(number: int, part: int) -> int:
        return address() + first + number * each + part * heap.window

    references = References(array, pieces, stride, heap, window)
    if dense:
        return [references, windows], stride
    both = Interleaved(references, windows)
    return [both], both.stride
