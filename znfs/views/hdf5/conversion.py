"""How elements of numpy's types are stored: as the nearest type HDF5 has, and what that changes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from znfs.errors import ChunkError, Unsupported
from znfs.meta import VARIABLE_BYTES, VARIABLE_TEXT
from znfs.views.hdf5 import datatypes
from znfs.views.hdf5.heap import ELEMENT

# numpy's units as CF writes them; the others have no CF unit of fixed length.
_CF_UNITS = {
    "D": "days", "h": "hours", "m": "minutes", "s": "seconds",
    "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
}  # fmt: skip
_XARRAY_UNITS = ("s", "ms", "us", "ns")  # those of time that it has

_CHARACTER = np.dtype("S1")

_VARIABLE: Mapping[np.dtype[Any], bytes] = {
    VARIABLE_TEXT: datatypes.VARIABLE_STRING,
    VARIABLE_BYTES: datatypes.variable_length(datatypes.fixed_point(1, False)),
}


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

    @property
    def is_variable(self) -> bool:
        """Whether elements are references to the global heap, which no conversion of values makes
        (see `variable`)."""
        return self.dtype is ELEMENT


@lru_cache(256)
def stored(
    dtype: np.dtype[Any], *, promote_float16: bool | None = None, netcdf: bool = False
) -> Stored:
    """How elements of `dtype` are stored. Raises Unsupported if HDF5 has no such type.

    `netcdf` is for files of NetCDF, whose strings of bytes have no fixed length: netCDF-C writes
    beyond its buffers when it reads those. In structs they keep theirs; single bytes are NetCDF's
    characters. It crashes of 16-bit floats, too: these are float32 there, and everywhere or
    nowhere as `promote_float16` says.
    """
    if dtype in _VARIABLE:
        return Stored(_VARIABLE[dtype], ELEMENT)
    if dtype == _CHARACTER and netcdf:
        return Stored(datatypes.CHARACTER, dtype)
    if dtype.kind == "U" or (dtype.kind == "S" and netcdf):
        remark = f"{dtype.name} as text of variable length"
        return Stored(datatypes.VARIABLE_STRING, ELEMENT, {}, (remark,))
    target = _stored_dtype(dtype, netcdf if promote_float16 is None else promote_float16)
    attributes, remarks = _time_attributes(dtype)
    if netcdf and _has_strings(target):
        remarks += ("strings in structs have a fixed length: netCDF-C may crash",)
    return Stored(
        datatypes.encode(target), _plain(target), attributes, (*remarks, *_remark(dtype, target))
    )


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
    # Python looks at single characters only: of others beyond U+10FFFF it makes some bytes.
    codes = np.ascontiguousarray(values).reshape(-1).view("<u4")
    if (codes > sys.maxunicode).any():
        raise ChunkError("text that is not Unicode: a character beyond U+10FFFF")
    try:
        return np.char.encode(values, "utf-8")
    except ValueError as error:  # a surrogate, which UTF-8 has no place for
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
    if kind in "SU":
        return np.dtype(f"S{max(1, size)}")  # UTF-8 never takes more than 4 bytes a character
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


def _has_strings(dtype: np.dtype[Any]) -> bool:
    """Whether it is a struct with a string in it, at any depth."""
    if dtype.names is None:
        return False
    members = [dtype[name].base for name in dtype.names]
    return any(member.kind == "S" or _has_strings(member) for member in members)


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


def _time_attributes(dtype: np.dtype[Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """CF units of a datetime64 or timedelta64, which HDF5 stores as int64."""
    if dtype.kind not in "Mm":
        return {}, ()
    unit, count = np.datetime_data(dtype)
    name = _CF_UNITS.get(unit) if count == 1 else None
    if name is None:
        return {"numpy_dtype": dtype.name}, (f"{dtype.name} as int64: CF has no such unit",)
    if dtype.kind == "m":
        # xarray's own mark: without it, it reads numbers.
        exact = unit if unit in _XARRAY_UNITS else "s"
        attributes = {"units": name, "dtype": f"timedelta64[{exact}]"}
        return attributes, (f"{dtype.name} as int64 with CF units",)
    return (
        {"units": f"{name} since 1970-01-01", "calendar": "proleptic_gregorian"},
        (f"{dtype.name} as int64 with CF units",),
    )


def _remark(dtype: np.dtype[Any], target: np.dtype[Any]) -> tuple[str, ...]:
    if dtype.kind not in "SMm" and not same_bytes(dtype, target):
        name = "members" if dtype.names is not None else dtype.name
        return (f"{name} promoted to {target.name if dtype.names is None else 'HDF5 types'}",)
    return ()
