"""N5: `attributes.json` (N5 specification, version 4; metadata from version 1.0 on).

N5 names its axes fastest first. Here, as in z5py and zarr 2, the slowest comes first: shape,
chunks and axes are reversed, and keys are reversed back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from znfs.codecs import REFUSED
from znfs.codecs.forms import shown
from znfs.errors import MetadataError, Unsupported
from znfs.formats import axes, dtypes
from znfs.formats.arrays import checked, telling
from znfs.formats.document import chunk_shape, load, require, shape
from znfs.formats.n5axes import imagej, n5_axes
from znfs.meta import ArrayMeta, ChunkKeys, CodecSpec, GroupMeta

DOCUMENT = "attributes.json"
DOCUMENTS = (DOCUMENT,)
RESERVED = frozenset(
    ("dimensions", "blockSize", "dataType", "compression", "compressionType", "n5")
)
_COMPRESSIONS = {
    "raw": None,
    "bzip2": "bz2",
    "gzip": "gzip",
    "lz4": "n5_lz4",
    "xz": "lzma",
    "blosc": "blosc",
    "zstd": "zstd",
    "zstandard": "zstd",
    "zlib": "zlib",
    "bz2": "bz2",
    "lzma": "lzma",
}  # the last three are zarr 2's


_CONFIGURED = frozenset({"lzma", "blosc"})  # whose configuration says what can be decoded


def parse(docs: Mapping[str, bytes]) -> ArrayMeta | GroupMeta | None:
    """The node that `attributes.json` describes. Raises MetadataError or Unsupported."""
    if DOCUMENT not in docs:
        return None
    document = load(DOCUMENT, docs[DOCUMENT])
    if "dimensions" not in document or "dataType" not in document:
        return GroupMeta("n5", {k: v for k, v in document.items() if k != "n5"})
    with telling(document, "dimensions", "dataType"):
        return _array(document)


def _array(document: dict[str, Any]) -> ArrayMeta:
    name = DOCUMENT
    extents = shape(name, "dimensions", require(name, document, "dimensions"))
    blocks = chunk_shape(name, "blockSize", require(name, document, "blockSize"), extents)
    dtype = dtypes.parse_n5(name, document["dataType"])
    attributes = {k: v for k, v in document.items() if k not in RESERVED}
    compression = _compression(document)
    told = imagej(attributes, extents[::-1]) or n5_axes(attributes, len(extents))
    return checked(
        name,
        ArrayMeta(
            format="n5",
            shape=extents[::-1],
            chunks=blocks[::-1],
            dtype=dtype,
            fill=bytes(dtype.itemsize),
            keys=ChunkKeys("/", reverse=True),
            codecs=(CodecSpec("n5_block", {"compression": compression}),),
            axes=axes.choose(len(extents), told),
            attributes=attributes,
            stored_dtype=document["dataType"],
        ),
    )


def _compression(document: dict[str, Any]) -> tuple[CodecSpec, ...]:
    """The codec behind a block's header. Version 1 has `compressionType`, a bare name."""
    value = document.get("compression", document.get("compressionType", "raw"))
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise MetadataError(f"{DOCUMENT}: no compression {shown(value)}")
    kind = value["type"]
    if kind == "gzip" and value.get("useZlib"):
        kind = "zlib"
    if kind not in _COMPRESSIONS:
        reason = REFUSED.get(kind, "is unknown")
        raise Unsupported(f"{DOCUMENT}: compression {shown(kind)} {reason}")
    codec = _COMPRESSIONS[kind]
    config = {k: v for k, v in value.items() if k != "type"} if kind in _CONFIGURED else {}
    return () if codec is None else (CodecSpec(codec, config),)
