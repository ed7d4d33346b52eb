"""The watched store: counts, and a dead store that keeps nobody waiting twice."""

from __future__ import annotations

import pytest

from tests.memory_store import MemoryStore
from znfs.errors import ChunkError, Denied, StoreError
from znfs.stores import watched
from znfs.stores.watched import WatchedStore


class Clock:
    """Stands in for the module's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watched, "time", clock)
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


def test_a_store_that_does_not_answer_is_waited_for_once(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 10)

    def hang(key):
        clock.now += 10
        raise StoreError("timed out")

    inner.fail = hang
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
    assert clock.now == began + 16
    inner.fail = lambda key: None
    clock.now += 6
    assert store.get("a").data == b"1"
    assert store.get("a").data == b"1"
    assert store.status()["answering"]


def test_while_one_tries_the_others_do_not_wait(clock):
    inner = MemoryStore({"a": b"1"})
    store = WatchedStore(inner, 10)
    refused = []

    def hang(key):
        clock.now += 10
        raise StoreError("timed out")

    def hang_and_ask(key):
        inner.fail = hang
        with pytest.raises(StoreError, match="does not answer"):
            store.get("a")
        refused.append(key)
        hang(key)

    inner.fail = hang
    with pytest.raises(StoreError):
        store.get("a")
    clock.now += 6
    inner.fail = hang_and_ask
    with pytest.raises(StoreError, match="timed out"):
        store.get("a")
    assert refused == ["a"]


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

    def hang(key):
        clock.now += 10
        raise StoreError("timed out")

    inner.fail = hang
    with pytest.raises(StoreError, match="timed out"):
        store.get("a")
    inner.fail = lambda key: None
    store.renew()
    assert store.get("a").data == b"1"
    assert renewed == [True]
    assert store.status()["last_errors"] == [{"time": 1010.0, "error": "StoreError: timed out"}]
