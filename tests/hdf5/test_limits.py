"""What HDF5 has no room for is left out, told by `znfs info`, and takes nothing else with it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.support import Seekable, resolve, tree
from znfs.commands import info
from znfs.errors import ChunkError
from znfs.tree import Tree


def _write(path: Path, dtype: Any, shape: list[int], **more: Any) -> None:
    """A Zarr v2 array by hand: zarr-python has no such types."""
    path.mkdir(parents=True)
    document = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "compressor": None,
        "filters": None, "fill_value": None, "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(document | more))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A group with an array that HDF5 holds: `a`."""
    path = tmp_path / "s.zarr"
    _write(path / "a", "<i4", [3], fill_value=7)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    return path


def _said(opened: Tree) -> dict[str, str]:
    return {node.path: "\n".join(node.remarks) for node in opened.describe()}


_MANY = [[f"f{i:04}", "<i4"] for i in range(4000)]


@pytest.mark.parametrize(
    ("dtype", "shape", "more", "why"),
    [
        (_MANY, [2], {}, "bytes to describe"),
        ([["n" * 70_000, "<i4"]], [2], {}, "bytes to describe"),
        ([["s", [["t", _MANY]]]], [2], {}, "bytes to describe"),
        ([["a\0b", "<i4"], ["c", "<i4"]], [2], {}, r"'a\x00b'"),
        ([["\ud800", "<i4"]], [2], {}, r"'\ud800'"),
        ("|u1", [2**62, 8], {"chunks": [2**29, 8]}, "that large"),
    ],
    ids=["fields", "long name", "nested", "NUL", "surrogate", "2^65 bytes"],
)
def test_an_array_that_hdf5_cannot_hold_is_left_out(
    store: Path, dtype: Any, shape: list[int], more: dict[str, Any], why: str
) -> None:
    _write(store / "b", dtype, shape, **more)
    with tree(store) as opened:
        said = _said(opened)
        assert why in next(line for line in said["b"].split("\n") if "b.h5" in line)
        assert why in next(line for line in said[""].split("\n") if "b is left out" in line)
        assert "b.h5" not in set(opened.resolve("b").names())  # type: ignore[union-attr]
        with h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
            assert set(file) == {"a"}
            assert file["a"][:].tolist() == [7, 7, 7]


def test_why_there_is_no_netcdf_file_either(store: Path) -> None:
    _write(store / "b", _MANY, [2])
    (store / "b" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["x"]}')
    with tree(store) as opened:
        assert "no b.h5, b.nc: a type that takes" in _said(opened)["b"]
        assert "b.nc" not in set(opened.resolve("b").names())  # type: ignore[union-attr]


def test_the_largest_type_there_is_room_for(store: Path) -> None:
    fields = [[f"f{i:04}", "<i4"] for i in range(1200)]
    _write(store / "b", fields, [2])
    values = np.arange(2400, dtype="<i4")
    (store / "b" / "0").write_bytes(values.tobytes())
    with tree(store) as opened, h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
        assert len(file["b"].dtype) == 1200
        assert file["b"]["f1199"].tolist() == [1199, 2399]


@pytest.mark.parametrize("value", [b"", b"some text"])
def test_a_fill_value_without_room(store: Path, value: bytes) -> None:
    fill = base64.b64encode(value.ljust(70_000, b"\0")).decode()
    _write(store / "b", "|S70000", [3], chunks=[1], fill_value=fill)
    (store / "b" / "1").write_bytes(b"x" * 70_000)
    with tree(store) as opened:
        told = "no fill value: it takes 70000 bytes" in _said(opened)["b"]
        assert told == bool(value)
        with h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
            assert file["b"][:].tolist() == [value, b"x" * 70_000, value]


@pytest.mark.parametrize("code", [0xD800, 0x110000, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize("dtype", ["<U3", [["t", "<U3"]]], ids=["text", "struct"])
def test_text_that_is_not_unicode(store: Path, code: int, dtype: Any) -> None:
    _write(store / "b", dtype, [4], chunks=[2], fill_value=None)
    codes = {"0": [97, 98, 99, 100, 0, 0], "1": [97, code, 98, 97, 0, 0]}
    for name, values in codes.items():
        (store / "b" / name).write_bytes(np.array(values, "<u4").tobytes())
    with tree(store) as opened, h5py.File(Seekable(resolve(opened, "b/b.h5"))) as file:
        assert [item if dtype == "<U3" else item["t"] for item in file["b"][:2]] == [b"abc", b"d"]
        with pytest.raises(ChunkError, match="not Unicode"):
            file["b"][2:]


def test_a_fill_value_that_is_no_text(store: Path) -> None:
    fill = base64.b64encode(b"\xff" * 8).decode()
    _write(store / "b", [["t", "<U1"], ["n", "<i4"]], [2], chunks=[1], fill_value=fill)
    (store / "b" / "1").write_bytes("é".encode("utf-32-le") + b"\5\0\0\0")
    with tree(store) as opened:
        assert "no fill value: it is text that is not Unicode" in _said(opened)["b"]
        with h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
            assert file["b"][1].tolist() == ("é".encode(), 5)


@pytest.mark.parametrize("value", [10**400, 1e300, -(10**39)])
def test_a_fill_value_in_attributes_that_the_type_cannot_have(store: Path, value: Any) -> None:
    _write(store / "b", "<f4", [3])
    attributes = {"_ARRAY_DIMENSIONS": ["x"], "_FillValue": value}
    (store / "b" / ".zattrs").write_text(json.dumps(attributes))
    with tree(store) as opened, h5py.File(Seekable(resolve(opened, "s.h5"))) as file:
        assert file["b"].attrs["_FillValue"] in (value, str(value))


@pytest.mark.parametrize("shape", [[2**62, 1], [2**59, 4], [2**40, 2**40, 0], [0, 2**62, 2**62]])
def test_dimensions_of_any_size(store: Path, shape: list[int]) -> None:
    """HDF5 counts the bytes of their datasets, though none is stored."""
    chunks = [min(2**29, max(n, 1)) if k == 0 else max(1, min(n, 4)) for k, n in enumerate(shape)]
    _write(store / "b", "|u1", shape, chunks=chunks, fill_value=7)
    names = list("zyx"[: len(shape)])
    (store / "b" / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": names}))
    with tree(store) as opened, h5py.File(Seekable(resolve(opened, "b/b.nc"))) as file:
        assert file["b"].shape == tuple(shape)
        assert [dim[0].size for dim in file["b"].dims] == shape
        if 0 not in shape:
            assert file["b"][tuple(n - 1 for n in shape)] == 7


def test_a_type_of_many_fields_is_cut_for_people(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(store / "b", _MANY, [2, 2])
    with tree(store) as opened:
        assert all(len(remark) < 300 for node in opened.describe() for remark in node.remarks)
        assert len(opened.attributes("b")["dtype"]) == 80
        info.show(opened, as_json=False)
        assert max(map(len, capsys.readouterr().out.splitlines())) < 300


@pytest.mark.parametrize("exact", [True, False])
def test_every_name_is_found_in_the_order_of_bytes(
    store: Path, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is not that of characters where a name's bytes are no UTF-8."""
    if not exact:
        monkeypatch.setattr("znfs.views.hdf5.walk", lambda group: None)
    names = [b"\xff", b"\xfe", "\U00010000".encode(), "\uffff".encode(), "é".encode(), b"z"]
    for i, name in enumerate(names):
        _write(store / os.fsdecode(name), "<i4", [1], fill_value=i)
    with tree(store) as opened:
        file = resolve(opened, "s.h5")
        assert (file.size < 1 << 62) == exact
        with h5py.File(Seekable(file)) as h5:
            assert [h5[name][0] for name in names] == list(range(len(names)))
