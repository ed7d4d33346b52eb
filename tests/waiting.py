"""Waiting for what other threads, processes and servers do; a clock that only tests move."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(
    answer: Callable[[], T],
    *,
    passing: type[Exception] | tuple[()] = (),
    seconds: float = 30.0,
) -> T:
    """What `answer` returns once it is something true; errors that are `passing` are waited out."""
    over = time.monotonic() + seconds
    while True:
        try:
            if found := answer():
                return found
        except passing:
            if time.monotonic() > over:
                raise
        assert time.monotonic() < over, "it did not happen"
        time.sleep(0.01)


def stop(pid: int) -> None:
    """SIGSTOP, and wait until none of the process's threads runs any more: one that is woken just
    then still answers."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    eventually(lambda: all("\nState:\tT" in (t / "status").read_text() for t in tasks.iterdir()))


class Clock:
    """Stands in for the module `time` of modules under test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic
