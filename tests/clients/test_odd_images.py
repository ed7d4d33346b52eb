"""Images with any axes, types, names and units, in ImageJ and Bio-Formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import zarr

from tests.bioformats import describe
from tests.clients.imagej import imagej
from tests.conftest import Mount
from tests.images import AXES, SIZES, write_image

Volume = np.ndarray[Any, Any]
Orders = dict[str, Volume]

SHOWN = {"label": "DAPI", "color": "0000FF", "window": {"start": 0.25, "end": 99}}
# Axes as stored; what ImageJ has then: channels, slices, frames.
ORDERS = {
    "xyzct": (3, 4, 2),
    "cxzty": (3, 4, 2),
    "zcyx": (3, 4, 1),
    "ctyx": (3, 1, 2),
    "yxc": (3, 1, 1),
    "tyx": (1, 1, 2),
    "tzyx": (1, 4, 2),
}
LENGTHS = {"t": 2, "c": 3, "z": 4, "y": 30, "x": 20}
# The types of single planes ImageJ 1 opens, and what it has of them.
TYPES = {
    "|b1": "u1", "|u1": "u1", "|i1": "u1", "<u2": "u2", ">u2": "u2", "<i2": "i2", ">i2": "i2",
    "<u4": "f4", "<i4": "f4", "<f4": "f4", ">f4": "f4",
}  # fmt: skip


def noise(shape: tuple[int, ...], dtype: str) -> Volume:
    kind = np.dtype(dtype)
    rng = np.random.default_rng(5)
    if kind.kind == "f":
        return rng.normal(0, 100, shape).astype(kind)
    # 32-bit integers within what float32 holds exactly: labels are.
    top = 2 if kind.kind == "b" else min(np.iinfo(kind).max, 1 << 24)
    low = -top if kind.kind == "i" else 0
    return rng.integers(low, top, shape).astype(kind)


def in_order(data: Volume, axes: str) -> Volume:
    """The planes as t, z, c follow each other."""
    order = [axes.index(a) for a in "tzcyx" if a in axes]
    return np.ascontiguousarray(data.transpose(order)).reshape(-1, LENGTHS["y"], LENGTHS["x"])


@pytest.fixture(scope="module")
def orders() -> Orders:
    return {axes: noise(tuple(LENGTHS[a] for a in axes), "<u2") for axes in ORDERS}


@pytest.fixture(scope="module")
def types() -> Orders:
    return {dtype: noise((2, 30, 20), dtype) for dtype in TYPES}


def write_tau(folder: Path) -> Volume:
    """Fluorescence lifetimes: two axes that ImageJ has no separate place for."""
    data = noise((2, 3, 5, 30, 20), "<u2")
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    array = group.create_array("0", shape=data.shape, dtype="<u2", chunks=data.shape)
    array[...] = data
    tau = {"name": "tau", "type": "lifetime", "unit": "nanosecond"}
    axes = [AXES["t"], AXES["c"], tau, AXES["y"], AXES["x"]]
    step = {"type": "scale", "scale": [2.5, 1.0, 0.1, 0.65, 0.65]}
    datasets = [{"path": "0", "coordinateTransformations": [step]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return data


@pytest.fixture(scope="module")
def mounted(
    tmp_path_factory: pytest.TempPathFactory, mount_for_module: Mount, orders: Orders, types: Orders
) -> Path:
    root = tmp_path_factory.mktemp("odd")
    for axes, data in orders.items():
        write_image(root / f"{axes}.zarr", [data], axes, omero={"channels": [SHOWN]})
    for i, data in enumerate(types.values()):
        write_image(root / f"type{i}.zarr", [data], "zyx")
    labels = types["<u4"]
    write_image(root / "cells µ 细胞.zarr", [labels, labels[:, ::2, ::2]], "zyx")
    write_tau(root / "tau.zarr")
    plain = zarr.open_group(root / "plain.zarr", mode="w", zarr_format=2)
    array = plain.create_array("0", shape=(2, 30, 20), dtype="<u2", chunks=(1, 30, 20))
    array[...] = types["<u2"]
    step = {"type": "scale", "scale": [1.25, 0.65, 0.65]}
    plain.attrs["multiscales"] = [{
        "version": "0.4", "axes": [{"name": a} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [step]}],
    }]  # fmt: skip
    return mount_for_module(root)


MACRO = """
setBatchMode(true);
files = split(getArgument(), "|");
for (k = 0; k < files.length; k++) {
    OPEN
    getDimensions(w, h, c, s, f); getVoxelSize(dx, dy, dz, unit);
    print("image\\t" + c + "\\t" + s + "\\t" + f + "\\t" + bitDepth() + "\\t"
        + dx + " " + dy + " " + dz + " " + unit + "\\t" + Stack.getFrameInterval());
    values = "values";
    for (i = 1; i <= nSlices; i++) {
        setSlice(i);
        values = values + "\\t" + getValue(0, 0) + "\\t" + getValue(w - 1, 7)
            + "\\t" + getValue(3, h - 1);
    }
    print(values);
    close();
}
"""
OPEN = "open(files[k]);"
SEQUENCE = 'run("Image Sequence...", "open=[" + files[k] + "] sort");'
IMPORT = """run("Bio-Formats Importer", "open=[" + files[k]
        + "] color_mode=Composite view=Hyperstack stack_order=XYCZT series_1");"""


def points(planes: Volume) -> list[float]:
    """What the macro reads of each plane."""
    return [float(v) for p in planes for v in (p[0, 0], p[7, -1], p[-1, 3])]


def read(
    tmp_path: Path, how: str, *paths: Path, importer: bool = False
) -> list[tuple[list[str], list[float]]]:
    """For each path what ImageJ says of the image and the values of its planes."""
    lines = imagej(tmp_path, MACRO.replace("OPEN", how), *paths, importer=importer)
    facts = [words for kind, *words in lines if kind == "image"]
    values = [[float(w) for w in words] for kind, *words in lines if kind == "values"]
    assert len(facts) == len(paths)
    return list(zip(facts, values, strict=True))


def test_axes_in_any_order(mounted: Path, orders: Orders, tmp_path: Path) -> None:
    stacks = [mounted / f"{axes}.zarr/0/0.tif" for axes in ORDERS]
    for (facts, values), (axes, data) in zip(
        read(tmp_path, OPEN, *stacks), orders.items(), strict=True
    ):
        assert tuple(map(int, facts[:3])) == ORDERS[axes], axes
        z = SIZES["z"] if "z" in axes else 1
        assert facts[4] == f"0.65 0.65 {z} microns"
        assert facts[5] == ("2.5" if "t" in axes else "0")
        assert values == points(in_order(data, axes))


def test_axes_that_join_time_are_not_timed(mounted: Path, tmp_path: Path) -> None:
    data = noise((2, 3, 5, 30, 20), "<u2").transpose(0, 2, 1, 3, 4)
    ((facts, values),) = read(tmp_path, OPEN, mounted / "tau.zarr/0/0.tif")
    assert facts[:3] == ["3", "1", "10"]
    assert facts[5] == "0"
    assert values == points(data.reshape(-1, 30, 20))
    (said,) = describe(mounted / "tau.zarr/tau.ome.tif")
    assert said["interval"] == ["none"]


def test_sizes_without_units_are_in_pixels(mounted: Path, tmp_path: Path) -> None:
    ((facts, _),) = read(tmp_path, OPEN, mounted / "plain.zarr/0/0.tif")
    assert facts[4] == "0.65 0.65 1.25 pixels"


def test_planes_of_every_type_imagej_opens(mounted: Path, types: Orders, tmp_path: Path) -> None:
    planes = [mounted / f"type{i}.zarr/0/tiff/0_z1.tif" for i in range(len(TYPES))]
    for (facts, values), (dtype, data) in zip(
        read(tmp_path, OPEN, *planes), types.items(), strict=True
    ):
        held = np.dtype(TYPES[dtype])
        assert facts[3] == str(8 * held.itemsize), dtype
        # int8 is shown as uint8 of the same bits: the documentation says so.
        shown = data[1:].view("u1") if dtype == "|i1" else data[1:].astype(held)
        assert values == pytest.approx(points(shown), rel=1e-6), dtype


def test_labels_and_names(mounted: Path, types: Orders, tmp_path: Path) -> None:
    """32-bit labels below a folder whose name is not ASCII: as a sequence, and by the importer."""
    folder = mounted / "cells µ 细胞.zarr"
    labels = types["<u4"]
    for how, path in (
        (SEQUENCE, folder / "0/tiff/0_z0.tif"),
        (IMPORT, folder / "cells µ 细胞.ome.tif"),
    ):
        ((facts, values),) = read(tmp_path, how, path, importer=True)
        assert facts[3] == "32"
        assert values == points(labels)
        assert facts[4].startswith("0.65 0.65 ")


def test_bioformats_reads_them_all(mounted: Path, orders: Orders, types: Orders) -> None:
    images = [mounted / f"{axes}.zarr/{axes}.ome.tif" for axes in ORDERS]
    images += [mounted / f"type{i}.zarr/type{i}.ome.tif" for i in range(len(TYPES))]
    # Bio-Formats takes .btf for the BigTIFF that it is.
    stack = mounted / "type0.zarr/0/0.btf"
    found = describe(*images, stack)
    wanted = [in_order(data, axes) for axes, data in orders.items()]
    wanted += [data.astype("u1") if d == "|b1" else data for d, data in types.items()]
    for path, facts, data in zip(images, found, wanted, strict=False):
        assert facts["size"][:2] == ["x 0.65 µm", "y 0.65 µm"]
        sums = [int(line.split()[-1]) for line in facts["plane"]]
        little = data.astype(data.dtype.newbyteorder("<"))
        assert sums == [crc32(np.ascontiguousarray(plane).tobytes()) for plane in little], path
    sums = [int(line.split()[-1]) for line in found[-1]["plane"]]
    assert sums == [crc32(np.ascontiguousarray(p).tobytes()) for p in types["|b1"].view("u1")]


def test_a_crop_of_a_plane_that_imagej_cannot_hold(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mount: Mount
) -> None:
    """A plane of 4.9 gigapixels; ImageJ's arrays end at 2."""
    side, corner = 70_000, noise((2, 30, 20), "|u1")
    group = zarr.open_group(tmp_path / "wide.zarr", mode="w", zarr_format=2)
    array = group.create_array(
        "0", shape=(2, side, side), chunks=(1, 512, 512), dtype="u1", fill_value=3
    )
    array[:, -30:, -20:] = corner
    step = {"type": "scale", "scale": [1.25, 0.65, 0.65]}
    group.attrs["multiscales"] = [{
        "version": "0.4", "axes": [AXES[a] for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [step]}],
    }]  # fmt: skip
    path = mount(tmp_path / "wide.zarr")
    assert not (path / "0/0.tif").exists()
    # Ten columns before the corner; what reaches beyond the image is cut.
    crop = path / f"0/crop/{side - 30},{side - 30},4096,4096/0.tif"
    ((facts, values),) = read(tmp_path, OPEN, crop)
    assert facts == ["1", "2", "1", "8", "0.65 0.65 1.25 microns", "0"]
    want = np.full((2, 30, 30), 3, "u1")
    want[:, :, 10:] = corner
    assert values == points(want)
