"""Until when an operation of the file system must have its answer.

A read may look at metadata, then fetch, then fetch again: its deadline is one, whatever it asks of
a store. The thread that serves an operation says when that is (`begin`); stores and waits ask what
is `left`; threads that do part of the work for another take its deadline over (`carried`). Where
nobody said anything (a prefetch, a command), each request to a store has a deadline of its own.

Times are of the monotonic clock, which no change of the wall clock moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Thread(threading.local):
    over = inf


_thread = _Thread()


def begin(seconds: float) -> None:
    """This thread begins an operation that may take so long. Takes a quarter of a microsecond."""
    _thread.over = time.monotonic() + seconds


def left() -> float:
    """Seconds that this thread's operation has: inf if it has no deadline, 0 if it is over."""
    return max(0.0, _thread.over - time.monotonic())


def wait() -> float | None:
    """`left`, as waits of the library want it: None is for ever."""
    seconds = left()
    return None if seconds == inf else seconds


class within:
    """`with within(seconds):` what is done here has no longer than that, nor than is left."""

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = _thread.over
        self.renew()

    def renew(self) -> None:
        """Count the seconds from now on."""
        _thread.over = min(self._before, time.monotonic() + self._seconds)

    def __exit__(self, *exc_info: object) -> None:
        _thread.over = self._before


def carried(work: Callable[P, R]) -> Callable[P, R]:
    """`work` for another thread, with this thread's deadline."""
    over = _thread.over

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before, _thread.over = _thread.over, over
        try:
            return work(*args, **kwargs)
        finally:
            _thread.over = before

    return run
