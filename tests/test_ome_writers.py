"""Images as the ecosystem's writers write them, in every version each of them writes."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import pytest
import tifffile
import zarr

from tests import images
from tests.bioformats import describe
from tests.images import Handle, save
from znfs.errors import StoreError
from znfs.stores.local import LocalStore
from znfs.tree import open_tree

SIZES = {"t": 2.5, "c": 1.0, "z": 1.25, "y": 0.65, "x": 0.65}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


@pytest.fixture
def data():
    return np.random.default_rng(0).integers(0, 60_000, (2, 3, 4, 64, 48)).astype("<u2")


def ome_zarr(version: str, folder: Any, data: np.ndarray) -> None:
    formats = pytest.importorskip("ome_zarr.format")
    from ome_zarr.writer import write_image

    fmt = formats.format_from_version(version)
    group = zarr.open_group(folder, mode="w", zarr_format=fmt.zarr_format)
    sizes = {a: s for a, s in SIZES.items() if a != "c"}
    write_image(
        data, group, scale_factors=(2, 4), fmt=fmt, axes="tczyx", scale=sizes, axes_units=UNITS
    )


def ngff_zarr(version: str, folder: Any, data: np.ndarray) -> None:
    ngff = pytest.importorskip("ngff_zarr")
    image = ngff.to_ngff_image(data, dims=list("tczyx"), scale=SIZES, axes_units=UNITS)
    pyramid = ngff.to_multiscales(image, scale_factors=[{"z": 1, "y": k, "x": k} for k in (2, 4)])
    try:
        ngff.to_ngff_zarr(folder, pyramid, version=version)
    except ValueError as error:
        if "Unsupported version" not in str(error):
            raise
        pytest.skip(f"ngff-zarr {ngff.__version__} does not write {version}")


def bioio(version: str, folder: Any, data: np.ndarray) -> None:
    writers = pytest.importorskip("bioio_ome_zarr.writers")
    shapes = [data.shape] + [(*data.shape[:3], 64 // k, 48 // k) for k in (2, 4)]
    writer = writers.OMEZarrWriter(
        str(folder), shapes, "uint16", zarr_format=2 if version == "0.4" else 3,
        channels=[writers.Channel(label=n, color=c) for n, c in CHANNELS],
        axes_names=list("tczyx"), axes_types=["time", "channel", *["space"] * 3],
        axes_units=[UNITS.get(a) for a in "tczyx"], physical_pixel_size=list(SIZES.values()),
    )  # fmt: skip
    writer.write_full_volume(data)


CHANNELS = [("DAPI", "0000FF"), ("GFP", "00FF00"), ("Cy5", "FF00FF")]
WRITERS = [
    *((ome_zarr, v) for v in ("0.4", "0.5")),
    *((ngff_zarr, v) for v in ("0.4", "0.5", "0.6", "0.9.dev1")),
    *((bioio, v) for v in ("0.4", "0.5")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("write", "version"), WRITERS)
def test_written_images_read_as_meant(tmp_path, data, write, version):
    folder = tmp_path / "i.zarr"
    write(version, folder, data)
    tree = open_tree(str(folder))
    levels = [d for d in tree.describe() if d.kind == "array"]
    assert len(levels) == 3
    stored = zarr.open_group(folder, mode="r")
    for k, level in enumerate(levels):
        assert level.meta.axis_names == tuple("tczyx")
        assert {a.name: a.unit for a in level.meta.axes if a.unit} == UNITS
        sizes = {a.name: a.scale for a in level.meta.axes}
        want = {a: s * (2**k if a in "yx" else 1) for a, s in SIZES.items()}
        assert sizes == pytest.approx(want)
        values = np.asarray(stored[level.path])
        name = level.path.rpartition("/")[2]
        with tifffile.TiffFile(Handle(tree.resolve(f"{level.path}/{name}.tif"))) as found:
            np.testing.assert_array_equal(found.asarray(), values.transpose(0, 2, 1, 3, 4))
            assert found.imagej_metadata["unit"] == "micron"
            assert found.imagej_metadata["spacing"] == 1.25
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        (series,) = found.series
        assert [lv.shape[-2:] for lv in series.levels] == [(64, 48), (32, 24), (16, 12)]
        for level, shown in zip(levels, series.levels, strict=True):
            values = np.asarray(stored[level.path])
            np.testing.assert_array_equal(shown.asarray(), values.transpose(0, 2, 1, 3, 4))
        assert 'PhysicalSizeX="0.65" PhysicalSizeXUnit="µm"' in found.ome_metadata
        assert 'TimeIncrement="2.5" TimeIncrementUnit="s"' in found.ome_metadata
    if write is bioio:
        assert [c.name for c in levels[0].meta.channels] == [name for name, _ in CHANNELS]
        assert levels[0].meta.channels[2].color == (255, 0, 255)
    np.testing.assert_array_equal(np.asarray(stored[levels[0].path]), data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_and_labels_of_ome_zarr(tmp_path, data, version):
    formats = pytest.importorskip("ome_zarr.format")
    from ome_zarr import writer

    fmt = formats.format_from_version(version)
    folder = tmp_path / "p.zarr"
    root = zarr.open_group(folder, mode="w", zarr_format=fmt.zarr_format)
    writer.write_plate_metadata(root, ["A"], ["1", "2"], ["A/1", "A/2"], fmt=fmt)
    well = root.create_group("A").create_group("2")
    writer.write_well_metadata(well, ["0"], fmt=fmt)
    image = well.create_group("0")
    writer.write_image(data[0, :, 0], image, axes="cyx", scale_factors=(2,), fmt=fmt)
    cells = (data[0, 0, 0] % 5).astype("<u4")
    writer.write_labels(cells, image, "cells", axes="yx", scale_factors=(2,), fmt=fmt)
    tree = open_tree(str(folder))
    found = {d.path: d for d in tree.describe()}
    level = next(p for p in found if p.startswith("A/2/0/labels/cells/") and p.count("/") == 5)
    name = level.rpartition("/")[2]
    label = tifffile.imread(Handle(tree.resolve(f"{level}/tiff/{name}.tif")))
    np.testing.assert_array_equal(label, cells)
    paths = ("A/2/0/0.ome.tif", "A/2/0/labels/cells/cells.ome.tif")
    saved = [save(tree, path, tmp_path / path.rpartition("/")[2]) for path in paths]
    for path, want, facts in zip(saved, (data[0, :, 0], cells), describe(*saved), strict=True):
        np.testing.assert_array_equal(tifffile.imread(path), want)
        assert len(facts["resolution"]) >= 2
        first = [int(line.split()[-1]) for line in facts["plane"] if line.startswith("0 ")]
        planes = np.ascontiguousarray(want).reshape(-1, 64, 48)
        assert first == [crc32(plane.tobytes()) for plane in planes]


def test_groups_below_consolidated_groups_keep_their_children(tmp_path):
    """zarr-python writes an empty consolidated_metadata into each group that it consolidates."""
    root = zarr.open_group(tmp_path / "c.zarr", mode="w", zarr_format=3)
    root.create_group("a").create_group("b").create_array("x", shape=(4, 4), dtype="u1")[:] = 5
    zarr.consolidate_metadata(root.store)
    tree = open_tree(str(tmp_path / "c.zarr"))
    assert [d.path for d in tree.describe()] == ["", "a", "a/b", "a/b/x"]
    assert tifffile.imread(Handle(tree.resolve("a/b/x/tiff/x.tif"))).tolist() == [[5] * 4] * 4


def test_what_is_broken_is_named(tmp_path):
    root = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    root.create_array("0", shape=(4, 4), dtype="u1")
    root.attrs["multiscales"] = [
        {"version": "0.6", "coordinateSystems": [], "datasets": [{"path": "0"}]}
    ]
    root.attrs["omero"] = {"channels": [{"color": "red"}]}
    first = next(open_tree(str(tmp_path / "b.zarr")).describe())
    said = "\n".join(first.remarks)
    assert "an image without axes" in said
    assert "omero: no colour of the form RRGGBB" in said


def test_levels_of_other_dimensions_are_named(tmp_path):
    folder = images.write_image(tmp_path / "i.zarr", [np.zeros((3, 4, 4), "u1")] * 2, "zyx")
    group = zarr.open_group(folder)
    group.create_array("1", shape=(4, 4), dtype="u1", overwrite=True)
    said = [remark for node in open_tree(str(folder)).describe() for remark in node.remarks]
    (told,) = [remark for remark in said if remark.startswith("multiscales")]
    assert told.startswith("multiscales: 1 has 2 dimensions")


def test_a_level_that_cannot_be_read_takes_no_other_with_it(tmp_path, monkeypatch):
    folder = images.write_image(tmp_path / "i.zarr", [np.zeros((3, 4, 4), "u1")] * 2, "zyx")
    read = LocalStore.get

    def get(self, key, *args, **kwargs):
        if key.startswith("1/"):
            raise StoreError(f"{key}: no answer")
        return read(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", get)
    opened = open_tree(str(folder), views=("npy",))
    found = {node.path: (node.kind, node.remarks) for node in opened.describe()}
    assert {path: kind for path, (kind, _) in found.items()} == {
        "": "group", "0": "array", "1": "unreadable",
    }  # fmt: skip
    assert "no answer" in found["1"][1][0]
