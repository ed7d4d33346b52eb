"""Where a dataset's elements are: its layout message, its index and its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from znfs.arrays.array import Array
from znfs.arrays.extents import Blocks, Slab
from znfs.errors import Unsupported
from znfs.node import Extent
from znfs.views.hdf5 import messages
from znfs.views.hdf5.btree import ChunkBTree
from znfs.views.hdf5.conversion import Stored, same_bytes
from znfs.views.hdf5.messages import Message
from znfs.views.hdf5.pieces import ConvertedBlocks, Pieces
from znfs.views.hdf5.structures import (
    MAX_CHUNK,
    MAX_FILE,
    PAGE,
    UNDEFINED,
    align,
    gap,
)
from znfs.views.hdf5.variable import variable_data


@dataclass(frozen=True)
class Layout:
    """How a file is laid out, as far as a user may choose.

    `index`: "btree" (every reader) or "implicit" (HDF5 1.10 and later, no index bytes).
    `merge`: so many chunks of the store make one HDF5 chunk, for readers that walk the whole
    index; with the B-tree only.
    `characters`: text attributes are of fixed length, NetCDF's characters: NCO, CDO, Octave and
    Fortran programs pass over strings where they look for units or a grid.
    `promote_float16`: whether 16-bit floats are float32; None: in NetCDF files.
    """

    index: str = "btree"
    merge: int = 1
    promote_float16: bool | None = None
    characters: bool = False


class Storage:
    """Where the elements of a dataset are: a data layout message, an index and data.

    The plan sets both addresses; the layout message reads them when it is encoded.
    """

    layout: Message
    allocation = messages.LATE  # space allocation time, for the fill value message
    index_size = 0

    def __init__(self, data: Sequence[Extent] = ()) -> None:
        self._data = data
        self.data_size = sum(extent.size for extent in data)
        self.index_address = self.data_address = 0

    def index_extents(self) -> Sequence[Extent]:
        return ()

    def data_extents(self) -> Sequence[Extent]:
        return self._data

    def _where(self) -> int:
        return self.data_address


class NoStorage(Storage):
    """No element is stored: empty arrays, and dimensions without values."""

    def __init__(self) -> None:
        super().__init__()
        self.layout = messages.contiguous_layout(lambda: UNDEFINED, 0)


class Contiguous(Storage):
    """All elements in one run: of scalars, and of arrays whose chunks are too large for HDF5."""

    def __init__(self, array: Array, how: Stored) -> None:
        itemsize = how.dtype.itemsize
        if array.meta.ndim:
            super().__init__([Slab(array, dtype=how.dtype)])
        else:
            one = Pieces.of((), (), 1, itemsize)
            super().__init__(_chunks(array, one, how, self._where, dense=True)[0])
        self.layout = messages.contiguous_layout(self._where, array.meta.size * itemsize)


class Chunked(Storage):
    """Unfiltered chunks at a fixed stride, indexed by a version 1 B-tree."""

    allocation = messages.INCREMENTAL

    def __init__(self, array: Array, how: Stored, merge: int) -> None:
        itemsize = how.dtype.itemsize
        pieces = Pieces.of(array.meta.shape, array.meta.chunks, merge, itemsize)
        data, self._stride = _chunks(array, pieces, how, self._where)
        super().__init__(data)
        self._index = ChunkBTree(pieces.grid, pieces.chunk, pieces.nbytes)
        self.index_size = self._index.size
        self.layout = messages.chunked_layout(lambda: self.index_address, pieces.chunk, itemsize)

    def index_extents(self) -> Sequence[Extent]:
        base, stride = self.data_address, self._stride
        return self._index.extents(self.index_address, lambda numbers: base + numbers * stride)


class ImplicitlyIndexed(Storage):
    """Unfiltered chunks one after another without gaps: addresses need no index."""

    allocation = messages.EARLY

    def __init__(self, array: Array, how: Stored) -> None:
        itemsize = how.dtype.itemsize
        pieces = Pieces.of(array.meta.shape, array.meta.chunks, 1, itemsize)
        super().__init__(_chunks(array, pieces, how, self._where, dense=True)[0])
        self.layout = messages.implicit_layout(self._where, pieces.chunk, itemsize)


def storage(array: Array, how: Stored, layout: Layout) -> Storage:
    """The storage of an array whose elements are stored as `how` says.

    Raises Unsupported where HDF5 has no way to describe it.
    """
    meta = array.meta
    if meta.size == 0:
        return NoStorage()
    if meta.size * how.dtype.itemsize >= MAX_FILE:
        raise Unsupported("an HDF5 file cannot be that large")
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
