"""Where messages go, and how often: a failing key is worth one line, not one per read.

A daemon in the background logs to the journal by its native protocol, which keeps what a message
is about in fields of its own; without a journal to syslog; with `--log-file` to a file, a JSON
object a line.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any

from znfs.redaction import redact
from znfs.tables import printable

_REPEAT = 600.0  # seconds until the same message may be logged again
_REMEMBERED = 1024  # messages
_BURST, _PERIOD = 100, 10.0  # at most so many lines in so many seconds
_JOURNAL = "/run/systemd/journal/socket"
_SYSLOG = "/dev/log"
# Of syslog(3).
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
_DEBUG_PRIORITY = 7

About = Mapping[str, str]


class Sparing(logging.Filter):
    """Lets a message pass once in ten minutes, and no flood of different ones; how many a flood
    cost is said with the next message that passes."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}
        self._began, self._count, self._dropped = 0.0, 0, 0
        self._mutex = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, key = time.monotonic(), (record.name, record.getMessage())
        with self._mutex:
            last = self._passed.pop(key, None)
            if last is not None and now - last < _REPEAT:
                self._passed[key] = last
                return False
            if now - self._began > _PERIOD:
                self._began, self._count = now, 0
            self._count += 1
            if self._count > _BURST:
                self._dropped += 1
                return False
            self._passed[key] = now
            if len(self._passed) > _REMEMBERED:
                del self._passed[next(iter(self._passed))]
            dropped, self._dropped = self._dropped, 0
        if dropped:
            record.msg, record.args = f"{key[1]} ({dropped} messages before were left out)", ()
        return True


class _Formatter(logging.Formatter):
    """Tracebacks of libraries' exceptions, which may quote a URL, tell no secrets."""

    def formatException(self, ei: Any) -> str:
        return redact(super().formatException(ei))


class _OneLine(_Formatter):
    """Messages without control characters; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(redact(super().formatMessage(record)))


class _Json(_Formatter):
    """An object a line, with what `about` says of the mount."""

    def __init__(self, about: About) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{now}.{int(record.msecs):03}Z", "level": record.levelname.lower(),
            "logger": record.name, "message": printable(redact(record.getMessage())),
            "pid": record.process,
        }  # fmt: skip
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said | dict(self._about), ensure_ascii=False)


class Journal(logging.Handler):
    """systemd's journal (its "Native Journal Protocol")."""

    def __init__(self, about: About, path: str = _JOURNAL) -> None:
        super().__init__()
        self._fields = {f"ZNFS_{name.upper()}": value for name, value in about.items()}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        priority = _PRIORITIES.get(record.levelno, _DEBUG_PRIORITY)
        fields = {
            "MESSAGE": self.format(record), "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": "znfs", "LOGGER": record.name, **self._fields,
        }  # fmt: skip
        try:
            self._socket.sendto(b"".join(_field(*field) for field in fields.items()), self._path)
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    """A field of the journal: in one line if it is one, else with its length."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


class _File(logging.handlers.WatchedFileHandler):
    """A file for this user alone, opened anew when logrotate has moved it."""

    def _open(self) -> TextIOWrapper:
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self.baseFilename, mode, 0o600)
        return open(file, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it cannot be opened anew, which is no reason for a read to fail
            self.handleError(record)


def to_stderr(level: str) -> None:
    """Log to standard error: commands, and a daemon in the foreground."""
    install(logging.StreamHandler(), level, "znfs: %(levelname)s: %(message)s")


def of_daemon(file: str | None, about: About) -> logging.Handler:
    """Where a daemon without a terminal logs, `about` (source, mountpoint) with every message: to
    `file`, if one is named, the journal, or the system's log. Raises OSError of the file.
    """
    if file is not None:
        handler: logging.Handler = _File(file)
        handler.setFormatter(_Json(about))
    elif os.path.exists(_JOURNAL):
        handler = Journal(about)
        handler.setFormatter(_OneLine("%(message)s"))
    elif os.path.exists(_SYSLOG):
        handler = logging.handlers.SysLogHandler(_SYSLOG)
        handler.setFormatter(_OneLine(f"znfs[{os.getpid()}]: %(message)s"))
    else:
        handler = logging.NullHandler()
    return handler


def install(handler: logging.Handler, level: str, text: str | None = None) -> None:
    """Have `handler` take all messages from `level` on, in the form `text` if it has none yet."""
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    if text is not None:
        handler.setFormatter(_OneLine(text))
    handler.addFilter(Sparing())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other libraries
    logging.getLogger("znfs").setLevel(level.upper())
    logging.raiseExceptions = False  # a full disk under the log is no reason to say anything
