"""Every other fsspec file system: memory, sftp, ftp, webdav, github, reference, tar, chains, …"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

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

T = TypeVar("T")
_CONCURRENCY = 16
_ATTEMPTS = 3  # at an object that changes while it is read
# What file systems call the things that change with an object.
_VERSION_FIELDS = (
    "ETag", "etag", "e_tag", "md5Hash", "crc32c", "generation", "checksum", "sha", "hash",
    "LastModified", "Last-Modified", "last_modified", "mtime", "modified", "updated", "created",
)
_TIME_FIELDS = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FsspecStore:
    """A folder of any fsspec file system.

    A get asks for the object's info before and after its bytes: fsspec has no conditional reads.
    What the file system tells of an object (see _VERSION_FIELDS) and its size are its version.
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
        self._opened: tuple[AbstractFileSystem, str] | None = None
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
        info = self._call(key, "info", None)
        if info is None or info.get("type") == "directory":
            return None
        size = info.get("size")
        if size is None:
            # Some servers do not tell; only the bytes do.
            data = self._cat(key, None, None)
            if data is None:
                return None
            size = len(data)
        return Stat(int(size), _version(info, int(size)), _mtime(info))

    def list(self, prefix: str) -> Iterator[Entry]:
        if has_dots(prefix):
            return
        found = self._call(prefix, "ls", [], NotListable, detail=True)
        if not found:  # perhaps it cannot even be opened
            return
        _, root = self._open()
        here = f"{root}/{prefix}".strip("/")
        for info in found:
            path = info["name"].strip("/")
            # `ls` of an object names the object itself; some name the folder, too.
            if path == here:
                continue
            is_prefix = info.get("type") == "directory"
            yield Entry(path.rpartition("/")[2], is_prefix, 0 if is_prefix else info["size"] or 0)

    def close(self) -> None:
        with self._lock:
            self._opened = None

    def _cat(self, key: str, start: int | None, stop: int | None) -> bytes | None:
        data: bytes | None = self._call(key, "cat_file", None, start=start, end=stop)
        return data

    def _open(self) -> tuple[AbstractFileSystem, str]:
        """The file system and the root's path in it; some connect at once, so not before use."""
        with self._lock:
            if self._opened is None:
                from fsspec.core import url_to_fs

                try:
                    fs, root = url_to_fs(self._text, **self._arguments)
                except (AttributeError, TypeError, ValueError) as error:  # options amiss
                    line = redact(str(error).partition("\n")[0])[:200]
                    raise SourceError(f"{self.url}: {line}") from None
                self._opened = fs, root.rstrip("/")
            return self._opened

    def _call(
        self, key: str, method: str, absent: T, refused: type[ZnfsError] = Denied, **more: Any
    ) -> Any:
        """`method` of the file system at the key; `absent` where there is nothing."""
        what = key or self.url
        try:
            fs, root = self._opened or self._threads.run(self._open, self._deadline, what)
            path = f"{root}/{key}" if key else root or fs.root_marker
            fs.invalidate_cache(path)
            inner = getattr(fs, "fs", fs)  # dir:// says that it is what may be over what is not
            is_async = fs.async_impl and inner.async_impl and not fs.asynchronous
            if is_async and hasattr(fs, f"_{method}"):
                coroutine = getattr(fs, f"_{method}")(path, **more)
                return run_async(fs.loop, coroutine, self._deadline, what)
            call: Callable[[], Any] = lambda: getattr(fs, method)(path, **more)  # noqa: E731
            return self._threads.run(call, self._deadline, what)
        except ZnfsError:
            raise
        # Whatever library is behind it: no exception of it may pass for an absent object, unless
        # it says so.
        except Exception as error:
            return _absent(what, error, absent, refused)


def _absent(what: str, error: Exception, absent: T, refused: type[ZnfsError]) -> T:
    """`absent` if the error means that there is nothing; else raises what it means."""
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
    told = isinstance(error, _ABSENT) and isinstance(chain[-1], (*_ABSENT, KeyError))
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

    *links, base = split_chain(text)
    protocols = [link.partition("://")[0] for link in links]
    if "://" in base:
        protocols.append(base.partition("://")[0])
    for protocol in protocols:
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
