"""Chunks with gaps between, read one after another through a real mount: the kernel reads ahead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests import test_fuse
from tests.conftest import ROOT
from tests.faketree import Bytes, FakeTree, Folder
from tests.test_extents import make_array
from tests.waiting import eventually
from znfs.arrays.extents import Blocks, Zeros
from znfs.cache import BlockCache
from znfs.daemon import mounts
from znfs.fuse import load_binding
from znfs.fuse.readahead import ReadAhead, is_own
from znfs.line import Line
from znfs.node import File

pytestmark = pytest.mark.usefixtures("fuse_device")

CHUNK = (64, 32, 64)
NBYTES = 256 << 10  # a chunk of u2
STRIDE = 3 * NBYTES
COUNT = 40
VALUES = np.arange(COUNT * NBYTES // 2, dtype="u2").reshape(COUNT * 64, 32, 64)


class Chunks(Blocks):
    """Blocks that take note of whose bytes were read."""

    def __init__(self, far: bool = False) -> None:
        array, values, _ = make_array(VALUES.shape, CHUNK)
        array.cache = BlockCache(64 << 20, 2, line=Line(4) if far else None)
        super().__init__(array, 0, COUNT, STRIDE)
        self.chunks = [values[k * 64 : k * 64 + 64].tobytes() for k in range(COUNT)]
        self.taken: set[int] = set()
        self.broken: int | None = None

    def read_into(self, start: int, out: memoryview) -> None:
        if start // STRIDE == self.broken:
            raise OSError("broken")
        super().read_into(start, out)
        if start % STRIDE < NBYTES:
            self.taken.add(start // STRIDE)


class GapFile(File):
    has_gaps = True


def tree_of(chunks: Chunks) -> FakeTree:
    return FakeTree(Folder({"v.h5": GapFile([chunks], "v1")}))


@contextmanager
def mounted(tree: FakeTree, directory: Path, **options: Any) -> Iterator[Path]:
    """As test_fuse's. A test that fails leaves no file open: reader and daemon are one process,
    which would wait at its end for an answer that it has to give."""
    with test_fuse.mounted(tree, directory, **options) as m:
        try:
            yield m
        except BaseException:
            for fd in map(int, os.listdir("/proc/self/fd")):
                if is_of(m, fd):
                    os.close(fd)
            raise


def take(fd: int, k: int) -> bytes:
    return os.pread(fd, NBYTES, k * STRIDE)


def own_files(mountpoint: Path) -> list[int]:
    """Descriptors of files of the mount. This process is reader and daemon."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_of(mountpoint, fd)]


def is_of(mountpoint: Path, fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(f"{mountpoint}/")
    except FileNotFoundError:
        return False


def test_the_daemon_knows_its_own_files() -> None:
    assert is_own(os.O_RDONLY | os.O_DSYNC | os.O_NONBLOCK)
    for flags in (0, os.O_NONBLOCK, os.O_DSYNC, os.O_SYNC, os.O_SYNC | os.O_NONBLOCK):
        assert not is_own(flags)


@pytest.fixture
def ahead(tmp_path: Path) -> ReadAhead:
    """For files of a folder that is no mount."""
    (tmp_path / "v.h5").write_bytes(bytes(8192))
    found = ReadAhead()
    found.use(load_binding(), str(tmp_path))
    found.agree(40)
    assert found.able
    return found


def test_a_file_is_closed_before_its_reader_is_told(ahead: ReadAhead, tmp_path: Path) -> None:
    for i in (1, 2):
        ahead.ask(7, "v.h5", [range(4096)])
        eventually(lambda i=i: ahead.asked == i and ahead._in_use is None)  # type: ignore[misc]
        assert len(own_files(tmp_path)) == 1
        ahead.drop(7)
        assert not own_files(tmp_path)


def test_a_file_in_use_is_closed_after_that(
    ahead: ReadAhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Event(), threading.Event()

    def advise(*args: int) -> None:
        begun.set()
        assert over.wait(20)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    ahead.ask(7, "v.h5", [range(4096)])
    ahead.ask(7, "v.h5", [range(4096, 8192)])
    assert begun.wait(20)
    ahead.drop(7)
    assert len(own_files(tmp_path)) == 1
    over.set()
    eventually(lambda: not own_files(tmp_path))
    ahead.ask(8, "gone.h5", [range(4096)])  # no harm
    ahead.ask(9, "v.h5", [range(4096)])
    eventually(lambda: ahead.asked == 2)


def test_no_thread_to_be_had(
    ahead: ReadAhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that cannot be given fails no read, and may be given another time."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        ahead.ask(7, "v.h5", [range(4096)])
    ahead.ask(7, "v.h5", [range(4096)])
    eventually(lambda: ahead.asked == 1 and ahead._in_use is None)
    ahead.drop(7)
    assert not own_files(tmp_path)


def test_older_kernels_are_not_asked(ahead: ReadAhead) -> None:
    ahead.agree(34)
    ahead.ask(7, "v.h5", [range(4096)])
    assert ahead._thread is None


def test_a_walk_finds_the_next_chunks_in_the_page_cache(tmp_path: Path) -> None:
    chunks = Chunks()
    with mounted(tree_of(chunks), tmp_path / "m") as m:
        fd = os.open(m / "v.h5", os.O_RDONLY)
        for k in range(6):
            assert take(fd, k) == chunks.chunks[k]
        eventually(lambda: 6 in chunks.taken)
        broken = chunks.broken = max(chunks.taken)  # all before it is there already
        for k in range(6, broken):
            assert take(fd, k) == chunks.chunks[k]
        chunks.broken = None
        for k in range(broken, COUNT):
            assert take(fd, k) == chunks.chunks[k]
        assert len(own_files(m)) == 2
        os.close(fd)
        eventually(lambda: not own_files(m))


@pytest.mark.parametrize("binding", ["mfusepy", "fusepy"])
def test_a_closed_file_leaves_the_mount_free(tmp_path: Path, binding: str) -> None:
    """Whatever the thread that asks the kernel is about."""
    if binding == "fusepy":
        pytest.importorskip("fuse")
    chunks = Chunks()
    with mounted(tree_of(chunks), tmp_path / "m", binding=binding) as m:
        for stop in range(4, COUNT):
            os.posix_fadvise(fd := os.open(m / "v.h5", os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
            for k in range(stop):
                assert take(fd, k) == chunks.chunks[k]
            os.close(fd)
            eventually(lambda: not own_files(m))


def test_files_opened_and_closed_side_by_side(tmp_path: Path) -> None:
    chunks = Chunks()
    with mounted(tree_of(chunks), tmp_path / "m") as m:

        def walk(first: int) -> None:
            for _ in range(5):
                fd = os.open(m / "v.h5", os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                for k in range(first, first + 16):
                    assert take(fd, k) == chunks.chunks[k]
                os.close(fd)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(walk, (0, 0, 5, 11, 13, 20, 24, 24)))
        eventually(lambda: not own_files(m))


def test_who_jumps_about_gets_no_more_than_that(tmp_path: Path) -> None:
    chunks = Chunks()
    with mounted(tree_of(chunks), tmp_path / "m") as m:
        fd = os.open(m / "v.h5", os.O_RDONLY)
        wanted = [5, 30, 6, 31, 12, 1, 20, 38]
        for k in wanted:
            assert take(fd, k) == chunks.chunks[k]
        assert len(own_files(m)) == 1
        os.close(fd)
    assert chunks.taken == set(wanted)


def test_who_copies_the_file_is_read_ahead_for_by_the_kernel_alone(tmp_path: Path) -> None:
    chunks = Chunks()
    header = bytes(15 * 4096)
    tree = FakeTree(Folder({"v.h5": GapFile([Bytes(header), chunks], "v1")}))
    with mounted(tree, tmp_path / "m") as m:
        fd = os.open(m / "v.h5", os.O_RDONLY)
        found = b""
        while data := os.read(fd, 1 << 20):
            found += data
            assert len(own_files(m)) == 1
        os.close(fd)
    gap = bytes(STRIDE - NBYTES)
    assert found == header + b"".join(chunk + gap for chunk in chunks.chunks)


def test_what_is_not_being_loaded_is_not_asked_for(tmp_path: Path) -> None:
    """A cache that holds too little to look ahead: who reads ahead in it would fetch twice."""
    chunks = Chunks()
    chunks._array.cache = BlockCache(NBYTES, 0)
    with mounted(tree_of(chunks), tmp_path / "m") as m:
        fd = os.open(m / "v.h5", os.O_RDONLY)
        for k in range(10):
            assert take(fd, k) == chunks.chunks[k]
        assert len(own_files(m)) == 1
        os.close(fd)
    assert chunks.taken == set(range(10))


def test_a_chunk_that_fails_ahead_fails_who_reads_it_and_recovers(tmp_path: Path) -> None:
    chunks = Chunks()
    chunks.broken = 8
    with mounted(tree_of(chunks), tmp_path / "m") as m:
        fd = os.open(m / "v.h5", os.O_RDONLY)
        for k in range(COUNT):
            if k == 8:
                with pytest.raises(OSError, match="Input/output error"):
                    take(fd, k)
            else:
                assert take(fd, k) == chunks.chunks[k]
        chunks.broken = None
        assert take(fd, 8) == chunks.chunks[8]
        os.close(fd)


def test_reads_ahead_of_an_older_version_change_nothing(tmp_path: Path) -> None:
    """A file is rewritten while it is read: readers of the old one are told, those of the new one
    see nothing of the old."""
    old = Chunks()
    tree = tree_of(old)
    with mounted(tree, tmp_path / "m") as m:
        for _ in range(5):
            fd = os.open(m / "v.h5", os.O_RDONLY)
            for k in range(6):
                assert take(fd, k) == old.chunks[k]
            tree.root.nodes["v.h5"] = GapFile([Zeros(COUNT * STRIDE)], "v2")
            again = os.open(m / "v.h5", os.O_RDONLY)
            for k in range(COUNT):
                assert take(again, k) == bytes(NBYTES)
            os.close(fd)
            os.close(again)
            tree.root.nodes["v.h5"] = GapFile([old], "v1")


SCRIPT = """
import subprocess, sys, h5py
with h5py.File(sys.argv[1]) as file:
    file["v"][...]
sys.exit(subprocess.call(["fusermount3", "-u", sys.argv[2]]))
"""


def test_the_daemon(tmp_path: Path) -> None:
    """With h5py, and unmounted by who has just read."""
    array = zarr.create_array(tmp_path / "v.zarr", shape=VALUES.shape, chunks=CHUNK, dtype="u2")
    array[...] = VALUES
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": "/nonexistent"}
    words = [sys.executable, "-m", "znfs", "mount", str(tmp_path / "v.zarr"), str(mountpoint)]
    for _ in range(3):
        subprocess.run(words, env=env, check=True, timeout=60)
        try:
            with h5py.File(mountpoint / "v.h5") as file:
                np.testing.assert_array_equal(file["v"][...], VALUES)
            fuse = mounts.status(str(mountpoint))["fuse"]
            assert fuse["read_ahead"] > 0
            assert fuse["open_files"] == 0
            assert np.array_equal(np.load(mountpoint / "v.npy"), VALUES)
            after = mounts.status(str(mountpoint))["fuse"]
            # Files without gaps cost no FLUSH.
            assert after["requests"]["flush"] == fuse["requests"]["flush"] > 0
            os.posix_fadvise(fd := os.open(mountpoint / "v.h5", 0), 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, str(mountpoint / "v.h5"), str(mountpoint)],
                env=env, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
        finally:
            if any(mount.mountpoint == str(mountpoint) for mount in mounts.mounts()):
                mounts.detach(str(mountpoint), lazy=True)
