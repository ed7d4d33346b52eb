"""Zarr v3: `zarr.json` (Zarr core specification, version 3; sharding codec, version 1)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from znfs.codecs import REFUSED
from znfs.codecs.forms import shown
from znfs.codecs.promote import bits_of
from znfs.errors import MetadataError, Unsupported
from znfs.formats import axes, dtypes, fill, grids
from znfs.formats.arrays import checked, named_codec, telling
from znfs.formats.document import (
    load,
    mapping,
    require,
    safe_path,
    shape,
)
from znfs.formats.n5axes import zarr_axes
from znfs.meta import VARIABLE, ArrayMeta, ChunkKeys, CodecSpec, GroupMeta, Shape, Shard

DOCUMENT = "zarr.json"
DOCUMENTS = (DOCUMENT,)
_GROUP_MEMBERS = {"zarr_format", "node_type", "attributes", "consolidated_metadata"}
_ARRAY_MEMBERS = {
    "zarr_format", "node_type", "attributes", "shape", "data_type", "chunk_grid",
    "chunk_key_encoding", "fill_value", "codecs", "dimension_names", "storage_transformers",
}  # fmt: skip
_KEYS = {"default": ("c", "/"), "v2": ("", ".")}  # name: prefix, default separator
_SUFFIX = re.compile(r"[A-Za-z._-][\w.+-]{0,63}", re.ASCII)
_SHARDING = "sharding_indexed"
_N5 = "n5_default"
_MAX_SHARD_LEVELS = 8
_NUMCODECS = ("numcodecs.", "https://zarr.dev/numcodecs/")  # the second until numcodecs 0.14
# Names without that prefix: those of the specification and of the registry, whose data is the same.
_PLAIN = {
    **dict.fromkeys(("bytes", "endian"), "bytes"),  # the second is of drafts
    **{name: name for name in ("transpose", "gzip", "zstd", "blosc", "crc32c")},
    **{name: name for name in ("bitround", "zlib", "bz2", "crc32", "adler32", "fletcher32")},
    **{name: name for name in ("cast_value", "scale_offset", "reshape")},
    **{name: name for name in ("vlen-utf8", "vlen-bytes")},
    **dict.fromkeys(("squeeze", "zarrs.squeeze"), "squeeze"),
    "packbits": "packed_bits",  # numcodecs' own has another order of bits
}
# Members of a configuration of which the registry says that others are invalid.
_STRICT = {
    "cast_value": {"data_type", "rounding", "out_of_range"},
    "scale_offset": {"scale", "offset"},
}


def parse(docs: Mapping[str, bytes]) -> ArrayMeta | GroupMeta | None:
    """The node that `zarr.json` describes. Raises MetadataError or Unsupported."""
    if DOCUMENT not in docs:
        return None
    document = load(DOCUMENT, docs[DOCUMENT])
    version = require(DOCUMENT, document, "zarr_format")
    if version != 3:
        raise MetadataError(f"{DOCUMENT}: zarr_format is {shown(version)}, not 3")
    kind = require(DOCUMENT, document, "node_type")
    if kind == "group":
        return _group(document)
    if kind == "array":
        with telling(document, "shape", "data_type"):
            return _array(document)
    raise MetadataError(f"{DOCUMENT}: no node_type {shown(kind)}")


def _check_members(document: dict[str, Any], known: set[str]) -> None:
    """Members that the specification lacks may be ignored only if they say so."""
    for key in document.keys() - known:
        value = document[key]
        if not isinstance(value, dict) or value.get("must_understand") is not False:
            raise Unsupported(f"{DOCUMENT}: member {shown(key)} must be understood and is unknown")


def _group(document: dict[str, Any]) -> GroupMeta:
    _check_members(document, _GROUP_MEMBERS)
    return GroupMeta(
        "zarr3",
        mapping(DOCUMENT, "attributes", document.get("attributes")),
        _consolidated(document.get("consolidated_metadata")),
    )


def _consolidated(value: Any) -> dict[str, dict[str, bytes]] | None:
    if not isinstance(value, dict) or value.get("kind", "inline") != "inline":
        return None  # may be ignored: must_understand is false by definition
    nodes = mapping(DOCUMENT, "consolidated metadata", value.get("metadata"))
    return {
        path: {DOCUMENT: json.dumps(node).encode()}
        for path, node in nodes.items()
        if safe_path(path)
    }


def _named(what: str, value: Any) -> tuple[str, dict[str, Any]]:
    """Name and configuration of an extension point; a bare string is a name."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise MetadataError(f"{DOCUMENT}: no {what}: {shown(value)}")
    return value["name"], mapping(DOCUMENT, what, value.get("configuration"))


def _array(document: dict[str, Any]) -> ArrayMeta:
    name = DOCUMENT
    _check_members(document, _ARRAY_MEMBERS)
    _check_transformers(document.get("storage_transformers"))
    extents = shape(name, "shape", require(name, document, "shape"))
    spelled = require(name, document, "data_type")
    kind = dtypes.parse_array_v3(name, spelled)
    grid = _named("chunk grid", require(name, document, "chunk_grid"))
    outer, edges = grids.parse(name, *grid, extents)
    codecs = _codecs(require(name, document, "codecs"))
    chunks, shards, codecs = _unshard(codecs, outer, tuple(range(len(extents))), 0)
    if edges and not shards:
        chunks = grids.block_shape(extents, edges)
    elif edges and any(
        n % c for e, c in zip(edges, shards[0].chunks, strict=True) for n, _ in e.runs
    ):
        raise MetadataError(f"{name}: not all shards divide into chunks of {shards[0].chunks}")
    codecs = tuple(_typed(codecs, kind))
    shards = tuple(replace(shard, outer=tuple(_typed(shard.outer, kind))) for shard in shards)
    value = require(name, document, "fill_value")
    names = _dimension_names(document.get("dimension_names"), len(extents))
    attributes = mapping(name, "attributes", document.get("attributes"))
    return checked(
        name,
        ArrayMeta(
            format="zarr3",
            shape=extents,
            chunks=chunks,
            dtype=kind.dtype,
            fill=fill.parse_small(name, value, kind.small)
            if kind.small
            else fill.parse(name, value, kind.dtype),
            keys=_keys(require(name, document, "chunk_key_encoding")),
            codecs=(*kind.before, *codecs),
            shards=shards,
            edges=edges,
            axes=axes.choose(len(extents), zarr_axes(attributes, extents), axes.named(names)),
            dimension_names=names,
            attributes=attributes,
            stored_dtype=spelled if isinstance(spelled, str) else json.dumps(spelled),
            fill_given=value is not None,
        ),
    )


def _check_transformers(value: Any) -> None:
    for item in value if isinstance(value, list) else [value] if value else []:
        if not isinstance(item, dict) or item.get("must_understand") is not False:
            raise Unsupported(f"{DOCUMENT}: storage transformer {shown(item)} is unknown")


def _keys(value: Any) -> ChunkKeys:
    kind, config = _named("chunk key encoding", value)
    if kind in ("suffix", "zarrs.default_suffix"):
        return _suffixed(kind, config)
    if kind not in _KEYS:
        reason = "is not read" if kind in ("fanout", "template") else "is unknown"
        raise Unsupported(f"{DOCUMENT}: chunk key encoding {shown(kind)} {reason}")
    prefix, separator = _KEYS[kind]
    separator = config.get("separator", separator)
    if separator not in (".", "/"):
        raise MetadataError(f"{DOCUMENT}: no separator {shown(separator)}")
    return ChunkKeys(separator, prefix)


def _suffixed(kind: str, config: dict[str, Any]) -> ChunkKeys:
    """Keys of another encoding that have a suffix, such as `.tif`."""
    suffix = config.get("suffix")
    if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
        raise Unsupported(f"{DOCUMENT}: chunk keys with the suffix {shown(suffix)}")
    base: Any = config.get("base_encoding", config.get("base-encoding"))
    if kind != "suffix":
        base = {"name": "default", "configuration": {k: config[k] for k in config if k != "suffix"}}
    keys = _keys(base)
    if keys.suffix:
        raise Unsupported(f"{DOCUMENT}: chunk keys with two suffixes")
    return replace(keys, suffix=suffix)


def _dimension_names(value: Any, ndim: int) -> tuple[str | None, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != ndim
        or not all(n is None or isinstance(n, str) for n in value)
    ):
        raise MetadataError(f"{DOCUMENT}: dimension_names are {shown(value)}")
    return tuple(value)


def _codecs(value: Any) -> tuple[CodecSpec, ...]:
    if not isinstance(value, list):
        raise MetadataError(f"{DOCUMENT}: codecs are no list but {shown(value)}")
    out: list[CodecSpec] = []
    for item in value:
        name, config = _named("codec", item)
        out.extend(_n5_default(config) if name == _N5 else (_codec(name, config),))
    return tuple(out)


def _n5_default(config: dict[str, Any]) -> tuple[CodecSpec, CodecSpec]:
    """The registered codec `n5_default`: an N5 block, whose first axis is the fastest."""
    codecs = config.get("codecs")
    inner = [_named("codec", item) for item in (codecs if isinstance(codecs, list) else [])]
    if [name for name, _ in inner[:2]] != ["transpose", "bytes"]:
        raise Unsupported(f"{DOCUMENT}: codec {_N5!r} without transpose and bytes")
    (_, turned), (_, plain) = inner[:2]
    order = turned.get("order")
    if not isinstance(order, list) or order != list(range(len(order)))[::-1]:
        raise Unsupported(f"{DOCUMENT}: codec {_N5!r} that transposes by {shown(order)}")
    if plain.get("endian", "big") != "big":
        raise Unsupported(f"{DOCUMENT}: codec {_N5!r} that is not big-endian")
    rest = tuple(_codec(name, config) for name, config in inner[2:])
    return CodecSpec("transpose", {"order": order}), CodecSpec("n5_block", {"compression": rest})


def _codec(name: str, config: dict[str, Any]) -> CodecSpec:
    if name == _SHARDING:
        return CodecSpec(name, config)
    if name in _PLAIN:
        return named_codec(DOCUMENT, _PLAIN[name], config)
    for prefix in _NUMCODECS:
        if name.startswith(prefix):
            return named_codec(DOCUMENT, name.removeprefix(prefix), config)
    reason = REFUSED.get(name, "is unknown")
    raise Unsupported(f"{DOCUMENT}: codec {shown(name)} {reason}")


def _typed(codecs: tuple[CodecSpec, ...], kind: dtypes.DataType) -> Iterator[CodecSpec]:
    """The codecs of an array, with what their configurations leave to the type they are given."""
    for codec in codecs:
        config = codec.config
        if codec.name in _STRICT:
            if kind.small:
                raise Unsupported(f"{DOCUMENT}: codec {codec.name!r} applied to {kind.small}")
            if more := config.keys() - _STRICT[codec.name]:
                raise MetadataError(f"{DOCUMENT}: codec {codec.name!r} with {shown(sorted(more))}")
        if codec.name == "cast_value":
            kind = dtypes.parse_v3(DOCUMENT, config.get("data_type"))
            yield CodecSpec(codec.name, {**config, "stored": kind.dtype})
            yield from kind.before
        elif codec.name == "scale_offset":
            yield CodecSpec(codec.name, {
                key: np.frombuffer(fill.parse(DOCUMENT, config.get(key), kind.dtype), kind.dtype)[0]
                for key in ("scale", "offset")
            })  # fmt: skip
        elif codec.name == "shuffle" and config.get("elementsize") is None:
            # Unlike in Zarr v2, where it is 4: zarr-python takes it from the type, too.
            yield CodecSpec(codec.name, {"elementsize": kind.stored.itemsize})
        elif codec.name == "packed_bits" and kind.small:
            small = {"bits": bits_of(kind.small), "signed": kind.small.startswith("int")}
            yield CodecSpec(codec.name, {**config, **small})
        else:
            yield _endian(codec, kind.stored)


def _endian(codec: CodecSpec, dtype: np.dtype[Any]) -> CodecSpec:
    """`bytes` may leave out the byte order only where there is none, and zarr-python leaves it out
    of structs, which it writes little-endian."""
    if codec.name != "bytes" or codec.config.get("endian") or dtype in VARIABLE:
        return codec
    if dtype.names is None and dtype.newbyteorder(">") != dtype:
        raise MetadataError(f"{DOCUMENT}: codec 'bytes' has no endian")
    return CodecSpec("bytes", {"endian": "little"})


def _unshard(
    codecs: tuple[CodecSpec, ...], outer: Shape, order: tuple[int, ...], depth: int
) -> tuple[Shape, tuple[Shard, ...], tuple[CodecSpec, ...]]:
    """Split a chain at its sharding codecs: the innermost chunk's shape, the shards, its codecs.

    `outer` is the shape of what the chain encodes, in array axes; axis k of what it sees is axis
    order[k] of the array.
    """
    places = [k for k, c in enumerate(codecs) if c.name == _SHARDING]
    if not places:
        if order != tuple(range(len(order))):
            codecs = (CodecSpec("transpose", {"order": list(order)}), *codecs)
        return outer, (), codecs
    if depth == _MAX_SHARD_LEVELS:
        raise Unsupported(f"{DOCUMENT}: shards nested more than {_MAX_SHARD_LEVELS} deep")
    before, sharding, after = codecs[: places[0]], codecs[places[0]], codecs[places[0] + 1 :]
    for codec in before:
        if codec.name != "transpose":
            raise Unsupported(f"{DOCUMENT}: codec {codec.name!r} before sharding")
        order = _permute(order, codec.config.get("order"))
    config = sharding.config
    inner = shape(DOCUMENT, "chunk_shape of a shard", config.get("chunk_shape"), 1)
    if len(inner) != len(outer):
        raise MetadataError(f"{DOCUMENT}: chunk_shape of a shard has {len(inner)} dimensions")
    chunks = list(inner)
    for k, axis in enumerate(order):
        chunks[axis] = inner[k]
    if any(s % c for s, c in zip(outer, chunks, strict=True)):
        raise MetadataError(
            f"{DOCUMENT}: a shard of {outer} does not divide into chunks of {tuple(chunks)}"
        )
    place = config.get("index_location", "end")
    if place not in ("start", "end"):
        raise MetadataError(f"{DOCUMENT}: no index_location {shown(place)}")
    shard = Shard(
        shape=outer,
        chunks=tuple(chunks),
        index_codecs=tuple(
            _endian(c, np.dtype("<u8")) for c in _codecs(config.get("index_codecs"))
        ),
        index_at_end=place == "end",
        order=order,
        outer=after,
    )
    found, deeper, rest = _unshard(_codecs(config.get("codecs")), tuple(chunks), order, depth + 1)
    return found, (shard, *deeper), rest


def _permute(order: tuple[int, ...], by: Any) -> tuple[int, ...]:
    whole = isinstance(by, list) and all(type(k) is int for k in by)
    if not whole or sorted(by) != list(range(len(order))):
        raise MetadataError(f"{DOCUMENT}: transpose: order {shown(by)}")
    return tuple(order[k] for k in by)
