"""Pixel sizes as TIFF writes them."""

from __future__ import annotations

from fractions import Fraction
from math import inf
from unicodedata import normalize

from znfs.meta import SYMBOLS, Axis
from znfs.views.tiff.structure import (
    MOST_INT,
    RATIONAL,
    RESOLUTION_UNIT,
    SHORT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Tag,
)

# OME-Zarr's names of units by their symbols, and by others met in the wild.
_NAMES = {symbol: name for name, symbol in SYMBOLS.items()} | {
    "um": "micrometer", "μm": "micrometer", "sec": "second", "us": "microsecond",
}  # fmt: skip
# Names that are not those of OME-Zarr even without a plural's s.
_OTHER_NAMES = {"micron": "micrometer", "inche": "inch", "feet": "foot"}

# Centimetres per unit, for TIFF's ResolutionUnit 3; other units have no place in TIFF proper.
_CENTIMETRES = {
    "picometer": Fraction(1, 10**10),
    "angstrom": Fraction(1, 10**8),
    "nanometer": Fraction(1, 10**7),
    "micrometer": Fraction(1, 10**4),
    "millimeter": Fraction(1, 10),
    "centimeter": Fraction(1),
    "inch": Fraction(254, 100),
    "decimeter": Fraction(10),
    "foot": Fraction(3048, 100),
    "yard": Fraction(9144, 100),
    "meter": Fraction(100),
    "kilometer": Fraction(10**5),
    "mile": Fraction(1609344, 10),
}


def unit_name(axis: Axis) -> str | None:
    """The unit by OME-Zarr's name, whatever symbol the metadata has for it."""
    if not axis.unit:
        return None
    unit = normalize("NFC", axis.unit)  # Å is two characters of Unicode
    if unit in _NAMES:
        return _NAMES[unit]
    unit = unit.replace("metre", "meter")
    name = unit.lower().removesuffix("s")  # any case, and the plural
    name = _OTHER_NAMES.get(name, name)
    return name if name in SYMBOLS else unit


def pixel_size(axis: Axis) -> Fraction | None:
    """The pixel's size as the metadata spells it; None if unknown or not positive."""
    if axis.scale is None or not 0 < axis.scale < inf:
        return None
    return Fraction(repr(float(axis.scale)))


def resolution_tags(row: Axis, column: Axis) -> list[Tag]:
    """XResolution and YResolution in pixels per centimetre, where both sizes are known lengths."""
    return _tags(
        [(pixel_size(a), _CENTIMETRES.get(unit_name(a) or "")) for a in (column, row)], 3
    )


def unitless_tags(row: Axis, column: Axis) -> list[Tag]:
    """XResolution and YResolution in pixels per unit of the axes, where both sizes are known."""
    return _tags([(pixel_size(axis), Fraction(1)) for axis in (column, row)], 1)


def _tags(sizes: list[tuple[Fraction | None, Fraction | None]], unit: int) -> list[Tag]:
    """None where TIFF cannot hold the numbers: the nearest that it can would be another size."""
    values = [1 / (size * factor) for size, factor in sizes if size and factor]
    if len(values) < 2 or not all(Fraction(1, MOST_INT) <= value <= MOST_INT for value in values):
        return []
    return [
        (X_RESOLUTION, RATIONAL, values[:1]),
        (Y_RESOLUTION, RATIONAL, values[1:]),
        (RESOLUTION_UNIT, SHORT, [unit]),
    ]
