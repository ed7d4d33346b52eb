"""The Datatype message (specification IV.A.2.d), one function a class, and numpy's types in it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from znfs.errors import Unsupported
from znfs.views.hdf5.structures import MAX_MESSAGE, pad8

FIXED_POINT, FLOATING_POINT, STRING, OPAQUE, COMPOUND = 0, 1, 3, 5, 6
REFERENCE, ENUMERATED, VARIABLE_LENGTH, ARRAY = 7, 8, 9, 10

NULL_TERMINATED, NULL_PADDED = 0, 1
ASCII, UTF8 = 0, 1

# IEEE 754: (sign location, exponent location, exponent size, mantissa size, exponent bias).
_IEEE = {2: (15, 10, 5, 10, 15), 4: (31, 23, 8, 23, 127), 8: (63, 52, 11, 52, 1023)}

def _datatype(
    kind: int, size: int, bits: int = 0, properties: bytes = b"", version: int = 1
) -> bytes:
    return struct.pack("<B3sI", version << 4 | kind, bits.to_bytes(3, "little"), size) + properties


def fixed_point(size: int, signed: bool) -> bytes:
    """An integer of `size` bytes."""
    return _datatype(FIXED_POINT, size, signed << 3, struct.pack("<HH", 0, 8 * size))


def floating_point(size: int) -> bytes:
    """An IEEE 754 number of 2, 4 or 8 bytes."""
    sign, exponent, exponent_size, mantissa_size, bias = _IEEE[size]
    properties = struct.pack(
        "<HHBBBBI", 0, 8 * size, exponent, exponent_size, 0, mantissa_size, bias
    )
    implied_leading_one = 2 << 4
    return _datatype(FLOATING_POINT, size, sign << 8 | implied_leading_one, properties)


def string(size: int, charset: int = ASCII, padding: int = NULL_PADDED) -> bytes:
    """A string of fixed length."""
    return _datatype(STRING, size, charset << 4 | padding)


def opaque(size: int) -> bytes:
    """Bytes without meaning, with an empty tag."""
    return _datatype(OPAQUE, size)


def enumerated(base: bytes, size: int, members: Mapping[str, bytes]) -> bytes:
    """Named values of an integer type."""
    names = b"".join(pad8(name.encode() + b"\0") for name in members)
    return _datatype(ENUMERATED, size, len(members), base + names + b"".join(members.values()))


def compound(members: Sequence[tuple[str, int, bytes]], size: int, version: int) -> bytes:
    """Members as (name, offset, datatype). Only version 2 may have array members.

    Raises Unsupported for names that HDF5 cannot hold.
    """
    body = b""
    for name, offset, datatype in members:
        body += _member_name(name) + struct.pack("<I", offset)
        if version == 1:  # dimensionality, permutation and dimension sizes: a scalar member
            body += bytes(28)
        body += datatype
    return _datatype(COMPOUND, size, len(members), body, version)


def _member_name(name: str) -> bytes:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:  # lone surrogates
        encoded = b"\0"
    if b"\0" in encoded:
        raise Unsupported(f"a member whose name HDF5 cannot hold: {name!r}")
    return pad8(encoded + b"\0")


def array(base: bytes, shape: Sequence[int], size: int) -> bytes:
    """A member of several elements (version 2)."""
    body = struct.pack(f"<B3x{len(shape)}I{4 * len(shape)}x", len(shape), *shape)
    return _datatype(ARRAY, size, 0, body + base, 2)


def variable_length(base: bytes) -> bytes:
    """A sequence of any length, kept in the global heap."""
    return _datatype(VARIABLE_LENGTH, 16, 0, base)


OBJECT_REFERENCE = _datatype(REFERENCE, 8)
BOOLEAN = enumerated(fixed_point(1, True), 1, {"FALSE": b"\0", "TRUE": b"\1"})
CHARACTER = string(1, padding=NULL_TERMINATED)  # as netCDF-C writes them
VARIABLE_STRING = _datatype(
    VARIABLE_LENGTH, 16, 1 | NULL_TERMINATED << 4 | UTF8 << 8, fixed_point(1, False)
)


def encode(dtype: np.dtype[Any]) -> bytes:
    """The datatype of a numpy type. Raises Unsupported if HDF5 has none for it."""
    encoded = _encode(dtype)
    if len(encoded) > MAX_MESSAGE:
        raise Unsupported(
            f"a type that takes {len(encoded)} bytes to describe; HDF5 has {MAX_MESSAGE} for that"
        )
    return encoded


def _encode(dtype: np.dtype[Any]) -> bytes:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return array(_encode(base), shape, dtype.itemsize)
    if dtype.names is not None:
        members = [
            (name, int(dtype.fields[name][1]), _encode(dtype[name]))  # type: ignore[index]
            for name in dtype.names
        ]
        return compound(members, dtype.itemsize, 2 if _has_array(dtype) else 1)
    encoder = _ENCODERS.get(dtype.kind)
    size = dtype.itemsize
    if encoder is None or (dtype.kind in "fc" and size // (1 + (dtype.kind == "c")) not in _IEEE):
        raise Unsupported(f"HDF5 has no datatype for {dtype}")
    return encoder(size)


def _has_array(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return True
    return any(_has_array(dtype[name]) for name in dtype.names or ())


def _boolean(size: int) -> bytes:
    return BOOLEAN


def _integer(size: int) -> bytes:
    return fixed_point(size, True)


def _unsigned(size: int) -> bytes:
    return fixed_point(size, False)


def _complex(size: int) -> bytes:
    part = floating_point(size // 2)
    return compound([("r", 0, part), ("i", size // 2, part)], size, 1)


_ENCODERS: Mapping[str, Callable[[int], bytes]] = {
    "b": _boolean,
    "i": _integer,
    "u": _unsigned,
    "f": floating_point,
    "c": _complex,
    "S": string,
    "V": opaque,
    "M": _integer,
    "m": _integer,
}
