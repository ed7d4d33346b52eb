"""Images in N5 as Fiji's programs and Paintera write them, as OME-TIFF and calibrated stacks."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import tifffile
import z5py
import zarr

from tests.bioformats import describe
from tests.clients.imagej import imagej
from tests.images import Handle, save
from znfs.tree import open_tree

STEPS = (1, 2, 4)


def write(folder, data, attributes, level_attributes):
    """The levels s0, s1, s2 of a container; attributes of the group and of each level."""
    container = z5py.File(str(folder), mode="w", use_zarr_format=False)
    group = container.create_group("raw")
    for k, step in enumerate(STEPS):
        level = data[::step, ::step, ::step]
        name = f"s{k}"
        group.create_dataset(name, data=level, chunks=(8, 32, 32), compression="gzip")
        group[name].attrs.update(level_attributes(k))
    group.attrs.update(attributes)
    return open_tree(str(folder))


def cosem(k):
    return {
        "transform": {
            "axes": ["z", "y", "x"],
            "units": ["nm"] * 3,
            "scale": [4.0 * 2**k, 3.0 * 2**k, 2.0 * 2**k],
            "translate": [0.0] * 3,
        }
    }


# COSEM has `multiscales`; n5-viewer resolution and factors, fastest axis first.
COSEM = {"multiscales": [{"datasets": [{"path": f"s{k}", **cosem(k)} for k in range(3)]}]}
N5_VIEWER = {
    "scales": [[step] * 3 for step in STEPS],
    "pixelResolution": {"dimensions": [2.0, 3.0, 4.0], "unit": "nm"},
}
# Paintera does not tell how many levels there are; n5-ij says what it says in the arrays alone.
PAINTERA = {"multiScale": True, "resolution": [2.0, 3.0, 4.0]}


def paintera(k):
    ignored = {"resolution": [9, 9, 9], "offset": [9, 9, 9]}
    factors = {"downsamplingFactors": [2.0**k] * 3} if k else {}
    return {"unit": "nm", **ignored, **factors}


def n5_ij(k):
    size = {"dimensions": [2.0, 3.0, 4.0], "unit": "nm"}
    return {"pixelResolution": size, "downsamplingFactors": [2.0**k] * 3}


CONVENTIONS = pytest.mark.parametrize(
    ("attributes", "level_attributes"),
    [(COSEM, cosem), (N5_VIEWER, lambda k: {}), (PAINTERA, paintera), ({}, n5_ij)],
    ids=["cosem", "n5-viewer", "paintera", "n5-ij"],
)
MACRO = """
files = split(getArgument(), "|");
for (k = 0; k < files.length; k++) {
    open(files[k]);
    getVoxelSize(x, y, z, unit); getDimensions(w, h, c, s, f);
    setSlice(2);
    print("" + x + "\\t" + y + "\\t" + z + "\\t" + unit + "\\t" + s + "\\t" + getValue(7, 5));
}
"""


@CONVENTIONS
def test_imagej_and_bioformats(tmp_path, attributes, level_attributes):
    data = np.random.default_rng(0).integers(0, 60_000, (12, 80, 100), "<u2")
    tree = write(tmp_path / "c.n5", data, attributes, level_attributes)
    levels = [save(tree, f"raw/s{k}/s{k}.tif", tmp_path / f"{k}.tif") for k in range(3)]
    for step, facts in zip(STEPS, imagej(tmp_path, MACRO, *levels), strict=True):
        level = data[::step, ::step, ::step]
        assert [float(word) for word in facts[:3]] == [2.0 * step, 3.0 * step, 4.0 * step]
        assert facts[3:] == ["nm", str(len(level)), str(level[1, 5, 7])]
    (facts,) = describe(save(tree, "raw/raw.ome.tif", tmp_path / "raw.ome.tif"))
    assert facts["size"] == ["x 2.0 nm", "y 3.0 nm", "z 4.0 nm"]
    assert [line.split(" tile ")[0] for line in facts["resolution"]] == [
        "100 80 12 1 1", "50 40 12 1 1", "25 20 12 1 1"
    ]  # fmt: skip
    for line in facts["plane"]:
        k, _, z, _, crc = map(int, line.split())
        level = data[:: STEPS[k], :: STEPS[k], :: STEPS[k]]
        assert crc32(np.ascontiguousarray(level[z // STEPS[k]]).tobytes()) == crc


@CONVENTIONS
def test_pyramids(tmp_path, attributes, level_attributes):
    data = np.random.default_rng(0).integers(0, 60_000, (12, 80, 100), "<u2")
    tree = write(tmp_path / "c.n5", data, attributes, level_attributes)
    with tifffile.TiffFile(Handle(tree.resolve("raw/raw.ome.tif"))) as found:
        assert [lv.shape[-2:] for lv in found.series[0].levels] == [(80, 100), (40, 50), (20, 25)]
        np.testing.assert_array_equal(found.asarray(), data)
        coarse = found.series[0].levels[2].asarray()
        np.testing.assert_array_equal(coarse[::4], data[::4, ::4, ::4])
        for axis, size in (("X", 2.0), ("Y", 3.0), ("Z", 4.0)):
            assert f'PhysicalSize{axis}="{size}" PhysicalSize{axis}Unit="nm"' in found.ome_metadata
    with tifffile.TiffFile(Handle(tree.resolve("raw/s1/s1.tif"))) as found:
        assert found.imagej_metadata["unit"] == "nm"
        assert found.imagej_metadata["spacing"] == 8.0
        assert found.pages[0].tags["XResolution"].value == (1, 4)
        assert found.pages[0].tags["YResolution"].value == (1, 6)


# What ImageJ says of an image that it calibrates itself, and of those that it opens. Fields of its
# calibration are what n5-ij writes and restores.
CALIBRATION = """
files = split(getArgument(), "|");
newImage("own", "16-bit composite-mode", 9, 8, 2, 5, 3);
run("Properties...", "channels=2 slices=5 frames=3 unit=micron pixel_width=0.5 pixel_height=0.25 "
    + "voxel_depth=2 frame=[1.5 sec] origin=10,-4,3");
for (k = 0; k <= files.length; k++) {
    if (k > 0) open(files[k - 1]);
    getVoxelSize(x, y, z, unit); getDimensions(w, h, c, s, f); Stack.getUnits(X, Y, Z, T, V);
    px = 0; py = 0; pz = 0; toScaled(px, py, pz);
    interval = Stack.getFrameInterval();
    facts = newArray(x, y, z, unit, w, h, c, s, f, X, Y, Z, T, interval, px, py, pz);
    line = "";
    for (i = 0; i < facts.length; i++) line += "\\t" + facts[i];
    print(line);
}
"""
FIELDS = {
    "title": "own", "fps": 20.0, "frameInterval": 1.5, "pixelWidth": 0.5, "pixelHeight": 0.25,
    "pixelDepth": 2.0, "pixelUnit": "micron", "xOrigin": 10.0, "yOrigin": -4.0, "zOrigin": 3.0,
    "numChannels": 2, "numSlices": 5, "numFrames": 3, "ImagePlusType": 1,
}  # fmt: skip


def test_what_n5_ij_wrote_is_to_imagej_what_it_was(tmp_path):
    data = np.arange(3 * 5 * 2 * 8 * 9, dtype="<u2").reshape(3, 5, 2, 8, 9)
    container = z5py.File(str(tmp_path / "c.n5"), mode="w", use_zarr_format=False)
    container.create_dataset("own", data=data, chunks=(1, 5, 2, 8, 9), compression="gzip")
    container["own"].attrs.update(FIELDS)
    for version in (2, 3):
        array = zarr.create_array(tmp_path / f"v{version}.zarr", data=data, zarr_format=version)
        array.attrs.update(FIELDS)
    files = [
        save(open_tree(str(tmp_path / store)), path, tmp_path / f"{store}.tif")
        for store, path in (("c.n5", "own/own.tif"), ("v2.zarr", "v2.tif"), ("v3.zarr", "v3.tif"))
    ]
    own, *opened = imagej(tmp_path, CALIBRATION, *files)
    assert own[1:10] == ["0.5", "0.25", "2", "microns", "9", "8", "2", "5", "3"]
    assert opened == [own] * 3
    np.testing.assert_array_equal(tifffile.imread(files[0]), data)
