"""Python's cyclic garbage collector, kept from a plan that grows."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_planning = 0
_was_enabled = True


@contextmanager
def paused() -> Iterator[None]:
    """No collections meanwhile, in any thread.

    What is made stays, and is looked through again whenever it has grown by a quarter: that was
    three quarters of the time of a plan of 20,000 arrays.
    """
    global _planning, _was_enabled
    with _lock:
        if not _planning:
            _was_enabled = gc.isenabled()
            gc.disable()
        _planning += 1
    try:
        yield
    finally:
        with _lock:
            _planning -= 1
            if not _planning and _was_enabled:
                gc.enable()


def _begin_anew() -> None:
    """In a forked process, where nobody plans."""
    global _lock, _planning
    if _planning and _was_enabled:
        gc.enable()
    _lock, _planning = threading.Lock(), 0


os.register_at_fork(after_in_child=_begin_anew)
