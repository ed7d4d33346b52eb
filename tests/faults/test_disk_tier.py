"""The disk tier's folder is full, damaged, read-only or gone: no read fails for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import GRID, RIGHT, Mounted
from tests.servers.s3 import S3
from tests.waiting import eventually
from znfs.daemon import mounts

# One block of the cache: everything else has to come from the disk tier or the store.
SMALL = ("--cache-size", "16KiB")


@pytest.fixture(params=["64k"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of that size, for root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param},mode=0700", "tmpfs", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(made.stderr.strip())
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=False)


def disk(mounted: Mounted) -> dict[str, Any]:
    found: dict[str, Any] = mounts.status(str(mounted.path))["disk_cache"]
    return found


def check(mounted: Mounted, name: str, during: Callable[[], None] = lambda: None) -> None:
    """Reads are right before and after `during`, twice each."""
    found = mounted.read_all(GRID)
    eventually(lambda: disk(mounted)["written"] == len(GRID))
    known = len(mounted.lines())
    during()
    found += mounted.read_all([*GRID, *reversed(GRID)])
    # Nothing is written now, and yet it is noticed, once.
    eventually(lambda: disk(mounted)["last_errors"])
    found += mounted.read_all(GRID)
    logged = mounted.lines()[known:]
    rig.report(name, found, [], logged, None)
    assert {o.said for o in found} == {RIGHT}
    assert len(logged) == 1, logged
    assert disk(mounted)["last_errors"][0]["error"] in logged[0]


def test_full(s3: S3, start: Start, small_disk: Path) -> None:
    mounted = start(s3.url, "sums", "--disk-cache", small_disk, *SMALL)
    found = mounted.read_all(GRID)
    eventually(lambda: disk(mounted)["failures"])
    found += mounted.read_all(reversed(GRID))
    assert {o.said for o in found} == {RIGHT}
    assert disk(mounted)["state"] == "cannot write: No space left on device"
    assert len(mounted.lines()) == 1, mounted.lines()
    rig.report("disk tier full", found, [], mounted.lines(), None)
    mounted.close()


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_read_only(s3: S3, start: Start, small_disk: Path) -> None:
    often = "from znfs.chunks import disk; disk._LOOK_SECONDS = 0.5"
    mounted = start(s3.url, "sums", "--disk-cache", small_disk, *SMALL, before=often)

    def during() -> None:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    check(mounted, "disk tier read-only", during)
    assert disk(mounted)["state"] == "cannot be written"
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    eventually(lambda: disk(mounted)["state"] == "works")
    mounted.close()


def test_deleted(s3: S3, start: Start, tmp_path: Path) -> None:
    mounted = start(s3.url, "sums", "--disk-cache", tmp_path / "cache", *SMALL)
    folder = tmp_path / "cache"
    check(mounted, "disk tier deleted", lambda: shutil.rmtree(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert disk(mounted)["state"] == "works"
    mounted.close()


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("??/*") if p.suffix != ".tmp")


def fill(s3: S3, start: Start, folder: Path) -> None:
    """Have the folder hold every chunk."""
    mounted = start(s3.url, "sums", "--disk-cache", folder)
    assert {o.said for o in mounted.read_all(GRID)} == {RIGHT}
    eventually(lambda: disk(mounted)["written"] == len(GRID))
    mounted.close()


def test_damaged(s3: S3, start: Start, tmp_path: Path) -> None:
    """A flipped bit in every part of an entry, and entries cut short, as after a power cut."""
    folder = tmp_path / "cache"
    fill(s3, start, folder)
    found = entries(folder)
    assert len(found) == len(GRID)
    size = found[0].stat().st_size
    for number, path in enumerate(found):
        data = bytearray(path.read_bytes())
        if number % 4 == 3:
            path.write_bytes(data[: number * size // len(found)])
        else:  # of the magic, the checksum, the name, the length, then all over the payload
            at = (0, 8, 12, 32, 40)[number] if number < 5 else number * size // len(found)
            data[at] ^= 1 << number % 8
            path.write_bytes(data)
    mounted = start(s3.url, "sums", "--disk-cache", folder, *SMALL)
    read = mounted.read_all(GRID)
    assert {o.said for o in read} == {RIGHT}
    assert disk(mounted)["corrupt"] == len(GRID)
    rig.report("disk tier damaged: every entry", read, [], mounted.lines(), None)
    eventually(lambda: disk(mounted)["written"] == len(GRID))
    assert {o.said for o in mounted.read_all(GRID)} == {RIGHT}
    mounted.close()


def test_offline(s3: S3, start: Start, tmp_path: Path) -> None:
    """What the disk tier holds reads on while the store is away."""
    fill(s3, start, tmp_path / "cache")
    mounted = start(s3.url, "sums", "--disk-cache", tmp_path / "cache", *SMALL)
    assert mounted.read(GRID[0]).said == RIGHT
    s3.kill()
    try:
        found = mounted.read_all(GRID)
    finally:
        s3.restart()
    rig.report("server away, chunks in the disk tier", found, [], mounted.lines(), None)
    assert {o.said for o in found} == {RIGHT}
    mounted.close()
