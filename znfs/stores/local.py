"""Local folders: `os.open` and `os.pread`, with the file's version checked before and after."""

from __future__ import annotations

import errno
import os
import stat as modes
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

from znfs.errors import Denied, Stale, StoreError
from znfs.stores.base import Blob, Entry, Stat
from znfs.stores.ranges import resolve

# EISDIR, ENXIO: a directory, socket or FIFO is no object. ENAMETOOLONG: nothing can have that name.
_ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO, errno.ENODEV}
)
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_ATTEMPTS = 3  # at a file that is being rewritten
# O_NONBLOCK: opening a FIFO must not wait for its writer.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LocalStore:
    """The files below a folder, or (as key "") a single file.

    Symbolic links are followed: whoever may write into the folder may point them anywhere. Those
    to a folder above themselves are not listed. A hung network file system hangs its readers; no
    deadline can help there.
    """

    local = True

    def __init__(self, root: str) -> None:
        self.url = root
        self.concurrency = max(2, os.cpu_count() or 1)
        self._root = root.rstrip("/")

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        path = self._path(key)
        if path is None:
            return None
        for _ in range(_ATTEMPTS):
            with self._mapped(key):
                fd = os.open(path or "/", _FLAGS)
                try:
                    blob, whole = _read(fd, key, start, stop, if_match)
                finally:
                    os.close(fd)
                if whole:
                    return blob
                continue
            return None
        raise StoreError(f"{key}: the file changes while it is read")

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        if path is None:
            return None
        with self._mapped(key):
            found = os.stat(path)
            if modes.S_ISREG(found.st_mode):
                return Stat(found.st_size, _version(found), found.st_mtime_ns / 1e9)
        return None

    def is_folder(self, path: str) -> bool:
        where = self._path(path)
        if where is None:
            return False
        with self._mapped(path):
            return modes.S_ISDIR(os.stat(where or "/").st_mode)
        return False

    def list(self, prefix: str) -> Iterator[Entry]:
        path = self._path(prefix)
        if path is None:
            return
        above: set[tuple[int, int]] | None = None
        with self._mapped(prefix), os.scandir(path or "/") as entries:
            for entry in entries:
                try:
                    is_dir = entry.is_dir()
                    if is_dir and entry.is_symlink():
                        above = self._above(prefix) if above is None else above
                        if _identity(entry.stat()) in above:
                            continue
                    found = None if is_dir else entry.stat()
                except OSError as error:
                    # Gone since, or a link to nowhere: neither is a name worth an error here.
                    if error.errno in _ABSENT or error.errno == errno.ELOOP:
                        continue
                    raise
                if found is None:
                    yield Entry(entry.name, True)
                elif modes.S_ISREG(found.st_mode):
                    yield Entry(entry.name, False, found.st_size)

    def close(self) -> None:
        """Nothing is held open."""

    def _above(self, prefix: str) -> set[tuple[int, int]]:
        """The folders on the way to `prefix`, and itself: who follows a link to one goes round."""
        parts = prefix.split("/") if prefix else []
        paths = (self._path("/".join(parts[:n])) or "/" for n in range(len(parts) + 1))
        return {_identity(os.stat(path)) for path in paths}

    def _path(self, key: str) -> str | None:
        """Where the key is, or None if it would leave the root or be no plain path."""
        if not key:
            return self._root
        if "\0" in key or not all(s and s not in (".", "..") for s in key.split("/")):
            return None
        return f"{self._root}/{key}"

    @contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        """OSError as the store's errors; what is absent just ends the block."""
        try:
            yield
        except OSError as error:
            if error.errno in _ABSENT:
                self._refuse_dangling(key)
                return
            if error.errno in _DENIED:
                raise Denied(f"{key}: {error.strerror}") from error
            raise StoreError(f"{key}: {error.strerror or error}") from error

    def _refuse_dangling(self, key: str) -> None:
        """A link to nowhere (git-annex, a disk that is not mounted) is not absent: StoreError."""
        parts = key.split("/")

        def path(length: int) -> str:
            return "/".join((self._root, *parts[:length]))

        # The last part that is there: in a few steps, for a key may have thousands.
        lengths = range(1, len(parts) + 1)
        there = bisect_left(lengths, True, key=lambda n: not os.path.lexists(path(n)))
        if there and os.path.islink(path(there)) and not os.path.exists(path(there)):
            raise StoreError(f"{'/'.join(parts[:there])}: a symbolic link to nothing")


def _read(
    fd: int, key: str, start: int, stop: int | None, if_match: str | None
) -> tuple[Blob | None, bool]:
    """The range, and whether the file held still; None for what is no regular file."""
    before = os.fstat(fd)
    if not modes.S_ISREG(before.st_mode):
        return None, True
    version = _version(before)
    if if_match is not None and if_match != version:
        raise Stale(f"{key}: the file has changed")
    lo, hi = resolve(start, stop, before.st_size)
    data = _pread(fd, lo, hi - lo)
    # A write under way mixes old and new bytes, a truncation cuts them short.
    still = _version(os.fstat(fd)) == version and len(data) == hi - lo
    return Blob(data, version, before.st_mtime_ns / 1e9), still


def _pread(fd: int, start: int, size: int) -> bytes:
    """Up to `size` bytes; Linux returns at most 2 GiB at a time."""
    data = os.pread(fd, size, start)
    if len(data) == size or not data:
        return data
    parts = [data]
    have = len(data)
    while have < size and (data := os.pread(fd, size - have, start + have)):
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
