"""ImageJ itself: axes, calibration, channels, colours, display ranges, labels and values."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
import zarr

from tests.conftest import require, require_file
from tests.images import omero, save, write_image
from znfs.tree import open_tree

JAR = "/usr/share/java/ij.jar"

# One fact a line; the planes' values come last, those of the corner and of a point inside.
MACRO = """
open(getArgument());
getDimensions(w, h, c, s, f); print("dimensions", w, h, c, s, f);
getVoxelSize(vw, vh, vd, unit); print("voxel", vw, vh, vd, unit);
Stack.getUnits(X, Y, Z, T, V); print("units", X, Y, Z, T);
print("interval", Stack.getFrameInterval());
x = 0; y = 0; toScaled(x, y); print("origin", x, y);
print("depth", bitDepth()); print("composite", is("composite"));
if (is("composite")) { Stack.getDisplayMode(mode); print("mode", mode); }
for (i = 1; i <= c; i++) {
    if (c > 1) Stack.setChannel(i);
    getMinAndMax(a, b); print("range", a, b);
    getLut(reds, greens, blues); print("colour", reds[255], greens[255], blues[255]);
}
for (i = 1; i <= nSlices; i++) {
    setSlice(i);
    print("label", getInfo("slice.label"));
    print("value", getValue(0, 0), getValue(w - 1, h - 1), getValue(floor(w / 2), floor(h / 3)));
}
"""


@pytest.fixture(scope="module")
def imagej(tmp_path_factory):
    """`imagej(path)`: what ImageJ's macro functions say of a file, by the first word."""
    require("xvfb-run", "java")
    require_file(JAR, "imagej")
    macro = tmp_path_factory.mktemp("macro") / "describe.ijm"
    macro.write_text(MACRO)

    def run(path):
        done = subprocess.run(
            ["xvfb-run", "-a", "java", "-Xmx2g", "-cp", JAR, "ij.ImageJ", "-batch", macro, path],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        facts: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, rest = line.partition(" ")
            facts.setdefault(key, []).append(rest)
        assert "value" in facts, done.stdout + done.stderr
        return facts

    return run


def points(plane):
    """The values the macro reads of a plane."""
    height, width = plane.shape
    return [plane[0, 0], plane[-1, -1], plane[height // 3, width // 2]]


def check_values(facts, planes):
    found = [[float(v) for v in line.split()] for line in facts["value"]]
    np.testing.assert_allclose(found, [[float(v) for v in points(p)] for p in planes], rtol=1e-5)


def noise(shape, dtype):
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


CHANNELS = omero(("DAPI", "0000FF", 10, 200), ("GFP µ", "00FF00", 0, 255), ("Cy5", "FFFF00", 5, 99))


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i2", "<f4"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_composite_hyperstack(tmp_path, imagej, dtype, version):
    data = noise((2, 3, 4, 30, 20), dtype)
    folder = write_image(tmp_path / "i.zarr", [data], omero=CHANNELS, version=version)
    facts = imagej(save(open_tree(str(folder)), "0/0.tif", tmp_path / "i.tif"))
    assert facts["dimensions"] == ["20 30 3 4 2"]
    assert facts["voxel"] == ["0.65 0.65 1.25 microns"]
    assert facts["units"] == ["micron micron micron sec"]
    assert facts["interval"] == ["2.5"]
    assert facts["origin"] == ["0 0"]
    assert facts["depth"] == [str(8 * np.dtype(dtype).itemsize)]
    assert facts["composite"] == ["1"]
    assert facts["mode"] == ["composite"]
    assert facts["range"] == ["10 200", "0 255", "5 99"]
    assert facts["colour"] == ["0 0 255", "0 255 0", "255 255 0"]
    assert facts["label"] == ["DAPI", "GFP µ", "Cy5"] * 8
    check_values(facts, data.transpose(0, 2, 1, 3, 4).reshape(-1, 30, 20))


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i2", "<f4"])
def test_a_stack_of_one_channel(tmp_path, imagej, dtype):
    data = noise((5, 30, 20), dtype)
    shown = omero(("DAPI", "0000FF", 10, 99))
    levels = [data, data[:, ::2, ::2]]
    tree = open_tree(str(write_image(tmp_path / "i.zarr", levels, "zyx", omero=shown)))
    facts = imagej(save(tree, "0/0.tif", tmp_path / "0.tif"))
    assert facts["dimensions"] == ["20 30 1 5 1"]
    assert facts["range"] == ["10 99"]
    assert facts["label"] == ["DAPI"] * 5
    check_values(facts, data)
    facts = imagej(save(tree, "1/1.tif", tmp_path / "1.tif"))
    assert facts["voxel"] == ["1.3 1.3 1.25 microns"]
    check_values(facts, levels[1])


def test_one_plane(tmp_path, imagej):
    data = noise((30, 20), "<u2")
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "yx")))
    for path in ("0/0.tif", "0/tiff/0.tif"):
        facts = imagej(save(tree, path, tmp_path / "i.tif"))
        assert facts["dimensions"] == ["20 30 1 1 1"]
        width, height, _, unit = facts["voxel"][0].split()
        assert unit in ("microns", "µm")  # the second by ImageJ, from TIFF's centimetres
        assert (float(width), float(height)) == (0.65, 0.65)
        check_values(facts, [data])


def test_channels_that_nothing_is_known_of(tmp_path, imagej):
    data = noise((3, 30, 20), "<u2")
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "cyx")))
    facts = imagej(save(tree, "0/0.tif", tmp_path / "i.tif"))
    assert facts["mode"] == ["composite"]
    assert facts["colour"] == ["255 0 0", "0 255 0", "0 0 255"]
    assert set(facts["label"]) == {""}
    check_values(facts, data)


def test_channels_of_which_some_are_known(tmp_path, imagej):
    data = noise((4, 30, 20), "<u2")
    shown = {"channels": [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 10, "end": 200}},
        {"color": "FF0000"},
        {"window": {"start": 5, "end": 90}},
    ]}  # fmt: skip
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "cyx", omero=shown)))
    facts = imagej(save(tree, "0/0.tif", tmp_path / "i.tif"))
    assert facts["range"] == ["10 200", "5 200", "5 90", "5 200"]
    assert facts["colour"] == ["0 0 255", "255 0 0", "0 255 0", "255 255 255"]
    assert facts["label"] == ["DAPI", "", "", ""]


def test_more_channels_than_imagej_blends(tmp_path, imagej):
    data = noise((9, 30, 20), "u1")
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "cyx")))
    facts = imagej(save(tree, "0/0.tif", tmp_path / "i.tif"))
    assert facts["dimensions"] == ["20 30 9 1 1"]
    assert facts["mode"] == ["color"]
    check_values(facts, data)


def test_a_crop_keeps_its_place(tmp_path, imagej):
    data = noise((2, 2, 30, 20), "<u2")
    shown = omero(("a", "FF0000", 1, 9), ("b", "00FF00", 2, 8))
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "czyx", omero=shown)))
    facts = imagej(save(tree, "0/crop/4,10,9,7/0.tif", tmp_path / "i.tif"))
    assert facts["dimensions"] == ["9 7 2 2 1"]
    assert [float(v) for v in facts["origin"][0].split()] == pytest.approx([4 * 0.65, 10 * 0.65])
    assert facts["colour"] == ["255 0 0", "0 255 0"]
    check_values(facts, data.transpose(1, 0, 2, 3).reshape(-1, 30, 20)[:, 10:17, 4:13])


LARGE = """
run("TIFF Virtual Stack...", "open=[" + getArgument() + "]");
getDimensions(w, h, c, s, f); print("dimensions", w, h, c, s, f);
getVoxelSize(vw, vh, vd, unit); print("voxel", vw, vh, vd, unit);
for (i = 1; i <= nSlices; i += 520) {
    setSlice(i);
    print("value", getValue(3, 5), getValue(1023, 1023));
}
"""


def test_more_than_4_gib(tmp_path, imagej):
    """ImageJ's large form, in a sparse file of 5 GiB that has the header and the planes read."""
    folder = tmp_path / "i.zarr"
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    count = 2600
    array = group.create_array(
        "0", shape=(count, 1024, 1024), chunks=(1, 1024, 1024), dtype="<u2", fill_value=0
    )
    for i in range(0, count, 520):
        array[i, 5, 3] = i + 1
        array[i, 1023, 1023] = i + 2
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    step = {"type": "scale", "scale": [2.0, 0.5, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [step]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    file = open_tree(str(folder)).resolve("0/0.tif")
    assert file.size > 1 << 32
    target = tmp_path / "large.tif"
    data_at = file.size - (count << 21)
    with target.open("wb") as out:
        out.truncate(file.size)
        for start, stop in [(0, data_at)] + [
            (data_at + (i << 21), data_at + ((i + 1) << 21)) for i in range(0, count, 520)
        ]:
            os.pwrite(out.fileno(), file.read(start, stop - start), start)
    macro = tmp_path / "large.ijm"
    macro.write_text(LARGE)
    done = subprocess.run(
        ["xvfb-run", "-a", "java", "-Xmx1g", "-cp", JAR, "ij.ImageJ", "-batch", macro, target],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == f"dimensions 1024 1024 1 {count} 1"
    assert lines[1] == "voxel 0.5 0.5 2 microns"
    assert lines[2:] == [f"value {i + 1} {i + 2}" for i in range(0, count, 520)]
