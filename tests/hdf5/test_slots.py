"""Files of groups too large to read at once: fixed slots."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.support import Seekable, resolve, tree
from znfs.errors import Stale, StoreError
from znfs.node import File
from znfs.tree import Tree
from znfs.views import hdf5
from znfs.views.hdf5 import slots

_COUNT = 1200


def _array(path: Path, values: np.ndarray[Any, Any], shape: list[int] | None = None) -> None:
    path.mkdir(parents=True)
    document = {
        "zarr_format": 2, "shape": shape or list(values.shape), "chunks": list(values.shape),
        "dtype": values.dtype.str, "compressor": None, "filters": None, "fill_value": 0,
        "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(document))
    (path / ".".join("0" * values.ndim)).write_bytes(values.tobytes())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A group of many arrays, a nested group, and children that cannot be shown."""
    root = tmp_path / "s.zarr"
    for path in (root, root / "z group", root / "z group" / "inner"):
        path.mkdir(parents=True)
        (path / ".zgroup").write_text('{"zarr_format": 2}')
    (root / ".zattrs").write_text('{"title": "many"}')
    for i in range(_COUNT):
        _array(root / f"a{i}", np.full((3, 4), i, "i4"))
    _array(root / "z group" / "inner" / "x", np.arange(6, dtype="u1"))
    _array(root / "z huge", np.full((64, 64, 64), 7, "u1"), [1 << 20, 1 << 20, 1 << 20])
    (root / "z bad").mkdir()
    (root / "z bad" / ".zarray").write_text("{}")
    return root


def _children_read(opened: Tree) -> set[str]:
    return {path for path, seen in opened._hierarchy._sightings._seen.items() if path and seen.node}


def test_a_child_whose_name_is_too_long_for_netcdf(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "walk", lambda group: None)
    document = (store / "a0" / ".zarray").read_bytes()
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr(".zgroup", '{"zarr_format": 2}')
        for name in ("b", "n" * 255, "n" * 256):
            archive.writestr(f"{name}/.zarray", document)
    with tree(f"zip::{tmp_path}/s.zip") as opened:
        name = next(n for n in opened.resolve("").names() if n.endswith(".h5"))  # type: ignore[union-attr]
        with h5py.File(Seekable(resolve(opened, name))) as file:
            assert set(file) == {"b", "n" * 255}
        said = "\n".join(next(opened.describe()).remarks)
    assert "... is left out: the name is longer than 255 bytes" in said


def test_children_are_read_when_their_slot_is(store: Path) -> None:
    with tree(store, ttl=100.0) as opened:
        file = resolve(opened, "s.h5")
        assert file.size == 1 << 62
        assert not _children_read(opened)
        with h5py.File(Seekable(file)) as h5:
            assert len(h5) == _COUNT + 3
            assert h5.attrs["title"] == "many"
            assert not _children_read(opened)
            assert (h5["a77"][()] == 77).all()
            assert (h5["a1199"][1, 2:] == 1199).all()
            assert _children_read(opened) == {"a77", "a1199"}
            np.testing.assert_array_equal(h5["z group/inner/x"][()], np.arange(6))
            assert "error" in h5["z bad"].attrs[slots.LEFT_OUT] or h5["z bad"].attrs[slots.LEFT_OUT]
            assert "slot" in h5["z huge"].attrs[slots.LEFT_OUT]
            assert not len(h5["z huge"])


def test_bytes_do_not_depend_on_the_order_of_access(store: Path) -> None:
    places = [k << 51 for k in range(0, 1 << 11, 97)] + [0, 4096]
    with tree(store) as opened:
        one = resolve(opened, "s.h5")
        forward = [one.read(at, 5000) for at in places]
    with tree(store) as opened:
        two = resolve(opened, "s.h5")
        backward = [two.read(at, 5000) for at in reversed(places)]
    assert forward == backward[::-1]


def test_small_hierarchies_in_slots_read_the_same(store: Path) -> None:
    with tree(store) as opened:
        group = opened.resolve("z group").node  # type: ignore[union-attr]
        exact = hdf5.group_file(group)
        lazy = slots.SlotFile(group, hdf5.Layout())
        assert exact.size < 1 << 20
        assert lazy.size == 1 << 62
        for file in (exact, lazy):
            with h5py.File(Seekable(file)) as h5:
                np.testing.assert_array_equal(h5["inner/x"][()], np.arange(6))


def test_remarks_say_what_a_slot_holds(store: Path) -> None:
    with tree(store) as opened:
        remarks = next(opened.describe()).remarks
    assert any("fixed slots" in text and "2^51" in text for text in remarks)
    left_out = [text for text in remarks if "left out:" in text]
    assert len(left_out) == 2
    assert "z bad is left out: " in left_out[0]
    assert "z huge is left out: larger than its slot" in left_out[1]


def _reshape(path: Path, shape: list[int]) -> None:
    document = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(document | {"shape": shape}))


def test_a_changed_child_changes_the_version(store: Path) -> None:
    with tree(store, ttl=0.0) as opened:
        group = opened.resolve("").node  # type: ignore[union-attr]
        file = slots.SlotFile(group, hdf5.Layout())
        before = file.version
        with h5py.File(Seekable(file)) as h5:
            assert (h5["a5"][()] == 5).all()
        _reshape(store / "a5", [2, 2])
        region = next(e for e in file._extents if isinstance(e, slots._Slots))
        region._open.cache_clear()
        at = region._names.index("a5") << region._bits
        with pytest.raises(Stale):
            region.read_into(at, memoryview(bytearray(100)))
        assert file.version != before
        with h5py.File(Seekable(file)) as h5:
            assert h5["a5"].shape == (2, 2)


def _again(opened: Tree) -> File:
    """The file, looked at after the time for which it is taken as it was."""
    opened._files["s.h5"] = replace(opened._files["s.h5"], until=0.0)
    return resolve(opened, "s.h5")


def test_changes_of_children_that_were_read_are_seen(store: Path) -> None:
    """Whether they are arrays, groups or none of these."""
    with tree(store, ttl=0.0) as opened:
        file = resolve(opened, "s.h5")
        with h5py.File(Seekable(file)) as h5:
            assert h5["a5"].shape == h5["a6"].shape == (3, 4)
            assert h5["z group/inner/x"].shape == (6,)
            assert slots.LEFT_OUT in h5["z bad"].attrs
        versions = [file.version]
        assert _again(opened) is file
        assert file.version == versions[0]
        _reshape(store / "a7", [5, 5])  # nobody has read that
        assert _again(opened).version == versions[0]

        def seen(path: str, *shape: int, **attributes: str) -> None:
            found = _again(opened)
            versions.append(found.version)
            with h5py.File(Seekable(found)) as h5:
                assert h5[path].shape == shape
                assert dict(h5[path].attrs) == attributes
                assert h5["a6"].shape == (3, 4)

        _reshape(store / "a5", [2, 2])
        seen("a5", 2, 2)
        (store / "a5" / ".zattrs").write_text('{"units": "K"}')
        seen("a5", 2, 2, units="K")
        _reshape(store / "z group" / "inner" / "x", [4])
        seen("z group/inner/x", 4)
        (store / "z bad" / ".zarray").write_text((store / "a9" / ".zarray").read_text())
        seen("z bad", 3, 4)
        _array(store / "z group" / "y", np.zeros(2, "u1"))
        opened._hierarchy._listings.forget()
        seen("z group/y", 2)
        _array(store / "z new", np.zeros(3, "u1"))
        opened._hierarchy._listings.forget()
        seen("z new", 3)
        shutil.rmtree(store / "z new")
        opened._hierarchy._listings.forget()
        seen("a5", 2, 2, units="K")
        assert len(set(versions)) == len(versions)
        assert resolve(opened, "s.h5").size == 1 << 62


def test_changes_are_seen_though_the_file_was_forgotten_by_the_tree(store: Path) -> None:
    """`find` over many files drives it out of what the tree knows."""
    with tree(store, ttl=0.0) as opened:
        before = resolve(opened, "s.h5")
        with h5py.File(Seekable(before)) as h5:
            assert (h5["a5"][()] == 5).all()
        version = before.version
        opened._files.clear()
        assert resolve(opened, "s.h5").version == version
        _reshape(store / "a5", [2, 2])
        opened._files.clear()
        after = resolve(opened, "s.h5")
        assert after.version != version
        with h5py.File(Seekable(after)) as h5:
            assert h5["a5"].shape == (2, 2)


def test_a_refresh_is_a_look_at_the_children_that_were_read(store: Path) -> None:
    with tree(store, ttl=1000.0) as opened:
        file = resolve(opened, "s.h5")
        version = file.version
        with h5py.File(Seekable(file)) as h5:
            assert h5["a5"].shape == (3, 4)
        opened.refresh()
        assert resolve(opened, "s.h5").version == version
        _reshape(store / "a5", [2, 2])
        assert resolve(opened, "s.h5").version == version  # nobody has looked
        opened.refresh()
        assert resolve(opened, "s.h5").version != version
        with h5py.File(Seekable(resolve(opened, "s.h5"))) as h5:
            assert h5["a5"].shape == (2, 2)


def test_a_store_that_does_not_answer_changes_nothing(store: Path, monkeypatch: Any) -> None:
    with tree(store, ttl=0.0) as opened:
        file = resolve(opened, "s.h5")
        version = file.version
        with h5py.File(Seekable(file)) as h5:
            assert h5["a5"].shape == (3, 4)

        def fail(path: str, **more: Any) -> None:
            raise StoreError(path)

        monkeypatch.setattr(opened._hierarchy, "node", fail)
        file._read.look()  # type: ignore[attr-defined]
        assert file._read.changes == 0  # type: ignore[attr-defined]
        assert file.version == version


def test_of_the_names_below_a_child_only_a_digest_is_kept(store: Path) -> None:
    inside = store / "z group" / "inner"
    for i in range(100):
        _array(inside / f"{i:03}{'x' * 100}", np.zeros(1, "u1"))
    with tree(store, ttl=0.0) as opened:
        group = opened.resolve("z group").node  # type: ignore[union-attr]
        file = slots.SlotFile(group, hdf5.Layout())
        region = next(e for e in file._extents if isinstance(e, slots._Slots))
        region.read_into(0, memoryview(bytearray(100)))
        assert len(file._read._versions["z group", "inner"][1]) < 200
        shutil.rmtree(inside / f"007{'x' * 100}")  # yet it tells when they change
        opened._hierarchy._listings.forget()
        region._open.cache_clear()
        with pytest.raises(Stale):
            region.read_into(0, memoryview(bytearray(100)))
