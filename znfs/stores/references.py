"""Reference file systems: keys whose bytes are ranges of other files (kerchunk, VirtualiZarr).

`reference://PATH::DOCUMENT` is what the document's keys below PATH stand for. Targets are opened
as any SOURCE is, with the same options, so their reads have the same deadlines, retries, versions
and credentials. fsspec's own ReferenceFileSystem tells no version of a target.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from urllib.parse import unquote, urlsplit
from zlib import crc32

from cachetools import LRUCache

from znfs import deadline
from znfs.errors import Denied, Stale, StoreError
from znfs.redaction import redact
from znfs.stores.base import Blob, Entry, Renewable, Stat, Store
from znfs.stores.keys import joined
from znfs.stores.ranges import matching, resolve
from znfs.stores.reftable import Range, Reference, Table, load
from znfs.stores.urls import is_here, quote_path, split_chain

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # at a document that is being replaced
_TRUST = 1.0  # seconds between two looks whether the document has changed
_TARGETS = 256  # stores of targets kept open
_BUCKETS = frozenset({"s3", "gs", "gcs", "http", "https"})  # one store serves all keys of a host
# What a document may have fetched. Others would run programs, or lead back into this machine
# (`zip://x::/home/…`, `memory://`), or come with a password agent's help (`ssh://`).
_SCHEMES = _BUCKETS | {"az", "abfs", "abfss", "adl", "ftp", "hf", "osdf", "pelican"}


class ReferenceStore:
    """The keys below `path` of a document of references.

    A key's version is the document's and its target's. A target that is not there is StoreError:
    only a key that the document lacks is absent. Of a distant document, references that are known
    are used while another thread looks whether it has changed, and while that cannot be told. Names
    and absence are of a document looked at within _TRUST.
    """

    local = False

    def __init__(
        self, document: Store, path: str, open_target: Callable[[str], Store],
        server: str | None = None,
    ) -> None:  # fmt: skip
        self.url = f"reference://{path}::{document.url}"
        self.concurrency = max(document.concurrency, 16)
        self._document = document
        self._path = path
        self._open = open_target
        self._server = server
        self._checking = threading.Lock()  # whose thread looks at the document
        self._loaded: Table | None = None
        self._checked = -inf  # when that was what the document says
        self._excused = -inf  # until when it is not looked at, for that failed just now
        self._outdated = False  # to be loaded though its version stands: records have none
        self._lock = threading.Lock()  # of the targets; never held while a store is asked
        self._targets: LRUCache[str, Store] = LRUCache(_TARGETS)

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        table, found = self._find(key)
        if table is None or found is None:
            return None
        if isinstance(found, bytes):
            lo, hi = resolve(start, stop, len(found))
            blob = Blob(memoryview(found)[lo:hi], _inline_version(table, found), table.mtime)
            return matching(key, blob, if_match)
        prefix = table.version + "/"
        if if_match is not None and not if_match.startswith(prefix):
            raise Stale(f"{key}: the references have changed")
        theirs = if_match and if_match.removeprefix(prefix)
        store, at = self._target(key, found.url)
        if found.size is None:
            answer = store.get(at, start, stop, if_match=theirs)
        else:
            lo, hi = resolve(start, stop, found.size)
            answer = store.get(at, found.offset + lo, found.offset + hi, if_match=theirs)
            if answer is not None and len(answer.data) != hi - lo:
                raise StoreError(f"{key}: refers to bytes beyond the end of {redact(found.url)}")
        if answer is None:
            raise StoreError(f"{key}: refers to {redact(found.url)}, which is not there")
        return Blob(answer.data, prefix + answer.version, max(answer.mtime, table.mtime))

    def stat(self, key: str) -> Stat | None:
        table, found = self._find(key)
        if table is None or found is None:
            return None
        if isinstance(found, bytes):
            return Stat(len(found), _inline_version(table, found), table.mtime)
        return self._stat_target(table, key, found)

    def list(self, prefix: str) -> Iterator[Entry]:
        table = self._table()
        if table is not None:
            yield from table.list(joined(self._path, prefix))

    def renew(self) -> None:
        self._outdated = True
        self._checked = self._excused = -inf
        with self._lock:
            stores = [self._document, *self._targets.values()]
        for store in stores:
            if isinstance(store, Renewable):
                store.renew()

    def close(self) -> None:
        with self._lock:
            stores = [self._document, *self._targets.values()]
            self._targets.clear()
        self._checked, self._loaded = -inf, None
        for store in stores:
            store.close()

    def _stat_target(self, table: Table, key: str, found: Range) -> Stat:
        store, at = self._target(key, found.url)
        stat = store.stat(at)
        if stat is None:
            raise StoreError(f"{key}: refers to {redact(found.url)}, which is not there")
        size = stat.size if found.size is None else found.size
        return Stat(size, f"{table.version}/{stat.version}", max(stat.mtime, table.mtime))

    def _find(self, key: str) -> tuple[Table | None, Reference | None]:
        """What the key stands for, and the table that says so."""
        name = joined(self._path, key)
        table = self._known()
        found = None if table is None else table.find(name)
        if found is None:
            table = self._table()
            found = None if table is None else table.find(name)
        return table, found

    def _known(self) -> Table | None:
        """The references as they are now; or as they are known, where others look at the document
        or it cannot be looked at. None: there is none, or none is known."""
        known = self._loaded
        if known is None or self._document.local:
            return self._table()
        if self._is_fresh() or time.monotonic() < self._excused:
            return known
        if not self._checking.acquire(blocking=False):
            return known
        began = time.monotonic()
        try:
            return self._check()
        except StoreError as error:
            ended = time.monotonic()
            self._excused = ended + max(_TRUST, ended - began)
            log.warning("%s: cannot be checked, what is known stays: %s", self._document.url, error)
            return known
        finally:
            self._checking.release()

    def _table(self) -> Table | None:
        """The references as they are now: the document is looked at again after _TRUST."""
        if self._is_fresh():
            return self._loaded
        wait = deadline.wait()
        if not self._checking.acquire(timeout=-1 if wait is None else wait):
            raise StoreError(f"{self._document.url}: another look at it did not end in time")
        try:
            return self._loaded if self._is_fresh() else self._check()
        finally:
            self._checking.release()

    def _is_fresh(self) -> bool:
        """Whether the references known are the document's, as far as is to be known."""
        return not self._document.local and time.monotonic() - self._checked < _TRUST

    def _check(self) -> Table | None:
        """Have the references be those that the document holds now."""
        table = self._loaded
        for _ in range(_ATTEMPTS):
            now = self._document.stat("") or self._document.stat(".zmetadata")
            anew, self._outdated = self._outdated, False
            if anew or (now.version if now else None) != (table.version if table else None):
                try:
                    table = load(self._document)
                except BaseException:
                    self._outdated |= anew
                    raise
            if (now.version if now else None) == (table.version if table else None):
                self._loaded = table  # before it is said to be checked
                self._checked = time.monotonic()
                return table
        raise StoreError(f"{self._document.url}: changes while it is read")

    def _target(self, key: str, url: str) -> tuple[Store, str]:
        """The store that has the target, and the target's key there."""
        scheme, colon, _ = url.partition("://")
        if not colon or scheme in ("file", "local"):
            if not self._document.local:
                raise Denied(f"{key}: references of another machine may not name files of this one")
            path = url if not colon else url[len(scheme) + 3 :]
            beside = os.path.dirname(self._document.url.rpartition("::")[2])
            return self._store("/"), os.path.abspath(os.path.join(beside, path)).lstrip("/")
        if scheme not in _SCHEMES or len(split_chain(url)) > 1:
            raise Denied(f"{key}: references may not name {redact(url)[:80]!r}")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise StoreError(f"{key}: refers to no URL: {error}") from None
        if not self._document.local and is_here(parts.hostname) and not is_here(self._server):
            raise Denied(f"{key}: references of another machine may not name this one's servers")
        if scheme not in _BUCKETS or parts.query or parts.fragment:
            return self._store(url), ""
        path = there = parts.path.removeprefix("/")
        if scheme.startswith("http") and ("%" in path or "+" in path):
            there = unquote(path, errors="surrogateescape")
            if quote_path(there) != path:  # `%2F` is no `/`: it is asked for as it is written
                return self._store(url.replace("|", "%7C")), ""
        return self._store(f"{scheme}://{parts.netloc}"), there

    def _store(self, url: str) -> Store:
        with self._lock:
            store = self._targets.get(url)
            if store is None:
                store = self._targets[url] = self._open(url)
            return store


def _inline_version(table: Table, data: bytes) -> str:
    return f"{table.version}/{crc32(data):08x}"
