"""TIFF readers: libtiff, ImageMagick, SimpleITK, Pillow, tifffile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from tests.conftest import require

# libtiff does not know the two tags that hold ImageJ's channel colours and display ranges.
IMAGEJ_TAGS = re.compile(r"Warning, Unknown field with tag (50838|50839) ")
Volume = np.ndarray[Any, Any]


def run(*words: object) -> str:
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, timeout=120, check=True
    )
    complaints = [line for line in done.stderr.splitlines() if not IMAGEJ_TAGS.search(line)]
    assert not complaints
    return done.stdout


@pytest.fixture(scope="module", params=["zarr", "n5"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue({"zarr": "array", "n5": "dataset"}[request.param])
    return path


def planes(folder: Path, view: str = "tiff") -> list[Path]:
    return sorted((folder / view).iterdir())


def test_tiffinfo(folder: Path, volume: Volume) -> None:
    require("tiffinfo")
    pages = volume.shape[0] * volume.shape[1]
    for path, count in (
        (planes(folder)[31], 1),
        (folder / f"{folder.name}.tif", pages),
        (folder / f"{folder.name}.btf", pages),
    ):
        # -D reads all strips; a wrong offset or count is an error on stderr.
        text = run("tiffinfo", "-D", path)
        assert text.count("TIFF Directory at offset") == count
        sizes = re.findall(r"Image Width: (\d+) Image Length: (\d+)", text)
        assert sizes == [("256", "256")] * count


def test_tiffcmp(array: Path, dataset: Path) -> None:
    require("tiffcmp")
    for a, b in list(zip(planes(array), planes(dataset), strict=True))[::13]:
        run("tiffcmp", "-t", a, b)


@pytest.mark.parametrize("view", ["tiff", "tiff.xz", "tiff.yz"])
def test_imagemagick(folder: Path, volume: Volume, view: str) -> None:
    require("identify", "convert")
    if "ImageMagick" not in run("identify", "-version"):
        pytest.skip("identify is not ImageMagick's")
    name, plane = {
        "tiff": ("c1_z16", volume[1, 16]),
        "tiff.xz": ("c1_y100", volume[1, :, 100]),
        "tiff.yz": ("c1_x009", volume[1, :, :, 9]),
    }[view]
    path = folder / view / f"{folder.name}_{name}.tif"
    assert run("identify", "-format", "%w %h %z", path).split() == [
        str(plane.shape[1]), str(plane.shape[0]), "16"
    ]  # fmt: skip
    done = subprocess.run(
        ["convert", str(path), "-depth", "16", "-endian", "LSB", "gray:-"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == plane.tobytes()


def test_simpleitk(folder: Path, volume: Volume) -> None:
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(planes(folder)[40])))
    np.testing.assert_array_equal(found, volume[1, 10])
    series = SimpleITK.ImageSeriesReader()
    series.SetFileNames([str(path) for path in planes(folder)[:30]])
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(series.Execute()), volume[0])
    stack = SimpleITK.ReadImage(str(folder / f"{folder.name}.btf"))
    found = SimpleITK.GetArrayFromImage(stack)
    np.testing.assert_array_equal(found, volume.reshape(60, 256, 256))


def test_pillow(folder: Path, volume: Volume) -> None:
    with Image.open(folder / f"{folder.name}.tif") as image:
        assert image.n_frames == 60  # type: ignore[attr-defined]
        for i in (0, 1, 35, 59):
            image.seek(i)
            np.testing.assert_array_equal(np.asarray(image), volume[i % 2, i // 2])


def test_tifffile(folder: Path, volume: Volume) -> None:
    with tifffile.TiffFile(folder / f"{folder.name}.tif") as file:
        series = file.series[0]
        assert series.axes == "ZCYX"
        np.testing.assert_array_equal(series.asarray(), volume.swapaxes(0, 1))
        mapped = tifffile.memmap(folder / f"{folder.name}.tif", mode="r")
        seen = np.asarray(mapped).reshape(30, 2, 256, 256)
        np.testing.assert_array_equal(seen[7, 1], volume[1, 7])
    found = tifffile.imread(folder / f"{folder.name}.btf")
    np.testing.assert_array_equal(found.reshape(volume.shape), volume)
