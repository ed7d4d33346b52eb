"""Virtual HDF5 and NetCDF-4 files: metadata is made when read, chunks come from the block cache.

| modules                                 | what                                                   |
|-----------------------------------------|--------------------------------------------------------|
| `structures`, `superblock`, `btree`,    | the structures of the HDF5 File Format Specification   |
| `heap`, `messages`, `datatypes`         | 3.0, one class or function each                        |
| `conversion`, `pieces`, `items`,        | elements and chunks: HDF5's in terms of the store's    |
| `variable`                              |                                                        |
| `storage`, `attributes`, `objects`      | datasets and groups, made of these                     |
| `netcdf`                                | what makes them NetCDF-4                               |
| `walk`, `build`                         | what is below a group, and the objects for it          |
| `plan`, `slots`                         | addresses: exact ones, and those of fixed slots        |
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from znfs.arrays.array import Array, Group
from znfs.codecs.forms import shown
from znfs.errors import Unsupported
from znfs.node import File
from znfs.views.hdf5 import attributes, collector, netcdf
from znfs.views.hdf5.build import Built, build_array, build_group
from znfs.views.hdf5.objects import Dataset, dataset
from znfs.views.hdf5.plan import PlannedFile
from znfs.views.hdf5.slots import SlotFile, slot_bits
from znfs.views.hdf5.storage import Layout
from znfs.views.hdf5.walk import MOST_DESCENDANTS, arrays_below, walk

__all__ = ["Layout", "array_file", "group_file", "is_netcdf", "refuse", "remarks"]

_DEFAULT = Layout()


class _Plans:
    """What was made of a group, which holds while the group's version does: of one whose metadata
    is not all at hand, less long."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # who makes it, of a group whose metadata is all at hand
        self.files: dict[Layout, File] = {}  # of such groups
        self.has_names: bool | None = None  # of dimensions; None: not known yet
        self.until = inf  # monotonic seconds: how long that holds

    def named(self) -> bool | None:
        """Whether dimensions have names, as far as it is known."""
        return self.has_names if time.monotonic() < self.until else None


_lock = threading.Lock()
_plans: WeakKeyDictionary[Group, _Plans] = WeakKeyDictionary()


def _plans_of(group: Group) -> _Plans:
    with _lock:
        return _plans.setdefault(group, _Plans())


def _begin_anew() -> None:
    """In a forked process, where nobody is left to let go of the lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def array_file(array: Array, name: str, layout: Layout = _DEFAULT) -> File:
    """`NAME.h5` of an array: the dataset `/NAME` with its attributes. Raises Unsupported."""
    built = build_array(array, name, layout)
    return PlannedFile(built.root, array.version, array.mtime)


def group_file(group: Group, layout: Layout = _DEFAULT) -> File:
    """`NAME.h5` of a group: the hierarchy below it.

    Its size and addresses are exact if all metadata is at hand, else it has fixed slots. Raises
    StoreError.
    """
    if not group.at_hand:
        return _exact_or_slots(group, layout)
    plans = _plans_of(group)
    with plans.lock:  # seconds of work of 20,000 arrays, for all who list a folder at once
        if layout not in plans.files:
            plans.files[layout] = _exact_or_slots(group, layout)
        return plans.files[layout]


def _exact_or_slots(group: Group, layout: Layout) -> File:
    with collector.paused():
        branch = walk(group)
        if branch is None:
            return SlotFile(group, layout)
        built = build_group(branch, layout)
        mtime = max(node.mtime for node in branch.nodes())
        return PlannedFile(built.root, branch.version(), mtime)


def refuse(node: Array | Group, layout: Layout) -> str | None:
    """Why a node has no HDF5 file; None if it has."""
    if isinstance(node, Group):
        return None
    try:
        dataset(node, layout)
    except Unsupported as error:
        return str(error)
    return None


def is_netcdf(node: Array | Group) -> bool:
    """Whether dimension names are known: of the array, or of an array below the group."""
    if isinstance(node, Array):
        return _has_names(node)
    plans = _plans_of(node)
    found = plans.named()
    if found is None:
        # Nobody waits here while another one asks a store: each has a deadline of its own.
        with plans.lock if node.at_hand else nullcontext():
            if (found := plans.named()) is None:
                began = time.monotonic()
                found = any(_has_names(below) for below in arrays_below(node))
                ended = time.monotonic()
                # What is below a group may change while its version stays, unless it came with it.
                # At most a tenth of the time goes to looking.
                plans.has_names = found
                plans.until = inf if node.at_hand else ended + 10 * (ended - began)
    return found


def _has_names(array: Array) -> bool:
    return bool(netcdf.dimension_names(array.meta))


def remarks(node: Array | Group, layout: Layout) -> list[str]:
    """What the node's file leaves out, renames or converts, and why."""
    if isinstance(node, Array):
        if refuse(node, layout) is not None:
            return []
        built = build_array(node, node.name, layout)
        made = [m for m in built.root.children.values() if isinstance(m, Dataset)]
        told = [*built.remarks, *(r for m in made for r in m.remarks), *_room(node)]
        all_there = built.root.children[node.name].attributes
        return [
            *(f"in HDF5: {remark}" for remark in told),
            *_attributes(node.meta.attributes, all_there),
        ]
    of_group = _attributes(node.meta.attributes, node.meta.attributes)
    branch = walk(node)
    if branch is None:
        return [
            f"in HDF5: more than {MOST_DESCENDANTS} nodes below, so the file has fixed slots and a "
            f"size of 2^62; a child of more than 2^{slot_bits(node, layout)} bytes is left out, "
            "and dimensions have no scales",
            *(
                f"in HDF5: {path} is left out: {why}"
                for path, why in SlotFile(node, layout).left_out()
            ),
            *of_group,
        ]
    return [*_shown(build_group(branch, layout)), *of_group]


def _room(array: Array) -> list[str]:
    meta = array.meta
    if not meta.is_variable:
        return []
    return [
        f"a chunk whose elements take more than {meta.most_of_chunk} bytes together cannot be "
        f"read (--string-bytes {meta.string_bytes})"
    ]


def _shown(built: Built) -> list[str]:
    return [f"in HDF5: {remark}" for remark in built.remarks]


def _attributes(given: Mapping[str, Any], all_there: Collection[str]) -> list[str]:
    """What becomes of a node's attributes: which are renamed, or shown as JSON text. Its object
    has `all_there`."""
    out = [
        f"in HDF5: attribute {shown(name)} is named {legal!r}"
        for name, legal in zip(given, attributes.names(given), strict=True)
        if name != legal
    ]
    if (rest := attributes.name_of_rest(all_there)) is not None:
        out.append(f"in HDF5: too many attributes: the last ones are JSON text in {rest!r}")
    texts = [name for name, value in given.items() if attributes.is_text(value)]
    if texts:
        out.append(f"in HDF5: as JSON text: attribute {', '.join(map(repr, texts))}")
    return out
