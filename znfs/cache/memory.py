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
import os
import threading
import weakref
from collections import OrderedDict, deque
from functools import partial
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

log = logging.getLogger(__name__)

_LEAST = 64 << 10  # bytes; below, the C library's heap is as good
_REGION = 16 << 20  # bytes of a region of several blocks: whole huge pages
# What has been let go of and not been taken again is kept up to this many bytes; what was let go of
# the longest ago goes back to the system.
_MOST_IDLE = 32 << 20

# From this size on the C library's heap maps each piece apart, and gives it back at once.
_MMAP_THRESHOLD = 4 << 20

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


class Pool:
    """Hands out memory in regions of blocks of one size. Safe for many threads.

    A block may be let go of anywhere, also where the interpreter collects garbage in the middle of
    a method of this class: that is only noted then, and settled by whoever has the lock.
    """

    def __init__(self, most_idle: int = _MOST_IDLE) -> None:
        self._most_idle = most_idle
        # Those with room, by the size of their blocks; the one used last comes last.
        self._regions: dict[int, OrderedDict[_Region, None]] = {}
        self._full: set[_Region] = set()
        # Blocks that were written to and let go of; the longest ago comes first.
        self._idle: OrderedDict[_Place, None] = OrderedDict()
        self._idle_bytes = 0
        self._returned: deque[_Place] = deque()  # let go of, and not settled yet
        self._lock = threading.Lock()

    @property
    def idle(self) -> int:
        """Bytes held for the next block."""
        return self._idle_bytes

    def empty(self, nbytes: int) -> Bytes:
        """`nbytes` bytes of any content, writable. They come back when the last view of them goes.

        Raises MemoryError.
        """
        if nbytes < _LEAST:
            return np.empty(nbytes, np.uint8)
        size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            self._settle()
            region, offset = self._take(size)
        block: Bytes = np.frombuffer(region.memory, np.uint8, nbytes, offset)
        region.lent[offset] = weakref.ref(block, partial(self._back, (region, offset)))
        self._settle_if_free()
        return block

    def _back(self, place: _Place, _: object) -> None:
        """A block was let go of."""
        self._returned.append(place)
        self._settle_if_free()

    def _settle_if_free(self) -> None:
        """Settle what was returned, unless who has the lock will, once it has let go of it."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    # The methods below are called with the lock held.

    def _take(self, size: int) -> _Place:
        """A block that nobody has."""
        regions = self._regions.setdefault(size, OrderedDict())
        region = next(reversed(regions), None)
        if region is None:
            region = _Region(size)
            regions[region] = None
        offset = region.take()
        if (region, offset) in self._idle:
            del self._idle[region, offset]
            self._idle_bytes -= size
        if region.full:
            del regions[region]
            self._full.add(region)
        return region, offset

    def _settle(self) -> None:
        """Take back what was returned, and let the system have what is too much."""
        while self._returned:
            place = region, offset = self._returned.popleft()
            region.give(offset)
            self._full.discard(region)
            regions = self._regions[region.size]
            regions[region] = None
            regions.move_to_end(region)
            self._idle[place] = None
            self._idle_bytes += region.size
        while self._idle_bytes > self._most_idle:
            (region, offset), _ = self._idle.popitem(last=False)
            self._idle_bytes -= region.size
            if region.free(offset):
                del self._regions[region.size][region]


class _Region:
    """Blocks of `size` bytes (whole pages) in one mapping; a single one if it is large."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = _mapped(max(size, _REGION // size * size))
        self.lent: dict[int, Any] = {}  # offset: weak reference to the block there, once it is one
        # Offsets of idle blocks: those that hold memory, and those that do not.
        self.used: list[int] = []
        self.fresh = list(range(len(self.memory) - size, -1, -size))

    @property
    def full(self) -> bool:
        return not self.used and not self.fresh

    def take(self) -> int:
        """Where a block is: memory that was used last, if there is any."""
        offset = self.used.pop() if self.used else self.fresh.pop()
        self.lent[offset] = None
        return offset

    def give(self, offset: int) -> None:
        """Take a block back."""
        del self.lent[offset]
        self.used.append(offset)

    def free(self, offset: int) -> bool:
        """Let the system have the memory of an idle block. True if no block holds any more: the
        region itself may go."""
        self.used.remove(offset)
        self.fresh.append(offset)
        if not self.lent and not self.used:
            return True
        self.memory.madvise(mmap.MADV_DONTNEED, offset, self.size)
        return False


_Place = tuple[_Region, int]  # a block's region, and its offset there


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


def _begin_anew() -> None:
    """In a forked process, where nobody is left to let go of the pool's lock."""
    global _pool
    _pool = Pool()


os.register_at_fork(after_in_child=_begin_anew)


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
    of_heap = not _LEAST <= block.nbytes < _MMAP_THRESHOLD  # which is as good for these
    if held == block.nbytes and (lent or of_heap):
        return block
    own = array(block.shape, block.dtype)
    own[...] = block
    own.flags.writeable = block.flags.writeable
    return own
