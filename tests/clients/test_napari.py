"""napari, without its window, opens a mount as the image that the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.volume import CHANNELS, PIXEL, halve

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


def test_a_stack(array: Path, viewer: Any, volume: Volume) -> None:
    (layer,) = viewer.open(str(array / "0.tif"), plugin="napari")
    np.testing.assert_array_equal(np.asarray(layer.data), volume.transpose(1, 0, 2, 3))


def test_an_array_in_memory_only_where_it_is_looked_at(
    array: Path, viewer: Any, volume: Volume
) -> None:
    mapped = np.load(array / "0.npy", mmap_mode="r")
    layers = viewer.add_image(mapped, channel_axis=0)
    np.testing.assert_array_equal(np.asarray(layers[1].data[15]), volume[1, 15])
