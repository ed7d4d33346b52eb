"""The tree's rules: names, what hides what, what is listed, what resolves."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.test_extents import make_array
from znfs.commands import info
from znfs.errors import NotFound, SourceError, Stale, UsageError
from znfs.node import File, Kind
from znfs.options import Options, parse_views
from znfs.tree import open_tree
from znfs.views.chunks import ChunksDir

zarr = pytest.importorskip("zarr")


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "image.zarr"
    group = zarr.create_group(path)
    data = np.arange(4 * 6 * 8, dtype="u2").reshape(4, 6, 8)
    for name, more in {
        "a": {"dimension_names": ("z", "y", "x")},
        "b.zarr": {},
        "chunks": {},
        "image.h5": {},
    }.items():
        group.create_array(name, shape=data.shape, chunks=(2, 4, 4), dtype="u2", **more)[:] = data
    (path / "README").write_text("hello")
    return path


def names(tree, path: str = "") -> list[str]:
    return list(tree.resolve(path).names())


def read(tree, path: str) -> bytes:
    file = tree.resolve(path)
    return file.read(0, file.size)


def test_a_group_shows_children_objects_and_views(store):
    assert names(open_tree(str(store))) == [
        ".znfs", "README", "a", "b.zarr", "chunks", "image.h5", "image.nc", "zarr.json",
    ]  # fmt: skip


def test_an_array_shows_its_views_and_documents(store):
    assert names(open_tree(str(store)), "a") == [
        "a.btf", "a.h5", "a.nc", "a.npy", "a.tif", "chunks", "tiff", "zarr.json",
    ]  # fmt: skip


def test_views_not_listed_resolve(store):
    tree = open_tree(str(store))
    assert names(tree, "a/tiff.xz")[0] == "a_y0.tif"
    assert names(tree, "a/tiff.yz")[-1] == "a_x7.tif"


def test_views_left_out_are_not_there(store):
    tree = open_tree(str(store), views=("npy",))
    assert names(tree, "a") == ["a.npy", "zarr.json"]
    with pytest.raises(NotFound):
        tree.resolve("a/tiff")
    assert "tiff.xz" in names(open_tree(str(store), views=parse_views("all")), "a")


def test_a_child_of_the_store_wins_over_a_view(store):
    tree = open_tree(str(store))
    assert "chunks.npy" in names(tree, "chunks")  # an array, not the group's view
    assert "image.h5.npy" in names(tree, "image.h5")
    (root,) = (d for d in tree.describe() if d.path == "")
    assert any("image.h5" in r and "hidden" in r for r in root.remarks)


@pytest.mark.parametrize("name", ["a.npy", "tiff", ".znfs"])
def test_other_objects_win_too(store, name):
    where = "" if name == ".znfs" else "a"
    (store / where / name).write_bytes(b"mine")
    tree = open_tree(str(store))
    path = f"{where}/{name}".strip("/")
    assert read(tree, path) == b"mine"
    assert name in names(tree, where)


@pytest.mark.parametrize("more", [{}, {"shards": (8, 8)}, {"zarr_format": 2, "order": "F"}])
@pytest.mark.parametrize("dtype", ["u2", "f4", "c16", "U3"])
def test_beyond_the_edge_is_fill_value_whatever_is_stored_there(tmp_path, more, dtype):
    """An array that was made smaller keeps its chunks."""
    fill = "n" if dtype == "U3" else np.nan if dtype == "f4" else 7
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype=dtype, fill_value=fill, **more
    )
    array[:] = np.ones((8, 8), "u1").astype(dtype)
    array.resize((6, 7))
    separator = "." if "zarr_format" in more else "/"
    prefix = "" if "zarr_format" in more else "c/"
    tree = open_tree(str(tmp_path / "a.zarr"))
    for _ in range(2):
        for i, j in np.ndindex(2, 2):
            expected = np.full((4, 4), fill, dtype)
            expected[: 6 - 4 * i, : 7 - 4 * j] = np.ones((), "u1").astype(dtype)
            got = read(tree, f"chunks/{prefix}{i}{separator}{j}")
            assert got == expected.tobytes(), (i, j)
        assert (np.load(tree.open("a.npy")) == array[:]).all()
        assert len(read(tree, "a.npy")) > 6 * 7 * np.dtype(dtype).itemsize


def test_one_suffix_is_cut_from_the_name(store):
    tree = open_tree(str(store))
    assert {"b.npy", "b.tif"} <= set(names(tree, "b.zarr"))
    assert names(tree, "b.zarr/tiff")[0] == "b_z0.tif"
    (store / "a").rename(store / ".zarr")
    assert "root.npy" in names(open_tree(str(store)), ".zarr")
    assert "root.npy" in names(open_tree(str(store / ".zarr")))


def test_every_key_reads_raw(store):
    odd = ("c/README", "c/0/note.txt", "c/more/deep/x", "c/9/9/9", "c/1/1/0/x", "1/x", "README")
    for key in odd:
        at = store / "a" / key
        if at.parent.is_file():
            at.parent.unlink()
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(key)
    tree = open_tree(str(store))
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        assert read(tree, str(path.relative_to(store))) == path.read_bytes()


def test_encoded_chunks_are_looked_up_not_listed(store):
    tree = open_tree(str(store))
    assert names(tree, "a/c") == []
    assert names(tree, "a/c/0") == []
    for path in ("a/c/9", "a/c/0/0/0/0", "a/c/x", "a/c/0/00", "a/d"):
        with pytest.raises(NotFound):
            tree.resolve(path)


@pytest.mark.parametrize("encoding", [".", "/"])
def test_what_else_is_in_an_array_is_listed_where_chunks_are_few(tmp_path, monkeypatch, encoding):
    """Chunks are not, those neither that an array had before it was shrunk."""
    keys = {"name": "v2", "separator": encoding}
    a = zarr.create_array(
        tmp_path / "a.zarr", shape=(6, 2), chunks=(2, 2), dtype="u1", chunk_key_encoding=keys
    )
    a[:] = 1
    zarr.open_array(tmp_path / "a.zarr").resize((4, 2))
    old = tmp_path / f"a.zarr/2{encoding}0"
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(b"old")
    (tmp_path / "a.zarr/README").write_text("hello")
    views = ["a.btf", "a.h5", "a.npy", "a.tif", "chunks", "tiff", "zarr.json"]
    assert names(open_tree(str(tmp_path)), "a.zarr") == ["README", *views]
    monkeypatch.setattr("znfs.hierarchy.lookup._FEW_NEAR", 1)
    tree = open_tree(str(tmp_path))
    assert names(tree, "a.zarr") == views
    assert read(tree, "a.zarr/README") == b"hello"


def test_a_raw_chunk_of_an_array_that_is_gone_is_stale(store):
    tree = open_tree(str(store), ttl=3600)
    (store / "a" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(NotFound):
        tree.resolve("a/c/0/0/0")
    tree.resolve("a/c/0/0")
    tree._hierarchy._sightings.at("a").checked -= 10
    (store / "a" / "zarr.json").unlink()
    with pytest.raises(Stale):
        tree.resolve("a/c/0/0/0")


def test_with_missing_403_a_denied_raw_chunk_is_absent(store, monkeypatch):
    from znfs.errors import Denied
    from znfs.stores.local import LocalStore

    stat = LocalStore.stat

    def denying(self, key):
        if "/c/" in key:
            raise Denied(key)
        return stat(self, key)

    monkeypatch.setattr(LocalStore, "stat", denying)
    with pytest.raises(Denied):
        open_tree(str(store)).resolve("a/c/0/0/0")
    with pytest.raises(NotFound):
        open_tree(str(store), missing_403=True).resolve("a/c/0/0/0")


CRAWLERS = (
    ".hidden", ".directory", ".xdg-volume-info", ".Trash", ".Trash-1000", ".trackerignore",
    ".nomedia", ".thumbnails", ".fuse_hidden0001",  # Linux desktops, indexers and thumbnailers
    ".DS_Store", "._a", ".metadata_never_index", ".Spotlight-V100", ".fseventsd", ".localized",
    ".AppleDouble", "Network Trash Folder",  # macOS, and Samba for it
    "desktop.ini", "Thumbs.db", "autorun.inf", "System Volume Information", "$RECYCLE.BIN",
)  # fmt: skip


def test_what_crawlers_look_for_is_not_there_and_costs_nothing(store):
    """Indexers, thumbnailers and desktops ask for these in every folder."""
    folders = ("", "a", "a/chunks", "a/chunks/c", "a/tiff", "a/c")
    tree = open_tree(str(store), ttl=60.0)
    for folder in folders:
        tree.resolve(folder)
    asked = tree.status()["store"]["requests"]
    for folder in folders:
        for name in CRAWLERS:
            with pytest.raises(NotFound):
                tree.resolve(f"{folder}/{name}")
    assert tree.status()["store"]["requests"] == asked


@pytest.mark.parametrize(
    "path",
    ["a//b", "a/.", "a/..", "..", "nothing", "a/a.npy/x", "x/" * 1200, f"a/chunks/c/{'9' * 5000}"],
    ids=lambda path: path[:12],
)
def test_paths_that_lead_nowhere(store, path):
    with pytest.raises(NotFound):
        open_tree(str(store)).resolve(path)


def test_an_array_too_large_for_a_file(tmp_path):
    meta = {
        "zarr_format": 3, "node_type": "array", "shape": [2**40, 2**20, 16],
        "data_type": "uint8", "fill_value": 0, "codecs": [{"name": "bytes"}],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64, 16]}},
        "chunk_key_encoding": {"name": "default"},
    }  # fmt: skip
    (tmp_path / "zarr.json").write_text(json.dumps(meta))
    tree = open_tree(str(tmp_path))
    listed = names(tree)
    assert not [n for n in listed if n.endswith((".npy", ".btf"))]
    assert "chunks" in listed
    assert any("2^63" in r for d in tree.describe() for r in d.remarks)
    far = tree.resolve("chunks/c/17179869183/16383/0")
    assert far.read(0, 4) == bytes(4)


def test_a_name_of_more_than_255_bytes_is_not_listed(tmp_path):
    long = "x" * 253
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array(long, shape=(3,), chunks=(2,), dtype="u1")
    tree = open_tree(str(tmp_path / "g.zarr"))
    assert names(tree, long) == ["chunks", "zarr.json"]
    remarks = [r for d in tree.describe() for r in d.remarks]
    assert any("255 bytes" in r for r in remarks)


def test_names_of_chunks_of_more_than_255_bytes_are_not_listed(tmp_path, monkeypatch):
    def write(name: str, shape: list[int]) -> None:
        meta = {"zarr_format": 2, "shape": shape, "chunks": [1] * len(shape), "dtype": "|u1",
                "fill_value": 0, "order": "C", "compressor": None, "filters": None}  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / ".zarray").write_text(json.dumps(meta))

    write("long.zarr", [2**62] * 15)  # names of up to 15 * 19 digits and 14 dots
    write("short.zarr", [12, 11])
    tree = open_tree(str(tmp_path))
    told = {d.path: [r for r in d.remarks if "255 bytes" in r] for d in tree.describe()}
    assert told["long.zarr"] == ["chunks: names of more than 255 bytes are not listed"]
    assert told["short.zarr"] == []
    assert names(tree, "short.zarr/chunks")[-1] == "11.10"
    monkeypatch.setattr("znfs.views.chunks.MOST_NAME_BYTES", 4)
    directory = tree.resolve("short.zarr/chunks")
    listed = list(directory.names())
    assert len(listed) == 12 * 11 - 2
    assert not {"10.10", "11.10"} & set(listed)
    for start in range(len(listed) + 1):
        assert list(directory.names(start)) == listed[start:]


def test_planes_whose_names_would_be_too_long_are_not_there(tmp_path):
    name = "x" * 248
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array(name, shape=(3, 4, 4), chunks=(2, 2, 2), dtype="u1")
    tree = open_tree(str(tmp_path / "g.zarr"))
    assert "tiff" in names(tree, name)
    assert len(names(tree, f"{name}/tiff")[0]) == 255
    group.create_array(name + "y", shape=(3, 4, 4), chunks=(2, 2, 2), dtype="u1")
    tree = open_tree(str(tmp_path / "g.zarr"))
    assert "tiff" not in names(tree, name + "y")
    assert f"{name}y.tif" in names(tree, name + "y")


def test_a_prefix_above_several_stores(tmp_path):
    for name in ("one.zarr", "two.zarr"):
        zarr.create_array(tmp_path / "deep" / name, shape=(2,), chunks=(2,), dtype="u1")[:] = 7
    tree = open_tree(str(tmp_path))
    assert names(tree) == [".znfs", "deep"]
    assert names(tree, "deep") == ["one.zarr", "two.zarr"]
    assert np.load(io.BytesIO(read(tree, "deep/two.zarr/two.npy"))).tolist() == [7, 7]


def test_an_empty_folder_is_one(tmp_path):
    for name in ("g.zarr", "c.n5", "plain"):
        (tmp_path / name / "empty").mkdir(parents=True)
    zarr.create_group(tmp_path / "g.zarr").create_array("a", shape=(2,), chunks=(2,), dtype="u1")
    (tmp_path / "g.zarr/a/empty").mkdir()
    (tmp_path / "c.n5/attributes.json").write_text("{}")
    tree = open_tree(str(tmp_path))
    for path in ("g.zarr", "g.zarr/a", "plain"):
        assert "empty" in names(tree, path)
        assert names(tree, f"{path}/empty") == []
    assert names(tree, "c.n5/empty") == ["empty.h5"]  # in N5 a folder is a group
    kinds = {d.path: d.kind for d in tree.describe()}
    assert kinds["plain/empty"] == kinds["g.zarr/empty"] == "prefix"
    assert kinds["c.n5/empty"] == "group"
    assert not any("left out" in r for d in tree.describe() for r in d.remarks if d.path == "c.n5")
    (tmp_path / "plain/empty").rmdir()
    with pytest.raises(NotFound):
        open_tree(str(tmp_path)).resolve("plain/empty")
    with pytest.raises(SourceError):  # its disk may not be mounted
        open_tree(str(tmp_path / "c.n5/empty"))


def test_an_array_as_the_source(tmp_path):
    zarr.create_array(tmp_path / "v.zarr", shape=(2, 2), chunks=(2, 2), dtype="u1")[:] = 1
    tree = open_tree(str(tmp_path / "v.zarr"))
    assert {".znfs", "v.npy", "tiff", "chunks"} <= set(names(tree))
    assert names(tree, "tiff") == ["v.tif"]


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(SourceError, match=r"none\.zarr: no such file or directory"):
        open_tree(str(tmp_path / "none.zarr"))
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(SourceError, match="no Zarr or N5"):
        open_tree(str(tmp_path / "empty.zarr"))
    (tmp_path / "empty.zarr").rmdir()
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(SourceError, match=r"zarr\.json"):
        open_tree(str(tmp_path))


@pytest.mark.parametrize("damage", ["unknown member", "no JSON"])
def test_an_unreadable_group_hides_its_own_views_and_nothing_else(tmp_path, damage):
    """It is a source, too, if there is something below it to show."""
    path = tmp_path / "g.zarr"
    group = zarr.create_group(path)
    group.create_array("0", shape=(2,), chunks=(1,), dtype="u1")[:] = 7  # as levels of images are
    zarr.create_array(path / "plain/deep", shape=(2,), chunks=(2,), dtype="u1")
    document = path / "zarr.json"
    text = document.read_text()
    document.write_text("{" if damage == "no JSON" else text.replace("{", '{"new": 1, ', 1))
    for source, at in ((path, ""), (tmp_path, "g.zarr")):
        tree = open_tree(str(source))
        assert set(names(tree, at)) - {".znfs"} == {"0", "plain", "zarr.json"}
        assert read(tree, f"{at}/zarr.json") == document.read_bytes()
        assert np.load(io.BytesIO(read(tree, f"{at}/0/0.npy"))).tolist() == [7, 7]
        found = [d for d in tree.describe() if d.path.startswith(at)]
        assert [(d.path.removeprefix(at).lstrip("/"), d.kind) for d in found] == [
            ("", "unreadable"), ("0", "array"), ("plain", "prefix"), ("plain/deep", "array"),
        ]  # fmt: skip
        assert ("not JSON" if damage == "no JSON" else "'new'") in found[0].remarks[0]


@pytest.mark.parametrize("damage", ["codec", "shape", "no JSON"])
@pytest.mark.parametrize("keys", ["c", "1"])
def test_folders_of_an_unreadable_arrays_chunks_are_no_nodes(tmp_path, damage, keys):
    encoding = {"name": "v2", "separator": "/"} if keys == "1" else None
    path = tmp_path / "a.zarr"
    zarr.create_array(
        path, shape=(2, 2), chunks=(1, 1), dtype="u1", chunk_key_encoding=encoding
    )[:] = 1  # fmt: skip
    assert (path / keys).is_dir()
    document = json.loads((path / "zarr.json").read_text())
    document |= {"codec": {"codecs": [{"name": "new"}]}, "shape": {"shape": 0.5}}.get(damage, {})
    (path / "zarr.json").write_text(json.dumps(document)[: -1 if damage == "no JSON" else None])
    with pytest.raises(SourceError):
        open_tree(str(path))
    tree = open_tree(str(tmp_path))
    assert {d.path: d.kind for d in tree.describe()} == {"": "prefix", "a.zarr": "unreadable"}
    (path / "more").mkdir()
    assert "more" in names(open_tree(str(path)))


def test_a_metadata_change_shows_as_a_new_version(store):
    tree = open_tree(str(store), ttl=0)
    before = tree.resolve("a/a.npy")
    zarr.open_array(store / "a", mode="r+").resize((4, 6, 10))
    after = tree.resolve("a/a.npy")
    assert after.version != before.version
    assert after.size > before.size


def test_a_group_file_changes_with_what_is_below(store):
    tree = open_tree(str(store), ttl=0)
    before = tree.resolve("image.nc")
    assert tree.resolve("image.nc") is before
    zarr.open_array(store / "a", mode="r+").attrs["new"] = 1
    tree._files["image.nc"] = type(tree._files["image.nc"])(
        tree._files["image.nc"].owner, before, 0.0
    )
    assert tree.resolve("image.nc").version != before.version


def test_refresh_shows_rewritten_chunks(store):
    tree = open_tree(str(store), ttl=3600)
    before = read(tree, "a/a.npy")
    array = zarr.open_array(store / "a", mode="r+")
    array[:] = 9
    assert read(tree, "a/a.npy") == before
    tree.refresh()
    assert set(np.load(io.BytesIO(read(tree, "a/a.npy"))).ravel()) == {9}


def test_whether_the_store_has_control_is_asked_after_a_refresh_that_overtook_the_answer(store):
    tree = open_tree(str(store), Options())

    def also() -> None:
        assert names(tree, ".znfs")
        (store / ".znfs").write_bytes(b"own")

    tree.refresh(also)
    assert read(tree, ".znfs") == b"own"
    assert any(".znfs" in remark for remark in next(tree.describe()).remarks)


def test_refresh_reaches_the_disk_tier(store, tmp_path):
    cache = str(tmp_path / "cache")
    with_cache = {"disk_cache": cache, "ttl": 3600}
    tree = open_tree(str(store), **with_cache)
    read(tree, "a/a.npy")
    zarr.open_array(store / "a", mode="r+")[:] = 9
    tree.refresh()
    assert set(np.load(io.BytesIO(read(tree, "a/a.npy"))).ravel()) == {9}
    tree.close()
    again = open_tree(str(store), **with_cache)
    assert set(np.load(io.BytesIO(read(again, "a/a.npy"))).ravel()) == {9}
    again.close()


def test_the_stored_size_is_that_of_all_objects(store):
    objects = [p.stat().st_size for p in (store / "a").rglob("*") if p.is_file()]
    assert open_tree(str(store)).stored_size("a") == sum(objects)
    assert open_tree(str(store)).stored_size("nothing") is None


def test_status_is_json(store):
    tree = open_tree(str(store))
    read(tree, "a/a.npy")
    status = json.loads(read(tree, ".znfs/status.json"))
    assert status["source"].endswith("image.zarr")
    assert status["cache"]["limit"] == 1 << 30
    assert status["store"]["requests"]["get"] > 0


def test_options_or_keywords_not_both(store):
    with pytest.raises(UsageError):
        open_tree(str(store), Options(), ttl=1)


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("more", [{"hdf5_index": "implicit"}, {"hdf5_merge": 2}])
def test_hdf5_files_are_laid_out_as_asked(store, more):
    h5py = pytest.importorskip("h5py")
    usual, asked = open_tree(str(store)), open_tree(str(store), **more)
    assert usual.resolve("a/a.h5").size != asked.resolve("a/a.h5").size
    with h5py.File(asked.open("a/a.h5")) as file:
        assert (file["a"][:] == np.load(io.BytesIO(read(asked, "a/a.npy")))).all()


def test_hdf5_options_that_do_not_go_together(store):
    with pytest.raises(UsageError, match="hdf5-merge"):
        open_tree(str(store), hdf5_index="implicit", hdf5_merge=2)


@pytest.mark.usefixtures("without_collections")
def test_half_floats_are_promoted_on_demand(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = str(tmp_path / "f.zarr")
    zarr.create_array(path, shape=(4,), chunks=(2,), dtype="f2")[:] = [0.5, 1, 2, 4]
    for choice, dtype in (("auto", "f2"), ("keep", "f2"), ("float32", "f4")):
        with h5py.File(open_tree(path, hdf5_float16=choice).open("f.h5")) as file:
            assert file["f"].dtype == dtype
            assert file["f"][:].tolist() == [0.5, 1, 2, 4]


def test_names_from_an_offset_continue(store):
    tree = open_tree(str(store))
    below = "crop/0,0,4,4", "chunks", "chunks/c", "chunks/c/0", "chunks/c/0/0", "tiff", "tiff.xz"
    for path in ("", "a", "b.zarr/chunks", *(f"a/{name}" for name in below)):
        directory = tree.resolve(path)
        everything = list(directory.names())
        kinds = dict(directory.entries())
        assert list(kinds) == everything
        for start in range(len(everything) + 1):
            assert list(directory.names(start)) == everything[start:]
        for name in set(everything) - {".znfs"}:
            node = directory.lookup(name)
            assert node.version
            assert isinstance(node, File) == (kinds[name] is Kind.FILE)


@pytest.mark.parametrize("shape", [(), (5, 6, 3), (140_000,)])
def test_names_of_chunks_that_are_all_in_one_place_continue(shape):
    array, _, _ = make_array((1,) * len(shape), (1,) * len(shape))
    array.meta = replace(array.meta, shape=shape, chunks=(2,) * len(shape))
    directory = ChunksDir(array)
    everything = [".".join(map(str, i)) or "0" for i in np.ndindex(array.meta.grid)]
    for start in (0, 1, 2, 7, len(everything) - 1, len(everything)):
        assert list(directory.names(start)) == everything[start:]


# Of lone surrogates, only what stands for bytes (PEP 383) can be in the name of a file: not what
# stands for none, and not the bytes of what would be a character.
NO_NAMES = ("\ud800", "a\udfffb", "\udcc3\udca9")
OF_BYTES = "\udcff"


def of_references(tmp_path, nodes):
    keys = {f"{path}/zarr.json".lstrip("/"): json.dumps(node) for path, node in nodes.items()}
    (tmp_path / "r.json").write_text(json.dumps({"version": 1, "refs": keys}))
    return f"reference://::{tmp_path}/r.json"


def of_consolidated(tmp_path, nodes):
    below = {path: node for path, node in nodes.items() if path}
    root = nodes[""] | {"consolidated_metadata": {"kind": "inline", "metadata": below}}
    for path, node in (below | {"": root}).items():
        if path not in NO_NAMES:
            (tmp_path / "g" / path).mkdir(parents=True, exist_ok=True)
            (tmp_path / "g" / path / "zarr.json").write_text(json.dumps(node))
    return str(tmp_path / "g")


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("source", [of_references, of_consolidated])
def test_names_that_no_file_can_have(tmp_path, source, capsys):
    h5py = pytest.importorskip("h5py")
    zarr.create_array(tmp_path / "a.zarr", shape=(2,), dtype="u1", dimension_names=("x",))
    array = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    nodes = {"": {"zarr_format": 3, "node_type": "group", "attributes": {}}}
    nodes |= dict.fromkeys((*NO_NAMES, OF_BYTES, "good"), array)
    tree = open_tree(source(tmp_path, nodes))
    views = [f"{tree.root_name}.{view}" for view in ("h5", "nc")]
    assert names(tree) == sorted([".znfs", *views, "good", "zarr.json", OF_BYTES])
    for name in NO_NAMES:
        for path in (name, f"{name}/x", f"{name}/{name}.npy", f"good/{name}"):
            with pytest.raises(NotFound):
                tree.resolve(path)
    assert len(read(tree, f"{OF_BYTES}/{OF_BYTES}.npy")) == 128 + 2
    with h5py.File(tree.open(f"{tree.root_name}.h5")) as file:
        assert set(file) == {"good", b"\xff", "x"}
    with h5py.File(tree.open(f"{OF_BYTES}/{OF_BYTES}.h5")) as file:
        assert file[b"\xff"].shape == (2,)
    found = {d.path: d for d in tree.describe()}
    assert found.keys() == {"", OF_BYTES, "good"}
    assert {r for r in found[""].remarks if "listed" in r} == {
        f"{name!r} cannot be listed" for name in NO_NAMES
    }
    info.show(tree, as_json=False)
    said = capsys.readouterr().out
    assert "'\\ud800' cannot be listed" in said
    assert "\\udcff.npy" not in said  # NAME is left out of a view's name
    assert any(line.startswith("\\udcff ") for line in said.splitlines())
    info.show(tree, as_json=True)
    assert len(json.loads(capsys.readouterr().out)["nodes"]) == 3
    tree.close()


def test_a_source_is_looked_at_without_what_only_reading_needs(store):
    """A mount is ready after that look; every import it does without makes it ready sooner."""
    code = (
        "import sys; from znfs.tree.tree import open_tree; tree = open_tree(sys.argv[1]);"
        "print(*{'numcodecs', 'ml_dtypes', 'znfs.views.hdf5', 'obstore'} & sys.modules.keys());"
        "print(*tree.resolve('').names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)], check=True, capture_output=True, text=True
    )
    loaded, listed = done.stdout.splitlines()
    assert loaded == ""
    assert "image.h5" in listed.split()
