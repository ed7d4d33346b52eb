"""Slow lines: what is known of them, and what is fetched over them at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import znfs
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import served
from tests.waiting import Clock, eventually
from znfs import line as lines
from znfs.cache import BlockCache
from znfs.line import Line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lines, "time", clock)
    return clock


def load(
    line: Line, clock: Clock, count: int, seconds: float, *, in_turn: bool = False
) -> None:
    """Chunks asked for at once, all answered after so many seconds, or one after another."""
    with line.loads:
        begun = [line.begin() for _ in range(count)]
        for i, each in enumerate(begun):
            clock.now += seconds / count if in_turn else seconds * (i == 0)
            line.end(each, answered=True)


def test_an_unknown_line_is_given_little(clock: Clock) -> None:
    line = Line(64)
    assert line.most() == 8
    begun = line.begin()  # of a document
    clock.now += 0.01
    line.end(begun, answered=True)
    assert line.most() == 8
    assert Line(4).most() == 4


@pytest.mark.parametrize(
    ("count", "seconds", "most"),
    [
        (8, 0.2, 8 / 0.2 * 0.45),  # a long line, and what is under way on it is not its limit
        (8, 2.0, 8 / 2.0 * 0.45),
        (1, 20.0, 1.0),
        (8, 0.001, inf),
    ],
)
@pytest.mark.parametrize("in_turn", [True, False])
def test_no_more_is_under_way_than_is_answered_soon(
    clock: Clock, count: int, seconds: float, most: float, in_turn: bool
) -> None:
    line = Line(64)
    begun = line.begin()  # of a document: a round trip
    clock.now += min(seconds, 0.1)
    line.end(begun, answered=True)
    for _ in range(20):
        load(line, clock, count, seconds, in_turn=in_turn)
    assert line.most() == pytest.approx(most, rel=0.6)
    assert line.under_way == 0


def test_a_line_that_grows_wide_is_found_out(clock: Clock) -> None:
    line = Line(64)
    load(line, clock, 8, 4.0)
    assert line.most() < 8
    for _ in range(20):
        load(line, clock, int(min(64, line.most())), 0.1)
    assert line.most() == inf


def test_a_silence_makes_a_line_unknown(clock: Clock) -> None:
    line = Line(64)
    load(line, clock, 8, 0.001)
    with line.loads:
        begun = line.begin()
        clock.now += 20
        line.end(begun, answered=False)
    assert line.most() == 8


class Room(Line):
    """A line with room for so many."""

    def __init__(self, room: float) -> None:
        super().__init__(64)
        self.room = room

    def most(self) -> float:
        return self.room


class Loads:
    """A load that is noted, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.go_on = threading.Semaphore(0)

    def __call__(self, keys: Any) -> Iterator[tuple[Any, bytes]]:
        for key in keys:
            self.begun.append(key)
            assert self.go_on.acquire(timeout=30)
            yield key, b"value"


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def cached() -> Iterator[Callable[[Line], BlockCache]]:
    made: list[BlockCache] = []

    def make(line: Line) -> BlockCache:
        made.append(BlockCache(1 << 20, 16, line=line))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def test_what_there_is_no_room_for_on_the_line_waits(
    cached: Callable[[Line], BlockCache], loads: Loads
) -> None:
    line = Room(2)
    cache = cached(line)
    for i in range(6):
        assert cache.prefetch([(i, 10)], loads)
    eventually(lambda: len(loads.begun) == 2)
    loads.go_on.release()
    eventually(lambda: len(loads.begun) == 3)
    assert (set(loads.begun[:2]), loads.begun[2]) == ({0, 1}, 2)  # two threads began at once
    line.room = inf
    loads.go_on.release()
    eventually(lambda: len(loads.begun) == 6)  # as soon as one ends
    loads.go_on.release(4)
    eventually(lambda: all(i in cache for i in range(6)))


def test_what_is_wanted_goes_before_what_is_ahead(
    cached: Callable[[Line], BlockCache], loads: Loads
) -> None:
    cache = cached(Room(1))
    for i in range(3):
        cache.prefetch([(("ahead", i), 10)], loads, ahead_of="reader")
    eventually(lambda: loads.begun)
    cache.prefetch([("wanted", 10)], loads)
    loads.go_on.release(4)
    eventually(lambda: len(loads.begun) == 4)
    assert loads.begun == [("ahead", 0), "wanted", ("ahead", 1), ("ahead", 2)]


def test_what_was_ahead_of_a_reader_who_went_elsewhere_is_not_loaded(
    cached: Callable[[Line], BlockCache], loads: Loads
) -> None:
    cache = cached(Room(1))
    for i in range(3):
        cache.prefetch([(("one's", i), 10)], loads, ahead_of="one")
    cache.prefetch([("other's", 10)], loads, ahead_of="other")
    eventually(lambda: loads.begun)
    cache.recall("one")
    assert not cache.expects(("one's", 1))
    loads.go_on.release(2)
    eventually(lambda: "other's" in cache)
    assert loads.begun == [("one's", 0), "other's"]
    loads.go_on.release()
    assert cache.get(("one's", 2), 10, lambda: b"anew") == b"anew"
    assert cache.prefetch([(("one's", 1), 10)], loads)
    eventually(lambda: ("one's", 1) in cache)


def test_a_reader_waits_for_no_room_on_the_line(
    cached: Callable[[Line], BlockCache], loads: Loads
) -> None:
    cache = cached(Room(1))
    cache.prefetch([("first", 10)], loads)
    cache.prefetch([("second", 10)], loads)
    eventually(lambda: loads.begun == ["first"])
    loads.go_on.release(2)
    assert cache.get("second", 10, lambda: pytest.fail("it is taken over")) == b"value"


def test_parts_share_the_room_on_the_line(cached: Callable[[Line], BlockCache]) -> None:
    line = Room(3)
    begun, go_on = [], threading.Semaphore(0)

    def part() -> None:
        begun.append(line.room)
        assert go_on.acquire(timeout=30)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(cached(line).spread, [part] * 40)
        eventually(lambda: len(begun) == 4)  # the reader's own, and three others
        go_on.release()
        eventually(lambda: len(begun) == 5)
        line.room = 6
        go_on.release()
        eventually(lambda: len(begun) == 9)
        line.room = inf
        go_on.release()
        eventually(lambda: len(begun) == 20)  # all threads
        go_on.release(40)
        done.result(30)
    assert len(begun) == 40


def test_every_load_sees_that_there_is_more_room(cached: Callable[[Line], BlockCache]) -> None:
    line = Room(0)
    cache = cached(line)
    begun: Counter[str] = Counter()
    go_on = {name: threading.Semaphore(0) for name in ("one", "other")}

    def part(name: str) -> None:
        begun[name] += 1
        assert go_on[name].acquire(timeout=30)

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(cache.spread, [partial(part, name)] * 5) for name in go_on]
        eventually(lambda: begun == {"one": 1, "other": 1})
        line.room = inf
        for name in go_on:
            go_on[name].release()
            eventually(lambda: begun[name] == 5)  # noqa: B023
        for name in go_on:
            go_on[name].release(5)
        for each in done:
            each.result(30)


def test_a_plane_whose_chunks_would_all_be_late_at_once(tmp_path: Path) -> None:
    values = np.random.default_rng(7).integers(0, 1 << 16, (2, 256, 256), dtype="uint16")
    zarr.create_array(
        tmp_path / "v.zarr", data=values, chunks=(1, 32, 64), compressors=None,
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    with ExitStack() as stack:
        web = stack.enter_context(served(tmp_path))
        proxy = stack.enter_context(FaultProxy("127.0.0.1", web.ports["plain"]))
        tree = znfs.open_tree(f"{proxy.url}/v.zarr", deadline=4.0)
        stack.callback(tree.close)
        proxy.rate = 40_000  # 32 chunks of 4.4 kB take 3.5 s, and a request may take 2.6
        before = tree.status()["store"]["requests"]["get"]
        with tree.open("tiff/v_z1.tif") as file:
            assert np.array_equal(tifffile.imread(file), values[1])
        assert tree.status()["cache"]["last_errors"] == []
        assert tree.status()["store"]["requests"]["get"] - before == 32  # none was asked for again
