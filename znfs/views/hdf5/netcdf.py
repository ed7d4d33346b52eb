"""NetCDF-4: dimension scales (HDF5 Dimension Scale Specification) and the attributes CF needs.

A dimension is a dataset: the array of its name if that is one-dimensional over it (a coordinate
variable), else one without values. A group's arrays share its dimensions and those of the groups
above, by name and size; those of another size are named by it.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from znfs.arrays.array import Array
from znfs.codecs.forms import shown
from znfs.meta import ArrayMeta
from znfs.views import MOST_NAME_BYTES
from znfs.views.hdf5 import conversion
from znfs.views.hdf5.attributes import FixedText, ReferenceLists
from znfs.views.hdf5.objects import Dataset, GroupObject, dimension

# netCDF-C knows by this text that a scale has no values; the number is the dimension's size.
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.{:10d}"

_XARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"


@dataclass(frozen=True)
class Scale:
    """A dimension that is in scope."""

    size: int
    dataset: Dataset


Scales = Mapping[str, Scale]


def dimension_names(meta: ArrayMeta) -> tuple[str, ...] | None:
    """The array's dimension names, if all are known and NetCDF can have them.

    A scalar has none to be unknown.
    """
    names = meta.dimension_names if meta.ndim else ()
    if names is None or len(names) != meta.ndim:
        return None
    if not all(name and _can_be_name(name) for name in names):
        return None
    return tuple(name for name in names if name)


def _can_be_name(name: str) -> bool:
    """Whether a dimension can be called so: it is a link of HDF5, too, and netCDF-C has room for
    256 bytes. Of names that begin with a space or a control character ncdump shows nothing."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # lone surrogates
        return False
    begins_well = name[0] > " " and name[0] != "\x7f"
    legal = name != "." and "/" not in name and "\0" not in name
    return legal and begins_well and length <= MOST_NAME_BYTES


def attach(
    group: GroupObject, arrays: Mapping[str, Array], inherited: Scales, is_netcdf: bool
) -> tuple[Scales, list[str]]:
    """Give `group`'s datasets their dimensions; `arrays` are those that the datasets show.

    A group of scalars is like any other where the file `is_netcdf`, for what is elsewhere in it.
    Returns the dimensions in scope below `group`, and remarks.
    """
    if not is_netcdf and all(a.meta.dimension_names is None for a in arrays.values()):
        return inherited, []
    named = {name: dims for name, a in arrays.items() if (dims := dimension_names(a.meta))}
    own: dict[str, Scale] = {}
    renamed: dict[tuple[str, int], Scale] = {}
    remarks = []
    for name, dims in named.items():
        if dims == (name,):
            scale = _dataset(group, name)
            own[name] = Scale(scale.shape[0], scale)
            scale.reserve("CLASS", "NAME")
            scale.attributes |= _scale_attributes(name)
    # Readers look for a dimension by its name: one that is made here would hide the one above.
    above = {
        name: inherited[name]
        for array_name, dims in named.items()
        for name, size in zip(dims, arrays[array_name].meta.shape, strict=True)
        if name not in own and name in inherited and inherited[name].size == size
    }

    def find(name: str, size: int) -> Scale:
        known = own.get(name) or above.get(name)
        if known is not None and known.size == size:
            return known
        if (name, size) not in renamed:
            free = _free_name(name, size, {*group.children, *own, *above})
            if free != name:
                remarks.append(f"dimension {name!r} of size {size} is named {free!r}")
            made = dimension(size, _scale_attributes(_NO_VARIABLE.format(size)))
            group.children[free] = made
            renamed[name, size] = own[free] = Scale(size, made)
        return renamed[name, size]

    for name, array in arrays.items():
        names = dimension_names(array.meta)
        if names is None:
            if any(array.meta.dimension_names or ()):
                told = shown(list(array.meta.dimension_names or ()))
                remarks.append(f"dimensions of {name!r} have no names: NetCDF cannot have {told}")
            continue
        this = _dataset(group, name)
        this.attributes.pop(_XARRAY_DIMENSIONS, None)
        _set_fill(this, array.meta)
        if array.meta.dtype.kind == "b":
            # xarray's own mark: netCDF-C sees integers.
            this.attributes.setdefault("dtype", "bool")
        if names and names != (name,):
            this.reserve("CLASS", "NAME")
            scales = [find(n, size) for n, size in zip(names, array.meta.shape, strict=True)]
            this.attributes["DIMENSION_LIST"] = ReferenceLists(
                tuple(_address_of(scale.dataset) for scale in scales)
            )
    return {**inherited, **own}, remarks


def _dataset(group: GroupObject, name: str) -> Dataset:
    found = group.children[name]
    assert isinstance(found, Dataset)
    return found


def _address_of(target: Dataset) -> Any:
    return lambda: target.address


def _scale_attributes(name: str) -> dict[str, Any]:
    # Of fixed length: as variable-length strings ncdump loses the dimensions.
    return {"CLASS": FixedText("DIMENSION_SCALE"), "NAME": FixedText(name)}


def _free_name(name: str, size: int, taken: Set[str]) -> str:
    if name not in taken:
        return name
    free = f"{name.encode()[: MOST_NAME_BYTES - 30].decode(errors='ignore')}_{size}"
    while free in taken:
        free += "_"
    return free


def _set_fill(dataset: Dataset, meta: ArrayMeta) -> None:
    """`_FillValue` as xarray understands it: of Zarr v2 the array's fill value, of v3 the
    attribute. NetCDF wants it to have the variable's type."""
    if meta.dtype.kind == "c":
        # To netCDF-C they are structs. Of a file with such a fill value xarray reads nothing.
        dataset.reserve("_FillValue")
        if meta.format == "zarr2" and meta.fill_given:
            dataset.remarks += ("no _FillValue: xarray reads none of complex numbers",)
        return
    if meta.format == "zarr2" and meta.fill_given and meta.dtype.kind in "biuf":
        value: Any = np.frombuffer(meta.fill, meta.dtype)[0]
    else:
        value = _decoded(dataset.attributes.get("_FillValue"), meta.dtype)
    if value is not None:
        typed = np.array([value], meta.dtype)
        dataset.attributes["_FillValue"] = conversion.convert(typed, dataset.stored.dtype)[0]


def _decoded(value: Any, dtype: np.dtype[Any]) -> Any:
    """xarray's encoding of fill values in attributes of Zarr v3; None if it is not that."""
    if dtype.kind == "f" and isinstance(value, str):
        return _decoded_float(value)
    if isinstance(value, bool):
        return value if dtype.kind == "b" else None
    if dtype.kind in "iu" and isinstance(value, int):
        limits = np.iinfo(dtype)
        return value if limits.min <= value <= limits.max else None
    if dtype.kind == "f" and isinstance(value, int | float):
        fits = abs(value) <= float(np.finfo(dtype).max)
        return value if fits or (isinstance(value, float) and not isfinite(value)) else None
    return None


def _decoded_float(text: str) -> float | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return struct.unpack("<d", data)[0] if len(data) == 8 else None
