"""Files of the tree as Python's own: seekable binary objects for numpy, tifffile, h5py."""

from __future__ import annotations

import io
from typing import Any

from znfs.node import File

_BUFFER = 128 << 10  # bytes


class RawReader(io.RawIOBase):
    """A File behind Python's raw, unbuffered interface."""

    def __init__(self, file: File, name: str = "") -> None:
        self._file = file
        self._at = 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer).cast("B") as out:
            got = self._file.read_into(self._at, out)
        self._at += got
        return got

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.closed:
            raise ValueError("seek of a closed file")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(self, _BUFFER)


def open_file(file: File, name: str = "") -> io.BufferedReader:
    """A seekable binary file object that reads `file`. Reads raise ZnfsError."""
    return RawReader(file, name).buffered()
