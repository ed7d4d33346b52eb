"""A store in memory that counts what is asked of it and can be told to fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

from znfs.errors import Stale
from znfs.stores.base import Blob, Entry, Stat


class MemoryStore:
    """A dict as a Store. `fail(key)`, if set, may raise before each answer."""

    url = "memory:"
    concurrency = 4
    local = False

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.versions: Counter[str] = Counter()
        self.gets: Counter[str] = Counter()
        self.stats: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()
        self.fetched = 0
        self.fail: Callable[[str], None] = lambda key: None
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self.versions[key] += 1

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        with self._lock:
            self.gets[key] += 1
        self.fail(key)
        data = self.objects.get(key)
        if data is None:
            return None
        version = f"v{self.versions[key]}"
        if if_match is not None and if_match != version:
            raise Stale(key)
        data = data[start:] if start < 0 else data[start:stop]
        with self._lock:
            self.fetched += len(data)
        return Blob(data, version, 1000.0)

    def stat(self, key: str) -> Stat | None:
        with self._lock:
            self.stats[key] += 1
        self.fail(key)
        data = self.objects.get(key)
        return None if data is None else Stat(len(data), f"v{self.versions[key]}", 1000.0)

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._lock:
            self.lists[prefix] += 1
        at = prefix + "/" if prefix else ""
        below = {k[len(at) :] for k in self.objects if k.startswith(at)} - {""}
        for name in {k.split("/")[0] for k in below}:
            yield Entry(name, name not in below, len(self.objects.get(at + name, b"")))

    def close(self) -> None:
        pass
