"""JSON attributes as h5py returns them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.support import Seekable, resolve, tree
from znfs.views.hdf5.attributes import names

_TEXTS = ["", "plain", "é日本", "x" * 100_000, "a\nb"]

# JSON value, and what h5py gives for it.
_CASES: dict[str, tuple[Any, Any]] = {
    **{f"text {i}": (text, text) for i, text in enumerate(_TEXTS)},
    "int": (5, np.int64(5)),
    "negative": (-(2**63), np.int64(-(2**63))),
    "unsigned": (2**64 - 1, np.uint64(2**64 - 1)),
    "huge": (2**70, str(2**70)),
    "float": (1.5, np.float64(1.5)),
    "nan": (math.nan, np.float64(math.nan)),
    "inf": (-math.inf, np.float64(-math.inf)),
    "true": (True, np.uint8(1)),
    "null": (None, "null"),
    "ints": ([1, 2, 3], np.array([1, 2, 3])),
    "one": ([1], np.array([1])),
    "big ints": ([0, 2**63], np.array([0, 2**63], np.uint64)),
    "mixed signs": ([-1, 2**63], json.dumps([-1, 2**63])),
    "floats": ([1.5, 2.5], np.array([1.5, 2.5])),
    "numbers": ([1, 2.5], np.array([1.0, 2.5])),
    "inexact": ([2**60 + 1, 0.5], json.dumps([2**60 + 1, 0.5])),
    "flags": ([True, False], np.array([1, 0], np.uint8)),
    "flag and number": ([True, 2], "[true, 2]"),
    "texts": (["a", "é", ""], np.array(["a", "é", ""], object)),
    "no list": ([], np.array([], np.float64)),
    "nested": ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
    "object": ({"a": [1, {"b": None}]}, '{"a": [1, {"b": null}]}'),
    "mixed": ([1, "a"], '[1, "a"]'),
    "long ints": (list(range(20_000)), np.arange(20_000)),
    "long floats": ([i / 2 for i in range(20_000)], np.arange(20_000) / 2),
    "many texts": ([f"t{i}" for i in range(9_000)], json.dumps([f"t{i}" for i in range(9_000)])),
    "some texts": (list("ab" * 1_500), np.array(list("ab" * 1_500), object)),
    "NUL": ("a\0b", '"a\\u0000b"'),
    "NUL in list": (["a\0b", "c"], '["a\\u0000b", "c"]'),
    "surrogate": ("\ud800", '"\\ud800"'),
    "é/name.": (1, np.int64(1)),
    "a/b": (2, np.int64(2)),
    ".": (3, np.int64(3)),
    "n" * 255: (4, np.int64(4)),
    "é" * 127: (5, np.int64(5)),
}  # fmt: skip


def _store(path: Path, attributes: dict[str, Any]) -> Path:
    """A Zarr v2 group with an array, both with `attributes`."""
    (path / "a").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    document = {
        "zarr_format": 2, "shape": [3], "chunks": [3], "dtype": "<i4", "compressor": None,
        "filters": None, "fill_value": 0, "order": "C",
    }  # fmt: skip
    (path / "a" / ".zarray").write_text(json.dumps(document))
    for at in (path, path / "a"):
        (at / ".zattrs").write_text(json.dumps(attributes))
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    """Attributes of group and array by h5py."""
    with tree(path) as opened, h5py.File(Seekable(resolve(opened, f"{path.name}.h5"))) as file:
        return [dict(file.attrs), dict(file["a"].attrs)]


def _same(got: Any, expected: Any) -> None:
    if isinstance(expected, str):
        assert got == expected
    else:
        assert np.asarray(got).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(got, expected)


def test_every_shape_of_json(tmp_path: Path) -> None:
    path = _store(tmp_path / "s", {name: given for name, (given, _) in _CASES.items()})
    for got in _read(path):
        assert set(got) == set(_CASES)
        for name, (_, expected) in _CASES.items():
            _same(got[name], expected)


def test_names_hdf5_cannot_have(tmp_path: Path) -> None:
    path = _store(tmp_path / "s", {"": 1, "_": 2, "a\0b": 3, "\ud800": 4, "long" * 2000: 5})
    with tree(path) as opened:
        remarks = next(opened.describe()).remarks
    assert any("attribute ''" in remark for remark in remarks)
    for got in _read(path):
        assert {k: v for k, v in got.items() if len(k) < 99} == {
            "__": 1, "_": 2, "a\\u0000b": 3, "\\ud800": 4,
        }  # fmt: skip
        assert [v for k, v in got.items() if k.startswith("longlong")] == [5]


def test_many_attributes(tmp_path: Path) -> None:
    path = _store(tmp_path / "s", {f"name {i}": i for i in range(2_000)})
    for got in _read(path):
        assert got == {f"name {i}": i for i in range(2_000)}


def test_more_attributes_than_a_header_holds(tmp_path: Path) -> None:
    path = _store(tmp_path / "s", {f"n{i}": i for i in range(70_000)})
    with tree(path) as opened, h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
        for at in (file, file["a"]):
            rest = json.loads(at.attrs["znfs_further_attributes"])
            assert len(at.attrs) - 1 + len(rest) == 70_000
            assert rest["n69999"] == 69_999
            assert at.attrs["n65000"] == 65_000
        told = "too many attributes: the last ones are JSON text in 'znfs_further_attributes'"
        assert all(told in "\n".join(node.remarks) for node in opened.describe())


@pytest.mark.parametrize("first", [True, False])
def test_a_name_like_that_of_further_attributes(tmp_path: Path, first: bool) -> None:
    """Also of an array that has dimensions: what these need is no JSON."""
    mine = {"znfs_further_attributes": 5}
    more: dict[str, Any] = {f"n{i}": i for i in range(66_000)}
    given = {"_ARRAY_DIMENSIONS": ["x"], **(mine | more if first else more | mine)}
    path = _store(tmp_path / "s", given)
    with tree(path) as opened, h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
        for at in (file, file["a"]):
            rest = json.loads(at.attrs["znfs_further_attributes_"])
            assert (at.attrs if first else rest)["znfs_further_attributes"] == 5
            assert ("znfs_further_attributes" in at.attrs) == first
            assert len({*at.attrs}) == len(at.attrs)
        assert file["a"].dims[0][0] == file["x"]


def test_names_longer_than_netcdf_has_room_for(tmp_path: Path) -> None:
    given = {"n" * 256: 1, "n" * 300: 2, "é" * 128: 3, "n" * 255: 4}
    path = _store(tmp_path / "s", given)
    for got in _read(path):
        assert sorted(got.values()) == [1, 2, 3, 4]
        assert got["n" * 255] == 4
        assert max(len(name.encode()) for name in got) == 255
    with tree(path) as opened:
        for node in opened.describe():
            assert sum("is named" in remark for remark in node.remarks) == 3


def test_a_name_that_others_take_is_not_too_long_either() -> None:
    given = ["n" * 249 + "\0", "n" * 249 + "\\u0000"]
    made = names(given)
    assert made[1] == given[1]
    assert len(set(made)) == 2
    assert max(map(len, made)) <= 255


def test_user_attributes_survive_dimension_scales(tmp_path: Path) -> None:
    mine = {"CLASS": "mine", "NAME": "n", "DIMENSION_LIST": [1], "_ARRAY_DIMENSIONS": ["a"],
            "NAME_": "other"}  # fmt: skip
    path = _store(tmp_path / "s", mine)
    group, array = _read(path)
    assert group["CLASS"] == "mine"
    assert "_ARRAY_DIMENSIONS" not in array  # it has them
    assert array["CLASS_"] == "mine"
    assert (array["NAME__"], array["NAME_"]) == ("n", "other")
    assert array["CLASS"] == b"DIMENSION_SCALE"
    assert list(array["DIMENSION_LIST_"]) == [1]
