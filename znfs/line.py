"""What the line to a store brings, seen by its requests.

All that is under way shares the line. On a slow one, many requests at once are each answered late,
beyond the deadline at worst; and what is fetched ahead of a reader is in the way of what one waits
for. So no more is begun in the background than is answered in a quarter of a second and two round
trips. Most lines are wide, and nothing is held back.
"""

from __future__ import annotations

import threading
import time
from math import inf

_UNKNOWN = 8  # requests at once while nothing is known: a round trip is lost, once
_SECONDS = 0.25  # what may be under way is answered in that time, and two round trips
_LONGEST_TRIP = 0.5  # seconds; where all took longer, it is for their size
_KEPT = 15 / 16  # of what is known, with each answer


class _Loads(threading.local):
    """`with loads:` this thread loads chunks. Documents are small: they tell how long a line is,
    and not how wide."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *exc_info: object) -> None:
        self.depth -= 1


class Line:
    """Watches the loads of a store. On a line with room for `wide` of them at once nothing is held
    back."""

    def __init__(self, wide: int) -> None:
        self.loads = _Loads()
        self.under_way = 0  # requests for loads
        self._wide = wide
        self._lock = threading.Lock()
        # Answers, and seconds while anything was under way: more of what was of late. And when the
        # last request began or ended.
        self._answers = self._seconds = self._at = 0.0
        self._quickest = inf  # about a round trip

    def begin(self) -> tuple[float, bool]:
        """A request begins. Returns what to tell `end`."""
        is_load = self.loads.depth > 0
        now = time.monotonic()
        if is_load:
            with self._lock:
                self._count(now)
                self.under_way += 1
        return now, is_load

    def end(self, begun: tuple[float, bool], *, answered: bool) -> None:
        """That request ended; after a silence, what was known is not any more."""
        began, is_load = begun
        now = time.monotonic()
        with self._lock:
            if answered:
                self._quickest = min(self._quickest, now - began)
            if not is_load:
                return
            self._count(now)
            self.under_way -= 1
            if answered:
                self._answers = _KEPT * self._answers + 1
                self._seconds *= _KEPT
            else:
                self._answers = self._seconds = 0.0

    def most(self) -> float:
        """How many requests may be under way if more are to be begun in the background: 1 or more,
        inf on a wide line."""
        with self._lock:
            if not self._answers:
                return min(_UNKNOWN, self._wide)
            in_time = _SECONDS + 2 * min(self._quickest, _LONGEST_TRIP)
            found = in_time * self._answers / max(self._seconds, 1e-6)
            return inf if found >= self._wide else max(1.0, found)

    def _count(self, now: float) -> None:
        if self.under_way:
            self._seconds += max(0.0, now - self._at)
        self._at = now
