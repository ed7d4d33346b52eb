"""Groups and datasets of a file that is being planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from znfs.array import Array
from znfs.meta import Shape
from znfs.views.hdf5 import conversion, messages
from znfs.views.hdf5.attributes import attribute_messages
from znfs.views.hdf5.btree import SymbolTable
from znfs.views.hdf5.heap import GlobalHeap
from znfs.views.hdf5.messages import ObjectHeader
from znfs.views.hdf5.storage import Layout, NoStorage, Storage, storage


class Dataset:
    """A dataset. `address` is its object header's, set by the plan."""

    def __init__(
        self,
        shape: Shape,
        stored: conversion.Stored,
        fill: bytes,
        where: Storage,
        attributes: Mapping[str, Any],
    ) -> None:
        self.shape = shape
        self.stored = stored
        self.fill = fill
        self.storage = where
        self.attributes = dict(attributes)
        self.address = 0

    def header(self, heap: GlobalHeap) -> ObjectHeader:
        """Its object header; long attributes go to `heap`."""
        return ObjectHeader(
            [
                messages.dataspace(self.shape),
                messages.datatype(self.stored.datatype),
                messages.fill_value(self.fill, self.storage.allocation),
                self.storage.layout,
                *attribute_messages(self.attributes, heap),
            ]
        )


class GroupObject:
    """A group: its attributes, and its links by name."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = dict(attributes)
        self.children: dict[str, Dataset | GroupObject] = {}
        self.address = 0

    def header(self, heap: GlobalHeap, table: SymbolTable) -> ObjectHeader:
        """Its object header; `table` holds its links."""
        return ObjectHeader(
            [
                messages.symbol_table(lambda: (table.address, table.heap_address)),
                *attribute_messages(self.attributes, heap),
            ]
        )


def link_name(name: str) -> bytes:
    """A name as it stands in a local heap; B-tree order is the order of these bytes."""
    return name.encode("utf-8", "surrogateescape")


def dataset(array: Array, layout: Layout) -> Dataset:
    """The dataset of an array. Raises Unsupported if HDF5 cannot hold it."""
    meta = array.meta
    named = bool(meta.dimension_names)
    how = conversion.stored(meta.dtype, promote_float16=layout.promote_float16, netcdf=named)
    # Elements of variable length have theirs in chunks; as a default, none.
    fill = b""
    if not how.is_variable:
        fill = conversion.convert(array.fill.reshape(1), how.dtype).tobytes()
    return Dataset(
        meta.shape,
        how,
        fill,
        storage(array, how, layout),
        {**how.attributes, **meta.attributes},
    )


def dimension(size: int, attributes: Mapping[str, Any]) -> Dataset:
    """A dimension without values: a dataset of `size` elements, none stored."""
    how = conversion.stored(np.dtype("<f4"))
    return Dataset((size,), how, bytes(4), NoStorage(), attributes)
