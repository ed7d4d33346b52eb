"""Images and plates as the last release of ome-zarr on zarr 2 writes them: 0.1 to 0.4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from tests.environments import OF_ZARR2, python_with, run_with
from tests.images import Handle
from znfs.tree import open_tree

VERSIONS = ("0.1", "0.2", "0.3", "0.4")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).integers(0, 60_000, (2, 3, 4, 64, 48)).astype("<u2")


@pytest.fixture(scope="module")
def written(tmp_path_factory, data):
    python = python_with(*OF_ZARR2)
    root = tmp_path_factory.mktemp("old")
    np.save(root / "data.npy", data)
    run_with(python, Path(__file__).with_name("ome_old.py"), root, *VERSIONS)
    return root


@pytest.mark.parametrize("version", VERSIONS)
def test_images(written, data, version):
    folder = written / f"i-{version}.zarr"
    tree = open_tree(str(folder))
    found = {d.path: d for d in tree.describe()}
    assert not [text for text in found[""].remarks if text.startswith(("multiscales:", "omero:"))]
    stored = zarr.open_group(folder, mode="r")
    levels = [path for path in "01234" if path in found]
    assert len(levels) > 2
    for path in levels:
        meta = found[path].meta
        assert [a.name for a in meta.axes] == ["t", "c", "z", "y", "x"]
        assert [a.kind for a in meta.axes] == ["time", "channel", "space", "space", "space"]
        assert [c.name for c in meta.channels] == ["DAPI", "GFP", "Cy5"]
        assert meta.channels[2].color == (255, 0, 255)
        assert meta.channels[0].window == (5, 900)
        values = np.asarray(stored[path]).transpose(0, 2, 1, 3, 4)
        with tifffile.TiffFile(Handle(tree.resolve(f"{path}/{path}.tif"))) as tif:
            np.testing.assert_array_equal(tif.asarray(), values)
            assert tif.imagej_metadata["channels"] == 3
            assert tif.imagej_metadata["frames"] == 2
    np.testing.assert_array_equal(np.asarray(stored["0"]), data)
    with tifffile.TiffFile(Handle(tree.resolve(f"i-{version}.ome.tif"))) as tif:
        (series,) = tif.series
        assert series.axes == "TZCYX"
        assert [lv.shape[-2:] for lv in series.levels] == [
            found[path].meta.shape[-2:] for path in levels
        ]
        np.testing.assert_array_equal(series.asarray(), data.transpose(0, 2, 1, 3, 4))
    label = tree.resolve("labels/cells/0/tiff/0_t1_c0_z2.tif")
    np.testing.assert_array_equal(tifffile.imread(Handle(label)), data[1, 0, 2] % 5)


@pytest.mark.parametrize("version", VERSIONS)
def test_plates(written, data, version):
    tree = open_tree(str(written / f"p-{version}.zarr"))
    assert {d.path for d in tree.describe()} >= {"A", "A/2", "A/2/0", "A/2/0/0"}
    field = tifffile.imread(Handle(tree.resolve("A/2/0/0.ome.tif")))
    np.testing.assert_array_equal(field, data.transpose(0, 2, 1, 3, 4))
