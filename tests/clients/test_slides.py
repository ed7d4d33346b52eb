"""A whole slide in RGB, in readers made for slides: OpenSlide and TiffSlide."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Mount, require
from tests.images import write_image

Picture = np.ndarray[Any, Any]
SHOWN = [
    {"label": label, "color": color, "window": {"start": 0, "end": 255}}
    for label, color in (("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF"))
]


@pytest.fixture(scope="module")
def levels() -> list[Picture]:
    """c, y, x"""
    data = np.random.default_rng(0).integers(0, 255, (3, 1000, 1500), "u1", endpoint=True)
    return [data[:, ::step, ::step] for step in (1, 2, 4)]


@pytest.fixture(scope="module")
def slide(
    levels: list[Picture], tmp_path_factory: pytest.TempPathFactory, mount_for_module: Mount
) -> Path:
    folder = tmp_path_factory.mktemp("slide") / "slide.zarr"
    write_image(folder, levels, "cyx", chunks=(1, 256, 256), omero={"channels": SHOWN})
    return mount_for_module(folder) / "slide.ome.tif"


def test_openslide(slide: Path, levels: list[Picture], tmp_path: Path) -> None:
    """OpenSlide takes it for a tiled TIFF without a maker, and has its first level."""
    require("openslide-show-properties", "openslide-write-png")
    said = subprocess.run(
        ["openslide-show-properties", slide], capture_output=True, text=True, check=True
    ).stdout
    assert "openslide.vendor: 'generic-tiff'" in said
    assert "openslide.level[0].width: '1500'" in said
    png = tmp_path / "part.png"
    box = ["700", "300", "0", "320", "200"]
    subprocess.run(["openslide-write-png", slide, *box, png], check=True)
    found = np.asarray(Image.open(png))[..., :3]
    np.testing.assert_array_equal(found, levels[0][:, 300:500, 700:1020].transpose(1, 2, 0))


def test_tiffslide(slide: Path, levels: list[Picture]) -> None:
    """TiffSlide has OpenSlide's interface, and all levels of an OME-TIFF."""
    tiffslide = pytest.importorskip("tiffslide")
    with tiffslide.TiffSlide(slide) as found:
        assert found.level_dimensions == ((1500, 1000), (750, 500), (375, 250))
        assert found.properties["tiffslide.mpp-x"] == 0.65
        for k, level in enumerate(levels):
            at = (400, 200)  # in pixels of the first level
            part = np.asarray(found.read_region(at, k, (64, 48)))[..., :3]
            y, x = at[1] >> k, at[0] >> k
            np.testing.assert_array_equal(part, level[:, y : y + 48, x : x + 64].transpose(1, 2, 0))
