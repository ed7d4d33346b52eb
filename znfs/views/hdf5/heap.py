"""The local heap (specification III.D) and the global heap (III.E)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from znfs.cache.memory import Bytes
from znfs.views.hdf5.structures import PAGE, Late, align, pad8

_NO_FREE_BLOCK = 1  # what libhdf5 writes and expects where the free list is empty


class LocalHeap:
    """The names of a group's links. Offset 0 holds the empty name."""

    HEADER = 32

    def __init__(self, names: list[bytes]) -> None:
        segment = bytearray(8)
        self.offsets = []
        for name in names:
            self.offsets.append(len(segment))
            segment += pad8(name + b"\0")
        self._segment = bytes(segment)
        self.size = self.HEADER + len(segment)

    def encode(self, address: int) -> bytes:
        """Header and data segment, to stand at `address`."""
        header = struct.pack(
            "<4sB3xQQQ", b"HEAP", 0, len(self._segment), _NO_FREE_BLOCK, address + self.HEADER
        )
        return header + self._segment


# An element of variable length (IV.B, "Variable-length"): its length, then a Global Heap ID: where
# the collection is, and which of its objects.
ELEMENT = np.dtype([("length", "<u4"), ("collection", "<u8"), ("index", "<u4")])

WORD = 8  # whatever lies in a collection begins at a multiple of so many bytes


class HeapObject:
    """One object of a collection."""

    def __init__(self, collection: Collection, index: int) -> None:
        self._collection = collection
        self._index = index

    def reference(self, length: int) -> bytes:
        """A variable-length element of `length` items that are this object."""
        return struct.pack("<IQI", length, self._collection.address, self._index)


class Collection:
    """A global heap collection; its objects are counted from 1."""

    HEADER = 16
    MOST_OBJECTS = 0xFFFF  # an object's index is a 2-byte field

    def __init__(self) -> None:
        self.address = 0
        self.used = self.HEADER
        self._objects: list[bytes | Late] = []

    @classmethod
    def taken(cls, nbytes: int) -> int:
        """Bytes that an object takes."""
        return cls.HEADER + align(nbytes, 8)

    @property
    def size(self) -> int:
        return max(PAGE, self.used)  # 4096 is the specification's minimum

    def add(self, item: bytes | Late, nbytes: int) -> HeapObject:
        self._objects.append(item)
        self.used += self.taken(nbytes)
        return HeapObject(self, len(self._objects))

    def encode(self) -> bytes:
        data = [item if isinstance(item, bytes) else item() for item in self._objects]
        lengths = np.array([len(item) for item in data], np.int64)
        words = np.frombuffer(b"".join(map(pad8, data)), "<u8")
        return encode_collection(lengths, words, self.size).tobytes()


def encode_collection(
    lengths: np.ndarray[Any, Any], words: np.ndarray[Any, Any], size: int
) -> Bytes:
    """A global heap collection of `size` bytes, whose objects have `lengths` bytes.

    `words` are the objects' data one after another, each with zeros up to a multiple of 8 bytes.
    What is left is free space, object 0.
    """
    header = Collection.HEADER // WORD  # words, of the collection and of each object
    ends = header + np.cumsum(header + -(-lengths // WORD))
    starts = ends - header - -(-lengths // WORD)
    used = int(ends[-1]) if len(ends) else header
    out = np.zeros(size // WORD, "<u8")
    out[:header] = np.frombuffer(struct.pack("<4sB3xQ", b"GCOL", 1, size), "<u8")
    reference_count = 1
    out[starts] = np.arange(1, len(lengths) + 1) | reference_count << 16
    out[starts + 1] = lengths
    is_data = np.ones(used, np.bool_)
    is_data[:header] = is_data[starts] = is_data[starts + 1] = False
    out[:used][is_data] = words
    free = size - WORD * used
    if free >= Collection.HEADER:
        out[used + 1] = free
    return out.view(np.uint8)


class GlobalHeap:
    """Values of variable length: collections of at least 4096 bytes, filled one after another.

    Equal bytes are kept once. An object that does not fit a collection of the least size has one
    to itself, so that a reader of a short text does not fetch a long one.
    """

    def __init__(self) -> None:
        self._collections: list[Collection] = []
        self._open: Collection | None = None
        self._known: dict[bytes, HeapObject] = {}

    def add(self, data: bytes) -> HeapObject:
        """Keep `data`."""
        found = self._known.get(data)
        if found is None:
            found = self._known[data] = self._add(data, len(data))
        return found

    def add_late(self, size: int, data: Late) -> HeapObject:
        """Keep `size` bytes that are asked for when the heap is encoded."""
        return self._add(data, size)

    def _add(self, item: bytes | Late, size: int) -> HeapObject:
        if Collection.HEADER + Collection.taken(size) > PAGE:
            target = Collection()
            self._collections.append(target)
        else:
            if self._open is None or self._open.used + Collection.taken(size) > PAGE:
                self._open = Collection()
                self._collections.append(self._open)
            target = self._open
        return target.add(item, size)

    @property
    def size(self) -> int:
        return sum(c.size for c in self._collections)

    def place(self, address: int) -> None:
        """Fix the addresses; references are right from then on."""
        for collection in self._collections:
            collection.address = address
            address += collection.size

    def encode(self) -> bytes:
        """All collections, to stand where they were placed."""
        return b"".join(c.encode() for c in self._collections)
