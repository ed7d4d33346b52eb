"""A name server that says of every name that it is this machine, until it falls silent."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Self

from tests.servers.process import NotAvailable

_ANSWER = 0x8180  # a response, recursion desired and available, no error
_A, _IN, _SECONDS = 1, 1, 0
_NAME = 0xC00C  # the name that was asked for, 12 bytes into the message


class NameServer:
    """Listens at port 53 of an address of its own in 127.0.0.0/8, in a thread of its own.

    While `silent`, questions are counted in `unanswered` and dropped.
    """

    def __init__(self) -> None:
        self.silent = False
        self.unanswered = 0
        self.address = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.address, 53))
        except OSError as error:
            self._socket.close()
            raise NotAvailable(f"port 53 of {self.address}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", (self.address, 53))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            if self.silent:
                self.unanswered += 1
            else:
                self._socket.sendto(_answer(question), asker)


def _answer(question: bytes) -> bytes:
    """127.0.0.1 to who asks for an A record, no record to others (RFC 1035, 4.1)."""
    end = question.index(0, 12) + 5
    (kind,) = struct.unpack_from("!H", question, end - 4)
    found = kind == _A
    head = question[:2] + struct.pack("!HHHHH", _ANSWER, 1, int(found), 0, 0)
    record = struct.pack("!HHHIH4B", _NAME, _A, _IN, _SECONDS, 4, 127, 0, 0, 1)
    return head + question[12:end] + (record if found else b"")
