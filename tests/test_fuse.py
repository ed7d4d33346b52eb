"""The file system over a tree in memory, mounted for real.

The daemon's threads are in this process: nothing here may fault on a mapped page of the mount
while it holds the interpreter's lock, so what maps files runs in a process of its own.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.faketree import Blocked, Bytes, Counted, Failing, FakeTree, Folder, text
from tests.waiting import eventually
from znfs import deadline, fuse
from znfs.daemon import mounts
from znfs.errors import ChunkError, Denied, MountError, NotFound, SourceError, Stale, StoreError
from znfs.fuse.handles import OpenDir, Versions
from znfs.fuse.operations import MUTATING, version_ns
from znfs.fuse.session import FIRST_THREADS
from znfs.node import File, Kind

pytestmark = pytest.mark.usefixtures("fuse_device")

DATA = random.Random(1).randbytes(3_000_000)


@contextmanager
def mounted(
    tree: FakeTree, directory: Path, *, binding: str | None = None, writable: bool = False,
    source: str = "fake:///tree", **options: Any,
) -> Iterator[Path]:  # fmt: skip
    """`tree`, mounted at `directory`; `ttl=0` by default, so that changes show at once."""
    options = {"ttl": 0.0} | options
    operations, ttl = fuse.Operations(tree, **options), options["ttl"]
    with serving(operations, directory, ttl, binding=binding, writable=writable, source=source):
        yield directory


@contextmanager
def serving(
    operations: fuse.Operations, directory: Path, ttl: float, *, binding: str | None = None,
    writable: bool = False, source: str = "fake:///tree",
) -> Iterator[None]:  # fmt: skip
    """A mount at `directory` that `operations` answer."""
    directory.mkdir(exist_ok=True)
    loaded = fuse.load_binding(binding)
    ended = threading.Event()
    session = fuse.Session(operations, loaded, ended.set)
    flags = fuse.mount_options(source, loaded, allow_other=False, ttl=ttl)
    session.mount(str(directory), [f for f in flags if not (writable and f == "ro")])
    try:
        session.start()
        yield
    finally:
        mounts.detach(str(directory), lazy=True)
        assert ended.wait(10)


@pytest.fixture
def tree() -> FakeTree:
    return FakeTree(
        Folder({
            "a.bin": text(DATA, "v1", 1_700_000_000.5),
            "empty": text(b""),
            "dir": Folder({"b.txt": text("b\n"), "größe": text("ü")}),
            ".znfs": Folder({"status.json": text("{}")}),
        })
    )  # fmt: skip


def test_libfuse3_is_loaded() -> None:
    assert fuse.load_binding().major == 3


def test_unknown_binding_is_named() -> None:
    with pytest.raises(MountError, match="pyfuse"):
        fuse.load_binding("pyfuse")


def test_ranges(tree: FakeTree, tmp_path: Path) -> None:
    rng = random.Random(2)
    with mounted(tree, tmp_path / "m") as m, open(m / "a.bin", "rb", buffering=0) as f:
        for _ in range(200):
            start = rng.randrange(len(DATA) + 1000)
            size = rng.randrange(1, 300_000)
            assert os.pread(f.fileno(), size, start) == DATA[start : start + size]
        assert (m / "empty").read_bytes() == b""
        assert (m / "dir/größe").read_text() == "ü"


def test_mmap_and_tools(tree: FakeTree, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(DATA)
    with mounted(tree, tmp_path / "m") as m:
        subprocess.run(["cmp", m / "a.bin", tmp_path / "copy"], check=True)
        code = (
            "import mmap, sys; f = open(sys.argv[1], 'rb');"
            "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ);"
            "assert m[:] == open(sys.argv[2], 'rb').read()"
        )
        subprocess.run([sys.executable, "-c", code, m / "a.bin", tmp_path / "copy"], check=True)
        found = subprocess.run(["find", m, "-type", "f"], capture_output=True, check=True)
        assert len(found.stdout.splitlines()) == 5


def test_attributes(tree: FakeTree, tmp_path: Path) -> None:
    with mounted(tree, tmp_path / "m", uid=12, gid=34) as m:
        st = os.stat(m / "a.bin")
        assert stat.S_IMODE(st.st_mode) == 0o444
        assert (st.st_size, st.st_blocks, st.st_nlink) == (len(DATA), -(-len(DATA) // 512), 1)
        assert (st.st_uid, st.st_gid) == (12, 34)
        assert st.st_mtime_ns == 1_700_000_000 * 10**9 + version_ns("v1")
        assert os.stat(m / "dir").st_mode == stat.S_IFDIR | 0o555
        assert os.stat(m).st_ino == 1
        inodes = {p: os.stat(m / p).st_ino for p in ("a.bin", "empty", "dir", "dir/b.txt")}
        assert len(set(inodes.values())) == 4
    with mounted(tree, tmp_path / "other", umask=0o077) as m:
        assert {p: os.stat(m / p).st_ino for p in inodes} == inodes
        assert os.stat(m / "a.bin").st_mtime_ns == st.st_mtime_ns
        assert stat.S_IMODE(os.stat(m / "a.bin").st_mode) == 0o400
        assert stat.S_IMODE(os.stat(m / "dir").st_mode) == 0o500


def test_mount_table_and_statfs(tree: FakeTree, tmp_path: Path) -> None:
    source = r"s3://b/x,y\z and more"
    with mounted(tree, tmp_path / "m", source=source) as m:
        mount = mounts.find(str(m))
        assert mount.source == source
        assert {"ro", "nosuid", "nodev"} <= set(mount.options.split(","))
        tree.down = True
        assert os.statvfs(m).f_namemax == 255


def test_nothing_is_said(tree: FakeTree, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with mounted(tree, tmp_path / "m") as m:
        (m / "a.bin").read_bytes()
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_why_a_mount_fails(tree: FakeTree, tmp_path: Path) -> None:
    session = fuse.Session(fuse.Operations(tree), fuse.load_binding(), lambda: None)
    with pytest.raises(MountError, match=r"missing: cannot mount: .*No such file"):
        session.mount(str(tmp_path / "missing"), ["ro"])
    with pytest.raises(MountError, match="nonsense"):
        session.mount(str(tmp_path), ["nonsense"])


# Listing


@pytest.mark.parametrize("binding", ["mfusepy", "fusepy"])
def test_a_million_names(tmp_path: Path, binding: str) -> None:
    pytest.importorskip(binding.replace("fusepy", "fuse") if binding == "fusepy" else binding)
    count = 10**6
    tree = FakeTree(Folder({"big": Counted(count)}))
    with mounted(tree, tmp_path / "m", binding=binding) as m:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        expected = Counted(count).names()
        with os.scandir(m / "big") as entries:
            assert all(
                entry.name == next(expected) and entry.is_file(follow_symlinks=False)
                for entry in entries
            )
        assert next(expected, None) is None
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_listings_side_by_side(tmp_path: Path) -> None:
    tree = FakeTree(Folder({"big": Counted(5000)}))
    names = list(Counted(5000).names())
    with mounted(tree, tmp_path / "m") as m:
        with os.scandir(m / "big") as one, os.scandir(m / "big") as two:
            pairs = [(a.name, b.name) for a, b in zip(one, two, strict=True)]
        assert pairs == list(zip(names, names, strict=True))
        with ThreadPoolExecutor(8) as pool:
            assert all(found == names for found in pool.map(os.listdir, [m / "big"] * 16))


@pytest.mark.parametrize("binding", ["mfusepy", "fusepy"])
def test_listings_tell_files_from_directories(tmp_path: Path, binding: str) -> None:
    """Who walks the tree then looks at no file: `find` asks for none of them."""
    pytest.importorskip(binding.replace("fusepy", "fuse") if binding == "fusepy" else binding)
    folder = Folder({"a": text(b"1", "v"), "b": Folder({}), "c": text(b"2", "v")})
    tree = FakeTree(Folder({"d": folder}))
    with mounted(tree, tmp_path / "m", binding=binding) as m, os.scandir(m / "d") as entries:
        tree.down = True  # so that a look at an entry would fail
        assert {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries} == {
            "a": False, "b": True, "c": False,
        }  # fmt: skip


def test_listing_from_any_offset() -> None:
    names = [b".", b"..", *(n.encode() for n in Counted(50).names())]
    opened = OpenDir("", Counted(50).entries)
    rng = random.Random(3)
    for _ in range(300):
        offset, room = rng.randrange(len(names) + 1), rng.randrange(1, 9)
        got: list[bytes] = []

        def add(
            name: bytes, kind: Kind, following: int, room: int = room, got: list[bytes] = got
        ) -> int:
            if len(got) == room:
                return 1
            got.append(name)
            assert names[following - 1] == name
            assert kind is (Kind.DIRECTORY if name.startswith(b".") else Kind.FILE)
            return 0

        for _ in range(rng.randrange(1, 4)):  # and the parts that follow it
            opened.fill(offset, add)
            assert got == names[offset : offset + room]
            offset += len(got)
            got.clear()


# Versions


class Recorded(Bytes):
    """An extent that counts its reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads = 0

    def read_into(self, start: int, out: memoryview) -> None:
        self.reads += 1
        super().read_into(start, out)


@pytest.mark.parametrize("ttl", [0.0, 5.0])
def test_rewritten_at_equal_size(tmp_path: Path, ttl: float) -> None:
    root = Folder({"f": text(b"1" * 100_000, "v1")})
    with mounted(FakeTree(root), tmp_path / "m", ttl=ttl) as m, open(m / "f", "rb") as old:
        assert (m / "f").read_bytes() == b"1" * 100_000
        root.nodes["f"] = text(b"2" * 100_000, "v2")
        assert (m / "f").read_bytes() == b"2" * 100_000
        os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError) as caught:
            os.pread(old.fileno(), 10, 50_000)
        assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("ttl", [0.0, 5.0])
@pytest.mark.parametrize("size", [50, 4096, 250_000])
def test_resized(tmp_path: Path, size: int, ttl: float) -> None:
    root = Folder({"f": text(b"1" * 100_000, "v1")})
    with mounted(FakeTree(root), tmp_path / "m", ttl=ttl) as m:
        assert (m / "f").stat().st_size == 100_000
        root.nodes["f"] = text(b"2" * size, "v2")
        with open(m / "f", "rb") as new:  # opened within the attributes' time
            assert os.fstat(new.fileno()).st_size == size
            assert new.read() == b"2" * size


@pytest.mark.parametrize("binding", ["mfusepy", "fusepy"])
@pytest.mark.parametrize("ttl", [0.0, 5.0])
def test_an_older_descriptor_does_not_end_where_the_new_file_does(
    tmp_path: Path, binding: str, ttl: float
) -> None:
    """HDF5's library takes what is beyond a file's end for zeros."""
    pytest.importorskip(binding.replace("fusepy", "fuse") if binding == "fusepy" else binding)
    root = Folder({"f": text(b"1" * 100_000, "v1")})
    with (
        mounted(FakeTree(root), tmp_path / "m", ttl=ttl, binding=binding) as m,
        open(m / "f", "rb", buffering=0) as old,
    ):
        assert old.read(10) == b"1" * 10
        root.nodes["f"] = text(b"2" * 20_000, "v2")
        with open(m / "f", "rb") as new:
            assert new.read() == b"2" * 20_000
        assert (m / "f").stat().st_size == 20_000
        with pytest.raises(OSError) as caught:
            os.pread(old.fileno(), 10, 90_000)
        assert caught.value.errno == errno.ESTALE


def test_an_older_descriptor_reads_nothing_of_the_new_version(tmp_path: Path) -> None:
    root = Folder({"f": text(b"1" * 100_000, "v1")})
    operations = fuse.Operations(FakeTree(root), ttl=5.0)
    with serving(operations, tmp_path, ttl=5.0):
        with open(tmp_path / "f", "rb", buffering=0) as old:
            assert old.read(10) == b"1" * 10
            assert operations._settings.attr_timeout == operations._ttl
            root.nodes["f"] = text(b"2" * 100_000, "v2")
            with open(tmp_path / "f", "rb") as new:
                assert new.read() == b"2" * 100_000  # now in the kernel's pages of that path
                with pytest.raises(OSError) as caught:
                    os.pread(old.fileno(), 10, 50_000)
            assert caught.value.errno == errno.ESTALE
            assert operations._settings.attr_timeout == 0
        eventually(lambda: operations._settings.attr_timeout == operations._ttl)


def test_pages_are_kept_while_the_version_is(tmp_path: Path) -> None:
    extent = Recorded(b"x" * 50_000)
    root = Folder({"f": File([extent], "v1")})
    with mounted(FakeTree(root), tmp_path / "m") as m:
        (m / "f").read_bytes()
        reads = extent.reads
        assert reads
        for _ in range(3):
            (m / "f").read_bytes()
        assert extent.reads == reads


def test_refresh_drops_pages(tmp_path: Path) -> None:
    root = Folder({"f": text(b"1" * 5000, "v1")})
    operations = fuse.Operations(FakeTree(root), ttl=5.0)
    with serving(operations, tmp_path, ttl=5.0):
        assert (tmp_path / "f").read_bytes() == b"1" * 5000
        root.nodes["f"] = text(b"2" * 5000, "v1")  # its chunks alone were rewritten
        assert (tmp_path / "f").read_bytes() == b"1" * 5000
        operations.forget_pages()
        assert (tmp_path / "f").read_bytes() == b"2" * 5000


def test_pages_are_kept_once_the_kernel_has_dropped_the_old_ones(tmp_path: Path) -> None:
    """It does so after the answer to `open`: who opens the file meanwhile must not read them."""
    operations = fuse.Operations(FakeTree(Folder({"f": text(b"1" * 5000, "v1")})))
    operations._shown.set("/f", "v1")

    def opened() -> SimpleNamespace:
        info = SimpleNamespace(flags=os.O_RDONLY, fh=0, keep_cache=0, noflush=0)
        assert operations.open(b"/f", SimpleNamespace(contents=info)) == 0
        return info

    def read(info: SimpleNamespace) -> None:
        out = ctypes.create_string_buffer(10)
        reader = SimpleNamespace(contents=info)
        assert operations.read(b"/f", SimpleNamespace(contents=out), 10, 0, reader) == 10

    for round_ in range(2):
        first, second = opened(), opened()
        assert not first.keep_cache
        assert not second.keep_cache
        read(first)
        assert not opened().keep_cache
        last = opened()
        assert not last.keep_cache
        if round_:
            read(last)
        else:
            operations.release(b"/f", SimpleNamespace(contents=last))
        assert opened().keep_cache
        operations.forget_pages()


def test_forgotten_versions_cost_one_look_up(tmp_path: Path) -> None:
    root = Folder({str(i): text(str(i)) for i in range(50)})
    operations = fuse.Operations(FakeTree(root), ttl=5.0)
    operations._shown, operations._opened = Versions(3), Versions(3)
    with serving(operations, tmp_path, ttl=5.0):
        for _ in range(2):
            for i in range(50):
                assert os.stat(tmp_path / str(i)).st_size
            for i in range(50):
                assert (tmp_path / str(i)).read_text() == str(i)


def test_gone(tmp_path: Path) -> None:
    root = Folder({"f": text(b"1" * 100)})
    with mounted(FakeTree(root), tmp_path / "m") as m, open(m / "f", "rb", buffering=0) as old:
        del root.nodes["f"]
        with pytest.raises(OSError) as caught:
            old.read(10)
        assert caught.value.errno == errno.ESTALE
        with pytest.raises(FileNotFoundError):
            os.stat(m / "f")


def test_control_files_are_live(tree: FakeTree, tmp_path: Path) -> None:
    root = tree.root
    assert isinstance(root, Folder)
    control = root.nodes[".znfs"]
    assert isinstance(control, Folder)
    stats = set()
    with mounted(tree, tmp_path / "m", ttl=5.0) as m:
        for content in ("{}", '{"longer": true}', "{ }"):
            control.nodes["status.json"] = file = text(content, content)
            file.live = True
            assert (m / ".znfs/status.json").read_text() == content
            stats.add((m / ".znfs/status.json").stat()[:9])
    assert len(stats) == 1


# Errors


ERRORS = {
    "store": (StoreError("x/0: no answer"), errno.EIO),
    "chunk": (ChunkError("x/0: damaged"), errno.EIO),
    "denied": (Denied("x/0: 403"), errno.EACCES),
    "stale": (Stale("x/0: gone"), errno.ESTALE),
    "bug": (ValueError("a bug"), errno.EIO),
    "os": (OSError(errno.EINVAL, "from below"), errno.EIO),
    "memory": (MemoryError(), errno.EIO),
    "exit": (SystemExit(3), errno.EIO),
}


def test_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {name: File([Failing(10, error)], "v") for name, (error, _) in ERRORS.items()}
    tree = FakeTree(Folder({**files, "good": text("good")}))
    with mounted(tree, tmp_path / "m") as m, caplog.at_level(logging.DEBUG, "znfs"):
        for name, (_, number) in ERRORS.items():
            with pytest.raises(OSError) as caught:
                (m / name).read_bytes()
            assert caught.value.errno == number, name
        assert (m / "good").read_text() == "good"
    loud = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert {r.exc_info[0] for r in loud if r.exc_info} == {
        ValueError, OSError, MemoryError, SystemExit,
    }  # fmt: skip
    assert any("x/0: damaged" in r.getMessage() for r in loud)
    assert not any("gone" in r.getMessage() for r in loud)


def test_store_down_and_up(tree: FakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("znfs.lastsaid._DOWN_SECONDS", 0.0)
    with mounted(tree, tmp_path / "m") as m:
        tree.down = True
        assert stat.S_ISDIR(os.stat(m).st_mode)
        os.close(os.open(m, os.O_RDONLY))  # as df does
        for look in (os.listdir, lambda p: os.stat(p / "a.bin")):
            with pytest.raises(OSError) as caught:
                look(m)
            assert caught.value.errno == errno.EIO
        tree.down = False
        assert (m / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize("why", [Denied("zarr.json: 403"), SourceError("refs: not JSON")])
def test_where_a_store_refuses_the_mount_tells_of_itself(
    tree: FakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: Exception
) -> None:
    """Else nobody could have it read other credentials, but by its process's number."""
    resolve = tree.resolve
    resolve(".znfs").nodes["status.json"] = file = text("{}")  # type: ignore[attr-defined]
    file.live = True

    def refuse(path: str) -> Any:
        if path.strip("/").startswith(".znfs"):
            return resolve(path)
        raise why

    with mounted(tree, tmp_path / "m", ttl=0.0) as m:
        monkeypatch.setattr(tree, "resolve", refuse)
        assert (m / ".znfs/status.json").read_text() == "{}"
        for look in (os.listdir, lambda p: os.stat(p / "a.bin")):
            with pytest.raises(OSError) as caught:
                look(m)
            assert caught.value.errno == (errno.EACCES if isinstance(why, Denied) else errno.EIO)


def test_a_store_that_is_gone_is_no_empty_folder(
    tree: FakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the C library ENOENT is the end of a listing: cp, tar and rsync would copy nothing."""
    with mounted(tree, tmp_path / "m") as m:
        monkeypatch.setattr(tree, "resolve", mock.Mock(side_effect=NotFound("gone")))
        with pytest.raises(OSError) as caught:
            os.listdir(m)
        assert caught.value.errno == errno.ESTALE


def write_calls(m: Path) -> dict[str, Callable[[], Any]]:
    """System calls that would change the mount at `m`."""
    f, new = str(m / "a.bin"), str(m / "new")
    return {
        "open to write": lambda: os.open(f, os.O_WRONLY),
        "open to append": lambda: os.open(f, os.O_RDWR | os.O_APPEND),
        "open to truncate": lambda: os.open(f, os.O_RDONLY | os.O_TRUNC),
        "creat": lambda: os.open(new, os.O_WRONLY | os.O_CREAT),
        "O_TMPFILE": lambda: os.open(m, os.O_WRONLY | os.O_TMPFILE),
        "truncate": lambda: os.truncate(f, 5),
        "mkdir": lambda: os.mkdir(new),
        "rmdir": lambda: os.rmdir(m / "dir"),
        "unlink": lambda: os.unlink(f),
        "rename": lambda: os.rename(f, new),
        "link": lambda: os.link(f, new),
        "symlink": lambda: os.symlink(f, new),
        "mkfifo": lambda: os.mkfifo(new),
        "mknod": lambda: os.mknod(new),
        "chmod": lambda: os.chmod(f, 0o644),
        "chown": lambda: os.chown(f, 1, 1),
        "utime": lambda: os.utime(f, (1, 1)),
        "setxattr": lambda: os.setxattr(f, "user.x", b"1"),
        "removexattr": lambda: os.removexattr(f, "user.x"),
    }


@pytest.mark.parametrize("writable", [False, True], ids=["ro", "by the daemon alone"])
def test_every_change_is_refused(tree: FakeTree, tmp_path: Path, writable: bool) -> None:
    expected = {errno.EROFS}
    if writable and os.geteuid() != 0:
        expected |= {errno.EACCES, errno.EPERM}  # the kernel asks modes and owners first
    with mounted(tree, tmp_path / "m", writable=writable) as m:
        for name, call in write_calls(m).items():
            if writable and name == "O_TMPFILE":
                continue  # the kernel says EOPNOTSUPP of itself
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno in expected, name
        assert not os.access(m / "a.bin", os.W_OK) or writable
        assert (m / "a.bin").read_bytes() == DATA


def test_refusing_callbacks(tree: FakeTree) -> None:
    callbacks = fuse.Operations(tree).callbacks()
    for name in MUTATING:
        assert callbacks[name](b"/a.bin", 0, 0, None) == -errno.EROFS
    assert callbacks["access"](b"/a.bin", os.W_OK) == -errno.EROFS
    assert callbacks["access"](b"/a.bin", os.R_OK) == 0


# Threads


def test_blocked_reads_delay_nobody(tmp_path: Path) -> None:
    slow = [Blocked(8192) for _ in range(64)]
    files = {f"slow{i}": File([extent], "v") for i, extent in enumerate(slow)}
    tree = FakeTree(Folder({**files, "quick": text(DATA)}))
    with mounted(tree, tmp_path / "m", ttl=5.0) as m, ThreadPoolExecutor(64) as pool:
        try:
            reads = [pool.submit((m / name).read_bytes) for name in files]
            for extent in slow:
                assert extent.waiting.acquire(timeout=20)
            assert (m / "quick").read_bytes() == DATA
            assert len(os.listdir(m)) == 65
            assert not any(read.done() for read in reads)
        finally:
            for extent in slow:
                extent.release.set()
        assert all(read.result(20) == b"x" * 8192 for read in reads)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_more_threads_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("fuse-"):
            raise error
        start(self)

    start = threading.Thread.start
    slow = [Blocked(8192) for _ in range(FIRST_THREADS - 1)]
    files = {f"slow{i}": File([extent], "v") for i, extent in enumerate(slow)}
    operations = fuse.Operations(FakeTree(Folder({**files, "quick": text(DATA)})), ttl=0.0)
    binding, ended = fuse.load_binding(), threading.Event()
    session = fuse.Session(operations, binding, ended.set)
    session.mount(str(tmp_path), fuse.mount_options("x", binding, allow_other=False, ttl=0.0))
    try:
        session.start()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with ThreadPoolExecutor(len(slow)) as pool:
            try:
                reads = [pool.submit((tmp_path / name).read_bytes) for name in files]
                for extent in slow:
                    assert extent.waiting.acquire(timeout=20)
                assert (tmp_path / "quick").read_bytes() == DATA
            finally:
                for extent in slow:
                    extent.release.set()
            assert all(read.result(20) == b"x" * 8192 for read in reads)
        assert session.status()["threads"] == FIRST_THREADS
    finally:
        mounts.detach(str(tmp_path), lazy=True)
        assert ended.wait(10)


@pytest.mark.parametrize("where", ["errno_of", "deadline.begin"])
def test_an_error_for_which_there_is_no_memory_is_no_end_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What raises out of a callback is 0 to libfuse, and the kernel fills up with zeros."""
    broken = []

    def out_of_memory(*args: Any) -> Any:
        if broken:
            raise MemoryError
        return begin(*args)

    begin = deadline.begin
    monkeypatch.setattr(f"znfs.fuse.session.{where}", out_of_memory)
    files = {"file": File([Failing(8192, StoreError("gone"))], "v")}
    with mounted(FakeTree(Folder(files)), tmp_path / "m") as m:
        fd = os.open(m / "file", os.O_RDONLY)
        try:
            broken.append(True)
            with pytest.raises(OSError) as caught:
                os.pread(fd, 100, 0)
            assert caught.value.errno == errno.EIO
        finally:
            broken.clear()
            os.close(fd)


def test_no_thread_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = fuse.Session(fuse.Operations(FakeTree(Folder({}))), fuse.load_binding(), lambda: None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(MountError, match="no thread"):
        session.start()


def test_sixteen_readers(tmp_path: Path) -> None:
    files = {f"f{i}": text(random.Random(i).randbytes(300_000)) for i in range(8)}
    with mounted(FakeTree(Folder(files)), tmp_path / "m") as m:

        def read(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(100):
                i, start = rng.randrange(8), rng.randrange(300_000)
                with open(m / f"f{i}", "rb", buffering=0) as f:
                    got = os.pread(f.fileno(), 5000, start)
                assert got == files[f"f{i}"].read(start, 5000)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(read, range(16)))


def test_libfuse2_smoke(tree: FakeTree, tmp_path: Path) -> None:
    pytest.importorskip("fuse")
    with mounted(tree, tmp_path / "m", binding="fusepy", source=r"s3://b/x,y\z") as m:
        assert mounts.find(str(m)).source == r"s3://b/x,y\z"
        assert (m / "a.bin").read_bytes() == DATA
        assert sorted(os.listdir(m)) == [".znfs", "a.bin", "dir", "empty"]
        assert os.stat(m / "a.bin").st_blocks == -(-len(DATA) // 512)
        with pytest.raises(FileNotFoundError):
            os.stat(m / "none")
        with pytest.raises(OSError) as caught:
            os.mkdir(m / "new")
        assert caught.value.errno == errno.EROFS
        old = (m / "a.bin").stat()
        tree.root.nodes["a.bin"] = text(b"2" * len(DATA), "v2")
        assert (m / "a.bin").read_bytes() == b"2" * len(DATA)
        assert (m / "a.bin").stat().st_mtime_ns != old.st_mtime_ns
