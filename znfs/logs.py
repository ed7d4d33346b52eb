"""Where messages go, and how often: a failing key is worth one line, not one per read."""

from __future__ import annotations

import logging
import logging.handlers
import os
import time

from znfs.tables import printable

_REPEAT = 600.0  # seconds until the same message may be logged again
_REMEMBERED = 1024  # messages
_BURST, _PERIOD = 100, 10.0  # at most so many lines in so many seconds
_SYSLOG = "/dev/log"


class Sparing(logging.Filter):
    """Lets a message pass once in ten minutes, and no flood of different ones."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}
        self._began, self._count = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, key = time.monotonic(), (record.name, record.getMessage())
        last = self._passed.pop(key, None)
        if last is not None and now - last < _REPEAT:
            self._passed[key] = last
            return False
        if now - self._began > _PERIOD:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > _BURST:
            return False
        self._passed[key] = now
        if len(self._passed) > _REMEMBERED:
            del self._passed[next(iter(self._passed))]
        return True


class _OneLine(logging.Formatter):
    """Messages without control characters; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def to_stderr(level: str) -> None:
    """Log to standard error: commands, and a daemon in the foreground."""
    _install(logging.StreamHandler(), "znfs: %(levelname)s: %(message)s", level)


def to_syslog(level: str) -> None:
    """Log to the system's log (the journal, where there is one): a daemon without a terminal."""
    if os.path.exists(_SYSLOG):
        handler = logging.handlers.SysLogHandler(_SYSLOG)
        _install(handler, f"znfs[{os.getpid()}]: %(message)s", level)
    else:
        _install(logging.NullHandler(), "%(message)s", level)


def _install(handler: logging.Handler, text: str, level: str) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    handler.setFormatter(_OneLine(text))
    handler.addFilter(Sparing())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other libraries
    logging.getLogger("znfs").setLevel(level.upper())
