"""An HTTP proxy that answers some requests itself, with an error.

    with StatusProxy("127.0.0.1", s3.port) as proxy:
        proxy.fail(503, retry_after=1)          # every request
        proxy.fail(404, only="/c/", every=3)    # a third of those whose path has `/c/`
        proxy.heal()

Requests are passed on with the Host they came with, so that signatures hold.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_CODES = {403: "AccessDenied", 404: "NoSuchKey", 429: "TooManyRequests", 500: "InternalError",
          503: "SlowDown"}  # fmt: skip
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Rule:
    """What is answered to requests whose path contains `only`."""

    status: int
    only: str = ""
    every: int = 1
    retry_after: int | None = None


class StatusProxy:
    """Listens on a free port of 127.0.0.1 and forwards to host:port."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.rule: Rule | None = None
        self.stats: Counter[str] = Counter()  # requests, faults
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), daemon=True)

    def fail(
        self, status: int, *, only: str = "", every: int = 1, retry_after: int | None = None
    ) -> None:
        self.rule = Rule(status, only, every, retry_after)

    def heal(self) -> None:
        self.rule = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def verdict(self, path: str) -> Rule | None:
        """The rule that this request meets, or None."""
        rule = self.rule
        with self._lock:
            self.stats["requests"] += 1
            if rule is None or rule.only not in path:
                return None
            self.stats["matched"] += 1
            if self.stats["matched"] % rule.every:
                return None
            self.stats["faults"] += 1
        return rule


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        proxy: StatusProxy = self.server.proxy  # type: ignore[attr-defined]
        rule = proxy.verdict(self.path)
        if rule is None:
            self._forward(proxy)
        else:
            self._refuse(rule)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _refuse(self, rule: Rule) -> None:
        body = f"<Error><Code>{_CODES[rule.status]}</Code></Error>".encode()
        self.send_response(rule.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        if rule.retry_after is not None:
            self.send_header("Retry-After", str(rule.retry_after))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, proxy: StatusProxy) -> None:
        connection = HTTPConnection(*proxy.upstream, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
