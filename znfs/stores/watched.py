"""A store over a store: counts what is asked, and spares a dead store's callers the waiting.

A request has a deadline: what its operation has left, and no longer than a request ever has. One
that got no answer, while nothing else was heard from the store either, makes it suspect: others are
then given a quarter of the time. If they get no answer either, it is taken for dead. From then on
all fail at once, but for one that tries again every few seconds: a thousand chunks of a store that
is down take little more than one deadline, not a thousand; one chunk that a store hangs on takes no
other with it.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from math import inf
from typing import Any

from znfs import deadline
from znfs.errors import StoreError, Unanswered, ZnfsError
from znfs.line import Line
from znfs.stores.base import Blob, Entry, Folders, Renewable, Stat, Store

# What part of the deadline requests have while the store is suspect...
_SUSPECTED = 0.25
# ...and what part they must have had for their failure to say something about the store.
_EVIDENCE = 0.2
# How long a store that does not answer is left alone before one request tries it again.
_REST_SECONDS = 2.0
_KEPT_ERRORS = 20
# Upper bounds of the latency histogram, in seconds.
LATENCIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class WatchedStore:
    """`store`, counted, whose requests have `seconds` each, or what their operation has left.

    Raises StoreError where nothing is left, and for a store that is taken for dead. No Unanswered
    comes from here: what it says was heeded, and says nothing of a store that is over this one.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self.url = store.url
        self.concurrency = store.concurrency
        self.local = store.local
        self._store = store
        self._folders = store if isinstance(store, Folders) else None
        self._seconds = inf if store.local else seconds
        self.line = None if store.local else Line(store.concurrency)  # what its GETs make of it
        self._lock = threading.Lock()
        self._suspect = False
        self._silent: str | None = None  # why the store is taken for dead
        self._retry_at = 0.0
        self._heard = 0.0  # when it last answered anything
        self._requests: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._bytes = 0
        self._spent = 0.0
        self._latencies = [0] * (len(LATENCIES) + 1)
        self._last_errors: deque[tuple[float, str]] = deque(maxlen=_KEPT_ERRORS)

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        with _Request(self, "get", self.line):
            blob = self._store.get(key, start, stop, if_match=if_match)
        if blob is not None:
            with self._lock:
                self._bytes += len(blob.data)
        return blob

    def is_folder(self, path: str) -> bool | None:
        """What the store says, if it is one that has folders; else None."""
        return None if self._folders is None else self._folders.is_folder(path)

    def stat(self, key: str) -> Stat | None:
        with _Request(self, "stat"):
            return self._store.stat(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        found = []
        with _Request(self, "list") as request:
            for entry in self._store.list(prefix):
                found.append(entry)
                request.renew()  # the deadline is for each page: a listing may be long
        yield from found

    def renew(self) -> None:
        """Read credentials anew, and ask again even if the store was taken for dead."""
        if isinstance(self._store, Renewable):
            self._store.renew()
        with self._lock:
            self._silent, self._suspect = None, False

    def close(self) -> None:
        self._store.close()

    def status(self) -> dict[str, Any]:
        """Counters, for status.json."""
        with self._lock:
            return {
                "requests": dict(self._requests),
                "errors": dict(self._errors),
                "bytes": self._bytes,
                "seconds": self._spent,
                "latency": {
                    "le": [*LATENCIES, "inf"],
                    "count": list(self._latencies),
                },
                "last_errors": [{"time": t, "error": e} for t, e in self._last_errors],
                "answering": self._silent is None,
            }

    def admit(self) -> float:
        """The seconds that a request may take which begins now. Raises StoreError."""
        given = min(self._seconds, deadline.left())
        if given <= 0:
            raise StoreError(f"{self.url}: no time is left to ask")
        if not self._suspect:
            return given
        with self._lock:
            if self._silent is None:
                return min(given, self._seconds * _SUSPECTED)
            if time.monotonic() < self._retry_at:
                self._errors["spared"] += 1
                raise StoreError(f"{self.url} does not answer: {self._silent}")
            self._retry_at = time.monotonic() + given + _REST_SECONDS
            return given

    def heard(self) -> None:
        """The store said something just now."""
        self._heard = time.monotonic()

    def note(self, kind: str, began: float, given: float, error: ZnfsError | None) -> None:
        """Count a request that ended just now, and see what it says of the store."""
        now = time.monotonic()
        took = now - began
        if error is None:
            deadline.progress()
        with self._lock:
            self._requests[kind] += 1
            self._spent += took
            self._latencies[bisect_left(LATENCIES, took)] += 1
            if error is not None:
                self._errors[type(error).__name__] += 1
                self._last_errors.append((time.time(), f"{type(error).__name__}: {error}"))
            if not isinstance(error, Unanswered):
                self._heard, self._silent, self._suspect = now, None, False
            elif self._heard < began and given >= self._seconds * _EVIDENCE:
                if self._suspect:
                    self._silent = str(error)
                    self._retry_at = now + _REST_SECONDS
                self._suspect = True


class _Request:
    """A request under way: admitted, in its deadline, and noted in the end."""

    __slots__ = ("_began", "_given", "_kind", "_limit", "_line", "_passes", "_watched")

    def __init__(self, watched: WatchedStore, kind: str, line: Line | None = None) -> None:
        self._watched = watched
        self._kind = kind
        self._line = line  # what it is counted on

    def __enter__(self) -> _Request:
        self._given = self._watched.admit()
        self._limit = deadline.within(self._given)
        self._limit.__enter__()
        self._began = time.monotonic()
        if self._line is not None:
            self._passes = self._line.begin()
        return self

    def renew(self) -> None:
        """Part of the answer is there: begin the deadline anew."""
        self._limit.renew()
        self._watched.heard()
        deadline.progress()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._limit.__exit__()
        if self._line is not None:
            self._line.end(self._passes, answered=not isinstance(error, Unanswered))
        if error is None or isinstance(error, ZnfsError):
            self._watched.note(self._kind, self._began, self._given, error)
        if isinstance(error, Unanswered):
            raise StoreError(str(error)) from None
