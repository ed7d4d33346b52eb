"""Whether an absent chunk is fill value: only if its array is there still, as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf

from cachetools import LRUCache

from znfs.errors import Stale, StoreError
from znfs.hierarchy.documents import OF_ARRAYS
from znfs.hierarchy.paths import join
from znfs.hierarchy.seen import Seen, Sightings, Stamps
from znfs.stores.base import Store

# A look at the metadata that began this recently confirms that an absent chunk is fill;
# a listing as recent, that a folder is empty. What is gone from its store is neither.
CONFIRM_SECONDS = 1.0
_MOST_CONFIRMED = 1024


class Absence:
    """Confirms that what is absent from a node is absent, and not the node. Safe for many threads.

    `look(path, since)` is a look at a path begun no earlier than `since` (monotonic seconds).
    """

    def __init__(
        self, store: Store, sightings: Sightings, look: Callable[[str, float], Seen]
    ) -> None:
        self._store = store
        self._sightings = sightings
        self._look = look
        self._lock = threading.Lock()
        # When a look for the node's own document began that found it, by path and stamps.
        self._there: LRUCache[tuple[str, Stamps], float] = LRUCache(_MOST_CONFIRMED)

    def confirm(self, path: str, version: str) -> None:
        """Raise Stale unless the node at `path` has `version` still, by a look at most 1 s old, and
        is still there now. Raises Denied, StoreError if that cannot be told.

        A local look costs microseconds: it is taken anew, so that a folder deleted within that
        second is not an image of zeros either. Far away one request tells that a document is there,
        and the same.
        """
        local = self._store.local
        if local and self._stands(path, version):
            return
        arrived = time.monotonic()
        seen = self._look_for(path, version, arrived - (0.0 if local else CONFIRM_SECONDS))
        is_consolidated = seen.scope is not None and seen.scope.path != path
        is_older = is_consolidated or seen.checked < arrived
        if is_older and not self._confirm_own(path, seen, arrived):
            self._look_for(path, version, arrived)

    def _look_for(self, path: str, version: str, since: float) -> Seen:
        """A look at `path` that began since then. Raises Stale if it has not `version` any more."""
        seen = self._look(path, since)
        if seen.node is None or seen.node.version != version:
            raise Stale(f"{path or self._store.url}: changed, or gone from its store")
        return seen

    def _stands(self, path: str, version: str) -> bool:
        """Whether the documents of a local node are the very files they were: 20 us, where reading
        and hashing them anew takes milliseconds if they are large."""
        seen = self._sightings.at(path)
        if seen is None or seen.node is None or seen.node.version != version or not seen.stamps:
            return False
        stats = ((self._store.stat(key), stamp) for key, stamp in seen.stamps)
        return all(stat is not None and stat.version == stamp for stat, stamp in stats)

    def _confirm_own(self, path: str, seen: Seen, arrived: float) -> bool:
        """That the node's own document is there, by a look begun since `arrived`: one look serves
        all who wait for the one before. False if it is another one than was seen: it has to be
        read."""
        with self._sightings.turn(path) as is_ours:
            if not is_ours:
                raise StoreError(f"{path}: another look at it did not end in time")
            began = time.monotonic()
            with self._lock:
                if self._there.get((path, seen.stamps), -inf) >= arrived:
                    return True
            own = [name for name in seen.documents if name in OF_ARRAYS]
            own = own or [".zmetadata"]  # which may be all that an array has
            keys = [join(path, name) for name in own]
            stats = {key: stat for key in keys if (stat := self._store.stat(key)) is not None}
            if not stats:
                if seen.stamps:
                    raise Stale(f"{keys[0]}: gone, though it was there a moment ago")
                # A deleted array's is in consolidated metadata, too.
                only = "only in consolidated metadata"
                raise Stale(f"{keys[0]}: not there, {only}: a missing chunk is no fill value then")
            stamps = dict(seen.stamps)
            if any(stat.version != stamps.get(key, stat.version) for key, stat in stats.items()):
                return False
            with self._lock:
                self._there[path, seen.stamps] = began
            return True
