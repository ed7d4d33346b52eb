"""NetCDF programs and libraries on a dataset that xarray wrote as Zarr."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.conftest import require
from tests.readers import samples
from tests.readers.conftest import Sample
from tests.readers.programs import run, version

pytestmark = pytest.mark.filterwarnings("ignore")

_VALUES = samples.climate()["temperature"].values


def _numbers(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The numbers in a text, in the shape of the variable."""
    return np.array(text.replace(",", " ").split(), "f4").reshape(_VALUES.shape)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_xarray(engine: str, sample: Sample, note: Callable[..., None]) -> None:
    with xr.open_dataset(sample.climate, engine=engine) as got:
        xr.testing.assert_identical(got.load(), samples.climate())
    note(f"xarray, {engine}", metadata.version("xarray"), "NetCDF")


def test_ncdump(sample: Sample, note: Callable[..., None]) -> None:
    require("ncdump")
    out = run("ncdump", "-p", "9,17", "-v", "temperature", sample.climate)
    assert "float temperature(time, lat, lon) ;" in out
    assert ':title = "é text"' in out
    numbers = out.split(" temperature =")[1].split(";")[0]
    np.testing.assert_array_equal(_numbers(numbers), _VALUES)
    note("ncdump", "netcdf-bin", "NetCDF")


def test_nco(sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("ncks", "ncwa")
    copy = tmp_path / "copy.nc"
    run("ncks", "-O", "-d", "time,1,3", sample.climate, copy)
    with xr.open_dataset(copy) as got:
        xr.testing.assert_equal(got.load(), samples.climate().isel(time=slice(1, 4)))
    run("ncwa", "-O", "-a", "time", "-v", "temperature", sample.climate, copy)
    with xr.open_dataset(copy) as got:
        np.testing.assert_allclose(got["temperature"].values, _VALUES.mean(0), rtol=1e-6)
    note("NCO", version("ncks", "--version"), "NetCDF")


def test_nco_strings(sample: Sample, note: Callable[..., None]) -> None:
    require("ncks")
    told = json.loads(run("ncks", "--json", "-C", "-v", "words", sample.strings))
    assert told["variables"]["words"]["data"] == samples.STRINGS
    note("NCO", version("ncks", "--version"), "strings")


def test_gdal_strings(sample: Sample, note: Callable[..., None]) -> None:
    require("gdalmdiminfo")
    told = json.loads(run("gdalmdiminfo", "-detailed", "-array", "words", sample.strings))
    assert told["values"] == samples.STRINGS
    note("GDAL", version("gdalinfo", "--version"), "strings")


def test_cdo(sample: Sample, note: Callable[..., None]) -> None:
    require("cdo")
    out = run("cdo", "-s", "outputf,%.9g ,8", "-selname,temperature", sample.climate)
    np.testing.assert_array_equal(_numbers(out), _VALUES)
    about = run("cdo", "-s", "sinfov", sample.climate)
    assert re.search(r"lonlat\s+: points=40 \(8x5\)", about)
    assert "2001-01-02 06:00:00" in about
    note("CDO", version("cdo", "--version"), "NetCDF")


def test_gdal(sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("gdal_translate", "gdalinfo")
    raw = tmp_path / "raw.bin"
    name = f'NETCDF:"{sample.climate}":temperature'
    run("gdal_translate", "-q", "-of", "ENVI", name, raw)
    got = np.fromfile(raw, "f4").reshape(_VALUES.shape)
    np.testing.assert_array_equal(got[:, ::-1], _VALUES)  # the south is below: turned round
    assert "Pixel Size = (45.0" in run("gdalinfo", name)
    note("GDAL", version("gdalinfo", "--version"), "NetCDF")


def test_octave(sample: Sample, note: Callable[..., None]) -> None:
    require("octave-cli")
    script = f"pkg load netcdf; printf('%.9g ', ncread('{sample.climate}', 'temperature'));"
    done = subprocess.run(
        ["octave-cli", "--quiet", "--eval", script], capture_output=True, text=True, timeout=120
    )
    if "is not installed" in done.stderr:
        pytest.skip("octave has no package netcdf (Debian package octave-netcdf)")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(_numbers(done.stdout), _VALUES)
    note("Octave ncread", version("octave-cli", "--version"), "NetCDF")


def test_r(sample: Sample, note: Callable[..., None]) -> None:
    require("Rscript")
    script = (
        f"library(ncdf4); f <- nc_open('{sample.climate}');"
        "cat(format(ncvar_get(f, 'temperature'), digits=9)); cat('\\n');"
        "cat(ncvar_get(f, 'lat'), ncatt_get(f, 'time', 'units')$value)"
    )
    done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, timeout=120)
    if "no package called" in done.stderr:
        pytest.skip("R has no ncdf4 (Debian package r-cran-ncdf4)")
    assert done.returncode == 0, done.stderr
    values, coordinates = done.stdout.strip().rsplit("\n", 1)
    np.testing.assert_array_equal(_numbers(values), _VALUES)
    assert coordinates == "-90 -45 0 45 90 hours since 2001-01-01"
    about = run("Rscript", "-e", "cat(as.character(packageVersion('ncdf4')))")
    note("R ncdf4", about.strip(), "NetCDF")
