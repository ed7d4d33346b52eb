"""Clocks: the machine was suspended, or somebody set its clock."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import GRID, RIGHT
from tests.memory_store import MemoryStore
from tests.servers.faultproxy import FaultProxy
from tests.test_hierarchy import array_v3, hierarchy
from tests.waiting import eventually
from znfs.chunks.disk import DiskTier
from znfs.tree import open_tree

DAY = 86400.0
# Longer than every timer that the deadline and --ttl set.
ASLEEP = rig.DEADLINE + 2.5


def test_a_daemon_that_was_stopped(line: FaultProxy, start: Start) -> None:
    """As by suspend: readers wait, connections are dropped meanwhile, and every timer is over."""
    mounted = start(line.url)
    assert mounted.read(GRID[0]).said == RIGHT
    line.latency = 0.3  # so that requests are under way
    with ThreadPoolExecutor(rig.READERS) as pool:
        reads = [pool.submit(mounted.read, index) for index in GRID]
        eventually(lambda: line.stats["active"] > 2)
        mounted.daemon.send_signal(signal.SIGSTOP)
        try:
            line.drop_all()
            threading.Event().wait(ASLEEP)
        finally:
            mounted.daemon.send_signal(signal.SIGCONT)
        began = time.monotonic()
        found = [read.result() for read in reads]
        woken = time.monotonic() - began
    line.heal()
    assert {o.said for o in found} <= {RIGHT, "EIO"}
    assert woken < rig.DEADLINE + rig.MARGIN
    after = mounted.recovery()
    row = rig.report("machine suspended, connections lost", found, [], mounted.lines(), after)
    row.within = woken  # since it woke
    mounted.close()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_is_set(jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at sooner or later, nothing cached is lost, for another time of day."""
    store = MemoryStore({"zarr.json": array_v3(), "c/0": b"\1\2"})
    tier = DiskTier(tmp_path / "cache", 1 << 20)
    h = hierarchy(store, ttl=60.0, disk=tier)
    node = h.node("")
    assert node.block((0,)).tolist() == [1, 2]
    eventually(lambda: tier.written == 1)
    asked = dict(store.gets)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert h.node("") is node
    assert node.block((0,)).tolist() == [1, 2]
    h.cache.clear()
    assert node.block((0,)).tolist() == [1, 2]
    assert (tier.hits, tier.corrupt) == (1, 0)
    assert dict(store.gets) == asked
    h.close()
    tier.close()


def test_uptime_does_not_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.zarr").mkdir()
    (tmp_path / "v.zarr/zarr.json").write_bytes(array_v3())
    tree = open_tree(str(tmp_path / "v.zarr"))
    try:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + DAY)
        assert 0 <= tree.status()["uptime"] < DAY / 2
        json.dumps(tree.status())
    finally:
        tree.close()
