"""Calls within a deadline: how it is spent, and calls into libraries that return, or raise
Unanswered, in time.

That is the given number of seconds, or what the operation at hand has left, if that is less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from znfs import deadline
from znfs.errors import StoreError, Unanswered

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How a call's deadline is spent, in seconds: no retry begins after `retry`, and no attempt
    takes longer than `attempt`, so that all are over when the deadline is: after `total`.
    """

    connect: float
    attempt: float
    retry: float

    @property
    def total(self) -> float:
        return self.retry + self.attempt

    @classmethod
    def of(cls, deadline: float) -> Budget:
        attempt = deadline * 0.65
        return cls(min(5.0, attempt / 2), attempt, deadline * 0.3)


def run_async(
    loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, T], seconds: float, what: str
) -> T:
    """The result of a coroutine on another thread's loop; it is cancelled when time is up."""
    import asyncio

    seconds = min(seconds, deadline.left())

    async def bounded() -> T:
        return await asyncio.wait_for(call, seconds)

    try:
        return asyncio.run_coroutine_threadsafe(bounded(), loop).result()
    except TimeoutError as error:
        raise Unanswered(f"{what}: no answer in time") from error


class Threads:
    """Runs blocking calls aside, so that a hung one costs its caller no more than the deadline.

    The threads are daemons: one that hangs for good does not keep the process from ending. At most
    `limit` run at once, hung ones included.
    """

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)

    def run(self, call: Callable[[], T], seconds: float, what: str) -> T:
        seconds = min(seconds, deadline.left())
        over = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise Unanswered(f"{what}: too many calls hang")
        future: Future[T] = Future()
        call = deadline.carried(call)

        def work() -> None:
            try:
                result = call()
            except BaseException as error:  # it is raised again in the caller's thread
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                self._free.release()

        try:
            threading.Thread(target=work, name="znfs-store", daemon=True).start()
        except RuntimeError as error:  # a limit of processes
            self._free.release()
            raise StoreError(f"{what}: {error}") from error
        try:
            return future.result(max(0.0, over - time.monotonic()))
        except TimeoutError as error:
            raise Unanswered(f"{what}: no answer in time") from error
