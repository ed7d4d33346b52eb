"""Groups of 20,000 arrays: what is read, and how often, for their files to be opened."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.hdf5.support import Seekable, resolve, tree
from tests.memory_store import MemoryStore
from znfs.arrays.array import Group
from znfs.cache import BlockCache
from znfs.hierarchy import Hierarchy
from znfs.node import File
from znfs.views import hdf5

_MANY = 20_000


def _array(number: int, **more: object) -> dict[str, object]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": [2, 3], "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {"number": number}, **more,
    }  # fmt: skip


def _group(consolidated: dict[str, object] | None = None) -> dict[str, object]:
    out: dict[str, object] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    if consolidated is not None:
        out["consolidated_metadata"] = {
            "kind": "inline", "must_understand": False, "metadata": consolidated,
        }  # fmt: skip
    return out


def _store(nodes: dict[str, dict[str, object]]) -> MemoryStore:
    objects = {f"{path}/zarr.json".lstrip("/"): node for path, node in nodes.items()}
    return MemoryStore({key: json.dumps(node).encode() for key, node in objects.items()})


def _root(store: MemoryStore) -> Group:
    root = Hierarchy(store, BlockCache(1 << 20), root_name="r", ttl=100.0).node("")
    assert isinstance(root, Group)
    return root


def test_a_distant_group_reads_what_the_reader_asks_for() -> None:
    nodes = {f"a{i}": _array(i) for i in range(_MANY)}
    store = _store({"": _group(), **nodes})
    for i in (0, 12_345):
        store.put(f"a{i}/c/0/0", np.full((2, 3), i, "<i4").tobytes())
    root = _root(store)
    assert not hdf5.is_netcdf(root)
    file = hdf5.group_file(root)
    with h5py.File(Seekable(file)) as h5:
        assert len(h5) == _MANY
        assert {key.split("/")[0] for key in store.gets if store.gets[key]} <= {
            "zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "attributes.json",
        }  # fmt: skip
        assert store.lists == {"": 1}
        store.gets.clear()
        assert (h5["a12345"][()] == 12_345).all()
        assert h5["a77"].attrs["number"] == 77
    assert store.gets == {"a12345/zarr.json": 1, "a77/zarr.json": 1, "a12345/c/0/0": 1}


def test_consolidated_metadata_is_planned_once() -> None:
    nodes = {f"a{i}": _array(i) for i in range(_MANY)}
    store = _store({"": _group(nodes), "a17": nodes["a17"]})
    store.put("a17/c/0/0", np.full((2, 3), 17, "<i4").tobytes())
    root = _root(store)
    store.gets.clear()
    file = hdf5.group_file(root)
    assert file is hdf5.group_file(root)
    assert not store.gets
    with h5py.File(Seekable(file)) as h5:
        assert len(h5) == _MANY
        assert (h5["a17"][()] == 17).all()
        assert h5["a19999"].attrs["number"] == 19_999
    assert file.size < 1 << 30


def test_many_who_ask_at_once_have_it_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    root = _root(_store({"": _group({f"a{i}": _array(i) for i in range(2_000)})}))
    planned, looked_through = [], []
    build, below = hdf5.build_group, hdf5.arrays_below
    monkeypatch.setattr(hdf5, "build_group", lambda *of: planned.append(of) or build(*of))
    monkeypatch.setattr(hdf5, "arrays_below", lambda of: looked_through.append(of) or below(of))
    together = threading.Barrier(8)

    def ask(_: int) -> tuple[File, bool]:
        together.wait()
        named = hdf5.is_netcdf(root)
        together.wait()
        return hdf5.group_file(root), named

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(8)))
    assert len(answers) == len(planned) == len(looked_through) == 1


def test_names_of_dimensions_are_looked_for_until_found(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {f"a{i:04}": _array(i, dimension_names=["y", "x"]) for i in range(2_000)}
    nodes["a0000"] = _array(0)
    root = _root(_store({"": _group(nodes)}))
    asked: list[str] = []
    child = root.child
    monkeypatch.setattr(root, "child", lambda name: asked.append(name) or child(name))
    assert hdf5.is_netcdf(root)
    assert hdf5.is_netcdf(root)
    assert asked == ["a0000", "a0001"]


def test_a_group_below_consolidated_metadata_is_exact(tmp_path: Path) -> None:
    inner = {f"g/a{i}": _array(i) for i in range(1_100)}
    nodes = {"g": _group(), **inner}
    for path, node in {"": _group(nodes), **nodes}.items():
        (tmp_path / "s.zarr" / path).mkdir()
        (tmp_path / "s.zarr" / path / "zarr.json").write_text(json.dumps(node))
    with tree(tmp_path / "s.zarr", ttl=0.0) as opened:
        file = resolve(opened, "g/g.h5")
        assert file.size < 1 << 30
        assert resolve(opened, "g/g.h5") is file
        document = json.loads((tmp_path / "s.zarr" / "zarr.json").read_text())
        changed = document["consolidated_metadata"]["metadata"]["g/a5"]
        changed["attributes"]["number"] = 55
        (tmp_path / "s.zarr" / "zarr.json").write_text(json.dumps(document))
        with h5py.File(Seekable(resolve(opened, "g/g.h5"))) as h5:
            assert h5["a5"].attrs["number"] == 55
