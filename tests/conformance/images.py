"""OME-Zarr images of ome-zarr and ngff-zarr, each level an array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.conformance.samples import Sample
from tests.test_ome_writers import ngff_zarr, ome_zarr

VERSIONS = ("0.4", "0.5")


def images(root: Path) -> Iterator[Sample]:
    """Images in every version that each writer writes."""
    (root / "images").mkdir()
    data = np.random.default_rng(0).integers(0, 60_000, (2, 3, 4, 64, 48)).astype("<u2")
    for writer, write in (("ome-zarr", ome_zarr), ("ngff-zarr", ngff_zarr)):
        pytest.importorskip(writer.replace("-", "_"))
        for version in VERSIONS:
            folder = root / "images" / f"{writer}-{version}.zarr"
            write(version, folder, data)
            group = zarr.open_group(folder, mode="r")
            for path, array in sorted(group.members(max_depth=None)):
                if isinstance(array, zarr.Array):
                    yield Sample(
                        f"images/{folder.name}/{path}", f"OME-Zarr {version}",
                        "levels of a multiscale image", writer, "zarr-python 3",
                        np.asarray(array[...]),
                    )  # fmt: skip
