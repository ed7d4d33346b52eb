"""What is kept of open files and folders, and of versions that the kernel has seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from znfs.errors import StoreError
from znfs.node import File, Kind

MOST_PATHS = 1 << 16  # paths whose last version is remembered; forgetting one costs one look-up
FAILED_SECONDS = 0.2  # how long a read that the store did not answer is not tried again


class Versions:
    """The last version of a path, for the paths used last. Forgetting one is always safe."""

    def __init__(self, limit: int = MOST_PATHS) -> None:
        self._limit = limit
        self._versions: dict[str, str] = {}
        self._mutex = threading.Lock()

    def set(self, path: str, version: str) -> str | None:
        """Remember; returns what was remembered before."""
        with self._mutex:
            before = self._versions.pop(path, None)
            self._versions[path] = version
            if len(self._versions) > self._limit:
                del self._versions[next(iter(self._versions))]
        return before

    def get(self, path: str) -> str | None:
        return self._versions.get(path)

    def clear(self) -> None:
        with self._mutex:
            self._versions.clear()


@dataclass(slots=True)
class OpenFile:
    """An open file: it shows one version only, which its File may outlive. `own` if the daemon has
    opened it (readahead.py); `drops` until the kernel is known to have dropped the pages of the
    path, for an open that has it do so."""

    path: str
    file: File
    version: str
    own: bool = False
    drops: bool = False
    asked: range = range(0)  # from where a reader was to the end of what was read ahead for it
    failure: tuple[float, int, int, StoreError] | None = None  # when, offset, size, and why

    def unasked(self, file: File, offset: int) -> list[range]:
        """What follows a read at `offset` and should be read ahead, as far as it was not yet."""
        ranges = [part for part in file.ahead(offset) if part.start not in self.asked]
        if ranges:
            self.asked = range(offset, ranges[-1].stop)
        return ranges

    def recall(self, offset: int) -> None:
        """Raise the error of a read a moment ago that covered `offset`: the kernel asks again at
        once for the pages that its look-ahead did not get, and would wait as long again."""
        if self.failure is not None:
            when, start, size, error = self.failure
            if start <= offset < start + size and time.monotonic() - when < FAILED_SECONDS:
                raise error.with_traceback(None)


class OpenDir:
    """An open directory: where its listing stands, so that the next part continues it. `entries` is
    its Dir's."""

    def __init__(self, path: str, entries: Callable[[int], Iterator[tuple[str, Kind]]]) -> None:
        self.path = path
        self._listing = entries
        self._mutex = threading.Lock()
        self._next = -1  # offset of the entry that `_entries` yields next
        self._entries: Iterator[tuple[str, Kind]] = iter(())
        self._held: tuple[bytes, Kind] | None = None  # what did not fit into the last reply

    def fill(self, offset: int, add: Callable[[bytes, Kind, int], int]) -> None:
        """Call `add(name, kind, offset of the next entry)` from `offset` on until it returns
        true."""
        with self._mutex:
            if offset != self._next:
                self._entries, self._held = self._from(offset), None
            self._next = -1  # should a name fail to come, the next call starts afresh
            at = offset
            if self._held is not None:
                at += 1
                add(*self._held, at)  # the buffer is empty: it fits
                self._held = None
            for text, kind in self._entries:
                name = text.encode("utf-8", "surrogateescape")
                if add(name, kind, at + 1):
                    self._held = name, kind
                    break
                at += 1
            self._next = at

    def _from(self, offset: int) -> Iterator[tuple[str, Kind]]:
        dots = islice((".", ".."), min(offset, 2), None)
        entries = self._listing(max(offset - 2, 0))
        return chain(((name, Kind.DIRECTORY) for name in dots), entries)
