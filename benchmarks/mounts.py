"""Mounts for a while: znfs's, and the file system that does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.waiting import eventually

_PATIENCE = 30.0  # seconds for a mount to appear or to go


@dataclass(frozen=True)
class Mount:
    """A mount that is up. `pid` is the process that serves it."""

    path: Path
    pid: int

    def status(self) -> dict[str, Any]:
        """`.znfs/status.json`."""
        found: dict[str, Any] = json.loads((self.path / ".znfs/status.json").read_text())
        return found

    def refresh(self) -> None:
        """Empty the daemon's caches. The pages of a file go when it is opened next."""
        subprocess.run([*ZNFS, "refresh", str(self.path)], check=True)


ZNFS = (sys.executable, "-m", "znfs")


@contextmanager
def znfs(source: str | Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Mount]:
    """`znfs mount SOURCE` with options."""
    with _folder() as folder:
        command = [*ZNFS, "mount", str(source), str(folder), "--foreground", "--stop-on-eof"]
        with _served([*command, *options], folder, env) as mount:
            yield mount


@contextmanager
def null(
    files: Mapping[str, int], heads: Mapping[str, bytes] = MappingProxyType({}), names: int = 0
) -> Iterator[Mount]:
    """The file system that does nothing: files of these sizes, some of whose first bytes are given,
    and a folder `names` of that many more (see null.py)."""
    encoded = {path: b64encode(head).decode() for path, head in heads.items()}
    with _folder() as folder, tempfile.NamedTemporaryFile("w", suffix=".json") as description:
        json.dump({"files": dict(files), "heads": encoded, "names": names}, description)
        description.flush()
        command = [sys.executable, "-m", "benchmarks.null", str(folder), description.name]
        with _served(command, folder, None) as mount:
            yield mount


@contextmanager
def null_like(mount: Mount, files: Mapping[Path, int]) -> Iterator[Mount]:
    """The file system that does nothing, with the names and sizes of these files of `mount`, the
    first bytes of each (so many) and its read-ahead: what reads one can read the other."""
    heads = {}
    for path, length in files.items():
        with path.open("rb", buffering=0) as file:
            heads[str(path.relative_to(mount.path))] = file.read(length)
    sizes = {str(path.relative_to(mount.path)): path.stat().st_size for path in files}
    with null(sizes, heads) as nobody:
        match_read_ahead(mount, nobody)
        yield nobody


def match_read_ahead(mount: Mount, null: Mount) -> None:
    """Give the null file system the read-ahead of the other, so that requests are as large."""
    setting = _read_ahead(mount).read_text()
    if _read_ahead(null).read_text() != setting:
        _read_ahead(null).write_text(setting)  # only root may; then the mount's is root's too


def _read_ahead(mount: Mount) -> Path:
    device = mount.path.stat().st_dev
    return Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="znfs-bench-"))
    try:
        yield folder
    finally:
        folder.rmdir()


@contextmanager
def _served(command: list[str], folder: Path, env: dict[str, str] | None) -> Iterator[Mount]:
    """The process that serves `folder`, until the block ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **(env or {})})
    assert process.stdin is not None
    try:
        eventually(
            lambda: folder.is_mount() or process.poll() is not None, seconds=_PATIENCE
        )
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode}")
        yield Mount(folder, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if folder.is_mount():
            subprocess.run(["fusermount3", "-uz", str(folder)], check=True)
