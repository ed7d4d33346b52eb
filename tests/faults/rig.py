"""A mount over S3 whose reads are watched while something breaks."""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from tests.conftest import OURS, ROOT
from tests.waiting import eventually
from znfs.daemon import mounts

DEADLINE = 2.0  # seconds a request may take
MARGIN = 4.0  # what a machine that does other things at the same time may add
DISK_TIER = 10.0  # what a daemon that ends takes at most to write what waits for its disk
TTL = 0.5
SHAPE, CHUNKS = (4, 64, 128), (2, 32, 32)
GRID = tuple(product(*(range(n // c) for n, c in zip(SHAPE, CHUNKS, strict=True))))
VALUES = np.random.default_rng(7).integers(1, 60000, SHAPE, dtype="u2")  # no zero among them
BUCKET = "faults"
READERS = 12
RIGHT, FILL = "right", "fill value"

# How arrays are stored: with and without a codec that notices damage.
LAYOUTS: dict[str, Any] = {"sums": Crc32cCodec(), "bare": None}


def waits(pid: int) -> str:
    """Where in the kernel each thread of a process waits."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, where = (task / "comm").read_text().strip(), (task / "wchan").read_text()
        found.append(f"{name}: {where}")
    return ", ".join(found)


def upload(client: Any, name: str, values: np.ndarray[Any, Any] = VALUES) -> None:
    """Store `values` as the array `name` (a key of LAYOUTS, or any: `sums`)."""
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            folder, shape=SHAPE, chunks=CHUNKS, dtype="u2", overwrite=True,
            compressors=LAYOUTS.get(name, LAYOUTS["sums"]),
        )  # fmt: skip
        array[...] = values
        # The document comes last, as writers should do it.
        for path in sorted(Path(folder).rglob("*"), key=lambda p: p.name == "zarr.json"):
            if path.is_file():
                key = f"{name}.zarr/{path.relative_to(folder)}"
                client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def block(index: Sequence[int], values: np.ndarray[Any, Any] = VALUES) -> bytes:
    """What the decoded chunk at `index` must read as."""
    where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, CHUNKS, strict=True))
    return values[where].tobytes()


@dataclass(frozen=True)
class Outcome:
    """How one read ended: `right`, `wrong`, or the errno's name."""

    said: str
    seconds: float


@dataclass
class Row:
    """A line of the table in docs/RELIABILITY.md."""

    fault: str
    cold: str = ""
    warm: str = ""
    within: float = 0.0
    logged: str = ""
    recovers: str = ""


ROWS: list[Row] = []


@dataclass
class Mounted:
    """A daemon in the foreground, its log, and its mount."""

    path: Path
    daemon: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def chunk(self, index: Sequence[int]) -> Path:
        return self.path / "chunks" / "c" / "/".join(map(str, index))

    def read(self, index: Sequence[int], values: np.ndarray[Any, Any] = VALUES) -> Outcome:
        """Open, read and compare one chunk; the kernel's memory of it is dropped before."""
        began = time.monotonic()
        try:
            with self.chunk(index).open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                data = file.read(1 << 20)
            said = RIGHT if data == block(index, values) else "wrong"
            if data == bytes(len(block(index))):
                said = FILL
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        return Outcome(said, time.monotonic() - began)

    def read_all(self, indexes: Iterable[Sequence[int]]) -> list[Outcome]:
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.read, indexes))

    def recovery(self) -> float:
        """Seconds until every chunk reads right."""
        began = time.monotonic()
        eventually(lambda: all(o.said == RIGHT for o in self.read_all(GRID)))
        return time.monotonic() - began

    def status_seconds(self) -> float:
        """How long the daemon's own report takes."""
        began = time.monotonic()
        mounts.status(str(self.path))
        return time.monotonic() - began

    def close(self) -> None:
        """Unmount and see that the daemon ends in peace."""
        assert self.daemon.poll() is None, f"the daemon died: {self.lines()[-5:]}"
        mounts.unmount(str(self.path), lazy=False)
        try:
            assert self.daemon.wait(MARGIN + DEADLINE + DISK_TIER) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(f"the daemon does not end: {waits(self.daemon.pid)}")
        self.check_log()

    def check_log(self) -> None:
        text = "\n".join(self.lines())
        assert "Traceback" not in text, text
        for secret in ("testsecret", "Signature"):
            assert secret not in text


def start(
    source: str,
    environ: Mapping[str, str],
    *flags: object,
    wrap: Sequence[str] = (),
    before: str = "",
) -> Mounted:
    """Mount `source` in the foreground and wait until it answers.

    `wrap` is what runs the daemon, `before` Python that it runs first.
    """
    folder = Path(tempfile.mkdtemp(prefix=OURS))
    path, log = folder / "mount", folder / "log"
    path.mkdir()
    begin = f"{before}\nfrom znfs.__main__ import znfs; znfs()"
    program = ["-c", begin] if before else ["-m", "znfs"]
    words = [
        sys.executable, *program, "mount", "--foreground", "--deadline", DEADLINE,
        "--ttl", TTL, *flags, source, path,
    ]  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("wb") as out:
        ready.bind(str(folder / "ready"))
        daemon = subprocess.Popen(
            [*wrap, *map(str, words)], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            env={**os.environ, **environ, "PYTHONPATH": str(ROOT),
                 "NOTIFY_SOCKET": str(folder / "ready"), "XDG_CONFIG_HOME": "/nonexistent"},
        )  # fmt: skip
        mounted = Mounted(path, daemon, log)
        ended = os.pidfd_open(daemon.pid)
        try:
            found = select.select([ready, ended], [], [], 60)[0]
        finally:
            os.close(ended)
        if ready not in found or b"READY=1" not in ready.recv(4096):
            why = log.read_text()
            stop(mounted)
            raise AssertionError(f"no mount: {why}")
    return mounted


def stop(mounted: Mounted) -> None:
    """End a mount for certain."""
    if mounted.daemon.poll() is None:
        mounted.daemon.send_signal(signal.SIGCONT)
        mounted.daemon.kill()
        mounted.daemon.wait()
    while any(m.mountpoint == str(mounted.path) for m in mounts.mounts()):
        mounts.detach(str(mounted.path), lazy=True)
    shutil.rmtree(mounted.log.parent, ignore_errors=True)


def watch(
    mounted: Mounted,
    name: str,
    begin: Callable[[], None],
    end: Callable[[], None],
    *,
    cold: Iterable[str],
    warm: Iterable[str] = (RIGHT,),
    deadline: float = DEADLINE,
    refresh: bool = False,
) -> Row:
    """Read before, during and after the fault; what happened, as a row of the table.

    `cold` and `warm` are what reads may answer of chunks not read before, and of one that was.
    In no case is a byte wrong, a read later than `deadline`, the daemon silent.
    """
    first, *others = GRID
    assert mounted.read(first).said == RIGHT, mounted.lines()
    known = len(mounted.lines())
    time.sleep(TTL)  # so that metadata has to be checked while the fault is on
    begin()
    try:
        old = mounted.read(first)
        found = mounted.read_all(others)
        asked = mounted.status_seconds()
    finally:
        end()
    assert mounted.daemon.poll() is None
    logged = mounted.lines()[known:]
    if refresh:
        mounts.refresh(str(mounted.path))
    after = mounted.recovery()
    row = report(name, found, [old], logged, after)
    if refresh:
        row.recovers = "by `znfs refresh`"
    assert {o.said for o in found} <= set(cold), (name, row)
    assert old.said in set(warm), (name, row)
    assert row.within < deadline + MARGIN, (name, row)
    assert asked < 1 + MARGIN / 2, (name, asked)
    return row


def report(
    name: str, cold: Sequence[Outcome], warm: Sequence[Outcome], logged: Sequence[str],
    after: float | None,
) -> Row:  # fmt: skip
    """Note what happened as a row of the table. `after`: seconds until all was well again."""
    row = Row(
        name, _summary(cold), _summary(warm), max(o.seconds for o in [*cold, *warm]),
        _sample(logged), "nothing to recover" if after is None else f"by itself, {_seconds(after)}",
    )  # fmt: skip
    ROWS.append(row)
    return row


def _summary(found: Sequence[Outcome]) -> str:
    counts = Counter(o.said for o in found)
    if len(counts) == 1 and len(found) > 1:
        (said,) = counts
        return f"all {said}"
    return ", ".join(f"{n} {said}" if len(found) > 1 else said for said, n in counts.most_common())


def _seconds(seconds: float) -> str:
    return "at once" if seconds < 1 else f"in {seconds:.0f} s"


def _sample(lines: Sequence[str]) -> str:
    """How many lines were logged, and the last of them without what differs from run to run."""
    if not lines:
        return "nothing"
    last = re.sub(r"(127\.0\.0\.1|localhost):\d+", "HOST", lines[-1])
    last = re.sub(r"/tmp/\S*/", "…/", last)
    return f"{len(lines)} lines: `{last}`" if len(lines) > 1 else f"`{last}`"
