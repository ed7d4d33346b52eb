"""Bands: the decoded chunks that lie side by side along the fastest axis, assembled into rows.

A view reads an array in runs: rows of the fastest axis, one after another. Cut out of 64³ chunks,
every 8 KiB of a plane is a copy of its own, and the interpreter's share of each is 8 µs: 1.0 GB/s,
whatever the copy costs. A band is put together once, a whole block at a time, and then
serves any range of rows as one contiguous copy. A read of a whole row needs all of a band's
chunks anyway, so a band fetches nothing that is not asked for.

Bands live in the block cache, in place of the blocks they were made of (`Array.load` finds a block
in a band as well). One that is driven out before it was read through is spilled to the disk tier,
if there is one, and read from there piece by piece.

A *slab* is the bands that a plane needs, as deep as the chunks, so that each chunk is decoded once
for all its planes. Where the cache cannot hold that, who reads whole planes is served from *thin*
slabs, as deep as it can hold: with room for an eighth of 64 planes, each chunk is decoded ten times
then, and not 64 times.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from znfs.arrays.array import AT_ONCE, Array, Block, Turn, flat_bytes
from znfs.arrays.bandgrid import BandGrid
from znfs.arrays.lookahead import PlaneReads, Stream
from znfs.cache import memory
from znfs.cache.spill import Spill
from znfs.meta import Index, Shape

# A band stays below this part of the cache, so that several fit beside each other...
_CACHE_SHARE = 4
# ...and below this, so that the first bytes of it are not kept waiting for the last.
_MOST_BYTES = 64 << 20
# Bytes of whole chunks that are decoded for thin bands at once, one chunk at the least: as much as
# is held for the next blocks anyway (cache/memory.py).
_DECODED_AT_ONCE = 32 << 20
# The part of the cache that a slab and what is begun after it may take. With all of it, what else
# comes drives out a band of the slab for each plane that is read, to be loaded again for the next.
_SHARE_AHEAD = 7 / 8


class Band:
    """A band's elements, flat, and how many of them were not read yet (those read twice count
    twice)."""

    __slots__ = ("data", "unread")

    def __init__(self, data: Block) -> None:
        self.data = data
        self.unread = data.size

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def serve(self, elements: int) -> bool:
        """Count elements that were read; true once, when that makes all of the band."""
        before = self.unread
        self.unread = before - elements
        return self.unread <= 0 < before


def spill_to(spill: Spill) -> Callable[[Hashable, Any], None]:
    """What a cache does with a band it drives out: keep it on disk if it is still wanted."""

    def on_evict(key: Hashable, value: Any) -> None:
        if isinstance(value, Band) and value.unread > 0:
            spill.put(key, flat_bytes(value.data).data)

    return on_evict


def _most_of_band(array: Array) -> int:
    """Bytes of the largest band that is made."""
    # What is spilled need not stay: one at a time will do.
    share = _CACHE_SHARE if array.spill is None else 1
    return min(_MOST_BYTES, array.cache.limit // share)


def _chunk_depths(array: Array, order: tuple[int, ...]) -> Shape:
    """How many planes of the array chunks have along each axis but the last two."""
    return tuple(min(array.meta.chunks[d], array.meta.shape[d]) for d in order[:-2])


def _thin_depths(array: Array, order: tuple[int, ...]) -> Shape | None:
    """How many planes of a slab, along each axis but the last two, stay in the cache until a reader
    of whole planes comes back to it: even parts of the chunks' planes. None if all of these do, or
    no more than one."""
    meta, limit = array.meta, array.cache.limit
    shape = [meta.shape[d] for d in order]
    chunks = _chunk_depths(array, order)
    height = min(meta.chunks[order[-2]], shape[-2])
    row = shape[-1] * meta.dtype.itemsize  # in bytes, as all below
    planes = prod(chunks)
    held = limit
    if array.spill is not None and planes * height * row <= _most_of_band(array):
        held = max(held, array.spill.limit)  # what is spilled is not decoded again either
    if planes * shape[-2] * row <= held:
        return None
    depths: list[int] = []
    for d, chunk in enumerate(chunks):
        rest = prod(shape[d + 1 : -1]) * row
        depth = chunk
        if depth * rest > held:
            most = int(_SHARE_AHEAD * limit) // rest
            if d == len(shape) - 3:
                band = min(_MOST_BYTES, limit // _CACHE_SHARE)
                most = min(most, band // (prod(depths) * height * row))
            depth = -(-chunk // -(-chunk // max(1, most)))
        depths.append(depth)
    return tuple(depths) if 1 < prod(depths) < planes else None


class Bands:
    """The bands of an array whose axes run in `order`, in slabs of `depths` planes (see
    BandGrid)."""

    def __init__(
        self, array: Array, order: tuple[int, ...], depths: Shape, turn: Turn = AT_ONCE
    ) -> None:
        """Chunks are decoded within `turn`."""
        meta, cache = array.meta, array.cache
        self._array = array
        self._order = order
        self._turn = turn
        self._back = tuple(int(i) for i in np.argsort(order))
        shape, chunks = (tuple(axes[d] for d in order) for axes in (meta.shape, meta.chunks))
        self._grid = grid = BandGrid(shape, chunks, depths)
        # Bytes of a band, and how many of them there is room for.
        self._most = prod(depths) * grid.height * grid.row * meta.dtype.itemsize
        room = int(_SHARE_AHEAD * cache.limit) // max(1, self._most)
        self.room = room * grid.height * grid.row  # elements of a plane that they hold
        self._shard_rows, self._rows_at_once = self._rows_of_requests()
        self._stream = Stream(grid, max(0, room - grid.count), far=cache.far)
        self._lead_time = 0.0  # seconds that a band takes to load, of late
        self._rounds = -(-grid.count // max(1, cache.workers))  # of loading a slab, side by side

    def _rows_of_requests(self) -> tuple[int, int]:
        """How many bands a shard has part in, and how many of them come in one request: of distant
        shards, what lies side by side, as far as chunks are fetched together."""
        array = self._array
        if not array.meta.shards:
            return 1, 1
        grid = tuple(array.meta.shards[-1].grid[d] for d in self._order)
        most = array.most_together // grid[-1] if array.cache.far else 1
        return grid[-2], max(1, min(most, grid[-2]))

    @property
    def fits(self) -> bool:
        """Whether they are not too large for the cache, where blocks serve better."""
        return self._most <= _most_of_band(self._array)

    def copy(self, lo: int, hi: int, out: Block, wanted: int = 0) -> None:
        """Elements [lo, hi) of the run into `out`. Up to `wanted`, all will be asked for soon."""
        at = 0
        waited = False
        if not self._stream.is_near(lo):
            self._array.cache.recall(self._stream)
        goes_round = self._stream.is_steady(lo)
        index: Index = ()
        for index, offset, n, is_end in self._grid.segments(lo, hi):
            target = out[at : at + n]
            at += n
            # Who goes round comes back to a band that was passed after all others.
            passing = goes_round and is_end
            band = self._peek(index, passing=passing)
            if band is None:
                if self._read_spilled(index, offset, target):
                    continue
                waited = True
                # From here on: what came before may have been read through, and be gone.
                self._ahead(lo + at - n, max(hi, wanted), index)
                band = self._load(index)
                if passing:
                    self._array.cache.pass_by(self._key(index))
            self._serve(band, index, offset, target)
        self._follow(lo, hi, index, waited)

    def copy_cached(self, lo: int, hi: int, out: Block) -> bool:
        """As `copy`, if all of it is in the cache; else False."""
        at = 0
        for index, offset, n, _ in self._grid.segments(lo, hi):
            band = self._peek(index)
            if band is None:
                return False
            self._serve(band, index, offset, out[at : at + n])
            at += n
        return True

    def _serve(self, band: Band, index: Index, offset: int, out: Block) -> None:
        """Copy from a band. If it was thereby read through, the cache is told."""
        out[...] = band.data[offset : offset + len(out)]
        if band.serve(len(out)):
            self._stream.pass_by(index)
            self._array.cache.retire(self._key(index))

    def follows(self, lo: int) -> bool:
        """Whether a read from `lo` on continues those before it."""
        return self._stream.is_near(lo)

    def prefetch(self, lo: int, hi: int) -> None:
        """Begin loading the bands of elements [lo, hi)."""
        for index in self._grid.indexes(lo, hi):
            if not self._begin(index):
                return

    def _key(self, index: Index) -> Any:
        return self._array.key(self._order, self._most, index)

    def _nbytes(self, index: Index) -> int:
        return prod(self._grid.box(index)) * self._array.meta.dtype.itemsize

    def block(self, index: Index) -> Block | None:
        """The chunk at `index` of the array, cut out of its band if the cache has that; bands must
        run in the array's own order, and be as deep as chunks."""
        band = self._peek(index[:-1])
        if band is None:
            return None
        array, width = self._array, self._grid.chunks[-1]
        x = index[-1] * width
        part = band.data.reshape(self._grid.box(index[:-1]))[..., x : x + width]
        block = np.full(array.meta.chunks, array.fill, array.meta.dtype)
        block[tuple(slice(0, n) for n in part.shape)] = part
        block.setflags(write=False)
        return block

    def _peek(self, index: Index, *, passing: bool = False) -> Band | None:
        found = self._array.cache.peek(self._key(index), passing=passing)
        return None if found is None else found[0]

    def _read_spilled(self, index: Index, offset: int, out: Block) -> bool:
        """Read part of a band that the cache had to drive out."""
        spill = self._array.spill
        if spill is None:
            return False
        dtype = self._array.meta.dtype
        whole = out if out.dtype == dtype else np.empty(out.shape, dtype)
        start = offset * dtype.itemsize
        if not spill.read_into(self._key(index), start, flat_bytes(whole).data):
            return False
        if whole is not out:
            out[...] = whole
        return True

    def _load(self, index: Index) -> Band:
        band: Band = self._array.cache.get(
            self._key(index), self._nbytes(index), lambda: dict(self._assemble([index]))[index]
        )
        return band

    def _begin(self, index: Index, *, ahead_of: object = None) -> bool:
        """Begin loading a band in the background, with those that come in the same requests; False
        if there is no room for more. See BlockCache.prefetch."""
        if self._is_here(index):
            return True

        def load(keys: Sequence[Hashable]) -> Iterator[tuple[Hashable, Band]]:
            wanted = [i for i in together if self._key(i) in keys]
            return ((self._key(i), band) for i, band in self._assemble(wanted))

        together = [i for i in self._together(index) if not self._is_here(i)]
        items = [(self._key(i), self._nbytes(i)) for i in together]
        return self._array.cache.prefetch(items, load, ahead_of=ahead_of)

    def _is_here(self, index: Index) -> bool:
        """Whether the band is in the cache, or was spilled from it."""
        key, spill = self._key(index), self._array.spill
        return key in self._array.cache or (spill is not None and key in spill)

    def _together(self, index: Index) -> list[Index]:
        """The bands whose chunks are fetched with those of the band at `index`."""
        *slab, i_y = index
        shard, inside = divmod(i_y, self._shard_rows)
        first = i_y - inside % self._rows_at_once
        last = min(first + self._rows_at_once, (shard + 1) * self._shard_rows, self._grid.count)
        return [(*slab, i) for i in range(first, last)]

    def _assemble(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Band]]:
        """The bands at `indexes`, of one slab, put together."""
        began = time.monotonic()
        array, grid = self._array, self._grid
        width = grid.chunks[-1]
        bands = {index: memory.array(grid.box(index), array.meta.dtype) for index in indexes}
        slab = indexes[0][:-1]
        lead, planes = grid.in_chunks(slab)

        def put(at: Index, block: Block | None) -> None:
            i_y, i_x = at[self._order[-2]], at[self._order[-1]]
            part = bands[*slab, i_y][..., i_x * width : (i_x + 1) * width]
            if block is None:
                part[...] = array.fill
            else:
                rows, columns = part.shape[-2:]
                part[...] = block.transpose(self._order)[*planes, :rows, :columns]

        wanted = product((i_y for *_, i_y in indexes), range(-(-grid.row // width)))
        array.load_many(
            [tuple((*lead, *index)[d] for d in self._back) for index in wanted], put, self._turn
        )
        self._lead_time += (time.monotonic() - began - self._lead_time) / 4
        return ((index, Band(band.reshape(-1))) for index, band in bands.items())

    def _ahead(self, lo: int, hi: int, now: Index) -> None:
        """Before waiting for the band `now`: have the others that [lo, hi) needs come as well."""
        alone = self._rows_at_once == 1  # else it comes with others, whoever loads them
        for index in self._grid.indexes(lo, hi):
            if not (alone and index == now) and not self._begin(index):
                return

    def _follow(self, lo: int, hi: int, index: Index, waited: bool) -> None:
        """After a read that ended in the band `index`: if it continues one before it, begin what
        the reader will want next. For every read, so it does no more than it must."""
        stream = self._stream
        if not stream.note(lo, hi, waited):
            return
        left = stream.come_to(index, hi)
        if left is not None:
            for i in range(self._grid.count):
                self._array.cache.retire(self._key((*left, i)))
        for wanted in stream.next(index, hi, self._lead_time * self._rounds):
            if not self._begin(wanted, ahead_of=stream):
                return


class BandSets:
    """The bands of an array whose axes run in one order: as deep as chunks, and those of thin
    slabs, for who reads whole planes."""

    def __init__(self, array: Array, order: tuple[int, ...]) -> None:
        deep = Bands(array, order, _chunk_depths(array, order))
        if deep.fits and order == tuple(range(array.meta.ndim)):
            array.in_band = deep.block
        depths = _thin_depths(array, order)
        thin = None if depths is None else Bands(array, order, depths, _thin_turn(array))
        self._deep = deep if deep.fits else None
        self._thin = thin if thin and thin.fits else None
        rows, row = (array.meta.shape[d] for d in order[-2:])
        self._reads = PlaneReads(rows * row, row, deep.room)

    @classmethod
    def of(cls, array: Array, order: tuple[int, ...]) -> BandSets | None:
        """Those that all views of `array` have in common; None if it has no rows."""
        if array.meta.ndim < 2 or not array.meta.size:
            return None
        if order not in array.shared:
            array.shared[order] = cls(array, order)
        found: BandSets = array.shared[order]
        return found

    def choose(self, lo: int, hi: int, planes: int, *, reading: bool) -> Bands | None:
        """The bands for elements [lo, hi) of a file of `planes` whole planes; None where blocks
        serve better. What a reader takes is noted; else it is only asked what one will.

        A file of one plane is read as a whole. One that has only some rows of planes (0) leaves
        room for the others.
        """
        if self._thin is None or not planes:
            return self._deep
        if planes > 1:
            reads_all = self._reads.note(lo, hi) if reading else self._reads.expect(lo)
            if not reads_all:
                return self._deep
        return self._thin


def _thin_turn(array: Array) -> Turn:
    """What bounds decoding for thin bands.

    The cache counts what they take, and not the whole chunks that are decoded for them, which
    therefore take turns. (For all bands of distant stores, that took 1.1 of the time.)
    """
    at_once = _DECODED_AT_ONCE // max(1, array.meta.chunk_nbytes)
    return threading.Semaphore(max(1, min(at_once, os.cpu_count() or 1)))
