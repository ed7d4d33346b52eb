"""What a store said last, for operations that can do without a new answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

from znfs import deadline
from znfs.errors import ZnfsError

log = logging.getLogger(__name__)

T = TypeVar("T")

_BRIEFLY = 0.5  # seconds that an operation waits for an answer
_DOWN_SECONDS = 10.0  # how long a store that did not answer is not asked again


class LastSaid(Generic[T]):
    """The answer to `ask`, which asks a store; `said` until there is one. Safe for many threads.

    It is asked for whenever somebody wants it, or `once`. An operation waits for it for half a
    second, and it goes on by itself; one runs at a time. Where there is no deadline it is waited
    for. If `ask` raises ZnfsError, what was said before stays, and it is not asked for 10 s.
    """

    def __init__(self, ask: Callable[[], T], said: T, *, once: bool = False) -> None:
        self._ask = ask
        self._said = said
        self._once = once
        self._next = 0.0  # when to ask (monotonic seconds)
        self._asked_anew = 0
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None  # of the question under way
        self._until = 0.0  # when nobody waits for that any more

    def get(self) -> T:
        """What the store says, or said last."""
        if time.monotonic() > self._next:
            self._wait()
        return self._said

    def pause(self) -> None:
        """The store did not answer just now, so leave it alone for 10 s."""
        self._next = time.monotonic() + _DOWN_SECONDS

    def ask_anew(self) -> None:
        """The next who wants it asks; an answer under way does not count."""
        with self._lock:
            self._asked_anew += 1
            self._next = 0.0

    def _wait(self) -> None:
        if deadline.left() == inf:
            self._take()
            return
        with self._lock:
            ended = self._ended
            if ended is None:
                ended = threading.Event()
                work = deadline.carried(self._run)
                try:
                    threading.Thread(target=work, args=(ended,), daemon=True).start()
                except RuntimeError as error:  # no thread is to be had
                    log.debug("the store is not asked: %s", error)
                    return
                self._ended, self._until = ended, time.monotonic() + _BRIEFLY
            wait = self._until - time.monotonic()
        ended.wait(max(0.0, wait))

    def _run(self, ended: threading.Event) -> None:
        try:
            self._take()
        finally:
            with self._lock:
                self._ended = None
            ended.set()

    def _take(self) -> None:
        asked_anew = self._asked_anew
        try:
            said = self._ask()
        except ZnfsError as error:
            log.debug("what was known stays: %s", error)
            with self._lock:
                if asked_anew == self._asked_anew:
                    self.pause()
            return
        with self._lock:
            if asked_anew == self._asked_anew:
                self._said = said
                if self._once:
                    self._next = inf
