"""ImageJ 1 opens the planes' folder as a virtual stack and the `.tif` as a hyperstack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.imagej import imagej

Volume = np.ndarray[Any, Any]


STATISTICS = """
getDimensions(width, height, channels, slices, frames);
getVoxelSize(dx, dy, dz, unit);
print("size\\t" + width + "\\t" + height + "\\t" + channels + "\\t" + slices + "\\t" + frames
    + "\\t" + bitDepth() + "\\t" + is("Virtual Stack"));
print("pixel\\t" + d2s(dx, 6) + "\\t" + d2s(dy, 6) + "\\t" + d2s(dz, 6) + "\\t" + unit);
for (i = 1; i <= nSlices; i++) {
    setSlice(i);
    getRawStatistics(count, mean, min, max);
    print("plane\\t" + i + "\\t" + count + "\\t" + d2s(mean, 6) + "\\t" + min + "\\t" + max
        + "\\t" + getPixel(17, 101));
}
"""


def check_planes(lines: list[list[str]], planes: Volume) -> None:
    """Count, mean, least, greatest and one pixel of every plane are numpy's."""
    found = [[float(word) for word in words] for kind, *words in lines if kind == "plane"]
    assert len(found) == len(planes)
    for (number, count, mean, least, greatest, pixel), plane in zip(found, planes, strict=True):
        assert (count, least, greatest) == (plane.size, plane.min(), plane.max()), number
        assert mean == pytest.approx(plane.mean(), abs=1e-6)
        assert pixel == plane[101, 17]


def line(lines: list[list[str]], kind: str) -> list[str]:
    return next(words for word, *words in lines if word == kind)


@pytest.mark.parametrize("store", ["array", "dataset"])
def test_folder_of_planes_as_virtual_sequence(
    store: str, request: pytest.FixtureRequest, volume: Volume, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(store)
    macro = 'run("Image Sequence...", "open=[" + getArgument() + "] sort use");' + STATISTICS
    lines = imagej(tmp_path, macro, min((folder / "tiff").iterdir()))
    assert line(lines, "size") == ["256", "256", "1", "60", "1", "16", "1"]
    check_planes(lines, volume.reshape(60, 256, 256))


@pytest.mark.parametrize("store", ["array", "dataset"])
def test_tif_as_hyperstack(
    store: str, request: pytest.FixtureRequest, volume: Volume, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(store)
    macro = "open(getArgument());" + STATISTICS
    lines = imagej(tmp_path, macro, folder / f"{folder.name}.tif")
    assert line(lines, "size")[:6] == ["256", "256", "2", "30", "1", "16"]
    x, y, z, unit = line(lines, "pixel")
    assert (float(x), float(y), float(z)) == (0.16, 0.16, 0.5)
    assert unit in ("um", "µm", "micron", "microns", "micrometer")
    check_planes(lines, volume.swapaxes(0, 1).reshape(60, 256, 256))
