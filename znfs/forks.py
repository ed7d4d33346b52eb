"""Trees are of the process that opened them.

A child that is forked (multiprocessing's default on Linux before Python 3.14, PyTorch's DataLoader)
has one thread: the locks that others held and the loads that they ran never end there, and clients
of stores do not survive a fork at all. So it is told, where it would wait for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from znfs.errors import UsageError

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property as cached_property
else:

    class cached_property:
        """functools.cached_property as it is from Python 3.12 on: before, it has one lock for the
        property of all objects, which a child may find held for ever."""

        def __init__(self, make: Callable[[Any], Any]) -> None:
            self._make = make
            self.__doc__ = make.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._make(instance)
            return value


def check(pid: int) -> None:
    """Raises UsageError in any process but `pid`. Takes a tenth of a microsecond."""
    if os.getpid() != pid:
        raise UsageError(
            f"opened in another process (pid {pid}), from which this one was forked: "
            "open it again in this process"
        )
