"""What only local folders have: permissions, links, special files, files that change."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from znfs.errors import Denied, Stale, StoreError
from znfs.stores.local import LocalStore
from znfs.tree import open_tree


def test_version_is_mtime_size_inode(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    found, stat = LocalStore(str(tmp_path)).stat("x"), (tmp_path / "x").stat()
    assert found is not None
    assert found.version == f"{stat.st_mtime_ns}-5-{stat.st_ino}"
    assert found.mtime == pytest.approx(stat.st_mtime)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_bytes(b"1")
    store = LocalStore(str(tmp_path))
    if os.geteuid():
        (tmp_path / "d/x").chmod(0)
    else:  # root may read all
        real = os.open

        def refuse(path: str, flags: int) -> int:
            if path.endswith("/x"):
                raise PermissionError(13, "Permission denied", path)
            return real(path, flags)

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Denied, match="d/x"):
        store.get("d/x")


@pytest.mark.parametrize("number", [5, 116, 110, 24])  # EIO, ESTALE, ETIMEDOUT, EMFILE
def test_other_errors_are_never_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "x").write_bytes(b"1")
    store = LocalStore(str(tmp_path))

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    for name, call in (
        ("open", lambda: store.get("x")), ("pread", lambda: store.get("x")),
        ("stat", lambda: store.stat("x")), ("scandir", lambda: list(store.list(""))),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(StoreError):
                call()


def test_links(tmp_path: Path) -> None:
    root = tmp_path / "x.zarr"
    root.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"there")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/y").write_bytes(b"inside")
    (root / "file").symlink_to(tmp_path / "elsewhere")
    (root / "folder").symlink_to(tmp_path / "folder")
    (root / "lost").symlink_to(tmp_path / "nowhere")
    (root / "loop").symlink_to("loop")
    store = LocalStore(str(root))
    blob = store.get("file")
    assert blob is not None
    assert blob.data == b"there"
    assert store.get("folder/y")
    assert {(e.name, e.is_prefix) for e in store.list("")} == {("file", False), ("folder", True)}
    # A chunk whose disk is not mounted (git-annex, …) is no missing chunk.
    for key in ("lost", "lost/deeper", "loop"):
        with pytest.raises(StoreError):
            store.get(key)


def test_links_that_go_round_are_not_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "a/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/x").symlink_to("../b")
    (tmp_path / "b/y").symlink_to("../a")
    (tmp_path / "a/self").symlink_to(".")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/beside").symlink_to("inner")
    (tmp_path / "b/z").write_bytes(b"1")
    store = LocalStore(str(tmp_path))

    def names(prefix: str) -> set[str]:
        return {entry.name for entry in store.list(prefix)}

    assert names("a") == {"inner", "x", "beside"}
    assert names("a/x") == {"z"}  # and no way back to `a`
    assert names("b") == {"y", "z"}
    assert store.get("a/x/y/x/z")  # whoever asks for it by name


def test_special_files_are_no_objects(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    store = LocalStore(str(tmp_path))
    assert store.get("fifo") is None  # and does not wait for a writer
    assert store.stat("fifo") is None
    assert list(store.list("")) == []
    assert LocalStore("/dev").get("null") is None


def test_long_names_are_absent(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert store.get("x" * 300) is None
    assert store.stat("x" * 300) is None
    assert store.get("x\0y") is None


def test_the_root_vanishes(tmp_path: Path) -> None:
    root = tmp_path / "x.zarr"
    root.mkdir()
    (root / "k").write_bytes(b"1")
    store = LocalStore(str(root))
    assert store.get("k")
    root.rename(tmp_path / "y")
    assert store.get("k") is None
    assert list(store.list("")) == []
    (tmp_path / "y").rename(root)
    assert store.get("k")


def test_a_file_as_root(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    store = LocalStore(str(tmp_path / "a.zip"))
    blob = store.get("")
    assert blob is not None
    assert blob.data == b"PK"
    assert store.get("below") is None


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff")
    (tmp_path / name).write_bytes(b"1")
    store = LocalStore(str(tmp_path))
    assert [e.name for e in store.list("")] == [name]
    assert store.get(name)


def test_rewriting_never_mixes(tmp_path: Path) -> None:
    """A file is rewritten in place all the time: every answer is of one version, or an error."""
    path, size, over = tmp_path / "x", 1 << 20, threading.Event()
    path.write_bytes(b"a" * size)
    store = LocalStore(str(tmp_path))

    def rewrite() -> None:
        with path.open("r+b", buffering=0) as file:
            for letter in b"bcdefghijklmnopqrstuvwxyz" * 4:
                file.seek(0)
                file.write(bytes([letter]) * size)
        over.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    answers = 0
    while not over.is_set() or not answers:
        try:
            blob = store.get("x")
        except StoreError:
            continue
        assert blob is not None
        answers += 1
        # Linux stamps a write when it begins: pages written since then are what can be mixed in.
        assert len(blob.data) == size
    writer.join()
    blob = store.get("x")
    assert blob is not None
    assert set(bytes(blob.data)) == {ord("z")}


@pytest.mark.parametrize("times", [1, 2, 99])
def test_a_file_that_is_rewritten_under_a_read_is_read_anew(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of it, `times` times: half of the bytes are then of another version."""
    path, real, calls = tmp_path / "x", os.pread, []
    path.write_bytes(b"a" * 100)

    def rewritten(fd: int, size: int, at: int) -> bytes:
        data = real(fd, size, at)[:60]
        if not at and len(calls) < times:
            calls.append(at)
            path.write_bytes(b"bcd"[len(calls) % 3 :][:1] * 100)
            os.utime(path, ns=(0, len(calls)))
        return data

    store = LocalStore(str(tmp_path))
    monkeypatch.setattr(os, "pread", rewritten)
    if times == 99:
        with pytest.raises(StoreError, match="changes while it is read"):
            store.get("x")
        return
    blob = store.get("x")
    assert blob is not None
    assert blob.data == path.read_bytes()
    assert blob.version == store.stat("x").version
    part = store.get("x", 10, 95)
    assert part is not None
    assert part.data == path.read_bytes()[10:95]


def test_truncation_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 100)
    store = LocalStore(str(tmp_path))
    real = os.pread
    calls = []

    def cut(fd: int, size: int, at: int) -> bytes:
        calls.append(at)
        if len(calls) == 1:
            os.truncate(path, 10)
        return real(fd, size, at)

    monkeypatch.setattr(os, "pread", cut)
    blob = store.get("x")
    assert blob is not None
    assert blob.data == b"a" * 10
    old = blob.version
    path.write_bytes(b"b" * 10)
    os.utime(path, (1, 1))
    with pytest.raises(Stale):
        store.get("x", if_match=old)


def test_what_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nowhere")
    store = LocalStore(str(tmp_path))
    assert store.is_folder("folder")
    assert store.is_folder("link")
    others = ("file", "absent", "folder/absent", "file/x", "..", "a//b")
    assert not any(store.is_folder(path) for path in others)
    for path in ("dangling", "dangling/below"):
        with pytest.raises(StoreError):
            store.is_folder(path)


def test_a_name_that_is_not_there_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every view's name may be a child's: one look says that it is not, not one a document."""
    (tmp_path / ".zarray").write_text(
        '{"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<u2", "order": "C",'
        ' "fill_value": 0, "compressor": null, "filters": null}'
    )
    tree = open_tree(str(tmp_path))
    gets = []
    get = LocalStore.get
    monkeypatch.setattr(
        LocalStore, "get", lambda self, key, *a, **k: gets.append(key) or get(self, key, *a, **k)
    )
    assert tree.resolve(f"{tree.root_name}.npy").size
    assert not gets
