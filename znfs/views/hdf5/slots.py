"""Fixed slots: the file of a group with too much below it to read at once.

A group's region holds its header and links, then a slot of 2^R bytes for each child, R being the
largest for which all fit. A child's header, index and data are made when its slot is first read,
so addresses depend on names and their number alone. A child that is neither array nor group, or
does not fit its slot, is an empty group whose attribute `znfs_left_out` says why.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from znfs.array import Array, Group
from znfs.errors import Denied, Stale, Unsupported
from znfs.extents import Literal, Zeros
from znfs.node import Extent, File
from znfs.views.hdf5.objects import Dataset, GroupObject, dataset, link_name
from znfs.views.hdf5.plan import Placement
from znfs.views.hdf5.storage import Layout
from znfs.views.hdf5.structures import PAGE, align
from znfs.views.hdf5.superblock import SIZE, superblock

FILE_SIZE = 1 << 62
LEFT_OUT = "znfs_left_out"

_MOST_OPEN = 512  # children of one group whose headers are kept


class SlotFile(File):
    """The file of a group. When a child turns out to have changed, so does `version`."""

    has_gaps = True

    def __init__(self, group: Group, layout: Layout) -> None:
        self._group = group
        self._lock = threading.Lock()
        self._changes = 0
        names = _sorted_names(group)
        extents = _region(group, names, 0, FILE_SIZE, layout, self._changed, SIZE)
        super().__init__(extents, "", group.mtime)
        self._names = _digest(names)
        self._set_version()

    def _changed(self) -> None:
        with self._lock:  # else an earlier change may set its version last
            self._changes += 1
            self._set_version()

    def _set_version(self) -> None:
        self.version = f"{self._group.version}.{self._names}.{self._changes}"


def slot_bits(group: Group) -> int:
    """R of the group's own children when the group has a file to itself."""
    names = _sorted_names(group)
    placed, _ = _place_group(group, names, SIZE)
    return _bits(FILE_SIZE - align(placed.end, PAGE), len(names))


def _sorted_names(group: Group) -> list[str]:
    return sorted(group.names(), key=link_name)


def _digest(names: list[str]) -> str:
    """What tells these names from others; a group may have many."""
    text = "\0".join(names).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _bits(room: int, count: int) -> int:
    """The largest R for which `count` slots of 2^R bytes fit; -1 if none does."""
    return (room // max(1, count)).bit_length() - 1 if room > 0 else -1


def _place_group(group: Group, names: list[str], base: int) -> tuple[Placement, GroupObject]:
    placed = Placement(base)
    this = GroupObject(group.meta.attributes)
    placed.add_group(this, [link_name(name) for name in names])
    placed.place_heap()
    return placed, this


def _region(
    group: Group,
    names: list[str],
    base: int,
    size: int,
    layout: Layout,
    changed: Callable[[], None],
    reserve: int = 0,
) -> list[Extent]:
    """A group that owns [base, base + size); the superblock takes `reserve` bytes of it.

    Raises Unsupported if that is too small.
    """
    placed, this = _place_group(group, names, base + reserve)
    first = align(placed.end, PAGE)
    bits = _bits(base + size - first, len(names))
    if bits < PAGE.bit_length():
        raise Unsupported(f"{len(names)} children do not fit in {size} bytes")
    placed.link(this, [first + (k << bits) for k in range(len(names))])
    extents = [*placed.extents(), Zeros(first - placed.end)]
    if reserve:
        table = placed.table(this)
        head = superblock(this.address, table.address, table.heap_address, base + size)
        extents.insert(0, Literal(head))
    if names:
        extents.append(_Slots(group, names, first, bits, layout, changed))
    return [*extents, Zeros(base + size - first - (len(names) << bits))]


class _Slots:
    """The slots of a group's children."""

    def __init__(
        self,
        group: Group,
        names: list[str],
        first: int,
        bits: int,
        layout: Layout,
        changed: Callable[[], None],
    ) -> None:
        self._group = group
        self._names = names
        self._first = first
        self._bits = bits
        self._layout = layout
        self._changed = changed
        self._versions: dict[int, str] = {}
        self._open = lru_cache(_MOST_OPEN)(self._make)
        self.size = len(names) << bits

    def read_into(self, start: int, out: memoryview) -> None:
        at = 0
        while at < len(out):
            k, skip = divmod(start + at, 1 << self._bits)
            n = min((1 << self._bits) - skip, len(out) - at)
            got = self._open(k).read_into(skip, out[at : at + n])
            if got < n:
                np.frombuffer(out, np.uint8)[at + got : at + n] = 0
            at += n

    def prefetch(self, start: int, stop: int) -> None:
        """Only within one slot, whose child a read has made before."""
        k, skip = divmod(start, 1 << self._bits)
        if k in self._versions and stop <= (k + 1) << self._bits:
            self._open(k).prefetch(skip, skip + stop - start)

    def ahead(self, start: int) -> Iterator[range]:
        """See Spaced: within one slot, whose child a read has made before."""
        k, skip = divmod(start, 1 << self._bits)
        if k in self._versions:
            for part in self._open(k).ahead(skip):
                yield range(start - skip + part.start, start - skip + part.stop)

    def _make(self, k: int) -> File:
        base, size = self._first + (k << self._bits), 1 << self._bits
        child = self._child(self._names[k])
        try:
            extents, version = self._extents(child, base, size)
        except Unsupported as error:
            extents, version = _object(_stand_in(str(error)), base), str(error)
        if self._versions.setdefault(k, version) != version:
            self._versions.clear()
            self._open.cache_clear()
            self._changed()
            raise Stale(f"{self._group.path}/{self._names[k]}: changed")
        return File(extents, version)

    def _child(self, name: str) -> Array | Group | Unsupported:
        try:
            return self._group.child(name) or Unsupported("no array or group that can be read")
        except Denied as error:
            return Unsupported(str(error))

    def _extents(
        self, child: Array | Group | Unsupported, base: int, size: int
    ) -> tuple[list[Extent], str]:
        if isinstance(child, Unsupported):
            raise child
        if isinstance(child, Group):
            names = _sorted_names(child)
            extents = _region(child, names, base, size, self._layout, self._changed)
            return extents, f"{child.version}.{_digest(names)}"
        extents = _object(dataset(child, self._layout), base)
        if sum(e.size for e in extents) > size:
            raise Unsupported(f"larger than its slot of {size} bytes")
        return extents, child.version


def _object(this: Dataset | GroupObject, base: int) -> list[Extent]:
    placed = Placement(base)
    placed.add(this)
    placed.place_data()
    return placed.extents()


def _stand_in(reason: str) -> GroupObject:
    return GroupObject({LEFT_OUT: reason})
