"""The C library's heap, kept from holding on to what was freed."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

# mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLD = 4 << 20
_TRIM_THRESHOLD = 32 << 20
_ARENAS = 2


def bound() -> None:
    """Have large blocks go back to the system when they are freed. Call before threads begin.

    Left alone, glibc gives every thread an arena and raises the size from which it maps blocks
    apart: under eight readers with a cache of 64 MiB the daemon held 300 MiB; so bound, 150.
    Smaller blocks are used again without going back, for the kernel zeroes what it gives anew:
    mapping those of 256 KiB apart, too, cost twice the CPU time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        log.debug("no mallopt: the heap may hold more than it uses")
        return
    mallopt(_M_ARENA_MAX, _ARENAS)
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
