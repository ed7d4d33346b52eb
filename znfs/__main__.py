"""`znfs` and `mount.znfs`, as programs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn, cast

from znfs.cli import main, mount_main


def _exit(command: Callable[[], int]) -> NoReturn:
    """End with the command's exit status, at once: Python would wait for threads that hang in the
    look-up of a server's name, which nothing can interrupt. Those of executors are waited for
    even if they are daemons, as asyncio's are in fsspec."""
    _open_standard_streams()
    status = command()
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _open_standard_streams() -> None:
    """Those that are closed: what is opened next would get their numbers, and what is written to
    them; Python has None for them."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # Output that nobody gets is a failure, as of any program; not so messages.
            null = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            os.set_inheritable(null, True)
            stream = open(null, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    # A table's µ and ×, and names, in whatever characters the locale has.
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")


def znfs() -> NoReturn:
    """`znfs`."""
    _exit(main)


def mount_znfs() -> NoReturn:
    """`mount.znfs`, for mount(8)."""
    _exit(mount_main)


if __name__ == "__main__":
    znfs()
