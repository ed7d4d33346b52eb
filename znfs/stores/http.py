"""Web servers: objects by ranged GET, names from the pages that servers make of folders."""

from __future__ import annotations

import base64
import threading
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from math import inf
from urllib.parse import unquote, urlsplit

from znfs.errors import Denied, NotListable, Stale, StoreError, UsageError
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores.autoindex import entries
from znfs.stores.base import Blob, Entry, Stat
from znfs.stores.calls import Budget
from znfs.stores.httpclient import Answer, HttpClient
from znfs.stores.keys import has_dots
from znfs.stores.ranges import check, content_range, empty, from_end, matching, resolve
from znfs.stores.urls import Location, quote_path

_CONCURRENCY = 64
_ABSENT = frozenset({404, 410})
_DENIED = frozenset({401, 403})
_NO_SUFFIX = frozenset({400, 416})  # said to ranges counted from the end by some who know others
_NO_LISTING = frozenset({400, 401, 403, 405, 406, 501})
# What writers call a coding and is none: a charset, how S3 was sent the object.
_NO_CODING = frozenset({"", "identity", "utf-8", "aws-chunked"})
_DECODED_LIMIT = 1 << 31
_DECODED_PAST = 1 << 28  # of which this much may follow a range
_PIECE = 1 << 20
_ROOT_SECONDS = 10.0  # between two looks whether the root has a listing by now
_OPTIONS = ("username", "password", "token", "cookie")


class HttpStore:
    """Objects below a URL. A URL's query goes with every request (an Azure SAS, say)."""

    concurrency = _CONCURRENCY
    local = False

    def __init__(self, location: Location, options: Options) -> None:
        self._base = f"{location.scheme}://{location.host}/{location.path}".rstrip("/")
        self._query = f"?{location.query}" if location.query else ""
        self.url = redact(self._base + self._query)
        self._headers = _headers(location, options)
        self._budget = Budget.of(options.deadline)
        self._lock = threading.Lock()
        self._client: HttpClient | None = None
        self._heads = True  # the server answers HEAD
        self._suffixes = True  # it knows ranges that are counted from the end
        self._lists = False  # it was seen to list a folder
        self._no_root_until = -inf  # until when its root is not asked for again: it had no listing

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        if has_dots(key):
            return None
        if stop is not None and 0 <= start >= stop:
            return empty(key, self.stat(key), start, stop, if_match)
        if start < 0 and not self._suffixes:
            return from_end(self, key, start, if_match)
        answer = self._fetch(key, start=start, stop=stop)
        if start < 0 and answer.status in _NO_SUFFIX:
            blob = from_end(self, key, start, if_match)
            self._suffixes = blob is None or not blob.data  # of an empty object all are refused
            return blob
        if self._absent(key, answer):
            return None
        if answer.status == 416:
            if not start and stop is None:
                raise StoreError(f"{key}: {answer.cause}")
            return empty(key, self.stat(key), start, stop, if_match)
        if _packed_by(answer):
            return self._decoded(key, start, stop, if_match)
        if answer.status == 206:
            found = content_range(answer.headers.get("Content-Range", ""))
            if not found:
                raise StoreError(f"{key}: a part without Content-Range")
            lo, hi, total = found
            if total is None and hi - lo != (-start if start < 0 else (stop or 0) - start):
                # Whether the object ends there, or the server stopped, is not known.
                raise StoreError(f"{key}: a part that is too short, of an object of unknown size")
            if total is None and "ETag" not in answer.headers:
                raise StoreError(f"{key}: a part without the object's size or ETag")
            size = hi if total is None else total
            data = answer.data
        else:
            size = len(answer.data) if answer.size is None else answer.size
            part = content_range(answer.headers.get("Content-Range", ""))
            if part not in (None, (0, size, size), (0, size, None)):
                raise StoreError(f"{key}: a part that is said to be the whole")
            lo, hi = resolve(start, stop, size)
            data = answer.data[lo:hi]
            if start < 0 < lo and answer.headers.get("Accept-Ranges") == "bytes":
                self._suffixes = False  # Azure: it knows the others
        check(key, data, start, stop, lo, hi, size)
        return matching(key, Blob(data, _version(answer, size), _mtime(answer)), if_match)

    def stat(self, key: str) -> Stat | None:
        if has_dots(key):
            return None
        if self._heads:
            answer = self._fetch(key, "HEAD")
            # To HEAD some tell 0 of what they make as they send it.
            if answer.status == 200 and answer.size and not _packed_by(answer):
                if self._absent(key, answer):
                    return None
                return Stat(answer.size, _version(answer, answer.size), _mtime(answer))
            if answer.status in _ABSENT:
                return None
        return self._stat_by_get(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        if has_dots(prefix):
            return
        answer = self._fetch(prefix, folder=True)
        if answer.status in _ABSENT:
            if not self._lists and not (prefix and self._root_lists()):
                raise NotListable(f"{self.url}: the server lists no folders")
            return
        found = None
        if answer.status == 200:
            found = entries(answer.data.decode("utf-8", "surrogateescape"), answer.url)
        elif answer.status not in _NO_LISTING:
            raise StoreError(f"{prefix or self.url}: {answer.cause}")
        if found is None:
            raise NotListable(f"{prefix or self.url}: the server lists no folders")
        self._lists = True
        yield from found

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _stat_by_get(self, key: str) -> Stat | None:
        """For servers that refuse HEAD, or do not tell the size with it."""
        answer = self._fetch(key, stop=1)
        if self._absent(key, answer):
            return None
        size = answer.size if answer.status == 200 else None
        if answer.status == 206:
            found = content_range(answer.headers.get("Content-Range", ""))
            size = found[2] if found else None
        if size is None or _packed_by(answer):
            # Only the whole object tells; a 416 (of an empty one) need not name its version.
            blob = self.get(key)
            return None if blob is None else Stat(len(blob.data), blob.version, blob.mtime)
        if size:
            self._heads = False
        return Stat(size, _version(answer, size), _mtime(answer))

    def _decoded(
        self, key: str, start: int, stop: int | None, if_match: str | None
    ) -> Blob | None:
        """A range of an object that the server sends compressed, though not asked to."""
        answer = self._fetch(key)
        if self._absent(key, answer):
            return None
        encoding = _packed_by(answer)
        data: bytes | bytearray = answer.data
        size = len(data)
        if encoding in ("gzip", "x-gzip", "deflate"):
            try:
                data, size = _inflated(key, answer.data, stop)
            except zlib.error as error:
                raise StoreError(f"{key}: damaged Content-Encoding {encoding}") from error
        elif encoding:
            raise StoreError(f"{key}: cannot read Content-Encoding {encoding}")
        lo, hi = resolve(start, stop, size)
        blob = Blob(bytes(memoryview(data)[lo:hi]), _version(answer, size), _mtime(answer))
        return matching(key, blob, if_match)

    def _root_lists(self) -> bool:
        if time.monotonic() < self._no_root_until:
            return False
        try:
            for _ in self.list(""):
                break
        except NotListable:
            self._no_root_until = time.monotonic() + _ROOT_SECONDS
            return False
        return True

    def _absent(self, key: str, answer: Answer) -> bool:
        """Whether there is no object; raises for what is neither an object nor its absence."""
        if answer.status in _ABSENT:
            return True
        # A folder redirects to its own name with a slash, whatever is answered there. Other places
        # are no objects, but they do not say that there is none: a page to log in.
        path = urlsplit(answer.url).path
        is_folder = path.endswith("/")
        if is_folder and (
            not key or unquote(path, errors="surrogateescape").endswith(f"/{key}/")
        ):
            return True
        if answer.status in _DENIED:
            raise Denied(f"{key}: {answer.cause}")
        if answer.status == 412:
            raise Stale(f"{key}: the object has changed")
        if answer.status not in (200, 206, 416):
            raise StoreError(f"{key}: {answer.cause}")
        if is_folder:
            raise StoreError(f"{key}: the server sends elsewhere, to {redact(answer.url)}")
        return False

    def _fetch(
        self, key: str, method: str = "GET", start: int = 0, stop: int | None = None,
        folder: bool = False,
    ) -> Answer:
        url = f"{self._base}/{quote_path(key)}" if key else self._base
        if folder:
            url += "/"
        with self._lock:
            if self._client is None:
                self._client = HttpClient(self._base, self._headers, self._budget)
            client = self._client
        return client.fetch(key or self.url, url + self._query, method, start, stop)


def _packed_by(answer: Answer) -> str:
    """The coding of the body, or several; "" if it is as it is."""
    told = answer.headers.get("Content-Encoding", "").lower().split(",")
    return ", ".join(c for c in map(str.strip, told) if c not in _NO_CODING)


def _inflated(key: str, packed: bytes, stop: int | None) -> tuple[bytearray, int]:
    """The bytes up to `stop` or some more, and how many there are in all.

    Raises zlib.error; StoreError where there are so many that it is no object but an attack.
    """
    most = _DECODED_LIMIT if stop is None else min(_DECODED_LIMIT, stop + _DECODED_PAST)
    inflate = zlib.decompressobj(wbits=47)
    kept = bytearray()
    size = 0
    while piece := inflate.decompress(packed, _PIECE):
        packed = inflate.unconsumed_tail
        size += len(piece)
        if size > most:
            raise StoreError(f"{key}: the server sends too much, more than {most} bytes unpacked")
        if stop is None or len(kept) < stop:
            kept += piece
    if not inflate.eof or inflate.unused_data:
        raise zlib.error("broken off, or more behind the end")
    return kept, size


def _headers(location: Location, options: Options) -> dict[str, str]:
    """What the storage options say of who we are. Raises UsageError for others."""
    given = options.storage_option
    if unknown := sorted(set(given) - set(_OPTIONS)):
        raise UsageError(f"--storage-option {unknown[0]}: of http there are {', '.join(_OPTIONS)}")
    headers = {}
    user = location.user
    if "username" in given:
        user = f"{given['username']}:{given.get('password', '')}"
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode("ascii")
    if "token" in given:
        headers["Authorization"] = f"Bearer {given['token']}"
    if "cookie" in given:
        headers["Cookie"] = given["cookie"]
    return headers


def _version(answer: Answer, size: int) -> str:
    """The ETag, else Last-Modified (if any) and size."""
    return answer.headers.get("ETag") or f"{answer.headers.get('Last-Modified', '')}-{size}"


def _mtime(answer: Answer) -> float:
    try:
        return max(0.0, parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
    except (KeyError, ValueError, OverflowError):
        return 0.0
