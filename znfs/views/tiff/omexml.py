"""OME-XML (schema 2016-06) of one image, as the first IFD's description of an OME-TIFF."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from znfs.meta import LENGTHS, TIMES, Axis, Channel
from znfs.views.tiff.calibration import pixel_size, unit_name

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

# PixelType by what tiff_dtype makes of a type. OME has no 64-bit integers and no half floats.
PIXEL_TYPES = {
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "i1": "int8", "i2": "int16", "i4": "int32",
    "f4": "float", "f8": "double", "c8": "complex", "c16": "double-complex",
}  # fmt: skip

# What is no Char of XML 1.0, and white space that attributes keep as `&#10;` only; the other
# controls (C1) are discouraged there.
_NOT_XML = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Pixels:
    """What the document says of the image. Axes that it does not have are None."""

    name: str
    dtype: np.dtype[Any]
    order: str  # OME's DimensionOrder, fastest first
    x: int
    y: int
    z: int
    c: int
    t: int
    axes: dict[str, Axis | None]  # of x, y, z, t
    channels: Sequence[Channel]  # the first 10,000 of c
    samples: int = 1  # channels in one pixel: 3 of RGB


def document(pixels: Pixels) -> bytes:
    """The document, in UTF-8. Bio-Formats cannot read character references (`&#181;`)."""
    schema = f"{_NAMESPACE} {_NAMESPACE}/ome.xsd"
    root = ET.Element(
        "OME",
        {
            "xmlns": _NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": schema,
            "Creator": "znfs",
        },
    )
    image = ET.SubElement(root, "Image", ID="Image:0", Name=_text(pixels.name))
    element = ET.SubElement(
        image,
        "Pixels",
        {
            "ID": "Pixels:0",
            "DimensionOrder": pixels.order,
            "Type": PIXEL_TYPES[pixels.dtype.str[1:]],
            **{f"Size{axis.upper()}": str(getattr(pixels, axis)) for axis in "xyzct"},
            "BigEndian": "false",
            "Interleaved": "true" if pixels.samples > 1 else "false",
            **_sizes(pixels.axes),
        },
    )
    described = pixels.channels[: pixels.c // pixels.samples]
    for i, channel in enumerate(described):
        attributes = {"ID": f"Channel:0:{i}", "SamplesPerPixel": str(pixels.samples)}
        if pixels.samples == 1:
            attributes |= _looks(channel)
        ET.SubElement(element, "Channel", attributes)
    planes = pixels.z * pixels.c * pixels.t // pixels.samples
    ET.SubElement(element, "TiffData", IFD="0", PlaneCount=str(planes))
    text: bytes = ET.tostring(root, "utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + text


def _sizes(axes: dict[str, Axis | None]) -> dict[str, str]:
    """PhysicalSizeX/Y/Z and TimeIncrement with their units, as far as they are known.

    Sizes without a unit are counted in OME's unit `pixel`: their ratio may be known at least.
    """
    found: dict[str, str] = {}
    for name, axis in axes.items():
        size = pixel_size(axis) if axis else None
        if axis is None or size is None:
            continue
        unit = unit_name(axis)
        key, units = (
            ("TimeIncrement", TIMES) if name == "t" else (f"PhysicalSize{name.upper()}", LENGTHS)
        )
        symbol = units.get(unit) if unit else (None if name == "t" else "pixel")
        if symbol:
            found[key] = repr(float(size))
            found[key + "Unit"] = symbol
    return found


def _looks(channel: Channel) -> dict[str, str]:
    """Name and Color, which is red, green, blue and alpha in a signed integer."""
    found = {}
    if channel.name:
        found["Name"] = _text(channel.name)
    if channel.color:
        rgba = int.from_bytes(bytes((*channel.color, 255)), "big")
        found["Color"] = str(rgba - (1 << 32) if rgba >= 1 << 31 else rgba)
    return found


def _text(text: str) -> str:
    """`text` without what XML 1.0 cannot hold, and what it holds as references only."""
    return _NOT_XML.sub(" ", text)
