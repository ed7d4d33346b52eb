"""Memory for blocks: handed out anew only when the last view of it has gone, and given back."""

from __future__ import annotations

import gc
import mmap
import threading

import numpy as np
import pytest

from znfs.cache import memory
from znfs.cache.memory import Pool

_SIZE = 512 << 10


def _address(block: np.ndarray) -> int:
    return block.__array_interface__["data"][0]


def test_blocks_do_not_share_bytes():
    pool = Pool()
    blocks = [pool.empty(_SIZE - 100 * (i % 3)) for i in range(100)]
    for i, block in enumerate(blocks):
        block[:] = i
    for i, block in enumerate(blocks):
        assert (block == i).all()


def test_what_is_let_go_of_is_used_again():
    pool = Pool()
    first = pool.empty(_SIZE)
    first[:] = 1
    where = _address(first)
    del first
    assert pool.idle == _SIZE
    again = pool.empty(_SIZE)
    assert _address(again) == where
    assert pool.idle == 0


def test_a_view_keeps_the_memory():
    pool = Pool()
    block = pool.empty(_SIZE)
    part = block.view("<u2").reshape(64, -1)[3:5]
    part[:] = 7
    seen = memoryview(block)[-10:]
    del block
    assert pool.idle == 0
    others = [pool.empty(_SIZE) for _ in range(64)]
    for other in others:
        other[:] = 0
    assert (part == 7).all()
    del part
    assert pool.idle == 0
    del seen
    assert pool.idle == _SIZE


def test_more_than_is_kept_goes_back_to_the_system():
    pool = Pool(most_idle=4 * _SIZE)
    blocks = [pool.empty(_SIZE) for _ in range(40)]
    for block in blocks:
        block[:] = 255
    kept = blocks[:3]
    del block, blocks
    assert pool.idle <= 4 * _SIZE
    fresh = [pool.empty(_SIZE) for _ in range(37)]
    assert pool.idle == 0
    # What went back is zeros again: pages that nobody wrote to since.
    assert sum(not block.any() for block in fresh) >= 33
    for block in fresh:
        block[:] = 1
    assert all((block == 255).all() for block in kept)


def test_full_regions_outlive_a_collection():
    """Nothing but the pool knows of a region that has no room."""
    pool = Pool(most_idle=4 * _SIZE)
    blocks = [pool.empty(_SIZE) for _ in range(4 * (memory._REGION // _SIZE))]
    gc.collect()
    del blocks[1:]
    assert pool.idle == 4 * _SIZE
    again = [pool.empty(_SIZE) for _ in range(4)]
    assert pool.idle == 0
    assert len({_address(block) for block in [*blocks, *again]}) == 5


def test_large_pieces_are_used_again_and_unmapped():
    size = 2 * memory._REGION + 5
    pool = Pool(most_idle=size + mmap.PAGESIZE)
    first, second = pool.empty(size), pool.empty(size)
    where = _address(first), _address(second)
    del first
    again = pool.empty(size)
    assert _address(again) == where[0]
    again[:] = 1
    second[:] = 1
    del again
    del second  # the other has to go
    assert pool.idle <= size + mmap.PAGESIZE
    kept, fresh = pool.empty(size), pool.empty(size)
    assert _address(kept) == where[1]
    assert not fresh.any()


def test_what_was_let_go_of_longest_ago_goes_first():
    pool = Pool(most_idle=4 * _SIZE)
    old = [pool.empty(2 * _SIZE) for _ in range(2)]
    for block in old:
        block[:] = 1
    del block, old
    new = [pool.empty(_SIZE) for _ in range(4)]
    for block in new:
        block[:] = 1
    del block, new
    assert pool.idle == 4 * _SIZE
    assert all(pool.empty(_SIZE).any() for _ in range(4))
    assert not pool.empty(2 * _SIZE).any()


def test_blocks_let_go_of_by_a_collection_in_the_middle(monkeypatch: pytest.MonkeyPatch):
    """The interpreter collects garbage where it likes, also while the pool is at work."""
    pool = Pool()

    class Cycle:
        def __init__(self) -> None:
            self.me, self.block = self, pool.empty(_SIZE)

    take = memory._Region.take

    def collect_then_take(region: memory._Region) -> int:
        gc.collect()
        return take(region)

    monkeypatch.setattr(memory._Region, "take", collect_then_take)
    gc.disable()
    gc.freeze()  # to look through all that a whole run of tests holds took a second each time
    try:
        for _ in range(100):
            Cycle()
            pool.empty(_SIZE)
    finally:
        gc.unfreeze()
        gc.enable()
    gc.collect()
    pool.empty(_SIZE)
    assert pool.idle == sum(len(region.used) for region in pool._regions[_SIZE]) * _SIZE
    assert pool.idle >= 2 * _SIZE
    assert not any(region.lent for region in pool._regions[_SIZE])


def test_sizes_take_turns_within_bounds():
    pool = Pool(most_idle=4 << 20)
    for round_ in range(6):
        size = (128 << 10) + round_ * (192 << 10)
        blocks = [pool.empty(size) for _ in range(50)]
        for i, block in enumerate(blocks):
            block[:] = i
        assert all((block == i).all() for i, block in enumerate(blocks))
        del block, blocks
        assert pool.idle <= 4 << 20


def test_small_and_odd_sizes():
    pool = Pool()
    assert pool.empty(0).nbytes == 0
    assert pool.empty(1).nbytes == 1
    for nbytes in (memory._LEAST, memory._LEAST + 1, (16 << 20) + 1):
        block = pool.empty(nbytes)
        assert block.nbytes == nbytes
        block[-1] = 1
        block[0] = 1


def test_array():
    assert memory.array((0, 3), np.dtype("<u2")).shape == (0, 3)
    assert memory.array((), np.dtype("<f8")).shape == ()
    made = memory.array((64, 64, 64), np.dtype("<u2"))
    assert made.shape == (64, 64, 64)
    assert made.flags.c_contiguous
    assert made.flags.writeable


def _root(block: np.ndarray) -> np.ndarray:
    while isinstance(block.base, np.ndarray):
        block = block.base
    return block


@pytest.mark.parametrize("nbytes", [100, memory._LEAST, _SIZE])
def test_keep_lets_go_of_larger_memory(nbytes: int):
    whole = bytes(range(256)) * (2 * _SIZE // 256)
    part = np.frombuffer(memoryview(whole)[nbytes : 2 * nbytes], np.uint8)
    kept = memory.keep(part)
    assert not np.shares_memory(kept, np.frombuffer(whole, np.uint8))
    assert (kept == part).all()
    assert not kept.flags.writeable


def test_keep_does_not_copy_what_is_its_own():
    block = memory.array((64, 64, 64), np.dtype("<u2"))
    block[...] = 3
    block.flags.writeable = False
    assert memory.keep(block) is block
    small = np.frombuffer(bytes(100), np.uint8)
    assert memory.keep(small) is small
    heap = np.zeros(_SIZE, np.uint8)
    assert isinstance(_root(memory.keep(heap)).base.obj, mmap.mmap)


def test_many_threads():
    pool = Pool(most_idle=2 << 20)
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        held: list[tuple[int, np.ndarray]] = []
        for _ in range(300):
            if held and rng.random() < 0.5:
                value, block = held.pop(int(rng.integers(len(held))))
                if not (block == value).all():
                    wrong.append(value)
                del block
            else:
                value = int(rng.integers(256))
                block = pool.empty(int(rng.choice([70_000, 131_072, 200_000])))
                block[:] = value
                held.append((value, block))
                del block

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.idle <= 2 << 20
