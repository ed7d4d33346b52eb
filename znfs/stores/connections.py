"""urllib3's connections, made and read in time, whatever name servers and web servers do.

`getaddrinfo` has no time-out but the resolver's own (10 s where one server is named, minutes where
several are), and urllib3's is for each address of a server. Connections are kept, so a thread for
each new one costs little.

A socket's time-out is for each wait, and urllib3's for each redirect: who sends a byte a second is
waited for without end. Here each wait is for what is left of the attempt.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from math import inf
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from znfs.errors import Unanswered
from znfs.stores.calls import Threads

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Kept open (past that urllib3 logs a warning for each), and made at once, hung ones included.
CONNECTIONS = 256
_SLACK = 0.1  # seconds that a time-out may be too long: to set it is a system call
_aside = Threads(CONNECTIONS)


class _Thread(threading.local):
    over = inf  # when this thread's attempt is


_thread = _Thread()


@contextmanager
def until(over: float) -> Iterator[None]:
    """What this thread does here with connections, redirects included, is over then."""
    _thread.over = over
    try:
        yield
    finally:
        _thread.over = inf


def _left() -> float:
    """Seconds, more than none; maybe inf. Raises TimeoutError."""
    seconds = _thread.over - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


class _InTime(io.RawIOBase):
    """What a socket receives, before the attempt is over."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        seconds = _left()
        now = self._sock.gettimeout()
        if seconds + _SLACK < (inf if now is None else now):
            self._sock.settimeout(seconds)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    """Also a proxy's to CONNECT."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_InTime(sock, self.fp.detach()))


def _made(connection: HTTPConnection, make: Callable[[], socket.socket]) -> socket.socket:
    seconds = connection.timeout
    if not isinstance(seconds, int | float):
        return make()  # nobody gave one
    try:
        seconds = connection.timeout = min(seconds, _left())  # the TLS handshake's, too
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, str(error)) from None
    try:
        return _aside.run(make, seconds, connection.host)
    except Unanswered as error:
        raise ConnectTimeoutError(connection, str(error)) from None


class _Plain(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _made(self, super()._new_conn)


class _Secure(HTTPSConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _made(self, super()._new_conn)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


def bounded(manager: PoolManager) -> PoolManager:
    """The manager, whose connections are made in time, or raise ConnectTimeoutError."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return manager
