"""A slow store is waited for as long as it answers, a silent one once."""

from __future__ import annotations

import threading
import time
from math import inf

import numpy as np
import pytest
import zarr

from tests.memory_store import MemoryStore
from tests.waiting import Clock, eventually
from znfs import deadline
from znfs.cache import BlockCache
from znfs.errors import StoreError
from znfs.hierarchy import Hierarchy
from znfs.stores import SourceInfo
from znfs.stores.watched import WatchedStore
from znfs.tree import open_tree
from znfs.tree.control import ControlDir


@pytest.fixture
def clock(monkeypatch):
    """Only what a request takes makes it go on."""
    clock = Clock()
    for module in ("znfs.deadline", "znfs.stores.watched"):
        monkeypatch.setattr(f"{module}.time", clock)
    yield clock
    deadline.begin(inf)


def test_answers_renew_it(clock):
    deadline.begin(10)
    clock.now += 9
    assert deadline.left() == pytest.approx(1)
    deadline.progress()
    assert deadline.left() == pytest.approx(10)
    with deadline.within(3):
        clock.now += 2
        deadline.progress()
        assert deadline.left() == pytest.approx(1)
    clock.now += 11
    assert deadline.left() == 0


def test_parts_answer_for_the_whole(clock):
    deadline.begin(10)
    clock.now += 9
    seen: list[float] = []

    @deadline.carried
    def part() -> None:
        seen.append(deadline.left())
        deadline.progress()

    thread = threading.Thread(target=part)
    thread.start()
    thread.join()
    assert seen == pytest.approx([1])
    assert deadline.left() == pytest.approx(10)


class Waits(threading.Event):
    """An event that has not happened after the waits it was given, and then has."""

    def __init__(self, clock: Clock, count: int, meanwhile=lambda: None) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._told = clock, count, meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        clock, count, meanwhile = self._told
        if len(self.waited) == count:
            return True
        meanwhile()
        clock.now += timeout
        self.waited.append(timeout)
        return False


def test_who_waits_for_another_waits_while_that_one_is_answered(clock):
    deadline.begin(10)
    other = deadline.Operation(inf)
    silent = Waits(clock, 5)
    assert not deadline.wait_for(silent, other)
    assert silent.waited == pytest.approx([10])
    deadline.begin(10)

    def answer() -> None:
        other.heard = clock.now + 4

    slow = Waits(clock, 5, answer)
    assert deadline.wait_for(slow, other)
    assert slow.waited == pytest.approx([10, 4, 10, 4, 10])


def test_a_slow_line_is_read_and_a_silent_store_is_not(clock, tmp_path):
    """Sixteen chunks of a row, three seconds each, and a deadline of ten."""
    data = np.arange(16 * 8 * 8, dtype="<u2").reshape(8, 128)
    zarr.create_array(str(tmp_path / "a"), data=data, chunks=(8, 8))
    objects = {
        str(p.relative_to(tmp_path)): p.read_bytes()
        for p in tmp_path.rglob("*") if p.is_file()
    }  # fmt: skip
    inner = MemoryStore(objects)
    cache = BlockCache(1 << 20, workers=0)  # the clock is one for all threads
    hierarchy = Hierarchy(WatchedStore(inner, 10), cache, ttl=1e9, root_name="s")
    from znfs.arrays.extents import Slab

    slab = Slab(hierarchy.node("a"))
    out = bytearray(data.nbytes)

    def slow(key: str) -> None:
        clock.now += 3

    def silent(key: str) -> None:
        clock.now += deadline.left()
        raise StoreError("no answer")

    inner.fail = slow
    deadline.begin(10)
    began = clock.now
    slab.read_into(0, memoryview(out))
    assert bytes(out) == data.tobytes()
    assert clock.now - began > 40
    cache.clear()
    inner.fail = silent
    deadline.begin(10)
    began = clock.now
    with pytest.raises(StoreError):
        slab.read_into(0, memoryview(out))
    assert clock.now - began == pytest.approx(10)
    hierarchy.close()


def test_a_store_that_hangs_keeps_its_own_control_folder(monkeypatch):
    store = MemoryStore({"zarr.json": b'{"zarr_format": 3, "node_type": "group"}', ".znfs": b"own"})
    opened = store, SourceInfo("m", None, "memory:", "memory:")
    monkeypatch.setattr("znfs.tree.tree.open_store", lambda *_: opened)
    tree = open_tree("memory:")
    up = threading.Event()
    deadline.begin(10)
    try:
        assert not isinstance(tree.resolve(".znfs"), ControlDir)
        tree.refresh()
        store.fail = lambda key: up.wait() and None
        began = time.monotonic()
        assert tree._store_has_control.get()
        assert time.monotonic() - began < 5
    finally:
        up.set()
        deadline.begin(inf)
    del store.objects[".znfs"]
    eventually(lambda: isinstance(tree.resolve(".znfs"), ControlDir))
    tree.close()
