"""What the file tree is made of: directories, and files that are lists of extents."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import accumulate
from typing import Protocol

from znfs import forks


def is_encodable(name: str) -> bool:
    """Whether `name` is what Python makes of some bytes, as of every file's name.

    Bytes that are no UTF-8 are lone surrogates there (PEP 383). JSON may hold others, which are no
    character and no byte; or bytes spelt so that would make a character.
    """
    try:
        back = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return back == name


class Extent(Protocol):
    """A run of bytes of a virtual file, computed when read."""

    size: int

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill all of `out` with the extent's bytes from `start` on (`start + len(out) <= size`).

        Raises ZnfsError; `out` then holds nothing of worth.
        """

    def prefetch(self, start: int, stop: int) -> None:
        """Begin loading what a read of [start, stop) would need; never raises, never waits."""


class Spaced(Extent, Protocol):
    """An extent of pieces with gaps between, over which the kernel does not read ahead."""

    def ahead(self, start: int) -> Iterator[range]:
        """The pieces that who reads at `start` will most likely read next, in order, as far as
        they are loaded or being loaded anyway."""


class File:
    """A virtual file: extents one after another.

    `version` changes whenever its bytes may have; `mtime` is in seconds (the metadata's
    Last-Modified, else 0). Safe for many threads. A `live` file is a report made anew at every
    look: its size says nothing to others. A `stored` one is an object of the store as it is.
    One that `has_gaps` may have Spaced extents. One that `remembers` has a version that tells what
    of it was read: one made anew at its path comes `after` it.
    """

    live = False
    stored = False
    has_gaps = False
    remembers = False

    def __init__(self, extents: Sequence[Extent], version: str, mtime: float = 0.0) -> None:
        self._extents = [e for e in extents if e.size]
        self._ends = list(accumulate(e.size for e in self._extents))
        self.size = self._ends[-1] if self._ends else 0
        self.version = version
        self.mtime = mtime
        self._pid = os.getpid()

    def read_into(self, start: int, out: memoryview) -> int:
        """Fill `out` from `start` on; returns how many bytes there were (short at the end)."""
        forks.check(self._pid)
        want = min(len(out), self.size - start)
        if want <= 0:
            return 0
        for extent, lo, hi, at in self._pieces(start, start + want):
            extent.read_into(lo, out[at : at + hi - lo])
        return want

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on, as `pread`."""
        out = bytearray(max(0, min(size, self.size - start)))
        self.read_into(start, memoryview(out))
        return bytes(out)

    def after(self, before: File) -> File:
        """The file to show where one that `remembers` stood `before`: this, or that one still."""
        return self

    def prefetch(self, start: int, stop: int) -> None:
        """Begin loading [start, stop); a hint."""
        for extent, lo, hi, _ in self._pieces(start, min(stop, self.size)):
            extent.prefetch(lo, hi)

    def ahead(self, start: int) -> Iterator[range]:
        """See Spaced: in bytes of the file."""
        for extent, lo, _, _ in self._pieces(start, min(start + 1, self.size)):
            ahead = getattr(extent, "ahead", None)  # isinstance of a protocol takes 10 us
            if ahead is not None:
                for part in ahead(lo):
                    yield range(start - lo + part.start, start - lo + part.stop)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Extent, int, int, int]]:
        i = bisect_right(self._ends, start)
        at = start
        while at < stop:
            extent, end = self._extents[i], self._ends[i]
            base = end - extent.size
            hi = min(stop, end)
            yield extent, at - base, hi - base, at - start
            at, i = hi, i + 1


class Kind(Enum):
    """What a name in a directory is."""

    FILE = "file"
    DIRECTORY = "directory"


class Dir(Protocol):
    """A directory. Its names are arithmetic or metadata, never a LIST of chunks."""

    version: str
    mtime: float

    def names(self, start: int = 0) -> Iterator[str]:
        """The names from the `start`-th on, in a fixed order, one at a time."""

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        """As `names`, and what each will be found to be: who walks a tree need not look at all."""

    def lookup(self, name: str) -> Node | None:
        """The node of that name, listed or not; None if there is none. Raises ZnfsError."""


class Unlisted:
    """What makes a Dir of one whose names are looked up, and never listed."""

    def names(self, start: int = 0) -> Iterator[str]:
        return iter(())

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return iter(())


Node = File | Dir
