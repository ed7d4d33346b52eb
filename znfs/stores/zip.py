"""Zip files in any store: members stored as they are become ranged gets, others are unpacked."""

from __future__ import annotations

import bz2
import io
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isal import isal_zlib

from znfs.errors import Stale, StoreError
from znfs.stores.base import Blob, Entry, Renewable, Stat, Store
from znfs.stores.keys import directly_below, joined
from znfs.stores.ranges import matching, resolve

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ATTEMPTS = 3  # at a zip file that is being replaced
_TRUST = 1.0  # seconds between two looks whether a remote zip file has changed
_TAIL = 64 << 10  # read at once: where the directory of a small zip file is
_CHECKED = 256 << 20  # packed members up to this are unpacked whole, and their CRC-32 checked
_MOST_UNPACKED = 4 << 30
_MOST_DIRECTORY = 1 << 30  # of ten million members
_NEAR = 64 << 10  # a range that begins so near its header is read together with it
# APPNOTE.TXT 4.3.7: the local header's fixed part, and where its two lengths are.
_HEADER = 30
_MAGIC = b"PK\x03\x04"
# What zipfile says of one it cannot read; a name that is not UTF-8, and a seek to before the
# beginning, are ValueErrors.
_NO_ZIP = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error)
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4


class Member(NamedTuple):
    """A line of the central directory."""

    header: int  # where its local header begins
    packed: int  # bytes in the zip file
    size: int
    method: int  # APPNOTE.TXT 4.4.5
    crc: int
    flags: int
    guess: int  # the local header's length, if it has the name and fields that the directory has


@dataclass(frozen=True)
class Index:
    """The central directory of one version of a zip file."""

    version: str
    mtime: float
    members: dict[str, Member]
    names: list[str]  # sorted
    data: dict[str, int]  # where members' bytes begin, as far as known


def _inflate(data: bytes | memoryview, size: int) -> bytes:
    unpack = isal_zlib.decompressobj(-15)
    return bytes(unpack.decompress(data, size + 1))


def _unbzip2(data: bytes | memoryview, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size + 1)


_UNPACK: dict[int, Callable[[bytes | memoryview, int], bytes]] = {
    zipfile.ZIP_DEFLATED: _inflate,
    zipfile.ZIP_BZIP2: _unbzip2,
}


class ZipStore:
    """The members of a zip file below `path`; the zip file is the key "" of `base`.

    A member's version is the zip file's and its CRC-32. A range of a packed member unpacks it all.
    """

    def __init__(self, base: Store, path: str = "") -> None:
        self.url = f"zip://{path}::{base.url}"
        self.concurrency = base.concurrency
        self.local = base.local
        self._base = base
        self._path = path
        self._lock = threading.Lock()
        self._loaded: Index | None = None
        self._checked = 0.0
        self._era = object()  # another one after renew()

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        name = joined(self._path, key)
        for _ in range(_ATTEMPTS):
            index = self._index()
            member = index.members.get(name) if index else None
            if index is None or member is None:
                if self._current(index):
                    return None
                continue
            version = _version(index, member)
            if if_match is not None and if_match != version:
                raise Stale(f"{key}: the zip file has changed")
            lo, hi = resolve(start, stop, member.size)
            try:
                data = self._bytes(index, name, member, lo, hi)
            except Stale:
                self._forget(index)
                if if_match is not None:
                    raise
                continue
            return matching(key, Blob(data, version, index.mtime), if_match)
        raise StoreError(f"{key}: {self._base.url} changes while it is read")

    def stat(self, key: str) -> Stat | None:
        for _ in range(_ATTEMPTS):
            index = self._index()
            if not self._current(index):
                continue
            member = index.members.get(joined(self._path, key)) if index else None
            if index is None or member is None:
                return None
            return Stat(member.size, _version(index, member), index.mtime)
        raise StoreError(f"{key}: {self._base.url} changes while it is read")

    def list(self, prefix: str) -> Iterator[Entry]:
        index = self._index()
        if not self._current(index):
            index = self._index()
        if index is None:
            return
        members = index.members
        yield from directly_below(
            joined(self._path, prefix), index.names, lambda name: members[name].size
        )

    def renew(self) -> None:
        # Without the lock, which a load holds: one that is under way is of before, and dropped.
        self._era = object()
        self._loaded = None
        if isinstance(self._base, Renewable):
            self._base.renew()

    def close(self) -> None:
        with self._lock:
            self._loaded = None
        self._base.close()

    def _bytes(
        self, index: Index, name: str, member: Member, lo: int, hi: int
    ) -> bytes | memoryview:
        """Bytes [lo, hi) of a member. Raises Stale if the zip file is not the index's any more."""
        if member.flags & _ENCRYPTED:
            raise StoreError(f"{name}: encrypted in {self._base.url}")
        if member.method == zipfile.ZIP_STORED:
            if member.packed != member.size:  # or a part of it might be another member's
                raise StoreError(f"{name}: damaged in {self._base.url} (two lengths)")
            data = self._packed(index, name, member, lo, hi)
            if (lo, hi) == (0, member.size):
                self._verify(name, member, data)
            return data
        unpack = _UNPACK.get(member.method)
        if unpack is None:
            raise StoreError(f"{name}: unknown method {member.method} in {self._base.url}")
        # What a member says of its size is not to be believed with memory: of a large one only what
        # is asked for is unpacked, and not checked.
        size = member.size if member.size <= _CHECKED else hi
        if size > _MOST_UNPACKED:
            raise StoreError(f"{name}: too large to be unpacked from {self._base.url}")
        try:
            whole = unpack(self._packed(index, name, member, 0, member.packed), size)
        except (isal_zlib.error, OSError, EOFError) as error:  # type: ignore[misc]  # stub's error
            raise StoreError(f"{name}: damaged in {self._base.url}: {error}") from error
        if size == member.size:
            self._verify(name, member, whole)
        elif len(whole) < hi:
            raise StoreError(f"{name}: cut short in {self._base.url}")
        return whole[lo:hi]

    def _verify(self, name: str, member: Member, data: bytes | memoryview) -> None:
        if len(data) != member.size or isal_zlib.crc32(data) != member.crc:
            raise StoreError(f"{name}: damaged in {self._base.url} (CRC-32 or length)")

    def _packed(
        self, index: Index, name: str, member: Member, lo: int, hi: int
    ) -> bytes | memoryview:
        """Bytes [lo, hi) of a member as they are in the zip file.

        They begin after the local header, whose length the central directory does not tell: it is
        guessed, and read along.
        """
        if lo >= hi:
            return b""
        ahead = memoryview(b"")  # bytes of the member that came along with its header
        begin = index.data.get(name)
        if begin is None:
            near = lo < _NEAR
            want = member.guess + hi if near else _HEADER
            head = memoryview(self._base_get(index, member.header, member.header + want))
            if len(head) < _HEADER or head[:4] != _MAGIC:
                raise StoreError(f"{name}: no local header in {self._base.url}")
            fields = head[26:30]
            length = _HEADER + sum(int.from_bytes(fields[i : i + 2], "little") for i in (0, 2))
            begin = index.data[name] = member.header + length
            ahead = head[length:]
        have = ahead[lo:hi]
        if len(have) == hi - lo:
            return have
        rest = self._base_get(index, begin + lo + len(have), begin + hi)
        data = b"".join((have, rest)) if len(have) else rest
        if len(data) != hi - lo:
            raise StoreError(f"{name}: cut short in {self._base.url}")
        return data

    def _base_get(self, index: Index, start: int, stop: int) -> bytes | memoryview:
        blob = self._base.get("", start, stop, if_match=index.version)
        if blob is None:
            raise Stale(f"{self._base.url}: gone")
        return blob.data

    def _index(self) -> Index | None:
        """The directory of the zip file, or None if there is no zip file."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                if (known := self._loaded) is not None:
                    return known
                era = self._era
                try:
                    loaded = _load(self._base)
                except Stale:
                    continue
                if self._era is era:
                    self._loaded = loaded
                    self._checked = time.monotonic()
                return loaded
        raise StoreError(f"{self._base.url}: changes while it is read")

    def _current(self, index: Index | None) -> bool:
        """Whether the zip file is still the index's; if not, the index is forgotten."""
        if not self.local and time.monotonic() - self._checked < _TRUST:
            return True
        now = self._base.stat("")
        if (now.version if now else None) == (index.version if index else None):
            self._checked = time.monotonic()
            return True
        self._forget(index)
        return False

    def _forget(self, index: Index | None) -> None:
        with self._lock:
            if self._loaded is index:
                self._loaded = None


def _version(index: Index, member: Member) -> str:
    return f"{index.version}/{member.crc:08x}"


def _load(base: Store) -> Index | None:
    found = base.stat("")
    if found is None:
        return None
    reader = _Bounded(_Reader(base, found), 1 << 20)
    try:
        with zipfile.ZipFile(reader) as file:
            infos = file.infolist()
    except _NO_ZIP as error:
        raise StoreError(f"{base.url}: not a zip file ({error})") from error
    members = {
        i.filename: Member(
            i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC, i.flag_bits,
            _HEADER + len(i.orig_filename.encode("utf-8", "surrogateescape")) + len(i.extra),
        )
        for i in infos
        if i.filename and not i.filename.endswith("/")
    }
    return Index(found.version, found.mtime, members, sorted(members), {})


class _Bounded(io.BufferedReader):
    """Reads no directory for which there is no memory, whatever the end record says of its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(size)


class _Reader(io.RawIOBase):
    """A zip file in a store as a seekable file, of one version."""

    def __init__(self, base: Store, found: Stat) -> None:
        self._base = base
        self._found = found
        self._at = 0
        self._tail_at = max(0, found.size - _TAIL)
        self._tail = self._fetch(self._tail_at, found.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size}[whence]
        if origin + offset < 0:
            raise ValueError("seek before the beginning")
        self._at = origin + offset
        return self._at

    def readinto(self, out: WriteableBuffer) -> int:
        view = memoryview(out).cast("B")
        stop = min(self._at + len(view), self._found.size)
        if self._at >= stop:
            return 0
        if self._at >= self._tail_at:
            data = self._tail[self._at - self._tail_at : stop - self._tail_at]
        else:
            data = self._fetch(self._at, stop)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, start: int, stop: int) -> memoryview:
        blob = self._base.get("", start, stop, if_match=self._found.version)
        if blob is None:
            raise Stale(f"{self._base.url}: gone")
        return memoryview(blob.data)
