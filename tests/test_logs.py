"""Where messages go, in which form, and how often."""

from __future__ import annotations

import json
import logging
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.conftest import Mount, znfs
from znfs.daemon import logs

ABOUT = {"source": "s3://bucket/v.zarr", "mountpoint": "/srv/v"}


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of this test alone."""
    logger = logging.getLogger("test-logs")
    logger.propagate = False
    yield logger
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


def test_messages_are_sparing() -> None:
    sparing = logs.Sparing()

    def passes(text: str) -> bool:
        return sparing.filter(logging.LogRecord("znfs", logging.ERROR, "", 0, text, (), None))

    assert passes("a")
    assert not passes("a")
    assert passes("b")
    assert 80 < sum(passes(str(i)) for i in range(5000)) <= 100


@pytest.mark.parametrize("form", [logs._OneLine(), logs._Json(ABOUT)])
def test_no_secret_of_a_library_is_logged(form: logging.Formatter) -> None:
    """Not even what an exception quotes that znfs did not foresee."""
    url = "https://me:hunter2@host/x?sig=hunter2"
    try:
        raise RuntimeError(f"GET {url}")
    except RuntimeError as error:
        about = (RuntimeError, error, error.__traceback__)
        line = logging.LogRecord("znfs", logging.ERROR, "", 0, "read: %s", (error,), about)
    said = form.format(line)
    assert "hunter2" not in said
    assert said.count("GET https://host/x?sig=***") == 2
    assert "Traceback" in said


def test_what_a_flood_cost_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    sparing = logs.Sparing()
    for i in range(130):
        sparing.filter(logging.LogRecord("znfs", logging.ERROR, "", 0, "%d", (i,), None))
    now += 11
    later = logging.LogRecord("znfs", logging.ERROR, "", 0, "read: %s", ("c/0",), None)
    assert sparing.filter(later)
    assert later.getMessage() == "read: c/0 (30 messages before were left out)"


def test_the_journal_has_fields(tmp_path: Path, log: logging.Logger) -> None:
    """As journald's "Native Journal Protocol" says: KEY=VALUE, or KEY, length, value."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        handler = logs.Journal(ABOUT, str(tmp_path / "socket"))
        handler.setFormatter(logs._OneLine("%(message)s"))
        log.addHandler(handler)
        log.error("read: c/0\n: %s", "500")
        said = journal.recv(4096).decode().splitlines()
        assert dict(field.split("=", 1) for field in said) == {
            "MESSAGE": "read: c/0\\n: 500", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "znfs",
            "LOGGER": "test-logs", "ZNFS_SOURCE": ABOUT["source"],
            "ZNFS_MOUNTPOINT": ABOUT["mountpoint"],
        }  # fmt: skip
        try:
            raise ValueError("a bug")
        except ValueError:
            log.exception("oh")
        data = journal.recv(65536)
        assert data.startswith(b"MESSAGE\n")
        (length,) = struct.unpack_from("<Q", data, 8)
        message = data[16 : 16 + length]
        assert message.startswith(b"oh\nTraceback")
        assert data[16 + length :].startswith(b"\nPRIORITY=3\n")
    log.error("nobody listens")  # and nothing is raised


def test_a_file_that_is_rotated_or_lost(
    tmp_path: Path, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (tmp_path / "log").mkdir()
    path = tmp_path / "log/znfs.log"
    log.addHandler(logs.of_daemon(str(path), ABOUT))
    log.error("one")
    path.rename(path.with_suffix(".1"))  # as logrotate does
    log.warning("two")
    (old,), (new,) = ([json.loads(line) for line in p.read_text().splitlines()]
                      for p in (path.with_suffix(".1"), path))  # fmt: skip
    assert (old["message"], old["level"]) == ("one", "error")
    assert (new["message"], new["level"]) == ("two", "warning")
    assert new.items() >= ABOUT.items()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.parent.rename(tmp_path / "away")
    log.error("three")
    (tmp_path / "away").rename(path.parent)
    log.error("four")
    assert json.loads(path.read_text())["message"] == "four"


def test_a_mount_with_a_log_file(tmp_path: Path, mount: Mount) -> None:
    store, path = tmp_path / "v.zarr", tmp_path / "znfs.log"
    zarr.create_array(store, shape=(8,), chunks=(4,), dtype="u2")[...] = np.arange(1, 9)
    mounted = mount(store, "--log-file", path)
    (store / "c/1").write_bytes(b"nonsense")
    for _ in range(3):
        with pytest.raises(OSError):
            (mounted / "chunks/c/1").read_bytes()
    (line,) = path.read_text().splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"]) == ("error", "znfs.fuse")
    assert "c/1" in said["message"]
    assert (said["source"], said["mountpoint"]) == (str(store), str(mounted))
    assert said["time"].endswith("Z")


def test_a_log_file_that_cannot_be(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "v.zarr", shape=(8,), dtype="u2")
    (tmp_path / "m").mkdir()
    for more in ([], ["--foreground"]):
        done = znfs(
            "mount", "--log-file", tmp_path / "none/log", *more, tmp_path / "v.zarr",
            tmp_path / "m", check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert "--log-file" in done.stderr
        assert done.stderr.count("\n") == 1
