"""References while their document is looked at, or cannot be: many readers, and one look."""

from __future__ import annotations

import json
import threading
from math import inf

import pytest

from tests.memory_store import MemoryStore
from tests.waiting import Clock
from znfs import deadline
from znfs.errors import StoreError
from znfs.stores import references
from znfs.stores.references import ReferenceStore


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(references, "time", clock)
    return clock


@pytest.fixture
def document() -> MemoryStore:
    made = MemoryStore({"": refers("https://far/x")})
    made.url = "https://near/refs.json"
    return made


@pytest.fixture
def store(document: MemoryStore) -> ReferenceStore:
    return ReferenceStore(document, "", lambda url: MemoryStore({"x": b"old", "y": b"new"}))


def refers(target: str) -> bytes:
    return json.dumps({"a/0": [target], "a/.zarray": "{}"}).encode()


def read(store: ReferenceStore, key: str) -> bytes | None:
    blob = store.get(key)
    return None if blob is None else bytes(blob.data)


def test_nobody_waits_for_another_look_at_the_document(
    store: ReferenceStore, document: MemoryStore, clock: Clock
) -> None:
    """But who would say that something is not there."""
    assert read(store, "a/0") == b"old"
    clock.now += 2
    hung, go = threading.Event(), threading.Event()

    def hang(key: str) -> None:
        hung.set()
        go.wait(60)

    document.fail = hang
    looking = threading.Thread(target=store.get, args=("a/0",))
    looking.start()
    assert hung.wait(60)
    deadline.begin(0.2)
    try:
        assert read(store, "a/0") == b"old"
        assert read(store, "a/.zarray") == b"{}"
        assert store.stat("a/0") is not None
        for absent in (lambda: store.get("a/1"), lambda: list(store.list("a"))):
            with pytest.raises(StoreError, match="another look at it"):
                absent()
    finally:
        deadline.begin(inf)
        go.set()
        looking.join()
    assert store.get("a/1") is None


def test_references_that_cannot_be_checked_stay(
    store: ReferenceStore, document: MemoryStore, clock: Clock
) -> None:
    """But say no longer what is not there."""
    assert read(store, "a/0") == b"old"
    assert store.get("a/1") is None
    document.put("", refers("https://far/y"))
    clock.now += 2
    looks = []

    def fail(key: str) -> None:
        looks.append(key)
        clock.now += 5  # after so long
        raise StoreError("500")

    document.fail = fail
    for _ in range(3):
        assert read(store, "a/0") == b"old"
    assert looks == [""]  # not again at once
    for absent in (lambda: store.get("a/1"), lambda: list(store.list("a"))):
        with pytest.raises(StoreError, match="500"):
            absent()
    document.fail = lambda key: None
    clock.now += 20
    assert read(store, "a/0") == b"new"


def test_after_renew_records_are_read_anew() -> None:
    """Parquet's have no version: that of `.zmetadata` stands."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def record(target: str) -> bytes:
        out = pyarrow.BufferOutputStream()
        columns = {"path": [target], "offset": [0], "size": [0], "raw": [None]}
        parquet.write_table(pyarrow.table(columns), out)
        return out.getvalue().to_pybytes()  # type: ignore[no-any-return]

    grid = {"shape": [1], "chunks": [1]}
    metadata = {"metadata": {"a/.zarray": grid}, "record_size": 1}
    document = MemoryStore(
        {".zmetadata": json.dumps(metadata).encode(), "a/refs.0.parq": record("s3://b/x")}
    )
    store = ReferenceStore(document, "", lambda url: MemoryStore({"x": b"old", "y": b"new"}))
    assert read(store, "a/0") == b"old"
    document.put("a/refs.0.parq", record("s3://b/y"))
    assert read(store, "a/0") == b"old"
    store.renew()
    assert read(store, "a/0") == b"new"
