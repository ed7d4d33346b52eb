"""Fill values: every spelling of the formats, as the bytes of one little-endian element."""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np

from znfs.codecs import promote
from znfs.codecs.forms import shown
from znfs.codecs.layout import truth
from znfs.codecs.promote import SMALL, widen
from znfs.errors import MetadataError
from znfs.meta import VARIABLE, type_name

DType = np.dtype[Any]
_WORDS = {
    "NaN": np.nan, "nan": np.nan, "Infinity": np.inf, "inf": np.inf, "+Infinity": np.inf,
    "-Infinity": -np.inf, "-inf": -np.inf,
}  # fmt: skip
_X87_MANTISSA, _X87_NBYTES = 63, 10  # x86's long double
_NAT = -(1 << 63)


class _Bad(Exception):
    """The value does not fit the type; the reason."""


def parse(name: str, value: Any, dtype: DType, stored: DType | None = None) -> bytes:
    """`value`, as JSON has it, as one element of `dtype`. Raises MetadataError.

    `stored` is the type as it lies in the store, where that differs: base64 spells its bytes.
    """
    try:
        if value is None:  # as zarr-python 3 has it: NaT for times, else zero, or nothing
            if dtype in VARIABLE:
                return b""
            return _time("NaT", dtype, dtype) if dtype.kind in "mM" else bytes(dtype.itemsize)
        return _element(value, dtype, dtype if stored is None else stored)
    except (_Bad, ValueError, TypeError, OverflowError, UnicodeError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, _Bad) else ""
        raise MetadataError(
            f"{name}: no fill value of type {type_name(dtype)}: {shown(value)}{reason}"
        ) from None


def parse_small(name: str, value: Any, small: str) -> bytes:
    """`value` as a type that numpy lacks, then as one element of the type blocks have."""
    bits, dtype = SMALL[small]
    if isinstance(value, str) and value.lower().startswith("0x"):
        return widen(small, np.frombuffer(parse(name, value, bits), bits)).tobytes()
    exact = np.frombuffer(parse(name, value, dtype), dtype)
    with np.errstate(all="ignore"):
        held = exact.astype(promote.small(small)).astype(dtype)
    if dtype.kind in "iu" and held != exact:
        raise MetadataError(f"{name}: no fill value of type {small}: {shown(value)}")
    return held.tobytes()


def _element(value: Any, dtype: DType, stored: DType) -> bytes:
    if dtype.names is not None or dtype.subdtype is not None:
        return _structured(value, dtype, stored)
    return _KINDS[dtype.kind](value, dtype, stored)


def _bool(value: Any, dtype: DType, stored: DType) -> bytes:
    if isinstance(value, bool) or value in (0, 1):
        return bytes([bool(value)])
    if value in ("true", "false", "True", "False"):
        return bytes([value in ("true", "True")])
    raise _Bad("neither true nor false")


def _int(value: Any, dtype: DType, stored: DType) -> bytes:
    if isinstance(value, str):
        value = int(value, 16 if value.lower().startswith("0x") else 10)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise _Bad("no integer")
    return value.to_bytes(dtype.itemsize, "little", signed=dtype.kind == "i")


def _float(value: Any, dtype: DType, stored: DType) -> bytes:
    if isinstance(value, str):
        if re.fullmatch(r"0[xX][0-9a-fA-F]+", value):
            return int(value, 16).to_bytes(dtype.itemsize, "little")
        if value in _WORDS:
            value = _WORDS[value]
        elif re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", value):
            value = float(value)
        else:
            return _exactly(_unbase64(value), stored, dtype)
    if not isinstance(value, (int, float)):
        raise _Bad("no number")
    with np.errstate(over="ignore"):
        element = np.array(float(value), dtype).tobytes()
    if dtype.itemsize > 8 and np.finfo(dtype).nmant == _X87_MANTISSA:
        element = element[:_X87_NBYTES].ljust(dtype.itemsize, b"\0")  # the rest is not defined
    return element


def _complex(value: Any, dtype: DType, stored: DType) -> bytes:
    half = np.dtype(f"<f{dtype.itemsize // 2}")
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise _Bad("no pair")
        return b"".join(_float(part, half, half) for part in value)
    if isinstance(value, str) and value not in _WORDS:
        return _exactly(_unbase64(value), stored, dtype)
    return _float(value, half, half) + bytes(half.itemsize)


def _time(value: Any, dtype: DType, stored: DType) -> bytes:
    if value in ("NaT", "nat", ""):
        value = _NAT
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return np.array(np.datetime64(value) if dtype.kind == "M" else int(value), dtype).tobytes()
    if not isinstance(value, int):
        raise _Bad("no integer")
    return value.to_bytes(8, "little", signed=True)


def _bytes(value: Any, dtype: DType, stored: DType) -> bytes:
    if value == 0:
        return bytes(dtype.itemsize)
    if isinstance(value, list):
        raw = bytes(value)
    elif isinstance(value, str):
        raw = _unbase64(value)
    else:
        raise _Bad("neither base64 nor a list of bytes")
    return _padded(raw, dtype)


def _variable_bytes(value: Any, dtype: DType, stored: DType) -> bytes:
    if value == 0:  # what zarr-python 2 wrote
        return b""
    if not isinstance(value, str):
        raise _Bad("no base64")
    return _unbase64(value)


def _variable_text(value: Any, dtype: DType, stored: DType) -> bytes:
    if isinstance(value, int | float):  # as zarr-python 3 has it, whose version 2 wrote 0 for text
        value = str(value)
    if not isinstance(value, str):
        raise _Bad("no text")
    return value.encode()


def _text(value: Any, dtype: DType, stored: DType) -> bytes:
    if value == 0:
        return bytes(dtype.itemsize)
    if not isinstance(value, str):
        raise _Bad("no text")
    return _padded(value.encode("utf-32-le"), dtype)


def _structured(value: Any, dtype: DType, stored: DType) -> bytes:
    if value == 0:
        return bytes(dtype.itemsize)
    if isinstance(value, str):
        return _exactly(_unbase64(value), stored, dtype)
    if dtype.subdtype is not None or dtype.names is None:
        raise _Bad("no base64")
    if isinstance(value, dict):
        value = [value.get(field) for field in dtype.names]
    if not isinstance(value, list) or len(value) != len(dtype.names):
        raise _Bad(f"not {len(dtype.names)} values")
    parts = []
    for field, part in zip(dtype.names, value, strict=True):
        kind = dtype[field]
        parts.append(bytes(kind.itemsize) if part is None else _element(part, kind, stored[field]))
    return b"".join(parts)


def _unbase64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise _Bad("no base64") from None


def _padded(raw: bytes, dtype: DType) -> bytes:
    if len(raw) > dtype.itemsize:
        raise _Bad(f"{len(raw)} bytes are too long")
    return raw.ljust(dtype.itemsize, b"\0")


def _exactly(raw: bytes, stored: DType, dtype: DType) -> bytes:
    if len(raw) != stored.itemsize:
        raise _Bad(f"{len(raw)} bytes where {stored.itemsize} belong")
    return truth(np.frombuffer(raw, stored).astype(dtype)).tobytes()


_KINDS = {
    "b": _bool, "i": _int, "u": _int, "f": _float, "c": _complex, "m": _time, "M": _time,
    "S": _bytes, "V": _bytes, "U": _text, "T": _variable_text, "O": _variable_bytes,
}  # fmt: skip
