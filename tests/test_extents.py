"""Extents: any range equals that part of the whole."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_store import MemoryStore
from znfs.arrays.array import Array
from znfs.arrays.extents import Blocks, Literal, Object, Records, Slab, Zeros, boxes
from znfs.cache import BlockCache
from znfs.errors import ChunkError, Stale, StoreError
from znfs.meta import ArrayMeta, ChunkKeys, CodecSpec, unravel
from znfs.node import File


def make_array(shape, chunks, dtype="<u2", fill=7, missing=(), cache=1 << 20):
    """An array of distinct values over a memory store, and the values as NumPy has them."""
    dtype = np.dtype(dtype)
    data = np.arange(1, prod(shape) + 1).reshape(shape).astype(dtype)
    grid = tuple(-(-s // c) for s, c in zip(shape, chunks, strict=True))
    store = MemoryStore()
    keys = ChunkKeys(".")
    fill_value = np.array([fill]).astype(dtype)
    for index in product(*map(range, grid)):
        part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))
        if index in missing:
            data[part] = fill_value[0]
            continue
        block = np.full(chunks, fill_value[0], dtype)
        block[tuple(slice(0, n) for n in data[part].shape)] = data[part]
        store.put("a/" + keys.key(index), block.tobytes())
    meta = ArrayMeta(
        "zarr2", shape, chunks, dtype, fill_value.tobytes(), keys,
        codecs=(CodecSpec("bytes", {"endian": "little"}),),
    )  # fmt: skip
    array = Array("a", "a", meta, "v", 0.0, store, BlockCache(cache, 2), lambda: None)
    return array, data, store


@st.composite
def arrays(draw, most_dims=4):
    ndim = draw(st.integers(1, most_dims))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    grid = [range(-(-s // c)) for s, c in zip(shape, chunks, strict=True)]
    missing = draw(st.sets(st.tuples(*map(st.sampled_from, grid)), max_size=3))
    # In small caches slabs are thinner than chunks.
    cache = draw(st.sampled_from([64, 256, 1 << 10, 4 << 10, 1 << 20]))
    dtype = draw(st.sampled_from(["u1", "<u2", "<f8"]))
    return make_array(shape, chunks, dtype, 7, missing, cache)


def check_ranges(file: File, whole: bytes, draw) -> None:
    assert file.size == len(whole)
    for _ in range(6):
        start = draw(st.integers(0, len(whole)))
        size = draw(st.integers(0, len(whole) - start + 3))
        assert file.read(start, size) == whole[start : start + size]
    assert file.read(0, len(whole) + 10) == whole
    for _ in range(3):  # out of what is cached now
        start = draw(st.integers(0, len(whole)))
        assert file.read(start, 9) == whole[start : start + 9]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_slab_is_the_box_in_c_order(data):
    array, values, _ = data.draw(arrays())
    start = tuple(data.draw(st.integers(0, s - 1)) for s in values.shape)
    shape = tuple(
        data.draw(st.integers(1, s - a)) for a, s in zip(start, values.shape, strict=True)
    )
    order = tuple(data.draw(st.permutations(range(values.ndim))))
    box = values[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]
    whole = np.ascontiguousarray(box.transpose(order)).tobytes()
    check_ranges(File([Slab(array, start, shape, order)], "v"), whole, data.draw)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_slab_casts(data):
    array, values, _ = data.draw(arrays(2))
    whole = values.astype("<f4").tobytes()
    check_ranges(File([Slab(array, dtype=np.dtype("<f4"))], "v"), whole, data.draw)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_blocks_are_padded_chunks_at_a_stride(data):
    array, values, _ = data.draw(arrays(3))
    meta = array.meta
    count = prod(meta.grid)
    stride = meta.chunk_nbytes + data.draw(st.integers(0, 9))
    whole = b""
    for i in range(count):
        index = unravel(i, meta.grid)
        block = np.full(meta.chunks, array.fill)
        part = values[
            tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, meta.chunks, strict=True))
        ]
        block[tuple(slice(0, n) for n in part.shape)] = part
        whole += block.tobytes().ljust(stride, b"\0")
    check_ranges(File([Blocks(array, 0, count, stride)], "v"), whole, data.draw)


def test_zero_dimensional_arrays_read():
    array, values, _ = make_array((), ())
    array._chunks._store.put("a/0", values.tobytes())
    assert File([Slab(array)], "v").read(0, 9) == values.tobytes()
    assert File([Blocks(array)], "v").read(0, 9) == values.tobytes()


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_files_join_extents(data):
    parts = data.draw(st.lists(st.binary(max_size=5), max_size=6))
    extents = [Literal(p) for p in parts] + [Zeros(4), Records(3, 5, lambda i: bytes([i] * 3))]
    whole = b"".join(parts) + bytes(4) + b"".join(bytes([i] * 3) + b"\0\0" for i in range(3))
    check_ranges(File(extents, "v"), whole, data.draw)


def stored(monkeypatch, data: bytes, *, local: bool = False):
    """A file over an object that is read in pieces of 10 bytes, and its store."""
    monkeypatch.setattr(Object, "_PIECE", 10)
    store = MemoryStore()
    store.local = local
    store.put("x", data)
    return File([Object(store, BlockCache(1 << 20, 2), "x", len(data), "v1")], "v"), store


@pytest.mark.parametrize("local", [False, True])
def test_objects_are_their_bytes_and_far_away_each_piece_is_fetched_once(monkeypatch, local):
    data = bytes(range(35))
    file, store = stored(monkeypatch, data, local=local)
    reads = [(a, b) for a in range(36) for b in range(a + 1, 36)]
    for start, stop in reads:
        assert file.read(start, stop - start) == data[start:stop]
    assert store.gets["x"] == (len(reads) if local else 4)


@pytest.mark.parametrize("local", [False, True])
def test_objects_are_of_one_version_and_whole(monkeypatch, local):
    file, store = stored(monkeypatch, bytes(35), local=local)
    store.objects["x"] = bytes(24)  # as of a server that breaks off
    with pytest.raises(StoreError, match="4 bytes of "):
        file.read(20, 10)
    store.put("x", b"\1" * 35)
    with pytest.raises(Stale):
        file.read(0, 35)
    del store.objects["x"]
    with pytest.raises(Stale, match="no longer there"):
        file.read(0, 35)


def test_boxes_cover_each_range_in_order():
    shape = (3, 2, 5)
    numbers = np.arange(30).reshape(shape)
    for lo in range(31):
        for hi in range(lo, 31):
            parts = list(boxes(shape, lo, hi))
            assert len(parts) <= 5
            got = [
                n
                for a, b in parts
                for n in numbers[tuple(slice(*ab) for ab in zip(a, b, strict=True))].ravel()
            ]
            assert got == list(range(lo, hi))


def test_a_read_fetches_each_chunk_once():
    array, values, store = make_array((64, 64), (8, 8))
    file = File([Slab(array)], "v")
    assert file.read(0, file.size) == values.tobytes()
    assert set(store.gets.values()) == {1}


def test_a_chunk_is_cut_out_of_the_band_that_has_it():
    array, values, store = make_array((20, 21), (8, 8))
    file = File([Slab(array)], "v")
    file.read(0, file.size)
    padded = np.full((24, 24), 7, "<u2")
    padded[:20, :21] = values
    for y, x in product(range(3), range(3)):
        found = array.block((y, x))
        assert found.tolist() == padded[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].tolist()
        assert not found.flags.writeable
    assert set(store.gets.values()) == {1}


def test_a_cache_smaller_than_the_read_still_reads_right():
    array, values, _ = make_array((64, 64), (8, 8), cache=300)
    file = File([Slab(array)], "v")
    assert file.read(0, file.size) == values.tobytes()


def test_absent_chunks_ask_whether_the_array_still_stands():
    array, values, _ = make_array((4,), (2,), missing={(1,)})
    asked = []
    array.confirm = lambda: asked.append(1)
    assert File([Slab(array)], "v").read(0, 99) == values.tobytes()
    assert asked == [1]


def test_errors_come_through():
    array, _, store = make_array((4,), (2,))
    store.put("a/1", b"short")
    file = File([Slab(array)], "v")
    assert len(file.read(0, 4)) == 4
    with pytest.raises(ChunkError, match="a/1"):
        file.read(0, 8)
