"""Reading ahead in the kernel where it does not do so by itself.

A reader of HDF5 asks for one chunk after another, each in one request, and between chunks is a gap,
lest the kernel fetch the next one for a reader who jumps about. So reader and daemon wait for one
another in turn. A walk that the views look ahead for is therefore read ahead from here, as far as
`File.ahead` says: the daemon opens the file through its own mount, and posix_fadvise(2) has the
kernel ask for what comes next (POSIX_FADV_WILLNEED does not wait for it). What the reader then
wants is in the page cache, where it came as all else there. Walks over cached chunks of 512 KiB
took 0.7 of the time, cold ones 0.8 (LZ4) and 0.9 (zstd). Handing the kernel what it should keep,
by FUSE_NOTIFY_STORE, took 1.2: it takes that page by page.

An open file keeps a mount busy, so the daemon's is closed before the reader's `close` returns: that
is what FUSE_FLUSH is for. Linux 5.18 and libfuse 3.11 leave it out for all other files if told
so; where they cannot be, nothing is read ahead.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from znfs.fuse.binding import Binding

log = logging.getLogger("znfs.fuse")

_NOFLUSH_SINCE = 35  # minor version of the protocol, of FOPEN_NOFLUSH
# What the daemon opens files with, and who only reads never does: so it knows its own.
_MARK = os.O_DSYNC | os.O_NONBLOCK


def is_own(flags: int) -> bool:
    """Whether a file opened with these flags was opened from here."""
    return flags & (os.O_SYNC | os.O_NONBLOCK) == _MARK


class ReadAhead:
    """Asks the kernel to read ahead in files that readers have open. They are known by the numbers
    of their handles. Nothing here waits but a thread for which nobody waits.
    """

    def __init__(self) -> None:
        self.able = False
        self.asked = 0  # ranges
        self._knows_noflush = False
        self._mountpoint = b""
        self._mutex = threading.Lock()
        self._own: dict[int, int | None] = {}  # the daemon's descriptors, once there are any
        self._in_use: int | None = None  # the file that the thread asks for just now
        self._queue: SimpleQueue[tuple[int, str, Sequence[range]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def use(self, binding: Binding, mountpoint: str) -> None:
        """Say where the mount will be."""
        self._knows_noflush = hasattr(binding.module.fuse_file_info, "noflush")
        self._mountpoint = os.fsencode(mountpoint)

    def agree(self, protocol: int) -> None:
        """The kernel speaks that minor version of the protocol."""
        self.able = self._knows_noflush and protocol >= _NOFLUSH_SINCE

    def ask(self, number: int, path: str, ranges: Sequence[range]) -> None:
        """Have the kernel read these ranges of bytes of the file at `path`."""
        if not self.able:
            return
        with self._mutex:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="znfs-ahead", daemon=True)
                try:
                    thread.start()
                except RuntimeError as exc:  # no thread is to be had
                    log.debug("%s: not read ahead: %s", path, exc)
                    return
                self._thread = thread
            self._own.setdefault(number, None)
        self._queue.put((number, path, ranges))

    def drop(self, number: int) -> None:
        """The reader closes the file: so do we."""
        if number not in self._own:
            return
        with self._mutex:
            fd = self._own.pop(number, None)
            if number == self._in_use:
                return  # the thread will close it
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """The mount has gone: the thread ends."""
        self._queue.put(None)

    def _run(self) -> None:
        while (wanted := self._queue.get()) is not None:
            number, path, ranges = wanted
            try:
                self._ask(number, path, ranges)
            except OSError as exc:  # it has changed, or the mount goes away
                log.debug("%s: not read ahead: %s", path, exc)

    def _ask(self, number: int, path: str, ranges: Sequence[range]) -> None:
        with self._mutex:
            if number not in self._own:
                return
            fd = self._own[number]
            self._in_use = number
        try:
            if fd is None:
                fd = os.open(b"%s/%s" % (self._mountpoint, os.fsencode(path)), _MARK)
            for part in ranges:
                os.posix_fadvise(fd, part.start, len(part), os.POSIX_FADV_WILLNEED)
            self.asked += len(ranges)
        finally:
            with self._mutex:
                self._in_use = None
                wanted = number in self._own
                if wanted:
                    self._own[number] = fd
            if fd is not None and not wanted:
                os.close(fd)
