"""What the block cache keeps and what it lets go of first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from cachetools import Cache

# The least an entry takes (key tuple, dict slots, array header), so that a cache of tiny or absent
# blocks is bounded too. Not added to larger ones: a slab of just the cache's size is to fit.
_LEAST_COST = 512
# What was used within so many seconds is not driven out by a reader who goes round.
_IN_USE = 1.0


def cost(value: Any) -> int:
    """Bytes a cached value takes: its `nbytes` or length; None is a chunk known to be absent.

    Raises TypeError for a value that has neither.
    """
    if value is None:
        return _LEAST_COST
    nbytes = getattr(value, "nbytes", None)
    return max(_LEAST_COST, len(value) if nbytes is None else int(nbytes))


class Recency(Cache[Hashable, Any]):
    """Values that are done with go first, then the least recently used (as in cachetools'
    LRUCache), but not to a reader who goes round.

    Who reads the planes of a slab one after another comes back to each of its bands after all
    others, and the least recently used is the very one that is needed next. So the one that was
    passed last goes instead, also in place of what others use all the time: with 16 bands and room
    for 15, one is loaded anew each time round, not 16; and nobody else pays for it.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize, getsizeof=cost)
        self._order: OrderedDict[Hashable, float] = OrderedDict()  # with the time of the last use
        self._passed: OrderedDict[Hashable, None] = OrderedDict()  # in the order they were passed
        self._done: OrderedDict[Hashable, None] = OrderedDict()

    def __getitem__(self, key: Hashable) -> Any:
        value = super().__getitem__(key)
        self._use(key)
        return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        super().__setitem__(key, value)
        self._use(key)

    def __delitem__(self, key: Hashable) -> None:
        # The value last: should an interrupt come between, `popitem` finds it nevertheless.
        self._order.pop(key, None)
        self._passed.pop(key, None)
        self._done.pop(key, None)
        super().__delitem__(key)

    def popitem(self) -> tuple[Hashable, Any]:
        if self._done:
            key = next(iter(self._done))
        elif self._order:
            key, used = next(iter(self._order.items()))
            in_use = key in self._passed or time.monotonic() - used < _IN_USE
            if in_use and self._passed:
                key = next(reversed(self._passed))
        else:
            key = next(iter(self), None)
        return key, self.pop(key)  # raises KeyError if it is empty

    def clear(self) -> None:
        # Newer cachetools clear without a popitem for each.
        super().clear()
        self._order.clear()
        self._passed.clear()
        self._done.clear()

    def pass_by(self, key: Hashable) -> None:
        """A reader who goes round has used `key` and passed it."""
        if key in self._order:
            self._passed[key] = None
            self._passed.move_to_end(key)

    def retire(self, key: Hashable) -> None:
        """Whoever reads is done with `key`."""
        if key in self:
            self._use(key)
            del self._order[key]
            self._done[key] = None

    def _use(self, key: Hashable) -> None:
        self._done.pop(key, None)
        self._passed.pop(key, None)
        self._order[key] = time.monotonic()
        self._order.move_to_end(key)
