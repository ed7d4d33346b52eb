"""Stores that change under a mount: never old bytes under a new version, never invented zeros."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests.conftest import Mount, znfs
from tests.waiting import eventually

Values = np.ndarray[Any, Any]
TTL = 0.2
SHAPE, CHUNKS = (8, 64, 64), (2, 32, 32)


def values(seed: int, shape: tuple[int, ...] = SHAPE) -> Values:
    """No zero among them: zeros are what must never be made up."""
    return np.random.default_rng(seed).integers(1, 60000, shape, dtype="u2")


@pytest.fixture(params=["zarr2", "zarr3", "sharded"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Values], Path]:
    """`write(values)`: the array as a new store in place of the old one."""
    root = tmp_path / "v.zarr"
    layout: dict[str, Any] = {
        "zarr2": {"zarr_format": 2, "chunks": CHUNKS, "compressors": None},
        "zarr3": {"zarr_format": 3, "chunks": CHUNKS},
        "sharded": {"zarr_format": 3, "chunks": CHUNKS, "shards": (4, 64, 64)},
    }[request.param]

    def replace(new: Values) -> Path:
        array = zarr.create_array(root, shape=new.shape, dtype=new.dtype, overwrite=True, **layout)
        array[...] = new
        return root

    return replace


def document(root: Path) -> Path:
    return next(root / n for n in ("zarr.json", ".zarray") if (root / n).exists())


def changed(path: Path, before: os.stat_result) -> Callable[[], bool]:
    return lambda: path.stat().st_mtime_ns != before.st_mtime_ns


def read_old(descriptor: int, start: int, size: int) -> bytes | None:
    """What a descriptor from before the change reads: bytes, or None for ESTALE."""
    return pread(descriptor, start, size, errno.ESTALE)


def pread(descriptor: int, start: int, size: int, *refusals: int) -> bytes | None:
    """The bytes, or None where the read is refused with one of those errors."""
    try:
        return os.pread(descriptor, size, start)
    except OSError as error:
        if error.errno not in refusals:
            raise
        return None


def test_rewritten_at_equal_size(write: Callable[[Values], Path], mount: Mount) -> None:
    old, new = values(1), values(2)
    mounted = mount(write(old), "--ttl", TTL)
    path = mounted / "v.npy"
    before = path.stat()
    offset = before.st_size - old.nbytes
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(descriptor, 5000, offset) == old.tobytes()[:5000]
        write(new)
        eventually(changed(path, before))
        for _ in range(3):
            np.testing.assert_array_equal(np.load(path), new)
        np.testing.assert_array_equal(np.load(path, mmap_mode="r"), new)
        for start in range(0, old.nbytes, 4096):
            found = read_old(descriptor, offset + start, 4096)
            assert found in (None, old.tobytes()[start : start + 4096],
                             new.tobytes()[start : start + 4096])  # fmt: skip
    finally:
        os.close(descriptor)


def test_grown(write: Callable[[Values], Path], mount: Mount) -> None:
    old, new = values(1), values(2, (12, 80, 64))
    mounted = mount(write(old), "--ttl", TTL)
    path = mounted / "v.npy"
    np.testing.assert_array_equal(np.load(path), old)
    before = path.stat()
    with path.open("rb"):
        write(new)
        eventually(changed(path, before))
        np.testing.assert_array_equal(np.load(path), new)
        assert path.stat().st_size == before.st_size + new.nbytes - old.nbytes
        assert len(os.listdir(mounted / "tiff")) == 12


def test_identical_document_of_a_new_time(write: Callable[[Values], Path], mount: Mount) -> None:
    old = values(1)
    root = write(old)
    mounted = mount(root, "--ttl", TTL)
    path = mounted / "v.npy"
    np.testing.assert_array_equal(np.load(path), old)
    before = path.stat()
    os.utime(document(root), (before.st_mtime + 100, before.st_mtime + 100))
    eventually(changed(path, before))
    after = path.stat()
    assert after.st_size == before.st_size
    assert int(after.st_mtime) == int(before.st_mtime) + 100
    np.testing.assert_array_equal(np.load(path), old)


def test_the_store_is_deleted(write: Callable[[Values], Path], mount: Mount) -> None:
    old = values(1)
    root = write(old)
    mounted = mount(root, "--ttl", TTL)
    path = mounted / "v.npy"
    offset = path.stat().st_size - old.nbytes
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(descriptor, 100, offset) == old.tobytes()[:100]
        shutil.rmtree(root)
        for start in reversed(range(0, old.nbytes, 4096)):
            found = pread(descriptor, offset + start, 4096, errno.ESTALE, errno.ENOENT)
            # The page cache may hold a part: a short read, and the error comes with the next.
            assert found is None or old.tobytes()[start : start + 4096].startswith(found)
        with pytest.raises(OSError, match=r"No such|Stale") as caught:
            eventually(lambda: not path.read_bytes(), seconds=5)
        assert caught.value.errno in (errno.ENOENT, errno.ESTALE)
    finally:
        os.close(descriptor)


def test_chunks_alone_are_rewritten(
    write: Callable[[Values], Path], mount: Mount, tmp_path: Path
) -> None:
    old, new = values(1), values(2)
    root = write(old)
    mounted = mount(root, "--ttl", TTL)
    path = mounted / "v.npy"
    np.testing.assert_array_equal(np.load(path), old)
    kept = document(root)
    was = kept.stat()
    zarr.open_array(root, mode="r+")[...] = new
    assert (was.st_mtime_ns, was.st_ino) == (kept.stat().st_mtime_ns, kept.stat().st_ino)
    znfs("refresh", mounted)
    np.testing.assert_array_equal(np.load(path), new)


def test_a_shard_is_rewritten_between_index_and_chunk(tmp_path: Path, mount: Mount) -> None:
    """The index in the cache is of the old shard: its ranges are garbage in the new one."""
    root = tmp_path / "v.zarr"
    rng = np.random.default_rng(3)
    old = np.repeat(rng.integers(1, 9, (8, 8, 1)), 64, axis=2).astype("u2")
    new = rng.integers(1, 60000, old.shape, dtype="u2")
    array = zarr.create_array(root, shape=old.shape, chunks=(1, 4, 64), shards=(8, 8, 64),
                              dtype="u2", compressors=zarr.codecs.GzipCodec())  # fmt: skip
    array[...] = old
    mounted = mount(root, "--ttl", 60)
    first = mounted / "chunks/c/0/0/0"
    assert first.read_bytes() == old[:1, :4].tobytes()
    array[...] = new  # other lengths, other offsets; the document stays
    seen = set()
    for z in range(8):
        for y in range(2):
            part = (slice(z, z + 1), slice(4 * y, 4 * y + 4))
            try:
                found = (mounted / f"chunks/c/{z}/{y}/0").read_bytes()
            except OSError as error:
                assert error.errno in (errno.ESTALE, errno.EIO)  # noqa: PT017
                seen.add("refused")
            else:
                assert found in (old[part].tobytes(), new[part].tobytes())
                seen.add("new" if found == new[part].tobytes() else "old")
    assert seen - {"old"}, "old chunks cannot be read any more"
    znfs("refresh", mounted)
    np.testing.assert_array_equal(np.load(mounted / "v.npy"), new)


def test_a_new_array_appears(tmp_path: Path, mount: Mount) -> None:
    root = tmp_path / "g.zarr"
    group = zarr.create_group(root)
    mounted = mount(root, "--ttl", TTL)
    assert not (mounted / "later").exists()
    group.create_array("later", data=values(4))
    eventually((mounted / "later/later.npy").exists)
    assert "later" in os.listdir(mounted)
    np.testing.assert_array_equal(np.load(mounted / "later/later.npy"), values(4))


def test_a_document_breaks_and_heals(tmp_path: Path, mount: Mount) -> None:
    root = tmp_path / "g.zarr"
    group = zarr.create_group(root)
    group.create_array("a", data=values(5))
    group.create_array("b", data=values(6))
    mounted = mount(root, "--ttl", TTL)
    np.testing.assert_array_equal(np.load(mounted / "a/a.npy"), values(5))
    whole = (root / "a/zarr.json").read_text()
    (root / "a/zarr.json").write_text(whole[: len(whole) // 2])
    eventually(lambda: not (mounted / "a/a.npy").exists())
    np.testing.assert_array_equal(np.load(mounted / "b/b.npy"), values(6))
    (root / "a/zarr.json").write_text(json.dumps(json.loads(whole)))
    eventually((mounted / "a/a.npy").exists)
    np.testing.assert_array_equal(np.load(mounted / "a/a.npy"), values(5))


def test_a_child_of_a_group_in_slots(tmp_path: Path, mount: Mount) -> None:
    """The kernel has pages of it, which must not be shown under its new version."""
    root = tmp_path / "g.zarr"
    child = {
        "zarr_format": 2, "shape": [3], "chunks": [3], "dtype": "<i4", "compressor": None,
        "filters": None, "fill_value": 7, "order": "C",
    }  # fmt: skip
    for i in range(1001):
        (root / f"a{i}").mkdir(parents=True)
        (root / f"a{i}" / ".zarray").write_text(json.dumps(child))
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    mounted = mount(root, "--ttl", TTL)
    path = mounted / "g.h5"
    with h5py.File(path) as file:
        assert len(file) == 1001
        assert file["a5"].shape == (3,)
    before = path.stat()
    assert before.st_size == 1 << 62
    descriptor = os.open(path, os.O_RDONLY)
    try:
        (root / "a5" / ".zarray").write_text(json.dumps(child | {"shape": [2]}))
        eventually(changed(path, before))
        with h5py.File(path) as file:
            assert file["a5"][:].tolist() == [7, 7]
            assert file["a6"][:].tolist() == [7, 7, 7]
        assert pread(descriptor, 1 << 61, 100, errno.ESTALE) is None
    finally:
        os.close(descriptor)
    before = path.stat()
    (root / "a5" / ".zarray").write_text(json.dumps(child | {"shape": [1]}))
    znfs("refresh", mounted)
    eventually(changed(path, before))
    with h5py.File(path) as file:
        assert file["a5"].shape == (1,)
