"""Planes, stacks and crops: the values NumPy wrote, as TIFF readers read them."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import replace
from itertools import islice, product
from math import prod

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import require
from tests.images import AXES, Handle, save, write_image
from znfs.errors import NotFound
from znfs.meta import ArrayMeta, Axis, Channel, ChunkKeys
from znfs.tree import open_tree
from znfs.views.tiff.axes import hyperstack
from znfs.views.tiff.imagej import description

TYPES = ["u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16"]


def values(shape, dtype, seed=0):
    """Values of the type's whole range, negative ones and its ends too."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(seed).bytes(prod(shape) * dtype.itemsize)
    if dtype.kind in "ui":
        return np.frombuffer(raw, dtype).reshape(shape)
    numbers = np.random.default_rng(seed).normal(0, 100, (*shape, 2))
    if dtype.kind == "c":
        return (numbers[..., 0] + 1j * numbers[..., 1]).astype(dtype)
    return numbers[..., 0].astype(dtype)


def write(folder, data, chunks=None, names=None, zarr_format=3):
    array = zarr.create_array(
        folder, shape=data.shape, dtype=data.dtype, fill_value=0, zarr_format=zarr_format,
        chunks=chunks or [max(n, 1) for n in data.shape], dimension_names=names,
    )  # fmt: skip
    array[...] = data
    return open_tree(str(folder))


def read(tree, path):
    file = tree.resolve(path)
    return tifffile.imread(Handle(file))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_in_planes_and_stacks(tmp_path, dtype):
    data = values((3, 20, 30), dtype)
    tree = write(tmp_path / "a.zarr", data, (2, 8, 16))
    names = list(tree.resolve("tiff").names())
    assert names == ["a_z0.tif", "a_z1.tif", "a_z2.tif"]
    for z, name in enumerate(names):
        found = read(tree, f"tiff/{name}")
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data[z])
    np.testing.assert_array_equal(read(tree, "a.btf"), data)
    if dtype in ("u1", "<u2", "<i2", "<f4"):
        np.testing.assert_array_equal(read(tree, "a.tif"), data)
    else:
        with pytest.raises(NotFound):
            tree.resolve("a.tif")


def test_booleans_are_bytes_and_bfloat16_is_float32(tmp_path):
    data = np.arange(600).reshape(2, 20, 15) % 3 == 0
    found = read(write(tmp_path / "b.zarr", data), "b.btf")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i2", "<f4"])
def test_other_readers_agree(tmp_path, dtype):
    """Pillow, SimpleITK and libtiff read the planes, and libtiff the stacks to the last strip."""
    require("tiffinfo")
    data = values((2, 40, 50), dtype)
    tree = write(tmp_path / "a.zarr", data, (1, 16, 16))
    plane = save(tree, "tiff/a_z1.tif", tmp_path / "plane.tif")
    if dtype != "<i2":  # Pillow has no signed 16 bit
        np.testing.assert_array_equal(np.asarray(Image.open(plane)), data[1])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(plane))), data[1])
    for view in ("a.tif", "a.btf"):
        stack = save(tree, view, tmp_path / view)
        done = subprocess.run(["tiffinfo", "-D", stack], capture_output=True, text=True, check=True)
        # Tags 50838 and 50839 are ImageJ's own; libtiff says once that it does not know them.
        assert [line for line in done.stderr.splitlines() if "unknown field" not in line] == []
        assert done.stdout.count("=== TIFF directory") == 2
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(stack))), data)


ORDERS = [
    "tczyx",
    "zctyx",
    "czyx",
    "zyxc",
    "yxz",
    "xyz",
    "tyx",
    "cyx",
    "yx",
    "abyx",
    "tzcyx",
    "ctyxz",
]


@pytest.mark.parametrize("names", ORDERS)
def test_axes_in_any_order(tmp_path, names):
    """Planes are over y and x wherever these are; ImageJ's order is t, z, c."""
    lengths = {"t": 2, "c": 3, "z": 4, "y": 20, "x": 30, "a": 2, "b": 3}
    shape = tuple(lengths[n] for n in names)
    data = np.arange(prod(shape), dtype="<u2").reshape(shape)
    tree = write(tmp_path / "a.zarr", data, tuple(min(8, n) for n in shape), tuple(names))
    rest = [n for n in names if n not in "yx"]
    planes = data.transpose([names.index(n) for n in [*rest, "y", "x"]])
    listed = list(tree.resolve("tiff").names())
    assert len(listed) == prod(planes.shape[:-2])
    assert listed == sorted(listed)
    for name, index in zip(listed, product(*(range(lengths[n]) for n in rest)), strict=True):
        np.testing.assert_array_equal(read(tree, f"tiff/{name}"), planes[index])
    np.testing.assert_array_equal(
        np.squeeze(read(tree, "a.btf")).ravel(), np.ascontiguousarray(planes).ravel()
    )
    joined = [n for n in rest if n not in "zc"]
    order = [*joined, *(n for n in "zc" if n in rest), "y", "x"]
    stack = np.ascontiguousarray(data.transpose([names.index(n) for n in order]))
    with tifffile.TiffFile(Handle(tree.resolve("a.tif"))) as found:
        assert found.is_imagej
        assert len(found.pages) == prod(stack.shape[:-2])
        np.testing.assert_array_equal(found.asarray().ravel(), stack.ravel())
        known = found.imagej_metadata
    for key, axis in (("slices", "z"), ("channels", "c")):
        assert known.get(key, 1) == (lengths[axis] if axis in rest else 1)
    assert known.get("frames", 1) == prod(lengths[n] for n in joined)


@pytest.mark.parametrize(
    ("names", "planes", "counts"),
    [
        (("T", "C", "Z", "Y", "X"), (2, 3, 4, 5, 6), (2, 4, 3)),
        (("time", "Channel", "Z", "y", "x"), (2, 3, 4, 5, 6), (2, 4, 3)),
        (("Y", "X", "S"), (4, 2, 3), (4, 1, 1)),  # planes of 2 x 3, each of an S
        (("Y", "y", "x"), (2, 3, 4), (2, 1, 1)),  # what is named so exactly is before
    ],
)
def test_axes_in_capitals_and_in_full(tmp_path, names, planes, counts):
    shape = {"S": (2, 3, 4)}.get(names[-1], planes)
    data = values(shape, "<u2")
    tree = write(tmp_path / "a.zarr", data, names=names)
    with tifffile.TiffFile(Handle(tree.resolve("a.tif"))) as found:
        known = found.imagej_metadata
        shown = found.asarray()
    assert tuple(known.get(k, 1) for k in ("frames", "slices", "channels")) == counts
    moved = np.moveaxis(data, 2, 0) if names[-1] == "S" else data
    if len(names) == 5:
        moved = data.transpose(0, 2, 1, 3, 4)  # ImageJ's: t, z, c
    np.testing.assert_array_equal(shown.ravel(), moved.ravel())


def test_the_axis_called_z_is_before_others_of_space(tmp_path):
    data = values((2, 3, 4, 5), "<u2")
    path = tmp_path / "i.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=(1, 1, 4, 5))[...] = data
    group.attrs["multiscales"] = [
        {
            "version": "0.4", "datasets": [{"path": "0"}],
            "axes": [{"name": n, "type": "space"} for n in "pzyx"],
        }
    ]  # fmt: skip
    with tifffile.TiffFile(Handle(open_tree(str(path)).resolve("0/0.tif"))) as found:
        assert found.imagej_metadata["slices"] == 3
        assert found.imagej_metadata["frames"] == 2
        np.testing.assert_array_equal(found.asarray().ravel(), data.ravel())


def test_other_orientations(tmp_path):
    data = values((5, 20, 30), "<u2")
    tree = write(tmp_path / "a.zarr", data, (2, 8, 8), ("z", "y", "x"))
    assert "tiff.xz" not in list(tree.resolve("").names())
    assert list(tree.resolve("tiff.xz").names())[7] == "a_y07.tif"
    np.testing.assert_array_equal(read(tree, "tiff.xz/a_y07.tif"), data[:, 7])
    np.testing.assert_array_equal(read(tree, "tiff.yz/a_x29.tif"), data[:, :, 29])


@pytest.mark.parametrize(
    ("names", "rows"),
    [(("t", "k", "y", "x"), 1), (("y", "t", "x", "k"), 3), (("z", "k", "y", "x"), 0)],
)
def test_rows_of_other_orientations_are_z_or_the_last_axis_that_is_not_a_plane_s(
    tmp_path, names, rows
):
    data = values((3, 4, 5, 6), "<u2")
    tree = write(tmp_path / "a.zarr", data, (2, 2, 2, 2), names)
    x, y = names.index("x"), names.index("y")
    (other,) = set(range(4)) - {rows, x, y}
    planes = data.transpose(rows, x, *sorted((y, other)))
    first, second = (f"{names[d]}{n}" for d, n in zip(sorted((y, other)), (1, 2), strict=True))
    np.testing.assert_array_equal(
        read(tree, f"tiff.xz/a_{first}_{second}.tif"), planes[:, :, 1, 2]
    )


@pytest.mark.parametrize(
    "name", ["a_z5.tif", "a_z05.tif", "a_z.tif", "a_z1.tiff", "a_y1.tif", "b_z1.tif", "a_z１.tif"]
)
def test_names_that_are_no_plane(tmp_path, name):
    tree = write(tmp_path / "a.zarr", values((5, 8, 8), "u1"), names=("z", "y", "x"))
    with pytest.raises(NotFound):
        tree.resolve(f"tiff/{name}")


def test_listing_goes_on_anywhere(tmp_path):
    tree = write(tmp_path / "a.zarr", values((3, 12, 4, 4), "u1"))
    planes = tree.resolve("tiff")
    everything = list(planes.names())
    assert everything[13] == "a_i1_z01.tif"
    for start in (0, 1, 12, 35, 36):
        assert list(planes.names(start)) == everything[start:]


def test_what_has_no_tiff_says_why(tmp_path):
    for name, data in {
        "one": np.arange(5),
        "text": np.full((3, 3), "abc"),
        "none": np.zeros((0, 3)),
    }.items():
        tree = write(tmp_path / f"{name}.zarr", data)
        assert not {"tiff", f"{name}.tif", f"{name}.btf"} & set(tree.resolve("").names())
        (found,) = tree.describe()
        assert any("tiff" in remark for remark in found.remarks)


@given(data=st.data())
def test_any_range_is_that_part_of_the_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ranges")
    tree = write(folder / "a.zarr", values((3, 11, 13), "<u2"), (2, 4, 5))
    for view in ("a.tif", "a.btf", "tiff/a_z1.tif", "crop/3,2,6,20/a.tif"):
        file = tree.resolve(view)
        whole = file.read(0, file.size)
        assert len(whole) == file.size
        for _ in range(5):
            start = data.draw(st.integers(0, file.size))
            size = data.draw(st.integers(0, file.size))
            assert file.read(start, size) == whole[start : start + size]


# Calibration


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_planes_have_resolutions(tmp_path, version):
    levels = [values((2, 40, 60), "<u2"), values((2, 20, 30), "<u2")]
    tree = open_tree(str(write_image(tmp_path / "i.zarr", levels, "zyx", version=version)))
    for path, size in (("0/tiff/0_z0.tif", 0.65), ("1/tiff/1_z1.tif", 1.3), ("1/1.btf", 1.3)):
        with tifffile.TiffFile(Handle(tree.resolve(path))) as found:
            page = found.pages[0]
            assert page.resolutionunit == 3
            assert page.get_resolution("micrometer") == pytest.approx((1 / size, 1 / size))
    # rows z and columns x
    with tifffile.TiffFile(Handle(tree.resolve("0/tiff.xz/0_y03.tif"))) as found:
        found_sizes = found.pages[0].get_resolution("micrometer")
        assert found_sizes == pytest.approx((1 / 0.65, 1 / 1.25))


def channel(label, color, start, end):
    return {"label": label, "color": color, "window": {"start": start, "end": end}}


def test_imagej_metadata(tmp_path):
    data = values((2, 3, 4, 10, 12), "<u2")
    omero = {
        "channels": [
            channel("DAPI", "0000FF", 10, 1000),
            channel("GFP µ", "00FF00", 0, 4095),
            channel("Cy5", "FF00FF", 5, 60000),
        ]
    }
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], omero=omero)))
    with tifffile.TiffFile(Handle(tree.resolve("0/0.tif"))) as found:
        known = found.imagej_metadata
        np.testing.assert_array_equal(found.asarray(), data.transpose(0, 2, 1, 3, 4))
        assert found.pages[0].tags["XResolution"].value == (20, 13)
        assert found.pages[0].tags["ResolutionUnit"].value == 1  # no inches
    assert known["mode"] == "composite"
    assert known["unit"] == "micron"
    assert known["spacing"] == 1.25
    assert known["finterval"] == 2.5
    assert known["tunit"] == "sec"
    assert known["Ranges"] == (10, 1000, 0, 4095, 5, 60000)
    assert known["Labels"] == ["DAPI", "GFP µ", "Cy5"] * 8
    assert [tuple(int(v) for v in lut[:, 255]) for lut in known["LUTs"]] == [
        (0, 0, 255), (0, 255, 0), (255, 0, 255)
    ]  # fmt: skip
    assert all((lut[:, 0] == 0).all() for lut in known["LUTs"])


def test_imagej_is_told_of_each_axis_and_of_a_window():
    z, y, x = (Axis(n, unit, scale) for n, unit, scale in (
        ("z", "nanometer", 50.0), ("y", "millimeter", 0.5), ("x", "micrometer", 0.25)))  # fmt: skip
    x = replace(x, translation=-2.0)
    shown = Channel(window=(-5.0, 200.0))
    meta = ArrayMeta(
        "zarr3", (4, 8, 8), (4, 8, 8), np.dtype("<i2"), bytes(2), ChunkKeys("/"), axes=(z, y, x),
        channels=(shown,),
    )  # fmt: skip
    assert description(meta, hyperstack(meta), (3, 0, 2)).decode().splitlines()[1:] == [
        "images=4", "slices=4", "unit=micron", "yunit=mm", "xorigin=6.0", "spacing=50.0",
        "zunit=nm", "zorigin=-3.0", "min=32763.0", "max=32968.0",
    ]  # fmt: skip
    meta = replace(meta, axes=(replace(z, unit="micrometer"), y, replace(x, unit=None)))
    told = description(meta, hyperstack(meta), (0, 0, 0)).decode().splitlines()
    assert {line for line in told if "unit" in line} == {"yunit=mm", "zunit=micron"}
    meta = replace(meta, axes=tuple(replace(a, unit="micrometer") for a in (z, y, x)))
    told = description(meta, hyperstack(meta), (0, 0, 0)).decode().splitlines()
    assert {line for line in told if "unit" in line} == {"unit=micron"}
    meta = replace(meta, axes=(Axis("t", "second", 2.5), y, x))  # of no kind, as N5's are
    told = description(meta, hyperstack(meta), (0, 0, 0)).decode().splitlines()
    assert {"frames=4", "finterval=2.5", "tunit=sec"} <= set(told)


def test_sizes_that_tiff_cannot_hold_are_unknown_to_imagej(tmp_path):
    data = values((8, 8), "u1")
    folder = write_image(tmp_path / "i.zarr", [data], "yx", scales=[[3.5e-10, 3.5e-10]])
    with tifffile.TiffFile(Handle(open_tree(str(folder)).resolve("0/0.tif"))) as found:
        assert "XResolution" not in found.pages[0].tags
        assert "unit" not in found.imagej_metadata


def test_a_unit_cannot_write_the_description(tmp_path):
    folder = write_image(tmp_path / "i.zarr", [values((2, 8, 8), "u1")], "zyx")
    group = zarr.open_group(folder)
    image = dict(group.attrs["multiscales"][0])
    image["axes"] = [{"name": n, "type": "space", "unit": "µ\nimages=9\\"} for n in "zyx"]
    group.attrs["multiscales"] = [image]
    file = open_tree(str(folder)).resolve("0/0.tif")
    with tifffile.TiffFile(Handle(file)) as found:
        assert "unit=\\u00b5\\u000aimages=9\\u005c\n" in found.pages[0].description
        assert found.imagej_metadata["images"] == 2


@pytest.mark.parametrize("count", [8, 7])
def test_many_channels_are_no_composite(tmp_path, count):
    data = values((count, 8, 8), "u1")
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "cyx")))
    with tifffile.TiffFile(Handle(tree.resolve("0/0.tif"))) as found:
        assert found.imagej_metadata["mode"] == ("color" if count > 7 else "composite")


# Crops


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (16, 8, 16, 8), (3, 5, 17, 30), (59, 39, 1, 1)])
def test_crops_are_boxes(tmp_path, box):
    x, y, width, height = box
    data = values((2, 40, 60), "<u2")
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [data], "zyx", (1, 8, 16))))
    folder = "0/crop/" + ",".join(map(str, box))
    cut = data[:, y : y + height, x : x + width]
    assert list(tree.resolve(folder).names()) == ["0.tif", "0_z0.tif", "0_z1.tif"]
    assert list(tree.resolve(folder).names(2)) == ["0_z1.tif"]
    np.testing.assert_array_equal(read(tree, f"{folder}/0_z1.tif"), cut[1])
    np.testing.assert_array_equal(np.squeeze(read(tree, f"{folder}/0.tif")), np.squeeze(cut))
    with tifffile.TiffFile(Handle(tree.resolve(f"{folder}/0.tif"))) as found:
        assert found.imagej_metadata.get("xorigin", 0) == -x
        assert found.imagej_metadata.get("yorigin", 0) == -y


def test_crops_end_at_the_edge_and_are_not_listed(tmp_path):
    data = values((40, 60), "<u2")
    tree = write(tmp_path / "a.zarr", data, (16, 16))
    np.testing.assert_array_equal(read(tree, "crop/50,30,100,100/a.tif"), data[30:, 50:])
    assert list(tree.resolve("crop/0,0,1,1").names()) == ["a.tif"]
    assert "crop" not in list(tree.resolve("").names())
    assert list(tree.resolve("crop").names()) == []


@pytest.mark.parametrize(
    "name",
    ["60,0,1,1", "0,40,1,1", "0,0,0,1", "0,0,1,0", "01,0,1,1", "0,0,1", "-1,0,2,2", "0,0,1,1,1"],
)
def test_names_that_are_no_crop(tmp_path, name):
    tree = write(tmp_path / "a.zarr", values((40, 60), "u1"))
    with pytest.raises(NotFound):
        tree.resolve(f"crop/{name}")


def test_views_decide_about_crops(tmp_path):
    write(tmp_path / "a.zarr", values((40, 60), "u1"))
    assert open_tree(str(tmp_path / "a.zarr"), views=("tiff",)).resolve("crop/0,0,1,1/a.tif")
    with pytest.raises(NotFound):
        open_tree(str(tmp_path / "a.zarr"), views=("npy",)).resolve("crop/0,0,1,1/a.tif")
    listed = list(open_tree(str(tmp_path / "a.zarr"), views="all").resolve("").names())
    assert "crop" not in listed


# Sizes beyond memory and beyond classic TIFF: sparse arrays, all fill value


def sparse(folder, shape, chunks, dtype="<u2", marks=()):
    """An array with few chunks stored: those of the `marks`, indexes whose value is their rank."""
    array = zarr.create_array(folder, shape=shape, chunks=chunks, dtype=dtype, fill_value=7)
    for k, index in enumerate(marks):
        array[index] = 100 + k
    return open_tree(str(folder))


def test_a_stack_beyond_4_gib_is_imagej_s_large_form(tmp_path):
    marks = [(0, 0, 0), (1500, 1023, 511), (2999, 0, 0), (2999, 1023, 1023)]
    tree = sparse(tmp_path / "a.zarr", (3000, 1024, 1024), (1, 1024, 1024), marks=marks)
    file = tree.resolve("a.tif")
    assert file.size > 5 << 30
    with tifffile.TiffFile(Handle(file)) as found:
        assert found.is_imagej
        assert len(found.pages) == 1
        assert found.series[0].shape == (3000, 1024, 1024)
        offset = found.series[0].dataoffset
    assert file.size == offset + 3000 * (2 << 20)
    for k, (z, y, x) in enumerate(marks):
        at = offset + 2 * ((z * 1024 + y) * 1024 + x)
        assert struct.unpack("<H", file.read(at, 2)) == (100 + k,)
    # The same in BigTIFF, an IFD a plane.
    with tifffile.TiffFile(Handle(tree.resolve("a.btf"))) as found:
        assert len(found.pages) == 3000
        last = found.pages[2999].asarray()
        assert (last[0, 0], last[1023, 1023], last[5, 5]) == (102, 103, 7)


def test_a_stack_just_below_4_gib_has_all_ifds(tmp_path):
    planes = (4 << 30) // (2 << 20) - 1
    tree = sparse(tmp_path / "a.zarr", (planes, 1024, 1024), (1, 1024, 1024))
    file = tree.resolve("a.tif")
    assert file.size < 4 << 30
    with tifffile.TiffFile(Handle(file)) as found:
        assert len(found.pages) == planes
        assert found.pages[planes - 1].asarray()[3, 4] == 7


def test_a_plane_beyond_4_gib_is_bigtiff_and_no_stack(tmp_path):
    tree = sparse(
        tmp_path / "a.zarr", (2, 70_000, 70_000), (1, 1000, 1000), "u1", [(1, 69_999, 69_999)]
    )
    assert "a.tif" not in list(tree.resolve("").names())
    with tifffile.TiffFile(Handle(tree.resolve("tiff/a_z1.tif"))) as found:
        assert found.is_bigtiff
        page = found.pages[0]
        assert page.shape == (70_000, 70_000)
        end = page.dataoffsets[-1] + page.databytecounts[-1]
    file = tree.resolve("tiff/a_z1.tif")
    assert end == file.size
    assert file.read(file.size - 2, 2) == bytes([7, 100])
    crop = read(tree, "crop/69990,69990,10,10/a.tif")
    assert crop[1, 9, 9] == 100
    assert crop[0, 9, 9] == 7


def test_a_million_planes(tmp_path):
    """The header of a million IFDs is arithmetic: the last costs no more than the first."""
    tree = sparse(tmp_path / "a.zarr", (1_000_000, 8, 8), (1, 8, 8), marks=[(999_999, 7, 7)])
    file = tree.resolve("a.btf")
    with tifffile.TiffFile(Handle(file)) as found:
        first, second = (found.pages[i].offset for i in (1, 2))
        found.filehandle.seek(first + 999_998 * (second - first))
        page = tifffile.TiffPage(found, index=999_999)
        assert page.asarray()[7, 7] == 100
        (following,) = struct.unpack("<Q", file.read(page.offset + 8 + 20 * len(page.tags), 8))
        assert following == 0
    planes = tree.resolve("tiff")
    assert list(islice(planes.names(), 2)) == ["a_z000000.tif", "a_z000001.tif"]
    assert list(planes.names(999_999)) == ["a_z999999.tif"]


def test_a_plane_of_10_to_the_18_bytes_opens(tmp_path):
    tree = sparse(
        tmp_path / "a.zarr",
        (1_000_000_000, 1_000_000_000),
        (1000, 1000),
        "u1",
        [(999_999_999, 999_999_999)],
    )
    file = tree.resolve("tiff/a.tif")
    assert file.size > 10**18
    assert file.read(file.size - 1, 1) == b"\x64"
    assert file.read(0, 4) == b"II+\0"
    assert tree.resolve("crop/999999990,999999990,10,10/a.tif").size < 4096


def bare(folder, shape, chunks, names, dtype="uint8", above=None):
    """The document alone of an array `0` in a group, whose attributes are `above`."""
    (folder / "0").mkdir(parents=True)
    group = {"zarr_format": 3, "node_type": "group", "attributes": above or {}}
    array = {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype,
        "fill_value": 7, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"}, "dimension_names": names,
    }  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(group))
    (folder / "0" / "zarr.json").write_text(json.dumps(array))
    return open_tree(str(folder))


def one_level(axes, **more):
    """The attributes of an image whose one level is the array `0`."""
    step = {"type": "scale", "scale": [1] * len(axes)}
    datasets = [{"path": "0", "coordinateTransformations": [step]}]
    image = {"axes": [AXES[a] for a in axes], "datasets": datasets}
    return {"ome": {"version": "0.5", "multiscales": [image], **more}}


@pytest.mark.parametrize("long", "zyx")
def test_sides_of_2_to_the_32_are_refused_where_they_are_rows_or_columns(tmp_path, long):
    shape = [1 << 32 if name == long else 2 for name in "zyx"]
    tree = bare(tmp_path / "i.zarr", shape, [2, 2, 2], ["z", "y", "x"])
    (found,) = (d for d in tree.describe() if d.path == "0")
    sides = {"tiff": "yx", "0.btf": "yx", "tiff.xz": "zx", "tiff.yz": "zy"}
    for view, names in sides.items():
        assert (view in found.views) == (long not in names)
    assert "0.tif" not in found.views  # ImageJ's numbers have 31 bits
    if long == "z":
        last = tree.resolve("0/tiff/0_z4294967295.tif")
        np.testing.assert_array_equal(tifffile.imread(Handle(last)), [[7, 7], [7, 7]])
        file = tree.resolve("0/0.btf")
        assert file.read(file.size - 5, 5) == b"\7" * 5


def test_a_billion_channels(tmp_path):
    """Nothing is kept for each of them."""
    above = one_level("cyx", omero={"channels": [{"label": "first", "color": "00FF00"}]})
    tree = bare(tmp_path / "i.zarr", [10**9, 4, 4], [10**6, 4, 4], None, above=above)
    for path in ("0/0.tif", "i.ome.tif", "0/0.btf"):
        file = tree.resolve(path)
        assert file.read(file.size - 1, 1) == (b"\7" if path != "i.ome.tif" else b"\0")
    with tifffile.TiffFile(Handle(tree.resolve("0/0.tif"))) as found:
        assert found.imagej_metadata["channels"] == 10**9


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype"),
    [([1 << 56, 1, 1], [1, 1, 1], "uint8"), ([1 << 27, 1 << 26], [1, 1], "uint16")],
)
def test_what_is_listed_is_there_however_large(tmp_path, shape, chunks, dtype):
    """The headers may make a file too large whose pixels are not: of each pixel an IFD, a page."""
    tree = bare(tmp_path / "g", shape, chunks, None, dtype)
    for name in tree.resolve("0").names():
        assert tree.resolve(f"0/{name}")


def test_an_image_too_large_for_a_file_has_no_ome_tiff(tmp_path):
    shape = [1 << 20, 1 << 22, 1 << 22]
    tree = bare(tmp_path / "i.zarr", shape, [1, 1024, 1024], None, above=one_level("zyx"))
    assert "i.ome.tif" not in list(tree.resolve("").names())
    assert any("i.ome.tif" in r and "2^63" in r for d in tree.describe() for r in d.remarks)
