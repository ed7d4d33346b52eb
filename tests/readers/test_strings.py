"""Texts and bytes of variable length beside numbers, from Zarr v2 and v3, in what copies, compares
and converts HDF5 files; the oracle is a file that h5py or netCDF4 wrote with the same content."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.dtype import VariableLengthBytes

from tests.conftest import Mount, Mounts, require, require_fuse
from tests.environments import python_with, run_with
from tests.readers.programs import run, version

pytestmark = pytest.mark.filterwarnings("ignore")

_FORMATS = (2, 3)
_WORDS = ["", "a", "é", "日本語", "x" * 3000, "12345678", ""]
_TEXTS = {
    "words": np.array(_WORDS, object),
    "grid": np.array([[_WORDS[(4 * i + j) % 7] for j in range(4)] for i in range(3)], object),
    "one": np.array("scalar é", object),
}
_CHUNKS = {"words": (3,), "grid": (2, 3), "one": ()}  # the last ones of each axis are cut
_BYTES = [b"ab", b"", b"\0\xff\0", b"abc"]
_NUMBERS = np.arange(12, dtype="<i4").reshape(3, 4)
_ATTRIBUTES = {"title": "é", "tags": ["a", "日本", "", "long " * 5]}
_READ_ANNDATA = Path(__file__).with_name("read_anndata.py")


def _write_kinds(folder: Path, zarr_format: Any) -> None:
    root = zarr.create_group(
        folder / f"kinds{zarr_format}.zarr", zarr_format=zarr_format, attributes=_ATTRIBUTES
    )
    for name, values in _TEXTS.items():
        array = root.create_array(
            name, shape=values.shape, chunks=_CHUNKS[name] or "auto", dtype=str, fill_value=""
        )
        array[...] = values if values.shape else values[()]
        array.attrs["units"] = "wörter"
    root.create_array(
        "blob", shape=(4,), chunks=(3,), dtype=VariableLengthBytes(), fill_value=b""
    )[:] = np.array(_BYTES, object)
    root.create_array("numbers", shape=(3, 4), chunks=(2, 3), dtype="<i4")[...] = _NUMBERS


def _write_native(path: Path) -> None:
    """The same in a file that is not made by znfs."""
    with h5py.File(path, "w") as file:
        file.attrs["title"] = _ATTRIBUTES["title"]
        file.attrs["tags"] = np.array(_ATTRIBUTES["tags"], object)
        for name, values in _TEXTS.items():
            chunks = _CHUNKS[name] or None
            file.create_dataset(name, data=values, dtype=h5py.string_dtype(), chunks=chunks)
            file[name].attrs["units"] = "wörter"
        blob = file.create_dataset("blob", (4,), h5py.vlen_dtype("u1"), chunks=(3,))
        for i, value in enumerate(_BYTES):
            blob[i] = np.frombuffer(value, "u1")
        file.create_dataset("numbers", data=_NUMBERS, chunks=(2, 3))


def _stations() -> xr.Dataset:
    """A time series of named places."""
    names = np.array(["Zürich", "Oslo", "", "Kraków"], object)
    values = np.arange(8, dtype="f4").reshape(2, 4)
    return xr.Dataset(
        {
            "temperature": (("time", "station"), values, {"units": "K"}),
            "pressure": ("time", np.array([1013.25, 998.5])),
            "note": ("station", np.array(["", "née", "x" * 300, "日本"], object)),
        },
        coords={
            "station": names,
            "time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]"),
            "height": ("station", np.arange(4.0), {"units": "m"}),
        },
        attrs={"title": "é text", "Conventions": "CF-1.8"},
    )


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require_fuse()
    folder = tmp_path_factory.mktemp("kinds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for zarr_format in _FORMATS:
            _write_kinds(folder, zarr_format)
            path = folder / f"stations{zarr_format}.zarr"
            _stations().to_zarr(path, zarr_format=zarr_format, consolidated=True)
    made = Mounts()
    try:
        yield made.mount(folder)
    finally:
        made.close()


@pytest.fixture(params=_FORMATS, ids=lambda zarr_format: f"v{zarr_format}")
def zarr_format(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def kinds(mounted: Path, zarr_format: int) -> Path:
    return mounted / f"kinds{zarr_format}.zarr" / f"kinds{zarr_format}.h5"


@pytest.fixture
def stations(mounted: Path, zarr_format: int) -> Path:
    return mounted / f"stations{zarr_format}.zarr" / f"stations{zarr_format}.nc"


@pytest.fixture
def native(tmp_path: Path) -> Path:
    _write_native(tmp_path / "native.h5")
    return tmp_path / "native.h5"


def _check(path: Path, *names: str) -> None:
    """The values, by h5py."""
    with h5py.File(path) as file:
        for name in names or (*_TEXTS, "blob", "numbers"):
            if name == "numbers":
                np.testing.assert_array_equal(file[name], _NUMBERS)
            elif name == "blob":
                assert [value.tobytes() for value in file[name][...]] == _BYTES
            elif _TEXTS[name].shape:
                assert file[name].asstr()[...].tolist() == _TEXTS[name].tolist()
            else:
                assert file[name].asstr()[()] == _TEXTS[name][()]


def test_h5copy(kinds: Path, note: Callable[..., None], tmp_path: Path) -> None:
    require("h5copy", "h5diff")
    copy = tmp_path / "copy.h5"
    for name in (*_TEXTS, "blob", "numbers"):
        run("h5copy", "-i", kinds, "-o", copy, "-s", f"/{name}", "-d", f"/{name}")
        assert run("h5diff", kinds, copy, f"/{name}") == ""
    _check(copy)
    note("h5copy", version("h5copy", "--version"), "strings")


@pytest.mark.parametrize("filters", [(), ("-f", "GZIP=1", "-l", "CHUNK=2"), ("-l", "CONTI")])
def test_h5repack(filters: tuple[str, ...], kinds: Path, tmp_path: Path) -> None:
    require("h5repack", "h5diff")
    run("h5repack", *filters, kinds, tmp_path / "copy.h5")
    assert run("h5diff", kinds, tmp_path / "copy.h5") == ""
    _check(tmp_path / "copy.h5")


@pytest.mark.parametrize("program", [("h5dump", "-y"), ("ncdump",), ("gdalmdiminfo", "-detailed")])
def test_as_native(program: tuple[str, ...], kinds: Path, native: Path, tmp_path: Path) -> None:
    """What is printed of the file on the mount is, to the letter, what is printed of h5py's."""
    require(program[0])
    same_name = tmp_path / "other" / kinds.name
    same_name.parent.mkdir()
    native.rename(same_name)
    printed, expected = run(*program, kinds), run(*program, same_name)
    assert printed.replace(str(kinds), "") == expected.replace(str(same_name), "")
    assert "numbers" in printed
    assert "12345678" in printed


def test_nccopy(kinds: Path, stations: Path, note: Callable[..., None], tmp_path: Path) -> None:
    require("nccopy")
    copy = tmp_path / "copy.nc"
    run("nccopy", kinds, copy)
    _check(copy, *_TEXTS, "numbers")  # netCDF-C leaves out what has no type in its model
    note("nccopy", "netcdf-bin", "strings")
    run("nccopy", stations, copy)
    with xr.open_dataset(copy) as got:
        xr.testing.assert_identical(got.load(), _stations())
    note("nccopy", "netcdf-bin", "NetCDF")


def test_nco(kinds: Path, stations: Path, tmp_path: Path) -> None:
    require("ncks")
    for name, values in _TEXTS.items():
        told = json.loads(run("ncks", "--json", "-C", "-v", name, kinds))
        assert told["variables"][name]["data"] == values.tolist()
    copy = tmp_path / "copy.nc"
    run("ncks", "-O", "-d", "station,1,2", stations, copy)
    with xr.open_dataset(copy) as got:
        xr.testing.assert_equal(got.load(), _stations().isel(station=slice(1, 3)))


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_xarray(engine: str, stations: Path) -> None:
    with xr.open_dataset(stations, engine=engine) as got:
        xr.testing.assert_identical(got.load(), _stations())


def test_gdal(stations: Path) -> None:
    require("gdalmdiminfo")
    told = json.loads(run("gdalmdiminfo", "-detailed", stations))["arrays"]
    for name in ("station", "note", "temperature"):
        assert told[name]["values"] == _stations()[name].values.tolist()


def test_cdo(stations: Path, note: Callable[..., None], tmp_path: Path) -> None:
    """CDO reads what has no text for a coordinate, and says of the rest that it leaves it out; so
    it does with a file that netCDF-C wrote."""
    require("cdo")
    native = tmp_path / "native.nc"
    _stations().to_netcdf(native, engine="netcdf4")
    for path in (stations, native):
        command = ["cdo", "outputf,%.9g", "-selname,pressure", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1013.25", "998.5"]
        for name in ("note", "temperature"):
            assert re.search(f"char/string.*skipped variable {name}", done.stderr)
    note("CDO", version("cdo", "--version"), "strings", "knows none")


def test_octave(kinds: Path, native: Path, note: Callable[..., None]) -> None:
    """Octave loads the numbers beside texts, at which it stops, as it does in h5py's file."""
    require("octave-cli")
    octave = ("octave-cli", "--quiet", "--eval")
    for path in (kinds, native):
        script = f"s = load('-hdf5', '{path}', 'numbers'); printf('%d ', s.numbers);"
        assert [int(word) for word in run(*octave, script).split()] == [*range(12)]
        errors = run(*octave, f"s = load('-hdf5', '{path}', 'words');", fails=True)
        assert "unable to convert between src and dest" in errors
    note("Octave load", version("octave-cli", "--version"), "strings", "knows none")


@pytest.mark.timeout(600)  # anndata may have to be installed first
def test_anndata(note: Callable[..., None], tmp_path: Path, mount: Mount) -> None:
    """An annotated matrix that anndata wrote as Zarr is, on the mount, one of its HDF5 files."""
    python = python_with("anndata==0.12.19")
    store = tmp_path / "cells.zarr"
    run_with(python, _READ_ANNDATA, "write", store)
    path = mount(tmp_path)
    release = run_with(python, _READ_ANNDATA, "read", store, path / "cells.zarr" / "cells.h5")
    note("anndata", release.strip(), "strings", "yes, and the matrix")
