"""TIFF structures, read back by tifffile."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from znfs.meta import Axis
from znfs.views.tiff.calibration import pixel_size, resolution_tags, unit_name, unitless_tags
from znfs.views.tiff.structure import (
    ASCII,
    BIG,
    CLASSIC,
    IMAGE_DESCRIPTION,
    LONG8,
    RATIONAL,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    X_RESOLUTION,
    Elsewhere,
    Plane,
    rational,
    tiff_dtype,
)


@pytest.mark.parametrize("tiff", [CLASSIC, BIG])
@pytest.mark.parametrize("text", [b"", b"abc", b"abcd", b"abcdefg", b"x" * 1000])
def test_values_stand_in_the_entry_or_behind_the_ifd(tiff, text):
    plane = Plane.of(3, 5, np.dtype("<u2"), 10)
    tags = [(IMAGE_DESCRIPTION, ASCII, text), (X_RESOLUTION, RATIONAL, [Fraction(20, 13)])]
    at = tiff.header_size
    length = len(tiff.ifd(plane.tags(tiff, 0) + tags, at))
    ifd = tiff.ifd(plane.tags(tiff, at + length) + tags, at)
    assert len(ifd) == length
    assert length % 8 == 0
    data = np.arange(15, dtype="<u2").reshape(3, 5)
    with tifffile.TiffFile(io.BytesIO(tiff.header(at) + ifd + data.tobytes())) as found:
        page = found.pages[0]
        assert len(found.pages) == 1
        assert page.description.encode() == text
        assert page.tags[X_RESOLUTION].value == (20, 13)
        assert page.rowsperstrip == 1
        assert np.array_equal(page.asarray(), data)


def test_values_may_stand_elsewhere():
    plane = Plane.of(4, 4, np.dtype("u1"), 4)
    tags = [t for t in plane.tags(BIG, 0) if t[0] not in (STRIP_OFFSETS, STRIP_BYTE_COUNTS)]
    tags += [
        (STRIP_OFFSETS, LONG8, Elsewhere(4, 1000)),
        (STRIP_BYTE_COUNTS, LONG8, Elsewhere(4, 1032)),
    ]
    whole = (BIG.header(16) + BIG.ifd(tags, 16)).ljust(1000, b"\0")
    whole += np.array([1064, 1068, 1072, 1076, 4, 4, 4, 4], "<u8").tobytes() + bytes(range(16))
    assert np.array_equal(
        tifffile.imread(io.BytesIO(whole)), np.arange(16, dtype="u1").reshape(4, 4)
    )


@given(st.floats(2.0**-30, 2.0**30))
def test_rationals_are_as_near_as_31_bits_allow(value):
    numerator, denominator = rational(value)
    assert 0 < numerator < 1 << 31
    assert 0 < denominator < 1 << 31
    assert abs(numerator / denominator / value - 1) < 1e-8


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_rationals_of_any_number_have_parts_above_zero(value):
    assert all(0 < part < 1 << 31 for part in rational(value))


def test_sizes_are_exact_as_they_are_spelled():
    axis = Axis("x", "micrometer", 0.65)
    assert resolution_tags(axis, axis)[0][2] == [Fraction(200000, 13)]  # pixels per cm
    assert unitless_tags(axis, axis)[0][2] == [Fraction(20, 13)]
    assert rational(Fraction(200000, 13)) == (200000, 13)


@pytest.mark.parametrize("scale", [None, 0.0, -1.0])
def test_no_resolution_without_a_size(scale):
    good, bad = Axis("x", "micrometer", 1.0), Axis("y", "micrometer", scale)
    assert pixel_size(bad) is None
    assert resolution_tags(bad, good) == resolution_tags(good, bad) == []
    assert unitless_tags(bad, good) == []


@pytest.mark.parametrize("pixels", [1 << 31, Fraction(1, 1 << 31), Fraction(10**10), 1e-200])
def test_no_resolution_that_31_bits_cannot_hold(pixels):
    """The nearest there is would be read as another size of pixels."""
    size = float(1 / Fraction(pixels))
    good, bad = Axis("x", "centimeter", 1.0), Axis("y", "centimeter", size)
    assert resolution_tags(bad, good) == resolution_tags(good, bad) == []
    assert unitless_tags(bad, good) == []


@pytest.mark.parametrize("unit", ["second", "parsec", None])
def test_no_resolution_in_units_that_tiff_lacks(unit):
    axis = Axis("x", unit, 1.0)
    assert resolution_tags(axis, axis) == []


@pytest.mark.parametrize(
    ("given_unit", "name"),
    [("µm", "micrometer"), ("um", "micrometer"), ("micrometre", "micrometer"), ("nm", "nanometer"),
     ("micrometers", "micrometer"), ("meters", "meter"), ("s", "second"), ("furlong", "furlong"),
     ("\u212b", "angstrom"), ("A\u030a", "angstrom"), ("Angstrom", "angstrom"),
     ("Micrometres", "micrometer"), ("MICRONS", "micrometer"), ("Seconds", "second"),
     ("inches", "inch"), ("Feet", "foot"), ("ft", "foot"), ("ns", "nanosecond"),
     ("Mm", "Mm"), ("femtometre", "femtometer")],
)  # fmt: skip
def test_units_have_one_name(given_unit, name):
    assert unit_name(Axis("x", given_unit)) == name


def test_strips_are_few_however_large_the_plane():
    plane = Plane.of(1 << 31, 1 << 31, np.dtype("u1"), 1 << 20)
    tags = {tag: values for tag, _, values in plane.tags(BIG, 0)}
    assert len(tags[STRIP_OFFSETS]) <= 1 << 16
    assert sum(tags[STRIP_BYTE_COUNTS]) == plane.nbytes


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("bool", "u1"), ("u1", "u1"), ("i8", "i8"), ("f2", "f2"), ("f8", "f8"), ("c8", "c8"),
     ("S4", None), ("U4", None), ("M8[s]", None), ("V3", None), ([("a", "u1")], None)],
)  # fmt: skip
def test_types(stored, shown):
    assert tiff_dtype(np.dtype(stored)) == (None if shown is None else np.dtype(shown))
