"""Where a file of the tree comes from, in words: what its extended attributes say."""

from __future__ import annotations

from znfs.arrays.array import Array
from znfs.hierarchy import HierarchyNode, Unreadable
from znfs.hierarchy.paths import relative
from znfs.node import File, Node
from znfs.stores.urls import split_chain

_CHUNKS = "chunks/"


def attributes(url: str, path: str, owner: HierarchyNode, node: Node) -> dict[str, str]:
    """Names without prefix, and their values. `url` is the store's, without secrets.

    `owner` is the array or group that the file at `path` is a view of, or an object of. Shapes are
    in elements, C order, separated by commas.
    """
    stored = isinstance(node, File) and node.stored
    found = {"url": _join(url, path if stored else owner.path), "etag": node.version}
    if isinstance(owner, Unreadable):
        found["reason"] = owner.reason
    if isinstance(owner, Array):
        found |= _of_array(owner)
        below = relative(path, owner.path)
        if below.startswith(_CHUNKS) and not stored:
            found |= _of_chunk(url, owner, below.removeprefix(_CHUNKS))
    return found


def _of_array(array: Array) -> dict[str, str]:
    meta = array.meta
    found = {
        "shape": _by(meta.shape),
        "chunks": _by(meta.outer_chunks if meta.is_assembled else meta.chunks),
        "dtype": meta.dtype_name,
        "axes": ",".join(meta.axis_names),
        "format": meta.format,
    }
    return found | ({"shards": _by(meta.outer_chunks)} if meta.shards else {})


def _of_chunk(url: str, array: Array, key: str) -> dict[str, str]:
    """The stored object that the decoded chunk called `key` comes from."""
    index = array.meta.keys.parse(key, array.meta.keyed_grid)
    if index is None:
        return {}  # a directory on the way to chunks
    stored = array.chunk_key(index)
    for _ in array.meta.shards:  # `c/0/0[1,2]`: the part in brackets is inside the shard
        stored = stored.rpartition("[")[0]
    return {"url": _join(url, stored), "chunk": _by(index)}


def _join(url: str, path: str) -> str:
    """`path` below `url`; of a chained URL (`zip://a::s3://b/c.zip`) it is the first link's."""
    first, *rest = split_chain(url)
    return "::".join((f"{first.rstrip('/')}/{path}", *rest)) if path else url


def _by(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))
