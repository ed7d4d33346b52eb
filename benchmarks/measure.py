"""Timing sides against each other, in turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import mmap
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

REPEATS = 5


def _nothing() -> None:
    pass


def _unchecked(result: Any) -> None:
    pass


@dataclass(frozen=True)
class Side:
    """One of those compared. `run` is timed; `prepare` before it and `check` after it are not.

    `check` gets what `run` returned and raises if it is wrong. Where `run` itself returns what it
    measured (seconds of a part of it), `own_clock` is set.
    """

    name: str
    run: Callable[[], Any]
    prepare: Callable[[], object] = _nothing
    check: Callable[[Any], None] = _unchecked
    own_clock: bool = False


@dataclass(frozen=True)
class Spread:
    """A median, and the least and most of what it is the median of."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Times:
    """Seconds of every side, by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, name: str) -> Spread:
        return Spread.of(self.seconds[name])

    def speedup(self, name: str, over: str) -> Spread:
        """How many times as fast `name` was as `over`, round by round."""
        pairs = zip(self.seconds[name], self.seconds[over], strict=True)
        return Spread.of([other / own for own, other in pairs])


class Ballast:
    """Memory that is held while nothing is timed, and let go of just before something is.

    A virtual machine's host takes back what its guest leaves free (free page reporting); who
    touches it next waits 2 ms a MiB, ten times as long as for memory that was in use just now, and
    that was whichever side came after a pause.
    """

    _BYTES = 2 << 30
    _PART = 4  # of what is free, this part at the most

    def __init__(self) -> None:
        free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
        self._bytes = min(self._BYTES, free // self._PART)
        self._held: mmap.mmap | None = None
        self.take()

    def take(self) -> None:
        if self._held is None:
            self._held = mmap.mmap(-1, self._bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._held.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, self._bytes, mmap.PAGESIZE):
                self._held[at] = 1

    def drop(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def compare(sides: Sequence[Side], repeats: int = REPEATS, warm_up: bool = False) -> Times:
    """Run every side `repeats` times, in rounds. `warm_up` runs each once before that, untimed.

    Each round has an order of its own: whoever came second of two sides that were the same daemon
    twice took up to a quarter longer.
    """
    times = Times({side.name: [] for side in sides})
    ballast = Ballast()
    order = random.Random(1)
    for number in range(repeats + warm_up):
        for side in order.sample(sides, len(sides)):
            side.prepare()
            ballast.drop()
            began = time.perf_counter()
            result = side.run()
            took = time.perf_counter() - began
            ballast.take()
            if side.own_clock:
                took = float(result)
            else:
                side.check(result)
            if number or not warm_up:
                times.seconds[side.name].append(took)
    return times
