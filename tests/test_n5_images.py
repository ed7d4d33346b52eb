"""Pyramids in N5, by the two conventions in use, as OME-TIFF and calibrated stacks."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import tifffile
import z5py

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


CONVENTIONS = pytest.mark.parametrize(
    ("attributes", "level_attributes"), [(COSEM, cosem), (N5_VIEWER, lambda k: {})]
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
