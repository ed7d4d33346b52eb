"""Memory for decoded blocks: in huge pages where the kernel has them, and used again.

A block of 512 KiB from the C library's heap is 128 faults the first time it is written to, and the
heap gives it back and takes it anew as it likes: reading 512 MiB of 64³ chunks through HDF5 took
134,000 faults and 1.3 s of the kernel's time, more than decoding them. Blocks of one size
lie side by side in regions that ask for huge pages; what is let go of is handed out again first.
"""

from __future__ import annotations

import ctypes
import logging
import math
import mmap
import threading
import weakref
from functools import partial
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

log = logging.getLogger(__name__)

_LEAST = 64 << 10  # bytes; below, the C library's heap is as good
# From this size on (bands) each piece is mapped apart and given back at once.
_MMAP_THRESHOLD = 4 << 20
_REGION = 16 << 20  # bytes of a region: whole huge pages, several blocks
# What has been let go of and not been taken again is kept up to this many bytes; the rest goes
# back to the system.
_MOST_IDLE = 32 << 20

# mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_TRIM_THRESHOLD = 32 << 20
_ARENAS = 2


def bound_heap() -> None:
    """Have the C library's heap give large pieces back when they are freed. Call before threads
    begin.

    Left alone, glibc gives every thread an arena and raises the size from which it maps pieces
    apart: under eight readers with a cache of 64 MiB the daemon held 300 MiB; so bound, 150.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        log.debug("no mallopt: the heap may hold more than it uses")
        return
    mallopt(_M_ARENA_MAX, _ARENAS)
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


def _is_pooled(nbytes: int) -> bool:
    return _LEAST <= nbytes < _MMAP_THRESHOLD


class Pool:
    """Hands out memory in regions of blocks of one size. Safe for many threads."""

    def __init__(self, most_idle: int = _MOST_IDLE) -> None:
        self._most_idle = most_idle
        self._regions: dict[int, list[_Region]] = {}  # those with room, by the size of their blocks
        self._idle = 0  # bytes that were written to, and let go of
        # Of one thread too: a block may be let go of wherever the interpreter collects garbage.
        self._lock = threading.RLock()

    @property
    def idle(self) -> int:
        """Bytes held for the next block."""
        return self._idle

    def empty(self, nbytes: int) -> Bytes:
        """`nbytes` bytes of any content, writable. They come back when the last view of them goes.

        Raises MemoryError.
        """
        if nbytes < _LEAST:
            return np.empty(nbytes, np.uint8)
        if not _is_pooled(nbytes):
            return np.frombuffer(_mapped(nbytes), np.uint8, nbytes)
        size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            regions = self._regions.setdefault(size, [])
            if not regions:
                regions.append(_Region(size))
            region = regions[-1]
            offset, used = region.take()
            if used:
                self._idle -= size
            if region.full:
                regions.pop()
            block: Bytes = np.frombuffer(region.memory, np.uint8, nbytes, offset)
            region.lent[offset] = weakref.ref(block, partial(self._back, region, offset))
            return block

    def _back(self, region: _Region, offset: int, _: object) -> None:
        """A block was let go of."""
        with self._lock:
            regions = self._regions.setdefault(region.size, [])
            if region.full:
                regions.append(region)
            keep = self._idle + region.size <= self._most_idle
            region.give(offset, keep)
            if keep:
                self._idle += region.size
            elif not region.lent:
                self._idle -= region.size * len(region.used)
                regions.remove(region)


class _Region:
    """Blocks of `size` bytes (whole pages) in one mapping."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = _mapped(_REGION)
        self.lent: dict[int, Any] = {}  # offset: weak reference to the block there
        # Offsets of idle blocks: those that hold memory, and those that do not.
        self.used: list[int] = []
        self.fresh = list(range(_REGION // size * size - size, -1, -size))

    @property
    def full(self) -> bool:
        return not self.used and not self.fresh

    def take(self) -> tuple[int, bool]:
        """Where a block is, and whether it held memory already."""
        return (self.used.pop(), True) if self.used else (self.fresh.pop(), False)

    def give(self, offset: int, keep: bool) -> None:
        """Take a block back, and `keep` its memory or let the system have it."""
        del self.lent[offset]
        if keep:
            self.used.append(offset)
        else:
            self.memory.madvise(mmap.MADV_DONTNEED, offset, self.size)
            self.fresh.append(offset)


def _mapped(nbytes: int) -> mmap.mmap:
    """Memory that begins and ends with a page, huge ones if the kernel has them.

    What the C library maps begins 16 bytes into a page: of 8 MiB, the first and the last of huge
    pages are small ones then. 256 MiB of bands took 16,500 faults and 39 ms, and so take 130 and
    16 ms. Raises MemoryError.
    """
    try:
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {nbytes} bytes for blocks: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without them
            log.debug("no huge pages")
    return memory


_pool = Pool()


def empty(nbytes: int) -> Bytes:
    """As `Pool.empty`, of the process's own pool."""
    return _pool.empty(nbytes)


def array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of any content, C-contiguous, writable."""
    nbytes = math.prod(shape) * dtype.itemsize
    return empty(nbytes).view(dtype).reshape(shape) if nbytes else np.empty(shape, dtype)


def keep(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`block` (C-contiguous) in memory that is its own and none else's: a copy where it is not.

    What a decompressor or a store returned is of the heap, or a part of something larger.
    """
    root = block
    while isinstance(root.base, np.ndarray):
        root = root.base
    owner = getattr(root.base, "obj", root.base)
    lent = isinstance(owner, mmap.mmap)
    held = root.nbytes if lent or owner is None else memoryview(owner).nbytes
    if held == block.nbytes and (lent or not _is_pooled(block.nbytes)):
        return block
    own = array(block.shape, block.dtype)
    own[...] = block
    own.flags.writeable = block.flags.writeable
    return own
