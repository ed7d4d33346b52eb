"""The block cache: bounds, single flight, take-over, errors."""

from __future__ import annotations

import gc
import linecache
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import inf
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.waiting import eventually
from znfs import deadline
from znfs.cache import BlockCache, blocks, recency
from znfs.cache.recency import cost
from znfs.errors import ChunkError, StoreError
from znfs.line import Line


def block(n: int) -> np.ndarray:
    return np.zeros(n, np.uint8)


def test_a_value_is_loaded_once_and_counted():
    cache = BlockCache(1 << 20)
    loads = []
    for _ in range(3):
        assert cache.get("k", 10, lambda: loads.append(1) or b"v") == b"v"
    assert len(loads) == 1
    assert (cache.hits, cache.misses) == (2, 1)


def test_absent_chunks_are_remembered():
    cache = BlockCache(1 << 20)
    assert cache.get("k", 10, lambda: None) is None
    assert cache.get("k", 10, lambda: pytest.fail("loaded twice")) is None


def test_least_recently_used_goes_first_and_the_limit_holds():
    each = cost(block(1000))
    cache = BlockCache(3 * each)
    for k in "abc":
        cache.get(k, 1000, lambda: block(1000))
    cache.get("a", 1000, lambda: pytest.fail("a is here"))
    cache.get("d", 1000, lambda: block(1000))
    assert [k in cache for k in "abcd"] == [True, False, True, True]
    assert cache.status()["bytes"] <= cache.limit


def test_a_block_larger_than_the_cache_is_served_and_dropped():
    cache = BlockCache(1000)
    assert cache.get("k", 5000, lambda: block(5000)).nbytes == 5000
    assert "k" not in cache
    assert cache.status()["bytes"] == 0
    assert cache.status()["loading_bytes"] == 0


def test_many_threads_share_one_load():
    cache = BlockCache(1 << 20)
    begun, go = threading.Event(), threading.Event()
    loads = []

    def load() -> bytes:
        loads.append(1)
        begun.set()
        assert go.wait(10)
        return b"v"

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.get, "k", 1, load)
        assert begun.wait(10)
        others = [pool.submit(cache.get, "k", 1, load) for _ in range(7)]
        go.set()
        assert {f.result(10) for f in [first, *others]} == {b"v"}
    assert len(loads) == 1


def test_an_error_reaches_all_who_waited_and_is_not_kept():
    cache = BlockCache(1 << 20)

    def fail() -> bytes:
        raise ChunkError("broken: https://me:hunter2@host/k")

    for _ in range(2):
        with pytest.raises(ChunkError, match="broken"):
            cache.get("k", 1, fail)
    assert cache.get("k", 1, lambda: b"mended") == b"mended"
    assert cache.errors == 2
    assert cache.status()["last_errors"][-1]["error"] == "ChunkError: broken: https://host/k"


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected meanwhile: what is let go of must go by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_a_failed_load_had_taken_comes_back_at_once(no_collection: None):
    cache = BlockCache(1 << 20, 2, line=Line(4))
    taken = []
    waited, fails = threading.Semaphore(0), threading.Event()

    def part(data: np.ndarray) -> None:
        waited.release()
        assert fails.wait(20)
        raise StoreError("broken")

    def load() -> None:
        data = block(1 << 16)
        taken.append(weakref.ref(data))
        cache.spread([partial(part, data)] * 2)

    def read(key: str) -> None:
        with pytest.raises(StoreError, match="broken"):
            cache.get(key, 1 << 16, load)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read, "k")
        assert waited.acquire(timeout=20)
        others = [pool.submit(read, "k"), pool.submit(read, "other")]
        eventually(lambda: cache._flights["k"].done)
        fails.set()
        for future in (first, *others):
            future.result(20)
    assert len(taken) == 2
    assert not any(data() is not None for data in taken)
    cache.close()


def test_a_closed_cache_holds_nothing():
    cache = BlockCache(1 << 20)
    held = weakref.ref(cache.get("k", 1 << 16, lambda: block(1 << 16)))
    assert held() is not None
    cache.close()
    assert held() is None


def test_who_is_interrupted_while_waiting_for_room_leaves_no_claim(
    monkeypatch: pytest.MonkeyPatch,
):
    """Ctrl-C in a notebook: others find the block neither under way for ever, nor the way shut."""
    cache = BlockCache(1000)
    going, over = threading.Event(), threading.Event()

    def slow() -> bytes:
        going.set()
        assert over.wait(20)
        return bytes(800)

    def interrupt(timeout: float | None) -> bool:
        raise KeyboardInterrupt

    thread = threading.Thread(target=cache.get, args=("slow", 800, slow))
    thread.start()
    assert going.wait(20)
    with monkeypatch.context() as patch:
        patch.setattr(cache._room, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.get("k", 800, lambda: bytes(800))
    over.set()
    thread.join(20)
    assert not cache.expects("k")
    assert cache.get("k", 800, lambda: bytes(800)) == bytes(800)
    assert cache.status()["loading_bytes"] == 0


def test_who_waits_for_a_load_that_is_interrupted_gets_an_error():
    cache = BlockCache(1000)

    def interrupt() -> bytes:
        eventually(lambda: cache._flights["k"].done)
        raise KeyboardInterrupt

    def load() -> None:
        with pytest.raises(KeyboardInterrupt):
            cache.get("k", 1, interrupt)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load)
        eventually(lambda: cache.expects("k"))
        other = pool.submit(cache.get, "k", 1, lambda: pytest.fail("not a second load"))
        first.result(20)
        with pytest.raises(StoreError, match="interrupted"):
            other.result(20)
    assert cache.get("k", 1, lambda: b"v") == b"v"


def _interrupted(call: Callable[[], object], at: int) -> bool:
    """Call, with an interrupt before the `at`-th line of the cache's modules that is run. False if
    it runs fewer. No interrupt comes at the end of a `with`, before the lock is let go of, which is
    a line of its own only to the tracer."""
    files = (blocks.__file__, recency.__file__)
    left = at

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        if event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            left -= not text.startswith(("with ", "try:"))
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename in files else None)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return not left


def _load(cache: BlockCache) -> None:
    """With what it needs itself, and the room of others."""
    cache.get("k", 900, lambda: cache.get("inner", 100, lambda: bytes(100)) * 9)


def _prefetch(cache: BlockCache) -> None:
    cache.prefetch([("k", 100), ("other", 100)], lambda keys: ((key, bytes(100)) for key in keys))


@pytest.mark.parametrize("call", [_load, _prefetch])
def test_an_interrupt_at_any_line_leaves_nothing(call: Callable[[BlockCache], None]):
    at = 0
    interrupted = True
    while interrupted:
        at += 1
        cache = BlockCache(1000, 1)
        for key in ("old", "older"):
            cache.get(key, 450, lambda: bytes(450))
        interrupted = _interrupted(partial(call, cache), at)
        deadline.begin(5)  # else the next reads might wait for ever
        try:
            for key in ("k", "inner", "other"):
                assert cache.get(key, 950, lambda: bytes(950))
        finally:
            deadline.begin(inf)
        eventually(lambda c=cache: not (c._queued or c._flights or c._runners))  # type: ignore[misc]
        assert (cache._loading, list(cache._waiting)) == (0, [])
        assert cache.status()["bytes"] == sum(map(len, map(cache._values.get, cache._values)))
        cache.close()
    assert at > 40


def test_a_value_that_cannot_be_kept_is_an_error_not_a_hang():
    cache = BlockCache(1 << 20)
    for _ in range(2):
        with pytest.raises(TypeError):
            cache.get("k", 1, lambda: True)


def test_a_queued_prefetch_is_taken_over_by_who_needs_it():
    cache = BlockCache(1 << 20, workers=1)
    busy, go = threading.Event(), threading.Event()

    def slow(keys):
        busy.set()
        assert go.wait(10)
        return ((k, b"slow") for k in keys)

    cache.prefetch([("slow", 1)], slow)
    assert busy.wait(10)
    thread = []

    def load(keys):
        thread.append(threading.get_ident())
        return [("k", b"v")]

    cache.prefetch([("k", 1)], load)
    assert cache.get("k", 1, lambda: pytest.fail("not a second load")) == b"v"
    assert thread == [threading.get_ident()]
    go.set()
    assert cache.get("slow", 1, lambda: b"") == b"slow"
    cache.close()


def test_prefetch_leaves_out_what_would_fill_the_cache():
    cache = BlockCache(10_000, workers=1)
    loaded = []

    def load(keys):
        loaded.extend(keys)
        return ((k, block(1000)) for k in keys)

    assert not cache.prefetch([(i, 1000) for i in range(100)], load)
    cache._pool.shutdown(wait=True)
    assert 1 <= len(loaded) <= 5
    assert cache.prefetch([(0, 1000)], load)


def test_a_batch_hands_out_values_as_they_come():
    cache = BlockCache(1 << 20, workers=1)
    begun, go = threading.Event(), threading.Event()

    def load(keys):
        begun.set()
        yield keys[0], b"first"
        assert go.wait(10)
        yield keys[1], b"second"

    cache.prefetch([("a", 1), ("b", 1)], load)
    assert begun.wait(10)  # or get() would take the batch over, and wait for all of it
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cache.get, "a", 1, lambda: b"").result(10) == b"first"
        go.set()
    assert cache.get("b", 1, lambda: b"") == b"second"
    cache.close()


def test_a_batch_that_fails_half_way_fails_only_the_rest():
    cache = BlockCache(1 << 20, workers=1)

    def load(keys):
        yield "a", b"fine"
        raise ChunkError("half way")

    cache.prefetch([("a", 1), ("b", 1)], load)
    cache._pool.shutdown(wait=True)
    assert cache.get("a", 1, lambda: pytest.fail("a came")) == b"fine"
    assert cache.get("b", 1, lambda: b"again") == b"again"


def test_nested_loads_need_no_room():
    cache = BlockCache(2000)

    def outer() -> np.ndarray:
        cache.get("index", 1500, lambda: block(1500))
        return block(1500)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(cache.get, ("outer", i), 1500, outer) for i in range(16)]
        assert all(f.result(20).nbytes == 1500 for f in done)


def test_parts_of_a_load_need_no_room_either():
    cache = BlockCache(2000, workers=2, line=Line(4))

    def outer() -> np.ndarray:
        parts = [lambda i=i: cache.get(("index", i), 1000, lambda: block(1000)) for i in range(3)]
        cache.spread(parts)
        return block(1500)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(cache.get, ("outer", i), 1500, outer) for i in range(4)]
        assert all(f.result(20).nbytes == 1500 for f in done)
    assert cache.status()["loading_bytes"] == 0


def test_cleared_while_loading_is_handed_out_but_not_kept():
    cache = BlockCache(1 << 20)

    def load() -> bytes:
        cache.clear()
        return b"old"

    assert cache.get("k", 1, load) == b"old"
    assert "k" not in cache


def test_prefetches_that_had_not_begun_are_not_made_after_all_was_cleared():
    cache = BlockCache(1 << 20, workers=1)
    busy, go, again = threading.Event(), threading.Event(), threading.Event()

    def slow(keys):
        busy.set()
        assert go.wait(10)
        return ((k, b"slow") for k in keys)

    def quick(keys):
        again.set()
        return ((k, b"new") for k in keys)

    cache.prefetch([("slow", 0)], slow)
    assert busy.wait(10)
    cache.prefetch([("old", 1 << 19)], lambda keys: pytest.fail("nobody wants it any more"))
    assert not cache.prefetch([("more", 1 << 19)], slow)
    cache.clear()
    assert cache.prefetch([("new", 1 << 18)], quick)
    go.set()
    assert again.wait(10)
    assert cache.get("new", 1, lambda: pytest.fail("not a second load")) == b"new"
    assert cache.get("old", 1, lambda: b"new") == b"new"
    assert cache.status()["errors"] == 0
    cache.close()


def test_parts_of_a_load_that_a_close_overtakes_are_run():
    cache = BlockCache(2000, workers=2, line=Line(4))
    cache.close()
    done: list[int] = []
    cache.spread([lambda i=i: done.append(i) for i in range(3)])
    assert done == [0, 1, 2]


def test_parts_of_parts_do_not_wait_for_one_another():
    cache = BlockCache(2000, workers=2, line=Line(4))
    done: list[int] = []

    def part() -> None:
        cache.spread([lambda: done.append(1)] * 3)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(cache.spread, [part] * 6).result(20)
    assert len(done) == 18


def test_parts_for_which_there_is_no_thread(monkeypatch: pytest.MonkeyPatch):
    cache = BlockCache(2000, workers=4, line=Line(4))
    begun = []

    def submit(pool: ThreadPoolExecutor, work: Callable[[], None]) -> Future[None]:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(work)
        return Future()  # one that never begins

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    done: list[int] = []
    cache.spread([lambda i=i: done.append(i) for i in range(5)])
    assert done == [0, 1, 2, 3, 4]


def test_a_part_that_the_pool_runs_late_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    """A pool keeps what it had no thread for, and the next thread that is free runs it."""
    cache = BlockCache(2000, workers=2, line=Line(4))
    start, begun = threading.Thread.start, []

    def start_one(thread: threading.Thread) -> None:
        if thread.name.startswith("znfs-part"):
            if begun:
                raise RuntimeError("can't start new thread")
            begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    held, free = threading.Semaphore(0), threading.Event()
    late, returned = threading.Event(), threading.Event()
    in_time = []

    def hold() -> None:
        held.release()
        assert free.wait(20)

    def first() -> None:
        free.set()
        assert late.wait(20)

    def second() -> None:
        late.set()
        in_time.append(not returned.wait(0.2))

    other = threading.Thread(target=cache.spread, args=([hold, hold],))
    other.start()
    assert all(held.acquire(timeout=20) for _ in range(2))
    cache.spread([first, second])
    returned.set()
    other.join(20)
    cache.close()
    assert in_time == [True]


def test_the_first_error_of_a_part_comes_once_all_have_ended():
    cache = BlockCache(2000, workers=2, line=Line(4))
    done: list[int] = []

    def fail() -> None:
        raise StoreError("broken")

    with pytest.raises(StoreError, match="broken"):
        cache.spread([fail, *([lambda: done.append(1)] * 5)])
    assert len(done) == 5


def test_who_waits_for_a_prefetch_watches_the_thread_that_runs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """From the moment it is claimed: the thread that asked for it renews nothing."""
    cache = BlockCache(1 << 20, workers=1)
    seen = []
    over = threading.Event()
    run = BlockCache._run

    def look_then_run(self: BlockCache, batch: Any) -> None:
        seen.append((batch.operation, deadline.operation()))
        run(self, batch)
        over.set()

    monkeypatch.setattr(BlockCache, "_run", look_then_run)
    cache.prefetch([("k", 1)], lambda keys: [("k", b"v")])
    assert over.wait(20)
    ((of_batch, of_thread),) = seen
    assert of_batch is of_thread is not deadline.operation()


def test_a_cleared_cache_fills_and_evicts_as_a_new_one():
    cache = BlockCache(4000)
    for clear in (False, True):
        if clear:
            cache.clear()
        for i in range(8):
            cache.get((clear, i), 1000, lambda: block(1000))
            if i % 2:
                cache.pass_by((clear, i))
            else:
                cache.retire((clear, i))
    assert cache.status()["bytes"] == 4000
    assert cache.status()["entries"] == 4
    cache.clear()
    assert cache.status()["bytes"] == cache.status()["entries"] == 0


def test_the_bound_holds_under_sixteen_threads():
    limit = 100_000
    cache = BlockCache(limit, workers=2)
    held, most = [0], [0]
    lock = threading.Lock()

    def load(k: int) -> np.ndarray:
        with lock:
            held[0] += 3000
            most[0] = max(most[0], held[0] + cache.status()["bytes"])
        value = np.full(3000, k % 251, np.uint8)
        with lock:
            held[0] -= 3000
        return value

    def reader(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            k = rng.randrange(200)
            assert (cache.get(k, 3000, lambda k=k: load(k)) == k % 251).all()

    with ThreadPoolExecutor(16) as pool:
        for f in [pool.submit(reader, s) for s in range(16)]:
            f.result(60)
    assert most[0] <= limit
    assert cache.status()["loading_bytes"] == 0
    cache.close()


def test_a_large_load_gets_room_before_small_ones_that_came_later():
    cache = BlockCache(8192, 4)
    first, going = threading.Event(), threading.Event()
    order: list[str] = []

    def hold() -> bytes:
        going.set()
        first.wait(10)
        return bytes(4096)

    def load(name: str, nbytes: int) -> bytes:
        order.append(name)
        return bytes(nbytes)

    threads = [threading.Thread(target=cache.get, args=("hold", 4096, hold))]
    threads[0].start()
    assert going.wait(10)
    for name, nbytes in (("large", 8192), ("small", 1024), ("small too", 1024)):
        threads.append(
            threading.Thread(target=cache.get, args=(name, nbytes, partial(load, name, nbytes)))
        )
        threads[-1].start()
        while len(cache._waiting) < len(threads) - 1:
            time.sleep(0.001)  # each comes for its room before the next does
    assert order == []  # the small ones would fit
    first.set()
    for thread in threads:
        thread.join(10)
    assert order[0] == "large"
    assert set(order) == {"large", "small", "small too"}
    assert not cache._waiting


def test_what_a_running_load_needs_does_not_queue_for_room():
    """It holds the room that those before are waiting for."""
    cache = BlockCache(8192, 4)
    going = threading.Event()

    def outer() -> bytes:
        going.set()
        while len(cache._waiting) < 2:
            time.sleep(0.001)
        cache.get("inner", 1024, lambda: b"never: another thread has it")
        return bytes(4096)

    threads = [threading.Thread(target=cache.get, args=("outer", 4096, outer))]
    threads[0].start()
    assert going.wait(10)
    for name, nbytes in (("large", 8192), ("inner", 1024)):
        load = partial(bytes, nbytes)
        threads.append(threading.Thread(target=cache.get, args=(name, nbytes, load)))
        threads[-1].start()
        while len(cache._waiting) < len(threads) - 1 and threads[0].is_alive():
            time.sleep(0.001)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_nobody_waits_longer_than_their_operation_has():
    cache = BlockCache(8192, 4)
    over, going = threading.Event(), threading.Event()

    def slow() -> bytes:
        going.set()
        over.wait(10)
        return bytes(8192)

    def ask(key: str) -> None:
        deadline.begin(0.05)
        try:
            with pytest.raises(StoreError, match="in time"):
                cache.get(key, 8192, lambda: b"")
        finally:
            deadline.begin(inf)

    thread = threading.Thread(target=cache.get, args=("slow", 8192, slow))
    thread.start()
    try:
        assert going.wait(10)
        ask("slow")  # the same
        ask("other")  # for which there is no room
    finally:
        over.set()
        thread.join(10)
    assert cache.get("other", 8192, lambda: bytes(8192)) == bytes(8192)
    assert cache.status()["loading_bytes"] == 0


def test_parts_of_a_load_have_its_deadline():
    cache = BlockCache(8192, 4, line=Line(4))
    left: list[float] = []
    deadline.begin(5)
    try:
        cache.spread([lambda: left.append(deadline.left())] * 3)
    finally:
        deadline.begin(inf)
    assert len(left) == 3
    assert all(4 < seconds <= 5 for seconds in left)
    cache.spread([lambda: left.append(deadline.left())] * 3)
    assert left[3:] == [inf] * 3
    cache.close()


def _go_round(cache: BlockCache, count: int, rounds: int) -> int:
    """Read `count` values in turn, `rounds` times; returns how many were loaded."""
    before = cache.misses
    for _ in range(rounds):
        for i in range(count):
            if cache.peek(("band", i), passing=True) is None:
                cache.get(("band", i), 1000, lambda: block(1000))
                cache.pass_by(("band", i))
    return cache.misses - before


def test_who_goes_round_loads_only_what_does_not_fit():
    cache = BlockCache(7000)
    _go_round(cache, 8, 1)
    assert _go_round(cache, 8, 20) <= 24  # one a round, two now and then; not 160


def test_who_goes_round_does_not_drive_out_what_is_in_use():
    cache = BlockCache(10_000)
    for i in range(4):
        cache.get(("used", i), 1000, lambda: block(1000))
    for _ in range(30):
        _go_round(cache, 8, 1)
        assert all(cache.peek(("used", i)) is not None for i in range(4))


def test_what_was_read_through_goes_first_unless_it_is_used_again():
    cache = BlockCache(4000)
    cache.retire("absent")
    for i in range(4):
        cache.get(i, 1000, lambda: block(1000))
    cache.retire(3)
    cache.retire(2)
    assert cache.peek(3) is not None
    cache.get(4, 1000, lambda: block(1000))
    assert [i for i in range(5) if i in cache] == [0, 1, 3, 4]
    cache.retire(1)
    cache.forget(1)
    for i in range(5, 8):
        cache.get(i, 1000, lambda: block(1000))
    assert [i for i in range(8) if i in cache] == [4, 5, 6, 7]


def test_what_nobody_used_for_long_goes_before_what_was_passed(monkeypatch):
    cache = BlockCache(10_000)
    now = [100.0]
    monkeypatch.setattr("znfs.cache.recency.time.monotonic", lambda: now[0])
    for i in range(4):
        cache.get(("old", i), 1000, lambda: block(1000))
    now[0] += 5
    _go_round(cache, 8, 3)
    assert sum(("old", i) in cache for i in range(4)) == 2
    assert all(("band", i) in cache for i in range(8))


def test_a_prefetch_for_which_there_was_no_thread_comes_when_there_is_one(monkeypatch):
    cache = BlockCache(1 << 20, 2)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    def load(keys):
        return [(key, block(1 << 16)) for key in keys]

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for i in range(12):
            cache.prefetch([(i, 1 << 16)], load)
    assert cache.get(0, 1 << 16, lambda: block(1 << 16)) is not None
    cache.prefetch([("other", 1 << 16)], load)
    until = time.monotonic() + 10
    while cache._queued or cache._flights:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert 1 in cache
    cache.close()
