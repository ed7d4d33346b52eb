"""`multiscales`: the axes, pixel sizes and origins of an image's levels, OME-Zarr 0.1 to 0.6.

What changed from version to version: where the axes stand (nowhere: five fixed ones in 0.1 and
0.2; names in 0.3; objects in 0.4; below `coordinateSystems` in 0.6), and how a level is placed
(not at all; `coordinateTransformations` from 0.4, one of type `sequence` in 0.6). COSEM's images
in N5 have the same key, and `transform` in each level. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from znfs.codecs.forms import shown
from znfs.formats import axes as axis_rules
from znfs.formats.axes import KINDS, numbers, placed, text
from znfs.formats.n5axes import MOST_LEVELS, Axes, Remark, cosem
from znfs.meta import Axis

_OLD_VERSIONS = ("0.1", "0.2")  # five axes, not named in the metadata
_OLD_AXES = ("t", "c", "z", "y", "x")
_DEEPEST_SEQUENCE = 10


def multiscales(value: Any, version: Any, remark: Remark) -> dict[str, Axes]:
    """The axes of each level by its path. `version` is the one that stands beside `value`."""
    if not isinstance(value, list):
        remark(f"multiscales: no list but {shown(value)}")
        return {}
    out: dict[str, Axes] = {}
    for image in value:
        if not isinstance(image, dict) or not isinstance(image.get("datasets"), list):
            remark(f"multiscales: an image without a list of datasets: {shown(image)}")
            continue
        systems = _systems(image, image.get("version", version), remark)
        for dataset in image["datasets"][:MOST_LEVELS]:
            path = dataset.get("path") if isinstance(dataset, dict) else None
            if not isinstance(path, str) or not (path := normal(path)):
                remark(f"multiscales: a dataset without a path: {shown(dataset)}")
                continue
            if isinstance(dataset.get("transform"), dict):
                level = cosem(dataset["transform"], remark)
            else:
                level = _level(systems, image, dataset, remark)
            if level is not None:
                out.setdefault(path, level)
    return out


def normal(path: str) -> str:
    """A path as keys spell it."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _systems(image: dict[str, Any], version: Any, remark: Remark) -> dict[str, Axes]:
    """The image's coordinate systems: axes without scale, by name; before 0.6 one without name."""
    systems = image.get("coordinateSystems")
    if not isinstance(systems, list):
        axes = _image_axes(image, version, remark)
        return {} if axes is None else {"": axes}
    out: dict[str, Axes] = {}
    for system in systems:
        name = system.get("name") if isinstance(system, dict) else None
        axes = _axes(system["axes"], remark) if isinstance(name, str) and "axes" in system else None
        if axes is None:
            remark(f"coordinateSystems: one without a name or axes: {shown(system)}")
        else:
            out[str(name)] = axes
    if not out:
        remark(f"multiscales: an image without axes, of version {shown(version)}")
    else:
        used = {_system(out, d) for d in image["datasets"] if isinstance(d, dict)}
        if others := [name for name in out if name not in used]:
            own, rest = ", ".join(sorted(used)), ", ".join(others)
            remark(f"coordinateSystems: levels lie in {own}, and are not shown in {rest}")
    return out


def _image_axes(image: dict[str, Any], version: Any, remark: Remark) -> Axes | None:
    """The axes without scale: objects (0.4 on), names (0.3), or the fixed five (before)."""
    value = image.get("axes")
    if value is None:
        if version in _OLD_VERSIONS or (version is None and not _has_transforms(image)):
            return tuple(Axis(n, kind=KINDS[n]) for n in _OLD_AXES)
        if not any(isinstance(d, dict) and "transform" in d for d in image["datasets"]):
            remark(f"multiscales: an image without axes, of version {shown(version)}")
        return None
    return _axes(value, remark)


def _axes(value: Any, remark: Remark) -> Axes | None:
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
        kind, unit = axis.get("type", KINDS.get(name)), axis.get("unit")
        out.append(Axis(name, unit=text(unit), kind=text(kind)))
    if not axis_rules.valid([a.name for a in out]):
        remark(f"multiscales: axes not distinct and alphanumeric: {shown([a.name for a in out])}")
    return tuple(out)


def _has_transforms(image: dict[str, Any]) -> bool:
    return any(
        isinstance(d, dict) and ("coordinateTransformations" in d or "transform" in d)
        for d in image["datasets"]
    )


def _level(
    systems: dict[str, Axes], image: dict[str, Any], dataset: dict[str, Any], remark: Remark
) -> Axes | None:
    """A level's axes with its scale and origin, as far as these are understood."""
    if not systems:
        return None
    # From 0.6 on what stands beside the levels leads from the image's own system to others.
    # Before, it applies to all levels, after their own.
    places = [dataset] if "" not in systems else [dataset, image]
    axes = systems[_system(systems, dataset)]
    rank = len(axes)
    scale: list[float] | None = None
    translation: list[float] | None = None
    for place in places:
        steps = place.get("coordinateTransformations")
        if steps is None:
            continue
        if not isinstance(steps, list):
            remark(f"coordinateTransformations: no list but {shown(steps)}")
            return axes
        for step in _flat(steps):
            kind = step.get("type") if isinstance(step, dict) else None
            if kind == "identity":
                scale = scale or [1.0] * rank
                continue
            values = numbers(step.get(kind), rank) if kind in ("scale", "translation") else None
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
    return placed(axes, scale, translation)


def _system(systems: dict[str, Axes], dataset: dict[str, Any]) -> str:
    """The system that a level lies in: that of its transformation's output, else the last."""
    last = next(reversed(systems))
    steps = dataset.get("coordinateTransformations")
    output = (
        steps[0].get("output")
        if isinstance(steps, list) and steps and isinstance(steps[0], dict)
        else None
    )
    name = output.get("name") if isinstance(output, dict) else output
    return name if isinstance(name, str) and name in systems else last


def _flat(steps: list[Any], depth: int = 0) -> Iterator[Any]:
    """The transformations one after the other, those of a `sequence` in its place."""
    for step in steps:
        inner = step.get("transformations") if isinstance(step, dict) else None
        is_sequence = isinstance(inner, list) and step.get("type") == "sequence"
        if isinstance(inner, list) and is_sequence and depth < _DEEPEST_SEQUENCE:
            yield from _flat(inner, depth + 1)
        else:
            yield step
