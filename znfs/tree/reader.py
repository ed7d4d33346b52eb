"""Files of the tree as Python's own: seekable binary objects for numpy, tifffile, h5py."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from znfs.errors import NotFound, Stale
from znfs.node import File, Node

_BUFFER = 128 << 10  # bytes

Resolve = Callable[[str], Node]


def current(resolve: Resolve, path: str, version: str) -> File:
    """The file at `path`, which was opened at that version. After a refresh it is another object,
    over blocks that are loaded anew. Raises Stale where it has changed or is gone, and as
    `resolve`."""
    try:
        node = resolve(path)
    except NotFound as exc:
        raise Stale(f"{path}: is no longer there") from exc
    if node.version != version or not isinstance(node, File):
        raise Stale(f"{path}: has changed since it was opened")
    return node


class RawReader(io.RawIOBase):
    """A File behind Python's raw, unbuffered interface. `look` is asked for it before each read."""

    def __init__(self, file: File, name: str = "", look: Callable[[], File] | None = None) -> None:
        self._file = file
        self._look = look
        self._at = 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._look is not None:
            self._file = self._look()
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


def looker(resolve: Resolve, path: str, file: File) -> Callable[[], File] | None:
    """What RawReader asks for `file`, which was found at `path`; None for a report of a moment."""
    return None if file.live else partial(current, resolve, path, file.version)


def open_file(
    file: File, name: str = "", look: Callable[[], File] | None = None
) -> io.BufferedReader:
    """A seekable binary file object that reads `file`. Reads raise ZnfsError; with a `looker`,
    Stale, too, once it has changed."""
    return RawReader(file, name, look).buffered()
