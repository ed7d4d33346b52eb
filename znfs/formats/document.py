"""Reading metadata documents: JSON, and the checks all formats share.

Whatever a document holds, what is raised is MetadataError (or Unsupported), with words for people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from typing import Any

from znfs.codecs.forms import shown
from znfs.errors import MetadataError, Unsupported
from znfs.meta import Shape

MAX_NDIM = 32  # also H5S_MAX_RANK, and no more is asked of HDF5
MAX_EXTENT = (1 << 63) - 1  # also HDF5's
MAX_CHUNK_NBYTES = 4 << 30  # a decoded chunk is one allocation
MAX_CHUNKS_PER_SHARD = 1 << 24  # a shard index of 256 MiB
MAX_DEPTH = 64
# As Python objects, values take up to 60 times the bytes that they take in a document.
MAX_VALUES = 1 << 22


def load(name: str, data: bytes) -> dict[str, Any]:
    """The JSON object in document `name`; NaN and Infinity are read as zarr-python 2 wrote them."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise MetadataError(f"{name}: holds more than {MAX_VALUES:,} values")
    try:
        value = json.loads(data)
    except RecursionError:
        raise MetadataError(f"{name}: nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError, and integers of absurd length
        raise MetadataError(f"{name}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MetadataError(f"{name}: not a JSON object")
    _check_depth(name, value)
    return value


def _check_depth(name: str, value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise MetadataError(f"{name}: nested more than {MAX_DEPTH} deep")


def mapping(name: str, what: str, value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object; an absent one (None) is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MetadataError(f"{name}: {what} is no object but {shown(value)}")
    return value


def require(name: str, document: dict[str, Any], key: str) -> Any:
    """The member `key` of a document."""
    if key not in document:
        raise MetadataError(f"{name}: has no {key!r}")
    return document[key]


def integer(name: str, what: str, value: Any) -> int:
    """`value` as an integer; 10.0 counts as one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise MetadataError(f"{name}: {what} is no integer but {shown(value)}")
    return value


def shape(name: str, what: str, value: Any, least: int = 0) -> Shape:
    """`value` as a shape: integers of at least `least`, at most 2^63 - 1."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list):
        raise MetadataError(f"{name}: {what} is no list but {shown(value)}")
    if len(value) > MAX_NDIM:
        raise MetadataError(f"{name}: {what} has {len(value)} dimensions, more than {MAX_NDIM}")
    out = tuple(integer(name, what, v) for v in value)
    for extent in out:
        if not least <= extent <= MAX_EXTENT:
            raise MetadataError(f"{name}: {what} has the extent {extent}")
    return out


def chunk_shape(name: str, what: str, value: Any, outer: Shape) -> Shape:
    """`value` as the shape of a chunk. 0 is taken for 1 where the array is empty anyway."""
    chunks = shape(name, what, value)
    if len(chunks) != len(outer):
        raise MetadataError(f"{name}: {what} has {len(chunks)} dimensions, shape {len(outer)}")
    if any(c == 0 and s != 0 for c, s in zip(chunks, outer, strict=True)):
        raise MetadataError(f"{name}: {what} has the extent 0")
    return tuple(max(c, 1) for c in chunks)


def check_chunk_nbytes(name: str, chunks: Sequence[int], itemsize: int) -> None:
    """Refuse chunks that znfs will not hold in memory."""
    if prod(chunks) * itemsize > MAX_CHUNK_NBYTES:
        raise Unsupported(
            f"{name}: a chunk of {'x'.join(map(str, chunks))} elements of {itemsize} bytes is more "
            f"than the {MAX_CHUNK_NBYTES >> 30} GiB that znfs decodes at once"
        )


def safe_path(path: str) -> bool:
    """Whether `path` names a node below, without a way out."""
    return all(part not in ("", ".", "..") and "\0" not in part for part in path.split("/"))
