"""numpy types as HDF5 datatypes (specification IV.A.2.d, the Datatype Message)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from znfs.errors import ChunkError, Unsupported
from znfs.views.hdf5.structures import pad8

FIXED_POINT, FLOATING_POINT, STRING, OPAQUE, COMPOUND = 0, 1, 3, 5, 6
REFERENCE, ENUMERATED, VARIABLE_LENGTH, ARRAY = 7, 8, 9, 10

NULL_TERMINATED, NULL_PADDED = 0, 1
ASCII, UTF8 = 0, 1

# IEEE 754: (sign location, exponent location, exponent size, mantissa size, exponent bias).
_IEEE = {2: (15, 10, 5, 10, 15), 4: (31, 23, 8, 23, 127), 8: (63, 52, 11, 52, 1023)}

# numpy's units as CF writes them; the others have no CF unit of fixed length.
_CF_UNITS = {
    "D": "days", "h": "hours", "m": "minutes", "s": "seconds",
    "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
}  # fmt: skip


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
    """Members as (name, offset, datatype). Only version 2 may have array members."""
    body = b""
    for name, offset, datatype in members:
        body += pad8(name.encode("utf-8", "surrogatepass") + b"\0") + struct.pack("<I", offset)
        if version == 1:  # dimensionality, permutation and dimension sizes: a scalar member
            body += bytes(28)
        body += datatype
    return _datatype(COMPOUND, size, len(members), body, version)


def array(base: bytes, shape: Sequence[int], size: int) -> bytes:
    """A member of several elements (version 2)."""
    body = struct.pack(f"<B3x{len(shape)}I{4 * len(shape)}x", len(shape), *shape)
    return _datatype(ARRAY, size, 0, body + base, 2)


def variable_length(base: bytes) -> bytes:
    """A sequence of any length, kept in the global heap."""
    return _datatype(VARIABLE_LENGTH, 16, 0, base)


OBJECT_REFERENCE = _datatype(REFERENCE, 8)
BOOLEAN = enumerated(fixed_point(1, True), 1, {"FALSE": b"\0", "TRUE": b"\1"})
VARIABLE_STRING = _datatype(
    VARIABLE_LENGTH, 16, 1 | NULL_TERMINATED << 4 | UTF8 << 8, fixed_point(1, False)
)


# An element of variable length (specification IV.B): its length, where the global heap's collection
# is, and which of its objects. Not a conversion of values: see `text`.
TEXT = np.dtype([("length", "<u4"), ("collection", "<u8"), ("index", "<u4")])


@dataclass(frozen=True)
class Stored:
    """How elements of one numpy type are stored.

    `datatype` is the message body. `dtype` is the numpy type that has the same bytes as an HDF5
    element. `attributes` say what the datatype cannot (CF units), `remarks` what was converted.
    """

    datatype: bytes
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@lru_cache(256)
def stored(dtype: np.dtype[Any], *, promote_float16: bool = False, netcdf: bool = False) -> Stored:
    """How elements of `dtype` are stored. Raises Unsupported if HDF5 has no such type.

    `netcdf` is for arrays with named dimensions: their strings of bytes have no fixed length.
    """
    if dtype.kind == "U" or (dtype.kind == "S" and netcdf):
        return Stored(VARIABLE_STRING, TEXT, {}, (f"{dtype.name} as text of variable length",))
    target = _stored_dtype(dtype, promote_float16)
    attributes, remarks = _time_attributes(dtype)
    remark = _remark(dtype, target)
    return Stored(_encode(target), _plain(target), attributes, (*remarks, *remark))


def convert(values: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """`values` as `target`, the `dtype` of their Stored.

    A new array unless the bytes are the same. Raises ChunkError for text that is not Unicode.
    """
    if target.names is not None:
        out = np.zeros(values.shape, target)
        for name in target.names:
            out[name] = convert(values[name], target[name].base)
        return out
    if values.dtype.kind == "U":
        return encoded(values).astype(target)
    if values.dtype.kind in "Mmb":
        return values.view(target)
    return values.astype(target, copy=False)


def encoded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Text in UTF-8; bytes as they are. Raises ChunkError if it is not Unicode."""
    if values.dtype.kind == "S":
        return values
    try:
        return np.char.encode(values, "utf-8", "surrogatepass")
    except ValueError as error:  # a code point beyond U+10FFFF
        raise ChunkError(f"text that is not Unicode: {error}") from error


def same_bytes(dtype: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """True if elements of `dtype` are stored as `target` (of its Stored) without conversion."""
    if dtype.names is not None:
        return (
            target.names is not None
            and dtype.itemsize == target.itemsize
            and all(same_bytes(dtype[n].base, target[n].base) for n in dtype.names)
        )
    return dtype == target or (dtype.kind in "Mmb" and dtype.itemsize == target.itemsize)


def _stored_dtype(dtype: np.dtype[Any], promote_float16: bool) -> np.dtype[Any]:
    """The nearest numpy type that HDF5 has; bool stays, to be encoded as an enumeration."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_stored_dtype(base, promote_float16), shape))
    if dtype.names is not None:
        return _stored_struct(dtype, promote_float16)
    kind, size = dtype.kind, dtype.itemsize
    if kind == "f" and size == 2 and promote_float16:
        return np.dtype("<f4")
    if kind == "S":
        return np.dtype(f"S{max(1, size)}")
    if kind == "U":
        return np.dtype(f"S{max(1, size)}")  # UTF-8 never takes more than 4 bytes a character
    if kind == "V" and dtype.type is not np.void:  # ml_dtypes
        return _promoted(dtype)
    if kind in "biufcMm" or (kind == "V" and size):
        return dtype.newbyteorder("<")
    raise Unsupported(f"HDF5 has no datatype for {dtype}")


def _stored_struct(dtype: np.dtype[Any], promote_float16: bool) -> np.dtype[Any]:
    names = dtype.names or ()
    if not names:
        raise Unsupported("a structured type without members")
    formats = [_stored_dtype(dtype[name], promote_float16) for name in names]
    if all(new.itemsize == dtype[name].itemsize for name, new in zip(names, formats, strict=True)):
        offsets = [int(dtype.fields[name][1]) for name in names]  # type: ignore[index]
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize}
        )
    return np.dtype(list(zip(names, formats, strict=True)))


def _promoted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Types of less than 32 bits that readers take for another, or that HDF5 cannot describe."""
    for prefix, target in (("bfloat", "<f4"), ("float", "<f4"), ("int", "i1"), ("uint", "u1")):
        if dtype.name.startswith(prefix):
            return np.dtype(target)
    raise Unsupported(f"HDF5 has no datatype for {dtype}")


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` with types that h5py and numpy name differently as their integers."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_plain(base), shape))
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]  # type: ignore[index]
        return np.dtype(
            {
                "names": dtype.names,
                "formats": [_plain(f[0]) for f in fields],
                "offsets": [f[1] for f in fields],
                "itemsize": dtype.itemsize,
            }
        )
    return np.dtype("<i8") if dtype.kind in "Mm" else dtype


def _has_array(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return True
    return any(_has_array(dtype[name]) for name in dtype.names or ())


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
    encode = _ENCODERS.get(dtype.kind)
    size = dtype.itemsize
    if encode is None or (dtype.kind in "fc" and size // (1 + (dtype.kind == "c")) not in _IEEE):
        raise Unsupported(f"HDF5 has no datatype for {dtype}")
    return encode(size)


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


def _time_attributes(dtype: np.dtype[Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """CF units of a datetime64 or timedelta64, which HDF5 stores as int64."""
    if dtype.kind not in "Mm":
        return {}, ()
    unit, count = np.datetime_data(dtype)
    name = _CF_UNITS.get(unit) if count == 1 else None
    if name is None:
        return {"numpy_dtype": dtype.name}, (f"{dtype.name} as int64: CF has no such unit",)
    if dtype.kind == "m":
        return {"units": name}, (f"{dtype.name} as int64 with CF units",)
    return (
        {"units": f"{name} since 1970-01-01", "calendar": "proleptic_gregorian"},
        (f"{dtype.name} as int64 with CF units",),
    )


def _remark(dtype: np.dtype[Any], target: np.dtype[Any]) -> tuple[str, ...]:
    if dtype.kind not in "SMm" and not same_bytes(dtype, target):
        name = "members" if dtype.names is not None else dtype.name
        return (f"{name} promoted to {target.name if dtype.names is None else 'HDF5 types'}",)
    return ()
