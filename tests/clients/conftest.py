"""The demonstration's volume, mounted once for all client programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.volume import cells, halve
from demo.write import write_n5, write_ome_zarr
from tests.conftest import Mount


@pytest.fixture(scope="session")
def volume() -> np.ndarray[Any, Any]:
    """c, z, y, x; uint16."""
    return cells()


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, volume: np.ndarray[Any, Any]) -> Path:
    root = tmp_path_factory.mktemp("cells")
    write_ome_zarr(root / "cells.zarr", [volume, halve(volume)], (1, 16, 64, 64), (1, 32, 256, 256))
    write_n5(root / "cells.n5", "volume", volume, (1, 16, 64, 64))
    return root


@pytest.fixture(scope="module")
def array(stores: Path, mount_for_module: Mount) -> Path:
    """The full resolution's folder in the mounted Zarr image."""
    return mount_for_module(stores / "cells.zarr", "--views", "all") / "0"


@pytest.fixture(scope="module")
def dataset(stores: Path, mount_for_module: Mount) -> Path:
    """The dataset's folder in the mounted N5 container."""
    return mount_for_module(stores / "cells.n5", "--views", "all") / "volume"
