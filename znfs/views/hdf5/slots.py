"""Fixed slots: the file of a group with too much below it to read at once.

A group's region holds its header and links, then a slot of 2^R bytes for each child, R being the
largest for which all fit. A child's header, index and data are made when its slot is first read,
so addresses depend on names and their number alone. A child that is neither array nor group, or
does not fit its slot, is an empty group whose attribute `znfs_left_out` says why.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from cachetools import LRUCache

from znfs import deadline
from znfs.arrays.array import Array, Group
from znfs.arrays.extents import Literal, Zeros, as_bytes, by_stride
from znfs.errors import Denied, Stale, StoreError, Unsupported
from znfs.meta import brief
from znfs.node import Extent, File
from znfs.views import TOO_LONG, fits
from znfs.views.hdf5.objects import Dataset, GroupObject, dataset, group_object, link_name
from znfs.views.hdf5.plan import Placement
from znfs.views.hdf5.storage import Layout
from znfs.views.hdf5.structures import PAGE, align
from znfs.views.hdf5.superblock import SIZE, superblock
from znfs.views.hdf5.walk import AT_ONCE, MOST_DESCENDANTS, child

FILE_SIZE = 1 << 62
LEFT_OUT = "znfs_left_out"

_MOST_OPEN = 512  # children of one group whose headers are kept


class _Read:
    """The versions in which children were read, of the last as many as a look at a file may ask
    for; and how often one of them was found to have another. Addresses tell nothing of that."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes = 0
        self._versions: LRUCache[tuple[str, str], tuple[Group, str]] = LRUCache(MOST_DESCENDANTS)

    def note(self, group: Group, name: str, version: str) -> bool:
        """The child has this version. False if it had another one."""
        key = group.path, name
        with self.lock:
            before = self._versions.get(key)
            same = before is None or before[1] == version
            self.changes += not same
            self._versions[key] = group, version
        return same

    def look(self) -> None:
        """Note which versions they all have now, unless the store does not answer."""
        with self.lock:
            names = [(group, name) for (_, name), (group, _) in self._versions.items()]
        with ThreadPoolExecutor(AT_ONCE, "znfs-hdf5-slots") as pool:
            present = deadline.carried(_present)
            found = list((pool.map if len(names) > 1 else map)(present, names))
        for (group, name), version in zip(names, found, strict=True):
            if version is not None:
                self.note(group, name, version)


class SlotFile(File):
    """The file of a group. When a child turns out to have changed, so does `version`."""

    has_gaps = True
    remembers = True

    def __init__(self, group: Group, layout: Layout) -> None:
        self._group = group
        self._read = _Read()
        names = _sorted_names(group)
        super().__init__(_region(group, names, 0, FILE_SIZE, layout, self, SIZE), "", group.mtime)
        self._names = _digest(names)
        self._set_version()

    @property
    def changes(self) -> int:
        """How many changes of children were found."""
        return self._read.changes

    def note(self, group: Group, name: str, version: str) -> None:
        """A child is read in this version. Raises Stale if it had another one before."""
        if not self._read.note(group, name, version):
            self._set_version()
            raise Stale(f"{group.path}/{name}: changed")

    def after(self, before: File) -> File:
        if not isinstance(before, SlotFile):
            return self
        before._read.look()
        before._set_version()
        if before._group is self._group and before._names == self._names:
            return before
        self._read = before._read
        self._set_version()
        return self

    def left_out(self) -> Iterator[tuple[str, str]]:
        """Paths of all that has no place in the file, and why. Raises Denied, StoreError."""
        for extent in self._extents:
            if isinstance(extent, _Slots):
                yield from extent.left_out()

    def _set_version(self) -> None:
        with self._read.lock:  # else an earlier change may set its version last
            self.version = f"{self._group.version}.{self._names}.{self._read.changes}"


def slot_bits(group: Group, layout: Layout) -> int:
    """R of the group's own children when the group has a file to itself."""
    names = _sorted_names(group)
    placed, _ = _place_group(group, names, SIZE, layout)
    return _bits(FILE_SIZE - align(placed.end, PAGE), len(names))


def _sorted_names(group: Group) -> list[str]:
    return sorted(filter(fits, group.names()), key=link_name)


def _digest(names: list[str]) -> str:
    """What tells these names from others; a group may have many."""
    text = "\0".join(names).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _bits(room: int, count: int) -> int:
    """The largest R for which `count` slots of 2^R bytes fit; -1 if none does."""
    return (room // max(1, count)).bit_length() - 1 if room > 0 else -1


def _place_group(
    group: Group, names: list[str], base: int, layout: Layout
) -> tuple[Placement, GroupObject]:
    placed = Placement(base)
    this = group_object(group, layout)
    placed.add_group(this, [link_name(name) for name in names])
    placed.place_heap()
    return placed, this


def _region(
    group: Group,
    names: list[str],
    base: int,
    size: int,
    layout: Layout,
    file: SlotFile,
    reserve: int = 0,
) -> list[Extent]:
    """A group of `file` that owns [base, base + size); the superblock takes `reserve` bytes of it.

    Raises Unsupported if that is too small.
    """
    placed, this = _place_group(group, names, base + reserve, layout)
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
        extents.append(_Slots(group, names, first, bits, layout, file))
    return [*extents, Zeros(base + size - first - (len(names) << bits))]


class _Slots:
    """The slots of a group's children, in `file`."""

    def __init__(
        self,
        group: Group,
        names: list[str],
        first: int,
        bits: int,
        layout: Layout,
        file: SlotFile,
    ) -> None:
        self._group = group
        self._names = names
        self._first = first
        self._bits = bits
        self._layout = layout
        self._file = file
        self._made: dict[int, int] = {}  # of children that were read: after how many changes
        self._open = lru_cache(_MOST_OPEN)(self._make)
        self.size = len(names) << bits

    def read_into(self, start: int, out: memoryview) -> None:
        for k, lo, hi, at in by_stride(start, start + len(out), 1 << self._bits):
            end = at + hi - lo
            got = self._open(k, self._file.changes).read_into(lo, out[at:end])
            as_bytes(out)[at + got : end] = 0

    def prefetch(self, start: int, stop: int) -> None:
        """Only within one slot, whose child a read has made before."""
        k, skip = divmod(start, 1 << self._bits)
        changes = self._file.changes
        if self._made.get(k) == changes and stop <= (k + 1) << self._bits:
            self._open(k, changes).prefetch(skip, skip + stop - start)

    def ahead(self, start: int) -> Iterator[range]:
        """See Spaced: within one slot, whose child a read has made before."""
        k, skip = divmod(start, 1 << self._bits)
        changes = self._file.changes
        if self._made.get(k) == changes:
            for part in self._open(k, changes).ahead(skip):
                yield range(start - skip + part.start, start - skip + part.stop)

    def left_out(self) -> Iterator[tuple[str, str]]:
        """See SlotFile."""
        for name in self._group.names():
            if not fits(name):
                yield brief(name), TOO_LONG
        for k, name in enumerate(self._names):
            try:
                extents = self._extents(child((self._group, name)), k)
            except Unsupported as error:
                yield name, str(error)
                continue
            for extent in extents:
                if isinstance(extent, _Slots):
                    yield from ((f"{name}/{path}", why) for path, why in extent.left_out())

    def _make(self, k: int, changes: int) -> File:
        """The slot, as it is after so many changes."""
        name = self._names[k]
        found = child((self._group, name))
        version = _version(found)
        self._file.note(self._group, name, version)
        try:
            extents = self._extents(found, k)
        except Unsupported as error:
            this = _stand_in(str(error), self._layout)
            extents = _object(this, self._first + (k << self._bits))
        self._made[k] = changes
        return File(extents, version)

    def _extents(self, found: Array | Group | Unsupported, k: int) -> list[Extent]:
        """What stands in a slot. Raises Unsupported."""
        base, size = self._first + (k << self._bits), 1 << self._bits
        if isinstance(found, Unsupported):
            raise found
        if isinstance(found, Group):
            return _region(found, _sorted_names(found), base, size, self._layout, self._file)
        extents = _object(dataset(found, self._layout), base)
        if sum(e.size for e in extents) > size:
            raise Unsupported(f"larger than its slot of {size} bytes")
        return extents


def _version(found: Array | Group | Unsupported) -> str:
    """Changes whenever what stands in the child's slot does."""
    if isinstance(found, Unsupported):
        return str(found)
    if isinstance(found, Group):
        return f"{found.version}.{_digest(_sorted_names(found))}"
    return found.version


def _present(at: tuple[Group, str]) -> str | None:
    """The version of a child now; None if that cannot be told."""
    try:
        return _version(child(at))
    except (Denied, StoreError):
        return None


def _object(this: Dataset | GroupObject, base: int) -> list[Extent]:
    placed = Placement(base)
    placed.add(this)
    placed.place_data()
    return placed.extents()


def _stand_in(reason: str, layout: Layout) -> GroupObject:
    return GroupObject({LEFT_OUT: reason}, characters=layout.characters)
