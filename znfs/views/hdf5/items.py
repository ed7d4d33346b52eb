"""The elements of variable length of one chunk, whatever kind of block they come from."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

import numpy as np

from znfs.arrays.array import Array
from znfs.codecs.vlen import Packed
from znfs.errors import ChunkError, Unsupported
from znfs.meta import VARIABLE_BYTES, ArrayMeta, Index
from znfs.views.hdf5.conversion import encoded
from znfs.views.hdf5.heap import WORD
from znfs.views.hdf5.pieces import clipped, elements

Integers = np.ndarray[Any, Any]


class Items(Protocol):
    """The elements of a chunk in C order, as far as they lie within the array's shape.

    Each begins at a word of 8 bytes, with zeros up to the next one's.
    """

    def starts(self, at: Integers) -> Integers:
        """The words before each of the elements `at`, if all take the room kept for them."""

    def read(self, lo: int, hi: int) -> tuple[Integers, Integers]:
        """Of elements [lo, hi): lengths in bytes, and words. Raises ChunkError."""


class _OfFixedSize:
    """numpy's strings. UTF-8 takes at most their four bytes a character."""

    def __init__(self, view: np.ndarray[Any, Any]) -> None:
        self._view = view

    def starts(self, at: Integers) -> Integers:
        return at * int(words_of(self._view.dtype.itemsize))

    def read(self, lo: int, hi: int) -> tuple[Integers, Integers]:
        values = encoded(elements(self._view, lo, hi))
        lengths = np.char.str_len(values)
        letters = np.zeros((len(values), WORD * words_of(values.itemsize)), np.uint8)
        letters[:, : values.itemsize] = values.view(np.uint8).reshape(len(values), -1)
        words = letters.view("<u8")
        return lengths, words[np.arange(words.shape[1]) < words_of(lengths)[:, np.newaxis]]


class _OfBlock:
    """What the store's codec for elements of variable length made."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed

    def starts(self, at: Integers) -> Integers:
        return self._packed.starts[at].astype(np.int64)

    def read(self, lo: int, hi: int) -> tuple[Integers, Integers]:
        first, last = self._packed.starts[[lo, hi]].tolist()
        return self._packed.lengths[lo:hi].astype(np.int64), self._packed.words[first:last]


class _Filled:
    """One value throughout."""

    def __init__(self, value: bytes) -> None:
        self._length = len(value)
        self._words = np.frombuffer(value.ljust(WORD * words_of(len(value)), b"\0"), "<u8")

    def starts(self, at: Integers) -> Integers:
        return at * len(self._words)

    def read(self, lo: int, hi: int) -> tuple[Integers, Integers]:
        return np.full(hi - lo, self._length), np.tile(self._words, hi - lo)


class _Text:
    """Text, in which nothing ends a string but its end. `name` is the chunk's in messages."""

    def __init__(self, items: Items, name: str) -> None:
        self._items = items
        self._name = name
        self.starts = items.starts

    def read(self, lo: int, hi: int) -> tuple[Integers, Integers]:
        try:
            lengths, words = self._items.read(lo, hi)
        except ChunkError as error:
            raise ChunkError(f"{self._name}: {error}") from error
        if np.count_nonzero(words.view(np.uint8)) != lengths.sum():
            raise ChunkError(f"{self._name}: text with a NUL inside, where C would end it")
        return lengths, words


def words_of(nbytes: Any) -> Any:
    """How many words so many bytes take."""
    return -(-nbytes // WORD)


def usual_nbytes(meta: ArrayMeta) -> int:
    """Bytes that there is room for of each element, on average."""
    return meta.string_bytes if meta.is_variable else meta.dtype.itemsize


def most_words(meta: ArrayMeta) -> int:
    """Words that the elements of a chunk may take. Raises Unsupported if fill values take more."""
    count = prod(meta.clipped_chunk)
    if not meta.is_variable:
        return count * int(words_of(meta.dtype.itemsize))
    most = meta.most_of_chunk
    if count * len(meta.fill) > most:
        raise Unsupported(
            f"a fill value of {len(meta.fill)} bytes, {count} times in a chunk that has room for "
            f"{most} (--string-bytes)"
        )
    return int(words_of(most)) + count  # each ends with part of a word


def items(array: Array, index: Index | None) -> Items:
    """The elements of the chunk at `index`; fill values for None. Raises as Array.load does."""
    found = _items(array, index)
    return found if array.meta.dtype == VARIABLE_BYTES else _Text(found, _name(array, index))


def _items(array: Array, index: Index | None) -> Items:
    meta = array.meta
    if not meta.is_variable:
        return _OfFixedSize(clipped(array, index))
    block = None if index is None else array.load(index)
    if block is None:
        return _Filled(meta.fill)
    return _OfBlock(Packed(block, prod(meta.clipped_chunk)))


def _name(array: Array, index: Index | None) -> str:
    if index is None or array.meta.is_assembled:
        return array.path or array.name
    return array.chunk_key(index)
