"""Chunks: a grid index to encoded bytes.

`keyed` gets them from a store. Over it lie, each a `Chunks` again, `shards` (chunks in shards) and
`disk` (the disk tier); `rectilinear` makes blocks of one shape of chunks of many.
"""

from znfs.chunks.keyed import Chunks, Keyed

__all__ = ["Chunks", "Keyed"]
