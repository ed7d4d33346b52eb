"""Pixel sizes as TIFF and ImageJ write them."""

from __future__ import annotations

from znfs.meta import Axis
from znfs.views.tiff.structure import (
    RATIONAL,
    RESOLUTION_UNIT,
    SHORT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Tag,
)

# Centimetres per unit, for TIFF's ResolutionUnit 3; other units have no place in TIFF proper.
_CENTIMETRES = {
    "angstrom": 1e-8, "nanometer": 1e-7, "micrometer": 1e-4, "millimeter": 0.1, "centimeter": 1.0,
    "meter": 100.0, "nm": 1e-7, "um": 1e-4, "µm": 1e-4, "mm": 0.1, "cm": 1.0, "m": 100.0,
}  # fmt: skip

# ImageJ's names for units in its description.
_IMAGEJ_UNITS = {"micrometer": "micron", "um": "micron", "µm": "micron", "nanometer": "nm",
                 "millimeter": "mm", "centimeter": "cm", "meter": "m", "second": "sec",
                 "s": "sec"}  # fmt: skip


def resolution_tags(row: Axis, column: Axis) -> list[Tag]:
    """XResolution and YResolution in pixels per centimetre, where both sizes are known lengths."""
    sizes = []
    for axis in (column, row):
        factor = _CENTIMETRES.get(axis.unit or "")
        if factor is None or not axis.scale or not axis.scale > 0:
            return []
        sizes.append(1 / (axis.scale * factor))
    return [
        (X_RESOLUTION, RATIONAL, [sizes[0]]),
        (Y_RESOLUTION, RATIONAL, [sizes[1]]),
        (RESOLUTION_UNIT, SHORT, [3]),
    ]


def imagej_unit(unit: str | None) -> str | None:
    """ImageJ's word for a unit."""
    return _IMAGEJ_UNITS.get(unit, unit) if unit else None


def imagej_tags(row: Axis, column: Axis) -> list[Tag]:
    """XResolution and YResolution in pixels per the description's `unit`, as ImageJ reads them."""
    if not (row.scale and column.scale and row.scale > 0 and column.scale > 0):
        return []
    return [
        (X_RESOLUTION, RATIONAL, [1 / column.scale]),
        (Y_RESOLUTION, RATIONAL, [1 / row.scale]),
        (RESOLUTION_UNIT, SHORT, [1]),
    ]
