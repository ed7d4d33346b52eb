"""Arrays and groups: metadata bound to a store and the block cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from znfs.cache import BlockCache, memory
from znfs.chunks import Chunks
from znfs.chunks.disk import StoreTier
from znfs.chunks.rectilinear import Assembly
from znfs.chunks.shards import stack
from znfs.codecs import Decoder
from znfs.errors import ChunkError
from znfs.forks import cached_property
from znfs.meta import ArrayMeta, GroupMeta, Index
from znfs.stores.base import Blob, Store

Block = np.ndarray[Any, Any]
Turn = AbstractContextManager[Any]  # what bounds how many chunks are decoded at once
AT_ONCE: Turn = nullcontext()

# Chunks of a shard that are loaded together decode to about this.
_BATCH_BYTES = 8 << 20


class Array:
    """An array of one version.

    `confirm` is called when a chunk is absent and raises Stale unless the array's metadata still
    stands: a store that is gone must not look like fill values (docs/SEMANTICS.md, "Changes in the
    store"). `generation` tells blocks apart that were loaded before and after a refresh.
    """

    def __init__(
        self,
        path: str,
        name: str,
        meta: ArrayMeta,
        version: str,
        mtime: float,
        store: Store,
        cache: BlockCache,
        confirm: Callable[[], None],
        missing_403: bool = False,
        disk: StoreTier | None = None,
        generation: int = 0,
    ) -> None:
        self.path = path
        self.name = name
        self.meta = meta
        self.version = version
        self.mtime = mtime
        self.fill = (
            np.array(meta.fill, object) if meta.is_variable
            else np.frombuffer(meta.fill, meta.dtype)[0:1].reshape(())
        )  # fmt: skip
        self.confirm = confirm
        self._identity = f"{path}\0{version}\0{generation}"
        self.cache = cache
        self.shared: dict[Hashable, Any] = {}  # what views of this array keep in common
        # The chunk at an index, out of what else the cache has of the array; None if it has not.
        self.in_band: Callable[[Index], Block | None] | None = None
        self._nbytes = meta.chunk_nbytes
        self._store = store
        self._missing_403 = missing_403
        self._disk = disk
        self.spill = None if disk is None else disk.spill
        self._assembly = (
            Assembly(meta, self._chunks, cache, self._identity, confirm)
            if meta.is_assembled else None
        )  # fmt: skip

    # Made when a chunk is first asked for: a group may have more arrays than anybody reads.
    @cached_property
    def _decoder(self) -> Decoder:
        meta = self.meta
        return Decoder(
            meta.codecs, meta.dtype, meta.chunks, meta.fill, meta.most_of_chunk, meta.clipped_chunk
        )

    @cached_property
    def _chunks(self) -> Chunks:
        chunks = stack(
            self._store, self.path, self.meta, self.cache, self._identity, self._missing_403,
            self.confirm,
        )  # fmt: skip
        disk = self._disk
        return chunks if disk is None else disk.over(chunks, f"{self.path}\0{self.version}")

    def block(self, index: Index) -> Block:
        """The decoded chunk at `index`: full chunk shape, C order, little-endian, read-only.

        Parts beyond the array's edge, and chunks the store does not have, hold the fill value.
        Elements of variable length have no such form: see `load`.
        Raises ChunkError for damage, Stale if the array has gone, Denied, StoreError.
        """
        value = self.load(index)
        return np.broadcast_to(self.fill, self.meta.chunks) if value is None else value

    def load(self, index: Index) -> Block | None:
        """As `block`, but None for a chunk the store does not have. Elements of variable length
        are packed (codecs.vlen), those beyond the array's edge at its first chunk left out."""
        return self.cache.get(self.key(index), self._nbytes, lambda: _kept(self._load(index)))  # type: ignore[no-any-return]

    def stored_chunk(self, index: Index) -> Block | None:
        """The chunk at `index` of `meta.keyed_grid`, in the shape it is stored in; else `load`."""
        return self.load(index) if self._assembly is None else self._assembly.chunk(index)

    def peek(self, index: Index) -> tuple[Block | None] | None:
        """What `load` would answer, in a tuple, if the cache has it; else None."""
        return self.cache.peek(self.key(index))

    def is_cached(self, index: Index) -> bool:
        """Whether the chunk at `index` is in the cache. Nobody uses it by asking."""
        return self.key(index) in self.cache

    def is_expected(self, index: Index) -> bool:
        """Whether the chunk at `index` is in the cache or being loaded."""
        return self.cache.expects(self.key(index))

    def load_many(
        self,
        indexes: Sequence[Index],
        put: Callable[[Index, Block | None], None],
        turn: Turn = AT_ONCE,
    ) -> None:
        """`put(index, block)` for each of `indexes`, in any order and from several threads.

        What is not in the cache is loaded and not kept; each is decoded within `turn`. Raises the
        first error.
        """
        missing = []
        for index in indexes:
            found = self.peek(index)
            if found is None:
                missing.append(index)
            else:
                put(index, found[0])

        def load(batch: list[Index]) -> None:
            for index, block in self._load_batch(batch, turn):
                put(index, block)

        self.cache.spread([partial(load, batch) for batch in self._batches(missing)])

    def prefetch(self, indexes: Iterable[Index], *, ahead_of: object = None) -> bool:
        """Begin loading blocks the cache lacks, for a read that is under way or for where the
        reader `ahead_of` may come next; a hint. False if there was no room for all."""

        def load(keys: Sequence[Any]) -> Iterator[tuple[Any, Block | None]]:
            for at, block in self._load_batch([at for _, at in keys]):
                yield self.key(at), _kept(block)

        # Near by, neighbours in a shard are decoded side by side sooner than read together: .h5 of
        # a local sharded array reads 1.15 times as fast.
        batches = self._batches(indexes) if self.cache.far else ([at] for at in indexes)
        return all(
            self.cache.prefetch(
                [(self.key(at), self._nbytes) for at in batch], load, ahead_of=ahead_of
            )
            for batch in batches
        )

    @property
    def room(self) -> int:
        """How many of the array's chunks the cache can hold."""
        return self.cache.limit // max(1, self._nbytes)

    @property
    def most_together(self) -> int:
        """How many chunks of a shard are loaded together at the most."""
        return max(1, _BATCH_BYTES // max(1, self._nbytes))

    def key(self, *what: Hashable) -> Hashable:
        """The cache's key of a chunk, by its index, or of something made of chunks."""
        return self._identity, *what

    def chunk_key(self, index: Index) -> str:
        """The store key the chunk at `index` of `meta.keyed_grid` comes from."""
        return self._chunks.key(index)

    def _batches(self, indexes: Iterable[Index]) -> Iterator[list[Index]]:
        """`indexes` in groups that are loaded together: chunks of one shard, else single ones."""
        if not self.meta.shards:
            yield from ([index] for index in indexes)
            return
        grid = self.meta.shards[-1].grid
        most = self.most_together
        groups: dict[Index, list[Index]] = {}
        for index in indexes:
            shard = tuple(i // n for i, n in zip(index, grid, strict=True))
            groups.setdefault(shard, []).append(index)
        for group in groups.values():
            for at in range(0, len(group), most):
                yield group[at : at + most]

    def _load(self, index: Index, turn: Turn = AT_ONCE) -> Block | None:
        if self.in_band is not None and (block := self.in_band(index)) is not None:
            return block
        if self._assembly is not None:
            return self._assembly.block(index)
        return self._decode(index, self._chunks.get(index), turn)

    def _load_batch(
        self, batch: list[Index], turn: Turn = AT_ONCE
    ) -> Iterator[tuple[Index, Block | None]]:
        if len(batch) == 1:
            yield batch[0], self._load(batch[0], turn)
            return
        for index, blob in self._chunks.get_many(batch):
            yield index, self._decode(index, blob, turn)

    def _decode(self, index: Index, blob: Blob | None, turn: Turn) -> Block | None:
        if blob is None:
            self.confirm()
            return None
        try:
            with turn:
                return self._decoder.decode(blob.data, self.meta.inside(index))
        except ChunkError as error:
            raise ChunkError(f"{self._chunks.key(index)}: {error}") from error


class Group:
    """A group of one version. Its children are looked up when asked for.

    `at_hand` says that the metadata of all below came with it, or with a group above: `version`
    is then that of all below, too.
    """

    def __init__(
        self,
        path: str,
        name: str,
        meta: GroupMeta,
        version: str,
        mtime: float,
        names: Callable[[], Sequence[str]],
        child: Callable[[str], Array | Group | None],
        at_hand: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.meta = meta
        self.version = version
        self.mtime = mtime
        self.at_hand = at_hand
        self._names = names
        self._child = child

    def names(self) -> Sequence[str]:
        """Names of the arrays and groups directly below, sorted."""
        return self._names()

    def child(self, name: str) -> Array | Group | None:
        """The array or group of that name; None if it is neither, or cannot be read."""
        return self._child(name)


def _kept(block: Block | None) -> Block | None:
    return None if block is None else memory.keep(block)


def flat_bytes(block: Block) -> memory.Bytes:
    """A C-contiguous array as a flat array of its bytes, without a copy."""
    flat: memory.Bytes = block.reshape(-1).view(np.uint8)
    return flat
