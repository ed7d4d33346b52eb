"""The tree for Python: file objects, and the fsspec filesystem."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest
import tifffile
import zarr

import znfs
import znfs.views.hdf5 as hdf5
from tests.faketree import text
from znfs.cache import memory
from znfs.codecs import Decoder
from znfs.errors import Denied, NotFound, SourceError, Stale, StoreError, UsageError
from znfs.filesystem import ZnfsFileSystem, open_enclosing, source_of
from znfs.node import Node
from znfs.stores import objects
from znfs.tree import Tree, open_tree
from znfs.views.hdf5 import collector

VALUES = np.random.default_rng(1).integers(0, 60000, (12, 40, 50), dtype="uint16")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fsspec.register_implementation("znfs", ZnfsFileSystem, clobber=True)
    group = zarr.create_group(tmp_path / "v.zarr")
    array = group.create_array("em", shape=VALUES.shape, chunks=(5, 16, 16), dtype=VALUES.dtype)
    array[:] = VALUES
    return tmp_path / "v.zarr"


@pytest.mark.usefixtures("without_collections")
def test_file_objects(store: Path) -> None:
    tree = znfs.open_tree(store)
    np.testing.assert_array_equal(np.load(tree.open("em/em.npy")), VALUES)
    np.testing.assert_array_equal(tifffile.imread(tree.open("em/em.btf")), VALUES)
    with h5py.File(tree.open("v.h5")) as file:
        np.testing.assert_array_equal(file["em"][:], VALUES)
    with pytest.raises(IsADirectoryError):
        tree.open("em")
    with pytest.raises(NotFound):
        tree.open("em/none")
    tree.close()


@pytest.mark.parametrize("error", [NotFound, Denied, StoreError, KeyboardInterrupt])
def test_a_tree_without_the_path_is_closed(
    store: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    trees: list[Tree] = []

    def resolve(self: Tree, path: str) -> Node:
        raise error(path)

    def probe(self: Tree) -> None:
        trees.append(self)
        look(self)

    def close(self: Tree) -> None:
        trees.remove(self)
        end(self)

    look, end = Tree.probe, Tree.close
    for method in (resolve, probe, close):
        monkeypatch.setattr(Tree, method.__name__, method)
    with pytest.raises((error, SourceError)):
        open_enclosing(f"{store}/em/em.npy", {})
    assert trees == []


def test_options_that_are_wrong_leave_no_thread(store: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(UsageError, match="--manifest"):
        znfs.open_tree(str(store), manifest="/nonexistent", disk_cache=str(tmp_path / "cache"))
    assert not set(threading.enumerate()) - before


def test_seeks_and_reads() -> None:
    data = random.Random(1).randbytes(400_000)
    oracle, rng = io.BytesIO(data), random.Random(2)
    with znfs.open_file(text(data), "name") as file:
        assert (file.name, file.seekable(), file.writable()) == ("name", True, False)
        for _ in range(500):
            offset, size = rng.randrange(450_000), rng.choice((0, 1, 17, 5000, 200_000))
            assert file.seek(offset) == oracle.seek(offset)
            assert file.read(size) == oracle.read(size)
            assert file.tell() == oracle.tell()
        assert file.seek(-10, io.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        out = np.empty(1000, "u2")
        file.seek(2)
        assert file.readinto(out) == 2000
        assert out.tobytes() == data[2:2002]
        with pytest.raises(ValueError):
            file.seek(-1)


def urls(store: Path) -> list[str]:
    shutil.make_archive(str(store.parent / "all"), "zip", store.parent, "v.zarr")
    return [
        f"znfs://em/em.npy::{store}",
        f"znfs://em/em.npy::file://{store}",
        f"znfs://em/em.npy::zip://v.zarr::{store.parent}/all.zip",
        f"znfs://em/em.npy::zip://v.zarr::file://{store.parent}/all.zip",
        f"znfs::{store}/em/em.npy",
    ]


def in_a_fork(work: Callable[[], None]) -> int:
    """The exit status of a forked process that does `work`: 0 if it did, 3 if it was refused."""
    if not (pid := os.fork()):
        signal.alarm(20)
        code = 1
        try:
            work()
            code = 0
        except (UsageError, OSError) as error:
            code = 3 if "in this process" in str(error) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_process_opens_what_another_thread_was_opening(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """functools.cached_property has one lock for all objects, before Python 3.12."""
    inside, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow(Decoder):
        def __init__(self, *args: Any, **more: Any) -> None:
            if os.getpid() == parent:
                inside.set()
                go_on.wait(20)
            super().__init__(*args, **more)

    monkeypatch.setattr("znfs.arrays.array.Decoder", Slow)
    tree = znfs.open_tree(store)
    reader = threading.Thread(target=lambda: tree.open("em/em.npy").read())
    reader.start()
    try:
        assert inside.wait(20)
        assert in_a_fork(lambda: znfs.open_tree(store).open("em/em.npy").read()) == 0
    finally:
        go_on.set()
        reader.join()
        tree.close()


def test_an_open_file_is_of_one_version(store: Path) -> None:
    fs = ZnfsFileSystem(fo=str(store), ttl=0, skip_instance_cache=True)
    opened = [
        fs.tree.open("em/em.npy"), fs.open("em/em.npy"), fs.open("em/em.npy", cache_type="none"),
    ]  # fmt: skip
    for file in opened:
        assert file.read(6) == b"\x93NUMPY"
    fs.tree.refresh()
    for file in opened:
        file.seek(0, io.SEEK_END)
        file.seek(0)
        assert file.read(6) == b"\x93NUMPY"  # anew, and the same
    document = store / "em/zarr.json"
    document.write_text(document.read_text().replace('"shape": [', '"shape":  ['))
    for file in opened:
        file.seek(-1, io.SEEK_END)
        with pytest.raises((OSError, Stale), match="has changed"):
            file.read(1)
    fs.tree.close()


def test_a_forked_process_is_refused(store: Path) -> None:
    fs = ZnfsFileSystem(fo=str(store), skip_instance_cache=True)
    tree, file = fs.tree, fs.open("em/em.npy")
    folder = tree.resolve("")
    refused: list[Callable[[], object]] = [
        lambda: tree.resolve("em"), lambda: tree.open("em/em.npy"), tree.refresh, tree.status,
        lambda: tree.attributes("em"), lambda: list(tree.describe()), lambda: file.read(1),
        lambda: tree.stored_size(""), lambda: fs.cat_file("em/em.npy"), lambda: fs.ls(""),
        lambda: folder.lookup("em"),
    ]  # fmt: skip
    for work in refused:
        assert in_a_fork(work) == 3
    assert in_a_fork(tree.close) == 0
    assert file.read(6) == b"\x93NUMPY"
    tree.close()


def test_a_forked_process_opens_it_again(store: Path) -> None:
    """Whatever the threads of the first were about, and held."""
    tree, over = open_tree(str(store)), threading.Event()

    def read(tree: Tree) -> None:
        for path in ("em/em.npy", "em/em.h5", "em/em.tif"):
            tree.open(path).read()

    def again_and_again() -> None:
        while not over.is_set():
            tree.refresh()
            read(tree)

    threads = [threading.Thread(target=again_and_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with memory._pool._lock, hdf5._lock, collector._lock:
            assert in_a_fork(lambda: read(open_tree(str(store)))) == 0
        for _ in range(5):
            assert in_a_fork(lambda: read(open_tree(str(store)))) == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
    tree.close()


def test_a_forked_process_is_refused_object_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setattr(objects, "_process", os.getpid())

    def work() -> None:
        with pytest.raises(UsageError, match="forkserver"):
            objects.ObjectStore("s3://b", "", lambda: None, lambda: None)  # type: ignore[arg-type,return-value]

    work_here = objects.ObjectStore("s3://b", "", lambda: None, lambda: None)  # type: ignore[arg-type,return-value]
    assert in_a_fork(work) == 0
    work_here.close()


def test_urls(store: Path) -> None:
    for url in urls(store):
        with fsspec.open(url) as file:
            np.testing.assert_array_equal(np.load(file), VALUES)


def test_filesystem(store: Path) -> None:
    fs, path = fsspec.url_to_fs(f"znfs://em::{store}")
    assert path == "em"
    assert "em/em.npy" in fs.ls("em", detail=False)
    details = {d["name"]: d for d in fs.ls("em")}
    assert details["em/chunks"]["type"] == "directory"
    assert details["em/em.npy"]["size"] == VALUES.nbytes + 128
    assert fs.isdir("em/tiff")
    assert not fs.exists("em/none")
    assert fs.glob("em/tiff/*_z*.tif") == [f"em/tiff/em_z{z:02}.tif" for z in range(12)]
    assert fs.cat_file("em/em.npy", 0, 6) == b"\x93NUMPY"
    assert fs.cat_file("em/em.npy", -4) == VALUES.tobytes()[-4:]
    assert fs.modified("em/em.npy").timestamp() > 0
    assert fs.ukey("em/em.npy") == fs.info("em/em.npy")["version"]
    with pytest.raises(OSError, match="Read-only"):
        fs.open("em/em.npy", "wb")
    with pytest.raises(FileNotFoundError):
        fs.open("em/none")
    with pytest.raises(IsADirectoryError):
        fs.open("em")


def test_blocks(store: Path, tmp_path: Path) -> None:
    data = (store / "em/zarr.json").read_bytes()
    fs = fsspec.filesystem("znfs", fo=str(store))
    assert fs.read_block("em/zarr.json", 2, 9) == data[2:11]
    assert fs.read_block("em/zarr.json", 7, None) == data[7:]
    assert fs.read_block("em/zarr.json", 1, 5, delimiter=b"\n").endswith(b"\n")
    with fs.open("em/em.npy", cache_type="readahead", block_size=1 << 12) as file:
        np.testing.assert_array_equal(np.load(io.BytesIO(file.read())), VALUES)
    url = f"blockcache::znfs://em/em.npy::{store}"
    with fsspec.open(url, blockcache={"cache_storage": str(tmp_path / "blocks")}) as file:
        file.seek(-4, io.SEEK_END)
        assert file.read() == VALUES.tobytes()[-4:]


def test_nothing_is_written(store: Path, tmp_path: Path) -> None:
    fs = fsspec.filesystem("znfs", fo=str(store))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for call in (
        lambda: fs.mkdir("q"), lambda: fs.makedirs("q/r", exist_ok=True), lambda: fs.rmdir("em"),
        lambda: fs.rm("em/em.npy"), lambda: fs.rm("em", recursive=True),
        lambda: fs.rm_file("em/em.npy"), lambda: fs.copy("em/em.npy", "b"),
        lambda: fs.cp_file(path1="em/em.npy", path2="b"),
        lambda: fs.mv("em", "em"), lambda: fs.touch("em/em.npy", truncate=False),
        lambda: fs.touch("q"), lambda: fs.pipe("q", b"x"), lambda: fs.write_text("q", "x"),
        lambda: fs.put(str(tmp_path / "file"), "q"), lambda: fs.open("q", "ab"),
        lambda: fs.put(str(tmp_path / "folder"), "q", recursive=True),
    ):  # fmt: skip
        with pytest.raises(OSError, match="Read-only file system") as caught:
            call()
        assert caught.value.errno == errno.EROFS


def test_what_is_no_source(store: Path) -> None:
    with pytest.raises(UsageError, match="needs a source"):
        fsspec.filesystem("znfs")
    with pytest.raises((SourceError, NotFound), match="none"):
        fsspec.open(f"znfs::{store}/em/none").open()


def test_sources_as_written() -> None:
    assert source_of("b/x", "s3", {}) == ("s3://b/x", {})
    assert source_of("s3://b/x", "s3", {"anon": True}) == ("s3://b/x", {"anon": "true"})
    inner = {"fo": "b/a.zip", "target_protocol": "s3", "target_options": {"key": "k"}}
    assert source_of("x.zarr", "zip", inner) == ("zip://x.zarr::s3://b/a.zip", {"key": "k"})
