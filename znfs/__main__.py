"""`znfs` and `mount.znfs`, as programs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from znfs.cli import main, mount_main


def _exit(command: Callable[[], int]) -> NoReturn:
    """End with the command's exit status, at once: Python would wait for threads that hang in the
    look-up of a server's name, which nothing can interrupt. Those of executors are waited for
    even if they are daemons, as asyncio's are in fsspec."""
    status = command()
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def znfs() -> NoReturn:
    """`znfs`."""
    _exit(main)


def mount_znfs() -> NoReturn:
    """`mount.znfs`, for mount(8)."""
    _exit(mount_main)


if __name__ == "__main__":
    znfs()
