"""Where a dataset's elements are: its layout message, its index and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from znfs.array import Array
from znfs.errors import Unsupported
from znfs.extents import Blocks, Slab
from znfs.node import Extent
from znfs.views.hdf5 import messages
from znfs.views.hdf5.btree import ChunkBTree
from znfs.views.hdf5.conversion import Stored, same_bytes
from znfs.views.hdf5.messages import Message
from znfs.views.hdf5.pieces import ConvertedBlocks, Pieces
from znfs.views.hdf5.structures import MAX_CHUNK, MAX_RANK, PAGE, UNDEFINED, align, gap
from znfs.views.hdf5.variable import variable_data


@dataclass(frozen=True)
class Layout:
    """What a user may choose.

    `index`: "btree" (every reader) or "implicit" (HDF5 1.10 and later, no index bytes).
    `merge`: so many chunks of the store make one HDF5 chunk, for readers that walk the whole
    index; with the B-tree only.
    """

    index: str = "btree"
    merge: int = 1
    promote_float16: bool = False


class Storage(Protocol):
    """The plan sets both addresses; the layout message reads them when it is encoded."""

    layout: Message
    allocation: int  # space allocation time, for the fill value message
    index_size: int
    data_size: int
    index_address: int
    data_address: int

    def index_extents(self) -> list[Extent]: ...
    def data_extents(self) -> list[Extent]: ...


class NoStorage:
    """No element is stored: empty arrays, and dimensions without values."""

    allocation = messages.LATE
    index_size = data_size = index_address = data_address = 0

    def __init__(self) -> None:
        self.layout = messages.contiguous_layout(lambda: UNDEFINED, 0)

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return []


class Contiguous:
    """All elements in one run: of scalars, and of arrays whose chunks are too large for HDF5."""

    allocation = messages.LATE
    index_size = index_address = 0

    def __init__(self, array: Array, how: Stored) -> None:
        if array.meta.ndim:
            self._data: list[Extent] = [Slab(array, dtype=how.dtype)]
        else:
            one = Pieces.of((), (), 1, how.dtype.itemsize)
            self._data, _ = _chunks(array, one, how, lambda: self.data_address, dense=True)
        self.data_size = sum(extent.size for extent in self._data)
        self.data_address = 0
        nbytes = array.meta.size * how.dtype.itemsize
        self.layout = messages.contiguous_layout(lambda: self.data_address, nbytes)

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return self._data


class Chunked:
    """Unfiltered chunks at a fixed stride, indexed by a version 1 B-tree."""

    allocation = messages.INCREMENTAL

    def __init__(self, array: Array, how: Stored, merge: int) -> None:
        meta = array.meta
        pieces = Pieces.of(meta.shape, meta.chunks, merge, how.dtype.itemsize)
        self._index = ChunkBTree(pieces.grid, pieces.chunk, pieces.nbytes)
        self._data, self._stride = _chunks(array, pieces, how, lambda: self.data_address)
        self.index_size = self._index.size
        self.data_size = sum(extent.size for extent in self._data)
        self.index_address = self.data_address = 0
        self.layout = messages.chunked_layout(
            lambda: self.index_address, pieces.chunk, how.dtype.itemsize
        )

    def index_extents(self) -> list[Extent]:
        base, stride = self.data_address, self._stride
        return self._index.extents(self.index_address, lambda numbers: base + numbers * stride)

    def data_extents(self) -> list[Extent]:
        return self._data


class ImplicitlyIndexed:
    """Unfiltered chunks one after another without gaps: addresses need no index."""

    allocation = messages.EARLY
    index_size = index_address = 0

    def __init__(self, array: Array, how: Stored) -> None:
        pieces = Pieces.of(array.meta.shape, array.meta.chunks, 1, how.dtype.itemsize)
        self._data, _ = _chunks(array, pieces, how, lambda: self.data_address, dense=True)
        self.data_size = sum(extent.size for extent in self._data)
        self.data_address = 0
        self.layout = messages.implicit_layout(
            lambda: self.data_address, pieces.chunk, how.dtype.itemsize
        )

    def index_extents(self) -> list[Extent]:
        return []

    def data_extents(self) -> list[Extent]:
        return self._data


def storage(array: Array, how: Stored, layout: Layout) -> Storage:
    """The storage of an array whose elements are stored as `how` says.

    Raises Unsupported where HDF5 has no way to describe it.
    """
    meta = array.meta
    if meta.ndim > MAX_RANK:
        raise Unsupported(f"{meta.ndim} dimensions; HDF5 has at most {MAX_RANK}")
    if any(n > UNDEFINED >> 1 for n in meta.shape):
        raise Unsupported("a dimension of 2^63 or more")
    if meta.size == 0:
        return NoStorage()
    if meta.ndim == 0:
        return Contiguous(array, how)
    if prod(meta.clipped_chunk) * how.dtype.itemsize > MAX_CHUNK:
        if how.is_variable or not (
            np.can_cast(meta.dtype, how.dtype) or same_bytes(meta.dtype, how.dtype)
        ):
            raise Unsupported("chunks of 4 GiB or more whose type must be converted")
        return Contiguous(array, how)
    if layout.index == "implicit":
        return ImplicitlyIndexed(array, how)
    return Chunked(array, how, layout.merge)


def _chunks(
    array: Array, pieces: Pieces, how: Stored, address: Callable[[], int], *, dense: bool = False
) -> tuple[list[Extent], int]:
    """The data of a dataset, to stand at `address()`, and the distance from chunk to chunk.

    Chunks begin on pages unless they are `dense`: then nothing lies between them. Raises
    Unsupported.
    """
    meta = array.meta
    if how.is_variable:
        return variable_data(array, pieces, address, dense=dense)
    nbytes = pieces.nbytes
    stride = nbytes if dense else align(nbytes + gap(nbytes), PAGE)
    if pieces.chunk == meta.chunks and same_bytes(meta.dtype, how.dtype):
        return [Blocks(array, 0, pieces.count, stride)], stride
    return [ConvertedBlocks(array, pieces, how.dtype, stride)], stride
