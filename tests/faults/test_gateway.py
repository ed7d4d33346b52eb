"""The store itself dies, hangs, refuses, moves out of reach, or changes."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import GRID, RIGHT, Row
from tests.servers.s3 import S3
from tests.waiting import eventually
from znfs.daemon import mounts


def test_killed_and_restarted(s3: S3, start: Start) -> None:
    mounted = start(s3.url)
    rig.watch(mounted, "server killed, started again", s3.kill, s3.restart, cold=["EIO"])
    mounted.close()


def test_stopped(s3: S3, start: Start) -> None:
    mounted = start(s3.url)
    rig.watch(mounted, "server stopped (SIGSTOP)", s3.suspend, s3.resume, cold=["EIO"])
    mounted.close()


def test_credentials_revoked(s3: S3, start: Start) -> None:
    mounted = start(s3.url)
    rig.watch(
        mounted, "credentials revoked, given back",
        lambda: s3.suspend_user(), lambda: s3.suspend_user(suspended=False), cold=["EACCES"],
    )  # fmt: skip
    mounted.close()


def test_down_at_mount_time(s3: S3, start: Start) -> None:
    s3.kill()
    try:
        mounted = start(s3.url)
        found = mounted.read_all(GRID)
    finally:
        s3.restart()
    assert {o.said for o in found} == {"EIO"}
    slowest = max(o.seconds for o in found)
    assert slowest < rig.DEADLINE + rig.MARGIN
    after = mounted.recovery()
    rig.report("server down at mount time", found, [], mounted.lines(), after)
    mounted.close()


def test_replaced_while_files_are_open(s3: S3, start: Start) -> None:
    client = s3.client()
    new = rig.VALUES[::-1] + np.uint16(1)
    rig.upload(client, "changing")
    mounted = start(s3.url, "changing", "--ttl", "0.5")
    assert all(o.said == RIGHT for o in mounted.read_all(GRID))
    path = mounted.path / "changing.npy"
    whole = path.read_bytes()
    first = client.head_object(Bucket=rig.BUCKET, Key="changing.zarr/zarr.json")["LastModified"]
    before = path.stat().st_mtime_ns
    old = os.open(path, os.O_RDONLY)
    try:
        # S3 tells times in seconds: a document put again within one is the same document.
        eventually(lambda: time.time() > first.timestamp() + 1.5)
        rig.upload(client, "changing", new)
        began = time.monotonic()
        eventually(lambda: path.stat().st_mtime_ns != before)
        took = time.monotonic() - began
        np.testing.assert_array_equal(np.load(path), new)
        assert all(mounted.read(index, new).said == RIGHT for index in GRID)
        os.posix_fadvise(old, 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError) as caught:
            os.pread(old, len(whole), 0)
        assert caught.value.errno == errno.ESTALE
    finally:
        os.close(old)
    rig.ROWS.append(Row(
        "array replaced while files are open", "all right (of new)", "old descriptor: ESTALE",
        took, "nothing", "by opening the file anew",
    ))  # fmt: skip
    mounted.close()


def test_a_killed_daemon(s3: S3, start: Start, tmp_path: Path) -> None:
    """kill -9 while the disk tier is written: the next mount clears the dead one, and reads."""
    flags = ["--disk-cache", tmp_path / "cache"]
    mounted = start(s3.url, "sums", *flags)
    assert mounted.read(GRID[0]).said == RIGHT
    mounted.daemon.kill()
    mounted.daemon.wait()
    found = mounted.read_all(GRID)
    assert {o.said for o in found} == {"ENOTCONN"}
    began = time.monotonic()
    mounts.clear_dead(str(mounted.path))  # as `mount` does first
    assert os.listdir(mounted.path) == []
    again = start(s3.url, "sums", *flags)
    assert all(o.said == RIGHT for o in again.read_all(GRID))
    rig.report("daemon killed (SIGKILL)", found, [], [], time.monotonic() - began)
    rig.ROWS[-1].recovers = "by the next `mount`, which clears the dead one"
    again.close()


@(lambda test: test if os.environ.get("ZNFS_FAULTS_REPORT") else pytest.mark.soak(test))
def test_stopped_for_a_minute(s3: S3, start: Start) -> None:
    mounted = start(s3.url)
    every: list[rig.Outcome] = []
    assert mounted.read(GRID[0]).said == RIGHT
    s3.suspend()
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = mounted.read_all(GRID[1:])
            assert {o.said for o in found} == {"EIO"}
            every += found
            assert max(o.seconds for o in found) < rig.DEADLINE + rig.MARGIN
            assert mounted.read(GRID[0]).said == RIGHT
            assert mounts.status(str(mounted.path))["process"]["threads"] < 350
    finally:
        s3.resume()
    after = mounted.recovery()
    rig.report("server stopped for a minute", every, [], mounted.lines(), after)
    mounted.close()
