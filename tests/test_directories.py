"""What directories show of distant stores, and what they ask for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.memory_store import MemoryStore
from tests.test_hierarchy import (
    GROUP_V2,
    array_v2,
    array_v3,
    consolidated_v2,
    deny_list,
    group_v3,
    hierarchy,
)
from znfs.errors import StoreError
from znfs.node import File, Kind, Node
from znfs.options import Options
from znfs.tree.directories import NodeDir, Shown


def root(store: MemoryStore, **more: Any) -> NodeDir:
    h = hierarchy(store, ttl=60, **more)
    node = h.node("")
    assert node is not None
    return NodeDir(Shown(h, Options()), node)


def at(node: Node, path: str) -> Node | None:
    """What is at `path` below a directory."""
    found: Node | None = node
    for part in path.split("/"):
        found = None if found is None or isinstance(found, File) else found.lookup(part)
    return found


def read(node: Node, path: str) -> bytes | None:
    file = at(node, path)
    return file.read(0, file.size) if isinstance(file, File) else None


def n5_array(*shape: int) -> bytes:
    """An array of one-byte blocks."""
    ones = [1] * len(shape)
    return json.dumps({"dimensions": shape, "blockSize": ones, "dataType": "uint8"}).encode()


FLAT = {"name": "default", "configuration": {"separator": "."}}


@pytest.mark.parametrize(
    "documents",
    [{"attributes.json": n5_array(4)}, {"zarr.json": array_v3((8,), chunk_key_encoding=FLAT)}],
    ids=["N5", "zarr3"],
)
def test_chunks_in_the_folder_of_a_distant_array_are_not_listed(documents):
    """To know its other objects all chunks would be listed; so these are looked up."""
    others = {"child/attributes.json": n5_array(2), "README": b"hello", "root.npy": b"mine"}
    store = MemoryStore({**documents, **others, "0": b"x", "c.0": b"x"})
    found = root(store)
    assert set(found.names()) == {".znfs", "chunks", "root.npy", "root.h5", *documents}
    assert read(found, "README") == b"hello"
    view = at(found, "root.npy")
    assert isinstance(view, File)
    assert not view.stored
    assert isinstance(at(found, "child"), NodeDir)
    assert "" not in store.lists


@pytest.mark.parametrize(
    ("documents", "chunks"),
    [
        ({"attributes.json": n5_array(2, 2)}, ("0/1", "7/0", "1/9")),
        ({"zarr.json": array_v3((4, 4), (2, 2))}, ("c/0/1", "c/7/0", "c/1/9")),
        ({"zarr.json": array_v3((4, 4), (2, 2), chunk_key_encoding=FLAT)}, ("c.0.1", "c.7.0")),
    ],
    ids=["N5", "zarr3", "flat"],
)
def test_every_key_of_a_distant_array_reads_raw(documents, chunks):
    """Those beyond the array's grid, too, and what else is among them. No chunk is listed."""
    among = chunks[0].rpartition("/")[0] or "more"
    others = [f"{among}/README", f"{among}/more/deep/x", f"{among}/attributes.json"]
    store = MemoryStore(documents | {key: key.encode() for key in (*chunks, *others)})
    found = root(store)
    for key in (*chunks, *others):
        assert read(found, key) == key.encode()
    for key in (*chunks, among):
        for absent in (f"{key}1", f"{key}/none", f"{key}/none/x"):
            assert read(found, absent) is None
    assert not store.lists.keys() & {key.rpartition("/")[0] for key in chunks}


def remarks(node: Node | None) -> list[str]:
    assert isinstance(node, NodeDir)
    return [r for r in node.views_and_remarks()[1] if "listed" in r]


@pytest.mark.parametrize("path", ["plain", "group", "array", "bad"])
def test_segments_that_are_no_names_are_told(path):
    """Keys of S3 may have empty segments and dots."""
    documents = {"group": group_v3(), "array": array_v3(), "bad": b"{"}
    store = MemoryStore({f"{name}/zarr.json": data for name, data in documents.items()})
    store.objects.update(dict.fromkeys((f"{path}//y", f"{path}/./z", f"{path}/../w"), b""))
    found = at(root(store), path)
    assert remarks(found) == [f"{name!r} cannot be listed" for name in ("", ".", "..")]
    for name in ("", ".", ".."):
        assert at(root(store), f"{path}/{name}") is None


def test_what_is_named_as_chunks_beyond_the_grid_is_told():
    keys = [f"{i}/attributes.json" for i in (1, 7, 8, 9, 10)]
    store = MemoryStore({"attributes.json": n5_array(2, 2), **dict.fromkeys(keys, n5_array(2))})
    found = root(store)
    assert not {"1", "7"} & set(found.names())
    assert remarks(found) == [
        "not listed, for chunks beyond the array's shape are named so: '10', '7', '8', …"
    ]


def test_chunks_of_an_unreadable_array_are_not_listed():
    document = array_v3(codecs=[{"name": "new"}])
    store = MemoryStore({"zarr.json": document, "README": b"hello", "c/0": b"x"})
    found = root(store)
    assert list(found.names()) == [".znfs", "zarr.json"]
    assert remarks(found) == []
    assert not store.lists
    assert (read(found, "README"), read(found, "c/0")) == (b"hello", b"x")


def test_a_child_that_cannot_be_read_hides_no_other():
    """A group's files need all of it: who looks at those has the error, and who lists them not."""
    store = MemoryStore({
        "zarr.json": group_v3(), "a/zarr.json": array_v3(), "a/c/0": b"\1\2", "b/zarr.json": b"",
    })  # fmt: skip

    def fail(key: str) -> None:
        if key.startswith("b/"):
            raise StoreError(f"{key}: 500")

    store.fail = fail
    directory = root(store)
    assert {"a", "b", "root.h5", "root.nc", "zarr.json"} <= set(directory.names())
    assert read(directory, "a/c/0") == b"\1\2"
    for name in ("b", "root.h5", "root.nc"):
        with pytest.raises(StoreError, match=r"b/.*: 500"):
            directory.lookup(name)
    views, remarks = directory.views_and_remarks()
    assert not views
    assert [remark for remark in remarks if "root.h5, root.nc: b/" in remark]


def test_what_is_listed_is_found_and_of_its_kind():
    """Whatever hides what, and whatever has two names."""
    store = MemoryStore(
        {
            "zarr.json": group_v3(),
            "a/zarr.json": array_v3((8,)),
            "a/README": b"hello",
            "a/more/x": b"y",
            "a/chunks/x": b"hides the view",
            "a/a.npy": b"hides the view",
            "plain/x": b"y",
            "both": b"an object",
            "both/x": b"and what is below it",
            "root.h5/x": b"hides the view",
            "broken/zarr.json": b"{}",
            "broken/README": b"hello",
            ".znfs": b"hides the daemon's",
        }
    )
    waiting = [root(store)]
    seen = 0
    while waiting:
        folder = waiting.pop()
        entries = list(folder.entries())
        assert [name for name, _ in entries] == list(folder.names())
        assert entries[1:] == list(folder.entries(1))
        for name, kind in entries:
            found = folder.lookup(name)
            assert found is not None, name
            assert kind is (Kind.FILE if isinstance(found, File) else Kind.DIRECTORY), name
            if not isinstance(found, File):
                waiting.append(found)
            seen += 1
    assert seen == 19


def below_consolidated(array: bytes) -> MemoryStore:
    """A store of which some documents are in the consolidated metadata alone."""
    told = {
        ".zgroup": GROUP_V2, "a/.zarray": array, "a/.zattrs": b"{}", "b/.zarray": array,
        "b/.zattrs": b'{"x":1}', "c/.zarray": array, "g/.zgroup": GROUP_V2, "g/.zattrs": b"{}",
    }  # fmt: skip
    stored = {".zgroup", "a/.zarray", "b/.zarray", "b/.zattrs", "g/.zattrs"}
    objects = {key: data for key, data in told.items() if key in stored}
    return MemoryStore({".zmetadata": consolidated_v2(told), **objects})


def listed_documents(found: NodeDir, path: str) -> set[str]:
    folder = at(found, path)
    assert isinstance(folder, NodeDir)
    return {name for name in folder.names() if name.startswith(".z")}


@pytest.mark.parametrize(
    ("local", "shape"),
    [(True, (4,)), (True, (40_000,)), (True, (4, 4)), (False, (4, 4))],
    ids=["few chunks", "many", "nested", "distant"],
)
def test_documents_that_only_consolidated_metadata_has_are_not_listed(local, shape):
    """They could not be looked up. To know it costs no request."""
    store = below_consolidated(array_v2(shape, dimension_separator="/" if shape[1:] else "."))
    store.local = local
    found = root(store)
    want = {"a": {".zarray"}, "b": {".zarray", ".zattrs"}, "c": set(), "g": {".zattrs"}}
    assert {path: listed_documents(found, path) for path in want} == want
    assert local or not store.stats
    assert store.gets.keys().isdisjoint(f"{path}/.zarray" for path in want)
    assert read(found, "g/.zattrs") == b"{}"
    assert at(found, "c/.zarray") is None


@pytest.mark.parametrize("lists", [True, False])
def test_an_empty_zattrs_is_not_listed_where_nothing_tells_that_it_is_stored(lists):
    """Others of consolidated metadata are; what is stored reads."""
    store = below_consolidated(array_v2())
    store.objects["a/.zattrs"] = b"{ }"
    if not lists:
        store.list = deny_list
    found = root(store)
    assert listed_documents(found, "a") == {".zarray"}
    assert listed_documents(found, "b") == {".zarray", ".zattrs"}
    assert not store.stats
    assert read(found, "a/.zattrs") == b"{ }"
