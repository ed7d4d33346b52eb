"""Blocks of one shape, put together from stored chunks of several (Zarr v3 `rectilinear`).

Views count in blocks of one shape, as all other grids have them. A stored chunk is fetched and
decoded once for all the blocks that need part of it: it is in the block cache as well, and the
first to go once the last block that needs it has been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np

from znfs.cache import BlockCache, memory
from znfs.chunks import Chunks
from znfs.codecs import Decoder
from znfs.errors import ChunkError
from znfs.meta import ArrayMeta, Index

Block = np.ndarray[Any, Any]

_MOST_SHAPES = 256  # of chunks, whose decoders are kept
_AHEAD = 64  # stored chunks of a block that are asked for at once


class Assembly:
    """The blocks of an array whose stored chunks differ in shape. Safe for many threads.

    `confirm` is Array's; `identity` names the array's version in the cache.
    """

    def __init__(
        self,
        meta: ArrayMeta,
        chunks: Chunks,
        cache: BlockCache,
        identity: Any,
        confirm: Callable[[], None],
    ) -> None:
        self._meta = meta
        self._chunks = chunks
        self._cache = cache
        self._identity = identity
        self._confirm = confirm
        self._fill = np.frombuffer(meta.fill, meta.dtype)[0:1].reshape(())
        self._decoder = lru_cache(_MOST_SHAPES)(
            lambda shape: Decoder(meta.codecs, meta.dtype, shape, meta.fill)
        )

    def block(self, index: Index) -> Block | None:
        """The block at `index`, as `Array.load`: None if all of its chunks are absent."""
        meta = self._meta
        lo = tuple(i * c for i, c in zip(index, meta.chunks, strict=True))
        hi = tuple(min(a + c, n) for a, c, n in zip(lo, meta.chunks, meta.shape, strict=True))
        axes = [
            range(e.at(a), e.at(b - 1) + 1) for e, a, b in zip(meta.edges, lo, hi, strict=True)
        ]
        if self._cache.far:
            self._prefetch(islice(product(*axes), 1, _AHEAD))
        out: Block | None = None
        for number in product(*axes):
            spans = [e.span(n) for e, n in zip(meta.edges, number, strict=True)]
            part = self.chunk(number)
            if part is not None:
                corners = list(zip(spans, lo, hi, strict=True))
                source = tuple(
                    slice(max(a - start, 0), b - start) for (start, _), a, b in corners
                )
                taken = part[source]
                if taken.shape == part.shape == meta.chunks:
                    return part
                if out is None:
                    out = np.full(meta.chunks, self._fill, meta.dtype)
                at = (max(start - a, 0) for (start, _), a, _ in corners)
                out[tuple(slice(k, k + n) for k, n in zip(at, taken.shape, strict=True))] = taken
            if all(start + n <= b for (start, n), b in zip(spans, hi, strict=True)):
                self._cache.retire(self._key(number))
        if out is not None:
            out.flags.writeable = False
        return out

    def chunk(self, index: Index) -> Block | None:
        """The stored chunk at `index` of the outer grid, decoded; None if it is absent.

        C order, little-endian, read-only, of `meta.stored_shape(index)`. Raises as `Array.load`.
        """
        key, nbytes = self._cost(index)
        return self._cache.get(key, nbytes, lambda: self._load(index))  # type: ignore[no-any-return]

    def _key(self, index: Index) -> Any:
        return self._identity, "stored", index

    def _cost(self, index: Index) -> tuple[Any, int]:
        """A stored chunk as the cache knows it: its key, and the bytes it decodes to."""
        nbytes = prod(self._meta.stored_shape(index)) * self._meta.dtype.itemsize
        return self._key(index), nbytes

    def _prefetch(self, indexes: Iterator[Index]) -> None:
        """Begin loading stored chunks, as long as there is room: each by itself, for what is asked
        for together is loaded one after another."""
        for index in indexes:
            if not self._cache.prefetch([self._cost(index)], self._load_many):
                return

    def _load_many(self, keys: Sequence[Any]) -> Iterator[tuple[Any, Block | None]]:
        for key in keys:
            yield key, self._load(key[-1])

    def _load(self, index: Index) -> Block | None:
        blob = self._chunks.get(index)
        if blob is None:
            self._confirm()
            return None
        try:
            spans = [e.span(n) for e, n in zip(self._meta.edges, index, strict=True)]
            ends = zip(spans, self._meta.shape, strict=True)
            inside = tuple(min(n, whole - start) for (start, n), whole in ends)
            decoder = self._decoder(tuple(n for _, n in spans))
            return memory.keep(decoder.decode(blob.data, inside))
        except ChunkError as error:
            raise ChunkError(f"{self._chunks.key(index)}: {error}") from error
