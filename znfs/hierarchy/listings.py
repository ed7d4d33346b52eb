"""What a store lists below its prefixes, remembered for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import inf

from cachetools import LRUCache

from znfs import deadline
from znfs.errors import NotListable, StoreError
from znfs.stores.base import Entry, Store

log = logging.getLogger(__name__)

# Names remembered; one takes 100-200 bytes. A longer listing is kept alone.
_MOST_LISTED = 1 << 19
_AT_ONCE = 8


@dataclass(frozen=True)
class Listing:
    """What a store lists directly below a prefix."""

    prefixes: tuple[str, ...]
    objects: Mapping[str, int]  # name -> size


@dataclass(frozen=True)
class _Taken:
    """A listing that was known at the time `ended` (monotonic seconds), having taken so long."""

    listing: Listing | None
    ended: float
    took: float

    def stands(self, seconds: float) -> bool:
        """Whether it is to serve, if others do for so many seconds. A long one is not repeated as
        often: at most a tenth of the time goes to it."""
        return time.monotonic() < self.ended + max(seconds, 10 * self.took)


def _listed(known: _Taken) -> int:
    """What a listing counts against _MOST_LISTED."""
    listing = known.listing
    names = 0 if listing is None else len(listing.prefixes) + len(listing.objects)
    return min(_MOST_LISTED, 256 + names)


class Listings:
    """The listings of a store, each taken anew after `ttl` seconds. Safe for many threads."""

    def __init__(self, store: Store, ttl: float) -> None:
        self._store = store
        self._ttl = ttl
        self._lock = threading.Lock()
        self._known: LRUCache[str, _Taken] = LRUCache(_MOST_LISTED, getsizeof=_listed)
        self._generation = 0
        self._pool = None if store.local else ThreadPoolExecutor(_AT_ONCE, "znfs-list")
        self._under_way: dict[tuple[str, int], Future[Listing | None]] = {}

    def of(self, path: str, within: float = inf) -> Listing | None:
        """The names the store lists below `path`; None where it cannot list.

        It is taken anew if it is older than `ttl`, or than `within` seconds. One that takes longer
        than its operation has left goes on, and is there next time.
        Raises Denied, StoreError.
        """
        with self._lock:
            known = self._known.get(path)
            generation = self._generation
            if known is not None and known.stands(min(self._ttl, within)):
                return known.listing
            under_way = self._under_way.get((path, generation))
            if under_way is None and self._pool is not None:
                try:
                    under_way = self._pool.submit(self._list, path, generation)
                except RuntimeError as error:  # no thread is to be had
                    log.debug("%s: listed by who asks: %s", path, error)
                else:
                    self._under_way[path, generation] = under_way
        if under_way is None:
            return self._list(path, generation)
        try:
            return under_way.result(deadline.wait())
        except TimeoutError:
            raise StoreError(f"{path or 'the root'}: the listing goes on") from None

    def forget(self) -> None:
        """Take all listings anew."""
        with self._lock:
            self._generation += 1
            self._known.clear()

    def close(self) -> None:
        """Stop the threads that list."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _list(self, path: str, generation: int) -> Listing | None:
        began = time.monotonic()
        try:
            listing = self._ask(path)
        except BaseException:
            with self._lock:
                self._under_way.pop((path, generation), None)
            raise
        ended = time.monotonic()
        # At once, so that nobody finds it neither under way nor known, and takes it anew.
        with self._lock:
            self._under_way.pop((path, generation), None)
            if generation == self._generation:
                self._known[path] = _Taken(listing, ended, ended - began)
        return listing

    def _ask(self, path: str) -> Listing | None:
        try:
            entries: list[Entry] = list(self._store.list(path))
        except NotListable:
            return None
        prefixes = sorted({e.name for e in entries if e.is_prefix})
        return Listing(tuple(prefixes), {e.name: e.size for e in entries if not e.is_prefix})
