"""Shards: a Chunks over a Chunks (Zarr v3 `sharding_indexed`), and the stack of an array's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from znfs.cache import BlockCache, memory
from znfs.chunks import Chunks, Keyed
from znfs.codecs import Decoder, encoded_limit, unwrap
from znfs.errors import ChunkError, Stale
from znfs.meta import ArrayMeta, Edges, Index, Shard
from znfs.stores.base import Blob, Store

# An index entry of an absent chunk: offset and nbytes are both 2^64-1 (Zarr v3, sharding codec).
_ABSENT = 0xFFFF_FFFF_FFFF_FFFF
# Neighbouring chunks of a shard come in one ranged get if no more than this lies between them...
_COALESCE_GAP = 64 << 10
# ...and the get stays below this, so that the first chunk is not kept waiting for the last.
_COALESCE_MAX = 8 << 20
# No codec lets data that it cannot compress grow as far as twice its size and this; what is said
# to be longer is damaged or hostile, and not read into memory.
_GROWTH = 256
_SLACK = 1 << 20
_MOST_OFFSET = (1 << 63) - 1
_MOST_SHAPES = 256  # of shards, that are remembered


def stack(
    store: Store,
    path: str,
    meta: ArrayMeta,
    cache: BlockCache,
    identity: Any,
    missing_403: bool,
    confirm: Callable[[], None],
) -> Chunks:
    """The chunks of an array, through all levels of its shards.

    Each level knows how long its encoded chunks may be, from the declared sizes. `confirm` is
    Array's.
    """
    shape = meta.outer_chunks if meta.is_assembled else meta.chunks
    limit = encoded_limit(meta.codecs, meta.dtype, shape, meta.fill, meta.most_of_chunk)
    most = [2 * limit + _GROWTH]
    for shard in reversed(meta.shards):
        most.append(_index_nbytes(shard) + prod(shard.grid) * most[-1])
    chunks: Chunks = Keyed(store, path, meta.keys, most.pop() + _SLACK, missing_403)
    for level, shard in enumerate(meta.shards):
        edges = () if level else meta.edges
        make = partial(
            Sharded, chunks, cache=cache, identity=(identity, level),
            most_bytes=most.pop() + _SLACK, confirm=confirm,
        )  # fmt: skip
        chunks = UnlikeShards(make, shard, edges) if edges else make(shard)
    return chunks


def _index_nbytes(shard: Shard) -> int:
    """Bytes of a shard's encoded index."""
    checksums = sum(4 for codec in shard.index_codecs if codec.name == "crc32c")
    return 16 * prod(shard.grid) + checksums


class Sharded:
    """The chunks inside shards (Zarr v3 `sharding_indexed`); `outer` yields the shards.

    A cold chunk costs two ranged gets, the shard's index and then the chunk; the index is kept in
    the block cache under `identity`, which names the array's version. Gets below an index carry
    the version of the object the index came from, so that index and data are of one shard.
    An index that gives a chunk more than `most_bytes` is not believed. That a shard is absent is
    kept as well, so `confirm` is asked first: a store that was away for a moment would otherwise
    be remembered as one without shards.
    """

    def __init__(
        self,
        outer: Chunks,
        shard: Shard,
        *,
        cache: BlockCache,
        identity: Any,
        most_bytes: int,
        confirm: Callable[[], None],
    ) -> None:
        self._outer = outer
        self._shard = shard
        self._cache = cache
        self._identity = identity
        self._confirm = confirm
        ndim = len(shard.shape)
        self._order = shard.order or tuple(range(ndim))
        self._grid = shard.grid
        self._inner_grid = tuple(self._grid[d] for d in self._order)  # as the index counts
        self._index_nbytes = _index_nbytes(shard)
        self._most_bytes = most_bytes
        self._most_whole = self._index_nbytes + prod(self._grid) * (most_bytes - _SLACK) + _SLACK
        self._decoder = Decoder(
            shard.index_codecs,
            np.dtype("<u8"),
            (*self._inner_grid, 2),
            np.uint64(_ABSENT).tobytes(),
        )

    def key(self, index: Index) -> str:
        return f"{self._outer.key(self._split(index)[0])}[{','.join(map(str, index))}]"

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        shard, inside = self._split(index)
        blob: Blob | None
        for attempt in (1, 2):
            found = self._shard_index(shard)
            if found is None:
                return None
            entry = found.entry(inside)
            if entry is None:
                return None
            if not self._credible(entry):
                raise ChunkError(
                    f"{self.key(index)}: the shard's index says {entry[1]} bytes at {entry[0]}"
                )
            offset, nbytes = entry
            lo = offset + (max(0, nbytes + start) if start < 0 else min(start, nbytes))
            hi = offset + (nbytes if stop is None else min(stop, nbytes))
            if found.whole is not None:
                if if_match not in (None, found.version):
                    raise Stale(f"{self.key(index)}: has changed")
                blob = Blob(found.whole[lo:hi], found.version, 0.0)
            else:
                try:
                    blob = self._outer.get(
                        shard, lo, max(lo, hi), if_match=if_match or found.version
                    )
                    if blob is None:
                        raise Stale(f"{self.key(index)}: its shard is gone")
                except Stale:
                    # The shard was rewritten or removed after its index was read: again, once.
                    self._cache.forget((self._identity, "index", shard))
                    if if_match or attempt == 2:
                        raise
                    continue
            if len(blob.data) != hi - lo:
                raise ChunkError(
                    f"{self.key(index)}: the shard's index says bytes {lo} to {hi}, "
                    f"the shard has {len(blob.data)} of them"
                )
            return blob
        raise AssertionError("unreachable")

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        by_shard: dict[Index, list[tuple[Index, Index]]] = {}
        for index in indexes:
            shard, inside = self._split(index)
            by_shard.setdefault(shard, []).append((index, inside))
        for shard, wanted in by_shard.items():
            yield from self._get_from(shard, wanted)

    def _get_from(
        self, shard: Index, wanted: list[tuple[Index, Index]]
    ) -> Iterator[tuple[Index, Blob | None]]:
        found = self._shard_index(shard)
        if found is None:
            yield from ((index, None) for index, _ in wanted)
            return
        present, doubtful = [], []
        for index, inside in wanted:
            entry = found.entry(inside)
            if entry is None:
                yield index, None
            elif self._credible(entry):
                present.append((*entry, index))
            else:
                doubtful.append(index)
        present.sort()
        for run in _runs(present):
            lo, hi = run[0][0], max(offset + nbytes for offset, nbytes, _ in run)
            blob = None
            if len(run) > 1 and found.whole is None:
                try:
                    blob = self._outer.get(shard, lo, hi, if_match=found.version)
                except Stale:
                    self._cache.forget((self._identity, "index", shard))
            if blob is None or len(blob.data) != hi - lo:
                # One chunk, or something to be told apart chunk by chunk.
                yield from ((index, self.get(index)) for _, _, index in run)
                continue
            view = memoryview(blob.data)
            for offset, nbytes, index in run:
                data = view[offset - lo : offset - lo + nbytes]
                yield index, Blob(data, blob.version, blob.mtime)
        yield from ((index, self.get(index)) for index in doubtful)

    def _credible(self, entry: tuple[int, int]) -> bool:
        offset, nbytes = entry
        return nbytes <= self._most_bytes and offset + nbytes <= _MOST_OFFSET

    def _split(self, index: Index) -> tuple[Index, Index]:
        """The shard's index, and the chunk's index inside it, in the shard's own axes."""
        shard = tuple(i // n for i, n in zip(index, self._grid, strict=True))
        inside = tuple(i % n for i, n in zip(index, self._grid, strict=True))
        return shard, tuple(inside[d] for d in self._order)

    def _shard_index(self, shard: Index) -> _ShardIndex | None:
        """A shard's index; None if the shard is absent. Raises ChunkError, and as `confirm`."""
        key = (self._identity, "index", shard)
        found: _ShardIndex | None = self._cache.get(
            key, self._index_nbytes, lambda: self._load_index(shard)
        )
        return found

    def _load_index(self, shard: Index) -> _ShardIndex | None:
        n, at_end = self._index_nbytes, self._shard.index_at_end
        whole: memoryview | None = None
        try:
            if self._shard.outer:  # codecs over all of it: it cannot be read in parts
                blob = self._outer.get(shard)
                if blob is None:
                    self._confirm()
                    return None
                whole = memoryview(unwrap(self._shard.outer, blob.data, self._most_whole))
                data: bytes | memoryview = whole[-n:] if at_end else whole[:n]
            else:
                blob = self._outer.get(shard, *((-n, None) if at_end else (0, n)))
                if blob is None:
                    self._confirm()
                    return None
                data = blob.data
            if len(data) != n:
                raise ChunkError(f"too short for an index of {n} bytes")
            return _ShardIndex(memory.keep(self._decoder.decode(data)), blob.version, whole)
        except ChunkError as error:
            raise ChunkError(f"{self._outer.key(shard)}: shard index: {error}") from error


class UnlikeShards:
    """The chunks inside shards whose shapes differ (`rectilinear`), all multiples of a chunk's.

    `make(shard)` is a Sharded for shards of one shape. It counts as if all shards were of that
    shape, so that what is `n` chunks inside shard `s` is chunk `s * grid + n` to it.
    """

    def __init__(
        self, make: Callable[[Shard], Sharded], largest: Shard, edges: tuple[Edges, ...]
    ) -> None:
        self._chunks = largest.chunks
        self._edges = edges
        self._of = lru_cache(_MOST_SHAPES)(lambda shape: make(replace(largest, shape=shape)))

    def key(self, index: Index) -> str:
        sharded, place = self._place(index)
        return f"{sharded.key(place).rpartition('[')[0]}[{','.join(map(str, index))}]"

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        sharded, place = self._place(index)
        return sharded.get(place, start, stop, if_match=if_match)

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        groups: dict[Sharded, dict[Index, Index]] = {}
        for index in indexes:
            sharded, place = self._place(index)
            groups.setdefault(sharded, {})[place] = index
        for sharded, places in groups.items():
            for place, blob in sharded.get_many(list(places)):
                yield places[place], blob

    def _place(self, index: Index) -> tuple[Sharded, Index]:
        """Who has the shard of the chunk at `index`, and what that is called there."""
        shape, place = [], []
        for i, chunk, edges in zip(index, self._chunks, self._edges, strict=True):
            shard = edges.at(i * chunk)
            start, length = edges.span(shard)
            shape.append(length)
            place.append(shard * (length // chunk) + i - start // chunk)
        return self._of(tuple(shape)), tuple(place)


@dataclass(frozen=True)
class _ShardIndex:
    """A decoded shard index, as the cache keeps it.

    `table` has shape (..., 2): each chunk's offset and length. `version` is the shard's. `whole`
    is the shard itself where that had to be read whole.
    """

    table: np.ndarray[Any, Any]
    version: str
    whole: memoryview | None = None

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + (0 if self.whole is None else len(self.whole))

    def entry(self, inside: Index) -> tuple[int, int] | None:
        """Offset and length of a chunk; None if it is absent."""
        offset, nbytes = (int(v) for v in self.table[inside])
        return None if offset == nbytes == _ABSENT else (offset, nbytes)


def _runs(present: list[tuple[int, int, Index]]) -> Iterator[list[tuple[int, int, Index]]]:
    """Sorted (offset, nbytes, index) cut into runs that one ranged get may fetch."""
    run: list[tuple[int, int, Index]] = []
    end = 0
    for item in present:
        offset, nbytes, _ = item
        if run and (offset > end + _COALESCE_GAP or offset + nbytes - run[0][0] > _COALESCE_MAX):
            yield run
            run = []
        end = max(end, offset + nbytes) if run else offset + nbytes
        run.append(item)
    if run:
        yield run
