"""Axes, pixel sizes and origins as N5's programs write them: COSEM, n5-viewer, n5-ij, Paintera.

They count axes the other way round, the fastest first; COSEM's `transform` does not, unless its
`order` is F. In Zarr, whose shapes n5-zarr reverses, they write the same. Nothing here raises for
what attributes hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from znfs.codecs.forms import shown
from znfs.formats.axes import KINDS, numbers, placed, text
from znfs.formats.document import MAX_NDIM
from znfs.meta import Axis

Axes = tuple[Axis, ...]
Remark = Callable[[str], None]

MOST_LEVELS = 1000

# Paintera's levels, and what their group says of the first of them.
LEVEL = re.compile("s[0-9]+")
_OF_FIRST = ("axes", "units", "unit", "resolution", "offset")
# n5-ij's numbers and sizes of ImageJ's axes, in ImageJ's order.
_COUNTS = {"c": "numChannels", "z": "numSlices", "t": "numFrames"}
_SIZES = {"x": "pixelWidth", "y": "pixelHeight", "z": "pixelDepth", "t": "frameInterval"}
# What nobody else writes, so that it means the same in Zarr. Others than Fiji's programs have
# `resolution`, `offset` and `axes` there, too, but in the order of Zarr's axes.
_THEIR_OWN = ("transform", "pixelResolution", "downsamplingFactors")


def cosem(transform: dict[str, Any], remark: Remark) -> Axes | None:
    """COSEM's `transform`: axes, scale, translate, units; slowest axis first but for order F."""
    names = transform.get("axes")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        remark(f"transform: axes are {shown(names)}")
        return None
    rank = len(names)
    scale, translation = numbers(transform.get("scale"), rank), None
    if "translate" in transform:
        translation = numbers(transform["translate"], rank)
    if scale is None:
        remark(f"transform: scale is {shown(transform.get('scale'))}")
    units = transform.get("units")
    if not isinstance(units, list) or len(units) != rank:
        units = [None] * rank
    axes = tuple(
        Axis(name, unit=text(unit), kind=KINDS.get(name))
        for name, unit in zip(names, units, strict=True)
    )
    found = placed(axes, scale, translation)
    return found[::-1] if transform.get("order") == "F" else found


def n5_viewer(attributes: Mapping[str, Any], remark: Remark) -> dict[str, Axes]:
    """n5-viewer: levels s0, s1, … with the factors by which each is smaller than the first."""
    key = "scales" if "scales" in attributes else "downsamplingFactors"
    factors = attributes.get(key)
    if not isinstance(factors, list) or not factors or not isinstance(factors[0], list):
        return {}
    first = {**attributes, "downsamplingFactors": None}
    out: dict[str, Axes] = {}
    for k, factor in enumerate(factors[:MOST_LEVELS]):
        values = numbers(factor)
        if not values or len(values) > MAX_NDIM:
            remark(f"{key}: level {k} has the factors {shown(factor)}")
            continue
        level = numbered_level(first, {"downsamplingFactors": factor}, len(values))
        if level is not None:
            out[f"s{k}"] = level
    return out


def paintera(attributes: Mapping[str, Any], remark: Remark) -> dict[str, Any]:
    """Paintera: what a group says of the first of its levels s0, s1, …; nothing without sizes.

    How much smaller the others are, they say themselves (`numbered_level`).
    """
    if not is_numbered(attributes):
        return {}
    found = {key: attributes[key] for key in _OF_FIRST if key in attributes}
    for key in ("resolution", "offset"):
        if key in found and not numbers(found[key]):
            remark(f"{key}: no list of numbers but {shown(found.pop(key))}")
    return found if "resolution" in found else {}


def is_numbered(attributes: Mapping[str, Any]) -> bool:
    """Whether Paintera says that the group's arrays s0, s1, … are levels, however many."""
    return attributes.get("multiScale") is True


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that levels have, s0 first; none without it."""
    if "s0" not in names:  # of a million names, in a hundredth of the time
        return ()
    return tuple(sorted(filter(LEVEL.fullmatch, names), key=lambda name: (len(name), name)))


def numbered_level(first: Mapping[str, Any], own: Mapping[str, Any], ndim: int) -> Axes | None:
    """The axes of a level by what its group says of the `first`, and its `own` factors and unit."""
    axes = n5_axes({"unit": own.get("unit"), **first}, ndim)
    return None if axes is None else _reduced(axes, own.get("downsamplingFactors"))


def imagej(attributes: Mapping[str, Any], shape: Sequence[int]) -> Axes | None:
    """n5-ij: ImageJ's calibration, and its axes x, y, c, z, t but for those of length 1.

    Origins are ImageJ's own, the pixel at which a coordinate is 0 (`ij.measure.Calibration`): n5-ij
    writes and restores them as they are. `frameInterval` is in seconds, ImageJ's unit where no
    other is set; which one is set is not written. `shape` is slowest first. None if it is not that
    of the channels, slices and frames told of.
    """
    counts = {name: attributes.get(key) for name, key in _COUNTS.items()}
    several = [name for name, count in counts.items() if count != 1]
    if None in counts.values() or [counts[name] for name in several] != [*shape[:-2]][::-1]:
        return None
    space = text(attributes.get("pixelUnit"))
    axes = []
    for name in reversed(["x", "y", *several]):
        size = zero = None
        if name in _SIZES:
            size, zero = (numbers([attributes.get(k)]) for k in (_SIZES[name], f"{name}Origin"))
        if name == "t" and size == [0]:
            size = None  # ImageJ's word for not known
        origin = 0 - size[0] * zero[0] if size and zero else None
        unit = {"c": None, "t": "second"}.get(name, space)
        axes.append(Axis(name, unit, size[0] if size else None, origin, KINDS[name]))
    return tuple(axes)


def zarr_axes(attributes: Mapping[str, Any], shape: Sequence[int]) -> Axes | None:
    """The axes of a Zarr array by what n5-zarr wrote for Fiji's programs; None if nothing."""
    own = {key: attributes[key] for key in _THEIR_OWN if key in attributes}
    return imagej(attributes, shape) or n5_axes(own, len(shape))


def n5_axes(attributes: Mapping[str, Any], ndim: int) -> Axes | None:
    """The axes of an N5 array by its own attributes, slowest first; None if these say nothing.

    Read are `transform` (COSEM), else `axes`, `units`, `pixelResolution` (a list, or an object with
    `dimensions` and `unit`), `resolution` and `unit`, `offset` and `downsamplingFactors`, all
    fastest axis first. Sizes may be of fewer axes than there are, the first ones, or of more: n5-ij
    writes three of every image. A pixel that is the mean of several lies in the middle of these, as
    n5-viewer shows it, but for `offset`, which is where the first one lies. A name that nothing
    tells is empty.
    """
    transform = attributes.get("transform")
    if isinstance(transform, dict):
        axes = cosem(transform, lambda text: None)
        if axes is not None and len(axes) == ndim:
            return axes
    names, units = attributes.get("axes"), attributes.get("units")
    sizes = attributes.get("pixelResolution", attributes.get("resolution"))
    if isinstance(sizes, dict):
        units = [sizes.get("unit")] * ndim
        sizes = sizes.get("dimensions")
    elif numbers(sizes) and not isinstance(units, list):
        units = [attributes.get("unit")] * ndim
    if not isinstance(names, list) or len(names) != ndim:
        names = None
    if not isinstance(units, list) or len(units) != ndim:
        units = None
    scale = _of_first(sizes, ndim)
    if names is None and units is None and not any(scale):
        return None
    axes = tuple(
        Axis(
            name if isinstance(name, str) else "",
            unit=text(units[k]) if units else None,
            scale=scale[k],
            kind=KINDS.get(name) if isinstance(name, str) else None,
        )
        for k, name in enumerate(names or [""] * ndim)
    )
    axes = _reduced(axes[::-1], attributes.get("downsamplingFactors"))
    offset = _of_first(attributes.get("offset"), ndim)[::-1]
    return tuple(
        axis if zero is None or axis.scale is None else replace(axis, translation=zero)
        for axis, zero in zip(axes, offset, strict=True)
    )


def _reduced(axes: Axes, factors: Any) -> Axes:
    """`axes`, slowest first, of pixels that are the mean of so many, fastest axis first."""
    steps = _of_first(factors, len(axes))[::-1]
    return tuple(
        axis if step is None or axis.scale is None else replace(
            axis,
            scale=axis.scale * step,
            translation=(axis.translation or 0) + axis.scale * (step - 1) / 2,
        )
        for axis, step in zip(axes, steps, strict=True)
    )  # fmt: skip


def _of_first(values: Any, ndim: int) -> list[float | None]:
    """Numbers of the first of `ndim` axes, None for all that have none."""
    return [*(numbers(values) or []), *[None] * ndim][:ndim]
