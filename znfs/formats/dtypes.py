"""Data types: how each format spells them, and the numpy types that blocks have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from znfs.codecs.forms import shown
from znfs.codecs.promote import SMALL
from znfs.errors import MetadataError, Unsupported
from znfs.formats.document import integer
from znfs.meta import VARIABLE_BYTES, VARIABLE_TEXT, CodecSpec

DType = np.dtype[Any]

_SIMPLE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SUV]\d+)")
_NAMES = re.compile(r"bool|u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128)")  # lax writers
_TIME = re.compile(r"[<>|=]?[mM]8(?:\[\d*(?:Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as|generic)\])?")
_MAX_FIELDS = 1 << 12
_MAX_ITEMSIZE = (1 << 31) - 1
_NO_SIZE = "holds {}, so the array has no view of a known size; its raw keys read"


def little(dtype: DType) -> DType:
    """`dtype` with every number little-endian."""
    return dtype.newbyteorder("<")


# Zarr v2 says of objects only by their first filter what they are.
OBJECTS = {"vlen-utf8": VARIABLE_TEXT, "vlen-bytes": VARIABLE_BYTES}


def is_object(value: Any) -> bool:
    """Whether a Zarr v2 `dtype` is numpy's type of objects."""
    return isinstance(value, str) and value.lstrip("<>|=") in ("O", "O4", "O8")


def parse_numpy(name: str, value: Any, depth: int = 0) -> DType:
    """A Zarr v2 `dtype`: a string, or a list of [name, dtype] or [name, dtype, shape].

    Raises Unsupported for objects, MetadataError for nonsense.
    """
    if isinstance(value, list):
        return _parse_fields(name, value, depth)
    if not isinstance(value, str):
        raise MetadataError(f"{name}: no data type {shown(value)}")
    if is_object(value):
        kind = "objects other than text and bytes"
        raise Unsupported(f"{name}: data type {value!r} {_NO_SIZE.format(kind)}")
    if not any(known.fullmatch(value) for known in (_SIMPLE, _NAMES, _TIME)):
        raise MetadataError(f"{name}: no data type {shown(value)}")
    return _numpy(name, value)


def _numpy(name: str, value: Any) -> DType:
    try:
        dtype: DType = np.dtype(value)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"{name}: data type {shown(value)}: {error}") from None
    if not 0 < dtype.itemsize <= _MAX_ITEMSIZE:
        raise Unsupported(f"{name}: data type {shown(value)} of {dtype.itemsize} bytes")
    return dtype


def _parse_fields(name: str, value: list[Any], depth: int) -> DType:
    if not value or len(value) > _MAX_FIELDS or depth > 8:
        raise MetadataError(f"{name}: no data type {shown(value)}")
    fields: list[Any] = []
    for item in value:
        if (
            not isinstance(item, (list, tuple))
            or len(item) not in (2, 3)
            or not isinstance(item[0], str)
        ):
            raise MetadataError(f"{name}: no field of a data type: {shown(item)}")
        inner = parse_numpy(name, item[1], depth + 1)
        if len(item) == 2:
            fields.append((item[0], inner))
            continue
        dims = item[2] if isinstance(item[2], list) else [item[2]]
        shape = tuple(integer(name, "shape of a field", n) for n in dims)
        if len(shape) > 8 or any(not 0 < n <= _MAX_ITEMSIZE for n in shape):
            raise MetadataError(f"{name}: shape of field {shown(item)}")
        fields.append((item[0], inner, shape))
    return _numpy(name, fields)


@dataclass(frozen=True)
class DataType:
    """A Zarr v3 data type: the blocks' type, and codecs that must precede all others."""

    dtype: DType
    before: tuple[CodecSpec, ...] = ()
    small: str | None = None  # the name of a type that numpy lacks, decoded as a larger one

    @property
    def stored(self) -> DType:
        """The type that the first codec of the document sees."""
        return SMALL[self.small][0] if self.small else self.dtype


_CORE = {
    "bool": "?", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "float16": "<f2", "float32": "<f4", "float64": "<f8",
    "complex64": "<c8", "complex128": "<c16",
    "complex_float32": "<c8", "complex_float64": "<c16",
}  # fmt: skip
_VARIABLE = {
    "string": VARIABLE_TEXT,
    "variable_length_utf8": VARIABLE_TEXT,
    "bytes": VARIABLE_BYTES,
    "variable_length_bytes": VARIABLE_BYTES,
}
_SIZED = {  # name: numpy kind, bytes per unit
    "fixed_length_utf32": ("<U", 4),
    "null_terminated_bytes": ("S", 1),
    "fixed_length_bytes": ("S", 1),
    "fixed_length_ascii": ("S", 1),
    "raw_bytes": ("V", 1),
    "numpy.void": ("V", 1),
}
# Registered, and refused: complex numbers of small parts, fixed-point numbers.
_NOT_NUMPYS = re.compile(r"complex_(?:b?float16|float[468]_\w+)|[NQ]\d+f\d+|binary_fixed_point")
_TIMES = {"numpy.datetime64": "<M8", "numpy.timedelta64": "<m8"}


def parse_array_v3(name: str, value: Any) -> DataType:
    """The Zarr v3 `data_type` of an array, whose elements may be of variable length."""
    kind = value.get("name") if isinstance(value, dict) else value
    if isinstance(kind, str) and kind in _VARIABLE:
        return DataType(_VARIABLE[kind])
    return parse_v3(name, value)


def parse_v3(name: str, value: Any, depth: int = 0) -> DataType:
    """A Zarr v3 `data_type` of known size: a name, or an object with name and configuration."""
    config: Any = {}
    if isinstance(value, str):
        kind = value
    elif isinstance(value, dict) and isinstance(value.get("name"), str):
        kind, config = value["name"], value.get("configuration") or {}
    else:
        raise MetadataError(f"{name}: no data type {shown(value)}")
    if not isinstance(config, dict):
        raise MetadataError(f"{name}: no data type {shown(value)}")
    if kind in _CORE:
        return DataType(np.dtype(_CORE[kind]))
    if kind in SMALL:
        return DataType(SMALL[kind][1], (CodecSpec("promote", {"from": kind}),), kind)
    if re.fullmatch(r"r[1-9]\d{0,9}", kind):
        bits = int(kind[1:])
        if bits % 8:
            raise MetadataError(f"{name}: data type {kind} is no whole number of bytes")
        return DataType(_numpy(name, f"V{bits // 8}"))
    if kind in _VARIABLE:
        raise Unsupported(f"{name}: data type {kind!r} where elements must have a fixed size")
    if kind in _SIZED:
        return DataType(_sized(name, kind, config))
    if kind in _TIMES:
        return DataType(_time(name, kind, config))
    if kind in ("struct", "structured"):
        return DataType(_struct(name, config, depth))
    if kind == "optional":
        raise Unsupported(f"{name}: data type 'optional' holds values that may be missing")
    reason = "has no counterpart in NumPy" if _NOT_NUMPYS.fullmatch(kind) else "is unknown"
    raise Unsupported(f"{name}: data type {shown(kind)} {reason}")


def _sized(name: str, kind: str, config: Mapping[str, Any]) -> DType:
    code, unit = _SIZED[kind]
    length = integer(name, "length_bytes", config.get("length_bytes"))
    if length <= 0 or length % unit or length > _MAX_ITEMSIZE:
        raise MetadataError(f"{name}: {kind} of {length} bytes")
    return _numpy(name, f"{code}{length // unit}")


def _time(name: str, kind: str, config: Mapping[str, Any]) -> DType:
    unit, scale = config.get("unit"), integer(name, "scale_factor", config.get("scale_factor", 1))
    spelled = f"{_TIMES[kind]}[{scale if scale != 1 else ''}{unit}]"
    if unit == "generic":
        spelled = _TIMES[kind]
    if not 0 < scale < 1 << 31 or not _TIME.fullmatch(spelled):
        raise MetadataError(f"{name}: {kind} in units of {shown(scale)} {shown(unit)}")
    return _numpy(name, spelled)


def _struct(name: str, config: Mapping[str, Any], depth: int) -> DType:
    fields = config.get("fields")
    if not isinstance(fields, list) or not 0 < len(fields) <= _MAX_FIELDS or depth > 8:
        raise MetadataError(f"{name}: a struct whose fields are {shown(fields)}")
    out = []
    for field in fields:
        if isinstance(field, dict):
            field = [field.get("name"), field.get("data_type")]
        if not isinstance(field, list) or len(field) != 2 or not isinstance(field[0], str):
            raise MetadataError(f"{name}: no field of a struct: {shown(field)}")
        inner = parse_v3(name, field[1], depth + 1)
        if inner.before:
            raise Unsupported(f"{name}: a struct with a field of type {shown(field[1])}")
        out.append((field[0], inner.dtype))
    return _numpy(name, out)


N5_TYPES = {
    "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "float32": "<f4", "float64": "<f8",
}  # fmt: skip


def parse_n5(name: str, value: Any) -> DType:
    """An N5 `dataType`."""
    if isinstance(value, str) and value in N5_TYPES:
        return np.dtype(N5_TYPES[value])
    if value in ("string", "object"):
        raise Unsupported(f"{name}: data type {value!r} {_NO_SIZE.format(value + 's')}")
    raise MetadataError(f"{name}: no data type {shown(value)}")
