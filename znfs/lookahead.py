"""Telling readers that go on from those that jump about, and how far ahead to look for them."""

from __future__ import annotations

import time

from znfs.meta import Index


class Stream:
    """A reader of runs of rows, in slabs of bands (see bands.py).

    The kernel's own read-ahead sends a file's reads several at a time and out of order, so what
    lies near the last position counts as its continuation. The depth doubles each time that the
    reader had to wait. Races between threads cost a wrong guess, no more.
    """

    _NEAR = 4 << 20  # elements
    _STREAK = 2  # reads that continue each other before anything is looked ahead for
    _MOST_DEPTH = 64  # bands

    def __init__(self) -> None:
        self.depth = 2
        self.pace = 1e-9  # seconds an element, while nothing had to be waited for
        self._position = -1
        self._streak = 0
        self._time = 0.0
        self._forget()

    def _forget(self) -> None:
        """The reader has begun anew, elsewhere."""
        self.slab: Index | None = None
        self.first = 0  # the band of the slab it came to first
        self.begun = 0  # bands of the slab begun, counted from `first` round
        self.passed = 0  # bands of the slab that were read through
        self.crossed = False  # whether it has gone from one slab to the next
        self.after = 0  # the element that is first of the slab to be begun next
        self.ahead = 0  # bands begun of slabs after this one

    def enter(self, slab: Index, i_y: int, after: int, count: int) -> None:
        """The reader has come to another slab of `count` bands, at its band `i_y`; the one after
        it begins at element `after`."""
        self.crossed = self.slab is not None
        self.slab, self.first = slab, i_y
        self.begun = self.passed = 0
        self.ahead -= count
        if self.after <= after or self.ahead < 0:
            self.after, self.ahead = after, 0

    def pass_by(self, index: Index) -> None:
        """A band was read through."""
        self.passed += index[:-1] == self.slab

    def is_near(self, lo: int) -> bool:
        """Whether `lo` is about where the reader is."""
        return self._position >= 0 and abs(lo - self._position) <= self._NEAR

    def note(self, lo: int, hi: int, waited: bool) -> bool:
        """Take note of a read; returns whether it takes a sequential reader further."""
        now = time.monotonic()
        if not self.is_near(lo):
            self._position, self._streak, self.depth = hi, 0, 2
            self._forget()
            self._time = now
            return False
        ahead = hi - self._position
        self._streak += 1
        if waited and self._streak >= self._STREAK:
            self.depth = min(self._MOST_DEPTH, 2 * self.depth)
        if ahead <= 0:
            return False  # it was overtaken
        if not waited:
            self.pace += ((now - self._time) / ahead - self.pace) / 16
        self._position, self._time = hi, now
        return self._streak >= self._STREAK
