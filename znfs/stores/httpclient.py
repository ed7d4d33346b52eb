"""HTTP GET and HEAD within a deadline, retries included, by urllib3.

obstore's HTTP store is not used: it hides redirects (a folder's page then passes for an object),
takes 405 for 404, and refuses answers without Content-Length.
"""

from __future__ import annotations

import random
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from znfs import deadline
from znfs.errors import Denied, StoreError, Unanswered, UsageError
from znfs.redaction import redact
from znfs.stores.base import NO_TLS, NOBODY_THERE
from znfs.stores.calls import Budget
from znfs.stores.certificates import ca_file
from znfs.stores.ranges import MOST_WHOLE, content_length
from znfs.stores.urls import is_here

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = 10
_PIECE = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Answer:
    """A final answer (redirects followed); `url` is where it came from."""

    status: int
    reason: str
    headers: Mapping[str, str]  # names in any case
    data: bytes
    size: int | None  # of the body, kept or not; None after a HEAD that did not tell
    url: str

    @property
    def cause(self) -> str:
        return f"{self.status} {self.reason}".strip()


class HttpClient:
    """A pool of connections for many threads."""

    def __init__(self, url: str, headers: Mapping[str, str], budget: Budget) -> None:
        self._url = url
        self._headers = {"User-Agent": "znfs", "Accept-Encoding": "identity", **headers}
        self._budget = budget
        self._pool = self._open_pool()

    def _open_pool(self) -> PoolManager:
        import urllib3

        from znfs.stores.connections import CONNECTIONS, bounded

        context = None
        if self._url.startswith("https:"):
            context = ssl.create_default_context()
            if path := ca_file():
                try:
                    context.load_verify_locations(path)
                except OSError as error:
                    raise UsageError(f"{path} (certificate authorities): {error}") from error
        host = urlsplit(self._url).hostname or ""
        pool = urllib3.PoolManager(maxsize=CONNECTIONS, ssl_context=context)
        if proxy := _proxy(urlsplit(self._url).scheme, host):
            user = urllib3.util.parse_url(proxy).auth
            told = b64encode(unquote_to_bytes(user or "")).decode("ascii")
            headers = {"proxy-authorization": f"Basic {told}"} if user else {}
            pool = urllib3.ProxyManager(
                proxy, proxy_headers=headers, maxsize=CONNECTIONS, ssl_context=context
            )
        return bounded(pool if is_here(host) else _outside(pool))

    def fetch(
        self, key: str, url: str, method: str = "GET", start: int = 0, stop: int | None = None
    ) -> Answer:
        """The answer to one request for bytes [start, stop), as Store.get counts them; any status
        but those that pass and are retried until the deadline.

        A server that ignores the range sends the body from byte 0 on: of it little more than
        `stop` bytes are kept, and no more read if its size is told. Raises StoreError; also where
        more than MOST_WHOLE would be kept, and that was not asked for.
        """
        from urllib3.exceptions import HTTPError

        from znfs.stores.connections import until

        begun = time.monotonic()
        budget = min(self._budget, Budget.of(deadline.left()), key=lambda b: b.total)
        pause = 0.1
        while True:
            wait = pause * random.uniform(0.5, 1.0)
            try:
                with until(time.monotonic() + budget.attempt):
                    answer = self._attempt(key, url, method, start, stop, budget)
                if answer.status not in _RETRIED:
                    return answer
                cause, failure = answer.cause, None
                after = answer.headers.get("Retry-After", "")
                wait = max(wait, float(after)) if after.isascii() and after.isdigit() else wait
            except (HTTPError, OSError, ValueError) as error:  # ValueError: sent to what is no URL
                cause, failure = _cause(error), error
            if time.monotonic() - begun + wait > budget.retry or _hopeless(failure):
                answered = _is_astray(failure) if failure else answer.status not in NOBODY_THERE
                # From None: urllib3's errors quote the URL, which may be signed.
                raise (StoreError if answered else Unanswered)(f"{key}: {cause}") from None
            time.sleep(wait)
            pause = min(2 * pause, budget.retry / 8)

    def _attempt(
        self, key: str, url: str, method: str, start: int, stop: int | None, budget: Budget
    ) -> Answer:
        from urllib3 import Retry, Timeout

        range_ = _range(start, stop)
        headers = {**self._headers, "Range": range_} if range_ else self._headers
        response = self._pool.request(
            method,
            url,
            headers=headers,
            # For each wait on the socket; `until` is for their sum.
            timeout=Timeout(connect=budget.connect, read=budget.attempt),
            retries=Retry(total=_REDIRECTS, connect=0, read=0, status=0, other=0,
                          redirect=_REDIRECTS, raise_on_redirect=True,
                          respect_retry_after_header=False),  # `fetch` does
            preload_content=False,
            decode_content=False,
        )
        try:
            if method == "HEAD":
                data, size = b"", _promised(response)
            else:
                # Only an answer that ignored the range begins at 0, and may be cut.
                cut = stop if response.status == 200 and start >= 0 else None
                most = max(MOST_WHOLE, -start if stop is None else stop - start)
                data, size = _body(key, response, cut, most)
        except BaseException:
            response.close()  # what is left of the body must not be the next answer
            raise
        response.release_conn()
        return Answer(
            response.status, response.reason or "", response.headers, data, size,
            urljoin(url, response.geturl() or url),
        )

    def close(self) -> None:
        self._pool.clear()


def _proxy(scheme: str, host: str) -> str | None:
    """The URL of the proxy that the environment names, as curl reads it; None if there is none for
    that host. Raises UsageError."""
    known = urllib.request.getproxies()
    proxy = known.get(scheme) or known.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f"{redact(url)!r} ({scheme}_proxy or all_proxy) is no proxy that can be used; "
            "write it like http://HOST:PORT, or name the server in no_proxy"
        )
    return url


def _outside(pool: PoolManager) -> PoolManager:
    """`pool`, which follows no redirect to this machine's own servers."""
    ask = pool.urlopen

    def urlopen(method: str, url: str, redirect: bool = True, **more: Any) -> Any:
        if is_here(urlsplit(url).hostname):
            raise Denied("the server sends to one of this machine's own")
        return ask(method, url, redirect, **more)

    pool.urlopen = urlopen  # type: ignore[method-assign]
    return pool


def _range(start: int, stop: int | None) -> str:
    if start < 0:
        return f"bytes={start}"
    if stop is not None:
        return f"bytes={start}-{stop - 1}"
    return f"bytes={start}-" if start else ""


def _promised(response: BaseHTTPResponse) -> int | None:
    """The body's size, if it is told and is to be believed (RFC 9112, 6.3)."""
    if "Transfer-Encoding" in response.headers:
        return None
    return content_length(response.headers.get("Content-Length", ""))


def _body(
    key: str, response: BaseHTTPResponse, cut: int | None, most: int
) -> tuple[bytes, int]:
    """The body, whole or its first `cut` bytes and some, and its size.

    What follows of a body whose size was not told is read, so that it is known, and not kept.
    Raises OSError when it breaks off, StoreError where more than `most` bytes would be kept.
    """
    promised = _promised(response)
    pieces: list[bytes] = []
    have = kept = 0
    while piece := response.read1(_PIECE, decode_content=False):
        have += len(piece)
        if cut is None or kept < cut:
            if kept >= most:
                raise StoreError(f"{key}: the server sends too much, more than {most} bytes")
            pieces.append(piece)
            kept += len(piece)
        if cut is not None and promised is not None and have >= cut:
            response.close()
            return b"".join(pieces), promised
    if promised is not None and promised != have:
        raise ConnectionError(f"the answer broke off after {have} of {promised} bytes")
    return b"".join(pieces), have


def _hopeless(error: Exception | None) -> bool:
    """Whether trying again cannot help: a certificate that is not trusted, endless redirects."""
    from urllib3.exceptions import SSLError

    reason = _reason(error)
    if isinstance(reason, SSLError):
        return "certificate" in str(reason).lower()
    return _is_astray(error)


def _is_astray(error: Exception | None) -> bool:
    """Whether the server answered, and sent to where nobody can follow."""
    reason = _reason(error)
    return isinstance(reason, ValueError) or "redirect" in str(reason).lower()


def _reason(error: Exception | None) -> object:
    """What urllib3 gave up for, if the error says no more than that it did."""
    from urllib3.exceptions import MaxRetryError

    return error.reason if isinstance(error, MaxRetryError) else error


# OpenSSL of an answer that is no TLS: it has two errors, and Python 3.14 tells of the second.
_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def _cause(error: Exception) -> str:
    """One line that says what went wrong."""
    from urllib3 import exceptions as e

    reason = _reason(error)
    if isinstance(reason, e.ProxyError):
        return f"the proxy: {_cause(reason.original_error)}"
    kinds = (
        (e.NameResolutionError, "the server's name cannot be resolved"),
        (e.NewConnectionError, ""),  # a ConnectTimeoutError, too; the system says why
        (e.ConnectTimeoutError, "no connection in time"),
        (e.ReadTimeoutError, "no answer in time"),
        (e.IncompleteRead, "the answer broke off"),
        (e.ProtocolError, "the connection broke"),
    )
    if text := next((text for kind, text in kinds if isinstance(reason, kind)), ""):
        return text
    inner = reason.__cause__ if isinstance(reason, BaseException) else None
    if isinstance(inner, OSError) and inner.strerror and not isinstance(inner, ssl.SSLError):
        return inner.strerror
    if any(word in str(reason) for word in _PLAIN):
        return NO_TLS
    text = redact(str(reason).replace("\n", " "))
    return text.rpartition(">: ")[2][:200] or type(reason).__name__
