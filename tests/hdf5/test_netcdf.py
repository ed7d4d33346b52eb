"""NetCDF-4: what xarray wrote as Zarr comes back through the virtual file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.conftest import require
from tests.hdf5.support import Seekable, materialise, resolve, tree
from tests.waiting import eventually
from znfs.errors import NotFound

pytestmark = pytest.mark.filterwarnings("ignore")


def _dataset() -> xr.Dataset:
    rng = np.random.default_rng(3)
    temperature = rng.random((7, 5, 6)).astype("f4")
    temperature[0, 0, 0] = np.nan
    time = np.datetime64("2001-01-01", "ns") + np.arange(7) * np.timedelta64(6, "h")
    return xr.Dataset(
        {
            "temperature": (
                ("time", "lat", "lon"), temperature, {"units": "K", "long_name": "température"},
            ),
            "packed": (("time", "lat"), np.round(rng.random((7, 5)) * 10, 1)),
            "mask": (("lat", "lon"), rng.random((5, 6)) > 0.5),
            "count": (("time", "lat", "lon"), rng.integers(0, 100, (7, 5, 6)).astype("i4")),
            "scalar": ((), 5.25),
            "observed": (("station",), rng.random(4)),
            "code": (("station", "lat"), np.array([["a", "bb", "", "é", "日本"]] * 4)),
            "scalar_text": ((), "some text"),
            "delta": (("station",), np.arange(4).astype("m8[h]").astype("m8[ns]")),
        },
        coords={
            "time": time,
            "lat": np.linspace(-90, 90, 5),
            "lon": ("lon", np.arange(6.0) * 60, {"units": "degrees_east", "axis": "X"}),
            "area": (("lat", "lon"), rng.random((5, 6))),
            "level": 3,
            "station": ["north", "é", "south", "日本語"],
        },
        attrs={"title": "x", "numbers": [1, 2, 3], "flag": "y", "version": 2},
    )  # fmt: skip


_ENCODING = {
    "packed": {"dtype": "i2", "scale_factor": 0.1, "add_offset": 1.5, "_FillValue": -999},
    "count": {"_FillValue": -1},
    "code": {"chunks": (3, 2)},
    "time": {"units": "hours since 2000-01-01", "calendar": "proleptic_gregorian"},
}


@pytest.fixture(scope="module", params=[(2, True), (2, False), (3, True), (3, False)], ids=str)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fmt, consolidated = request.param
    path: Path = tmp_path_factory.mktemp("xarray") / "x.zarr"
    _dataset().to_zarr(path, zarr_format=fmt, consolidated=consolidated, encoding=_ENCODING)
    return path


@pytest.fixture(scope="module")
def copy(store: Path) -> Path:
    with tree(store) as opened:
        assert "x.nc" in set(opened.resolve("").names())  # type: ignore[union-attr]
        return materialise(resolve(opened, "x.nc"), store.parent / "x.nc")


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_xarray_reads_what_it_wrote(store: Path, copy: Path, engine: str) -> None:
    expected = xr.open_zarr(store, decode_timedelta=True).load()
    with xr.open_dataset(copy, engine=engine, decode_timedelta=True) as got:
        xr.testing.assert_identical(got.load(), expected)
        for name in expected.variables:
            assert got[name].dtype == expected[name].dtype
            for key in ("_FillValue", "scale_factor", "add_offset", "units", "calendar"):
                a, b = got[name].encoding.get(key), expected[name].encoding.get(key)
                assert a == b or (a != a and b != b), (name, key)


def _named(path: Path, names: list[str | None], **more: Any) -> None:
    """A group with the array `v` over these dimensions, and `w` over x."""
    group = zarr.create_group(path)
    shape = tuple(range(2, 2 + len(names)))
    group.create_array("v", shape=shape, dtype="i4", dimension_names=names, **more)[...] = 1
    group.create_array("w", shape=(3,), dtype="i4", dimension_names=("x",))[...] = 2


def _dimensions(path: Path) -> dict[str, tuple[str, ...]]:
    """Dimensions of variables as netCDF-C has them, whose ncdump and xarray read the file, too."""
    done = subprocess.run(["ncdump", path], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with netCDF4.Dataset(path) as file:
        found = {name: variable.dimensions for name, variable in file.variables.items()}
        assert all((file[name][...] == {"v": 1, "w": 2}[name]).all() for name in found)
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_dataset(path, engine=engine) as got:
            assert {n: got[n].sum() for n in got} == {n: got[n].size * "0vw".index(n) for n in got}
            if engine == "netcdf4":
                assert {n: got[n].dims for n in got} == found
    return found


@pytest.mark.parametrize(
    "name",
    ["日本", "e\u0301", "y ", "0", "1y", "..", "a\nb", "(a) {b}\\'\"", "é" * 127, "x_3", "v", "w"],
)
def test_names_of_dimensions_that_netcdf_can_have(tmp_path: Path, name: str) -> None:
    _named(tmp_path / "g.zarr", [name, "x"])
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
    shown = f"{name}_2" if name in "vw" else name
    assert _dimensions(copy) == {"v": (shown, "x"), "w": ("x",)}


def test_a_name_that_a_dimension_is_given_is_nobody_else_s(tmp_path: Path) -> None:
    _named(tmp_path / "g.zarr", ["v", "x"])
    group = zarr.open_group(tmp_path / "g.zarr")
    group.create_array("v_2", shape=(3,), dtype="i4", dimension_names=("x",))[...] = 5
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
    with netCDF4.Dataset(copy) as file:
        assert {n: v.dimensions for n, v in file.variables.items()} == {
            "v": ("v_2_", "x"), "v_2": ("x",), "w": ("x",),
        }  # fmt: skip
        assert file["v_2"][:].tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    "name",
    ["", "a/b", ".", " y", "\ty", "\x7f", "a\0b", "\ud800", os.fsdecode(b"\xff"), "é" * 128,
     "n" * 70_000],
)  # fmt: skip
def test_names_of_dimensions_that_netcdf_cannot_have(tmp_path: Path, name: str) -> None:
    """The array's dimensions have none, and all else of the file is as it was."""
    _named(tmp_path / "g.zarr", [name, "x"])
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
        assert "v.nc" not in set(opened.resolve("v").names())  # type: ignore[union-attr]
        assert set(h5py.File(Seekable(resolve(opened, "v/v.h5")))) == {"v"}
    assert "dimensions of 'v' have no names" in said[""]
    assert "dimensions of 'v' have no names" in said["v"]
    found = _dimensions(copy)
    assert found["w"] == ("x",)
    assert found["v"][0].startswith("phony")


def test_names_of_dimensions_and_sizes_together_are_not_too_long(tmp_path: Path) -> None:
    _named(tmp_path / "g.zarr", ["é" * 127, "é" * 127])
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
    assert _dimensions(copy)["v"] == ("é" * 127, f"{'é' * 112}_3")


def test_a_fill_value_in_attributes_that_is_none(tmp_path: Path) -> None:
    _named(tmp_path / "g.zarr", ["y", "x"], attributes={"_FillValue": [1, 2]})
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
        assert "attribute '_FillValue' is named '_FillValue_'" in said["v"]
    assert _dimensions(copy) == {"v": ("y", "x"), "w": ("x",)}


@pytest.mark.parametrize("names", [["y", "x"], None], ids=["named", "not named"])
def test_attributes_that_say_what_dimensions_are(tmp_path: Path, names: list[Any]) -> None:
    """As converters copy them from files of NetCDF. Of one that is none netCDF-C crashed."""
    odd: dict[str, Any] = {
        "CLASS": "DIMENSION_SCALE", "NAME": "x", "DIMENSION_LIST": [1, 2], "REFERENCE_LIST": [1],
        "_Netcdf4Dimid": 0, "_Netcdf4Coordinates": [0, 1],
    }  # fmt: skip
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("v", shape=(2, 3), dtype="i4", dimension_names=names, attributes=odd)[:] = 1
    group.create_array("w", shape=(3,), dtype="i4", dimension_names=("x",), attributes=odd)[:] = 2
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
        for path in "vw":
            assert "attribute 'DIMENSION_LIST' is named 'DIMENSION_LIST_'" in said[path]
    assert _dimensions(copy)["w"] == ("x",)
    with h5py.File(copy) as file:
        for name in "vw":
            moved = {key.rstrip("_"): file[name].attrs[key] for key in file[name].attrs}
            assert set(odd) <= set(moved)
            assert list(file[name].attrs["DIMENSION_LIST_"]) == [1, 2]
            assert file[name].attrs["CLASS_"] == b"DIMENSION_SCALE"
        assert file["v"].attrs["NAME_" if names else "NAME"] == b"x"


def test_xarray_reads_without_a_copy(store: Path) -> None:
    expected = xr.open_zarr(store, decode_timedelta=True).load()
    with (
        tree(store) as opened,
        xr.open_dataset(
            Seekable(resolve(opened, "x.nc")), engine="h5netcdf", decode_timedelta=True
        ) as got,
    ):
        xr.testing.assert_identical(got.load(), expected)


def test_ncdump_names_the_dimensions(copy: Path) -> None:
    done = subprocess.run(["ncdump", "-h", copy], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "float temperature(time, lat, lon) ;" in done.stdout
    assert "station = 4 ;" in done.stdout
    assert "string code(station, lat) ;" in done.stdout
    assert "double lat(lat) ;" in done.stdout


def test_h5py_sees_scales(copy: Path) -> None:
    with h5py.File(copy) as file:
        assert file["lat"].is_scale
        assert file["temperature"].dims[1][0] == file["lat"]
        assert [len(dim) for dim in file["temperature"].dims] == [1, 1, 1]
        assert "_ARRAY_DIMENSIONS" not in file["temperature"].attrs
        assert file["mask"].dtype == bool


@pytest.mark.parametrize("fmt", [2, 3])
def test_groups_share_dimensions(tmp_path: Path, fmt: int) -> None:
    path = tmp_path / "t.zarr"
    parent = xr.Dataset({"a": (("y", "x"), np.eye(3))}, coords={"x": [1.0, 2.0, 3.0]})
    child = xr.Dataset({"b": (("x", "w"), np.ones((3, 2)))})
    other = xr.Dataset({"c": (("y",), np.arange(5))})
    grown = xr.DataTree.from_dict({"/": parent, "/child": child})
    grown.to_zarr(path, zarr_format=fmt, consolidated=False)
    other.to_zarr(path, group="other", zarr_format=fmt, consolidated=False)
    with tree(path) as opened:
        copy = materialise(resolve(opened, "t.nc"), tmp_path / "t.nc")
    for name, expected in (("/", parent), ("/child", child), ("/other", other)):
        with xr.open_dataset(copy, engine="netcdf4", group=name) as got:
            xr.testing.assert_equal(got.load(), expected)
    with h5py.File(copy) as file:
        assert file["child/b"].dims[0][0] == file["x"]
        assert "x" not in file["child"]
        assert file["other"]["y"].shape == (5,)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("coordinate", [True, False])
def test_no_dimension_hides_one_of_a_group_above(
    tmp_path: Path, order: str, coordinate: bool
) -> None:
    """Readers look for dimensions by their names, and took the nearest one's size."""
    root = zarr.create_group(tmp_path / "g.zarr")

    def add(group: zarr.Group, name: str, *sizes: int, dims: str = "x") -> None:
        group.create_array(name, shape=sizes, dtype="i4", dimension_names=dims)[...] = 2

    add(root, "x" if coordinate else "top", 5)
    group = root.create_group("g")
    for name, size in zip(order, (5, 3), strict=True):
        add(group, name, size)
    below = group.create_group("h")  # sees `x` and `x_3` as they are above it
    for name, size in zip("abc", (3, 5, 4), strict=True):
        add(below, name, size)
    add(below, "d", 3, 5, dims="xx")
    own = root.create_group("own")  # whose own `x` hides the one above, for groups below, too
    add(own, "x", 3)
    for name, size in zip("ab", (5, 3), strict=True):
        add(own, name, size)
        add(own.require_group("h"), name, size)
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
        said = next(opened.describe()).remarks
    assert any("g/: dimension 'x' of size 3 is named 'x_3'" in remark for remark in said)
    with h5py.File(copy) as file, netCDF4.Dataset(copy) as opened_by_c:
        assert file["g"][order[0]].dims[0][0] == file["x"]
        assert "x" not in file["g"]
        for path in ("g", "g/h", "own", "own/h"):
            for name, array in root[path].arrays():
                assert opened_by_c[path][name].shape == array.shape, (path, name)
                for engine in ("netcdf4", "h5netcdf"):
                    with xr.open_dataset(copy, engine=engine, group=path) as got:
                        assert got[name].shape == array.shape, (path, name, engine)
                        assert (got[name] == 2).all()
    assert subprocess.run(["ncdump", copy], capture_output=True, timeout=60).returncode == 0


def test_levels_of_one_image_have_dimensions_of_their_own(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "i.zarr")
    for level, n in enumerate((8, 4, 2)):
        array = group.create_array(
            str(level), shape=(n, n), dtype="u2", chunks=(2, 2), dimension_names=("y", "x")
        )
        array[...] = np.full((n, n), level)
    with tree(tmp_path / "i.zarr") as opened:
        copy = materialise(resolve(opened, "i.nc"), tmp_path / "i.nc")
        remarks = next(opened.describe()).remarks
    assert any("dimension 'y' of size 4 is named 'y_4'" in remark for remark in remarks)
    with xr.open_dataset(copy, engine="netcdf4") as got:
        assert dict(got.sizes) == {"y": 8, "x": 8, "y_4": 4, "x_4": 4, "y_2": 2, "x_2": 2}
        assert (got["1"].values == 1).all()


@pytest.mark.parametrize("fmt", [2, 3])
def test_a_group_is_netcdf_while_dimensions_have_names(tmp_path: Path, fmt: int) -> None:
    """A group's own document says nothing of that. What is listed is there."""
    path = tmp_path / "g.zarr"
    group = zarr.create_group(path, zarr_format=fmt)
    group.create_array("a", shape=(3,), dtype="i4")
    with tree(path, ttl=0.0) as opened:

        def listed() -> bool:
            return "g.nc" in set(opened.resolve("").names())  # type: ignore[union-attr]

        def found() -> bool:
            try:
                return bool(opened.resolve("g.nc"))
            except NotFound:
                return False

        assert not listed()
        assert not found()
        named = xr.Dataset({"b": (("x",), np.arange(3))})
        named.to_zarr(path, mode="a", zarr_format=fmt, consolidated=False)
        eventually(listed)
        with h5py.File(Seekable(resolve(opened, "g.nc"))) as file:
            assert file["b"].dims[0][0] == file["x"]
        shutil.rmtree(path / "b")
        eventually(lambda: not listed())
        eventually(lambda: not found())


def test_names_that_clash(tmp_path: Path) -> None:
    """A variable with a dimension's name that is no coordinate of it, and a group with one's."""
    group = zarr.create_group(tmp_path / "c.zarr")
    group.create_array("x", shape=(2, 3), dtype="i4", dimension_names=("y", "x"))[...] = 1
    group.create_array("a", shape=(2, 3), dtype="i4", dimension_names=("y", "x"))[...] = 2
    group.create_array("twice", shape=(2, 2), dtype="i4", dimension_names=("y", "y"))[...] = 3
    group.create_array("some", shape=(2, 2), dtype="i4", dimension_names=("y", None))[...] = 4
    group.create_array("odd", shape=(2, 2), dtype="i4", dimension_names=("a/b", "."))[...] = 5
    group.create_group("y").create_array("z", shape=(2,), dtype="i4", dimension_names=("y",))
    with tree(tmp_path / "c.zarr") as opened:
        copy = materialise(resolve(opened, "c.nc"), tmp_path / "c.nc")
    with h5py.File(copy) as file:
        assert isinstance(file["y"], h5py.Group)
        assert (file["x"][()] == 1).all()
        assert file["a"].dims[1][0] == file["x"].dims[1][0] == file["x_3"]
        assert (file["odd"][()] == 5).all()
    done = subprocess.run(["ncdump", copy], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "int a(y_2, x_3) ;" in done.stdout


def test_nczarr_as_netcdf_c_writes_it(tmp_path: Path) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    path = tmp_path / "n.zarr"
    values = np.arange(12, dtype="f4").reshape(3, 4)
    with netcdf4.Dataset(f"file://{path}#mode=nczarr,file", "w") as written:
        written.createDimension("time", 3)
        written.createDimension("x", 4)
        written.title = "t"
        written.createVariable("x", "i4", ("x",))[:] = [1, 2, 3, 4]
        variable = written.createVariable("v", "f4", ("time", "x"))
        variable[:] = values
        variable.units = "K"
        inner = written.createGroup("g").createVariable("w", "f8", ("x",))
        inner[:] = [0.5, 1, 2, 3]
    with tree(path) as opened:
        copy = materialise(resolve(opened, "n.nc"), tmp_path / "n.nc")
    for group in ("/", "/g"):
        expected = xr.open_zarr(path, group=group, consolidated=False).load()
        with xr.open_dataset(copy, engine="netcdf4", group=group) as got:
            xr.testing.assert_equal(got.load(), expected)
            for name in expected.variables:
                units = expected[name].attrs.get("units")
                assert got[name].attrs.get("units") == units
    with netcdf4.Dataset(copy) as got:
        np.testing.assert_array_equal(got["v"][:], values)
        assert got["v"].dimensions == ("time", "x")
        assert got["g/w"].dimensions == ("x",)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("fmt", [2, 3])
def test_strings_of_variable_length(fmt: int, engine: str, tmp_path: Path) -> None:
    """As xarray writes Python's strings: variables, coordinates, scalars, missing chunks."""
    names = np.array(["north", "é", "", "日本語" * 50], object)
    written = xr.Dataset(
        {
            "notes": (("station", "k"), np.array([["a", "é", ""]] * 4, object), {"lang": "fr"}),
            "scalar": ((), np.array("héllo", object)),
            "observed": (("station",), np.arange(4.0)),
        },
        coords={"station": names, "code": ("station", names[::-1]), "level": 3},
    )
    path = tmp_path / "x.zarr"
    written.to_zarr(path, zarr_format=fmt, encoding={"notes": {"chunks": (3, 2)}})
    kind = zarr.open_array(path / "code").metadata.to_dict()
    assert kind.get("data_type") == "string" or kind["dtype"] == "|O"
    (path / "notes" / ("1.0" if fmt == 2 else "c/1/0")).unlink()
    expected = xr.open_zarr(path).load()
    assert expected["notes"][3, 0] == ""
    with tree(path) as opened:
        made = materialise(resolve(opened, "x.nc"), tmp_path / "x.nc")
    with xr.open_dataset(made, engine=engine) as got:
        xr.testing.assert_identical(got.load(), expected)
        assert got.sel(station="é")["code"].item() == ""
    done = subprocess.run(["ncdump", made], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "string notes(station, k) ;" in done.stdout


_READ_ALL = """
import sys, netCDF4, xarray
with netCDF4.Dataset(sys.argv[1]) as file:
    for at in (file, *file.variables.values()):
        for name in at.ncattrs():
            at.getncattr(name)
    for variable in file.variables.values():
        variable[...]
for engine in ("netcdf4", "h5netcdf"):
    with xarray.open_dataset(sys.argv[1], engine=engine) as got:
        got.load()
"""


def _read_all(path: Path) -> None:
    """In processes of their own, that may crash."""
    for command in ([sys.executable, "-c", _READ_ALL, path], ["ncdump", path]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("shape", "names"), [((2,), None), ((), None), ((), [])], ids=str)
@pytest.mark.parametrize("below", [False, True], ids=["beside", "below"])
def test_bytes_without_names_beside_arrays_that_have_some(
    tmp_path: Path, shape: tuple[int, ...], names: list[str] | None, below: bool
) -> None:
    """NetCDF-C writes beyond its buffers when it reads strings of fixed length."""
    group = zarr.create_group(tmp_path / "g.zarr")
    at = group.create_group("h") if below else group
    at.create_array("n", shape=(3,), dtype="i4", dimension_names=("x",))[...] = 1
    array = group.create_array("a", shape=shape, dtype="S3", dimension_names=names)
    array[...] = b"ab"
    with tree(tmp_path / "g.zarr") as opened:
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
        alone = materialise(resolve(opened, "a/a.h5"), tmp_path / "a.h5")
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
    assert "a: bytes24 as text of variable length" in said[""]
    assert "variable length" not in said["a"]
    _read_all(copy)
    with h5py.File(copy) as file, h5py.File(alone) as of_array:
        assert set(np.ravel(file["a"][()])) == set(np.ravel(of_array["a"][()])) == {b"ab"}
        assert of_array["a"].dtype == "S3"


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("fmt", [2, 3])
def test_characters_are_characters(tmp_path: Path, fmt: Any, engine: Any) -> None:
    """As NetCDF's text is in Zarr that kerchunk made of it: a dimension has its letters."""
    letters = np.array([list(b"north"), list(b"a\0\0\0\0"), list(b" \xe9  z")], "u1").view("S1")
    names = ("station", "string5")
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=fmt)
    array = group.create_array(
        "name", shape=(3, 5), chunks=(2, 5), dtype="S1",
        dimension_names=names if fmt == 3 else None,
    )  # fmt: skip
    array[...] = letters
    if fmt == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = names
    copy, said = _copied(tmp_path)
    assert "variable length" not in said["name"]
    with netCDF4.Dataset(copy) as file:
        assert file["name"].dtype == "S1"
        file["name"].set_auto_chartostring(False)
        file["name"].set_auto_mask(False)
        assert file["name"][:].tobytes() == letters.tobytes()
    with xr.open_dataset(copy, engine=engine) as found:
        assert found["name"].dims == ("station",)
        assert found["name"].values.tolist() == [b"north", b"a", b" \xe9  z"]
    done = subprocess.run(["ncdump", "-h", copy], capture_output=True, text=True, check=True)
    assert "char name(station, string5)" in done.stdout


@pytest.mark.parametrize("shape", [(3, 4), ()], ids=str)
@pytest.mark.parametrize("fmt", [2, 3])
def test_float16_is_float32(tmp_path: Path, fmt: Any, shape: tuple[int, ...]) -> None:
    """netCDF4-python crashes of others, also without names of dimensions beside such that have."""
    struct = np.dtype([("h", "f2"), ("n", "i4")])
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=fmt)
    for name, size, dtype, told in (
        ("a", shape, "f2", ["y", "x"][: len(shape)]),
        ("beside", shape, "f2", None),
        ("single", (3,), "f2", ["n"]),
        ("struct", (3,), struct, ["n"]),
    ):
        array = group.create_array(
            name, shape=size, dtype=dtype, dimension_names=told if fmt == 3 else None,
            fill_value=None if dtype is struct else np.nan,
        )  # fmt: skip
        array[...] = _halves(size).astype(dtype)
        if fmt == 2 and told is not None:
            array.attrs["_ARRAY_DIMENSIONS"] = told
    copy, said = _copied(tmp_path)
    assert "float16 promoted to float32" in said["single"]
    assert "beside: float16 promoted to float32" in said[""]
    assert "float32" not in said["beside"]
    _read_all(copy)
    with h5py.File(copy) as file:
        for name in ("a", "beside", "single"):
            assert file[name].dtype == "f4"
            np.testing.assert_array_equal(file[name][()], _halves(file[name].shape))
            assert np.isnan(file[name].attrs.get("_FillValue", np.nan))
        assert file["struct"].dtype == [("h", "f4"), ("n", "i4")]
    with tree(tmp_path / "g.zarr") as opened:
        alone = materialise(resolve(opened, "beside/beside.h5"), tmp_path / "alone.h5")
    with tree(tmp_path / "g.zarr", hdf5_float16="keep") as opened:
        kept = materialise(resolve(opened, "g.nc"), tmp_path / "kept.nc")
    with h5py.File(alone) as of_array, h5py.File(kept) as file:
        assert of_array["beside"].dtype == file["a"].dtype == "f2"


def _halves(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape)).reshape(shape) / 2


@pytest.mark.parametrize("fmt", [2, 3])
def test_scalars_alone_in_a_group(tmp_path: Path, fmt: Any) -> None:
    told = xr.DataTree.from_dict({
        "/": xr.Dataset({"x": ("x", [1, 2])}),
        "/g": xr.Dataset({"flag": ((), True), "missing": ((), np.nan)}),
    })  # fmt: skip
    told["g"]["missing"].encoding = {"dtype": "i2", "_FillValue": -1}
    told.to_zarr(tmp_path / "g.zarr", zarr_format=fmt)
    copy, _ = _copied(tmp_path)
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_dataset(copy, engine=engine, group="g") as found:
            assert found["flag"].dtype == bool
            assert found["flag"].item() is True
            assert np.isnan(found["missing"].item())


@pytest.mark.parametrize("unit", ["D", "h", "s", "ms", "ns"])
def test_lengths_of_time_are_such_to_xarray(tmp_path: Path, unit: str) -> None:
    values = np.array([1, -2, 3], f"m8[{unit}]")
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=2)
    array = group.create_array("d", shape=(3,), dtype=values.dtype)
    array[...] = values
    array.attrs["_ARRAY_DIMENSIONS"] = ["x"]
    copy, _ = _copied(tmp_path)
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_dataset(copy, engine=engine) as found:
            assert found["d"].dtype.kind == "m"
            np.testing.assert_array_equal(found["d"].values, values)


@pytest.mark.parametrize("slots", [False, True], ids=["exact", "slots"])
@pytest.mark.parametrize("fmt", [2, 3])
def test_text_attributes_are_characters(
    tmp_path: Path, fmt: Any, slots: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As netCDF-C writes them: NCO, CDO and Octave pass over strings. In `.h5` h5py has text."""
    texts = {"units": "days since 2001-01-01", "µ": "température µ 日本語", "long": "é" * 50_000}
    others = {"empty": "", "list": ["a", "bé"]}
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=fmt, attributes=texts | others)
    named: dict[str, Any] = {"dimension_names": ["time"]} if fmt == 3 else {}
    array = group.create_array("time", shape=(3,), dtype="i4", fill_value=-1, **named)
    array[...] = [0, 1, 2]
    array.attrs.update(texts | others | ({"_ARRAY_DIMENSIONS": ["time"]} if fmt == 2 else {}))
    if slots:
        monkeypatch.setattr("znfs.views.hdf5.walk", lambda group: None)
        (tmp_path / "g.zarr" / "bad").mkdir()
        (tmp_path / "g.zarr" / "bad" / "zarr.json").write_text("{")
    with tree(tmp_path / "g.zarr") as opened:
        for path in ("g.nc", "time/time.nc", "g.h5", "time/time.h5"):
            with h5py.File(Seekable(resolve(opened, path))) as file:
                if slots and path.startswith("g."):
                    why = file["bad"].attrs["znfs_left_out"]
                    assert isinstance(why, bytes if path == "g.nc" else str)
                attributes = file["time"].attrs
                for name, text in texts.items():
                    fixed = path.endswith(".nc") and name != "long"
                    assert attributes[name] == (text.encode() if fixed else text)
        if slots:
            return
        copy = materialise(resolve(opened, "g.nc"), tmp_path / "g.nc")
    _read_all(copy)
    with netCDF4.Dataset(copy) as found:
        for at in (found, found["time"]):
            assert {name: at.getncattr(name) for name in texts | others} == texts | others
    for engine in ("netcdf4", "h5netcdf"):
        with xr.open_dataset(copy, engine=engine) as known:
            assert known["time"].values.tolist() == [
                978307200000000000 + day * 86400 * 10**9 for day in range(3)
            ]
            assert known.attrs["µ"] == texts["µ"]
    require("ncks")
    done = subprocess.run(
        ["ncks", "--dt_fmt=1", "-v", "time", copy], capture_output=True, text=True, check=True
    )
    assert '"2001-01-01", "2001-01-02", "2001-01-03"' in done.stdout


def _copied(folder: Path) -> tuple[Path, dict[str, str]]:
    """`g.nc` of `g.zarr`, and the remarks on each array and group."""
    with tree(folder / "g.zarr") as opened:
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
        return materialise(resolve(opened, "g.nc"), folder / "g.nc"), said


@pytest.mark.parametrize("fill", [0, 7])
def test_only_a_fill_value_that_is_not_zero_is_written(tmp_path: Path, fill: int) -> None:
    """netCDF-Java takes one that is for what is missing: zeros were. netCDF4-python masked 255."""
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=3)
    array = group.create_array("v", shape=(3,), dtype="u1", fill_value=fill, dimension_names=["x"])
    array[...] = [0, 255, 3]
    copy, _ = _copied(tmp_path)
    with h5py.File(copy) as file:
        assert file["v"].fillvalue == fill
        status = file["v"].id.get_create_plist().fill_value_defined()
        assert status == (h5py.h5d.FILL_VALUE_USER_DEFINED if fill else h5py.h5d.FILL_VALUE_DEFAULT)
    if not fill:
        with netCDF4.Dataset(copy) as got:
            assert got["v"][...].tolist() == [0, 255, 3]


_ENCODED = ["AAAAAAAA8D8=", "AAAAAAAAAEA="]  # a complex number, as xarray writes it


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("given", [None, _ENCODED, 1.5, [1]], ids=str)
def test_complex_numbers_have_no_fill_value(tmp_path: Path, fmt: Any, given: Any) -> None:
    """Of one xarray refuses the whole file."""
    attributes: dict[str, Any] = {} if given is None else {"_FillValue": given}
    if fmt == 2:
        attributes["_ARRAY_DIMENSIONS"] = ["x"]
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=fmt)
    array = group.create_array(
        "c", shape=(2,), dtype="c8", fill_value=2, attributes=attributes,
        dimension_names=["x"] if fmt == 3 else None,
    )  # fmt: skip
    array[...] = [1 + 2j, 3]
    copy, said = _copied(tmp_path)
    _read_all(copy)
    with xr.open_dataset(copy, engine="h5netcdf") as got:
        assert got["c"].values.tolist() == [1 + 2j, 3]
    assert ("no _FillValue" in said["c"]) == (fmt == 2)
    assert ("'_FillValue' is named '_FillValue_'" in said["c"]) == (given is not None)


_NEVER = [
    *(
        (f"_Quantize{how}", value)
        for how in (
            "BitGroomNumberOfSignificantDigits",
            "GranularBitRoundNumberOfSignificantDigits",
            "BitRoundNumberOfSignificantBits",
        )
        for value in ([3, 4], "x", None)
    ),
    *((name, value) for name in ("NAME", "CLASS") for value in (5, [1, 2], ["a", "b"])),
    *(("_FillValue", value) for value in ([1, 2], [])),
]


@pytest.mark.parametrize("names", [["x"], None], ids=["named", "not named"])
def test_values_that_attributes_of_such_names_never_have(
    tmp_path: Path, names: list[str] | None
) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("n", shape=(3,), dtype="i4", dimension_names=("x",))[...] = 1
    for at, (name, value) in enumerate(_NEVER):
        group.create_array(
            f"v{at}", shape=(3,), dtype="i4", dimension_names=names, attributes={name: value}
        )[...] = 1
    copy, said = _copied(tmp_path)
    _read_all(copy)
    with h5py.File(copy) as file:
        for at, (name, _) in enumerate(_NEVER):
            assert f"attribute {name!r} is named '{name}_'" in said[f"v{at}"]
            assert f"{name}_" in file[f"v{at}"].attrs


def test_how_numbers_were_quantised_is_kept(tmp_path: Path) -> None:
    name = "_QuantizeBitRoundNumberOfSignificantBits"
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array(
        "v", shape=(3,), dtype="f4", dimension_names=["x"], attributes={name: 3}
    )[...] = 1  # fmt: skip
    copy, said = _copied(tmp_path)
    _read_all(copy)
    assert name not in said["v"]
    with h5py.File(copy) as file:
        assert file["v"].attrs[name] == 3


@pytest.mark.parametrize("consolidated", [False, True])
def test_children_whose_names_netcdf_has_no_room_for(tmp_path: Path, consolidated: bool) -> None:
    """As a zip may have them: no folder lists them."""
    group = zarr.create_group(tmp_path / "g.zarr", attributes={"n" * 300: 1})
    for name in ("b", "n" * 250):
        group.create_array(name, shape=(3,), dtype="i4", dimension_names=["x"])[...] = 1
    root = json.loads((tmp_path / "g.zarr" / "zarr.json").read_text())
    array = (tmp_path / "g.zarr" / "b" / "zarr.json").read_text()
    if consolidated:
        metadata = {name: json.loads(array) for name in ("b", "é" * 128)}
        root["consolidated_metadata"] = {"kind": "inline", "metadata": metadata}
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        archive.writestr("zarr.json", json.dumps(root))
        archive.writestr("b/zarr.json", array)
        archive.writestr("é" * 128 + "/zarr.json", array)
    with tree(f"zip::{tmp_path}/g.zip") as opened:
        name = next(n for n in opened.resolve("").names() if n.endswith(".nc"))  # type: ignore[union-attr]
        copy = materialise(resolve(opened, name), tmp_path / "g.nc")
        said = "\n".join(next(opened.describe()).remarks)
    assert "... is left out: the name is longer than 255 bytes" in said
    _read_all(copy)
    with h5py.File(copy) as file:
        assert set(file) == {"b", "x"}


def test_strings_in_structs_are_told(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=2)
    dtype = np.dtype([("n", "i4"), ("s", [("t", "S3")])])
    group.create_array("a", shape=(2,), dtype=dtype)
    group.create_array("b", shape=(2,), dtype=dtype, attributes={"_ARRAY_DIMENSIONS": ["x"]})
    with tree(tmp_path / "g.zarr") as opened:
        said = {node.path: "\n".join(node.remarks) for node in opened.describe()}
    told = "strings in structs have a fixed length"
    assert f"a: {told}" in said[""]
    assert told in said["b"]
    assert told not in said["a"]
