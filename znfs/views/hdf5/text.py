"""Strings: references where elements are, and the global heap collections they refer to.

Strings of fixed length would do for HDF5's own tools, but netCDF-C writes beyond its buffers when
it reads them, and h5py gives them as bytes. A numpy string has a greatest length, so that every
collection has a place of its own, whose size is arithmetic like all else; what it holds is made
when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from znfs.array import Array
from znfs.errors import ChunkError
from znfs.extents import Bytes, Records
from znfs.views.hdf5 import datatypes
from znfs.views.hdf5.heap import Collection
from znfs.views.hdf5.pieces import ConvertedBlocks, Pieces, elements

_COLLECTION_BYTES = 64 << 10  # about what a reader of one string reads


class TextBlocks(ConvertedBlocks):
    """All references, a chunk's every `stride` bytes; then all collections, chunk by chunk."""

    def __init__(
        self, array: Array, pieces: Pieces, stride: int, address: Callable[[], int]
    ) -> None:
        super().__init__(array, pieces, datatypes.TEXT, stride)
        self._address = address
        self._references = self.size
        self._elements = prod(pieces.chunk)
        self._part_elements = prod(self._part)
        longest = array.meta.dtype.itemsize  # UTF-8 takes at most numpy's 4 bytes a character
        fit = _COLLECTION_BYTES // Collection.size_of(1, longest)
        self._each = max(1, min(fit, self._elements, Collection.MOST_OBJECTS))
        self._collection = Collection.size_of(self._each, longest)
        self._per_chunk = -(-self._elements // self._each)
        self._heap = Records(prod(pieces.grid) * self._per_chunk, self._collection, self._make)
        self.size += self._heap.size

    def read_into(self, start: int, out: memoryview) -> None:
        head = max(0, min(len(out), self._references - start))
        if head:
            super().read_into(start, out[:head])
        if head < len(out):
            self._heap.read_into(start + head - self._references, out[head:])

    def prefetch(self, start: int, stop: int) -> None:
        if start < self._references:
            super().prefetch(start, min(stop, self._references))

    def _copy(
        self, number: int, part: int, view: np.ndarray[Any, Any], start: int, target: Bytes
    ) -> None:
        size = datatypes.TEXT.itemsize
        lo, hi = start // size, -(-(start + len(target)) // size)
        at = np.arange(lo, hi) + part * self._part_elements
        values = np.zeros(hi - lo, datatypes.TEXT)
        values["length"] = np.char.str_len(_encoded(view, lo, hi))
        collections = number * self._per_chunk + at // self._each
        values["collection"] = self._address() + self._references + collections * self._collection
        values["index"] = at % self._each + 1
        target[:] = values.view(np.uint8)[start - lo * size :][: len(target)]

    def _make(self, i: int) -> bytes:
        """The `i`-th collection."""
        number, place = divmod(i, self._per_chunk)
        at = place * self._each
        over = min(at + self._each, self._elements)
        texts: list[bytes] = []
        while at < over:
            part, skip = divmod(at, self._part_elements)
            n = min(self._part_elements - skip, over - at)
            view = self._view(self._index(number, part))
            texts += _encoded(view, skip, skip + n).tolist()
            at += n
        return Collection(texts).encode(self._collection)


def _encoded(view: np.ndarray[Any, Any], lo: int, hi: int) -> np.ndarray[Any, Any]:
    """Elements [lo, hi) of a chunk in UTF-8."""
    out = datatypes.encoded(elements(view, lo, hi))
    letters = out.view(np.uint8).reshape(len(out), -1)
    if (np.count_nonzero(letters, axis=1) != np.char.str_len(out)).any():
        raise ChunkError("text with a NUL inside, where C would end it")
    return out
