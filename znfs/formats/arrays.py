"""The last step of reading an array's metadata, for all formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from znfs.codecs import CODECS, INTERNAL, REFUSED, Decoder, encoded_size
from znfs.codecs.forms import shown
from znfs.errors import MetadataError, Unsupported
from znfs.formats.document import MAX_CHUNKS_PER_SHARD, check_chunk_nbytes
from znfs.meta import ArrayMeta, CodecSpec

_PACKED = 24  # bytes that an element of variable length takes besides its own, at most


def named_codec(document: str, name: str, config: Mapping[str, Any]) -> CodecSpec:
    """The codec that a document names. Raises Unsupported."""
    if name in REFUSED:
        raise Unsupported(f"{document}: codec {shown(name)} {REFUSED[name]}")
    if name not in CODECS or name in INTERNAL:
        raise Unsupported(f"{document}: codec {shown(name)} is unknown")
    return CodecSpec(name, config)


@contextmanager
def telling(document: Mapping[str, Any], *members: str) -> Iterator[None]:
    """Say of an error that it is of an array; of one that is Unsupported, what its `members` (its
    shape, its data type) are."""
    try:
        yield
    except MetadataError as error:
        if isinstance(error, Unsupported):
            told = ", ".join(f"{key} {shown(document.get(key))}" for key in members)
            error = Unsupported(f"{error} ({told})")
        error.of_array = True
        raise error from None


def with_room(name: str, meta: ArrayMeta, string_bytes: int) -> ArrayMeta:
    """`meta` of elements of variable length that have so much room. Raises Unsupported."""
    check_chunk_nbytes(f"{name}: --string-bytes", meta.chunks, string_bytes + _PACKED)
    return replace(meta, string_bytes=string_bytes)


def checked(name: str, meta: ArrayMeta) -> ArrayMeta:
    """`meta`, once its chunks are known to be decodable. Raises Unsupported or MetadataError."""
    encoded = meta.outer_chunks if meta.is_assembled else meta.chunks
    check_chunk_nbytes(name, encoded, _PACKED if meta.is_variable else meta.dtype.itemsize)
    try:
        if meta.is_assembled and meta.is_variable:
            raise Unsupported("elements of variable length in a rectilinear grid without shards")
        Decoder(meta.codecs, meta.dtype, encoded, meta.fill)
        for shard in meta.shards:
            count = prod(shard.grid)
            if count > MAX_CHUNKS_PER_SHARD:
                raise Unsupported(
                    f"a shard of {count} chunks; znfs reads up to {MAX_CHUNKS_PER_SHARD}"
                )
            index = tuple(shard.grid[k] for k in shard.order)
            if encoded_size(shard.index_codecs, np.dtype("<u8"), (*index, 2)) is None:
                raise Unsupported("a shard index that is compressed")
    except Unsupported as error:
        raise Unsupported(f"{name}: {error}") from None
    except MetadataError as error:
        raise MetadataError(f"{name}: {error}") from None
    return meta
