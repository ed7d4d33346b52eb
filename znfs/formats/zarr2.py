"""Zarr v2: `.zarray`, `.zgroup`, `.zattrs`, `.zmetadata` (Zarr specification, version 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from znfs.codecs.forms import shown
from znfs.codecs.layout import ENDIAN
from znfs.errors import MetadataError, Unsupported
from znfs.formats import axes, dtypes, fill
from znfs.formats.arrays import checked, named_codec, telling
from znfs.formats.document import (
    chunk_shape,
    load,
    mapping,
    require,
    safe_path,
    shape,
)
from znfs.formats.n5axes import zarr_axes
from znfs.meta import ArrayMeta, ChunkKeys, CodecSpec, GroupMeta

ARRAY, GROUP, ATTRIBUTES, CONSOLIDATED = ".zarray", ".zgroup", ".zattrs", ".zmetadata"
DOCUMENTS = (ARRAY, GROUP, ATTRIBUTES, CONSOLIDATED)
_NOT_IN_V2 = frozenset({"bytes", "transpose"})
_ORDERS = ("C", "F")
_SEPARATORS = (".", "/")


def parse(docs: Mapping[str, bytes]) -> ArrayMeta | GroupMeta | None:
    """The node that these documents describe. Raises MetadataError or Unsupported."""
    consolidated = None
    if CONSOLIDATED in docs and ARRAY not in docs:
        consolidated = _consolidated(load(CONSOLIDATED, docs[CONSOLIDATED]))
        docs = {**consolidated.pop("", {}), **docs}
    attributes = load(ATTRIBUTES, docs[ATTRIBUTES]) if ATTRIBUTES in docs else {}
    if ARRAY in docs:
        document = load(ARRAY, docs[ARRAY])
        with telling(document, "shape", "dtype"):
            return _array(document, attributes)
    if GROUP not in docs:
        return None
    _check_version(GROUP, load(GROUP, docs[GROUP]))
    return GroupMeta("zarr2", attributes, consolidated)


def _check_version(name: str, document: dict[str, Any]) -> None:
    version = require(name, document, "zarr_format")
    if version != 2:
        raise MetadataError(f"{name}: zarr_format is {shown(version)}, not 2")


def _consolidated(document: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    """Documents by path below the group ("" is the group itself) and name."""
    version = document.get("zarr_consolidated_format")
    if version != 1:
        raise Unsupported(f"{CONSOLIDATED}: zarr_consolidated_format is {shown(version)}, not 1")
    out: dict[str, dict[str, bytes]] = {}
    for key, value in mapping(CONSOLIDATED, "metadata", document.get("metadata")).items():
        path, _, name = key.rpartition("/")
        if name in DOCUMENTS and (not path or safe_path(path)):
            out.setdefault(path, {})[name] = json.dumps(value).encode()
    return out


def _array(document: dict[str, Any], attributes: dict[str, Any]) -> ArrayMeta:
    name = ARRAY
    _check_version(name, document)
    extents = shape(name, "shape", require(name, document, "shape"))
    chunks = chunk_shape(name, "chunks", require(name, document, "chunks"), extents)
    spelled = require(name, document, "dtype")
    filters = document.get("filters") or []
    if not isinstance(filters, list):
        raise MetadataError(f"{name}: filters are no list but {shown(filters)}")
    codecs = [_codec(c) for c in [*filters, document.get("compressor")] if c is not None]
    variable = dtypes.OBJECTS.get(codecs[0].name) if codecs and dtypes.is_object(spelled) else None
    stored = variable or dtypes.parse_numpy(name, spelled)
    dtype = variable or dtypes.little(stored)
    separator = document.get("dimension_separator", ".")
    if separator not in _SEPARATORS:
        raise MetadataError(f"{name}: no dimension_separator {shown(separator)}")
    order = document.get("order", "C")
    if order not in _ORDERS:
        raise MetadataError(f"{name}: no order {shown(order)}")
    layout = [] if variable else [_layout(stored)]
    if order == "F" and len(extents) > 1:
        layout.insert(0, CodecSpec("transpose", {"order": list(range(len(extents)))[::-1]}))
    value = document.get("fill_value")
    names = _dimension_names(attributes, len(extents))
    return checked(
        name,
        ArrayMeta(
            format="zarr2",
            shape=extents,
            chunks=chunks,
            dtype=dtype,
            fill=fill.parse(name, value, dtype, stored),
            keys=ChunkKeys(separator),
            codecs=(*layout, *codecs),
            axes=axes.choose(len(extents), zarr_axes(attributes, extents), axes.named(names)),
            dimension_names=names,
            attributes=attributes,
            stored_dtype=spelled if isinstance(spelled, str) else json.dumps(spelled),
            fill_given=value is not None,
        ),
    )


def _layout(stored: Any) -> CodecSpec:
    for word, sign in ENDIAN.items():
        if stored == stored.newbyteorder(sign):
            return CodecSpec("bytes", {"endian": word})
    return CodecSpec("bytes", {"stored": stored})  # fields of different byte order


def _codec(value: Any) -> CodecSpec:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise MetadataError(f"{ARRAY}: no codec: {shown(value)}")
    name = value["id"]
    if name in _NOT_IN_V2:
        raise Unsupported(f"{ARRAY}: codec {shown(name)} is unknown")
    return named_codec(ARRAY, name, {k: v for k, v in value.items() if k != "id"})


def _dimension_names(attributes: dict[str, Any], ndim: int) -> tuple[str, ...] | None:
    names = attributes.get("_ARRAY_DIMENSIONS")
    if isinstance(names, list) and len(names) == ndim and all(isinstance(n, str) for n in names):
        return tuple(names)
    return None
