"""Records of references in Parquet: read once, kept within bounds, asked for by many threads."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cachetools import LRUCache

from tests.memory_store import MemoryStore
from znfs.errors import SourceError
from znfs.stores import reftable
from znfs.stores.reftable import JsonTable, ParquetTable, Range


def table(records: int, rows: int, **objects: bytes) -> tuple[ParquetTable, MemoryStore]:
    """The table of an array `a` with so many records of so many chunks; `objects` are theirs."""
    chunks = records * rows
    metadata = {"a/.zarray": {"shape": [chunks], "chunks": [1]}}
    index = json.dumps({"record_size": rows, "metadata": metadata}).encode()
    store = MemoryStore({".zmetadata": index})
    store.objects.update({f"a/refs.{name}.parq": data for name, data in objects.items()})
    blob = store.get(".zmetadata")
    assert blob is not None
    return ParquetTable(store, blob), store


def test_records_are_driven_out_under_readers() -> None:
    """What a thread has loaded another one may drive out before it is used."""
    threads, records = 8, 2_000
    found, _ = table(records, 1)
    found._records = LRUCache(2)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(found.find, [f"a/{n}" for n in range(records)] * threads))
    finally:
        sys.setswitchinterval(before)
    assert set(answers) == {None}


def test_records_are_kept_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    rows, out = 1000, io.BytesIO()
    made = pyarrow.table({
        "path": ["s3://b/x"] * rows, "offset": list(range(rows)), "size": [7] * rows,
    })  # fmt: skip
    write_table(made, out)
    monkeypatch.setattr(reftable, "_MOST_KEPT", made.nbytes * 5 // 2)
    found, store = table(3, rows, **{str(n): out.getvalue() for n in range(3)})
    for record in (0, 1, 0, 1, 2, 1, 0):
        assert found.find(f"a/{record * rows + 5}") == Range("s3://b/x", 5, 7)
    gets = {n: store.gets[f"a/refs.{n}.parq"] for n in range(3)}
    assert gets == {0: 2, 1: 1, 2: 1}
    monkeypatch.setattr(reftable, "_MOST_KEPT", 100)  # a record larger than that is kept alone
    found, store = table(3, rows, **{str(n): out.getvalue() for n in range(3)})
    for chunk in range(3):
        assert found.find(f"a/{chunk}") == Range("s3://b/x", chunk, 7)
    assert store.gets["a/refs.0.parq"] == 1


def test_a_size_of_zero_is_all_of_the_target_or_nothing() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    out = io.BytesIO()
    made = pyarrow.table({"path": ["s3://b/x"] * 3, "offset": [0, 5, 0], "size": [0, 0, 5]})
    write_table(made, out)
    found, _ = table(1, 3, **{"0": out.getvalue()})
    assert [found.find(f"a/{n}") for n in range(3)] == [
        Range("s3://b/x"), Range("s3://b/x", 5, 0), Range("s3://b/x", 0, 5),
    ]


def test_what_is_no_reference_is_an_error_of_its_own_key() -> None:
    amiss = {"a": "base64:!", "b": ["{{none}}/x"], "c": 5, "d": ["s3://b/x", -1, 2]}
    refs = {**amiss, "e": "right"}
    blob = MemoryStore({"": json.dumps({"version": 1, "refs": refs}).encode()}).get("")
    assert blob is not None
    found = JsonTable("refs.json", blob)
    assert found.find("e") == b"right"
    for key in amiss:
        with pytest.raises(SourceError, match=f"refs.json: {key}: "):
            found.find(key)
    assert {entry.name for entry in found.list("")} == set(refs)


@pytest.mark.parametrize("kind", [JsonTable, ParquetTable])
def test_keys_that_are_not_followed_are_listed(kind: type[JsonTable | ParquetTable]) -> None:
    """So that it is told that they are there."""
    keys = ("/x", "g/../x", "g/./x", "g//x", "g/x")
    refs = dict.fromkeys(keys, "{}")
    store = MemoryStore({"": json.dumps({"version": 1, "refs": refs}).encode()})
    if kind is ParquetTable:
        store.put("", json.dumps({"record_size": 1, "metadata": refs}).encode())
    blob = store.get("")
    assert blob is not None
    found = JsonTable("", blob) if kind is JsonTable else ParquetTable(store, blob)
    assert [e.name for e in found.list("")] == ["", "g"]
    assert [e.name for e in found.list("g")] == ["..", ".", "", "x"]
    assert [key for key in keys if found.find(key) is not None] == ["g/x"]
