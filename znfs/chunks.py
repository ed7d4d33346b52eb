"""Chunks: a grid index to encoded bytes. Sharding is a Chunks over a Chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from znfs.cache import BlockCache
from znfs.codecs import Decoder, unwrap
from znfs.errors import ChunkError, Stale
from znfs.meta import ChunkKeys, CodecSpec, Index, Shard
from znfs.stores.base import Blob, Store

# An index entry of an absent chunk: offset and nbytes are both 2^64-1 (Zarr v3, sharding codec).
_ABSENT = 0xFFFF_FFFF_FFFF_FFFF
# Neighbouring chunks of a shard come in one ranged get if no more than this lies between them...
_COALESCE_GAP = 64 << 10
# ...and the get stays below this, so that the first chunk is not kept waiting for the last.
_COALESCE_MAX = 8 << 20


class Chunks(Protocol):
    def key(self, index: Index) -> str:
        """What to call the chunk at `index` in messages and logs."""

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        """The encoded bytes [start, stop) of the chunk at `index`, or None if it is absent.

        As Store.get: a negative start is a suffix; `if_match` demands a version of the object.
        """

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        """The chunks at `indexes`, in any order; neighbours come together where that is cheaper."""


class Keyed:
    """One stored object a chunk."""

    def __init__(self, store: Store, path: str, keys: ChunkKeys) -> None:
        self._store = store
        self._prefix = path + "/" if path else ""
        self._keys = keys

    def key(self, index: Index) -> str:
        return self._prefix + self._keys.key(index)

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        return self._store.get(self.key(index), start, stop, if_match=if_match)

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        for index in indexes:
            yield index, self.get(index)


class Sharded:
    """The chunks inside shards (Zarr v3 `sharding_indexed`); `outer` yields the shards.

    A cold chunk costs two ranged gets, the shard's index and then the chunk; the index is kept in
    the block cache under `identity`, which names the array's version. Gets below an index carry
    the version of the object the index came from, so that index and data are of one shard.
    """

    def __init__(self, outer: Chunks, shard: Shard, cache: BlockCache, identity: Any) -> None:
        self._outer = outer
        self._shard = shard
        self._cache = cache
        self._identity = identity
        ndim = len(shard.shape)
        self._order = shard.order or tuple(range(ndim))
        self._grid = shard.grid
        self._inner_grid = tuple(self._grid[d] for d in self._order)  # as the index counts
        count = prod(self._grid)
        self._index_nbytes = 16 * count + sum(
            4 for codec in shard.index_codecs if codec.name == "crc32c"
        )
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
        for attempt in (1, 2):
            found = self._shard_index(shard)
            if found is None:
                return None
            table, version, whole = found
            offset, nbytes = (int(v) for v in table[inside])
            if offset == nbytes == _ABSENT:
                return None
            lo = offset + (max(0, nbytes + start) if start < 0 else min(start, nbytes))
            hi = offset + (nbytes if stop is None else min(stop, nbytes))
            if whole is not None:
                data = whole[lo:hi]
                blob: Blob | None = Blob(data, version, 0.0)
            else:
                try:
                    blob = self._outer.get(shard, lo, max(lo, hi), if_match=if_match or version)
                except Stale:
                    # The shard was rewritten after its index was read: begin again, once.
                    self._cache.forget((self._identity, "index", shard))
                    if if_match or attempt == 2:
                        raise
                    continue
            if blob is None or len(blob.data) != hi - lo:
                raise ChunkError(
                    f"{self.key(index)}: the shard's index says bytes {lo} to {hi}, "
                    f"the shard has {'none' if blob is None else len(blob.data)} of them"
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
        table, version, _ = found
        present = []
        for index, inside in wanted:
            offset, nbytes = (int(v) for v in table[inside])
            if offset == nbytes == _ABSENT:
                yield index, None
            else:
                present.append((offset, nbytes, index))
        present.sort()
        for run in _runs(present):
            lo, hi = run[0][0], max(offset + nbytes for offset, nbytes, _ in run)
            blob = None
            if len(run) > 1:
                try:
                    blob = self._outer.get(shard, lo, hi, if_match=version)
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

    def _split(self, index: Index) -> tuple[Index, Index]:
        """The shard's index, and the chunk's index inside it, in the shard's own axes."""
        shard = tuple(i // n for i, n in zip(index, self._grid, strict=True))
        inside = tuple(i % n for i, n in zip(index, self._grid, strict=True))
        return shard, tuple(inside[d] for d in self._order)

    def _shard_index(self, shard: Index) -> tuple[Any, str, memoryview | None] | None:
        """The index (..., 2) of offsets and lengths, the shard's version, its bytes if unwrapped."""
        key = (self._identity, "index", shard)
        found = self._cache.get(key, self._index_nbytes, lambda: self._load_index(shard))
        return None if found is None else (found.table, found.version, found.whole)

    def _load_index(self, shard: Index) -> _ShardIndex | None:
        n = self._index_nbytes
        whole: memoryview | None = None
        if self._shard.outer:
            blob = self._outer.get(shard)
            if blob is None:
                return None
            limit = n + 2 * prod(self._grid) * (1 << 20)
            whole = memoryview(self._named(shard, lambda: unwrap_to(self._shard, blob.data, limit)))
            data: bytes | memoryview = whole[-n:] if self._shard.index_at_end else whole[:n]
        else:
            at = (-n, None) if self._shard.index_at_end else (0, n)
            blob = self._outer.get(shard, *at)
            if blob is None:
                return None
            data = blob.data
        if len(data) != n:
            raise ChunkError(f"{self._outer.key(shard)}: too short for a shard's index of {n} bytes")
        table = self._named(shard, lambda: self._decoder.decode(data))
        return _ShardIndex(table, blob.version, whole)

    def _named(self, shard: Index, decode: Callable[[], Any]) -> Any:
        try:
            return decode()
        except ChunkError as error:
            raise ChunkError(f"{self._outer.key(shard)}: shard index: {error}") from error


class _ShardIndex:
    """A decoded shard index in the cache."""

    __slots__ = ("nbytes", "table", "version", "whole")

    def __init__(self, table: Any, version: str, whole: memoryview | None) -> None:
        self.table = table
        self.version = version
        self.whole = whole
        self.nbytes = table.nbytes + (len(whole) if whole is not None else 0)


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


def unwrap_to(shard: Shard, data: bytes | memoryview, limit: int) -> bytes:
    """A shard's bytes without the codecs applied to the whole of it."""
    specs: tuple[CodecSpec, ...] = shard.outer
    return unwrap(specs, data, limit)
