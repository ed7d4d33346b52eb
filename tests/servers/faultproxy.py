"""A TCP proxy that delays, throttles, breaks and damages what a server answers.

    with FaultProxy("127.0.0.1", s3.port) as proxy:
        proxy.hang_after = 0              # connections are taken, nothing is answered
        proxy.every = 3                   # only on every third connection
        ... Options(endpoint_url=proxy.url)

The settings may be changed at any time and hold from the next connection on (`rate` and `latency`:
from the next piece). Counts are of bytes towards the client, per connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Self

_PIECE = 65536
_RATED_PIECE = 16384


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and forwards to host:port, in a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.latency = 0.0  # seconds each answer is late; pieces overlap, as on a long line
        self.rate: float | None = None  # bytes a second, of all connections together
        self.reset_after: int | None = None  # RST after so many bytes
        self.hang_after: int | None = None  # send no more after so many, stay connected
        self.close_after: int | None = None  # FIN after so many: a body cut short
        self.corrupt_after: int | None = None  # one bit of that byte is flipped
        self.refuse = False  # RST at once
        self.every = 1  # the faults meet every n-th connection only
        self.stats: Counter[str] = Counter()  # connections, active, down, up (bytes), faults
        self._count = 0
        self._free_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Forget all faults; broken connections stay broken."""
        self.latency, self.rate, self.refuse, self.every = 0.0, None, False, 1
        self.reset_after = self.hang_after = self.close_after = self.corrupt_after = None
        self._free_at = 0.0

    def drop_all(self) -> None:
        """RST every open connection now."""
        done = threading.Event()

        def drop() -> None:
            for writer in list(self._open):
                _reset(writer)
            done.set()

        self._loop.call_soon_threadsafe(drop)
        done.wait(5)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _shut(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._count += 1
        self.stats["connections"] += 1
        self.stats["active"] += 1
        faulty = self._count % self.every == 0
        up: asyncio.Task[None] | None = None
        server_writer: asyncio.StreamWriter | None = None
        try:
            if self.refuse and faulty:
                self.stats["faults"] += 1
                _reset(writer)
                return
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._open.add(writer)
            up = asyncio.create_task(self._up(reader, server_writer))
            await self._down(server_reader, writer, faulty)
        except (asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            self.stats["active"] -= 1
            if up is not None:
                up.cancel()
            for each in (writer, server_writer):
                if each is not None and not each.transport.is_closing():
                    each.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                self.stats["up"] += len(data)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faulty: bool
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def read() -> None:
            data = b"-"
            while data:
                data = await reader.read(_PIECE)
                await pieces.put((time.monotonic() + self.latency, data))

        task = asyncio.create_task(read())
        sent = 0
        try:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    return
                size = _RATED_PIECE if self.rate else len(data)
                for at in range(0, len(data), size):
                    piece = data[at : at + size]
                    if faulty and await self._fault(writer, piece, sent):
                        return
                    if faulty and (where := self.corrupt_after) is not None:
                        piece = self._flip(piece, where - sent)
                    if self.rate:
                        now = time.monotonic()
                        self._free_at = max(self._free_at, now) + len(piece) / self.rate
                        await asyncio.sleep(self._free_at - now)
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                    self.stats["down"] += len(piece)
        finally:
            task.cancel()

    async def _fault(self, writer: asyncio.StreamWriter, piece: bytes, sent: int) -> bool:
        """Whether the connection is over: a limit lies within the next piece."""
        for limit in (self.reset_after, self.hang_after, self.close_after):
            if limit is None or sent + len(piece) <= limit:
                continue
            self.stats["faults"] += 1
            writer.write(piece[: limit - sent])
            await writer.drain()
            if limit == self.hang_after:
                await asyncio.Event().wait()
            if limit == self.reset_after:
                await asyncio.sleep(0.01)  # what was written goes out first
                _reset(writer)
            return True
        return False

    def _flip(self, piece: bytes, where: int) -> bytes:
        if not 0 <= where < len(piece):
            return piece
        self.stats["faults"] += 1
        return piece[:where] + bytes([piece[where] ^ 1]) + piece[where + 1 :]


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST, not FIN: closing with a linger time of 0."""
    sock = writer.transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
