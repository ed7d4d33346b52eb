"""fsspec's file systems: many threads, archives that are replaced, connections that break."""

from __future__ import annotations

import io
import os
import random
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import zarr

import znfs
from znfs import deadline
from znfs.cli import main
from znfs.errors import SourceError, StoreError, Unanswered
from znfs.options import Options
from znfs.stores import open_store
from znfs.stores.base import Store


def tarred(members: dict[str, bytes]) -> bytes:
    """A tar whose members tell nothing but their sizes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return out.getvalue()


def read(store: Store, key: str) -> bytes:
    blob = store.get(key)
    assert blob is not None
    found = store.stat(key)
    assert found is not None
    assert found.version == blob.version
    return bytes(blob.data)


@pytest.mark.parametrize(
    "url", ["tar://::{}", "tar://::simplecache::file://{}", "dir://in::tar://::file://{}"]
)
def test_many_threads_read_an_archive(url: str, tmp_path: Path) -> None:
    dice = random.Random(1)
    prefix = "in/" if url.startswith("dir") else ""
    members = {f"{prefix}{i}": dice.randbytes(200_000) for i in range(32)}
    (tmp_path / "a.tar").write_bytes(tarred(members))
    store, _ = open_store(url.format(tmp_path / "a.tar"), Options())
    names = list(members) * 4
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda name: read(store, name.removeprefix(prefix)), names))
    assert [name for name, data in zip(names, got, strict=True) if data != members[name]] == []
    store.close()


@pytest.mark.parametrize(
    "url", ["tar://::{}", "tar://::simplecache::file://{}", "dir://in::tar://::file://{}"]
)
def test_folders_of_an_archive(url: str, tmp_path: Path) -> None:
    """Also at its root, where a path that begins with a slash is another one to fsspec."""
    prefix = "in/" if url.startswith("dir") else ""
    members = {f"{prefix}{key}": b"x" for key in ("a/b/c", "a/d", "e")}
    (tmp_path / "a.tar").write_bytes(tarred(members))
    store, _ = open_store(url.format(tmp_path / "a.tar"), Options())
    found = {
        path: sorted((entry.name, entry.is_prefix) for entry in store.list(path))
        for path in ("", "a", "a/b", "none")
    }
    assert found == {
        "": [("a", True), ("e", False)], "a": [("b", True), ("d", False)], "a/b": [("c", False)],
        "none": [],
    }  # fmt: skip
    store.close()


@pytest.mark.parametrize("url", ["tar://::{}", "tar://::simplecache::file://{}"])
@pytest.mark.parametrize("in_place", [False, True])
def test_an_archive_that_is_replaced(url: str, in_place: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    old, new = b"old" * 5000, b"new" * 5000
    path.write_bytes(tarred({"x": old, "y": old}))
    store, _ = open_store(url.format(path), Options())
    assert read(store, "y") == old
    before = store.stat("y")
    content = tarred({"more": bytes(9000), "x": new, "y": new})
    if in_place:
        path.write_bytes(content)
    else:
        (tmp_path / "b.tar").write_bytes(content)
        os.replace(tmp_path / "b.tar", path)
    assert read(store, "y") == new
    assert store.stat("y") != before
    assert {entry.name for entry in store.list("")} == {"x", "y", "more"}
    path.unlink()
    assert store.get("y") is None


@pytest.mark.parametrize("url", ["tar://::file://{}/a.tar", "simplecache::file://{}/a.zarr"])
def test_refresh_shows_what_is_there(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    def write(value: int) -> None:
        made = zarr.create_array(
            tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u1", compressors=None,
            fill_value=0, overwrite=True,
        )  # fmt: skip
        made[:] = value
        with tarfile.open(tmp_path / "a.tar", "w") as file:
            file.add(tmp_path / "a.zarr", "")

    write(1)
    with closing(znfs.open_tree(url.format(tmp_path))) as tree:

        def shown() -> set[int]:
            with tree.open(f"{tree.root_name}.npy") as file:
                return set(np.load(file).ravel().tolist())

        assert shown() == {1}
        write(2)
        tree.refresh()
        assert shown() == {2}
        assert any(copies.iterdir()) == url.startswith("simplecache")
    assert not list(copies.iterdir())


def test_renew_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being opened meanwhile is not kept."""
    (tmp_path / "a.tar").write_bytes(tarred({"x": b"x"}))
    store, _ = open_store(f"tar://::{tmp_path}/a.tar", Options())
    begun, go_on, opened = threading.Event(), threading.Event(), []
    real = fsspec.core.url_to_fs

    def slow(*args: Any, **kwargs: Any) -> Any:
        opened.append(begun.set())
        go_on.wait(20)
        return real(*args, **kwargs)

    monkeypatch.setattr("fsspec.core.url_to_fs", slow)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(store.stat, "x")
        begun.wait(20)
        store.renew()  # type: ignore[attr-defined]
        go_on.set()
        assert found.result()
    assert store.stat("x")
    assert len(opened) == 2


class Line(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Like ftp's: one connection, whose folders' listings are kept and say what objects are."""

    protocol = "znfs-line"
    root_marker = "/"
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {}
    modified: ClassVar[int] = 0
    made: ClassVar[list[Line]] = []

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dircache: dict[str, list[dict[str, Any]]] = {}
        self.broken, self.hangs, self.calls = False, threading.Event(), 0
        self.hangs.set()
        Line.made.append(self)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[dict[str, Any]]:
        if self.broken:
            raise EOFError
        path = "/" + path.strip("/")
        if path not in self.dircache:
            self.dircache[path] = [
                {"name": name, "size": len(data), "type": "file", "modify": str(self.modified)}
                for name, data in self.objects.items()
                if self._parent(name) == path
            ]
        return self.dircache[path]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        try:
            return next(f for f in self.ls(self._parent(path)) if f["name"] == path)
        except StopIteration as error:
            raise FileNotFoundError(path) from error

    def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> bytes:
        self.calls += 1
        assert self.calls == 1, "two at once"
        self.hangs.wait(20)
        self.calls -= 1
        return self.objects[path][start:end]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.pop(path or "", None)


@pytest.fixture
def line() -> Iterator[type[Line]]:
    fsspec.register_implementation("znfs-line", Line, clobber=True)
    Line.objects = {"/a/x": b"one", "/a/y": b"two"}
    Line.modified, Line.made = 0, []
    yield Line
    for made in Line.made:
        made.hangs.set()


def test_a_broken_connection_is_made_anew(line: type[Line]) -> None:
    store, _ = open_store("znfs-line:///a", Options())
    assert read(store, "x") == b"one"
    assert store.get("nothing") is None
    assert len(line.made) == 1
    line.made[0].broken = True
    with pytest.raises(StoreError):
        store.get("x")
    assert read(store, "x") == b"one"
    assert len(line.made) == 2


def test_an_object_that_changes_in_a_listing(line: type[Line]) -> None:
    store, _ = open_store("znfs-line:///a", Options())
    before = store.stat("x")
    line.objects["/a/x"] = b"longer"
    assert read(store, "x") == b"longer"
    line.objects["/a/x"], line.modified = b"other!", 1
    assert read(store, "x") == b"other!"
    now = store.stat("x")
    assert before
    assert now
    assert now.version == "1-6"


def test_who_waits_for_another_call_has_a_deadline(line: type[Line]) -> None:
    store, _ = open_store("znfs-line:///a", Options(deadline=20))
    assert store.stat("x")
    line.made[0].hangs.clear()
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(store.get, "x")
        while not line.made[0].calls:
            time.sleep(0.01)
        began = time.monotonic()
        with deadline.within(0.3), pytest.raises(Unanswered):
            store.get("y")
        assert time.monotonic() - began < 5
        assert read(store, "y") == b"two"  # over another connection
        line.made[0].hangs.set()
        assert hung.result()


def test_caches_of_fsspec_that_cannot_be_opened_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = Options(storage_option={"target_options": "3"})
    store, _ = open_store(f"simplecache::file://{tmp_path}/a", options)
    with pytest.raises(SourceError):
        store.get("x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["info"], ["ls"], ["cat", "a.npy"]])
def test_commands_leave_no_copies(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.arange(8), chunks=(4,))
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    command, *more = words
    assert main([command, f"simplecache::file://{tmp_path}/a.zarr", *more]) == 0
    assert not list(copies.iterdir())


def test_copies_go_where_the_user_says(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.arange(8), chunks=(4,))
    kept = tmp_path / "kept"
    options = {"cache_storage": str(kept)}
    tree = znfs.open_tree(f"simplecache::file://{tmp_path}/a.zarr", storage_option=options)
    with closing(tree), tree.open("a.npy") as file:
        assert np.load(file).tolist() == list(range(8))
    assert any(kept.iterdir())
