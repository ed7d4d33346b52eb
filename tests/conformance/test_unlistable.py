"""Stores on a web server that lists nothing: what is there must come from metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import z5py
import zarr

from tests.conftest import Mount
from tests.servers.nginx import Nginx, served
from tests.test_ome_writers import ome_zarr

pytestmark = pytest.mark.filterwarnings("ignore")
VALUES = np.random.default_rng(5).integers(1, 60000, (3, 40, 48)).astype("<u2")


def put(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def consolidated(version: int) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        group = zarr.create_group(root, zarr_format=version)
        for name in ("a/deep/x", "b"):
            group.create_array(name, shape=VALUES.shape, chunks=(1, 20, 48), dtype="u2")[:] = VALUES
        zarr.consolidate_metadata(group.store)

    return write


def image(version: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pytest.importorskip("ome_zarr")
        ome_zarr(version, root, np.stack([VALUES] * 2)[None])

    return write


def plate(version: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        formats = pytest.importorskip("ome_zarr.format")
        from ome_zarr import writer

        fmt = formats.format_from_version(version)
        group = zarr.open_group(root, mode="w", zarr_format=fmt.zarr_format)
        writer.write_plate_metadata(group, ["A", "B"], ["1"], ["A/1", "B/1"], fmt=fmt)
        for row in "AB":
            well = group.create_group(row).create_group("1")
            writer.write_well_metadata(well, ["0", "1"], fmt=fmt)
            for field in "01":
                below = well.create_group(field)
                more = {"axes": "zyx", "scale_factors": (2,), "fmt": fmt}
                writer.write_image(VALUES, below, **more)
        more |= {"axes": "yx", "scaler": None}  # before 0.19 its own makes other levels
        writer.write_labels((VALUES[0] % 7).astype("<u4"), below, "cells", **more)

    return write


def bioformats2raw(root: Path) -> None:
    """Layout version 3: series numbered from 0, and `OME` with the list of them and the XML."""
    group = zarr.open_group(root, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME").attrs["series"] = ["0", "1"]
    (root / "OME/METADATA.ome.xml").write_text("<OME/>")
    axes = [{"name": n, "type": "space"} for n in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    for series in "01":
        below = group.create_group(series)
        below.create_array("0", shape=VALUES.shape, chunks=(1, 40, 48), dtype="u2")[:] = VALUES
        below.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [
            {"path": "0", "coordinateTransformations": steps}]}]  # fmt: skip


def n5(attributes: dict[str, Any]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with z5py.File(str(root), "w", use_zarr_format=False) as f:
            for level in range(2):
                data = VALUES[:, :: 2**level, :: 2**level]
                f.create_dataset(f"c/s{level}", data=data, chunks=(2, 16, 16), compression="gzip")
        put(root / "c/attributes.json", attributes)

    return write


def plain(root: Path) -> None:
    """Arrays that no metadata tells of: the manifest has to."""
    for name in ("x/one.zarr", "two.zarr"):
        zarr.create_array(root / name, data=VALUES, chunks=(1, 40, 48), zarr_format=3)
    (root / "manifest.txt").write_text("# arrays\nx/one.zarr\n\ntwo.zarr\n")


COSEM = {"multiscales": [{"name": "", "datasets": [
    {"path": f"s{k}", "transform": {"axes": ["z", "y", "x"], "scale": [1.0, 2.0**k, 2.0**k],
                                    "translate": [0.0] * 3, "units": ["nm"] * 3}}
    for k in range(2)]}]}  # fmt: skip
VIEWER = {"downsamplingFactors": [[1, 1, 1], [2, 2, 1]],
          "pixelResolution": {"unit": "um", "dimensions": [1.0, 1.0, 1.0]}}  # fmt: skip
# store: format, feature, who writes it, what is written, and what listing the mount shows
STORES: dict[str, tuple[str, str, str, Callable[[Path], None], set[str]]] = {
    "c2.zarr": ("Zarr v2", "consolidated metadata", "zarr-python 3", consolidated(2),
                {"a/deep/x", "b"}),
    "c3.zarr": ("Zarr v3", "consolidated metadata", "zarr-python 3", consolidated(3),
                {"a/deep/x", "b"}),
    "i4.zarr": ("OME-Zarr 0.4", "multiscales", "ome-zarr", image("0.4"), {"s0", "s1", "s2"}),
    "i5.zarr": ("OME-Zarr 0.5", "multiscales", "ome-zarr", image("0.5"), {"s0", "s1", "s2"}),
    **{f"p{v}.zarr": (f"OME-Zarr 0.{v}", "plate, wells, fields, labels", "ome-zarr",
                      plate(f"0.{v}"),
                      {*(f"{row}/1/{field}/s{k}" for row in "AB" for field in "01"
                         for k in range(2)), *(f"B/1/1/labels/cells/s{k}" for k in range(2))})
       for v in (4, 5)},
    "b2r.zarr": ("OME-Zarr 0.4", "bioformats2raw layout", "zarr-python 3", bioformats2raw,
                 {"0/0", "1/0"}),
    "cosem.n5": ("N5", "multiscales of OpenOrganelle", "z5py", n5(COSEM), {"c/s0", "c/s1"}),
    "viewer.n5": ("N5", "multiscales of n5-viewer", "z5py", n5(VIEWER), {"c/s0", "c/s1"}),
    "plain": ("Zarr v3", "--manifest", "zarr-python 3", plain, {"x/one.zarr", "two.zarr"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, Path]]:
    root = tmp_path_factory.mktemp("www")
    with served(root) as server:
        yield server, root


def arrays(mounted: Path) -> set[str]:
    """Paths of the directories that have `NAME.npy`, found by listing alone."""
    return {str(view.parent.relative_to(mounted)) for view in mounted.rglob("*.npy")}


@pytest.mark.parametrize("name", STORES)
def test_everything_is_found_without_listing(
    name: str, nginx: tuple[Nginx, Path], mount: Mount, found: Callable[..., None]
) -> None:
    server, root = nginx
    form, feature, writer, write, expected = STORES[name]
    write(root / name)
    flags: list[Any] = ["--views", "npy"]
    if name == "plain":
        flags += ["--manifest", root / name / "manifest.txt"]
    if name.endswith(".n5"):
        # The root of an N5 container says nothing of what is in it.
        manifest = root / f"{name}.txt"
        manifest.write_text("c\n")
        flags += ["--manifest", manifest]
    mounted = mount(f"{server.url('no-listing')}/{name}", *flags)
    assert arrays(mounted) == expected
    for path in expected:
        view = next((mounted / path).glob("*.npy"))
        np.testing.assert_array_equal(np.load(view), read(root / name, path), err_msg=path)
    oracle = "z5py" if form == "N5" else "zarr-python 3"
    found(form, f"{feature}, in a store that cannot be listed", writer, oracle, "equal",
          len(expected))  # fmt: skip


def read(root: Path, path: str) -> np.ndarray:
    if root.suffix == ".n5":
        with z5py.File(str(root), "r", use_zarr_format=False) as f:
            return f[path][:]
    return np.asarray(zarr.open_array(root / path, mode="r")[...])
