"""On a real mount: chunks that fail and are mended, and files of EiB."""

from __future__ import annotations

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.conftest import Mount, require
from tests.hdf5.test_index import sparse


@pytest.mark.parametrize("chunks", [(16, 16), (256, 512)], ids=["small", "of 512 KiB"])
def test_a_chunk_that_fails(tmp_path: Path, mount: Mount, chunks: tuple[int, int]) -> None:
    """An OSError for the boxes that need it; the file that is open reads it once it is mended."""
    shape = (3 * chunks[0], 3 * chunks[1])
    values = np.arange(shape[0] * shape[1], dtype="u4").reshape(shape)
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=shape, chunks=chunks, dtype="u4", zarr_format=2)
    array[...] = values
    damaged = path / "1.1"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-5])
    with h5py.File(mount(path) / "a.h5") as file:
        data = file["a"]
        y, x = chunks
        for box in (np.s_[...], np.s_[y : y + 1, x : x + 1], np.s_[y - 1 : y + 1, x - 1 : x + 1]):
            with pytest.raises(OSError, match="error"):
                data[box]
        for box in (np.s_[:y], np.s_[2 * y :], np.s_[:, :x], np.s_[:, 2 * x :]):
            np.testing.assert_array_equal(data[box], values[box])
        damaged.write_bytes(good)
        np.testing.assert_array_equal(data[y : 2 * y, x : 2 * x], values[y : 2 * y, x : 2 * x])
        np.testing.assert_array_equal(data[...], values)


def test_far_corners(tmp_path: Path, mount: Mount) -> None:
    """10^9 chunks, and 4 EiB."""
    require("h5dump")
    sparse(tmp_path / "many", [64_000] * 3, [64] * 3, "<u2")
    sparse(tmp_path / "large", [1 << 20] * 3, [256] * 3, "<u4")
    for name, edge in (("many", 64_000), ("large", 1 << 20)):
        path = mount(tmp_path / name) / f"{name}.h5"
        with h5py.File(path) as file:
            data = file[name]
            assert data[0, 0, 0] == 1
            assert (data[edge - 2 :, edge - 2 :, edge - 2 :] == 2).all()
            assert data[edge // 2, 5, 7] == 0
        corner = ",".join([str(edge - 2)] * 3)
        done = subprocess.run(
            ["h5dump", "-d", f"/{name}", "-s", corner, "-c", "2,2,2", path],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("): 2, 2") == 4


def test_strings_of_variable_length(tmp_path: Path, mount: Mount) -> None:
    """A chunk whose strings do not fit is an error for its own reads, until it is mended; a copy
    is the file."""
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(5000,), chunks=(1000,), dtype=str, zarr_format=2)
    values = np.array([f"value é{i}" for i in range(5000)], object)
    array[...] = values
    good = (path / "2").read_bytes()
    array[2500] = "x" * 300_000
    file = mount(path) / "a.h5"
    with h5py.File(file) as opened:
        data = opened["a"].asstr()
        for box in (np.s_[:2000], np.s_[3000:], np.s_[1990:2000], np.s_[3000:3001]):
            assert data[box].tolist() == values[box].tolist()
        for box in (np.s_[...], np.s_[2000:2001], np.s_[2999:3001]):
            with pytest.raises(OSError, match="error"):
                data[box]
        (path / "2").write_bytes(good)
        assert data[...].tolist() == values.tolist()
    subprocess.run(["cp", file, tmp_path / "copy.h5"], check=True)
    assert (tmp_path / "copy.h5").stat().st_size == file.stat().st_size
    with h5py.File(tmp_path / "copy.h5") as opened:
        assert opened["a"].asstr()[...].tolist() == values.tolist()


@pytest.mark.filterwarnings("ignore")
def test_string_coordinates_of_xarray(tmp_path: Path, mount: Mount) -> None:
    names = np.array(["north", "é", "", "日本語"], object)
    written = xr.Dataset(
        {"observed": (("station", "k"), np.arange(12.0).reshape(4, 3))},
        coords={"station": names, "code": ("station", names[::-1]), "k": ["a", "b", "c"]},
    )
    for fmt in (2, 3):
        written.to_zarr(tmp_path / f"x{fmt}.zarr", zarr_format=fmt)
    mounted = mount(tmp_path)
    for fmt in (2, 3):
        expected = xr.open_zarr(tmp_path / f"x{fmt}.zarr").load()
        for engine in ("netcdf4", "h5netcdf"):
            with xr.open_dataset(mounted / f"x{fmt}.zarr/x{fmt}.nc", engine=engine) as got:
                xr.testing.assert_identical(got.load(), expected)
                np.testing.assert_array_equal(got.sel(station="é")["observed"], [3.0, 4.0, 5.0])
