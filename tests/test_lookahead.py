"""Look-ahead and bands, by counts: what is fetched how often, and what is not fetched at all."""

from __future__ import annotations

import time
from itertools import product
from math import prod

import numpy as np
import pytest
import zarr

import znfs.arrays.array
from tests.memory_store import MemoryStore
from tests.test_extents import make_array
from tests.waiting import Clock
from znfs.arrays.array import Array
from znfs.arrays.bandgrid import BandGrid
from znfs.arrays.bands import Bands, BandSets, spill_to
from znfs.arrays.extents import Blocks, Slab
from znfs.arrays.lookahead import Boxes, ChunkWalk, PlaneReads, Stream, Walk
from znfs.cache import BlockCache
from znfs.cache.spill import Spill
from znfs.hierarchy import Hierarchy
from znfs.line import Line
from znfs.meta import ravel
from znfs.node import File
from znfs.views.hdf5.pieces import ConvertedBlocks, Pieces

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


def whole_bands(array: Array) -> Bands:
    sets = BandSets.of(array, tuple(range(array.meta.ndim)))
    assert sets is not None
    assert sets._deep is not None
    return sets._deep


def settle(cache: BlockCache) -> None:
    """Wait for what is being loaded in the background."""
    until = time.monotonic() + 10
    while cache._flights or cache._loading:
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.fixture(params=[False, True], ids=["local", "far"])
def far(request):
    return request.param


def scrolled(cache: int, far: bool, count: int, shape=_SHAPE, *, step=1):
    """The store after `count` planes were read in order through a cache of that many bytes."""
    array, values, store = make_array(shape, _CHUNKS)
    array.cache = BlockCache(cache, 4, line=Line(4) if far else None)
    for z, file in list(enumerate(planes_of(array)))[::step][:count]:
        assert read_as_the_kernel_does(file) == values[z].tobytes()
        settle(array.cache)
    array.cache.close()
    return store


@pytest.mark.parametrize("slabs", [1.0, 1.3, 2.0])
def test_a_cache_of_a_slab_fetches_each_chunk_once(slabs, far):
    store = scrolled(int(slabs * _SLAB), far, _SHAPE[0])
    assert set(store.gets.values()) == {1}


_WIDE = (32, 64, 64)  # a band of one plane is more than the least that an entry takes
_WIDE_PLANE = 64 * 64 * 2


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize(("planes", "times"), [(8, 1), (7, 2), (4, 3)])
def test_as_many_planes_as_the_cache_holds_come_of_decoding_once(planes, times, step, far):
    """Seven eighths of the cache are for the planes, and it has room for `planes`; forwards or
    backwards."""
    store = scrolled(planes * _WIDE_PLANE, far, 32, _WIDE, step=step)
    assert len(store.gets) == 4 * 8 * 8
    assert set(store.gets.values()) == {times}


@pytest.mark.parametrize(("height", "times"), [(64, 8), (32, 4), (16, 3)])
def test_slabs_of_few_bands_are_as_deep_as_bands_may_be_large(height, times):
    """A quarter of the cache, which holds half of a slab."""
    array, values, store = make_array(_WIDE, (32, height, 8))
    array.cache = BlockCache(16 * _WIDE_PLANE, 4)
    for z, file in enumerate(planes_of(array)):
        assert file.read(0, file.size) == values[z].tobytes()
        settle(array.cache)
    assert set(store.gets.values()) == {times}


def gets_of_npy(offsets, size, *, ahead=0):
    """GETs by key, with a cache of half a slab, after a file of all planes was read at `offsets`,
    `size` bytes each, and so many bytes `ahead` were begun."""
    array, values, store = make_array(_WIDE, _CHUNKS)
    array.cache = BlockCache(4 * _WIDE_PLANE, 4)
    file, data = File([Slab(array)], "v"), values.tobytes()
    for at in offsets:
        assert file.read(at, size) == data[at : at + size]
        if ahead:
            file.prefetch(at + size, at + size + ahead)
        settle(array.cache)
    return store.gets


def test_a_whole_file_read_in_order_is_served_as_its_planes_are():
    gets = gets_of_npy(range(0, 32 * _WIDE_PLANE, 1000), 1000)
    # But for what was read before it was plain that all of it will be.
    assert {n for key, n in gets.items() if not key.startswith("a/0.")} == {3}
    assert sum(gets.values()) < 3.5 * len(gets)


def test_what_is_begun_ahead_of_a_whole_file_is_what_will_be_read():
    """As `znfs cat` has it begun."""
    gets = gets_of_npy(range(0, 32 * _WIDE_PLANE, 2048), 2048, ahead=2048)
    assert sum(gets.values()) < 3.5 * len(gets)


def test_chunks_of_several_axes_are_decoded_once_where_their_planes_fit():
    """Channels side by side: both in a chunk, though not all planes of a channel fit."""
    array, values, store = make_array((2, 32, 32, 64), (2, 4, 16, 16))
    array.cache = BlockCache(2 * 8 * 32 * 64 * 2, 4)
    for z, c in product(range(32), range(2)):
        file = File([Slab(array, (c, z, 0, 0), (1, 1, 32, 64))], "v")
        assert file.read(0, file.size) == values[c, z].tobytes()
        settle(array.cache)
    assert set(store.gets.values()) == {1}


@pytest.mark.parametrize(
    ("reads", "whole"),
    [
        ([(0, 600), (600, 1200)], True),  # on and on
        ([(0, 100), (1000, 1100), (2000, 2100)], False),  # a tenth of each plane
        ([(i, i + 50) for i in range(0, 1000, 50)], True),
        ([(0, 600), (10**8, 10**8 + 5), (600, 1200)], True),  # an element elsewhere
        ([(0, 1000), (10**8, 10**8 + 50)], True),  # a plane, and then one far from it
        ([(0, 900), (10**8, 10**8 + 50)], False),
        ([(9000, 10000), (8000, 9000), (7000, 8000)], True),  # backwards
    ],
)
def test_who_reads_all_of_the_planes_is_told_by_what_was_read(reads, whole):
    tell = PlaneReads(plane=1000, row=10, room=700)
    answers = [tell.note(lo, hi) for lo, hi in reads]
    assert answers[0] is (reads[0][1] - reads[0][0] > 700)
    assert answers[-1] is whole
    assert tell.expect(reads[-1][1]) is whole


def test_some_rows_of_each_plane_are_decoded_once_though_the_slab_does_not_fit(monkeypatch):
    """Of .npy. Two of eight bands."""
    monkeypatch.setattr(Stream, "_NEAR", 1000)
    row = 64 * 2
    rows = (z * _WIDE_PLANE + y * row for z in range(32) for y in range(10, 22, 4))
    gets = gets_of_npy(rows, 4 * row)
    assert set(gets.values()) == {1}
    assert len(gets) <= 4 * 4 * 8  # with what was looked ahead for


def test_the_planes_of_one_slab_cost_a_distant_store_its_chunks_and_no_more():
    assert len(scrolled(8 * _SLAB, True, _CHUNKS[0]).gets) == _CHUNKS_A_SLAB


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_bands_that_are_driven_out_come_back_from_the_disk(tmp_path, order, dtype):
    """The cache has room for half of a slab. Also for views that convert, or count otherwise."""
    array, values, store = make_array(_SHAPE, _CHUNKS)
    slow = order[0]
    shape = tuple(1 if d == slow else n for d, n in enumerate(_SHAPE))
    array.cache = BlockCache(8 * prod(shape) * 2 // 2, 0)  # what is driven out is there at once
    array.spill = Spill(tmp_path, 8 * _SLAB)
    array.cache.on_evict = spill_to(array.spill)
    for i in range(_SHAPE[slow] - 4):
        start = tuple(i if d == slow else 0 for d in range(3))
        file = File([Slab(array, start, shape, order, np.dtype(dtype))], "v")
        expected = values.take(i, slow).astype(dtype).tobytes()
        assert read_as_the_kernel_does(file) == expected
    # What is on the disk is not begun, either.
    array.cache.workers = 4
    file.prefetch(0, file.size)
    settle(array.cache)
    assert set(store.gets.values()) == {1}
    assert array.spill.hits
    # What was read through is not wanted any more.
    assert 0 < array.spill.written < array.cache.evictions
    array.cache.close()
    array.spill.close()


def test_who_has_gone_from_slab_to_slab_finds_the_next_one_there():
    store = scrolled(8 * _SLAB, True, 2 * _CHUNKS[0])
    assert len(store.gets) >= 3 * _CHUNKS_A_SLAB
    assert set(store.gets.values()) == {1}


@pytest.mark.parametrize(("most", "gets"), [(16, 1), (8, 2)])
def test_a_plane_asks_a_distant_shard_for_its_rows_together(tmp_path, monkeypatch, most, gets):
    """`most` of the 16 chunks that each shard has of a plane in one request."""
    values = np.arange(8 * 64 * 64, dtype="u2").reshape(8, 64, 64)
    zarr.create_array(tmp_path / "a", data=values, chunks=(4, 8, 8), shards=(8, 32, 32))
    files = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "a").rglob("*") if path.is_file()
    }  # fmt: skip
    monkeypatch.setattr(znfs.arrays.array, "_BATCH_BYTES", most * 4 * 8 * 8 * 2)
    store = MemoryStore(files)
    hierarchy = Hierarchy(store, BlockCache(8 << 20, 4, line=Line(4)), root_name="r", ttl=60.0)
    array = hierarchy.node("a")
    assert isinstance(array, Array)
    store.gets.clear()
    for z, file in enumerate(planes_of(array)[:4]):
        assert read_as_the_kernel_does(file) == values[z].tobytes()
    settle(array.cache)
    # What is begun in the middle of them comes with the others, too.
    bands, begin = whole_bands(array), (4 * 64 + 5 * 8) * 64
    bands.prefetch(begin, begin + 8 * 64)
    settle(array.cache)
    assert bands._is_here((1, 5))
    # Besides its index.
    assert {k: n - 1 for k, n in store.gets.items() if "/c/" in k} == dict.fromkeys(
        (f"a/c/0/{y}/{x}" for y in range(2) for x in range(2)), gets
    ) | {f"a/c/0/1/{x}": gets + 1 for x in range(2)}
    hierarchy.close()


def test_a_look_at_some_elements_takes_bands_that_are_there_and_else_blocks(monkeypatch):
    monkeypatch.setattr(Stream, "_NEAR", -1)  # nothing continues what was read before
    array, values, store = make_array((40, 64), (8, 8))
    file, data = File([Slab(array)], "v"), values.tobytes()
    assert file.read(1000, 17) == data[1000:1017]  # of two chunks
    assert len(store.gets) == 2
    whole_bands(array).prefetch(0, 40 * 64)
    settle(array.cache)
    assert len(store.gets) == 5 * 8
    for start in range(0, len(data), 37):
        for size in (1, 5, 126):
            assert file.read(start, size) == data[start : start + size]
    assert set(store.gets.values()) == {1}


def test_bands_are_a_quarter_of_the_cache_at_the_most_or_what_the_disk_may_take(tmp_path):
    band = 8 * 64 * 2  # bytes
    for size, fits in ((4 * band, True), (4 * band - 1, False), (band, False)):
        for spill in (None, Spill(tmp_path, 1 << 20)):
            array, _, _ = make_array((40, 64), (8, 8), cache=size)
            array.spill = spill
            sets = BandSets.of(array, (0, 1))
            assert sets is not None
            assert (sets._deep is not None) == (fits or spill is not None)


def boxes_read(shape, grid, corners, far=True, chunk=2):
    """The store after boxes of `shape` chunks were read at `corners`, and how many of its chunks
    a reader found begun."""
    array, values, store = make_array(tuple(n * chunk for n in grid), (chunk,) * len(grid))
    array.cache = BlockCache(1 << 20, 4, line=Line(4) if far else None)
    strides = [prod(grid[d + 1 :]) for d in range(len(grid))]
    file = File([Blocks(array, 0, prod(grid))], "v")
    nbytes = file.size // prod(grid)
    found = 0
    for corner in corners:
        for at in product(*(range(c, c + n) for c, n in zip(corner, shape, strict=True))):
            i = sum(a * s for a, s in zip(at, strides, strict=True))
            found += (array._identity, at) in array.cache
            part = tuple(slice(a * chunk, (a + 1) * chunk) for a in at)
            assert file.read(i * nbytes, nbytes) == values[part].tobytes()
            settle(array.cache)
    return store, found


def test_chunks_of_one_plane_are_looked_ahead_for_as_far_as_loading_takes():
    array, values, store = make_array((32, 16, 16), (1, 16, 16))
    array.cache = BlockCache(1 << 20, 4, line=Line(4))
    for z, file in enumerate(planes_of(array)[:4]):
        whole_bands(array)._lead_time = 1e6  # seconds
        assert file.read(0, file.size) == values[z].tobytes()
        settle(array.cache)
        # The fourth plane is the first at which a reader is known to go from slab to slab.
        assert len(store.gets) == (1, 2, 3, 32)[z]
    assert set(store.gets.values()) == {1}


@pytest.mark.parametrize(("planes", "slabs"), [(1, 1), (3, 1), (4, 2), (12, 4)])
def test_as_many_slabs_are_begun_as_what_was_read_lets_expect(planes, slabs):
    """Eight times as many planes, of a local store that takes long to load."""
    array, values, store = make_array((128, 16, 8), (32, 8, 8))
    array.cache = BlockCache(8 << 20, 4)
    files = planes_of(array)
    for z in range(planes):
        assert read_as_the_kernel_does(files[z]) == values[z].tobytes()
        whole_bands(array)._lead_time = 1e6  # seconds
        settle(array.cache)
    assert len(store.gets) == slabs * 2


def test_how_fast_a_reader_goes_is_told_by_all_that_it_read(monkeypatch):
    """Also if the kernel sends small pieces and large ones, some of them out of order."""
    stream, clock = Stream(BandGrid((200, 1, 1000), (1, 1, 8), (1,)), 0, far=False), Clock()
    monkeypatch.setattr("znfs.arrays.lookahead.time", clock)
    stream.note(0, 1000, True)
    for plane in range(1, 200):
        for lo, hi in ((0, 1), (2, 1000), (1, 2)):
            clock.now += 0.001
            stream.note(1000 * plane + lo, 1000 * plane + hi, False)
    assert stream.soon(0.003) == pytest.approx(1000, rel=0.1)  # three requests a plane
    assert stream.soon(1e6) == 8 * 200_000


def test_a_band_that_found_no_room_is_asked_for_again():
    grid = BandGrid((8, 40, 10), (4, 8, 10), (4,))
    stream = Stream(grid, 5, far=False)
    for i in range(3):
        stream.note(40 * i, 40 * i + 40, False)
    assert stream.come_to((0, 0), 120) is None
    bands = stream.next((0, 0), 120, 0.0)
    assert [next(bands), next(bands)] == [(0, 0), (0, 1)]
    bands.close()
    assert list(stream.next((0, 0), 120, 0.0)) == [(0, 1), (0, 2)]
    assert list(stream.next((0, 0), 120, 0.0)) == []


_FAR_APART = [(5, 1, 4), (0, 6, 1), (3, 3, 6), (6, 0, 2), (1, 4, 5), (4, 6, 0)]


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_who_takes_chunks_in_a_row_finds_the_next_begun_converted_or_not(dtype):
    array, values, store = make_array((64, 8), (4, 4))
    array.cache = BlockCache(1 << 20, 4, line=Line(4))
    pieces = Pieces.of(array.meta.shape, array.meta.chunks, 1, np.dtype(dtype).itemsize)
    if dtype == array.meta.dtype:
        file = File([Blocks(array, 0, pieces.count)], "v")
    else:
        file = File([ConvertedBlocks(array, pieces, np.dtype(dtype), pieces.nbytes)], "v")
    found = []
    for i, at in enumerate(product(range(16), range(2))):
        found.append((array._identity, at) in array.cache)
        part = values[tuple(slice(a * 4, a * 4 + 4) for a in at)]
        assert file.read(i * pieces.nbytes, pieces.nbytes) == part.astype(dtype).tobytes()
        settle(array.cache)
    assert not any(found[:3])  # it takes some to tell
    assert all(found[4:])
    assert set(store.gets.values()) == {1}


@pytest.mark.parametrize("room", [1, 3, 8, 16, 40, 500])
def test_a_walk_begins_no_more_than_a_quarter_of_the_cache_holds(room):
    array, values, store = make_array((1200, 256), (4, 256))
    nbytes = array.meta.chunk_nbytes
    array.cache = BlockCache(room * nbytes, 2)
    file = File([Blocks(array, 0, 300)], "v")
    for z in range(300):
        assert file.read(z * nbytes, nbytes) == values[4 * z : 4 * z + 4].tobytes()
        settle(array.cache)
    assert set(store.gets.values()) == {1}


def test_what_the_kernel_reads_ahead_does_not_end_a_walk():
    begun: list[int] = []
    walk = Walk(1000, lambda run: begun.extend(run) or True, 1000)
    for i in range(200):
        walk.follow(i)
    assert walk.is_steady
    ahead, taken = len(begun), 200
    for i in range(200, 240, 4):
        walk.hand_over(i + 3)
        for step in walk.steps(i + 4):
            assert step == taken
            taken += 1
            walk.follow(step)
        assert walk.is_steady
    assert taken == 241
    assert begun == list(range(begun[0], begun[-1] + 1))
    assert len(begun) >= ahead + 40
    assert list(walk.steps(500)) == [500]
    walk.follow(500)
    assert not walk.is_steady


def chunk_walk(grid):
    """A walk over chunks, and the numbers of those it has begun."""
    begun: list[int] = []
    walk = Walk(prod(grid), lambda run: begun.extend(run) or True, 1000)
    boxes = Boxes(grid, lambda found: begun.extend(ravel(i, grid) for i in found), waste=0)
    return ChunkWalk(grid, walk, boxes), begun


def test_what_is_certain_of_a_box_can_be_handed_over():
    """The kernel's reads of it come in any order; the reader's do not come any more."""
    walk, begun = chunk_walk((8, 8, 8))
    for corner in (0, 37, 74, 222, 300, 75):
        a, b, c, d, e, f, g, h = (corner + i for i in (0, 1, 8, 9, 64, 65, 72, 73))
        begun.clear()
        for i in (a, b):
            walk.follow(i)
            assert list(walk.ahead(i)) == []
        walk.follow(c)
        assert list(walk.ahead(c)) == begun == [d]
        walk.hand_over(d)
        walk.follow(d)
        walk.follow(e)
        assert list(walk.ahead(e)) == begun[1:] == [f, g, h]
        for i in (f, g, h):
            walk.hand_over(i)
        for i in (g, h, f, g):
            walk.follow(i)


def test_a_walk_goes_on_where_what_was_handed_over_ends():
    walk, begun = chunk_walk((1000,))
    i = 0
    while i < 900:
        walk.follow(i)
        ahead = [k for k in walk.ahead(i) if k <= i + 4]
        assert ahead == (list(range(i + 1, i + 5)) if i > 1 else [])
        for k in ahead:
            walk.hand_over(k)
        for k in reversed(ahead):
            walk.follow(k)
        i += 1 + len(ahead)
    assert begun == sorted(set(begun))
    walk.follow(17)
    assert not list(walk.ahead(17))


def test_a_box_whose_corner_was_turned_is_fetched_ahead_and_nothing_else():
    store, found = boxes_read((2, 2, 2), (8, 8, 8), _FAR_APART[:4])
    assert set(store.gets.values()) == {1}
    assert len(store.gets) == 8 * 4
    assert found == 4 * 4  # what is left: the first of each row, layer, box


def test_boxes_of_one_chunk_fetch_that():
    store, _ = boxes_read((1, 1, 1), (8, 8, 8), _FAR_APART * 3)
    assert len(store.gets) == len(_FAR_APART)


def test_boxes_that_are_all_alike_are_fetched_at_once():
    corners = list(product((0, 3, 6), (6, 3, 0), (0, 3, 6)))
    store, found = boxes_read((2, 2, 2), (8, 8, 8), corners)
    assert set(store.gets.values()) == {1}
    assert found >= 7 * (len(corners) - Boxes._ALIKE)


@pytest.mark.parametrize(("waste", "waited"), [(1 / 32, 0.57), (0, 0.63)])
def test_what_is_guessed_in_vain_stays_a_small_share(waste, waited):
    """Boxes of 1 to 2 chunks along each axis at random places: as boxes of voxels are."""
    rng = np.random.default_rng(3)
    begun: set[tuple[int, ...]] = set()
    boxes = Boxes((1000, 1000, 1000), begun.update, waste=waste)
    read, waits, fetched = 0, 0, 0
    for _ in range(2000):
        corner, shape = rng.integers(0, 990, 3).tolist(), (rng.random(3) < 0.73) + 1
        for at in product(*(range(c, c + n) for c, n in zip(corner, shape, strict=True))):
            waits += at not in begun
            boxes.follow(at)
            begun.add(at)
            read += 1
        fetched += len(begun)
        begun.clear()
    assert fetched <= read * (1 + waste) + 8
    assert waits < waited * read


def test_boxes_of_local_stores_are_not_guessed_but_what_is_certain_is_begun():
    corners = list(product((0, 3, 6), (6, 3, 0), (0, 3, 6)))
    store, found = boxes_read((2, 2, 2), (8, 8, 8), corners, far=False)
    assert set(store.gets.values()) == {1}
    assert len(store.gets) == 8 * len(corners)
    assert found == 4 * len(corners)  # what is left: the first of each row, layer, box


def test_a_box_with_holes_and_one_at_the_edge():
    asked: list[list[tuple[int, ...]]] = []
    boxes = Boxes((3, 3, 3), asked.append, waste=0)
    for at in [(1, 1, 1), (1, 2, 1), (1, 2, 2)]:  # (1, 1, 2) came from elsewhere
        assert boxes.follow(at) is (at == (1, 1, 1))
    assert not asked
    assert not boxes.follow((2, 1, 1))
    assert asked == [[(2, 1, 2), (2, 2, 1), (2, 2, 2)]]


def test_a_whole_array_is_no_box():
    asked: list[list[tuple[int, ...]]] = []
    boxes = Boxes((2, 3, 4), asked.append, waste=0)
    assert all(boxes.follow(at) for at in product(range(2), range(3), range(4)))
    assert not asked
