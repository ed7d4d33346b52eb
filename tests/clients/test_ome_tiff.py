"""OME-TIFF readers on a mount: Bio-Formats, libvips, tifffile."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import tifffile

from demo.volume import CHANNELS, PIXEL, halve
from tests.bioformats import describe
from tests.conftest import require

Volume = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def image(array: Path) -> Path:
    return array.parent / "cells.ome.tif"


@pytest.fixture(scope="module")
def levels(volume: Volume) -> list[Volume]:
    """z, c, y, x: as the planes follow each other."""
    return [level.transpose(1, 0, 2, 3) for level in (volume, halve(volume))]


def test_bioformats(image: Path, levels: list[Volume]) -> None:
    (facts,) = describe(image)
    assert facts["reader"] == ["OMETiffReader"]
    assert facts["size"] == [f"{a} {s} µm" for a, s in zip("xyz", PIXEL[::-1], strict=True)]
    colours = [",".join(str(c) for c in bytes.fromhex(colour)) for _, colour in CHANNELS]
    assert facts["channel"] == [f"{n} {c}" for (n, _), c in zip(CHANNELS, colours, strict=True)]
    for line in facts["plane"]:
        level, _, z, c, crc = map(int, line.split())
        assert crc32(np.ascontiguousarray(levels[level][z, c]).tobytes()) == crc
    assert len(facts["plane"]) == sum(level.shape[0] * level.shape[1] for level in levels)


def test_tifffile(image: Path, levels: list[Volume]) -> None:
    with tifffile.TiffFile(image) as found:
        for level, wanted in zip(found.series[0].levels, levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), wanted)


def test_libvips(image: Path, levels: list[Volume], tmp_path: Path) -> None:
    require("vips")
    for level, option in enumerate(("page=31", "page=31,subifd=0")):
        out = tmp_path / f"{level}.tif"
        subprocess.run(["vips", "copy", f"{image}[{option}]", out], check=True)
        np.testing.assert_array_equal(tifffile.imread(out), levels[level][15, 1])
