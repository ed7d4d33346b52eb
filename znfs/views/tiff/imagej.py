"""What ImageJ reads beside the pixels: its description and its metadata tags.

The description is that of `ij.io.FileSaver.getDescriptionString`, a Java properties file. The two
private tags hold labels, display ranges and look-up tables (`ij.io.TiffEncoder.writeMetaData`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, cycle
from math import isfinite

import numpy as np

from znfs.meta import ArrayMeta, Axis, Channel, Index
from znfs.views.tiff.axes import Hyperstack
from znfs.views.tiff.calibration import pixel_size, unit_name, unitless_tags
from znfs.views.tiff.structure import BYTE, LONG, Tag

METADATA_BYTE_COUNTS, METADATA = 50838, 50839

# ImageJ's words for units; it takes any other as it is.
_UNITS = {"micrometer": "micron", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm",
          "meter": "m", "second": "sec", "millisecond": "msec"}  # fmt: skip
# ImageJ blends up to seven channels.
_MOST_BLENDED = 7
# The colours ImageJ gives to channels that have none (ij.CompositeImage).
_COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 255, 255), (255, 0, 255),
           (255, 255, 0))  # fmt: skip
# Beyond this many planes they have no labels: these stand in the header, one for each. Beyond this
# many channels it says nothing of them: a look-up table takes 768 bytes.
_MOST_LABELS = _MOST_CHANNELS = 10_000
_LONGEST_LABEL = 200


def description(meta: ArrayMeta, stack: Hyperstack, start: Index) -> bytes:
    """The ImageDescription of the hyperstack whose first element is `start` of the array."""
    lines = ["ImageJ=1.53t"]
    lengths = {"channels": stack.channels, "slices": stack.slices, "frames": stack.frames}
    several = {key: n for key, n in lengths.items() if n > 1}
    if several:
        lines.append(f"images={stack.count}")
        lines += [f"{key}={n}" for key, n in several.items()]
        if len(several) > 1:
            lines.append("hyperstack=true")
        if stack.channels > 1:
            mode = "composite" if stack.channels <= _MOST_BLENDED else "color"
            lines.append(f"mode={mode}")
    lines += [f"{key}={value}" for key, value in _calibration(meta, stack, start)]
    if stack.channels == 1 and (window := channels(meta, stack)[0].window):
        low, high = _stored(window, meta.dtype)
        lines += [f"min={low!r}", f"max={high!r}"]
    return ("\n".join(lines) + "\n").encode("ascii")


def _calibration(meta: ArrayMeta, stack: Hyperstack, start: Index) -> list[tuple[str, str]]:
    """Units, spacing, frame interval and origin, as far as they are known."""
    row, column = stack.order[-2:]
    x, y = meta.axes[column], meta.axes[row]
    found: list[tuple[str, str]] = []
    if unitless_tags(y, x):  # the sizes themselves
        if unit := _unit(x):
            found.append(("unit", unit))
        if (other := _unit(y)) and other != unit:
            found.append(("yunit", other))
        found += _origin("xorigin", x, start[column]) + _origin("yorigin", y, start[row])
    if stack.z is not None and (size := pixel_size(z := meta.axes[stack.z])):
        found.append(("spacing", repr(float(size))))
        if (other := _unit(z)) and other != _unit(x):
            found.append(("zunit", other))
        found += _origin("zorigin", z, start[stack.z])
    if stack.t is not None and (size := pixel_size(t := meta.axes[stack.t])):
        found.append(("finterval", repr(float(size))))
        if unit := _unit(t):
            found.append(("tunit", unit))
    return found


def _unit(axis: Axis) -> str | None:
    name = unit_name(axis)
    return _escaped(_UNITS.get(name, name)) if name else None


def _origin(key: str, axis: Axis, start: int) -> list[tuple[str, str]]:
    """Where the coordinate is 0, in pixels of the file."""
    assert axis.scale
    origin = -(start + (axis.translation or 0) / axis.scale)
    return [(key, repr(float(origin)))] if origin and isfinite(origin) else []


def _escaped(text: str) -> str:
    """A value of a Java properties file."""
    return "".join(
        c if c.isascii() and c.isprintable() and c != "\\" else _java_escape(c) for c in text
    )


def _java_escape(c: str) -> str:
    units = c.encode("utf-16-be", "replace")
    return "".join(f"\\u{units[k]:02x}{units[k + 1]:02x}" for k in range(0, len(units), 2))


def channels(meta: ArrayMeta, stack: Hyperstack) -> list[Channel]:
    """One for each channel of the stack, known or not; of very many the first 10,000."""
    count = min(stack.channels, _MOST_CHANNELS)
    known = list(meta.channels[:count])
    return known + [Channel()] * (count - len(known))


def metadata_tags(meta: ArrayMeta, stack: Hyperstack) -> list[Tag]:
    """IJMetadataByteCounts and IJMetadata: labels, display ranges and LUTs; none if none known."""
    if stack.channels > _MOST_CHANNELS:
        return []
    shown = channels(meta, stack)
    kinds: list[tuple[bytes, Sequence[bytes]]] = []
    if any(c.name for c in shown) and stack.count <= _MOST_LABELS:
        labels = [(c.name or "")[:_LONGEST_LABEL].encode("utf-16-le", "replace") for c in shown]
        kinds.append((b"labl", labels * (stack.count // stack.channels)))
    if stack.channels > 1:
        if known := [c.window for c in shown if c.window]:
            # A channel without one is shown in the range that has all of the others'.
            widest = min(low for low, _ in known), max(high for _, high in known)
            windows = [_stored(c.window or widest, meta.dtype) for c in shown]
            limits = list(chain.from_iterable(windows))
            kinds.append((b"rang", [struct.pack(f"<{len(limits)}d", *limits)]))
        if any(c.color for c in shown):
            kinds.append((b"luts", [_lut(color) for color in _colors(shown)]))
    if not kinds:
        return []
    # Integers, these four letters too, are in the file's byte order.
    header = b"JIJI" + b"".join(key[::-1] + struct.pack("<I", len(v)) for key, v in kinds)
    parts = [header, *chain.from_iterable(values for _, values in kinds)]
    return [
        (METADATA_BYTE_COUNTS, LONG, [len(part) for part in parts]),
        (METADATA, BYTE, b"".join(parts)),
    ]


def _stored(window: tuple[float, float], dtype: np.dtype) -> tuple[float, float]:
    """ImageJ keeps int16 as uint16 with an offset, and its display range likewise."""
    offset = 32768 if dtype == np.int16 else 0
    return window[0] + offset, window[1] + offset


def _colors(shown: Sequence[Channel]) -> list[tuple[int, int, int]]:
    """Each channel's own colour, or the next of ImageJ's that no channel has."""
    taken = {c.color for c in shown}
    free = cycle([color for color in _COLORS if color not in taken] or _COLORS)
    return [c.color or next(free) for c in shown]


def _lut(color: tuple[int, int, int]) -> bytes:
    """256 reds, greens and blues, from black to `color`."""
    return b"".join(bytes(step * part // 255 for step in range(256)) for part in color)
