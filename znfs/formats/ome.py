"""Axes, pixel sizes and origins from image metadata beside arrays: OME-Zarr and its N5 cousins.

Read are OME-Zarr 0.1 to 0.5 (`multiscales`, in 0.5 below `ome`), COSEM's `multiscales` with
`transform`, and n5-viewer's `scales` or `downsamplingFactors` with `pixelResolution`. Nothing here
raises for what attributes hold: what is broken is left out, and `remarks` says what that was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from znfs.codecs.forms import shown
from znfs.formats import axes as axis_rules
from znfs.meta import Axis, Channel

Axes = tuple[Axis, ...]
Remark = Callable[[str], None]

_OLD_VERSIONS = ("0.1", "0.2")  # five axes, not named in the metadata
_OLD_AXES = ("t", "c", "z", "y", "x")
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
SERIES_GROUP = "OME"  # bioformats2raw: its attribute `series` lists the images beside it
_MAX_LEVELS = 1000
_MAX_CHANNELS = 1000
_MAX_CHILDREN = 100_000


def level_axes(attributes: Mapping[str, Any]) -> dict[str, Axes]:
    """The axes of each level's array, by its path below the group with these `attributes`."""
    return _read(attributes, lambda text: None)


def levels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the arrays of the group's first image, the highest resolution first."""
    known = level_axes(attributes)
    images = _source(attributes).get("multiscales")
    for image in images if isinstance(images, list) else []:
        paths = _paths(image.get("datasets")) if isinstance(image, dict) else []
        if found := tuple(path for path in dict.fromkeys(paths) if path in known):
            return found
    return tuple(known)


def channels(attributes: Mapping[str, Any]) -> tuple[Channel, ...]:
    """The channels of the image group with these `attributes`, by its `omero`."""
    return _channels(_source(attributes).get("omero"), lambda text: None)


def children(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths from the group that its metadata says exist: levels, labels, wells, images, series.

    They are what a store that cannot list is known to hold. The series of bioformats2raw are
    named by its group `OME`, and stand beside it (`../0`).
    """
    source = _source(attributes)
    return tuple(dict.fromkeys([
        *level_axes(attributes),
        *_paths(source.get("labels")),
        *_paths(_inside(source, "plate", "wells")),
        *_paths(_inside(source, "well", "images")),
        *(f"../{path}" for path in _paths(source.get("series"))),
    ]))  # fmt: skip


def perhaps(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names below the group that OME-Zarr reserves, and whose groups may be there."""
    source = _source(attributes)
    if "bioformats2raw.layout" in source:
        return (SERIES_GROUP,)
    return ("labels",) if "multiscales" in source else ()


def remarks(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a group's image metadata is broken, in words for people."""
    found: list[str] = []
    _read(attributes, found.append)
    _channels(_source(attributes).get("omero"), found.append)
    return tuple(found)


def _source(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """OME-Zarr's keys: from 0.5 on they are below `ome`, before that beside the others."""
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, dict) else attributes


def _inside(source: Mapping[str, Any], outer: str, inner: str) -> Any:
    value = source.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


def _paths(value: Any) -> list[str]:
    """The paths in a list of paths, or of objects with a `path`."""
    if not isinstance(value, list):
        return []
    given = (v.get("path") if isinstance(v, dict) else v for v in value[:_MAX_CHILDREN])
    paths = (_normal(path) for path in given if isinstance(path, str))
    return [path for path in paths if path and ".." not in path.split("/")]


def _channels(omero: Any, remark: Remark) -> tuple[Channel, ...]:
    if omero is None:
        return ()
    given = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(given, list):
        remark(f"omero: no list of channels but {shown(omero)}")
        return ()
    return tuple(_channel(value, remark) for value in given[:_MAX_CHANNELS])


def _channel(value: Any, remark: Remark) -> Channel:
    if not isinstance(value, dict):
        remark(f"omero: a channel that is no object: {shown(value)}")
        return Channel()
    color, window = value.get("color"), value.get("window")
    rgb = re.fullmatch(r"#?([0-9a-fA-F]{6})", color) if isinstance(color, str) else None
    if color is not None and rgb is None:
        remark(f"omero: no colour of the form RRGGBB: {shown(color)}")
    limits = None
    if window is not None:
        ends = [window.get("start"), window.get("end")] if isinstance(window, dict) else None
        limits = _numbers(ends, 2)
        if limits is None or not limits[0] < limits[1]:
            remark(f"omero: no window from start to end: {shown(window)}")
            limits = None
    return Channel(
        _text(value.get("label")),
        (int(rgb[1][:2], 16), int(rgb[1][2:4], 16), int(rgb[1][4:], 16)) if rgb else None,
        (limits[0], limits[1]) if limits else None,
    )


def _read(attributes: Mapping[str, Any], remark: Remark) -> dict[str, Axes]:
    source = _source(attributes)
    if "multiscales" in source:
        return _multiscales(source["multiscales"], source.get("version"), remark)
    return _n5_viewer(attributes, remark)


def _multiscales(value: Any, version: Any, remark: Remark) -> dict[str, Axes]:
    if not isinstance(value, list):
        remark(f"multiscales: no list but {shown(value)}")
        return {}
    out: dict[str, Axes] = {}
    for image in value:
        if not isinstance(image, dict) or not isinstance(image.get("datasets"), list):
            remark(f"multiscales: an image without a list of datasets: {shown(image)}")
            continue
        axes = _image_axes(image, image.get("version", version), remark)
        for dataset in image["datasets"][:_MAX_LEVELS]:
            path = dataset.get("path") if isinstance(dataset, dict) else None
            if not isinstance(path, str) or not (path := _normal(path)):
                remark(f"multiscales: a dataset without a path: {shown(dataset)}")
                continue
            level = _level(axes, image, dataset, remark)
            if level is not None:
                out.setdefault(path, level)
    return out


def _normal(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _image_axes(image: dict[str, Any], version: Any, remark: Remark) -> Axes | None:
    """The axes without scale: objects (0.4 on), names (0.3), or the fixed five (before)."""
    value = image.get("axes")
    if value is None:
        if version in _OLD_VERSIONS or (version is None and not _has_transforms(image)):
            return tuple(Axis(n, kind=_KINDS[n]) for n in _OLD_AXES)
        if not any(isinstance(d, dict) and "transform" in d for d in image["datasets"]):
            remark(f"multiscales: an image without axes, of version {shown(version)}")
        return None
    if not isinstance(value, list):
        remark(f"multiscales: axes are no list but {shown(value)}")
        return None
    out = []
    for axis in value:
        if isinstance(axis, str):
            axis = {"name": axis}
        name = axis.get("name") if isinstance(axis, dict) else None
        if not isinstance(name, str):
            remark(f"multiscales: an axis without a name: {shown(axis)}")
            return None
        kind, unit = axis.get("type", _KINDS.get(name)), axis.get("unit")
        out.append(Axis(name, unit=_text(unit), kind=_text(kind)))
    if not axis_rules.valid([a.name for a in out]):
        remark(f"multiscales: axes not distinct and alphanumeric: {shown([a.name for a in out])}")
    return tuple(out)


def _has_transforms(image: dict[str, Any]) -> bool:
    return any(
        isinstance(d, dict) and ("coordinateTransformations" in d or "transform" in d)
        for d in image["datasets"]
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _numbers(value: Any, count: int | None = None) -> list[float] | None:
    """`value` as a list of finite numbers, `count` of them; None if it is anything else."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return None
    try:
        out = [float(v) for v in value if isinstance(v, (int, float)) and not isinstance(v, bool)]
    except OverflowError:
        return None
    return out if len(out) == len(value) and all(map(isfinite, out)) else None


def _level(
    axes: Axes | None, image: dict[str, Any], dataset: dict[str, Any], remark: Remark
) -> Axes | None:
    if isinstance(dataset.get("transform"), dict):
        return _cosem(dataset["transform"], remark)
    if axes is None:
        return None
    rank = len(axes)
    scale: list[float] | None = None
    translation: list[float] | None = None
    for place in (dataset, image):  # the level's own come first, then those of all levels
        steps = place.get("coordinateTransformations")
        if steps is None:
            continue
        if not isinstance(steps, list):
            remark(f"coordinateTransformations: no list but {shown(steps)}")
            return axes
        for step in steps:
            kind = step.get("type") if isinstance(step, dict) else None
            values = _numbers(step.get(kind), rank) if kind in ("scale", "translation") else None
            if kind == "identity":
                continue
            if values is None:
                remark(f"coordinateTransformations: not understood: {shown(step)}")
                return axes
            if kind == "scale":
                scale = [a * b for a, b in zip(scale or [1.0] * rank, values, strict=True)]
                if translation:
                    translation = [a * b for a, b in zip(translation, values, strict=True)]
            else:
                origin = translation or [0.0] * rank
                translation = [a + b for a, b in zip(origin, values, strict=True)]
    return _placed(axes, scale, translation)


def _placed(axes: Axes, scale: Sequence[float] | None, translation: Sequence[float] | None) -> Axes:
    return tuple(
        replace(
            axis,
            scale=None if scale is None else scale[k],
            translation=None if translation is None else translation[k],
        )
        for k, axis in enumerate(axes)
    )


def _cosem(transform: dict[str, Any], remark: Remark) -> Axes | None:
    """COSEM's `transform`: axes, scale, translate, units; slowest axis first but for order F."""
    names = transform.get("axes")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        remark(f"transform: axes are {shown(names)}")
        return None
    rank = len(names)
    scale, translation = _numbers(transform.get("scale"), rank), None
    if "translate" in transform:
        translation = _numbers(transform["translate"], rank)
    if scale is None:
        remark(f"transform: scale is {shown(transform.get('scale'))}")
    units = transform.get("units")
    if not isinstance(units, list) or len(units) != rank:
        units = [None] * rank
    axes = tuple(
        Axis(name, unit=_text(unit), kind=_KINDS.get(name))
        for name, unit in zip(names, units, strict=True)
    )
    placed = _placed(axes, scale, translation)
    return placed[::-1] if transform.get("order") == "F" else placed


def _n5_viewer(attributes: Mapping[str, Any], remark: Remark) -> dict[str, Axes]:
    """n5-viewer: levels s0, s1, … with the factors by which each is smaller than the first."""
    key = "scales" if "scales" in attributes else "downsamplingFactors"
    factors = attributes.get(key)
    if not isinstance(factors, list) or not factors or not isinstance(factors[0], list):
        return {}
    out: dict[str, Axes] = {}
    for k, factor in enumerate(factors[:_MAX_LEVELS]):
        values = _numbers(factor)
        if not values:
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
    """
    transform = attributes.get("transform")
    if isinstance(transform, dict):
        axes = _cosem(transform, lambda text: None)
        if axes is not None and len(axes) == ndim:
            return axes
    names, units = attributes.get("axes"), attributes.get("units")
    sizes = attributes.get("pixelResolution", attributes.get("resolution"))
    if isinstance(sizes, dict):
        units = [sizes.get("unit")] * ndim
        sizes = sizes.get("dimensions")
    scale = _numbers(sizes, ndim)
    if scale is not None:
        factors = _numbers(attributes.get("downsamplingFactors"), ndim) or [1.0] * ndim
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
            unit=_text(units[k]) if units else None,
            scale=scale[k] if scale else None,
            kind=_KINDS.get(name) if isinstance(name, str) else None,
        )
        for k, name in enumerate(names or axis_rules.default_names(ndim)[::-1])
    )
    return axes[::-1]
