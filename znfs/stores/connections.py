"""urllib3's connections, made within their time-out, whatever the look-up of the name does.

`getaddrinfo` has no time-out but the resolver's own (10 s where one server is named, minutes where
several are), and urllib3's is for each address of a server. Connections are kept, so a thread for
each new one costs little.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from znfs.errors import Unanswered
from znfs.stores.calls import Threads

# Kept open (past that urllib3 logs a warning for each), and made at once, hung ones included.
CONNECTIONS = 256
_aside = Threads(CONNECTIONS)


def _made(connection: HTTPConnection, make: Callable[[], socket.socket]) -> socket.socket:
    seconds = connection.timeout
    if not isinstance(seconds, int | float):
        return make()  # nobody gave one
    try:
        return _aside.run(make, seconds, connection.host)
    except Unanswered as error:
        raise ConnectTimeoutError(connection, str(error)) from None


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _made(self, super()._new_conn)


class _Secure(HTTPSConnection):
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
