"""How long an operation of the file system goes on without an answer.

A read may look at metadata, then fetch, then fetch again, all of it under one deadline: so many
seconds after it began, or after a store last answered it. On a slow line that brings one chunk
after the other a read takes what it takes; a store that says nothing is waited for once.

The thread that serves an operation says when it begins (`begin`); stores and waits ask what is
`left`, and say when there was `progress`; threads that do part of the work for another take its
operation over (`carried`). Where nobody said anything (a prefetch, a command), each request to a
store has a deadline of its own.

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


class Operation:
    """What a thread is about, and those that do part of its work.

    `heard` is when it began, or was last answered.
    """

    __slots__ = ("heard", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.heard = time.monotonic()


class _Thread(threading.local):
    operation = Operation(inf)
    over = inf  # what `within` says


_thread = _Thread()


def begin(seconds: float) -> None:
    """This thread begins an operation that may go so long without an answer. Takes half a
    microsecond."""
    _thread.operation = Operation(seconds)


def operation() -> Operation:
    """What this thread is about."""
    return _thread.operation


def progress() -> None:
    """This thread's operation was answered just now."""
    _thread.operation.heard = time.monotonic()


def left() -> float:
    """Seconds that this thread's operation has: inf if it has no deadline, 0 if it is over."""
    now = _thread.operation
    return max(0.0, min(now.heard + now.seconds, _thread.over) - time.monotonic())


def wait() -> float | None:
    """`left`, as waits of the library want it: None is for ever."""
    seconds = left()
    return None if seconds == inf else seconds


def wait_for(event: threading.Event, other: Operation) -> bool:
    """Wait for an event that another operation brings about, as long as that one is answered.
    False if it did not happen in time."""
    own = _thread.operation
    while not event.wait(wait()):
        if other.heard <= own.heard:
            return False
        own.heard = other.heard
    return True


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
    """`work` for another thread, as part of this thread's operation."""
    operation, over = _thread.operation, _thread.over

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = _thread.operation, _thread.over
        _thread.operation, _thread.over = operation, over
        try:
            return work(*args, **kwargs)
        finally:
            _thread.operation, _thread.over = before

    return run
