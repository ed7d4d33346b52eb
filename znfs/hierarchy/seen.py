"""What looks at paths showed, how long that stands, and whose turn it is to look.

Atomic under the lock: what is kept of a look, with whether a refresh came since it began. Looks run
outside it, one at a time for each path.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from cachetools import LRUCache

from znfs import deadline
from znfs.arrays.array import Group
from znfs.errors import ZnfsError
from znfs.hierarchy.nodes import HierarchyNode
from znfs.hierarchy.paths import relative

# Nodes remembered; one takes 2-5 kB.
_MOST_NODES = 16_384
_MOST_FAILURES = 1024

Stamps = tuple[tuple[str, str], ...]  # keys of documents, and their versions


@dataclass
class Seen:
    """What a look at a path showed; times are monotonic seconds.

    It stands until `until`, `ttl` after the look ended; for who asks for no older look, if it
    `checked` late enough. If the store did not answer when it was to be checked again, it is used
    nevertheless until it is no longer `excused` (HTTP: stale-if-error).
    """

    node: HierarchyNode | None  # None: there is nothing
    checked: float  # when the look began, or the older one at the metadata that it is taken from
    until: float = 0.0
    excused: float = 0.0
    scope: Group | None = None  # nearest group, this node or above it, with consolidated metadata
    above: Seen | None = None  # what was seen above it, which the LRU may have dropped
    documents: tuple[str, ...] = ()  # names of those that make the node
    stamps: Stamps = ()  # of its own documents

    def consolidated(self, path: str) -> Mapping[str, bytes]:
        """The documents of the node at `path`, in its scope, by the scope's metadata."""
        if self.scope is None or self.scope.meta.consolidated is None:
            return {}
        return self.scope.meta.consolidated.get(relative(path, self.scope.path), {})

    def consolidated_below(self, path: str) -> frozenset[str] | None:
        """Names directly below `path`, in its scope, by the scope's metadata; None without one."""
        if self.scope is None:
            return None
        return self.scope.meta.names_below.get(relative(path, self.scope.path), frozenset())

    def instead(self, since: float | None) -> Seen | None:
        """What may stand in for a look that fails: a node, unless one `since` then is asked for."""
        return self if self.node is not None and since is None else None


@dataclass(frozen=True)
class Failure:
    """A look that failed: its error is that of all who waited meanwhile, and of those who come
    for as long again. The kernel sends look-ups of a name one after another, and each would wait.
    """

    error: ZnfsError
    ended: float
    until: float

    def stands(self, arrived: float) -> bool:
        """Whether it is the answer for who `arrived` then."""
        return self.ended > arrived or time.monotonic() < self.until


class Sightings:
    """What was seen last, by path. Safe for many threads."""

    def __init__(self) -> None:
        self.generation = 0  # counts what was forgotten
        self._seen: LRUCache[str, Seen] = LRUCache(_MOST_NODES)
        self._failed: LRUCache[str, Failure] = LRUCache(_MOST_FAILURES)
        self._lock = threading.Lock()
        # Who looks at a path, and who waits for that, has its lock; when nobody has, it goes.
        self._looking: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def at(self, path: str) -> Seen | None:
        """What the last look at `path` showed, however long ago it was."""
        with self._lock:
            return self._seen.get(path)

    def fresh(self, path: str, since: float | None) -> Seen | None:
        """That, if it is to be used without another look; with `since`, if it is no older."""
        seen = self.at(path)
        if seen is None:
            return None
        if since is not None:
            return seen if seen.checked >= since else None
        now = time.monotonic()
        return seen if max(seen.until, seen.excused) > now and self._scope_stands(seen) else None

    def _scope_stands(self, seen: Seen) -> bool:
        if seen.scope is None or seen.scope is seen.node:
            return True
        top = self.at(seen.scope.path)
        return top is None or top.node is seen.scope

    def keep(self, path: str, seen: Seen, generation: int) -> bool:
        """Remember what a look showed; False, and it is not, if it began in another generation."""
        with self._lock:
            if generation != self.generation:
                return False
            self._seen[path] = seen
            return True

    def fail(self, path: str, failure: Failure) -> None:
        """Remember that a look failed."""
        with self._lock:
            self._failed[path] = failure

    def spared(
        self, path: str, known: Seen | None, above: Seen | None, arrived: float
    ) -> Seen | None:
        """What is `known`, if the store did not answer just now and is not to be asked again.
        Raises the error that it gave then, if nothing is."""
        with self._lock:
            failure = self._failed.get(path)
        if failure is not None and failure.stands(arrived):
            if known is None:
                raise failure.error.with_traceback(None)  # else it grows with every raise
            return replace(known, excused=failure.until)
        if known is not None and above is not None and above.excused > time.monotonic():
            # Who reads below a node that cannot be checked waits for that once, not at every level
            # of the path.
            return replace(known, excused=above.excused)
        return None

    def forget(self, begin: Callable[[], None]) -> None:
        """Forget all, and `begin` a new generation: nothing of the one before is kept from then."""
        with self._lock:
            begin()
            self.generation += 1
            self._seen.clear()
            self._failed.clear()

    @contextmanager
    def turn(self, path: str) -> Iterator[bool]:
        """With this thread the only one that looks at `path`; False if others took too long."""
        with self._lock:
            lock = self._looking.setdefault(path, threading.Lock())
        wait = deadline.wait()
        is_ours = lock.acquire(timeout=-1 if wait is None else wait)
        try:
            yield is_ours
        finally:
            if is_ours:
                lock.release()
