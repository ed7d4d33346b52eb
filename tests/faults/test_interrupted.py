"""Readers that are killed while they wait for a store that does not answer."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import GRID, RIGHT
from tests.servers.faultproxy import FaultProxy
from tests.waiting import eventually
from znfs.daemon import mounts


def test_killed_readers_leave_nothing(line: FaultProxy, start: Start) -> None:
    mounted = start(line.url, "sums", "--ttl", "60")
    assert mounted.read(GRID[0]).said == RIGHT
    before = mounts.status(str(mounted.path))["process"]["threads"]
    line.hang_after = 0
    line.drop_all()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys; open(sys.argv[1], 'rb').read()",
             str(mounted.chunk(index))],
            stderr=subprocess.DEVNULL,
        )
        for index in GRID[1:9]
    ]  # fmt: skip
    try:
        eventually(lambda: mounts.status(str(mounted.path))["fuse"]["busy"] > 1)
        began = time.monotonic()
        for reader in readers:
            reader.kill()
        for reader in readers:
            reader.wait(10)
        assert time.monotonic() - began < rig.DEADLINE, "a killed reader waits for the store"
        # Their requests end with the deadline; the look at the status is one of its own.
        eventually(lambda: mounts.status(str(mounted.path))["fuse"]["busy"] <= 1)
        assert mounts.status(str(mounted.path))["fuse"]["open_files"] <= 1
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
        line.heal()
        line.drop_all()
    mounted.recovery()
    assert mounts.status(str(mounted.path))["process"]["threads"] < before + 200
    mounted.close()
