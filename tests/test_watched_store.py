"""The watched store: counts, and a dead store that keeps nobody waiting twice."""

from __future__ import annotations

from math import inf

import pytest

from tests.memory_store import MemoryStore
from tests.waiting import Clock
from znfs import deadline
from znfs.errors import ChunkError, Denied, StoreError, Unanswered
from znfs.stores import watched
from znfs.stores.base import Entry
from znfs.stores.watched import WatchedStore


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watched, "time", clock)
    monkeypatch.setattr(deadline, "time", clock)
    return clock


def test_requests_bytes_and_errors_are_counted(clock):
    inner = MemoryStore({"a": b"12345"})
    store = WatchedStore(inner, 10)
    assert store.get("a").data == b"12345"
    assert store.get("a", 1, 3).data == b"23"
    assert store.get("b") is None
    assert store.stat("a").size == 5
    assert [e.name for e in store.list("")] == ["a"]

    def deny(key):
        raise Denied(key)

    inner.fail = deny
    with pytest.raises(Denied):
        store.get("a")
    status = store.status()
    assert status["requests"] == {"get": 4, "stat": 1, "list": 1}
    assert status["bytes"] == 7
    assert status["errors"] == {"Denied": 1}
    assert status["answering"]


class Hanging:
    """Has a store take all the time that a request may have, for some keys, and say nothing."""

    def __init__(self, clock, *keys: str) -> None:
        self.clock = clock
        self.keys = keys
        self.waits: list[float] = []

    def __call__(self, key: str) -> None:
        if not self.keys or key in self.keys:
            self.waits.append(deadline.left())
            self.clock.now += deadline.left()
            raise Unanswered("timed out")


def test_a_store_that_does_not_answer_is_waited_for_once(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 10)
    inner.fail = hang = Hanging(clock)
    for _ in range(2):  # the second makes it certain, and is given less time
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
    began = clock.now
    for _ in range(100):
        with pytest.raises(StoreError, match="does not answer"):
            store.get("a")
    assert clock.now == began
    assert not store.status()["answering"]
    clock.now += 6  # one tries again, and waits
    with pytest.raises(StoreError, match="timed out"):
        store.get("a")
    assert hang.waits == pytest.approx([10, 2.5, 10])
    inner.fail = lambda key: None
    clock.now += 6
    assert store.get("a").data == b"1"
    assert store.get("a").data == b"1"
    assert store.status()["answering"]


def test_while_one_tries_the_others_do_not_wait(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 10)
    refused = []
    hang = Hanging(clock)

    def hang_and_ask(key):
        inner.fail = hang
        with pytest.raises(StoreError, match="does not answer"):
            store.get("a")
        refused.append(key)
        hang(key)

    inner.fail = hang
    for _ in range(2):
        with pytest.raises(StoreError):
            store.get("a")
    clock.now += 6
    inner.fail = hang_and_ask
    with pytest.raises(StoreError, match="timed out"):
        store.get("a")
    assert refused == ["a"]


def test_one_that_tries_with_little_time_left_keeps_others_from_trying_no_longer(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 30)
    inner.fail = Hanging(clock)
    for _ in range(2):
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
    clock.now += 3
    try:
        deadline.begin(0.5)
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
    finally:
        deadline.begin(inf)
    inner.fail = lambda key: None
    clock.now += 3
    assert store.get("a").data == b"1"
    assert store.status()["answering"]


def test_a_chunk_that_a_store_hangs_on_takes_no_other_with_it(clock):
    """EIO for exactly the reads that need it (docs/SEMANTICS.md, "Errors")."""
    inner = MemoryStore({"a": b"1", "b": b"2"})
    store = WatchedStore(inner, 10)
    inner.fail = Hanging(clock, "a")
    for _ in range(3):
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
        assert store.get("b").data == b"2"
    assert store.status()["answering"]


def test_a_listing_of_many_pages_is_no_silence(clock):
    """Each page has the deadline; one that fails late says nothing of a store that sent others."""
    store = WatchedStore(Pages(clock, 9.0, 20), 10)
    assert len(list(store.list(""))) == 20
    clock.now += 1
    store = WatchedStore(Pages(clock, 9.0, 20, Unanswered("broke off")), 10)
    for _ in range(2):
        with pytest.raises(StoreError, match="broke off"):
            list(store.list(""))
    assert store.status()["answering"]
    assert store.admit() == 10


class Pages(MemoryStore):
    """Lists so many names, each after so many seconds, and fails in the end."""

    def __init__(self, clock, seconds: float, count: int, error: Exception | None = None) -> None:
        super().__init__()
        self._told = clock, seconds, count, error

    def list(self, prefix: str):
        clock, seconds, count, error = self._told
        for i in range(count):
            assert deadline.left() >= seconds
            clock.now += seconds
            yield Entry(str(i), False)
        if error is not None:
            raise error


def test_the_deadline_is_the_operation_s(clock):
    """Counted from the last answer: a request that fails leaves less to those after it."""
    inner = MemoryStore({"a": b"1", "b": b"2"})
    store = WatchedStore(inner, 10)
    seen = []

    def slow(key):
        seen.append(deadline.left())
        clock.now += 4

    inner.fail = slow
    deadline.begin(9)
    try:
        for _ in range(3):
            store.get("a")
        assert seen == pytest.approx([9, 9, 9])
        deadline.begin(100)
        store.get("a")
        assert seen[-1] == pytest.approx(10)  # no request has more than the store's own
        deadline.begin(9)
        clock.now += 5
        inner.fail = Hanging(clock)
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
        inner.fail = slow
        with pytest.raises(StoreError, match="no time is left"):
            store.get("a")
        assert len(seen) == 4
        assert store.status()["answering"]
    finally:
        deadline.begin(inf)


def test_what_had_no_time_says_nothing_of_the_store(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 10)
    inner.fail = Hanging(clock)
    try:
        for _ in range(5):
            deadline.begin(1)
            with pytest.raises(StoreError, match="timed out"):
                store.get("a")
    finally:
        deadline.begin(inf)
    assert store.admit() == 10


@pytest.mark.parametrize("error", [StoreError("500"), ChunkError("bad"), Denied("403")])
def test_quick_failures_are_each_key_s_own(clock, error):
    inner = MemoryStore({"a": b"1", "b": b"2"})
    store = WatchedStore(inner, 10)

    def fail(key):
        if key == "a":
            raise error

    inner.fail = fail
    with pytest.raises(type(error)):
        store.get("a")
    assert store.get("b").data == b"2"


def test_a_refresh_asks_a_silent_store_again_and_renews_credentials(clock):
    inner = MemoryStore({"a": b"1"})
    renewed = []
    inner.renew = lambda: renewed.append(True)
    store = WatchedStore(inner, 10)

    inner.fail = Hanging(clock)
    for _ in range(2):
        with pytest.raises(StoreError, match="timed out"):
            store.get("a")
    inner.fail = lambda key: None
    store.renew()
    assert store.get("a").data == b"1"
    assert renewed == [True]
    assert store.status()["last_errors"] [0] == {
        "time": 1010.0, "error": "Unanswered: timed out"
    }  # fmt: skip
