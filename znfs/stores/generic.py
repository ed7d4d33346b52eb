"""Every other fsspec file system: memory, sftp, ftp, webdav, github, reference, tar, chains, …"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from znfs import deadline
from znfs.errors import (
    Denied,
    NotListable,
    SourceError,
    StoreError,
    Unanswered,
    UsageError,
    ZnfsError,
)
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores.arguments import typed
from znfs.stores.base import NOBODY_THERE, Blob, Entry, Stat
from znfs.stores.calls import Threads, run_async
from znfs.stores.keys import has_dots
from znfs.stores.ranges import check, matching, resolve
from znfs.stores.urls import Location, split_chain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.core import OpenFile

T = TypeVar("T")
_CONCURRENCY = 16
_ATTEMPTS = 3  # at an object that changes while it is read
_CACHES = frozenset({"blockcache", "cached", "filecache", "simplecache"})  # fsspec's, on disk
# What file systems call the things that change with an object.
_VERSION_FIELDS = (
    "ETag", "etag", "e_tag", "md5Hash", "crc32c", "generation", "checksum", "sha", "hash",
    "blob_id", "xet_hash", "LastModified", "Last-Modified", "last_modified", "mtime", "modified",
    "modify", "updated", "created",
)
_TIME_FIELDS = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_LOOKED_UP = (*_ABSENT, KeyError, StopIteration)  # also: in a table or listing that lacks it


@dataclass(frozen=True)
class _Opened:
    """A file system, and the root's path in it."""

    fs: AbstractFileSystem
    root: str
    lock: threading.Lock | None  # held by each call, unless many at once are known to be right
    archive: OpenFile | None  # what it shows the members of
    version: str  # the archive's, once it was opened
    copies: _Copies | None  # what fsspec's caches made


class _Copies:
    """A temporary folder that goes with the last that holds it, or when told to: fsspec removes its
    own at the end of Python, which a daemon does not come to."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="znfs-copies-")
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


class _Replaced(Exception):
    """The archive is another than the one that was opened."""


class FsspecStore:
    """A folder of any fsspec file system.

    A get asks for the object's info before and after its bytes: fsspec has no conditional reads.
    What the file system tells of an object (see _VERSION_FIELDS) and its size are its version,
    and that of the archive it is in. A file system that fails is opened anew.
    """

    concurrency = _CONCURRENCY
    local = False

    def __init__(self, location: Location, options: Options) -> None:
        self.url = redact(location.text)
        self._text = location.text
        self._arguments = _arguments(location, options)
        self._deadline = options.deadline
        self._threads = Threads(2 * _CONCURRENCY)
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._copies: weakref.WeakSet[_Copies] = weakref.WeakSet()  # older ones may be in use yet
        self._era = object()  # another one after renew()
        _require(location.text)

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        for _ in range(_ATTEMPTS):
            before = self.stat(key)
            if before is None:
                return None
            lo, hi = resolve(start, stop, before.size)
            data: bytes | None = b""
            if lo < hi:
                whole = (lo, hi) == (0, before.size)
                data = self._cat(key, None if whole else lo, None if whole else hi)
            if data is None or self.stat(key) != before:
                continue
            if len(data) == before.size != hi - lo:
                data = data[lo:hi]  # a server that ignored the range
            check(key, data, start, stop, lo, hi, before.size)
            return matching(key, Blob(data, before.version, before.mtime), if_match)
        raise StoreError(f"{key}: the object changes while it is read")

    def stat(self, key: str) -> Stat | None:
        if has_dots(key):
            return None
        found = self._call(key, "info", None)
        if found is None:
            return None
        opened, info = found
        if info.get("type") == "directory":
            return None
        size = info.get("size")
        if size is None:
            # Some servers do not tell; only the bytes do.
            data = self._cat(key, None, None)
            if data is None:
                return None
            size = len(data)
        version = _version(info, int(size))
        if opened.archive is not None:
            version = f"{opened.version}/{version}"
        return Stat(int(size), version, _mtime(info))

    def list(self, prefix: str) -> Iterator[Entry]:
        if has_dots(prefix):
            return
        found = self._call(prefix, "ls", None, NotListable, detail=True)
        if found is None:
            return
        opened, infos = found
        here = f"{opened.root}/{prefix}".strip("/")
        for info in infos:
            path = info["name"].strip("/")
            # `ls` of an object names the object itself; some name the folder, too.
            if path == here:
                continue
            is_prefix = info.get("type") == "directory"
            yield Entry(path.rpartition("/")[2], is_prefix, 0 if is_prefix else info["size"] or 0)

    def renew(self) -> None:
        self._era = object()
        self._opened = None

    def close(self) -> None:
        self.renew()
        for copies in list(self._copies):
            copies.remove()

    def _cat(self, key: str, start: int | None, stop: int | None) -> bytes | None:
        found = self._call(key, "cat_file", None, start=start, end=stop)
        return None if found is None else found[1]

    def _open(self, what: str) -> _Opened:
        """Some file systems connect at once, so not before use, and in a thread aside."""
        with self._held(self._lock, what), ExitStack() as failed:
            if (opened := self._opened) is not None:
                return opened
            from fsspec.core import url_to_fs

            era = self._era
            links = _links(self._text)
            copies = _Copies() if _CACHES.intersection(links) else None
            if copies is not None:
                self._copies.add(copies)
                failed.callback(copies.remove)
            told = _told(links, self._arguments, copies)
            try:
                fs, root = url_to_fs(self._text, **told)
            except (AttributeError, TypeError, ValueError) as error:  # options amiss
                line = redact(str(error).partition("\n")[0])[:200]
                raise SourceError(f"{self.url}: {line}") from None
            archive = _archive(fs)
            version = "" if archive is None else _look(archive)
            lock = None if _is_parallel(fs) else threading.Lock()
            opened = _Opened(fs, root.rstrip("/") or root, lock, archive, version, copies)
            failed.pop_all()
            if self._era is era:
                self._opened = opened
            return opened

    @contextmanager
    def _held(self, lock: threading.Lock | None, what: str) -> Iterator[None]:
        if lock is None:
            yield
            return
        if not lock.acquire(timeout=min(self._deadline, deadline.left())):
            raise Unanswered(f"{what}: other calls did not end in time")
        try:
            yield
        finally:
            lock.release()

    def _drop(self, opened: _Opened | None) -> None:
        """Have the next call open the file system anew, unless that was done meanwhile."""
        if self._opened is opened:
            self._opened = None

    def _call(
        self, key: str, method: str, absent: T, refused: type[ZnfsError] = Denied, **more: Any
    ) -> tuple[_Opened, Any] | T:
        """The file system, and what its `method` says of the key; `absent` where nothing is."""
        what = key or self.url
        opened: _Opened | None = None
        for _ in range(_ATTEMPTS):
            try:
                opened = self._opened or self._threads.run(
                    lambda: self._open(what), self._deadline, what
                )
                return opened, self._ask(opened, key, method, what, more)
            except _Replaced:
                self._drop(opened)
            # Whatever library is behind it: no exception of it may pass for an absent object,
            # unless it says so.
            except Exception as error:
                try:
                    return _absent(what, error, absent, refused)
                except StoreError:
                    self._drop(opened)
                    raise
        raise StoreError(f"{what}: {self.url} changes while it is read")

    def _ask(
        self, opened: _Opened, key: str, method: str, what: str, more: Mapping[str, Any]
    ) -> Any:
        fs = opened.fs
        root = opened.root  # "" where no path begins with a slash: in archives "/x" is not "x"
        path = f"{root.rstrip('/')}/{key}" if root and key else key or root or fs.root_marker
        inner = getattr(fs, "fs", fs)  # dir:// says that it is what may be over what is not
        is_async = fs.async_impl and inner.async_impl and not fs.asynchronous
        if is_async and hasattr(fs, f"_{method}"):
            _forget(fs, path, method)
            coroutine = getattr(fs, f"_{method}")(path, **more)
            return run_async(fs.loop, coroutine, self._deadline, what)

        def call() -> Any:
            with self._held(opened.lock, what):
                archive = None if method == "cat_file" else opened.archive
                if archive is not None and _look(archive) != opened.version:
                    raise _Replaced
                _forget(fs, path, method)
                return getattr(fs, method)(path, **more)

        return self._threads.run(call, self._deadline, what)


def _forget(fs: AbstractFileSystem, path: str, method: str) -> None:
    """Have the file system ask anew."""
    fs.invalidate_cache(path)
    if method == "info":  # some look it up in the folder's listing
        fs.invalidate_cache(fs._parent(path))


def _is_parallel(fs: AbstractFileSystem) -> bool:
    """Whether calls of many threads at once are known to be right. Others may share a connection,
    an open file, or a copy that is being made."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.memory import MemoryFileSystem

    kind = type(fs)  # caches say `async_impl` of what they cache
    if kind is DirFileSystem:
        return _is_parallel(fs.fs)
    return kind in (LocalFileSystem, MemoryFileSystem) or kind.async_impl


def _archive(fs: AbstractFileSystem) -> OpenFile | None:
    """The archive whose members the file system shows, if it is one that keeps it open."""
    from fsspec.core import OpenFile

    while (opened := getattr(fs, "of", None)) is None and "fs" in vars(fs):
        fs = fs.fs
    return opened if isinstance(opened, OpenFile) else None


def _look(archive: OpenFile) -> str:
    """The archive's version now."""
    _forget(archive.fs, archive.path, "info")
    info = archive.fs.info(archive.path)
    return _version(info, int(info.get("size") or 0))


def _links(text: str) -> list[str]:
    """The schemes of a chain's links, outermost first."""
    *links, base = (part.partition("://") for part in split_chain(text))
    scheme, separator, _ = base
    return [*(scheme for scheme, _, _ in links), scheme if separator else "file"]


def _told(
    links: list[str], arguments: Mapping[str, Any], copies: _Copies | None
) -> dict[str, Any]:
    """The arguments, and for each link of the chain that it be opened anew (fsspec keeps what it
    opened, and another store's calls would not be kept out of it), and for caches where to copy to,
    unless the user says where."""
    told: dict[str, Any] = {**arguments, "skip_instance_cache": True}
    for scheme in links[1:]:
        told[scheme] = {**told.get(scheme, {}), "skip_instance_cache": True}
    if copies is not None:
        for scheme in _CACHES.intersection(links):
            link = told if scheme == links[0] else told[scheme]
            link.setdefault("cache_storage", copies.folder)
    return told


def _absent(what: str, error: Exception, absent: T, refused: type[ZnfsError]) -> T:
    """`absent` if the error means that there is nothing; else raises what it means."""
    if isinstance(error, ZnfsError):
        raise error
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    status = next((s for e in chain if (s := _status(e))), 0)
    line = redact(str(error).partition("\n")[0])[:200] or type(error).__name__
    if status in (401, 403) or isinstance(error, PermissionError):
        raise refused(f"{what}: {status or 'permission denied'}") from None
    if refused is NotListable and isinstance(error, NotImplementedError):
        raise NotListable(f"{what}: {line}") from None
    # fsspec's http says FileNotFoundError for every failure, and gives the failure as cause.
    told = isinstance(error, _ABSENT) and isinstance(chain[-1], _LOOKED_UP)
    if status in (404, 410) or (told and not status):
        return absent
    silent = status in NOBODY_THERE or (not status and isinstance(chain[-1], OSError))
    # From None: its traceback may hold a URL with a password.
    raise (Unanswered if silent else StoreError)(f"{what}: {line}") from None


def _status(error: BaseException) -> int:
    """The HTTP status that aiohttp, requests or gcsfs put into an exception, else 0."""
    response = getattr(error, "response", None)
    for holder, name in ((error, "status"), (error, "code"), (response, "status_code")):
        value = getattr(holder, name, None)
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value)
    return 0


def _arguments(location: Location, options: Options) -> dict[str, Any]:
    """The file system's keyword arguments."""
    arguments = typed(options.storage_option)
    if options.anon:
        arguments |= {"token": "anon"} if location.scheme == "gs" else {"anon": True}
    if options.requester_pays and location.scheme == "gs":
        arguments["requester_pays"] = True
    return arguments


def _require(text: str) -> None:
    """That fsspec knows every protocol of the URL and has the libraries for it."""
    from fsspec.registry import get_filesystem_class, known_implementations

    for protocol in _links(text):
        try:
            get_filesystem_class(protocol)
        except ValueError as error:
            raise UsageError(f"{redact(text)!r}: no protocol {protocol!r}") from error
        except ImportError as error:
            hint = known_implementations.get(protocol, {}).get("err", str(error))
            raise SourceError(f"{protocol}: {hint}") from error


def _version(info: Mapping[str, Any], size: int) -> str:
    parts = [str(info[f]) for f in _VERSION_FIELDS if info.get(f) is not None]
    return "-".join([*parts, str(size)])


def _mtime(info: Mapping[str, Any]) -> float:
    for field in _TIME_FIELDS:
        value = info.get(field)
        try:
            if isinstance(value, str):
                value = datetime.fromisoformat(value)
        except ValueError:
            continue
        if isinstance(value, datetime):
            return max(0.0, value.timestamp())
        if isinstance(value, int | float):
            return max(0.0, float(value))
    return 0.0
