"""The disk tier: what it keeps, what it refuses to believe, and that it never fails a read."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import tempfile
import threading
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.waiting import eventually
from znfs.cache.spill import Spill
from znfs.chunks.disk import DiskTier
from znfs.errors import ChunkError, UsageError
from znfs.stores.base import Blob


class Chunks:
    """A dict of chunks that counts."""

    def __init__(self, chunks: dict) -> None:
        self.chunks = chunks
        self.gets: list = []

    def key(self, index):
        return f"k{index}"

    def get(self, index, start=0, stop=None, *, if_match=None):
        self.gets.append(index)
        data = self.chunks.get(index)
        return None if data is None else Blob(data[start:stop], "v", 0.0)

    def get_many(self, indexes):
        for index in indexes:
            yield index, self.get(index)


def failing(number):
    """A call of the system that fails with this errno."""

    def fail(*args, **more):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def entries(folder: Path) -> list[Path]:
    return [p for p in folder.glob("??/*") if not p.name.endswith(".tmp")]


def fill(folder: Path, chunks: dict, url: str = "s3://b", identity: str = "a") -> None:
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store(url).over(Chunks(chunks), identity)
    for index in chunks:
        kept.get(index)
    tier.close()


def test_chunks_outlive_the_process_and_are_not_asked_for_again(folder):
    chunks = {(i,): bytes([i]) * 1000 for i in range(10)}
    fill(folder, chunks)
    again = Chunks(chunks)
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("s3://b").over(again, "a")
    assert {i: bytes(b.data) for i, b in kept.get_many(list(chunks))} == chunks
    assert bytes(kept.get((3,)).data) == chunks[3,]
    assert again.gets == []
    assert tier.status()["hits"] == 11
    tier.close()


@pytest.mark.parametrize("other", [{"url": "s3://c"}, {"identity": "b"}])
def test_another_store_or_version_shares_nothing(folder, other):
    fill(folder, {(0,): b"mine"})
    again = Chunks({(0,): b"other"})
    tier = DiskTier(folder, 1 << 20)
    url, identity = other.get("url", "s3://b"), other.get("identity", "a")
    assert tier.of_store(url).over(again, identity).get((0,)).data == b"other"
    tier.close()


def test_absent_chunks_are_not_kept(folder):
    tier = DiskTier(folder, 1 << 20)
    chunks = Chunks({})
    kept = tier.of_store("u").over(chunks, "a")
    assert kept.get((0,)) is None
    assert kept.get((0,)) is None
    assert len(chunks.gets) == 2
    tier.close()


def test_parts_of_chunks_pass_by(folder):
    tier = DiskTier(folder, 1 << 20)
    chunks = Chunks({(0,): b"0123456789"})
    kept = tier.of_store("u").over(chunks, "a")
    kept.get((0,))
    assert kept.get((0,), 2, 4).data == b"23"
    tier.close()


def test_of_chunks_asked_for_together_those_that_are_kept_are_not_fetched(folder):
    found = {(i,): bytes([i]) * 9 for i in range(5)}
    fill(folder, {i: found[i] for i in [(1,), (3,)]})
    tier = DiskTier(folder, 1 << 20)
    chunks = Chunks(found)
    kept = tier.of_store("s3://b").over(chunks, "a")
    got = dict(kept.get_many([(0,), (1,), (3,), (4,), (7,)]))
    assert {i: blob and bytes(blob.data) for i, blob in got.items()} == {
        i: found.get(i) for i in [(0,), (1,), (3,), (4,), (7,)]
    }
    assert chunks.gets == [(0,), (4,), (7,)]
    tier.close()
    tier = DiskTier(folder, 1 << 20)  # and what was fetched so is kept
    kept = tier.of_store("s3://b").over(Chunks({}), "a")
    assert {i: kept.get(i) is not None for i in found} == {i: i != (2,) for i in found}
    tier.close()


def test_any_flipped_or_missing_byte_is_noticed(folder):
    chunks = {(0,): bytes(range(64))}
    fill(folder, chunks)
    (path,) = entries(folder)
    good = path.read_bytes()
    damaged = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    damaged += [good[:i] for i in range(0, len(good), 7)] + [good + b"\0", b""]
    for data in damaged:
        path.write_bytes(data)
        tier = DiskTier(folder, 1 << 20)
        again = Chunks(chunks)
        kept = tier.of_store("s3://b").over(again, "a")
        assert bytes(kept.get((0,)).data) == chunks[0,]
        assert again.gets == [(0,)]
        assert tier.corrupt == 1
        tier.close()


def test_an_entry_under_another_name_is_not_believed(folder):
    fill(folder, {(0,): b"zero", (1,): b"one"})
    first, second = entries(folder)
    second.write_bytes(first.read_bytes())
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("s3://b").over(Chunks({(0,): b"zero", (1,): b"one"}), "a")
    assert bytes(kept.get((0,)).data) == b"zero"
    assert bytes(kept.get((1,)).data) == b"one"
    tier.close()


def test_the_limit_holds_and_the_least_recently_used_go(folder):
    tier = DiskTier(folder, 100_000)
    chunks = {(i,): os.urandom(5000) for i in range(60)}
    kept = tier.of_store("u").over(Chunks(chunks), "a")
    for index in chunks:
        kept.get(index)
    tier.close()
    assert 0 < sum(p.stat().st_size for p in entries(folder)) <= 100_000 + 5100


def test_what_was_used_last_stays(folder):
    """Also if it was written first."""
    fill(folder, {(i,): bytes([i]) * 5000 for i in range(10)})
    for path in entries(folder):
        os.utime(path, (1000 + path.read_bytes()[-1],) * 2)
    tier = DiskTier(folder, 1 << 20)
    assert tier.of_store("s3://b").over(Chunks({}), "a").get((0,)) is not None
    tier.close()
    DiskTier(folder, 40_000).close()
    assert sorted(path.read_bytes()[-1] for path in entries(folder)) == [0, 4, 5, 6, 7, 8, 9]


def test_while_another_process_looks_through_the_folder_nothing_is_removed(folder):
    fill(folder, {(i,): bytes(5000) for i in range(10)})
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        DiskTier(folder, 10_000).close()
        assert len(entries(folder)) == 10


def test_what_a_killed_writer_left_is_removed(folder):
    fill(folder, {(0,): b"x"})
    (entry,) = entries(folder)
    left, written = entry.with_name("left.tmp"), entry.with_name("written.tmp")
    for path in (left, written):
        path.write_bytes(b"x")
    os.utime(left, (0, 0))
    os.utime(entry, (0, 0))
    DiskTier(folder, 1 << 20).close()
    assert sorted(entry.parent.iterdir()) == sorted((entry, written))


def test_after_renew_nothing_old_is_used_not_even_by_a_later_mount(folder):
    fill(folder, {(0,): b"old"})
    tier = DiskTier(folder, 1 << 20)
    tier.spill.put("band", memoryview(b"old"))
    tier.renew("s3://b")
    assert "band" not in tier.spill
    assert tier.of_store("s3://b").over(Chunks({(0,): b"new"}), "a").get((0,)).data == b"new"
    tier.close()
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("s3://b").over(Chunks({(0,): b"new"}), "a")
    assert bytes(kept.get((0,)).data) == b"new"
    tier.close()


def test_after_renew_on_a_full_disk_nothing_old_is_used(folder, monkeypatch):
    tier = DiskTier(folder, 1 << 20)
    before = tier.of_store("s3://b").over(Chunks({(0,): b"old", (1,): b"old"}), "a")
    before.get((0,))

    with monkeypatch.context() as patch:
        patch.setattr("znfs.chunks.disk.tempfile.mkstemp", failing(errno.ENOSPC))
        tier.renew("s3://b")
    monkeypatch.setattr(tier, "_paused_until", 0.0)
    before.get((1,))  # a load that was under way: it ends when there is room again
    tier.close()
    tier = DiskTier(folder, 1 << 20)
    again = Chunks({(0,): b"new", (1,): b"new"})
    kept = tier.of_store("s3://b").over(again, "a")
    assert [bytes(kept.get(i).data) for i in ((0,), (1,))] == [b"new", b"new"]
    tier.close()


@pytest.mark.parametrize("ends", [True, False], ids=["at its end", "meanwhile"])
def test_after_renew_on_a_read_only_disk_nothing_old_is_used(folder, ends, monkeypatch):
    """Once it may be written again, what was noted before the refresh goes."""
    tier = DiskTier(folder, 1 << 20)
    tier.of_store("s3://b").over(Chunks({(0,): b"old"}), "a").get((0,))
    eventually(lambda: tier.written)

    if not ends:
        monkeypatch.setattr("znfs.chunks.disk._LOOK_SECONDS", 0.01)
        tier.put("k", b"")  # the writer waits no longer as it began to
    with monkeypatch.context() as patch:
        patch.setattr("znfs.chunks.disk.tempfile.mkstemp", failing(errno.EROFS))
        patch.setattr(Path, "unlink", failing(errno.EROFS))
        tier.renew("s3://b")
        assert any((folder / "epochs").iterdir())
    if ends:
        tier.close()
    eventually(lambda: not any((folder / "epochs").iterdir()))
    tier.close()
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("s3://b").over(Chunks({(0,): b"new"}), "a")
    assert bytes(kept.get((0,)).data) == b"new"
    tier.close()


@pytest.mark.parametrize("left", [None, b"", bytes(16), b"\xff" * 16, b"0123456789abcdef\n"])
def test_where_the_epoch_was_lost_nothing_old_is_used(folder, left):
    for _ in range(2):  # as it was before any refresh, and lost in the same way again
        fill(folder, {(0,): b"old"})
        tier = DiskTier(folder, 1 << 20)
        tier.renew("s3://b")
        tier.close()
        (epoch,) = (folder / "epochs").iterdir()
        if left is None:
            shutil.rmtree(folder / "epochs")
        else:
            epoch.write_bytes(left)
        for _ in range(2):  # the first begins an epoch, in which the second goes on
            again = Chunks({(0,): b"new"})
            tier = DiskTier(folder, 1 << 20)
            kept = tier.of_store("s3://b").over(again, "a")
            assert bytes(kept.get((0,)).data) == b"new"
            tier.close()
        assert not again.gets


@pytest.mark.parametrize("harm", ["folder deleted", "folder is a file", "disk full"])
def test_a_broken_folder_fails_no_read(folder, harm, monkeypatch):
    tier = DiskTier(folder, 1 << 20)
    chunks = {(i,): b"x" * 100 for i in range(20)}
    kept = tier.of_store("u").over(Chunks(chunks), "a")
    if harm == "disk full":
        monkeypatch.setattr("znfs.chunks.disk.tempfile.mkstemp", failing(errno.ENOSPC))
    else:
        while folder.exists():  # the tier may be making its lock file just now
            shutil.rmtree(folder, ignore_errors=True)
        if harm == "folder is a file":
            folder.write_bytes(b"")
    for index in chunks:
        assert bytes(kept.get(index).data) == chunks[index]
    tier.renew("u")
    tier.close()


class NoMemory(bytes):
    def __bytes__(self):
        raise MemoryError


def test_a_write_that_fails_leaves_no_file(folder, monkeypatch):
    monkeypatch.setattr("znfs.chunks.disk.os.replace", failing(errno.EIO))
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("u").over(Chunks({(0,): b"x"}), "a")
    assert kept.get((0,)).data == b"x"
    tier.renew("u")
    tier.close()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["lock"]
    assert tier.status()["state"] == "cannot write: Input/output error"


def test_a_folder_that_cannot_be_looked_through_is_told(folder, monkeypatch):
    fill(folder, {(0,): b"x"})
    monkeypatch.setattr("znfs.chunks.disk.os.scandir", failing(errno.EIO))
    tier = DiskTier(folder, 1 << 20)
    assert tier.of_store("s3://b").over(Chunks({}), "a").get((0,)).data == b"x"
    tier.close()
    assert tier.status()["state"] == "cannot look through: Input/output error"
    assert tier.status()["failures"] == 1


@pytest.mark.parametrize("why", [errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_made_for_now(folder, why, monkeypatch):
    """A mount at boot whose disk is full comes up, and uses the folder once there is room."""
    make, folders = Path.mkdir, set()

    def mkdir(path, *args, **more):
        folders.add(path)
        raise OSError(why, os.strerror(why), str(path))

    monkeypatch.setattr("znfs.chunks.disk._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    tier = DiskTier(folder, 1 << 20)
    assert tier.status()["state"] == f"cannot write: {os.strerror(why)}"
    chunks = Chunks({(0,): b"x" * 100})
    kept = tier.of_store("u").over(chunks, "a")
    folders.clear()
    assert kept.get((0,)).data == b"x" * 100
    eventually(lambda: folder in folders)  # it was tried again
    monkeypatch.setattr(Path, "mkdir", make)

    def is_kept() -> bool:
        assert kept.get((0,)).data == b"x" * 100
        return tier.hits > 0

    eventually(is_kept)
    eventually(lambda: tier.status()["state"] == "works")
    tier.close()
    monkeypatch.setattr(Path, "mkdir", mkdir)
    shutil.rmtree(folder)
    why = errno.ENOTDIR
    with pytest.raises(UsageError, match="Not a directory"):
        DiskTier(folder, 1 << 20)


def test_a_write_for_which_there_is_no_memory_is_not_the_last(folder, monkeypatch):
    tier = DiskTier(folder, 1 << 20)
    monkeypatch.setattr("znfs.chunks.disk._PAUSE_SECONDS", 0.0)
    failed, make = [], tempfile.mkstemp

    def once(*args, **more):
        if failed:
            return make(*args, **more)
        failed.append(args)
        raise MemoryError

    monkeypatch.setattr("znfs.chunks.disk.tempfile.mkstemp", once)
    tier.put("a", b"x")
    tier.put("b", b"y")
    tier.put("c", NoMemory())
    tier.close()  # it writes what waits
    assert tier.get("b") == b"y"
    assert "cannot write: MemoryError" in tier.status()["last_errors"][0]["error"]
    assert tier._waiting == 0


def test_renewed_while_the_folder_is_away_nothing_old_is_used_once_it_is_back(folder):
    tier = DiskTier(folder, 1 << 20)
    fill(folder, {(0,): b"old"})
    away = folder.rename(folder.with_name("away"))
    tier.renew("s3://b")
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    kept = tier.of_store("s3://b").over(Chunks({(0,): b"new"}), "a")
    assert bytes(kept.get((0,)).data) == b"new"
    tier.close()


def test_a_neighbour_who_renames_files_meanwhile_does_not_hide_the_rest(folder, monkeypatch):
    fill(folder, {(i,): b"x" * 100 for i in range(20)})
    tier = DiskTier(folder, 1 << 20)
    found = sorted(tier._scan())
    gone, real = entries(folder)[0], os.scandir

    class Vanishing:
        def __init__(self, entry):
            self._entry = entry

        def __getattr__(self, name):
            return getattr(self._entry, name)

        def __fspath__(self):
            return self._entry.path

        def stat(self, **more):
            if self.path == str(gone):
                raise FileNotFoundError(2, "renamed", self.path)
            return self._entry.stat(**more)

    monkeypatch.setattr(
        "znfs.chunks.disk.os.scandir", lambda path: map(Vanishing, real(os.fspath(path)))
    )
    assert sorted(tier._scan()) == [entry for entry in found if entry[2] != str(gone)]
    tier.close()


def test_errors_of_the_store_come_through(folder):
    class Failing(Chunks):
        def get(self, *args, **more):
            raise ChunkError("damaged")

    tier = DiskTier(folder, 1 << 20)
    with pytest.raises(ChunkError):
        tier.of_store("u").over(Failing({}), "a").get((0,))
    tier.close()


def test_the_folder_is_private(folder, monkeypatch):
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")  # nothing is written elsewhere
    fill(folder, {(0,): b"x"})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o077 == 0 for p in folder.rglob("*") if p.name != "lock")


def test_a_folder_of_somebody_else_is_refused(folder):
    if os.geteuid():
        pytest.skip("only root can make a folder of another user")
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to another user"):
        DiskTier(folder, 1 << 20)


def test_a_chunk_is_kept_again(folder):
    """Below a folder that is there already, as are those above `folder`."""
    tier = DiskTier(folder / "a/b", 1 << 20)
    tier.put("a", b"old")
    tier.put("a", b"new")
    tier.close()
    assert tier.get("a") == b"new"
    assert tier.written == 2


def test_an_entry_of_somebody_else_is_not_believed(folder):
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    fill(folder, {(0,): b"x"})
    (entry,) = entries(folder)
    os.chown(entry, 12345, 12345)
    tier = DiskTier(folder, 1 << 20)
    kept = tier.of_store("s3://b").over(Chunks({(0,): b"y"}), "a")
    assert kept.get((0,)).data == b"y"
    tier.close()


def test_spilled_bytes_come_back_or_not_at_all(tmp_path):
    """A ring of overwritten slots under readers: whatever is read is what was put."""
    spill = Spill(tmp_path, 100_000)
    rng = random.Random(1)
    data = {k: rng.randbytes(rng.randrange(1, 9000)) for k in range(300)}
    wrong: list = []
    stop = threading.Event()

    def read() -> None:
        mine = random.Random(threading.get_ident())
        while not stop.is_set():
            k = mine.randrange(300)
            start = mine.randrange(len(data[k]))
            out = bytearray(mine.randrange(len(data[k]) - start + 1))
            if spill.read_into(k, start, memoryview(out)) and out != data[k][start:][: len(out)]:
                wrong.append(k)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for r in readers:
        r.start()
    for _ in range(4):
        for k in data:
            spill.put(k, memoryview(data[k]))
            assert sum(n for _, n in spill._slots.values()) <= 100_000
            slots = sorted(spill._slots.values())
            assert all(a + n <= b for (a, n), (b, _) in pairwise(slots))
    stop.set()
    for r in readers:
        r.join(10)
    assert not wrong
    assert spill.hits
    spill.close()
    assert not spill.read_into(0, 0, memoryview(bytearray(1)))
    assert list(tmp_path.iterdir()) == []


def test_what_was_overwritten_and_spilled_anew_at_its_place_is_not_taken_for_the_same(
    tmp_path, monkeypatch
):
    spill = Spill(tmp_path, 2000)
    spill.put("wanted", memoryview(b"w" * 1000))
    read = os.preadv

    def overtaken(*args):
        spill.put("b", memoryview(b"b" * 1000))
        spill.put("c", memoryview(b"c" * 1000))  # over what is wanted
        done = read(*args)
        spill.put("d", memoryview(b"d" * 1000))
        spill.put("wanted", memoryview(b"w" * 1000))
        return done

    out = bytearray(10)
    monkeypatch.setattr(os, "preadv", overtaken)
    assert not spill.read_into("wanted", 0, memoryview(out))
    monkeypatch.undo()
    assert spill.read_into("wanted", 0, memoryview(out))
    assert out == b"w" * 10
    spill.close()


def test_what_is_left_at_the_end_goes_once_the_ring_begins_anew(tmp_path):
    """Else what comes after it would be taken for what it was when it is overwritten."""
    spill = Spill(tmp_path, 100)
    for key in range(5):
        spill.put(key, memoryview(bytes([key]) * 30))  # at 0, 30, 60; at 0, 30
    spill.put("next", memoryview(b"n" * 45))  # at 0 again
    out = memoryview(bytearray(30))
    assert [key for key in range(5) if spill.read_into(key, 0, out)] == []
    assert spill.read_into("next", 15, out)
    assert bytes(out) == b"n" * 30
    spill.close()


def test_a_disk_that_takes_and_gives_a_few_bytes_at_a_time(tmp_path, monkeypatch):
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr("znfs.cache.spill.os.pwrite", lambda fd, data, at: write(fd, data[:7], at))
    monkeypatch.setattr(
        "znfs.cache.spill.os.preadv", lambda fd, out, at: read(fd, [part[:5] for part in out], at)
    )
    spill, data = Spill(tmp_path, 1000), bytes(range(100))
    spill.put("before", memoryview(b"x" * 33))
    spill.put("a", memoryview(data))
    for start, stop in ((0, 100), (3, 99), (98, 100)):
        out = bytearray(stop - start)
        assert spill.read_into("a", start, memoryview(out))
        assert out == data[start:stop]
    spill.close()


def test_what_cannot_be_read_back_was_not_spilled(tmp_path, monkeypatch):
    spill, out = Spill(tmp_path, 100), memoryview(bytearray(5))
    spill.put("a", memoryview(b"12345"))
    spill.put("larger than half of it", memoryview(bytes(51)))
    assert spill.read_into("a", 0, out)
    assert bytes(out) == b"12345"
    assert "larger than half of it" not in spill
    with monkeypatch.context() as failure:
        failure.setattr("znfs.cache.spill.os.preadv", failing(errno.EIO))
        assert not spill.read_into("a", 0, out)
    with monkeypatch.context() as failure:
        failure.setattr("znfs.cache.spill.os.pwrite", failing(errno.EIO))
        spill.put("b", memoryview(b"54321"))
    assert "b" not in spill
    spill.close()
    spill = Spill(tmp_path, 100)
    spill.put("a", memoryview(b"12345"))
    os.ftruncate(spill._file.fileno(), 3)
    assert not spill.read_into("a", 0, out)
    spill.close()
    spill.put("a", memoryview(b"12345"))
    assert "a" not in spill
    assert spill.hits == 0


def test_a_spill_is_not_closed_under_a_writer(tmp_path, monkeypatch):
    """The number of its file might be another file's by then."""
    spill = Spill(tmp_path, 100_000)
    spill.put(0, memoryview(b"first"))
    closing = threading.Thread(target=spill.close)
    came = threading.Event()  # to the writers' lock, or past it
    write = os.pwrite

    class Door:
        def __init__(self, lock):
            self._lock = lock

        def __enter__(self):
            if threading.current_thread() is closing:
                came.set()
            self._lock.acquire()

        def __exit__(self, *exc_info):
            self._lock.release()

    class File:
        def __init__(self, file):
            self._file = file
            self.fileno = file.fileno

        def close(self):
            self._file.close()
            came.set()

    def slow(number, data, at):
        closing.start()
        assert came.wait(60)
        with suppress(OSError):
            os.fstat(number)
            return write(number, data, at)
        closed.append(number)
        return len(data)

    closed = []
    spill._writing = Door(spill._writing)
    spill._file = File(spill._file)
    monkeypatch.setattr("znfs.cache.spill.os.pwrite", slow)
    spill.put(1, memoryview(b"second"))
    closing.join()
    assert not closed
    assert 1 not in spill
    spill.put(2, memoryview(b"third"))
    assert 2 not in spill
