"""OME-TIFF readers on a mount: Bio-Formats, libvips, tifffile."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import tifffile
import zarr

from demo.volume import CHANNELS, PIXEL, halve
from tests.bioformats import describe
from tests.conftest import Mount, require

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


def test_a_billion_chunks(tmp_path: Path, mount: Mount) -> None:
    """A plane of 8 million pixels squared has tables that readers can hold."""
    tiles = 31_623
    datasets = []
    group = zarr.open_group(tmp_path / "w.zarr", mode="w", zarr_format=2)
    for k, side in enumerate((256 * tiles, tiles)):
        level = group.create_array(
            str(k), shape=(side, side), chunks=(256, 256), dtype="u1", fill_value=9
        )
        level[-1, -1] = 77 + k
        step = {"type": "scale", "scale": [256.0**k] * 2}
        datasets.append({"path": str(k), "coordinateTransformations": [step]})
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    path = mount(tmp_path / "w.zarr") / "w.ome.tif"
    (facts,) = describe(path)
    assert facts["corner"] == ["0 77", "1 78"]
    assert [r.split()[0] for r in facts["resolution"]] == [str(256 * tiles), str(tiles)]
    require("tiffinfo")
    done = subprocess.run(["tiffinfo", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Tile Width: 4096 Tile Length: 4096" in done.stdout
    with tifffile.TiffFile(path) as found:
        assert len(found.pages[0].dataoffsets) == (256 * tiles // 4096 + 1) ** 2
