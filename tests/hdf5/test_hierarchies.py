"""Random hierarchies written by zarr-python come back through h5py and the HDF5 tools."""

from __future__ import annotations

import math
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.dtype import VariableLengthBytes

from tests.hdf5.support import Seekable, as_objects, materialise, resolve, text, tree
from znfs.node import File
from znfs.views import hdf5
from znfs.views.hdf5.attributes import as_json, names
from znfs.views.hdf5.slots import SlotFile

# What a path segment of a local store may be; some clash with nothing but look odd. To zarr-python
# a backslash is a slash, and h5dump prints names of dimensions as formats.
_NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\%"),
    min_size=1,
    max_size=6,
).filter(lambda s: s.strip(".") and not s.startswith("__") and s not in ("c", "zarr.json"))
_NUMBER = st.integers(-(2**63), 2**64 - 1) | st.floats()
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBER | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_ATTRIBUTES = st.dictionaries(_TEXT, _JSON, max_size=4)
_MOST_BYTES = 3000  # of an element of variable length
_VARIABLE = {"text": str, "bytes": VariableLengthBytes()}
_DTYPES = st.sampled_from(
    [
        "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "?", "S3",
        "U2", *_VARIABLE,
    ]
)  # fmt: skip
_AXIS = st.tuples(st.integers(0, 6), st.integers(2, 8))


def _few_chunks(axes: list[tuple[int, int]]) -> bool:
    return math.prod(-(-n // c) for n, c in axes) <= 200


@st.composite
def _array(draw: st.DrawFn) -> dict[str, Any]:
    axes = draw(st.lists(_AXIS, max_size=5).filter(_few_chunks))
    dims = draw(st.none() | st.lists(_NAME, min_size=len(axes), max_size=len(axes), unique=True))
    return {
        "shape": tuple(a[0] for a in axes),
        "chunks": tuple(a[1] for a in axes),
        "dtype": draw(_DTYPES),
        "seed": draw(st.integers(0, 99)),
        "dims": dims if axes else None,
        "attributes": draw(_ATTRIBUTES),
        "sparse": draw(st.booleans()),
    }


_GROUP = st.recursive(
    st.tuples(_ATTRIBUTES, st.dictionaries(_NAME, _array(), max_size=3)),
    lambda inner: st.tuples(
        _ATTRIBUTES, st.dictionaries(_NAME, st.one_of(_array(), inner), max_size=4)
    ),
    max_leaves=5,
)


_LAYOUTS = st.sampled_from(
    [hdf5.Layout(), hdf5.Layout(index="implicit"), hdf5.Layout(merge=2), hdf5.Layout(merge=1000)]
)


def _values(spec: dict[str, Any]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(spec["seed"])
    raw = rng.integers(0, 120, spec["shape"])
    if spec["dtype"] in _VARIABLE:
        words = ["", "é", "0123456789" * (_MOST_BYTES // 10), "12345678", "123456789"]
        chosen = np.array([word.encode() for word in words], object)[raw % len(words)]
        if spec["dtype"] == "bytes":
            return np.asarray(chosen, object)
        return np.asarray([item.decode() for item in np.ravel(chosen)], object).reshape(raw.shape)
    dtype = np.dtype(spec["dtype"])
    if dtype.kind in "SU":
        letters = "aé日" if dtype.kind == "U" else "abc"
        return np.array(list(letters))[raw % 3].astype(dtype)
    return np.asarray(raw).astype(dtype)


def _write(group: zarr.Group, node: tuple[dict[str, Any], dict[str, Any]], fmt: int) -> None:
    group.attrs.update(node[0])
    for name, child in node[1].items():
        if isinstance(child, tuple):
            _write(group.create_group(name), child, fmt)
            continue
        attributes = dict(child["attributes"])
        named: dict[str, Any] = {}
        if child["dims"] is not None:
            if fmt == 3:
                named["dimension_names"] = child["dims"]
            else:
                attributes["_ARRAY_DIMENSIONS"] = child["dims"]
        array = group.create_array(
            name, shape=child["shape"], chunks=child["chunks"],
            dtype=_VARIABLE.get(child["dtype"], child["dtype"]), attributes=attributes, **named,
        )  # fmt: skip
        # One string of bytes in Zarr v2 is what zarr-python 3.4 cannot write.
        if not (child["sparse"] or (fmt == 2 and child["dtype"] == "bytes" and not child["shape"])):
            values = _values(child)
            array[...] = values if values.shape else values.item()


def _check(file: h5py.Group, group: zarr.Group, exact: bool) -> None:
    _check_attributes(dict(file.attrs), group.attrs.asdict())
    for name, child in group.members():
        if isinstance(child, zarr.Group):
            _check(file[name.encode()], child, exact)
            continue
        dataset = file[name.encode()]
        is_variable = child.dtype.kind in "TO"
        expected = np.asarray(child[...], object if is_variable else None)
        got = as_objects(dataset, child.dtype.kind) if is_variable else dataset[()]
        if expected.dtype.kind == "U":
            got = text(got, expected.dtype)
        np.testing.assert_array_equal(got, expected)
        assert np.shape(got) == expected.shape
        _check_attributes(dict(dataset.attrs), child.attrs.asdict())


# Those that h5dump writes as they are; of others, HDF5's own files too, it writes nothing.
_DUMPED = {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"}


def _check_h5dump(copy: Path, group: zarr.Group, path: str) -> None:
    """The elements as h5dump reads them. A `[` in a name would begin its hyperslab."""
    raw = copy.with_name("raw")
    for name, child in group.members():
        at = f"{path}/{name}"
        if isinstance(child, zarr.Group):
            _check_h5dump(copy, child, at)
        elif child.size and child.dtype.str[1:] in _DUMPED and "[" not in at:
            command = ["h5dump", "-d", at, "-b", "LE", "-o", raw, copy]
            done = subprocess.run(command, capture_output=True, timeout=60)
            assert done.returncode == 0, (at, done.stderr)
            expected = np.asarray(child[...]).tobytes()
            assert raw.read_bytes() == expected, (
                at,
                child.dtype,
                raw.stat().st_size,
                len(expected),
            )


_ADDED = {"CLASS", "NAME", "DIMENSION_LIST", "_FillValue", "dtype", "_ARRAY_DIMENSIONS"}


def _check_attributes(got: dict[str, Any], given: dict[str, Any]) -> None:
    for name, (shown, value) in zip(
        given, zip(names(given), given.values(), strict=True), strict=True
    ):
        if name not in _ADDED:
            _check_value(got[shown], value)
    assert set(got) - _ADDED <= set(names(given))


def _check_value(got: Any, value: Any) -> None:
    if isinstance(value, str):
        assert got in (value, as_json(value))
    elif isinstance(value, bool | int):
        assert got in (value, str(value))
    elif isinstance(value, float):
        assert got == value or (math.isnan(got) and math.isnan(value))
    elif isinstance(got, str):
        assert got == as_json(value)
    else:
        assert len(got) == len(value)
        for a, b in zip(got, value, strict=True):
            _check_value(a, b)


def _linked(group: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[str]:
    for name, child in group[1].items():
        yield name
        if isinstance(child, tuple):
            yield from _linked(child)


def _check_reads(file: File, copy: Path, data: st.DataObject) -> None:
    """Any range of the virtual file equals the same range of its copy."""
    whole = copy.read_bytes()
    assert len(whole) == file.size
    for _ in range(10):
        start = data.draw(st.integers(0, file.size + 10))
        size = data.draw(st.integers(0, 3000) | st.integers(0, file.size))
        assert file.read(start, size) == whole[start : start + size]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(_GROUP, st.sampled_from([2, 3]), st.booleans(), st.data())
def test_hierarchies(
    node: tuple[dict[str, Any], dict[str, Any]], fmt: int, consolidated: bool, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "s.zarr"
        root = zarr.create_group(path, zarr_format=fmt)
        _write(root, node, fmt)
        if consolidated:
            zarr.consolidate_metadata(path)
        root = zarr.open_group(path, mode="r", use_consolidated=False)
        with tree(path, string_bytes=_MOST_BYTES) as opened:
            group = opened.resolve("").node  # type: ignore[union-attr]
            layout = data.draw(_LAYOUTS)
            file = hdf5.group_file(group, layout)
            copy = materialise(file, Path(folder) / "copy.h5")
            _check_reads(file, copy, data)
            with h5py.File(copy) as h5:
                _check(h5, root, True)
            with h5py.File(Seekable(SlotFile(group, layout))) as h5:
                _check(h5, root, False)
            if layout == hdf5.Layout() and set(_linked(node)).isdisjoint({"s.h5"}):
                assert resolve(opened, "s.h5").size == file.size
        done = subprocess.run(["h5dump", copy], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        _check_h5dump(copy, root, "")
