"""Python libraries on the mount."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

from tests.readers import samples
from tests.readers.conftest import Sample

pytestmark = pytest.mark.filterwarnings("ignore")


def _same(attributes: Mapping[str, Any]) -> None:
    for name, expected in samples.ATTRIBUTES.items():
        got = attributes[name]
        if isinstance(got, bytes):
            got = got.decode()
        np.testing.assert_array_equal(got, expected)


def _decoded(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else v for v in values]


def _check(sample: Sample, read: Callable[[str], Any]) -> None:
    for name, expected in sample.digests.items():
        assert samples.digest(np.asarray(read(name))) == expected, name


def test_h5py(sample: Sample, note: Callable[..., None]) -> None:
    import h5py

    row = ("h5py", f"{version('h5py')} (HDF5 {h5py.version.hdf5_version})")
    with h5py.File(sample.hierarchy) as file:
        _check(sample, lambda name: file[name][...])
        note(*row, "datasets")
        _same(file.attrs)
        _same(file["img"].attrs)
        note(*row, "attributes")
    with h5py.File(sample.sparse) as file:
        assert file["sparse"][0, 0, 0] == 1
        assert file["sparse"][-1, -1, -1] == 2
        note(*row, "10^9 chunks")
    with h5py.File(sample.strings) as file:
        assert file["words"].asstr()[...].tolist() == samples.STRINGS
        assert file["words"].asstr()[275:285].tolist() == samples.STRINGS[275:285]
        note(*row, "strings")


def test_netcdf4(sample: Sample, note: Callable[..., None]) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    row = ("netCDF4-python", f"{version('netCDF4')} (netCDF-C {netcdf4.__netcdf4libversion__})")
    with netcdf4.Dataset(sample.hierarchy) as file:
        file.set_auto_maskandscale(False)
        _check(sample, lambda name: file[name][...])
        note(*row, "datasets")
        for node in (file, file["img"]):
            _same({name: node.getncattr(name) for name in node.ncattrs()})
        note(*row, "attributes")
    with netcdf4.Dataset(sample.sparse) as file:
        assert file["sparse"][0, 0, 0] == 1
        assert file["sparse"][63_999, 63_999, 63_999] == 2
        note(*row, "10^9 chunks")
    with netcdf4.Dataset(sample.strings) as file:
        assert file["words"][...].tolist() == samples.STRINGS
        note(*row, "strings")


def test_h5netcdf(sample: Sample, note: Callable[..., None]) -> None:
    h5netcdf = pytest.importorskip("h5netcdf")
    row = ("h5netcdf", version("h5netcdf"))
    with h5netcdf.File(sample.hierarchy, phony_dims="access") as file:
        _check(sample, lambda name: file[name][...])
        note(*row, "datasets")
        _same(file.attrs)
        _same(file["img"].attrs)
        note(*row, "attributes")
    with h5netcdf.File(sample.sparse, phony_dims="access") as file:
        assert file["sparse"][63_999, 63_999, 63_999] == 2
        note(*row, "10^9 chunks")
    with h5netcdf.File(sample.strings, phony_dims="access") as file:
        assert _decoded(file["words"][...]) == samples.STRINGS
        note(*row, "strings")


def test_pyfive(sample: Sample, note: Callable[..., None]) -> None:
    pyfive = pytest.importorskip("pyfive")
    row = ("pyfive", version("pyfive"))
    with pyfive.File(str(sample.hierarchy)) as file:
        _check(sample, lambda name: file[name][...])
        note(*row, "datasets")
        _same(file.attrs)
        _same(file["img"].attrs)
        note(*row, "attributes")
    note(*row, "10^9 chunks", "reads the whole index")
    with pyfive.File(str(sample.strings)) as file:
        assert _decoded(file["words"][...]) == samples.STRINGS
        note(*row, "strings")


def test_pytables(sample: Sample, note: Callable[..., None]) -> None:
    tables = pytest.importorskip("tables")
    row = ("PyTables", version("tables"))
    with warnings.catch_warnings(), tables.open_file(str(sample.hierarchy)) as file:
        warnings.simplefilter("ignore")
        _check(sample, lambda name: file.get_node(f"/{name}").read())
        note(*row, "datasets")
        for node in (file.root, file.root.img):
            _same({name: node._v_attrs[name] for name in samples.ATTRIBUTES})
        note(*row, "attributes")
    with tables.open_file(str(sample.sparse)) as file:
        assert file.root.sparse[63_999, 63_999, 63_999] == 2
        note(*row, "10^9 chunks")
    with warnings.catch_warnings(), tables.open_file(str(sample.strings)) as file:
        warnings.simplefilter("ignore")
        assert isinstance(file.root.words, tables.UnImplemented)
        note(*row, "strings", "knows none")
