"""A line to a server that is long, and counts what goes over it: requests and bytes.

    python -m benchmarks.proxy HOST PORT

prints its own port and then obeys lines on standard input: `latency SECONDS`, and `count`, which
prints what went over since the last `count`. It is a process of its own, so that what is measured
does not share an interpreter with it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ")


@dataclass(frozen=True)
class Traffic:
    """What went over the line. `gets` counts GET requests, of ranges and listings too."""

    gets: int
    requests: int
    bytes: int  # of the answers, with their headers


class Proxy:
    """The process, as seen by who started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.port = int(self._out.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def latency(self, seconds: float) -> None:
        """From now on every answer comes so much later."""
        self._tell(f"latency {seconds}")

    def count(self) -> Traffic:
        """What went over since the last time."""
        self._tell("count")
        return Traffic(**json.loads(self._out.readline()))

    def _tell(self, line: str) -> None:
        self._in.write(line + "\n")
        self._in.flush()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before host:port."""
    command = [sys.executable, "-m", "benchmarks.proxy", host, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Proxy(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


class _Line:
    """The state that all connections share."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.counts: Counter[str] = Counter()


class _Side(asyncio.Protocol):
    """One end of a connection; forwards to the `other`, late if `delayed`."""

    def __init__(self, line: _Line, *, delayed: bool) -> None:
        self.line = line
        self.delayed = delayed
        self.other: _Side | None = None
        self.transport: Any = None
        self._early: list[bytes] = []  # what came before the other end was connected
        self._late: deque[tuple[float, bytes | None]] = deque()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.delayed:
            self.line.counts["bytes"] += len(data)
        elif data.startswith(_METHODS):  # an answer is waited for before the next request
            self.line.counts["requests"] += 1
            self.line.counts["gets"] += data.startswith(b"GET ")
        self._forward(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._forward(None)

    def pair(self, other: _Side) -> None:
        self.other = other
        for data in self._early:
            self._send(data)
        self._early.clear()

    def _forward(self, data: bytes | None) -> None:
        if not self.delayed or not (self.line.latency or self._late):
            self._send(data)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self.line.latency
        if not self._late:
            loop.call_at(due, self._deliver)
        self._late.append((due, data))

    def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time():
            self._send(self._late.popleft()[1])
        if self._late:
            loop.call_at(self._late[0][0], self._deliver)

    def _send(self, data: bytes | None) -> None:
        if self.other is None:
            if data is not None:
                self._early.append(data)
        elif data is None:
            self.other.transport.close()
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)


async def _serve(host: str, port: int) -> None:
    line = _Line()
    loop = asyncio.get_running_loop()
    pending: set[asyncio.Task[None]] = set()

    async def join(client: _Side) -> None:
        try:
            _, server = await loop.create_connection(lambda: _Side(line, delayed=True), host, port)
        except OSError:
            client.transport.abort()
            return
        server.pair(client)
        client.pair(server)

    class Client(_Side):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            task = loop.create_task(join(self))
            pending.add(task)
            task.add_done_callback(pending.discard)

    server = await loop.create_server(lambda: Client(line, delayed=False), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while command := await asyncio.to_thread(sys.stdin.readline):
        word, *values = command.split()
        if word == "latency":
            line.latency = float(values[0])
        else:
            counts = {name: line.counts[name] for name in ("gets", "requests", "bytes")}
            line.counts.clear()
            print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
