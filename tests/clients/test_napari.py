"""napari, without its window, opens a mount as the image that the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from demo.volume import CHANNELS, PIXEL, halve
from tests.conftest import Mount

Volume = np.ndarray[Any, Any]
models = pytest.importorskip("napari.components")


@pytest.fixture
def viewer() -> Any:
    from npe2 import PluginManager

    PluginManager.instance().discover()
    return models.ViewerModel()


def test_the_whole_image(array: Path, viewer: Any, volume: Volume) -> None:
    pytest.importorskip("napari_ome_zarr")
    layers = viewer.open(str(array.parent), plugin="napari-ome-zarr")
    assert [layer.name for layer in layers] == [f"cells: {name}" for name, _ in CHANNELS]
    for c, layer in enumerate(layers):
        assert tuple(layer.scale) == PIXEL
        assert tuple(layer.contrast_limits) == (150, 2600)
        for found, wanted in zip(layer.data, (volume, halve(volume)), strict=True):
            np.testing.assert_array_equal(np.asarray(found), wanted[c])


@pytest.mark.filterwarnings("ignore")
def test_a_plate_and_labels(tmp_path: Path, viewer: Any, mount: Mount) -> None:
    """The wells of a plate side by side, and a field with its labels."""
    pytest.importorskip("napari_ome_zarr")
    writer = pytest.importorskip("ome_zarr.writer")
    data = np.random.default_rng(0).integers(0, 60_000, (2, 64, 48)).astype("<u2")
    cells = (data[0] % 5).astype("<u4")
    root = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=3)
    writer.write_plate_metadata(root, ["A"], ["1", "2"], ["A/1", "A/2"])
    for number in (1, 2):
        well = root.create_group(f"A/{number}")
        writer.write_well_metadata(well, ["0"])
        field = well.create_group("0")
        writer.write_image(data * number, field, axes="cyx", scale_factors=(2,))
        writer.write_labels(cells, field, "cells", axes="yx", scale_factors=(2,))
    path = mount(tmp_path / "plate.zarr")
    stitched = viewer.open(str(path), plugin="napari-ome-zarr")
    for c, layer in enumerate(stitched[:2]):
        want = np.hstack([data[c], data[c] * 2])
        np.testing.assert_array_equal(np.asarray(layer.data[0]), want)
    *channels, labels = viewer.open(str(path / "A/2/0"), plugin="napari-ome-zarr")
    assert len(channels) == 2
    assert type(labels).__name__ == "Labels"
    np.testing.assert_array_equal(np.asarray(labels.data[0]), cells)


def test_a_stack(array: Path, viewer: Any, volume: Volume) -> None:
    (layer,) = viewer.open(str(array / "0.tif"), plugin="napari")
    np.testing.assert_array_equal(np.asarray(layer.data), volume.transpose(1, 0, 2, 3))


def test_an_array_in_memory_only_where_it_is_looked_at(
    array: Path, viewer: Any, volume: Volume
) -> None:
    mapped = np.load(array / "0.npy", mmap_mode="r")
    layers = viewer.add_image(mapped, channel_axis=0)
    np.testing.assert_array_equal(np.asarray(layers[1].data[15]), volume[1, 15])
