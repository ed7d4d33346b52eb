"""Reads an array of a local folder through znfs: store, format, shards, cache and codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from znfs.arrays.array import Array
from znfs.cache import BlockCache
from znfs.errors import MetadataError
from znfs.formats import FORMATS
from znfs.hierarchy import Hierarchy, Unreadable
from znfs.meta import ArrayMeta
from znfs.options import Options
from znfs.stores import open_store


def read_array(folder: Path) -> tuple[ArrayMeta, np.ndarray[Any, Any]]:
    """Metadata and values. Raises the MetadataError of an array that cannot be read."""
    store, _ = open_store(str(folder), Options())
    hierarchy = Hierarchy(store, BlockCache(64 << 20, 1), root_name="root", ttl=60.0)
    try:
        node = hierarchy.node("")
        if isinstance(node, Unreadable):
            raise MetadataError(str(parse(folder)))
        assert isinstance(node, Array), node
        return node.meta, assemble(node)
    finally:
        hierarchy.close()
        store.close()


def assemble(array: Array) -> np.ndarray[Any, Any]:
    """All blocks of an array, cut to its shape."""
    meta = array.meta
    whole = np.empty([g * c for g, c in zip(meta.grid, meta.chunks, strict=True)], meta.dtype)
    for index in np.ndindex(*meta.grid):
        block = array.block(index)
        assert block.shape == meta.chunks
        assert block.dtype == meta.dtype
        assert not block.flags.writeable
        place = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, meta.chunks, strict=True))
        whole[place] = block
    return whole[tuple(map(slice, meta.shape))]


def parse(folder: Path) -> Any:
    """The node that a folder's documents describe, by the first format that knows them."""
    for form in FORMATS:
        docs = {n: (folder / n).read_bytes() for n in form.documents if (folder / n).exists()}
        node = form.parse(docs) if docs else None
        if node is not None:
            return node
    return None


def same(ours: np.ndarray[Any, Any], theirs: Any) -> bool:
    """Whether two arrays hold the same bytes, whatever the byte order of `theirs`."""
    other = np.asarray(theirs)
    return ours.shape == other.shape and ours.tobytes() == other.astype(ours.dtype).tobytes()
