"""S3, Google Cloud Storage and Azure by obstore, whose exceptions are translated here."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from znfs import deadline
from znfs.errors import (
    Denied,
    NoBucket,
    NotListable,
    Stale,
    StoreError,
    Unanswered,
    UsageError,
    ZnfsError,
)
from znfs.redaction import redact
from znfs.stores.base import NO_TLS, NOBODY_THERE, Blob, Entry, Renewable, Stat, Store
from znfs.stores.calls import Threads
from znfs.stores.keys import joined
from znfs.stores.ranges import MOST_WHOLE, check, empty, from_end, matching, resolve

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore as Client

_CONCURRENCY = 64
_RENEWAL = 10.0  # seconds between two looks for other credentials while the store refuses
_STATUS = re.compile(r"status code: (\d{3})(?: ([A-Za-z \-]+))?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r'message: "([^"]+)"')
# Who issues credentials did not answer: no refusal, which might pass for an absent object.
_NOT_ISSUED = re.compile(r"credential provider: Unanswered: ")
# How obstore ends what it says of a connection that failed, in its HTTP client's words.
_BROKEN = re.compile(r"HTTP error: ([\w ]+)$", re.MULTILINE)
_BREAKS = {
    "error sending request": "the connection broke",
    "request or response body error": "the answer broke off",
}
# What the TLS library of that client says of a certificate, in its innermost word.
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_LISTABLE = frozenset({401, 403, 405, 501})
_DENIED = frozenset({401, 403})

_process: int | None = None  # the first to open a store: obstore's threads are in that one alone


class _Clients:
    """obstore's client of a store, made by `connect` at the first request, and anew after a
    refusal if there are other credentials by now.

    `changed` tells whether there are (None: not known). A refresh makes it anew, too, unless it
    works and they have not changed: a new client begins without connections.
    """

    def __init__(self, connect: Callable[[], Client], changed: Callable[[], bool] | None) -> None:
        self._connect = connect
        self._changed = changed
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._doubtful = False  # whether a refresh came since it was made
        self._failed = False  # whether it met an error other than a refusal
        self._looked = 0.0  # for other credentials, after a refusal (monotonic seconds)

    def get(self) -> Client:
        """The client. Raises what making it raises."""
        if self._doubtful:
            self._doubtful = False
            if self._failed or self._changed is None or self._changed():
                self.drop()
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def drop(self) -> None:
        """Have it made anew for the next request."""
        with self._lock:
            self._client, self._failed = None, False

    def refreshed(self) -> None:
        """A refresh came."""
        self._doubtful = True

    def failed(self) -> None:
        """A request failed, and was not refused."""
        self._failed = True

    def refused(self) -> None:
        """A request was refused, so that other credentials may help."""
        if self._changed is None:
            return
        with self._lock:
            if time.monotonic() - self._looked < _RENEWAL:
                return
            self._looked = time.monotonic()
        if self._changed():
            self.drop()


class ObjectStore:
    """The objects of a bucket below a prefix.

    `connect` and `changed` are those of _Clients. `fallback` opens the same store by another
    library, for the keys that obstore cannot ask for (`a//b`, `.` or `..` as a segment, control
    characters).

    The client was told how long a request may take, `patience` seconds. An operation that has less
    left has its requests made aside, and leaves those behind that are late. `suffixes` tells
    whether the cloud knows ranges that are counted from the end.
    """

    concurrency = _CONCURRENCY
    local = False

    def __init__(
        self,
        url: str,
        prefix: str,
        connect: Callable[[], Client],
        fallback: Callable[[], Store],
        changed: Callable[[], bool] | None = None,
        patience: float = 0.0,
        suffixes: bool = True,
    ) -> None:
        # Here, by one thread: imported by several at once, its modules find each other half made.
        import obstore.exceptions
        import obstore.store  # noqa: F401

        _refuse_fork()
        self.url = url
        self._prefix = prefix
        self._clients = _Clients(connect, changed)
        self._open_fallback = fallback
        self._patience = patience
        self._suffixes = suffixes
        self._aside = Threads(2 * _CONCURRENCY)
        self._lock = threading.Lock()
        self._fallback: Store | None = None

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        if not _plain(path := self._path(key)):
            return self._other().get(key, start, stop, if_match=if_match)
        if start < 0 and not self._suffixes:
            return from_end(self, key, start, if_match)
        options: GetOptions = {}
        if start < 0:
            options["range"] = {"suffix": -start}
        elif stop is not None and start >= stop:
            return empty(key, self.stat(key), start, stop, if_match)
        elif stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        if if_match is not None and _strong(if_match):
            options["if_match"] = if_match
        try:
            result = self._request(key, lambda client: client.get(path, options=options))
            data = memoryview(self._request(key, lambda client: result.bytes()))
        except _Absent:
            return None
        except _OutOfRange:
            return empty(key, self.stat(key), start, stop, if_match)
        except _RangeIgnored:
            return self._slice(key, start, stop, if_match)
        lo, hi = result.range
        meta = result.meta
        check(key, data, start, stop, lo, hi, meta["size"])
        return matching(key, Blob(data, _version(meta), _mtime(meta["last_modified"])), if_match)

    def stat(self, key: str) -> Stat | None:
        if not _plain(path := self._path(key)):
            return self._other().stat(key)
        try:
            meta = self._request(key, lambda client: client.head(path))
        except _Absent:
            return None
        return Stat(meta["size"], _version(meta), _mtime(meta["last_modified"]))

    def list(self, prefix: str) -> Iterator[Entry]:
        path = self._path(prefix)
        if path and not _plain(path):
            yield from self._other().list(prefix)
            return
        try:
            found = self._request(
                prefix or "the root",
                lambda client: client.list_with_delimiter(path or None),
                refused=NotListable,
            )
        except _Absent:
            return
        except _OddKey:
            yield from self._other().list(prefix)
            return
        cut = len(path) + 1 if path else 0
        for name in found["common_prefixes"]:
            yield Entry(name[cut:].rstrip("/"), True)
        for meta in found["objects"]:
            # An object at the prefix itself marks a folder; it is no name below it.
            if name := meta["path"][cut:]:
                yield Entry(name, False, meta["size"])

    def renew(self) -> None:
        self._clients.refreshed()
        with self._lock:
            fallback = self._fallback
        if isinstance(fallback, Renewable):
            fallback.renew()

    def close(self) -> None:
        self._clients.drop()
        with self._lock:
            if self._fallback is not None:
                self._fallback.close()
                self._fallback = None

    def _path(self, key: str) -> str:
        return joined(self._prefix, key)

    def _slice(
        self, key: str, start: int, stop: int | None, if_match: str | None
    ) -> Blob | None:
        """A range cut from the whole object, for servers that know no ranges."""
        stat = self.stat(key)
        if stat is not None and stat.size > MOST_WHOLE:
            raise StoreError(f"{key}: of {stat.size} bytes, and the server sends no parts of it")
        whole = self.get(key, if_match=if_match)
        if whole is None:
            return None
        lo, hi = resolve(start, stop, len(whole.data))
        return Blob(whole.data[lo:hi], whole.version, whole.mtime)

    def _request(
        self, key: str, call: Callable[[Client], Any], refused: type[ZnfsError] = Denied
    ) -> Any:
        """`call`'s result; its exceptions as ours or as one of the three below."""
        from obstore.exceptions import BaseError

        left = deadline.left()
        try:
            if left < self._patience:
                return self._aside.run(lambda: call(self._clients.get()), left, key)
            return call(self._clients.get())
        except UnicodeEncodeError:
            raise _Absent from None  # keys are UTF-8
        # A missing object is the builtin FileNotFoundError, a path obstore cannot parse ValueError.
        except (BaseError, OSError, ValueError) as error:
            translated = _translate(key, error, refused)
            if isinstance(translated, Denied | NotListable):
                self._clients.refused()
            elif isinstance(translated, StoreError):
                self._clients.failed()
            # From None: obstore's errors quote URLs, which may be signed.
            raise translated from None

    def _other(self) -> Store:
        with self._lock:
            if self._fallback is None:
                self._fallback = self._open_fallback()
            return self._fallback


class _Signal(ZnfsError):
    """An answer that is no failure; never leaves this module."""


class _Absent(_Signal):
    """404 of an object."""


class _OutOfRange(_Signal):
    """416."""


class _RangeIgnored(_Signal):
    """200 with the whole object where a part was asked for."""


class _OddKey(_Signal):
    """A listing holds a key that obstore cannot express."""


def _translate(key: str, error: Exception, refused: type[ZnfsError]) -> ZnfsError:
    from obstore import exceptions as e

    text = str(error)
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    code = _CODE.search(text)
    cause = _short_cause(text, error)
    if status == 416:
        return _OutOfRange()
    if _NOT_ISSUED.search(text):
        return StoreError(f"{key}: {cause}")
    if status in (_NOT_LISTABLE if refused is NotListable else _DENIED) or isinstance(
        error, e.PermissionDeniedError | e.UnauthenticatedError
    ):
        return refused(f"{key}: {cause}")
    if status == 412 or isinstance(error, e.PreconditionError):
        return Stale(f"{key}: the object has changed")
    if status == 404:
        # A bucket that is not there must never look like a chunk that is not.
        if code and code[1] in ("NoSuchBucket", "ContainerNotFound"):
            return NoBucket(f"{key}: there is no such bucket")
        return _Absent()
    # Its HTTP client's words, and those of its other clients.
    if "Range request not supported" in text or "non-partial response" in text:
        return _RangeIgnored()
    if isinstance(error, e.InvalidPathError):
        return _OddKey()
    answered = status and status not in NOBODY_THERE
    return (StoreError if answered else Unanswered)(f"{key}: {cause}")


def _short_cause(text: str, error: Exception) -> str:
    """One line without secrets that says what went wrong."""
    if own := re.search(r"(?:Denied|Unanswered): ([^\n\"]+)", text):
        return own[1].strip()
    if found := _STATUS.search(text):
        code = _CODE.search(text)
        return f"{found[1]} {(found[2] or '').strip()}".strip() + (f" ({code[1]})" if code else "")
    if "kind: Timeout" in text or "TimedOut" in text:
        return "no answer in time"
    if found := _CAUSE.search(text):
        return found[1]
    if "dns error" in text:
        return "the server's name cannot be resolved"
    if found := _CERTIFICATE.search(text):
        return f"the server's certificate is not accepted: {found[1]}"
    if "InvalidMessage(" in text:
        return NO_TLS
    if found := _BROKEN.search(text):
        return _BREAKS.get(found[1], found[1])
    line = redact(text.partition("\n")[0].strip()) or type(error).__name__
    return line if len(line) <= 200 else line[:199] + "…"


def _refuse_fork() -> None:
    """Raises UsageError where a process that was forked would wait for obstore for ever."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise UsageError(
            f"a process forked from one that has used an object store (pid {_process}) cannot: "
            "begin it by 'spawn' or 'forkserver', or take --backend fsspec"
        )


def _plain(path: str) -> bool:
    """Whether obstore can ask for the path: no empty or dot segment, no control character."""
    return not _CONTROL.search(path) and all(s not in ("", ".", "..") for s in path.split("/"))


def _strong(version: str) -> bool:
    """An ETag that a server compares; a weak one never matches (RFC 9110, 13.1.1)."""
    return version.startswith('"')


def _version(meta: Any) -> str:
    return meta["e_tag"] or f"{meta['last_modified'].isoformat()}-{meta['size']}"


def _mtime(when: datetime | None) -> float:
    return max(0.0, when.timestamp()) if when else 0.0
