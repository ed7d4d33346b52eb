"""Look-ahead and bands, by counts: what is fetched how often, and what is not fetched at all."""

from __future__ import annotations

import time

import pytest

from tests.test_extents import make_array
from znfs.array import Array
from znfs.cache import BlockCache
from znfs.extents import Slab
from znfs.node import File

_SHAPE, _CHUNKS = (32, 64, 16), (8, 8, 8)
_PLANE = 64 * 16 * 2  # bytes
_SLAB = 8 * _PLANE
_CHUNKS_A_SLAB = 8 * 2


def planes_of(array: Array) -> list[File]:
    """A file for every plane, after a header that cuts elements and rows, as in `tiff/`."""
    shape = (1, *array.meta.shape[1:])
    return [File([Slab(array, (z, 0, 0), shape)], "v") for z in range(array.meta.shape[0])]


def read_as_the_kernel_does(file: File) -> bytes:
    """In three requests, of which the last overtakes the second."""
    cuts = (0, file.size // 3 & ~1, file.size - 24, file.size)
    parts = {}
    for i in (0, 2, 1):
        parts[i] = file.read(cuts[i], cuts[i + 1] - cuts[i])
    return b"".join(parts[i] for i in range(3))


def settle(cache: BlockCache) -> None:
    """Wait for what is being loaded in the background."""
    until = time.monotonic() + 10
    while cache._queued or cache._loading:
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.fixture(params=[False, True], ids=["local", "far"])
def far(request):
    return request.param


def scrolled(cache: int, far: bool, count: int):
    """The store after `count` planes were read in order through a cache of that many bytes."""
    array, values, store = make_array(_SHAPE, _CHUNKS)
    array.cache = BlockCache(cache, 4, far=far)
    for z, file in enumerate(planes_of(array)[:count]):
        assert read_as_the_kernel_does(file) == values[z].tobytes()
        settle(array.cache)
    array.cache.close()
    return store


@pytest.mark.parametrize("slabs", [1.0, 1.3, 2.0])
def test_a_cache_of_a_slab_fetches_each_chunk_once(slabs, far):
    store = scrolled(int(slabs * _SLAB), far, _SHAPE[0])
    assert set(store.gets.values()) == {1}


def test_the_planes_of_one_slab_cost_a_distant_store_its_chunks_and_no_more():
    assert len(scrolled(8 * _SLAB, True, _CHUNKS[0]).gets) == _CHUNKS_A_SLAB


def test_who_has_gone_from_slab_to_slab_finds_the_next_one_there():
    store = scrolled(8 * _SLAB, True, 2 * _CHUNKS[0])
    assert len(store.gets) >= 3 * _CHUNKS_A_SLAB
    assert set(store.gets.values()) == {1}
