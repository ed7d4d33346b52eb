"""S3 by s3fs (botocore): `--backend fsspec`, and the keys that obstore cannot ask for.

Its calls go to S3's own operations: s3fs's file methods give neither an ETag nor If-Match.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

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
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores import cloud
from znfs.stores.base import NOBODY_THERE, Blob, Entry, Stat
from znfs.stores.calls import run_async
from znfs.stores.keys import joined
from znfs.stores.ranges import check, content_range, empty, matching, resolve
from znfs.stores.urls import Location

if TYPE_CHECKING:
    from s3fs import S3FileSystem

T = TypeVar("T")
_CONCURRENCY = 64
_ATTEMPTS = 3  # at a body that breaks off


class S3fsStore:
    """The objects of a bucket below a prefix."""

    concurrency = _CONCURRENCY
    local = False

    def __init__(self, location: Location, options: Options) -> None:
        self.url = location.url
        self._bucket = location.host
        self._prefix = location.path
        self._settings = cloud.s3fs_settings(location, options)
        self._deadline = options.deadline
        self._lock = threading.Lock()
        self._fs: S3FileSystem | None = None

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        if stop is not None and 0 <= start >= stop:
            return empty(key, self.stat(key), start, stop, if_match)
        more: dict[str, Any] = {}
        if start < 0:
            more["Range"] = f"bytes={start}"
        elif start or stop is not None:
            more["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_match is not None and if_match.startswith('"'):
            more["IfMatch"] = if_match
        path = joined(self._prefix, key)
        try:
            answer, data = self._run(key, lambda fs: self._read(fs, path, more))
        except _Absent:
            return None
        except _OutOfRange:
            return empty(key, self.stat(key), start, stop, if_match)
        if "ContentRange" in answer:
            found = content_range(answer["ContentRange"])
            if not found or found[2] is None:
                raise StoreError(f"{key}: a part of which is not told where it is")
            lo, hi, size = found[0], found[1], found[2]
        else:
            size = len(data)
            lo, hi = resolve(start, stop, size)
            data = data[lo:hi]
        check(key, data, start, stop, lo, hi, size)
        return matching(key, Blob(data, _version(answer, size), _mtime(answer)), if_match)

    def stat(self, key: str) -> Stat | None:
        if not key and not self._prefix:
            return None
        try:
            answer = self._run(
                key, lambda fs: self._call(fs, "head_object", Key=joined(self._prefix, key))
            )
        except _Absent:
            return None
        size = answer.get("ContentLength")
        if size is None:
            raise StoreError(f"{key}: the server does not tell its size")
        return Stat(size, _version(answer, size), _mtime(answer))

    def list(self, prefix: str) -> Iterator[Entry]:
        path = joined(self._prefix, prefix)
        path += "/" if path else ""
        more: dict[str, str] = {"Prefix": path, "Delimiter": "/"}
        while True:
            try:
                page = self._run(
                    prefix or self.url,
                    lambda fs: self._call(fs, "list_objects_v2", **more),
                    NotListable,
                )
            except _Absent:
                return
            for found in page.get("CommonPrefixes", ()):
                yield Entry(found["Prefix"][len(path) : -1], True)
            for found in page.get("Contents", ()):
                # An object at the prefix itself marks a folder; it is no name below it.
                if name := found["Key"][len(path) :]:
                    yield Entry(name, False, found["Size"])
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                raise StoreError(f"{prefix or self.url}: the listing does not go on")
            more["ContinuationToken"] = token

    def renew(self) -> None:
        with self._lock:
            self._fs = None

    def close(self) -> None:
        with self._lock:
            self._fs = None

    def _opened(self) -> S3FileSystem:
        with self._lock:
            if self._fs is None:
                from s3fs import S3FileSystem

                known = {"profile", *inspect.signature(S3FileSystem.__init__).parameters}
                if unknown := sorted(set(self._settings) - known):
                    raise UsageError(f"--storage-option {unknown[0]}: s3fs knows no such option")
                fs = S3FileSystem(**self._settings, skip_instance_cache=True)
                # botocore reads megabytes of JSON first: that has a deadline of its own.
                run_async(fs.loop, fs.set_session(), self._deadline, self.url)
                self._fs = fs
            return self._fs

    def _call(
        self, fs: S3FileSystem, method: str, **arguments: Any
    ) -> Coroutine[Any, Any, Any]:
        # Not named by s3fs as public, but what its subclasses use.
        return fs._call_s3(method, Bucket=self._bucket, **arguments, **fs.req_kw)  # type: ignore[no-any-return]

    async def _read(
        self, fs: S3FileSystem, path: str, more: dict[str, Any]
    ) -> tuple[Any, bytes]:
        from aiohttp import ClientError
        from botocore.exceptions import HTTPClientError

        for left in reversed(range(_ATTEMPTS)):
            answer = await self._call(fs, "get_object", Key=path, **more)
            try:
                async with answer["Body"] as body:
                    data = await body.read()
            except (ClientError, HTTPClientError, OSError) as error:
                if not left:
                    raise Unanswered(f"{path}: the answer broke off") from error
                continue
            if len(data) == answer.get("ContentLength", len(data)):  # in pieces: each has its own
                return answer, data
        raise Unanswered(f"{path}: the answer broke off")

    def _run(
        self,
        key: str,
        call: Callable[[S3FileSystem], Coroutine[Any, Any, T]],
        refused: type[ZnfsError] = Denied,
    ) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            fs = self._opened()
            return run_async(fs.loop, call(fs), self._deadline, key)
        except UnicodeEncodeError:
            raise _Absent from None  # keys are UTF-8
        # s3fs turns botocore's errors into OSError, and keeps them as the cause.
        except (OSError, BotoCoreError, ClientError, ValueError, KeyError) as error:
            _raise(key, error, refused)


class _Absent(ZnfsError):
    """404 of an object; never leaves this module."""


class _OutOfRange(ZnfsError):
    """416; never leaves this module."""


def _raise(key: str, error: Exception, refused: type[ZnfsError]) -> NoReturn:
    from botocore.exceptions import ClientError, NoCredentialsError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        if isinstance(cause, NoCredentialsError):
            raise Denied("no AWS credentials found; a public bucket needs --anon") from error
        cause = cause.__cause__
    if cause is None:
        line = redact(str(error).partition("\n")[0])[:200] or type(error).__name__
        if isinstance(error, FileNotFoundError):
            raise _Absent from None
        if isinstance(error, KeyError):  # botocore finds no words of S3's in it
            raise StoreError(f"{key}: the answer is none of S3's") from error
        raise Unanswered(f"{key}: {line}") from error
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = cause.response.get("Error", {}).get("Code", "")
    if code == "NoSuchBucket":
        raise NoBucket(f"{key}: there is no such bucket") from error
    if status == 404:
        raise _Absent from None
    if status == 416:
        raise _OutOfRange from None
    if status == 412:
        raise Stale(f"{key}: the object has changed") from error
    if status in (401, 403) or (refused is NotListable and status in (405, 501)):
        raise refused(f"{key}: {status} ({code})") from error
    kind = Unanswered if status in NOBODY_THERE else StoreError
    raise kind(f"{key}: {status} ({code})") from error


def _version(answer: Any, size: int) -> str:
    """obstore's version of the same object: its ETag, else time and size."""
    etag, when = answer.get("ETag"), answer.get("LastModified")
    return str(etag) if etag else f"{when.isoformat() if when else ''}-{size}"


def _mtime(answer: Any) -> float:
    when = answer.get("LastModified")
    return max(0.0, float(when.timestamp())) if when else 0.0
