"""TIFF structures (TIFF 6.0, June 1992; BigTIFF, Aware Systems design), always little-endian.

Classic TIFF and BigTIFF differ in one value object. An image file directory (IFD) is written with
the values that do not fit its entries right behind it, so that its length depends on the tags'
counts alone: the IFDs of a series of planes have one length and any of them is arithmetic.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

# Field types (TIFF 6.0 p. 15; BigTIFF adds LONG8).
BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
_FORMATS = {BYTE: "B", ASCII: "c", SHORT: "H", LONG: "I", RATIONAL: "II", LONG8: "Q"}

# Tags (TIFF 6.0, parts 1 and 2; SubIFDs of TIFF Tech Note 1).
NEW_SUBFILE_TYPE = 254
IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION = 256, 257, 258, 259
PHOTOMETRIC, IMAGE_DESCRIPTION, STRIP_OFFSETS, SAMPLES_PER_PIXEL = 262, 270, 273, 277
ROWS_PER_STRIP, STRIP_BYTE_COUNTS, X_RESOLUTION, Y_RESOLUTION = 278, 279, 282, 283
PLANAR_CONFIGURATION, RESOLUTION_UNIT, SAMPLE_FORMAT = 284, 296, 339
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS, SUB_IFDS = 322, 323, 324, 325, 330

# SampleFormat (TIFF 6.0 p. 80; 6 is complex IEEE floating point) by numpy kind.
SAMPLE_FORMATS = {"u": 1, "b": 1, "i": 2, "f": 3, "c": 6}

MOST_INT = (1 << 31) - 1  # that readers with signed integers take
_MOST_HEADER = 1 << 20  # bytes of what stands before the samples of one plane
# A plane has no more strips than this, so that its tables stay small whatever its shape.
_MOST_STRIPS = 1 << 16


@dataclass(frozen=True)
class Elsewhere:
    """Values that do not follow their IFD: `count` of them at offset `at`."""

    count: int
    at: int


Tag = tuple[int, int, Sequence[Any] | bytes | Elsewhere]


@dataclass(frozen=True)
class TiffFormat:
    """What classic TIFF and BigTIFF do not share: the widths of counts and offsets."""

    header_size: int
    magic: bytes
    offset: str  # struct code of an offset
    count: str  # struct code of the number of entries of an IFD
    offset_type: int
    limit: int  # offsets and sizes stay below this

    def holds(self, nbytes: int) -> bool:
        """Whether a plane of `nbytes` bytes fits in, with what stands before it."""
        return nbytes < self.limit - _MOST_HEADER

    def header(self, first_ifd: int) -> bytes:
        """The file header, pointing at the first IFD."""
        return self.magic + struct.pack("<" + self.offset, first_ifd)

    def ifd(self, tags: Sequence[Tag], at: int, next_ifd: int = 0) -> bytes:
        """The IFD with `tags`, to stand at offset `at`, and the values behind it."""
        inline = struct.calcsize("<" + self.offset)
        entries, values = [], b""
        values_at = at + self._fixed_size(len(tags))
        for code, kind, content in sorted(tags, key=lambda tag: tag[0]):
            if isinstance(content, Elsewhere):
                count, field = content.count, struct.pack("<" + self.offset, content.at)
            else:
                data = _encode(kind, content)
                count = len(data) // struct.calcsize("<" + _FORMATS[kind])
                if len(data) <= inline:
                    field = data.ljust(inline, b"\0")
                else:
                    field = struct.pack("<" + self.offset, values_at + len(values))
                    values += data + b"\0" * (-len(data) % 8)
            entries.append(struct.pack("<HH" + self.offset, code, kind, count) + field)
        head = struct.pack("<" + self.count, len(tags)) + b"".join(entries)
        return (head + struct.pack("<" + self.offset, next_ifd)).ljust(
            self._fixed_size(len(tags)), b"\0"
        ) + values

    def _fixed_size(self, tags: int) -> int:
        offset = struct.calcsize("<" + self.offset)
        size = struct.calcsize("<" + self.count) + tags * (4 + 2 * offset) + offset
        return size + -size % 8


CLASSIC = TiffFormat(8, b"II*\0", "I", "H", LONG, 1 << 32)
BIG = TiffFormat(16, b"II+\0\x08\0\0\0", "Q", "Q", LONG8, 1 << 63)


def _encode(kind: int, content: Sequence[Any] | bytes) -> bytes:
    if isinstance(content, bytes):
        return content + b"\0" if kind == ASCII else content
    if kind == RATIONAL:
        content = [part for value in content for part in rational(value)]
        return struct.pack(f"<{len(content)}I", *content)
    return struct.pack(f"<{len(content)}{_FORMATS[kind]}", *content)


def rational(value: float | Fraction) -> tuple[int, int]:
    """A positive number as the nearest fraction that readers with signed integers take too."""
    exact = Fraction(value)
    if exact >= 1:  # both parts have to stay below 2^31
        inverse = (1 / exact).limit_denominator(MOST_INT)
        return (inverse.denominator, inverse.numerator) if inverse else (MOST_INT, 1)
    nearest = exact.limit_denominator(MOST_INT)
    return (nearest.numerator, nearest.denominator) if nearest else (1, MOST_INT)


@dataclass(frozen=True)
class Plane:
    """The shape and type of one image: `rows` x `columns` samples, uncompressed, in strips."""

    rows: int
    columns: int
    dtype: np.dtype[Any]
    rows_per_strip: int

    @classmethod
    def of(cls, rows: int, columns: int, dtype: np.dtype[Any], strip: int | None = None) -> Plane:
        """Strips of about `strip` bytes; without it the plane is one strip."""
        if strip is None:
            return cls(rows, columns, dtype, rows)
        per_strip = max(1, strip // (columns * dtype.itemsize), -(-rows // _MOST_STRIPS))
        return cls(rows, columns, dtype, min(rows, per_strip))

    @property
    def nbytes(self) -> int:
        return self.rows * self.columns * self.dtype.itemsize

    def tags(self, tiff: TiffFormat, data_at: int) -> list[Tag]:
        """The tags every reader needs for samples that begin at offset `data_at`."""
        strip = self.rows_per_strip * self.columns * self.dtype.itemsize
        starts = range(0, self.nbytes, strip)
        return [
            (NEW_SUBFILE_TYPE, LONG, [0]),
            (IMAGE_WIDTH, LONG, [self.columns]),
            (IMAGE_LENGTH, LONG, [self.rows]),
            (BITS_PER_SAMPLE, SHORT, [8 * self.dtype.itemsize]),
            (COMPRESSION, SHORT, [1]),
            (PHOTOMETRIC, SHORT, [1]),  # black is zero
            (STRIP_OFFSETS, tiff.offset_type, [data_at + start for start in starts]),
            (SAMPLES_PER_PIXEL, SHORT, [1]),
            (ROWS_PER_STRIP, LONG, [self.rows_per_strip]),
            (
                STRIP_BYTE_COUNTS,
                tiff.offset_type,
                [min(strip, self.nbytes - start) for start in starts],
            ),
            (SAMPLE_FORMAT, SHORT, [SAMPLE_FORMATS[self.dtype.kind]]),
        ]


def sample_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """As tiff_dtype, of an array that has planes: all others were refused."""
    found = tiff_dtype(dtype)
    assert found is not None
    return found


def tiff_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The type that values of `dtype` have in a TIFF; None if TIFF has none for them.

    Booleans are uint8 0 and 1.
    """
    if dtype.kind == "b":
        return np.dtype("u1")
    if dtype.kind in "ui" and dtype.itemsize in (1, 2, 4, 8):
        return dtype
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return dtype
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return dtype
    return None
