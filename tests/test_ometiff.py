"""Pyramidal OME-TIFF, as tifffile, Bio-Formats, libvips, SimpleITK and libtiff read it."""

from __future__ import annotations

import struct
import subprocess
import time
import tracemalloc
from xml.etree import ElementTree
from zlib import crc32

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.bioformats import describe
from tests.conftest import require
from tests.images import Handle, omero, save, write_image
from tests.test_extents import arrays, check_ranges
from znfs.errors import NotFound
from znfs.meta import unravel
from znfs.node import File
from znfs.tree import open_tree
from znfs.views.tiff.structure import IMAGE_WIDTH, SUB_IFDS, TILE_BYTE_COUNTS, TILE_OFFSETS
from znfs.views.tiff.tiles import Tiles

RGB = ("FF0000", "00FF00", "0000FF")


def noise(shape, dtype="<u2"):
    rng = np.random.default_rng(1)
    if np.dtype(dtype).kind in "ui":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.normal(0, 100, shape).astype(dtype)


def pyramid(data, levels=3, along=2):
    """Every second element of the last `along` axes, and so on."""
    steps = [tuple(slice(None, None, 2**k) for _ in range(along)) for k in range(levels)]
    return [data[(..., *step)] for step in steps]


def planes(level, axes="tczyx"):
    """The level's planes in the file's order: t, z, c."""
    order = [axes.index(a) for a in "tzc" if a in axes] + [axes.index("y"), axes.index("x")]
    moved = np.ascontiguousarray(level.transpose(order))
    return moved.reshape(-1, *moved.shape[-2:])


FLUORESCENCE = omero(
    ("DAPI", "0000FF", 1, 2), ('GFP µ<&"', "00FF00", 0, 255), ("Cy5", "FF00FF", 5, 9)
)


@pytest.fixture
def image(tmp_path):
    data = noise((2, 3, 4, 500, 340))
    levels = [data, data[..., ::2, ::2], data[:, :, ::2, ::4, ::4]]
    folder = write_image(
        tmp_path / "image.zarr", levels, chunks=(1, 1, 2, 128, 128), omero=FLUORESCENCE
    )
    return open_tree(str(folder)), levels


def test_tifffile_reads_every_level(image):
    tree, levels = image
    assert "image.ome.tif" in list(tree.resolve("").names())
    with tifffile.TiffFile(Handle(tree.resolve("image.ome.tif"))) as found:
        assert found.is_ome
        assert found.is_bigtiff
        (series,) = found.series
        assert series.axes == "TZCYX"
        assert series.levels[0].pages[0].tile == (128, 128)
        np.testing.assert_array_equal(series.asarray(), levels[0].transpose(0, 2, 1, 3, 4))
        assert [lv.shape[-2:] for lv in series.levels] == [(500, 340), (250, 170), (125, 85)]
        np.testing.assert_array_equal(
            series.levels[1].asarray(), levels[1].transpose(0, 2, 1, 3, 4)
        )
        # The coarsest level has half the slices: each serves two of the first level's.
        np.testing.assert_array_equal(
            series.levels[2].asarray(), levels[2].transpose(0, 2, 1, 3, 4)[:, [0, 0, 1, 1]]
        )
        page = found.pages[0]
        assert page.get_resolution("micrometer") == pytest.approx((1 / 0.65, 1 / 0.65))


def test_the_document_is_valid(image):
    ome_types = pytest.importorskip("ome_types")
    pytest.importorskip("lxml")
    tree, _ = image
    with tifffile.TiffFile(Handle(tree.resolve("image.ome.tif"))) as found:
        ome_types.validate_xml(found.ome_metadata)  # against the schema 2016-06
        document = ome_types.from_xml(found.ome_metadata)
    (only,) = document.images
    pixels = only.pixels
    assert only.name == "image"
    assert [c.name for c in pixels.channels] == ["DAPI", 'GFP µ<&"', "Cy5"]
    assert [c.color.as_rgb_tuple()[:3] for c in pixels.channels] == [
        (0, 0, 255), (0, 255, 0), (255, 0, 255)
    ]  # fmt: skip
    sizes = (pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_c, pixels.size_t)
    assert sizes == (340, 500, 4, 3, 2)
    assert (pixels.physical_size_x, pixels.physical_size_x_unit.value) == (0.65, "µm")
    assert (pixels.physical_size_z, pixels.physical_size_z_unit.value) == (1.25, "µm")
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (2.5, "s")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("👩\u200d🔬 🫨", "👩\u200d🔬 🫨"), ("می\u200cخواهم \u202eRTL", "می\u200cخواهم \u202eRTL"),
     ("a\u00a0b\ue000\u3000c", "a\u00a0b\ue000\u3000c"), ("x" * 10_000, "x" * 10_000),
     ("a\tb\nc\rd\0e\x1bf\x85g\ufffeh\ud83di", "a b c d e f g h i")],
)  # fmt: skip
def test_names_keep_what_xml_can_hold(tmp_path, name, shown):
    channels = {"channels": [{"label": name}]}
    tree = open_tree(str(write_image(tmp_path / "i.zarr", [noise((8, 8))], "yx", omero=channels)))
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        document = ElementTree.fromstring(found.ome_metadata)
    assert [c.get("Name") for c in document.findall(".//{*}Channel")] == [shown]


def test_libtiff_reads_every_tile(image, tmp_path):
    require("tiffinfo", "tiffdump")
    tree, _ = image
    path = save(tree, "image.ome.tif", tmp_path / "i.ome.tif")
    done = subprocess.run(["tiffinfo", "-D", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("=== TIFF directory") == 24
    assert done.stdout.count("--- SubIFD 0 of chain") == 48
    subprocess.run(["tiffdump", "-m", "4", path], capture_output=True, check=True)


def test_libvips_reads_pages_and_levels(image, tmp_path):
    require("vips")
    tree, levels = image
    path = save(tree, "image.ome.tif", tmp_path / "i.ome.tif")
    for level, option in ((0, "page=4"), (1, "page=4,subifd=0"), (2, "page=4,subifd=1")):
        out = tmp_path / f"{level}.tif"
        subprocess.run(["vips", "copy", f"{path}[{option}]", out], check=True)
        # Page 4 is t 0, z 1, c 1.
        z = 1 if level < 2 else 0
        np.testing.assert_array_equal(tifffile.imread(out), levels[level][0, 1, z])


# Bio-Formats


def check_pixels(facts, levels, axes="tczyx"):
    shape = dict(zip(axes, levels[0].shape, strict=True))
    counts = {a: shape.get(a, 1) for a in "tzc"}
    for line in facts["plane"]:
        r, t, z, c, crc = map(int, line.split())
        level = levels[r]
        z = z * dict(zip(axes, level.shape, strict=True)).get("z", 1) // counts["z"]
        index = tuple({"t": t, "z": z, "c": c}.get(a, slice(None)) for a in axes)
        assert crc32(np.ascontiguousarray(level[index]).tobytes()) == crc, line
    assert len(facts["plane"]) == len(levels) * counts["t"] * counts["z"] * counts["c"]


def test_bioformats_reads_all(image, tmp_path):
    tree, levels = image
    (facts,) = describe(save(tree, "image.ome.tif", tmp_path / "i.ome.tif"))
    assert facts["reader"] == ["OMETiffReader"]
    assert facts["series"] == ["1"]
    assert facts["name"] == ["image"]
    assert facts["size"] == ["x 0.65 µm", "y 0.65 µm", "z 1.25 µm"]
    assert facts["interval"] == ["2.5 s"]
    assert facts["channel"] == ["DAPI 0,0,255", 'GFP µ<&" 0,255,0', "Cy5 255,0,255"]
    assert [r.split(" tile ")[0] for r in facts["resolution"]] == [
        "340 500 4 3 2", "170 250 4 3 2", "85 125 4 3 2"
    ]  # fmt: skip
    check_pixels(facts, levels)


def test_bioformats_reads_every_type(tmp_path):
    written = {}
    for dtype in ("u1", "i1", "<i2", "<u4", "<i4", "<f4", "<f8", "<f2"):
        name = np.dtype(dtype).name
        levels = pyramid(noise((2, 70, 90), dtype), 2)
        folder = write_image(tmp_path / f"{name}.zarr", levels, "cyx", chunks=(1, 16, 48))
        path = save(open_tree(str(folder)), f"{name}.ome.tif", tmp_path / f"{name}.ome.tif")
        # OME has no half floats.
        written[path] = [lv.astype("<f4") if dtype == "<f2" else lv for lv in levels]
    for facts, levels in zip(describe(*written), written.values(), strict=True):
        check_pixels(facts, levels, "cyx")


# RGB


def write_rgb(folder, data, axes="cyx", colors=RGB, window=(0, 255), side=64):
    shown = omero(*((label, color, *window) for label, color in zip("RGB", colors, strict=True)))
    levels = [data, data[..., ::2, ::2]]
    sides = [1] * (data.ndim - 2) + [side, side]
    return write_image(folder, levels, axes, chunks=sides, omero=shown)


def test_rgb_is_rgb(tmp_path):
    require("vips")
    data = noise((3, 100, 150), "u1")
    tree = open_tree(str(write_rgb(tmp_path / "i.zarr", data)))
    path = save(tree, "i.ome.tif", tmp_path / "i.ome.tif")
    with tifffile.TiffFile(path) as found:
        assert found.series[0].axes == "YXS"
        assert found.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        np.testing.assert_array_equal(found.asarray(), data.transpose(1, 2, 0))
        np.testing.assert_array_equal(
            found.series[0].levels[1].asarray(), data[:, ::2, ::2].transpose(1, 2, 0)
        )
    subprocess.run(["vips", "copy", f"{path}[subifd=0]", tmp_path / "l1.png"], check=True)
    png = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "l1.png")))
    np.testing.assert_array_equal(png, data[:, ::2, ::2].transpose(1, 2, 0))
    # ITK reads tiles as 8-bit RGBA only.
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(whole[..., :3], data.transpose(1, 2, 0))
    (facts,) = describe(path)
    assert facts["rgb"] == ["true 3"]
    assert facts["resolution"][0].startswith("150 100 1 3 1")


@pytest.mark.parametrize("side", [64, 128])
def test_rgb_of_several_slices(tmp_path, side):
    """Chunks of 128 are as large as a tile, and hold one of its colours."""
    data = noise((2, 3, 2, 150, 170), "u1")
    tree = open_tree(str(write_rgb(tmp_path / "i.zarr", data, "tczyx", side=side)))
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        assert found.series[0].axes == "TZYXS"
        np.testing.assert_array_equal(found.asarray(), data.transpose(0, 2, 3, 4, 1))


@pytest.mark.parametrize(
    ("dtype", "colors", "window"),
    [("<u2", RGB, (0, 255)), ("u1", RGB[::-1], (0, 255)), ("u1", RGB, (10, 200))],
)
def test_channels_are_not_rgb_unless_shown_so(tmp_path, dtype, colors, window):
    data = noise((3, 40, 50), dtype)
    tree = open_tree(str(write_rgb(tmp_path / "i.zarr", data, colors=colors, window=window)))
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        assert found.series[0].axes == "CYX"
        np.testing.assert_array_equal(found.asarray(), data)


# Which images, levels and tiles


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "tcyx", "czyx", "tzyx"])
def test_any_axes_in_any_version(tmp_path, axes, version):
    lengths = {"t": 2, "c": 3, "z": 4, "y": 50, "x": 70}
    data = noise(tuple(lengths[a] for a in axes))
    folder = write_image(tmp_path / "i.zarr", pyramid(data), axes, version=version)
    with tifffile.TiffFile(Handle(open_tree(str(folder)).resolve("i.ome.tif"))) as found:
        np.testing.assert_array_equal(found.asarray().reshape(-1, 50, 70), planes(data, axes))
        assert len(found.series[0].levels) == 3


@pytest.mark.parametrize(
    ("chunk", "tile"),
    [
        ((256, 512), (256, 512)),
        ((100, 100), (512, 512)),
        ((64, 64), (512, 512)),
        ((900, 640), (512, 640)),
    ],
)
def test_chunks_are_tiles_where_tiff_allows(tmp_path, chunk, tile):
    data = noise((900, 1000), "u1")
    folder = write_image(tmp_path / "i.zarr", pyramid(data), "yx", chunks=chunk)
    with tifffile.TiffFile(Handle(open_tree(str(folder)).resolve("i.ome.tif"))) as found:
        assert found.pages[0].tile == tile
        np.testing.assert_array_equal(found.asarray(), data)


def test_chunks_larger_than_tiles_may_be_are_several(tmp_path, monkeypatch):
    monkeypatch.setattr("znfs.views.tiff.ometiff._MOST_TILE_BYTES", 512 * 640 - 1)
    data = noise((900, 1000), "u1")
    folder = write_image(tmp_path / "i.zarr", [data], "yx", chunks=(640, 512))
    with tifffile.TiffFile(Handle(open_tree(str(folder)).resolve("i.ome.tif"))) as found:
        assert found.pages[0].tile == (512, 512)
        np.testing.assert_array_equal(found.asarray(), data)


def test_levels_that_are_no_smaller_image_are_left_out(tmp_path):
    data = noise((3, 40, 50))
    levels = [data, data[:2, ::2, ::2], data[:, ::2, ::2].astype("<f4"), data[:, ::4, ::4], data]
    tree = open_tree(str(write_image(tmp_path / "i.zarr", levels, "cyx")))
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        assert [lv.shape for lv in found.series[0].levels] == [(3, 40, 50), (3, 10, 13)]
        np.testing.assert_array_equal(found.series[0].levels[1].asarray(), data[:, ::4, ::4])
    said = [r for r in next(tree.describe()).remarks if "left out" in r]
    assert [r.split()[3] for r in said] == ["1", "2", "4"]


def test_levels_that_cannot_be_read(tmp_path):
    levels = pyramid(noise((40, 50)))
    folder = write_image(tmp_path / "i.zarr", levels, "yx")
    (folder / "1" / ".zarray").write_text("{")
    tree = open_tree(str(folder))
    with tifffile.TiffFile(Handle(tree.resolve("i.ome.tif"))) as found:
        assert [lv.shape for lv in found.series[0].levels] == [(40, 50), (10, 13)]
    said = next(tree.describe()).remarks
    assert "in OME-TIFF: level 1 is left out: it cannot be read" in said
    (folder / "0" / ".zarray").unlink()
    tree = open_tree(str(folder))
    with pytest.raises(NotFound):
        tree.resolve("i.ome.tif")
    said = next(tree.describe()).remarks
    assert "no i.ome.tif: its first level, 0, cannot be read" in said


def test_groups_that_are_no_image_have_none(tmp_path):
    zarr.open_group(tmp_path / "g.zarr", mode="w").create_array("a", shape=(4, 4), dtype="u1")
    tree = open_tree(str(tmp_path / "g.zarr"))
    assert "g.ome.tif" not in list(tree.resolve("").names())
    with pytest.raises(NotFound):
        tree.resolve("g.ome.tif")
    assert not any("ome.tif" in remark for d in tree.describe() for remark in d.remarks)


def test_types_ome_lacks_are_named(tmp_path):
    folder = write_image(tmp_path / "i.zarr", [noise((40, 50), "<i8")], "yx")
    first = next(open_tree(str(folder)).describe())
    assert [r for r in first.remarks if "ome.tif" in r] == [
        "no i.ome.tif: OME has no pixel type for int64"
    ]


def test_the_version_follows_every_level(tmp_path):
    folder = write_image(tmp_path / "i.zarr", pyramid(noise((40, 50))), "yx")
    tree = open_tree(str(folder), ttl=0.0)
    first = tree.resolve("i.ome.tif")
    assert tree.resolve("i.ome.tif").version == first.version
    level = zarr.open_array(folder / "2")
    level.attrs["changed"] = True
    deadline = time.monotonic() + 10
    while tree.resolve("i.ome.tif").version == first.version:
        assert time.monotonic() < deadline


def entries(file, at):
    """The entries of the IFD of a BigTIFF at that offset: tag to count and value or offset."""
    (n,) = struct.unpack("<Q", file.read(at, 8))
    rows = struct.iter_unpack("<HHQQ", file.read(at + 8, 20 * n))
    return {tag: (count, value) for tag, _, count, value in rows}


def test_a_billion_tiles(tmp_path):
    """Tables are arithmetic: the file of 10^9 tiles opens at once, and reads at its far end."""
    group = zarr.open_group(tmp_path / "w.zarr", mode="w", zarr_format=2)
    datasets = []
    for k, side in enumerate((256_000, 1000)):
        array = group.create_array(
            str(k), shape=(1000, side, side), chunks=(1, 256, 256), dtype="u1", fill_value=9
        )
        array[-1, -1, -1] = 77 + k
        step = {"type": "scale", "scale": [1.0, 256.0**k, 256.0**k]}
        datasets.append({"path": str(k), "coordinateTransformations": [step]})
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    tree = open_tree(str(tmp_path / "w.zarr"))
    tracemalloc.start()
    file = tree.resolve("w.ome.tif")
    for at in (0, file.size // 2, file.size - 4096):
        file.read(at, 4096)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20  # 1.7 MB; the tables alone are 16 GB
    with tifffile.TiffFile(Handle(file)) as found:
        assert found.pages[1].offset < 4096  # all of the first plane, its description too
        assert found.pages[-1].offset < 1 << 20
        assert sum(p.tags[TILE_OFFSETS].count for p in found.pages[:3]) == 3_000_000
        last = found.pages[-1]
        assert last.tags[TILE_OFFSETS].count * len(found.pages) == 10**9
    main = entries(file, last.offset)
    small = entries(file, main[SUB_IFDS][1])
    for ifd, tiles, value in ((main, 1000, 77), (small, 4, 78)):
        count, offsets = ifd[TILE_OFFSETS]
        assert count == tiles * tiles
        (tile,) = struct.unpack("<Q", file.read(offsets + 8 * (count - 1), 8))
        at = ifd[TILE_BYTE_COUNTS][1] + 8 * (count - 1)
        assert struct.unpack("<Q", file.read(at, 8)) == (65_536,)
        inside = (ifd[IMAGE_WIDTH][1] - 1) % 256
        assert file.read(tile + inside * 257 - 1, 2) == bytes([9, value])
        (missing,) = struct.unpack("<Q", file.read(offsets, 8))
        assert file.read(missing, 65_536) == bytes([9]) * 65_536


# Tiles, byte for byte


@given(data=st.data())
def test_tiles_are_padded_parts_of_planes(data):
    array, values, _ = data.draw(arrays(4).filter(lambda a: a[1].ndim >= 2))
    order = tuple(data.draw(st.permutations(range(values.ndim))))
    samples = values.ndim > 2 and data.draw(st.booleans())
    chunks = array.meta.chunks
    row, column = order[-3:-1] if samples else order[-2:]
    rows = data.draw(st.sampled_from([chunks[row], 1, 3, 9]))
    columns = data.draw(st.sampled_from([chunks[column], 1, 4, 9]))
    dtype = data.draw(st.sampled_from([array.meta.dtype, np.dtype("<f8")]))
    tiles = Tiles(array, order, rows, columns, dtype, samples)
    run = values.transpose(order).astype(dtype)
    if not samples:
        run = run[..., None]
    *rest, height, width, depth = run.shape
    grid = (*rest, -(-height // rows), -(-width // columns))
    file = File([tiles], "v")
    whole = file.read(0, file.size)
    found = np.frombuffer(whole, dtype).reshape(-1, rows, columns, depth)
    assert len(found) == np.prod(grid)
    for i, tile in enumerate(found):
        *index, ty, tx = unravel(i, grid)
        part = run[tuple(index)][ty * rows : (ty + 1) * rows, tx * columns : (tx + 1) * columns]
        np.testing.assert_array_equal(tile[: part.shape[0], : part.shape[1]], part)
    check_ranges(file, whole, data.draw)
