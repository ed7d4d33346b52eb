"""Axes, pixel sizes and origins as N5's programs write them: COSEM, n5-viewer, saalfeldlab.

They count axes the other way round, the fastest first; COSEM's `transform` does not, unless its
`order` is F. Nothing here raises for what attributes hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from znfs.codecs.forms import shown
from znfs.formats.axes import KINDS, default_names, numbers, placed, text
from znfs.formats.document import MAX_NDIM
from znfs.meta import Axis

Axes = tuple[Axis, ...]
Remark = Callable[[str], None]

MOST_LEVELS = 1000


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
    out: dict[str, Axes] = {}
    for k, factor in enumerate(factors[:MOST_LEVELS]):
        values = numbers(factor)
        if not values or len(values) > MAX_NDIM:
            remark(f"{key}: level {k} has the factors {shown(factor)}")
            continue
        level = n5_axes({**attributes, "downsamplingFactors": factor}, len(values))
        if level is not None:
            out[f"s{k}"] = level
    return out


def n5_axes(attributes: Mapping[str, Any], ndim: int) -> Axes | None:
    """The axes of an N5 array by its own attributes, slowest first; None if these say nothing.

    Read are `transform` (COSEM), else `axes`, `units`, `resolution`, `pixelResolution` (a list,
    or an object with `dimensions` and `unit`) and `downsamplingFactors`, all fastest axis first.
    A pixel that is the mean of several lies in the middle of these, as n5-viewer shows it.
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
    scale, origin = numbers(sizes, ndim), None
    factors = numbers(attributes.get("downsamplingFactors"), ndim)
    if scale is not None and factors is not None:
        origin = [a * (b - 1) / 2 for a, b in zip(scale, factors, strict=True)]
        scale = [a * b for a, b in zip(scale, factors, strict=True)]
    if not isinstance(names, list) or len(names) != ndim:
        names = None
    if not isinstance(units, list) or len(units) != ndim:
        units = None
    if names is None and units is None and scale is None:
        return None
    axes = tuple(
        Axis(
            name if isinstance(name, str) else "",
            unit=text(units[k]) if units else None,
            scale=scale[k] if scale else None,
            kind=KINDS.get(name) if isinstance(name, str) else None,
            translation=origin[k] if origin else None,
        )
        for k, name in enumerate(names or default_names(ndim)[::-1])
    )
    return axes[::-1]
