"""Nodes, versions, and what an absent chunk means, over a store that counts and fails."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf

import numpy as np
import pytest

from tests.memory_store import MemoryStore
from tests.waiting import Clock
from znfs import deadline
from znfs.arrays.array import Array, Group
from znfs.cache import BlockCache
from znfs.errors import Denied, NotListable, Stale, StoreError, Unanswered
from znfs.hierarchy import Hierarchy, Prefix, Unreadable
from znfs.hierarchy.listings import Listings
from znfs.stores.base import Stat, Store
from znfs.stores.watched import WatchedStore


def array_v3(shape=(4,), chunks=(2,), **more) -> bytes:
    return json.dumps(
        {
            "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "chunk_key_encoding": {"name": "default"}, "fill_value": 9,
            "codecs": [{"name": "bytes"}], **more,
        }
    ).encode()  # fmt: skip


def array_v2(shape=(4,), **more) -> bytes:
    return json.dumps(
        {
            "zarr_format": 2, "shape": shape, "chunks": [2] * len(shape), "dtype": "|u1",
            "fill_value": 9, "compressor": None, "filters": None, "order": "C", **more,
        }
    ).encode()  # fmt: skip


def consolidated_v2(documents: dict[str, bytes]) -> bytes:
    metadata = {key: json.loads(data) for key, data in documents.items()}
    return json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}).encode()


def group_v3(**more) -> bytes:
    return json.dumps({"zarr_format": 3, "node_type": "group", **more}).encode()


def hierarchy(store: Store, ttl: float = 0.0, **more) -> Hierarchy:
    return Hierarchy(store, BlockCache(1 << 20, 1), root_name="root", ttl=ttl, **more)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(
        {
            "zarr.json": group_v3(),
            "a/zarr.json": array_v3(),
            "a/c/0": b"\1\2",
            "README": b"hello",
            "plain/x/zarr.json": array_v3(),
        }
    )


def test_no_thread_to_be_had(store, monkeypatch):
    """A limit of processes: then documents and listings are asked for by who wants them."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    h = hierarchy(store)
    assert isinstance(h.node("a"), Array)
    assert isinstance(h.node("plain"), Prefix)
    assert h.children("plain") == ["x"]
    h.close()


def test_kinds_of_nodes(store):
    h = hierarchy(store)
    assert isinstance(h.node(""), Group)
    assert isinstance(h.node("a"), Array)
    assert isinstance(h.node("plain"), Prefix)
    assert isinstance(h.node("plain/x"), Array)
    assert h.node("README") is None
    assert h.node("nothing") is None
    assert h.node("nothing/below") is None
    assert h.children("") == ["a", "plain"]
    assert h.node("").child("a") is h.node("a")
    assert h.node("").child("plain") is None


def test_metadata_is_read_once_within_the_ttl(store):
    h = hierarchy(store, ttl=60)
    for _ in range(5):
        h.node("a")
    assert store.gets["a/zarr.json"] == 1


def test_a_name_that_the_listing_lacks_costs_no_request(store):
    h = hierarchy(store, ttl=60)
    h.node("")
    h.node("nothing")
    before = sum(store.gets.values()) + sum(store.lists.values())
    h.node("nothing else")
    assert sum(store.gets.values()) + sum(store.lists.values()) == before


@pytest.mark.parametrize("change", ["content", "only the ETag"])
def test_a_changed_document_is_a_new_node(store, change):
    h = hierarchy(store)
    old = h.node("a")
    assert h.node("a") is old
    same = store.objects["a/zarr.json"]
    store.put("a/zarr.json", array_v3((8,)) if change == "content" else same)
    new = h.node("a")
    assert new is not old
    assert new.version != old.version


def test_a_higher_format_that_appears_takes_over():
    store = MemoryStore({".zarray": array_v2()})
    h = hierarchy(store)
    assert h.node("").meta.format == "zarr2"
    store.put("zarr.json", array_v3())
    assert h.node("").meta.format == "zarr3"


GROUP_V2 = b'{"zarr_format": 2}'
GROUPS = {
    "zarr3": {"zarr.json": group_v3()}, "zarr2": {".zgroup": GROUP_V2},
    "n5": {"attributes.json": b"{}"},
}  # fmt: skip
OF_V2 = {"zarr.json", ".zarray", ".zgroup", ".zattrs"}


@pytest.mark.parametrize(
    ("above", "document", "data", "asked"),
    [
        ("zarr3", "zarr.json", array_v3(), {"zarr.json"}),
        ("zarr2", "zarr.json", array_v3(), OF_V2),
        ("zarr2", ".zarray", array_v2(), OF_V2),
        ("zarr2", ".zgroup", GROUP_V2, {*OF_V2, ".zmetadata"}),
        ("n5", "attributes.json", b"{}", {"zarr.json", ".zarray", ".zgroup", "attributes.json"}),
        ("n5", ".zarray", array_v2(), {*OF_V2, "attributes.json"}),
        ("n5", ".zgroup", GROUP_V2, {*OF_V2, ".zmetadata", "attributes.json"}),
    ],
)
def test_documents_that_are_asked_for_below_a_group(above, document, data, asked):
    store = MemoryStore({**GROUPS[above], f"a/{document}": data})
    assert isinstance(hierarchy(store, ttl=60).node("a"), Array | Group)
    assert {k: n for k, n in store.gets.items() if k.startswith("a/")} == {
        f"a/{name}": 1 for name in asked
    }


@pytest.mark.parametrize("above", GROUPS)
@pytest.mark.parametrize(("document", "data"), [(".zarray", array_v2()), (".zgroup", GROUP_V2)])
def test_attributes_of_v2_are_read_below_any_group(above, document, data):
    """They may say that it is an image."""
    below = {f"a/{document}": data, "a/.zattrs": b'{"lens": "60x"}'}
    store = MemoryStore(GROUPS[above] | below)
    h = hierarchy(store)
    old = h.node("a")
    assert old.meta.attributes == {"lens": "60x"}
    assert ".zattrs" in h.documents("a")
    store.put("a/.zattrs", b'{"lens": "63x"}')
    assert h.node("a").meta.attributes == {"lens": "63x"}
    assert h.node("a").version != old.version


@pytest.mark.parametrize("above", GROUPS)
@pytest.mark.parametrize("fmt", [2, 3])
def test_consolidated_metadata_is_read_below_any_group(above, fmt):
    if fmt == 2:
        known = consolidated_v2({"b/.zarray": array_v2()})
        below = {"a/.zgroup": GROUP_V2, "a/.zmetadata": known}
    else:
        known = {"metadata": {"b": json.loads(array_v3())}}
        below = {"a/zarr.json": group_v3(consolidated_metadata=known)}
    store = MemoryStore(GROUPS[above] | below)
    store.list = deny_list
    h = hierarchy(store, ttl=60)
    assert h.children("a") == ["b"]
    assert isinstance(h.node("a/b"), Array)


def test_a_look_that_a_refresh_overtakes_is_taken_again(store):
    image = {"ome": {"multiscales": [{"axes": [{"name": "q"}], "datasets": [{"path": "a"}]}]}}
    store.objects["zarr.json"] = group_v3(attributes=image)
    h = hierarchy(store, ttl=3600)
    version = h.node("a").version
    h.refresh()

    def refresh(key: str) -> None:
        if key == "a/zarr.json":
            store.fail = lambda key: None
            h.refresh()

    store.fail = refresh
    assert h.node("a").version == version  # what the group says of its axes is part of it
    assert h.node("a").meta.axis_names == ("q",)


def test_a_listing_that_a_refresh_overtakes_is_not_kept(store):
    h = hierarchy(store, ttl=3600)
    taken = store.list

    def late(prefix: str):
        entries = list(taken(prefix))
        h.refresh()
        return iter(entries)

    store.list = late
    h._listings.of("")
    store.list = taken
    store.put("new/zarr.json", array_v3())
    assert "new" in h._listings.of("").prefixes


def test_listings_are_remembered_up_to_so_many_names(store, monkeypatch):
    monkeypatch.setattr("znfs.hierarchy.listings._MOST_LISTED", 1000)
    h = hierarchy(store, ttl=3600)
    for folder in range(8):
        for i in range(10 if folder else 2000):
            store.objects[f"{folder}/{i}"] = b""
    for _ in range(2):
        assert len(h._listings.of("0").objects) == 2000  # longer than all that may be kept: alone
    assert store.lists["0"] == 1
    for folder in range(8):
        h._listings.of(str(folder))
    assert len(h._listings._known) <= 3


def test_an_absent_chunk_is_fill_only_while_the_metadata_stands(store):
    h = hierarchy(store, ttl=3600)
    a = h.node("a")
    assert a.block((1,)).tolist() == [9, 9]
    a.cache.clear()
    time_of_confirmation = time.monotonic()
    # The last look is too old to confirm by.
    h._sightings.at("a").checked = time_of_confirmation - 2
    for key in [k for k in store.objects if k.startswith("a/")]:
        del store.objects[key]
    with pytest.raises(Stale):
        a.block((1,))
    with pytest.raises(Stale):
        a.block((0,))


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_store_that_was_away_for_a_moment_is_no_image_of_fill(store, consolidated):
    """However short: the metadata was looked at just before."""
    if consolidated:
        metadata = {"a": json.loads(array_v3())}
        store.put("zarr.json", group_v3(consolidated_metadata={"metadata": metadata}))
    a = hierarchy(store).node("a")
    there = dict(store.objects)
    store.objects.clear()
    said = "not there, only in consolidated metadata" if consolidated else "gone"
    for i in range(2):
        with pytest.raises(Stale, match=rf"a/zarr\.json: {said}"):
            a.block((i,))
    store.objects.update(there)
    assert a.block((0,)).tolist() == [1, 2]
    assert a.block((1,)).tolist() == [9, 9]


def test_an_array_that_its_zmetadata_alone_makes_has_absent_chunks():
    store = MemoryStore({".zmetadata": consolidated_v2({".zarray": array_v2()})})
    a = hierarchy(store, ttl=60).node("")
    assert a.block((0,)).tolist() == [9, 9]
    store.objects.clear()
    with pytest.raises(Stale, match=r"\.zmetadata: gone"):
        a.block((1,))


def test_absent_chunks_wait_for_one_look_together(store):
    h = hierarchy(store, ttl=3600)
    assert isinstance(h.node("a"), Array)
    for looks in (1, 2):
        arrived = time.monotonic()
        seen, confirm = h._sightings.at("a"), h._absence._confirm_own
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda call: call(), [partial(confirm, "a", seen, arrived)] * 32))
        assert store.stats["a/zarr.json"] == looks


def test_a_chunk_that_another_array_lacks_is_no_fill_value_of_this_one(store):
    """Replaced within the second in which a look at its document serves for absent chunks."""
    store.objects |= {"a/zarr.json": array_v3((4,), (2,)), "a/c/0": b"12", "a/c/1": b"34"}
    h = hierarchy(store, ttl=3600)
    a = h.node("a")
    assert bytes(a.block((0,))) == b"12"
    store.put("a/zarr.json", array_v3((4,), (2,), fill_value=7))
    del store.objects["a/c/1"]
    with pytest.raises(Stale):
        a.block((1,))
    assert h.node("a") is not a
    assert bytes(h.node("a").block((1,))) == b"\7\7"


def test_near_by_consolidated_metadata_are_looked_at_anew_for_an_absent_chunk(store):
    """Not as of the last second, as far away: the array's own document may have stayed."""

    def consolidated(**more) -> bytes:
        metadata = {"a": json.loads(array_v3((4,), (2,), **more))}
        return group_v3(consolidated_metadata={"metadata": metadata})

    store.local = True
    store.put("zarr.json", consolidated())
    h = hierarchy(store, ttl=3600)
    a = h.node("a")
    assert a.block((1,)).tolist() == [9, 9]
    a.cache.clear()
    store.put("zarr.json", consolidated(fill_value=7))
    with pytest.raises(Stale):
        a.block((1,))
    assert h.node("a").block((1,)).tolist() == [7, 7]


def test_a_store_whose_stat_tells_another_version_is_read(store, monkeypatch):
    h = hierarchy(store, ttl=3600)
    a = h.node("a")
    monkeypatch.setattr(store, "stat", lambda key: Stat(1, "another", 0.0))
    assert bytes(a.block((1,))) == b"\t\t"
    assert h.node("a") is a


def test_a_sharded_array_that_was_away_for_a_moment_has_its_chunks_again(store):
    index = [{"name": "bytes", "configuration": {"endian": "little"}}]
    codec = {"chunk_shape": (2,), "codecs": [{"name": "bytes"}], "index_codecs": index}
    sharding = {"name": "sharding_indexed", "configuration": codec}
    store.objects["a/zarr.json"] = array_v3((4,), (4,), codecs=[sharding])
    store.objects["a/c/0"] = bytes([1, 2, 3, 4]) + np.array([0, 2, 2, 2], "<u8").tobytes()
    h = hierarchy(store)
    a = h.node("a")
    h._sightings.at("a").checked -= 2  # the last look is too old to confirm by
    there = dict(store.objects)
    store.objects.clear()
    with pytest.raises(Stale):
        a.block((0,))
    store.objects.update(there)
    assert h.node("a").block((0,)).tolist() == [1, 2]


def test_a_confirmation_serves_many_absent_chunks(store):
    store.objects["a/zarr.json"] = array_v3((1000,))
    h = hierarchy(store, ttl=3600)
    a = h.node("a")
    h._sightings.at("a").checked -= 5
    for i in range(1, 200):
        assert a.block((i,)).tolist() == [9, 9]
    assert store.gets["a/zarr.json"] <= 3


def test_a_store_that_fails_keeps_what_is_known_but_confirms_nothing(store):
    h = hierarchy(store)
    a = h.node("a")

    def fail(key: str) -> None:
        raise StoreError("down")

    store.fail = fail
    assert h.node("a") is a
    with pytest.raises(StoreError):
        a.block((0,))
    store.fail = lambda key: None
    assert a.block((0,)).tolist() == [1, 2]


def test_denied_chunks_are_errors_unless_told_otherwise(store):
    def deny(key: str) -> None:
        if "/c/" in key:
            raise Denied(key)

    store.fail = deny
    with pytest.raises(Denied):
        hierarchy(store).node("a").block((0,))
    assert hierarchy(store, missing_403=True).node("a").block((0,)).tolist() == [9, 9]


def deny_list(prefix: str):
    raise NotListable(prefix)


def test_while_probing_403_tries_the_next_document(store):
    def deny(key: str) -> None:
        if not key.endswith("zarr.json"):
            raise Denied(key)

    store.fail = deny
    assert isinstance(hierarchy(store).node("a"), Array)
    del store.objects["a/zarr.json"]
    assert isinstance(hierarchy(store).node("a"), Prefix)  # a listing shows that it is one
    store.list = deny_list
    with pytest.raises(Denied):
        hierarchy(store).node("a")


def test_consolidated_metadata_saves_requests_and_is_not_believed_over_the_store():
    inner = json.loads(array_v3())
    root = group_v3(
        consolidated_metadata={
            "kind": "inline", "must_understand": False,
            "metadata": {"g": json.loads(group_v3()), "g/a": inner},
        }
    )  # fmt: skip
    store = MemoryStore({"zarr.json": root, "g/a/zarr.json": array_v3(), "g/a/c/0": b"\1\2"})
    h = hierarchy(store, ttl=60)
    a = h.node("g/a")
    assert isinstance(a, Array)
    assert h.children("g") == ["a"]
    assert store.gets["g/a/zarr.json"] == 0
    assert a.block((0,)).tolist() == [1, 2]
    assert a.block((1,)).tolist() == [9, 9]
    a.cache.clear()
    assert a.block((1,)).tolist() == [9, 9]
    assert store.gets["zarr.json"] == 1  # which may be long
    assert store.stats == {"g/a/zarr.json": 2}
    h.refresh()
    del store.objects["g/a/zarr.json"]
    a = h.node("g/a")
    with pytest.raises(Stale):
        a.block((1,))


def test_what_consolidated_metadata_said_goes_with_it():
    """A missing chunk has its document read before the others' time is over."""
    def root(shape: int) -> bytes:
        below = {"a": json.loads(array_v3(shape=(shape,))), "b": json.loads(array_v3())}
        return group_v3(consolidated_metadata={"metadata": below})

    store = MemoryStore({"zarr.json": root(4), "b/zarr.json": array_v3(), "b/c/0": b"\1\2"})
    h = hierarchy(store, ttl=3600)
    assert h.node("a").meta.shape == (4,)
    b = h.node("b")
    store.put("zarr.json", root(6))
    store.put("b/zarr.json", array_v3(shape=(5,)))
    for path in ("", "b"):
        h._sightings.at(path).checked = time.monotonic() - 2  # too long ago to confirm by
    with pytest.raises(Stale):
        b.block((1,))
    assert h.node("a").meta.shape == (6,)


def told_axes(given, **array):
    """Names and sizes of the axes of an array of three dimensions below an image of these axes."""
    step = {"type": "scale", "scale": [float(k + 1) for k in range(len(given))]}
    image = {"axes": given, "datasets": [{"path": "a", "coordinateTransformations": [step]}]}
    store = MemoryStore({
        "zarr.json": group_v3(attributes={"ome": {"version": "0.5", "multiscales": [image]}}),
        "a/zarr.json": array_v3((4, 4, 4), (2, 2, 2), **array),
    })  # fmt: skip
    found = hierarchy(store).node("a")
    assert isinstance(found, Array)
    return [(axis.name, axis.scale) for axis in found.meta.axes]


def test_what_a_group_says_of_axes_counts_if_it_fits():
    a, b, c = ({"name": name, "type": "space"} for name in "abc")
    assert told_axes([a, b, c]) == [("a", 1), ("b", 2), ("c", 3)]
    for others in ([a, b], [a, b, c, {"name": "d"}]):
        assert told_axes(others) == [("z", None), ("y", None), ("x", None)]
        named = told_axes(others, dimension_names=["r", "s", "t"])
        assert named == [("r", None), ("s", None), ("t", None)]


@pytest.mark.parametrize("name", ["b", "a/b", "", "x y", "n" * 3 + "\0"])
def test_names_of_axes_that_a_group_says_are_checked_as_others_are(name):
    """They become names of files."""
    given = [{"name": name}, {"name": "b"}, {"name": "c"}]
    assert told_axes(given) == [("z", 1), ("y", 2), ("x", 3)]
    named = told_axes(given, dimension_names=["r", "s", "t"])
    assert named == [("r", 1), ("s", 2), ("t", 3)]


def test_a_store_that_cannot_list_shows_what_metadata_promises():
    ome = {
        "multiscales": [
            {
                "version": "0.4",
                "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
                "datasets": [
                    {
                        "path": "levels/0",
                        "coordinateTransformations": [{"type": "scale", "scale": [2, 3]}],
                    }
                ],
            }
        ]
    }
    store = MemoryStore(
        {"zarr.json": group_v3(attributes=ome), "levels/0/zarr.json": array_v3((4, 4), (2, 2))}
    )

    def cannot(prefix: str):
        raise NotListable(prefix)

    store.list = cannot
    h = hierarchy(store)
    assert isinstance(h.node("levels"), Prefix)
    assert h.children("") == ["levels"]
    assert [a.scale for a in h.node("levels/0").meta.axes] == [2, 3]
    h = hierarchy(store, manifest=["hidden/b"])
    assert h.children("") == ["hidden", "levels"]


def test_n5_folders_are_groups_and_arrays_may_have_children():
    attrs = {"dimensions": [4, 6], "blockSize": [2, 2], "dataType": "uint8",
             "compression": {"type": "raw"}}  # fmt: skip
    store = MemoryStore(
        {
            "attributes.json": b'{"n5": "2.5.1"}',
            "g/a/attributes.json": json.dumps(attrs).encode(),
            "g/a/0/0": b"x",
            "g/a/1/0": b"x",
            "g/a/child/attributes.json": json.dumps(attrs).encode(),
        }
    )
    h = hierarchy(store)
    assert isinstance(h.node("g"), Group)
    assert h.node("g/a").meta.shape == (6, 4)
    assert h.children("g/a") == ["child"]
    assert isinstance(h.node("g/a/child"), Array)


@pytest.mark.parametrize("above", ["g", "a", "plain", "n5", "n5/arr"])
def test_what_a_distant_store_lists_is_there_though_empty(clock, above):
    """S3's folder markers are keys that end in a slash."""
    attrs = {"dimensions": [4, 6], "blockSize": [2, 2], "dataType": "uint8"}
    store = MemoryStore(
        {
            "g/zarr.json": group_v3(), "a/zarr.json": array_v3(), "plain/README": b"",
            "n5/attributes.json": b"{}", "n5/arr/attributes.json": json.dumps(attrs).encode(),
            f"{above}/": b"", f"{above}/empty/": b"",
        }
    )  # fmt: skip
    h = hierarchy(store, ttl=60)
    assert h.children(above) == (["arr", "empty"] if above == "n5" else ["empty"])
    requests = sum(store.lists.values())
    assert isinstance(h.node(f"{above}/empty"), Group if above.startswith("n5") else Prefix)
    assert h.children(f"{above}/empty") == []
    assert sum(store.lists.values()) == requests + 1  # of the folder itself


def test_what_is_gone_is_no_empty_folder(store, clock):
    """The listing that had it may be as old as the ttl."""
    store.objects["other/zarr.json"] = array_v3()
    h = hierarchy(store, ttl=60)
    assert h.children("") == ["a", "other", "plain"]
    clock.now += 30
    gone = {key: data for key, data in store.objects.items() if "/" in key}
    for key in gone:
        del store.objects[key]
    assert all(h.node(name) is None for name in ("a", "other", "plain"))
    assert store.lists[""] == 2  # the names are no longer seen: asked for once


def test_children_of_n5_arrays_have_any_name_that_no_block_has():
    attrs = json.dumps({"dimensions": [4, 6], "blockSize": [2, 2], "dataType": "uint8"}).encode()
    names = ("007", "²", "1.5", "c", "7", "0")
    store = MemoryStore({"attributes.json": attrs, "0/0": b"x"})
    store.objects.update({f"{name}/attributes.json": attrs for name in names})
    h = hierarchy(store)
    assert h.children("") == ["007", "1.5", "c", "²"]
    for name in names:
        assert isinstance(h.node(name), Array) == (name not in "07")


def test_metadata_that_cannot_be_used_is_named():
    h = hierarchy(MemoryStore({"zarr.json": group_v3(), "bad/zarr.json": b"{not JSON"}))
    bad = h.node("bad")
    assert isinstance(bad, Unreadable)
    assert "zarr.json" in bad.reason


@pytest.mark.parametrize("consolidated", [False, True])
def test_attributes_that_make_no_node_hide_nothing_below_them(consolidated):
    """A `.zattrs` without a `.zgroup`, in the store or in consolidated metadata."""
    objects = {".zgroup": b'{"zarr_format": 2}', "s/.zattrs": b"{}", "s/a/.zarray": array_v2()}
    if consolidated:
        objects[".zmetadata"] = consolidated_v2(objects)
    h = hierarchy(MemoryStore(objects))
    assert isinstance(h.node("s"), Prefix)
    assert h.children("s") == ["a"]
    assert isinstance(h.node("s/a"), Array)
    assert h.documents("s") == (".zattrs",)
    if not consolidated:
        h.store.objects = {".zgroup": objects[".zgroup"]}
        h.refresh()
        assert h.node("s") is None


def test_a_listing_that_failed_is_taken_anew():
    store = MemoryStore({"a/zarr.json": array_v3(), "b/zarr.json": array_v3()})
    h, lists = hierarchy(store), store.list

    def fail(prefix):
        raise StoreError("500")

    store.list = fail
    for _ in range(2):
        with pytest.raises(StoreError, match="500"):
            h.children("")
    store.list = lists
    assert h.children("") == ["a", "b"]


def test_refresh_forgets(store):
    h = hierarchy(store, ttl=3600)
    old = h.node("a")
    store.put("a/zarr.json", array_v3((6,)))
    assert h.node("a") is old
    h.refresh()
    assert h.node("a").meta.shape == (6,)


def test_values_through_shards_within_shards():
    zarr = pytest.importorskip("zarr")
    from zarr.storage import MemoryStore as ZarrMemoryStore

    backing: dict = {}
    zs = ZarrMemoryStore(backing)
    data = np.arange(16 * 24, dtype="u2").reshape(16, 24)
    from zarr.codecs import BytesCodec, ShardingCodec

    inner = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec()], index_location="start")
    a = zarr.create_array(
        zs, shape=data.shape, chunks=(8, 8), dtype="u2",
        serializer=ShardingCodec(chunk_shape=(4, 4), codecs=[inner]), compressors=None,
        filters=None, fill_value=3,
    )  # fmt: skip
    a[:12] = data[:12]
    store = MemoryStore({k: v.to_bytes() for k, v in backing.items()})
    node = hierarchy(store).node("")
    assert len(node.meta.shards) == 2
    for i in range(8):
        for j in range(12):
            want = np.asarray(a[2 * i : 2 * i + 2, 2 * j : 2 * j + 2])
            assert (node.block((i, j)) == want).all(), (i, j)


def test_a_shard_rewritten_after_its_index_was_read():
    zarr = pytest.importorskip("zarr")
    from zarr.storage import MemoryStore as ZarrMemoryStore

    def write(data: np.ndarray) -> dict[str, bytes]:
        backing: dict = {}
        a = zarr.create_array(
            ZarrMemoryStore(backing), shape=(8,), chunks=(2,), shards=(8,), dtype="u1",
            compressors=None,
        )  # fmt: skip
        a[:] = data
        return {k: v.to_bytes() for k, v in backing.items()}

    store = MemoryStore(write(np.arange(8)))
    node = hierarchy(store).node("")
    assert node.block((0,)).tolist() == [0, 1]
    half = np.arange(100, 108)
    half[:4] = 0  # two chunks fewer: every offset moves
    store.put("c/0", write(half)["c/0"])
    assert node.block((3,)).tolist() == [106, 107]  # of the new shard, by the new index
    assert store.gets["c/0"] == 5  # index, chunk; chunk refused, index, chunk
    del store.objects["c/0"]
    assert node.block((2,)).tolist() == [0, 0]  # as of any chunk that was removed
    assert list(node._chunks.get_many([(1,), (3,)])) == [((1,), None), ((3,), None)]
    store.put("c/0", write(half)["c/0"])
    h = hierarchy(store)
    node = h.node("")
    node.block((3,))
    store.objects.clear()
    with pytest.raises(Stale):
        node.block((2,))


def test_a_shard_that_is_packed_as_a_whole_is_of_one_version_with_the_indexes_inside():
    zarr = pytest.importorskip("zarr")
    from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec
    from zarr.storage import MemoryStore as ZarrMemoryStore

    def write(data: np.ndarray) -> dict[str, bytes]:
        backing: dict = {}
        inner = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()])
        outer = [ShardingCodec(chunk_shape=(6,), codecs=[inner]), GzipCodec()]
        a = zarr.create(
            (12,), chunks=(12,), dtype="u1", store=ZarrMemoryStore(backing), zarr_format=3,
            codecs=outer,
        )  # fmt: skip
        a[:] = data
        return {k: v.to_bytes() for k, v in backing.items()}

    store = MemoryStore(write(np.arange(1, 13)))
    node = hierarchy(store).node("")
    assert node.block((0,)).tolist() == [1, 2]
    after = np.arange(101, 113)
    after[:2] = 0  # a chunk fewer: offsets move
    store.put("c/0", write(after)["c/0"])
    for key in list(node.cache._values):
        if key[1] == "index" and key[0][1] == 0:  # of the outer shard
            node.cache.forget(key)
    assert node.block((1,)).tolist() == [103, 104]
    assert node.block((2,)).tolist() == [105, 106]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("lookup", "seen", "absence", "listings"):
        monkeypatch.setattr(f"znfs.hierarchy.{module}.time", clock)
    return clock


def fail_for(*keys: str):
    def fail(key: str) -> None:
        if key in keys:
            raise StoreError(f"{key}: 500")

    return fail


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_check_that_failed_confirms_no_absent_chunk(store, clock, consolidated):
    """A node known from before stays, but a chunk that is missing then is no fill value."""
    if consolidated:
        metadata = {"a": json.loads(array_v3())}
        store.put("zarr.json", group_v3(consolidated_metadata={"metadata": metadata}))
    h = hierarchy(store, ttl=5.0)
    array = h.node("a")
    clock.now += 10
    store.fail = fail_for("zarr.json" if consolidated else "a/zarr.json")
    assert h.node("a") is array
    with pytest.raises(StoreError):
        array.block((1,))
    store.fail = lambda key: None
    assert array.block((1,)).tolist() == [9, 9]


def test_a_store_that_fails_is_waited_for_once_in_a_path(clock):
    documents = {"zarr.json": group_v3(), "a/zarr.json": group_v3(), "a/b/zarr.json": array_v3()}
    store = MemoryStore(documents)
    h = hierarchy(store, ttl=5.0)
    known = h.node("a/b")
    clock.now += 10
    store.fail = fail_for(*documents)
    before = dict(store.gets)
    for _ in range(3):
        assert h.node("a/b") is known
    assert {k: n - before[k] for k, n in store.gets.items() if k in documents} == {
        "zarr.json": 1, "a/zarr.json": 0, "a/b/zarr.json": 0,
    }  # fmt: skip
    clock.now += 10
    store.fail = lambda key: None
    h.node("a/b")
    assert store.gets["a/b/zarr.json"] == before["a/b/zarr.json"] + 1


@pytest.mark.parametrize(("took", "spared"), [(3.0, 3.0), (30.0, 5.0)])
def test_a_look_that_failed_is_not_repeated_for_as_long_as_it_took(clock, store, took, spared):
    """And no longer than metadata are believed."""
    h = hierarchy(store, ttl=5.0)

    def fail(key: str) -> None:
        if key == "zarr.json":
            clock.now += took
            raise StoreError(f"{key}: 500")

    store.fail = fail
    with pytest.raises(StoreError, match="500"):
        h.node("a")
    asked = sum(store.gets.values())
    clock.now += spared - 0.1
    for _ in range(2):
        with pytest.raises(StoreError, match="500"):
            h.node("a")
    assert sum(store.gets.values()) == asked
    clock.now += 0.2
    store.fail = lambda key: None
    assert isinstance(h.node("a"), Array)


def test_a_path_may_have_any_number_of_parts():
    depth = 3000
    inner = {"/".join("a" * n): json.loads(group_v3()) for n in (1, depth)}
    root = group_v3(consolidated_metadata={"kind": "inline", "metadata": inner})
    h = hierarchy(MemoryStore({"zarr.json": root}))
    assert isinstance(h.node("/".join("a" * depth)), Group)
    assert h.node("/".join("b" * depth)) is None


def test_what_a_group_says_of_its_levels_survives_its_being_forgotten(store, monkeypatch):
    """The group of an array may fall out of the nodes remembered before the array does."""
    axes = [{"name": n, "type": "space"} for n in ("v", "w")]
    images = [{"version": "0.4", "axes": axes, "datasets": [{"path": "sub/level"}]}]
    store.put("img/zarr.json", group_v3(attributes={"multiscales": images}))
    store.put("img/sub/zarr.json", group_v3())
    store.put("img/sub/level/zarr.json", array_v3(shape=(4, 4), chunks=(2, 2)))
    h = hierarchy(store, ttl=60.0)
    before = h.node("img/sub/level")
    assert [axis.name for axis in before.meta.axes] == ["v", "w"]
    with h._sightings._lock:
        del h._sightings._seen["img"]
        del h._sightings._seen["img/sub/level"]
    again = h.node("img/sub/level")
    assert again.version == before.version
    assert [axis.name for axis in again.meta.axes] == ["v", "w"]


def test_a_listing_that_takes_too_long_is_there_next_time(store):
    ready, asked = threading.Event(), []
    names = store.list

    def slow(prefix):
        asked.append(prefix)
        ready.wait(10)
        yield from names(prefix)

    store.list = slow
    h = hierarchy(store, ttl=60.0)
    deadline.begin(0.05)
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="goes on"):
                h._listings.of("")
    finally:
        deadline.begin(inf)
    ready.set()
    assert h._listings.of("").prefixes
    assert asked == [""]
    h.close()


def test_a_look_that_hangs_keeps_no_other_path_waiting(store):
    hung, go = threading.Event(), threading.Event()
    others = {f"b{i}": array_v3() for i in range(200)}
    store.objects.update({f"{name}/zarr.json": data for name, data in others.items()})
    h = hierarchy(store, ttl=60.0)
    assert isinstance(h.node(""), Group)

    def hang(key: str) -> None:
        if key == "a/zarr.json":
            hung.set()
            go.wait(60)

    store.fail = hang
    looking = threading.Thread(target=h.node, args=("a",))
    looking.start()
    assert hung.wait(60)
    deadline.begin(1.0)
    try:
        assert all(isinstance(h.node(name), Array) for name in others)
        with pytest.raises(StoreError, match="another look at it"):
            h.node("a")
    finally:
        deadline.begin(inf)
        go.set()
        looking.join()
    assert not h._sightings._looking  # of paths that nobody looks at there are no locks
    h.close()


class Watching:
    """In place of a lock: `look` is called whenever it is let go of."""

    def __init__(self, look) -> None:
        self._look = look
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._look()
        self._lock.release()


def test_a_listing_is_under_way_until_it_is_known(store):
    """Else who comes in between takes it anew."""
    listings, found = Listings(store, 60.0), []

    def look() -> None:
        found.append(bool(listings._under_way) or "" in listings._known)

    listings._lock = Watching(look)
    assert listings.of("").prefixes
    assert listings.of("").prefixes
    assert found == [True] * 3  # begun, ended, asked for again
    assert not listings._under_way
    listings.close()


def test_an_absent_chunk_and_its_confirmation_have_one_deadline(store, clock, monkeypatch):
    """404 after 6 s, which is an answer; then a look at the metadata that has none for 10 s."""
    for module in ("znfs.deadline", "znfs.stores.watched"):
        monkeypatch.setattr(f"{module}.time", clock)
    h = hierarchy(WatchedStore(store, 10), ttl=5.0)
    array = h.node("a")
    waits = {"a/c/1": 6.0, "a/zarr.json": 30.0}

    def slow(key: str) -> None:
        wanted, left = waits.get(key, 0.0), deadline.left()
        clock.now += min(wanted, left)
        if wanted > left:
            raise Unanswered(f"{key}: no answer in time")

    store.fail = slow
    began = clock.now
    deadline.begin(10)
    try:
        with pytest.raises(StoreError, match=r"zarr.json: no answer in time"):
            array.block((1,))
    finally:
        deadline.begin(inf)
    assert clock.now - began == pytest.approx(16)
    h.close()
