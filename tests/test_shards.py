"""Chunks in shards, by shards made by hand: what is fetched together, and what is an error."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import numpy as np
import pytest

from tests.memory_store import MemoryStore
from znfs.arrays.array import Array
from znfs.cache import BlockCache
from znfs.chunks import shards
from znfs.errors import ChunkError, Stale
from znfs.meta import ArrayMeta, ChunkKeys, CodecSpec, Edges, Index, Shard

PLAIN = (CodecSpec("bytes", {"endian": "little"}),)
GZIP = (CodecSpec("gzip", {}),)
N = 4  # chunks of a shard, each of a row of the array
MISSING = (1 << 64) - 1
FILL = 9


def shard(entries: Sequence[tuple[int, int]], body: bytes) -> bytes:
    """`body`, and behind it the index that says where each chunk is and how long."""
    return body + np.array(entries, "<u8").tobytes()


def row(i: int, first: int = 1) -> bytes:
    return bytes(range(first + 4 * i, first + 4 * i + 4))


def packed(first: int = 1) -> bytes:
    """All chunks, the last one first."""
    body = b"".join(row(i, first) for i in reversed(range(N)))
    return shard([(4 * (N - 1 - i), 4) for i in range(N)], body)


def nested(first: int = 1, *, moved: bool = False) -> bytes:
    """Two shards of two chunks each. `moved` is another order of these, all of it further back."""
    places = (0, 1) if moved else (1, 0)
    halves = [
        shard([(4 * k, 4) for k in places], b"".join(row(i + k, first) for k in places))
        for i in (0, 2)
    ]
    gap = 100 if moved else 0
    return shard([(gap + 40 * i, 40) for i in range(2)], bytes(gap) + b"".join(halves))


def make(
    data: bytes | None,
    outer: tuple[CodecSpec, ...] = (),
    inner: tuple[Shard, ...] = (),
    edges: tuple[Edges, ...] = (),
    codecs: tuple[CodecSpec, ...] = PLAIN,
) -> tuple[Array, MemoryStore]:
    """An array of one shard, which is `data`."""
    store = MemoryStore({} if data is None else {"a/c/0/0": data})
    chunks = inner[0].shape if inner else (1, 4)
    meta = ArrayMeta(
        "zarr3", (N, 4), (1, 4), np.dtype("u1"), bytes([FILL]), ChunkKeys("/", "c"),
        codecs=codecs, shards=(Shard((N, 4), chunks, PLAIN, outer=outer), *inner), edges=edges,
    )  # fmt: skip
    return Array("a", "a", meta, "v", 0.0, store, BlockCache(1 << 20, 0), lambda: None), store


def together(array: Array, *wanted: int) -> dict[int, bytes]:
    """What is loaded of so many chunks at once, until an error."""
    got: dict[int, bytes] = {}

    def put(index: Index, block: np.ndarray | None) -> None:
        assert index[0] not in got
        got[index[0]] = bytes([FILL] * 4) if block is None else block.tobytes()

    try:
        array.load_many([(i, 0) for i in wanted], put)
    except ChunkError:
        got[-1] = b"failed"
    return got


ALL = {i: row(i) for i in range(N)}


@pytest.mark.parametrize(
    ("gap", "most", "gets"),
    [(64 << 10, 1 << 20, 1), ((64 << 10) + 1, 1 << 20, N), (10, 46, 1), (10, 45, 2), (10, 17, N),
     (-1, 99, 1)],
)  # fmt: skip
def test_chunks_are_fetched_together_that_lie_together(monkeypatch, gap, most, gets):
    """No more than `most` bytes of a shard at once; -1 is a byte that two chunks share."""
    monkeypatch.setattr(shards, "_COALESCE_MAX", most)
    step = 4 + gap
    body = bytearray(4 * step)
    for i in range(N):
        body[i * step : i * step + 4] = row(i)
    found = {i: bytes(body[i * step : i * step + 4]) for i in range(N)}
    array, store = make(shard([(i * step, 4) for i in range(N)], bytes(body)))
    assert together(array, 2, 0, 3, 1) == found
    assert store.gets["a/c/0/0"] == 1 + gets


def test_no_more_chunks_are_loaded_together_than_are_to_be_held(monkeypatch):
    monkeypatch.setattr("znfs.arrays.array._BATCH_BYTES", 2 * 4)
    array, store = make(packed())
    assert together(array, 0, 1, 2) == {i: row(i) for i in range(3)}
    assert store.gets["a/c/0/0"] == 1 + 2
    assert store.fetched == N * 16 + 3 * 4


def test_of_a_shard_only_what_is_asked_for_is_fetched():
    array, store = make(packed())
    assert together(array, 1, 2) == {1: row(1), 2: row(2)}
    assert store.fetched == N * 16 + 8
    assert array.block((3, 0)).tobytes() == row(3)
    assert store.fetched == N * 16 + 12


def test_absent_chunks_among_others():
    entries = [(0, 4), (MISSING, MISSING), (4, 4), (MISSING, MISSING)]
    array, _ = make(shard(entries, row(0) + row(2)))
    assert together(array, 0, 1, 2, 3) == ALL | {i: bytes([FILL] * 4) for i in (1, 3)}
    assert together(array, 1, 3) == {i: bytes([FILL] * 4) for i in (1, 3)}


@pytest.mark.parametrize("entry", [(4, 1 << 40), (1 << 62, 1 << 62), (4, MISSING), (1 << 30, 4)])
def test_a_chunk_that_is_not_where_the_index_says_takes_no_other_with_it(entry):
    entries = [(0, 4), entry, (8, 4), (12, 4)]
    array, _ = make(shard(entries, b"".join(ALL.values())))
    assert together(array, 0, 1, 2, 3) == {0: row(0), 2: row(2), 3: row(3), -1: b"failed"}
    with pytest.raises(ChunkError, match=r"c/0/0\[1,0\]: the shard's index says"):
        array.block((1, 0))


@pytest.mark.parametrize("data", [b"", b"x", bytes(N * 16 - 1)])
@pytest.mark.parametrize("outer", [(), GZIP])
def test_a_shard_shorter_than_its_index_is_an_error(data, outer):
    array, _ = make(gzip.compress(data) if outer else data, outer)
    with pytest.raises(ChunkError, match="shard index: too short"):
        array.block((0, 0))


@pytest.mark.parametrize("outer", [(), GZIP])
def test_a_shard_that_is_absent_is_fill_value_once_the_array_stands(outer):
    array, _ = make(None, outer)
    asked = []
    array.confirm = lambda: asked.append(1)
    assert together(array, 0, 1) == {i: bytes([FILL] * 4) for i in (0, 1)}
    assert asked

    def gone() -> None:
        raise Stale("gone")

    array, _ = make(None, outer)
    array.confirm = gone
    with pytest.raises(Stale):
        array.block((0, 0))


def test_a_shard_that_was_rewritten_is_read_by_its_new_index():
    array, store = make(packed())
    assert array.block((0, 0)).tobytes() == row(0)
    entries = [(4 * i, 4) for i in range(N)]
    store.put("a/c/0/0", shard(entries, b"".join(row(i, 101) for i in range(N))))
    assert together(array, 1, 2) == {1: row(1, 101), 2: row(2, 101)}
    # Index and chunk before; two chunks refused; index, and each chunk.
    assert store.gets["a/c/0/0"] == 2 + 1 + 3


def test_a_shard_that_is_rewritten_all_the_time_is_stale():
    array, store = make(packed())
    store.fail = lambda key: store.put(key, packed())
    with pytest.raises(Stale):
        array.block((0, 0))
    assert store.gets["a/c/0/0"] == 4  # index, chunk; index, chunk


@pytest.mark.parametrize("edges", [(), (Edges(((N, 1),)), Edges(((4, 1),)))])
def test_of_shards_in_shards_too_index_and_chunks_are_of_one_version(edges):
    array, store = make(nested(), inner=(Shard((2, 4), (1, 4), PLAIN),), edges=edges)
    assert array.block((0, 0)).tobytes() == row(0)
    store.put("a/c/0/0", nested(101, moved=True))
    array.cache.forget(((array._identity, 0), "index", (0, 0)))  # as if driven out
    assert array.block((1, 0)).tobytes() == row(1, 101)
    assert array.block((3, 0)).tobytes() == row(3, 101)


@pytest.mark.parametrize("outer", [(), GZIP])
def test_what_cannot_be_compressed_is_not_taken_for_hostile(monkeypatch, outer):
    """Shards, and shards in these, may be as long as their chunks and indexes are together."""
    monkeypatch.setattr(shards, "_SLACK", 0)
    monkeypatch.setattr(shards, "_GROWTH", 0)
    data = nested()
    array, _ = make(
        gzip.compress(data) if outer else data, outer, (Shard((2, 4), (1, 4), PLAIN),)
    )
    assert together(array, 0, 1, 2, 3) == ALL
