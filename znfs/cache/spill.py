"""The spill: decoded data that was driven out of memory and will be wanted again.

One nameless file in the disk tier's folder, under half of its limit, gone with the process.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Hashable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 30.0  # after a failed write


class Spill:
    """Byte strings in one nameless file, overwritten from the start once it is full.

    A reader that is overtaken by the overwriting notices, for the key is withdrawn first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.written = self.hits = 0
        self._folder = folder
        self._file: Any = None
        self._closed = False
        self._paused_until = 0.0
        self._at = 0
        self._slots: dict[Hashable, tuple[int, int]] = {}
        self._order: deque[tuple[int, int, Hashable]] = deque()
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # one put at a time: a slow one must not write over a next

    def put(self, key: Hashable, data: memoryview) -> None:
        """Keep `data` under `key`, in place of the oldest."""
        with self._writing:
            with self._lock:
                if self._closed or data.nbytes > self.limit // 2 or key in self._slots:
                    return
                if time.monotonic() < self._paused_until:
                    return
                at = self._make_room(data.nbytes)
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(  # noqa: SIM115 (closed by close())
                        dir=self._folder, buffering=0
                    )
                done = 0
                while done < data.nbytes:
                    done += os.pwrite(self._file.fileno(), data[done:], at + done)
            except OSError as error:
                log.warning("disk cache: nothing is spilled for now: %s", error)
                self.clear()
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                return
            with self._lock:
                self._slots[key] = at, data.nbytes
                self._order.append((at, data.nbytes, key))
                self.written += 1
                self.size = max(self.size, at + data.nbytes)

    def _make_room(self, nbytes: int) -> int:
        """Where the next `nbytes` go. What stood there is withdrawn before it is overwritten."""
        if self._at + nbytes > self.limit:
            while self._order and self._order[0][0] >= self._at:
                self._slots.pop(self._order.popleft()[2], None)
            self._at = 0
        at, self._at = self._at, self._at + nbytes
        while self._order and at <= self._order[0][0] < at + nbytes:
            self._slots.pop(self._order.popleft()[2], None)
        return at

    def read_into(self, key: Hashable, start: int, out: memoryview) -> bool:
        """Fill `out` from byte `start` of what `key` names; False if it is not here."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        at = slot[0] + start
        try:
            done = 0
            while done < len(out):
                n = os.preadv(self._file.fileno(), [out[done:]], at + done)
                if not n:
                    return False
                done += n
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            log.warning("disk cache: cannot read spilled data: %s", error)
            return False
        if self._slots.get(key) is not slot:  # it may be there anew, at the same place
            return False
        self.hits += 1
        return True

    def __contains__(self, key: Hashable) -> bool:
        return key in self._slots

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._slots.clear()
            self._order.clear()

    def close(self) -> None:
        # After what is being written: the file's number may be another file's once it is closed.
        # Who reads notices by its key.
        with self._writing, self._lock:
            self._slots.clear()
            self._closed = True
            if self._file is not None:
                self._file.close()
