"""Groups and datasets of a file that is being planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from znfs.arrays.array import Array, Group
from znfs.errors import ChunkError
from znfs.meta import Shape
from znfs.views.hdf5 import conversion, messages
from znfs.views.hdf5.attributes import attribute_messages
from znfs.views.hdf5.btree import SymbolTable
from znfs.views.hdf5.heap import GlobalHeap
from znfs.views.hdf5.messages import ObjectHeader
from znfs.views.hdf5.storage import Layout, NoStorage, Storage, storage

# Attributes of a dataset's dimensions. netCDF-C crashes of others that are called so.
_OF_DIMENSIONS = ("DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")
# It takes these for one number: of lists it crashes, and of text it opens no file.
_QUANTISATION = (
    "_QuantizeBitGroomNumberOfSignificantDigits",
    "_QuantizeGranularBitRoundNumberOfSignificantDigits",
    "_QuantizeBitRoundNumberOfSignificantBits",
)
# h5netcdf takes these for text, of arrays without dimensions, too.
_OF_SCALES = ("CLASS", "NAME")
_SCALE = "CLASS", "DIMENSION_SCALE"


class Dataset:
    """A dataset. `address` is its object header's, set by the plan; `remarks` tell what of the
    array's type, fill value and attributes is not as it was. `characters` is Layout's."""

    def __init__(
        self,
        shape: Shape,
        stored: conversion.Stored,
        fill: bytes,
        where: Storage,
        attributes: Mapping[str, Any],
        remarks: Sequence[str] = (),
        *,
        characters: bool = False,
    ) -> None:
        self.shape = shape
        self.stored = stored
        self.fill = fill
        self.storage = where
        self.attributes = dict(attributes)
        self.remarks = tuple(remarks)
        self.address = 0
        self._characters = characters

    def reserve(self, *names: str) -> None:
        """Move the user's attributes that are called so, for a meaning that these have."""
        attributes = {}
        for name, value in self.attributes.items():
            free = name
            if name in names or (name, value) == _SCALE:
                free += "_"
                while free in self.attributes:
                    free += "_"
                self.remarks += (f"attribute {name!r} is named {free!r}",)
            attributes[free] = value
        self.attributes = attributes

    def header(self, heap: GlobalHeap) -> ObjectHeader:
        """Its object header; long attributes go to `heap`."""
        return ObjectHeader(
            [
                messages.dataspace(self.shape),
                messages.datatype(self.stored.datatype),
                messages.fill_value(self.fill, self.storage.allocation),
                self.storage.layout,
                *attribute_messages(self.attributes, heap, self._characters),
            ]
        )


class GroupObject:
    """A group: its attributes, and its links by name. `address` and `characters` are as of
    Dataset."""

    def __init__(self, attributes: Mapping[str, Any], *, characters: bool = False) -> None:
        self.attributes = dict(attributes)
        self.children: dict[str, Dataset | GroupObject] = {}
        self.address = 0
        self._characters = characters

    def header(self, heap: GlobalHeap, table: SymbolTable) -> ObjectHeader:
        """Its object header; long attributes go to `heap`, `table` holds its links."""
        return ObjectHeader(
            [
                messages.symbol_table(lambda: (table.address, table.heap_address)),
                *attribute_messages(self.attributes, heap, self._characters),
            ]
        )


def link_name(name: str) -> bytes:
    """A name as it stands in a local heap; B-tree order is the order of these bytes."""
    return name.encode("utf-8", "surrogateescape")


def group_object(group: Group, layout: Layout) -> GroupObject:
    """The object of a group, without links."""
    return GroupObject(group.meta.attributes, characters=layout.characters)


def dataset(array: Array, layout: Layout, *, netcdf: bool | None = None) -> Dataset:
    """The dataset of an array. Raises Unsupported if HDF5 cannot hold it.

    `netcdf` tells whether its file is NetCDF; None: as far as the array alone can tell.
    """
    meta = array.meta
    if netcdf is None:
        netcdf = bool(meta.dimension_names)
    how = conversion.stored(meta.dtype, promote_float16=layout.promote_float16, netcdf=netcdf)
    fill, remarks = _fill(array, how)
    made = Dataset(
        meta.shape,
        how,
        fill,
        storage(array, how, layout),
        {**how.attributes, **meta.attributes},
        (*how.remarks, *remarks),
        characters=layout.characters,
    )
    made.reserve(*_OF_DIMENSIONS, *_misleading(meta.attributes))
    return made


def _misleading(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Names that readers take for those of their own attributes, which never have such values."""
    for name in _QUANTISATION:
        value = attributes.get(name)
        if type(value) is not int or abs(value) >= 1 << 31:
            yield name
    for name in _OF_SCALES:
        if not isinstance(attributes.get(name), str):
            yield name
    fill = attributes.get("_FillValue")
    if isinstance(fill, list) and len(fill) != 1:
        yield "_FillValue"  # netCDF4-python could not read such a variable


def _fill(array: Array, how: conversion.Stored) -> tuple[bytes, tuple[str, ...]]:
    """The fill value, or nothing where HDF5 has no room for it: all elements are in the file, so
    nobody needs it. And what that changes."""
    if how.is_variable:  # these have theirs in chunks
        return b"", ()
    if how.dtype.itemsize > messages.MOST_FILL:
        is_zero = not array.meta.fill.strip(b"\0")  # as is HDF5's own
        return b"", () if is_zero else (f"no fill value: it takes {how.dtype.itemsize} bytes",)
    try:
        return conversion.convert(array.fill.reshape(1), how.dtype).tobytes(), ()
    except ChunkError as error:
        return b"", (f"no fill value: it is {error}",)


def dimension(size: int, attributes: Mapping[str, Any]) -> Dataset:
    """A dimension without values: a dataset of `size` elements, none stored. They are floats, as
    netCDF-C's are, unless HDF5 could not count the bytes of so many."""
    how = conversion.stored(np.dtype("<f4" if size < 1 << 60 else "u1"))
    return Dataset((size,), how, bytes(how.dtype.itemsize), NoStorage(), attributes)
