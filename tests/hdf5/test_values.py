"""Values, types and attributes of virtual HDF5 files, compared with what was written."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests.hdf5.support import Seekable, materialise, resolve, text, tree
from znfs.arrays.array import Array
from znfs.views import hdf5
from znfs.views.hdf5.datatypes import encode

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

_RNG = np.random.default_rng(7)
_SIMPLE = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?"]


def _make() -> dict[str, tuple[np.ndarray[Any, Any], tuple[int, ...]]]:
    """Name: values and chunks."""
    out: dict[str, tuple[np.ndarray[Any, Any], tuple[int, ...]]] = {
        f"types/{np.dtype(t).name}": ((_RNG.random((33, 17, 9)) * 100).astype(t), (16, 9, 4))
        for t in _SIMPLE
    }
    out |= {
        "bytes": (np.array([b"ab", b"c", b"\0x"] * 9, "S4"), (4,)),
        "text": (np.array(["äö", "c", "日本語", ""] * 9, "U3"), (10,)),
        "deep/a/b/c": (np.arange(10, dtype="i4"), (3,)),
        "scalar": (np.array(5.5), ()),
        "scalar_text": (np.array("日本"), ()),
        "empty": (np.zeros((0, 4), "i4"), (1, 4)),
        "empty2": (np.zeros((3, 0, 2), "u1"), (1, 1, 1)),
        "five": (_RNG.integers(0, 99, (5, 4, 3, 6, 2)).astype("u1"), (2, 3, 2, 4, 9)),
        "clipped": (_RNG.integers(0, 60000, (40, 5, 7)).astype("u2"), (8, 9, 16)),
        "gap": (_RNG.integers(0, 60000, (300, 400, 5)).astype("u2"), (150, 300, 5)),
        "date": (np.array(["2020-01-01", "NaT", "1969-12-31"], "M8[D]"), (2,)),
        "delta": (np.array([1, -2, 3], "m8[ms]"), (2,)),
        "many": (np.arange(5000, dtype="<i4"), (1,)),
    }  # fmt: skip
    return out


_ARRAYS = _make()

_RECORDS = np.array(
    [(1, 2.5, b"x", (1, 2), (7, 1j)), (3, 4.5, b"yy", (3, 4), (-7, 2j))],
    dtype=[
        ("a", "<i4"), ("b", "<f8"), ("c", "S3"), ("d", "<u2", (2,)),
        ("e", [("p", "i1"), ("q", "<c8")]),
    ],
)  # fmt: skip


@pytest.fixture(scope="module", params=[2, 3])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("values") / "s.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.create_group(path, zarr_format=request.param)
        for name, (values, chunks) in _ARRAYS.items():
            array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
            array[...] = values
        if request.param == 2:
            for name, order in (("big/i4", ">i4"), ("big/f8", ">f8"), ("big/c8", ">c8")):
                values = _RNG.random((20, 7)).astype(order)
                array = group.create_array(name, shape=values.shape, dtype=order, chunks=(6, 7))
                array[...] = values
            _write_records(path / "records")
    return path


def _write_records(path: Path) -> None:
    """By hand: zarr-python has no fields of several elements."""
    path.mkdir()
    dtype = [
        ["a", "<i4"], ["b", "<f8"], ["c", "|S3"], ["d", "<u2", [2]],
        ["e", [["p", "|i1"], ["q", "<c8"]]],
    ]  # fmt: skip
    document = {
        "zarr_format": 2, "shape": [2], "chunks": [1], "dtype": dtype, "compressor": None,
        "filters": None, "fill_value": None, "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(document))
    for i in range(2):
        (path / str(i)).write_bytes(_RECORDS[i : i + 1].tobytes())


@pytest.fixture(scope="module")
def copy(store: Path) -> Path:
    with tree(store) as opened:
        return materialise(resolve(opened, "s.h5"), store.parent / "copy.h5")


def _equal(got: Any, expected: np.ndarray[Any, Any]) -> None:
    if expected.dtype.kind == "U":
        got = text(got, expected.dtype)
    if expected.dtype.kind in "Mm":
        got, expected = got, expected.view("i8")
    else:
        assert got.dtype == expected.dtype.newbyteorder("<") or expected.dtype.kind in "UV"
    np.testing.assert_array_equal(got, expected)
    assert got.shape == expected.shape


def test_h5py_reads_every_type(store: Path, copy: Path) -> None:
    with tree(store) as opened:
        for source in (Seekable(resolve(opened, "s.h5")), copy):
            with h5py.File(source) as file:
                for name, (values, chunks) in _ARRAYS.items():
                    _equal_written = zarr.open_array(store, path=name, mode="r")[...]
                    got = file[name][()]
                    _equal(got, np.asarray(_equal_written))
                    assert file[name].shape == values.shape
                    if values.ndim and values.size:
                        assert file[name].chunks == tuple(map(min, chunks, values.shape))


def test_big_endian_and_records(store: Path, copy: Path) -> None:
    group = zarr.open_group(store, mode="r")
    if "big" not in group:
        pytest.skip("Zarr v3 keeps byte order in a codec and has no stable records")
    with h5py.File(copy) as file:
        for name in ("big/i4", "big/f8", "big/c8"):
            np.testing.assert_array_equal(file[name][()], group[name][...])
        got = file["records"][()]
        for field in _RECORDS.dtype.names or ():
            np.testing.assert_array_equal(got[field], _RECORDS[field])


def test_each_array_has_its_own_file(store: Path, tmp_path: Path) -> None:
    with tree(store) as opened:
        for name, (values, _) in _ARRAYS.items():
            last = name.rsplit("/", 1)[-1]
            file = resolve(opened, f"{name}/{last}.h5")
            with h5py.File(Seekable(file)) as h5:
                assert list(h5) == [last]
                _equal(h5[last][()], values)


def test_c_tools(copy: Path, tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert b"rror" not in done.stderr, done.stderr
        return done.stdout.decode(errors="replace")

    assert "gap" in run("h5ls", "-r", copy)
    assert "# of unique datasets" in run("h5stat", copy)
    assert "DATASET" in run("h5dump", "-H", copy)
    repacked = tmp_path / "repacked.h5"
    run("h5repack", copy, repacked)
    with h5py.File(repacked) as file:
        for name, (values, _) in _ARRAYS.items():
            _equal(file[name][()], values)
    run("h5diff", copy, repacked)
    run("h5copy", "-i", copy, "-o", tmp_path / "one.h5", "-s", "/gap", "-d", "/gap")
    assert "5.5" in run("h5dump", "-d", "/scalar", copy)


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def test_pyfive(copy: Path) -> None:
    pyfive = pytest.importorskip("pyfive")
    with pyfive.File(str(copy)) as file:
        for name, (values, _) in _ARRAYS.items():
            if values.size == 0 or values.dtype.kind in "Mm":
                continue
            got = file[name][...] if values.ndim else file[name][()]
            if values.dtype.kind == "S":
                continue  # pyfive strips them differently
            if values.dtype.kind == "U":
                got = text(np.vectorize(_as_bytes, otypes=[object])(got), values.dtype)
            np.testing.assert_array_equal(got, values)


def test_pytables(copy: Path) -> None:
    tables = pytest.importorskip("tables")
    with warnings.catch_warnings(), tables.open_file(str(copy)) as file:
        warnings.simplefilter("ignore")
        for name in ("types/uint16", "types/float32", "five", "clipped", "many"):
            np.testing.assert_array_equal(
                file.get_node(f"/{name}").read(), _arrays_value(copy, name)
            )


def _arrays_value(copy: Path, name: str) -> np.ndarray[Any, Any]:
    with h5py.File(copy) as file:
        values: np.ndarray[Any, Any] = file[name][()]
    return values


def test_fill_value(tmp_path: Path) -> None:
    for fmt in (2, 3):
        group = zarr.create_group(tmp_path / f"f{fmt}.zarr", zarr_format=fmt)
        group.create_array("a", shape=(10, 10), dtype="f4", chunks=(4, 4), fill_value=-2.5)
        group.create_array("b", shape=(10,), dtype="?", chunks=(4,), fill_value=True)
        with (
            tree(tmp_path / f"f{fmt}.zarr") as opened,
            h5py.File(Seekable(resolve(opened, f"f{fmt}.h5"))) as file,
        ):
            assert file["a"].fillvalue == -2.5
            assert (file["a"][()] == -2.5).all()
            assert file["b"][()].all()


@pytest.mark.parametrize("index", ["btree", "implicit"])
def test_text_has_variable_length(tmp_path: Path, index: str) -> None:
    """Several collections a chunk, empty strings, cut chunks, chunks that are not stored."""
    letters = np.array(["", "a", "é", "日本語" * 9, "x" * 40])
    values = _RNG.choice(letters, (70, 61)).astype("U40")
    values[64:] = ""
    written = zarr.create_array(
        tmp_path / "a.zarr", shape=(70, 61), chunks=(32, 20), dtype="U40", fill_value=""
    )
    written[:64] = values[:64]
    with tree(tmp_path / "a.zarr") as opened:
        array = opened.resolve("").node  # type: ignore[union-attr]
        file = hdf5.array_file(array, "a", hdf5.Layout(index=index))
        with h5py.File(Seekable(file)) as h5:
            assert tuple(h5py.check_string_dtype(h5["a"].dtype)) == ("utf-8", None)
            np.testing.assert_array_equal(h5["a"].asstr()[...], values)
            np.testing.assert_array_equal(h5["a"].asstr()[40:66, ::7], values[40:66, ::7])
        copy = materialise(file, tmp_path / "copy.h5")
        whole = copy.read_bytes()
        for start in _RNG.integers(0, file.size, 50).tolist():
            assert file.read(start, 5000) == whole[start : start + 5000]
    done = subprocess.run(["h5dump", copy], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("merge", [1, 2, 3, 1000])
@pytest.mark.parametrize("width", [3, 400])
def test_text_in_merged_chunks(tmp_path: Path, merge: int, width: int) -> None:
    """Collections that span the store's chunks, and several of them a chunk."""
    letters = np.array(["", "a", "é", "日本語", "x" * width])
    values = _RNG.choice(letters, (1, 37, 20)).astype(f"U{width}")
    written = zarr.create_array(
        tmp_path / "a.zarr", shape=values.shape, chunks=(1, 5, 8), dtype=f"U{width}"
    )
    written[...] = values
    with tree(tmp_path / "a.zarr") as opened:
        array = opened.resolve("").node  # type: ignore[union-attr]
        file = hdf5.array_file(array, "a", hdf5.Layout(merge=merge))
        with h5py.File(Seekable(file)) as h5:
            assert h5["a"].chunks == (1, min(5 * merge, 37), 8)
            np.testing.assert_array_equal(h5["a"].asstr()[...], values)
        whole = materialise(file, tmp_path / "copy.h5").read_bytes()
        for start in _RNG.integers(0, file.size, 50).tolist():
            assert file.read(start, 5000) == whole[start : start + 5000]


def test_text_that_c_would_cut_is_an_error(tmp_path: Path) -> None:
    values = np.array(["a", "b", "c\0d", "e"])
    written = zarr.create_array(tmp_path / "a.zarr", shape=(4,), chunks=(2,), dtype="U3")
    written[...] = values
    with (
        tree(tmp_path / "a.zarr") as opened,
        h5py.File(Seekable(resolve(opened, "a.h5"))) as h5,
    ):
        assert list(h5["a"].asstr()[:2]) == ["a", "b"]
        with pytest.raises(Exception, match="NUL"):
            h5["a"][2:]


@pytest.fixture
def layouts(tmp_path: Path) -> Iterator[tuple[Array, np.ndarray[Any, Any]]]:
    values = _RNG.integers(0, 60000, (1, 37, 30, 5)).astype("u2")
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=values.shape, dtype="u2", chunks=(1, 4, 7, 8)
    )
    array[...] = values
    with tree(tmp_path / "a.zarr") as opened:
        node = opened.resolve("")
        yield node.node, values  # type: ignore[union-attr]


@pytest.mark.parametrize("merge", [1, 2, 3, 5, 10, 1000])
def test_merged_chunks(
    layouts: tuple[Array, np.ndarray[Any, Any]], merge: int, tmp_path: Path
) -> None:
    array, values = layouts
    file = hdf5.array_file(array, "a", hdf5.Layout(merge=merge))
    with h5py.File(Seekable(file)) as h5:
        assert h5["a"].chunks == (1, min(4 * merge, 37), 7, 5)
        np.testing.assert_array_equal(h5["a"][()], values)
        np.testing.assert_array_equal(h5["a"][0, 11:30, 3:9, 1:4], values[0, 11:30, 3:9, 1:4])
    if merge == 3:
        file.prefetch(0, file.size)
        copy = materialise(file, tmp_path / "copy.h5")
        done = subprocess.run(["h5stat", copy], capture_output=True)
        assert done.returncode == 0, done.stderr


def test_implicit_index(layouts: tuple[Array, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    array, values = layouts
    file = hdf5.array_file(array, "a", hdf5.Layout(index="implicit"))
    with h5py.File(Seekable(file)) as h5:
        np.testing.assert_array_equal(h5["a"][()], values)
    copy = materialise(file, tmp_path / "copy.h5")
    done = subprocess.run(["h5dump", "-d", "/a", copy], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("side", [255, 256, 65_535, 65_536])
def test_implicit_index_of_chunks_of_any_side(side: int, tmp_path: Path) -> None:
    """A chunk's shape is written in as few bytes as its longest side needs."""
    values = np.random.default_rng(1).integers(0, 256, 2 * side + 1, "u1")
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(side,))
    with (
        tree(tmp_path / "a.zarr", hdf5_index="implicit") as opened,
        h5py.File(Seekable(resolve(opened, "a.h5"))) as h5,
    ):
        np.testing.assert_array_equal(h5["a"][()], values)


@pytest.mark.parametrize(
    ("fields", "version"),
    [([("a", "<i2")], 1), ([("a", "<i2", (3,))], 2), ([("a", [("b", "<i2", (3,))])], 2)],
)
def test_structs_with_arrays_are_of_version_2(fields: list[Any], version: int) -> None:
    """In version 1 members have dimensions of their own, and no array type (specification of
    HDF5's format, IV.A.2.d)."""
    assert encode(np.dtype(fields))[0] == version << 4 | 6


def test_promoted_float16(tmp_path: Path) -> None:
    values = np.linspace(-3, 3, 35).astype("f2").reshape(5, 7)
    written = zarr.create_array(tmp_path / "a.zarr", shape=(5, 7), dtype="f2", chunks=(2, 3))
    written[...] = values
    with tree(tmp_path / "a.zarr") as opened:
        array = opened.resolve("").node  # type: ignore[union-attr]
        file = hdf5.array_file(array, "a", hdf5.Layout(promote_float16=True))
        with h5py.File(Seekable(file)) as h5:
            assert h5["a"].dtype == "f4"
            np.testing.assert_array_equal(h5["a"][()], values.astype("f4"))
    with tree(tmp_path / "a.zarr", hdf5_float16="float32") as opened:
        (described,) = opened.describe()
    assert any("float32" in remark for remark in described.remarks)
