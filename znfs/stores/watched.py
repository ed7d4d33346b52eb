"""A store over a store: counts what is asked, and spares a dead store's callers the waiting.

A request that fails after most of its deadline says that the store does not answer. From then on
others fail at once, but for one that tries again every few seconds: a thousand chunks of a store
that is down take one deadline, not a thousand.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from znfs.errors import StoreError, ZnfsError
from znfs.stores.base import Blob, Entry, Renewable, Stat, Store

# An error that took this part of the deadline is a store that does not answer.
_SILENCE = 0.5
# How long a store that does not answer is left alone before one request tries it again.
_REST_SECONDS = 2.0
_KEPT_ERRORS = 20
# Upper bounds of the latency histogram, in seconds.
LATENCIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class WatchedStore:
    """`store`, counted, whose requests have `deadline` seconds each."""

    def __init__(self, store: Store, deadline: float) -> None:
        self.url = store.url
        self.concurrency = store.concurrency
        self.local = store.local
        self._store = store
        self._deadline = deadline
        self._lock = threading.Lock()
        self._silent: str | None = None  # why the store is taken for dead
        self._retry_at = 0.0
        self._requests: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._bytes = 0
        self._seconds = 0.0
        self._latencies = [0] * (len(LATENCIES) + 1)
        self._last_errors: deque[tuple[float, str]] = deque(maxlen=_KEPT_ERRORS)

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        with self._watch("get"):
            blob = self._store.get(key, start, stop, if_match=if_match)
        if blob is not None:
            with self._lock:
                self._bytes += len(blob.data)
        return blob

    def stat(self, key: str) -> Stat | None:
        with self._watch("stat"):
            return self._store.stat(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._watch("list"):
            yield from self._store.list(prefix)

    def renew(self) -> None:
        """Read credentials anew, and ask again even if the store was taken for dead."""
        if isinstance(self._store, Renewable):
            self._store.renew()
        with self._lock:
            self._silent = None

    def close(self) -> None:
        self._store.close()

    def status(self) -> dict[str, Any]:
        """Counters, for status.json."""
        with self._lock:
            return {
                "requests": dict(self._requests),
                "errors": dict(self._errors),
                "bytes": self._bytes,
                "seconds": self._seconds,
                "latency": {
                    "le": [*LATENCIES, "inf"],
                    "count": list(self._latencies),
                },
                "last_errors": [{"time": t, "error": e} for t, e in self._last_errors],
                "answering": self._silent is None,
            }

    @contextmanager
    def _watch(self, kind: str) -> Iterator[None]:
        self._admit()
        began = time.monotonic()
        try:
            yield
        except ZnfsError as error:
            self._note(kind, began, error)
            raise
        self._note(kind, began, None)

    def _admit(self) -> None:
        """Raise StoreError while the store is taken for dead, but for one that tries it."""
        if self._silent is None:
            return
        with self._lock:
            if self._silent is None:
                return
            if time.monotonic() < self._retry_at:
                self._errors["spared"] += 1
                raise StoreError(f"{self.url} does not answer: {self._silent}")
            self._retry_at = time.monotonic() + self._deadline + _REST_SECONDS

    def _note(self, kind: str, began: float, error: ZnfsError | None) -> None:
        took = time.monotonic() - began
        with self._lock:
            self._requests[kind] += 1
            self._seconds += took
            self._latencies[bisect_left(LATENCIES, took)] += 1
            if error is not None:
                self._errors[type(error).__name__] += 1
                self._last_errors.append((time.time(), f"{type(error).__name__}: {error}"))
            if isinstance(error, StoreError) and (
                took > self._deadline * _SILENCE or self._silent is not None
            ):
                self._silent = str(error)
                self._retry_at = time.monotonic() + _REST_SECONDS
            else:
                self._silent = None
