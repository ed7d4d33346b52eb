"""Trees are of the process that opened them.

A child that is forked (multiprocessing's default on Linux before Python 3.14, PyTorch's DataLoader)
has one thread: the locks that others held and the loads that they ran never end there, and clients
of stores do not survive a fork at all. So it is told, where it would wait for ever.
"""

from __future__ import annotations

import os

from znfs.errors import UsageError


def check(pid: int) -> None:
    """Raises UsageError in any process but `pid`. Takes a tenth of a microsecond."""
    if os.getpid() != pid:
        raise UsageError(
            f"opened in another process (pid {pid}), from which this one was forked: "
            "open it again in this process"
        )
