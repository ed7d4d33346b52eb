"""What a group's attributes say of the image in it: OME-Zarr 0.1 to 0.6 and its N5 cousins.

Read are `multiscales` and `omero` (from 0.5 on below `ome`), the lists of labels, plates, wells
and series, and n5-viewer's `scales` or `downsamplingFactors` with `pixelResolution`. Nothing here
raises for what attributes hold: what is broken is left out, and `remarks` says what that was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from znfs.codecs.forms import shown
from znfs.formats.axes import numbers, text
from znfs.formats.multiscales import multiscales, normal
from znfs.formats.n5axes import (
    LEVEL,
    Axes,
    Remark,
    is_numbered,
    n5_viewer,
    paintera,
    zarr_axes,
)
from znfs.meta import ArrayMeta, Channel, GroupMeta

SERIES_GROUP = "OME"  # bioformats2raw: its attribute `series` lists the images beside it
PAINTERA_DATA = "data"  # the group of levels below one with `painteraData`
_MAX_CHANNELS = 1000
_MAX_CHILDREN = 100_000


def level_axes(attributes: Mapping[str, Any]) -> dict[str, Axes]:
    """The axes of each level's array, by its path below the group with these `attributes`."""
    return _read(attributes, lambda text: None)


def levels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the arrays of the group's first image, the highest resolution first, as far as it
    tells them."""
    known = level_axes(attributes)
    images = _source(attributes).get("multiscales")
    for image in images if isinstance(images, list) else []:
        paths = _paths(image.get("datasets")) if isinstance(image, dict) else []
        if found := tuple(path for path in dict.fromkeys(paths) if path in known):
            return found
    return tuple(known)


def are_levels(group: GroupMeta, first: ArrayMeta) -> bool:
    """Whether a group's arrays s0, which is `first`, s1, … are levels because they are called so:
    in N5, where n5-viewer's groups say no more; elsewhere if Paintera or n5-zarr wrote them."""
    if group.format == "n5" or is_numbered(group.attributes):
        return True
    return zarr_axes(first.attributes, first.shape) is not None


def first_level(attributes: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """What the group says of its first level, if `path` is one of those that it only counts."""
    return paintera(attributes, lambda text: None) if LEVEL.fullmatch(path) else {}


def channels(attributes: Mapping[str, Any]) -> tuple[Channel, ...]:
    """The channels of the image group with these `attributes`, by its `omero`."""
    return _channels(_source(attributes).get("omero"), lambda text: None)


def children(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths from the group that its metadata says exist: levels, labels, wells, images, series.

    They are what a store that cannot list is known to hold: also the images of a scene (0.6).
    The series of bioformats2raw are named by its group `OME`, and stand beside it (`../0`).
    """
    source = _source(attributes)
    return tuple(dict.fromkeys([
        *level_axes(attributes),
        *_paths(source.get("labels")),
        *_paths(_inside(source, "plate", "wells")),
        *_paths(_inside(source, "well", "images")),
        *_paths(_ends(_inside(source, "scene", "coordinateTransformations"))),
        *(f"../{path}" for path in _paths(source.get("series"))),
    ]))  # fmt: skip


def perhaps(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names below the group that OME-Zarr or Paintera reserves, and whose groups may be there."""
    source = _source(attributes)
    if "bioformats2raw.layout" in source:
        return (SERIES_GROUP,)
    if "painteraData" in source:
        return (PAINTERA_DATA,)
    return ("labels",) if "multiscales" in source else ()


def remarks(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a group's image metadata is broken, in words for people."""
    found: list[str] = []
    _read(attributes, found.append)
    source = _source(attributes)
    _channels(source.get("omero"), found.append)
    paintera(attributes, found.append)
    if "scene" in source:
        found.append("scene: its images are shown each in coordinates of its own")
    return tuple(found)


def _source(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """OME-Zarr's keys: from 0.5 on they are below `ome`, before that beside the others."""
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, dict) else attributes


def _inside(source: Mapping[str, Any], outer: str, inner: str) -> Any:
    value = source.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


def _ends(transforms: Any) -> list[Any]:
    """What a scene's transformations lead from and to: references by `path` and `name`."""
    steps = transforms[:_MAX_CHILDREN] if isinstance(transforms, list) else []
    ends = [s.get(end) for s in steps if isinstance(s, dict) for end in ("input", "output")]
    return [end for end in ends if isinstance(end, dict)]


def _paths(value: Any) -> list[str]:
    """The paths in a list of paths, or of objects with a `path`."""
    if not isinstance(value, list):
        return []
    given = (v.get("path") if isinstance(v, dict) else v for v in value[:_MAX_CHILDREN])
    paths = (normal(path) for path in given if isinstance(path, str))
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
        limits = numbers(ends, 2)
        if limits is None or not limits[0] < limits[1]:
            remark(f"omero: no window from start to end: {shown(window)}")
            limits = None
    return Channel(
        text(value.get("label")),
        (int(rgb[1][:2], 16), int(rgb[1][2:4], 16), int(rgb[1][4:], 16)) if rgb else None,
        (limits[0], limits[1]) if limits else None,
    )


def _read(attributes: Mapping[str, Any], remark: Remark) -> dict[str, Axes]:
    source = _source(attributes)
    if "multiscales" in source:
        return multiscales(source["multiscales"], source.get("version"), remark)
    return n5_viewer(attributes, remark)
