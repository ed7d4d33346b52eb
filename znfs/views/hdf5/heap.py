"""The local heap (specification III.D) and the global heap (III.E)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from znfs.views.hdf5.structures import PAGE, align, pad8

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


Late = Callable[[], bytes]  # bytes that are known once addresses are


class HeapObject:
    """One object of a collection."""

    def __init__(self, collection: _Collection, index: int) -> None:
        self._collection = collection
        self._index = index

    def reference(self, length: int) -> bytes:
        """A variable-length element of `length` items that are this object."""
        return struct.pack("<IQI", length, self._collection.address, self._index)


class _Collection:
    HEADER = 16
    MOST_OBJECTS = 0xFFFF  # an object's index is a 2-byte field

    def __init__(self) -> None:
        self.address = 0
        self.used = self.HEADER
        self.objects: list[bytes | Late] = []

    @property
    def size(self) -> int:
        return max(PAGE, self.used)  # 4096 is the specification's minimum

    def encode(self) -> bytes:
        out = bytearray(struct.pack("<4sB3xQ", b"GCOL", 1, self.size))
        for index, item in enumerate(self.objects, 1):
            data = item if isinstance(item, bytes) else item()
            out += struct.pack("<HH4xQ", index, 1, len(data)) + pad8(data)
        free = self.size - len(out)
        if free >= self.HEADER:
            out += struct.pack("<HH4xQ", 0, 0, free)
        return bytes(out.ljust(self.size, b"\0"))


class GlobalHeap:
    """Values of variable length: collections of at least 4096 bytes, filled one after another.

    Equal bytes are kept once. An object that does not fit a collection of the least size has one
    to itself, so that a reader of a short text does not fetch a long one.
    """

    def __init__(self) -> None:
        self._collections: list[_Collection] = []
        self._open: _Collection | None = None
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
        needed = _Collection.HEADER + align(size, 8)
        if _Collection.HEADER + needed > PAGE:
            target = _Collection()
            self._collections.append(target)
        else:
            if self._open is None or self._open.used + needed > PAGE:
                self._open = _Collection()
                self._collections.append(self._open)
            target = self._open
        target.objects.append(item)
        target.used += needed
        return HeapObject(target, len(target.objects))

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
