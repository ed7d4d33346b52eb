"""Hostile stores: never a hang, a crash, memory beyond what sizes declare, or another's file.

The suite tries a few; `make fuzz` thousands (ZNFS_FUZZ_STORES) from another seed (ZNFS_FUZZ_SEED).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Mount
from tests.fuzz.hostile import noise, store
from tests.test_zip_store import Remote
from znfs.daemon import mounts
from znfs.errors import StoreError, ZnfsError
from znfs.node import File, Node
from znfs.options import VIEW_NAMES
from znfs.stores.zip import ZipStore
from znfs.tree import Tree, open_tree

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(3600)]
STORES = int(os.environ.get("ZNFS_FUZZ_STORES", "60"))
SEED = int(os.environ.get("ZNFS_FUZZ_SEED", "0"))
_PIECE = 64 << 10
_MOST_NAMES = 40  # of one directory
# A store: a plane across a thousand chunks takes seconds on a busy machine, a hang for ever.
_MOST_SECONDS = 300.0
_CACHE = 64 << 20
# Beyond the cache: what Python and its libraries take, decoded chunks that are on their way, and
# the largest document.
_MOST_RSS = 900 << 20
_EXPECTED = {errno.EIO, errno.ENOENT, errno.ESTALE, errno.EACCES, errno.ENOTDIR}
SECRET = b"a secret beside the stores"


def source(root: Path) -> str:
    return f"zip::{root}/a.zip" if (root / "a.zip").exists() else str(root)


def nodes(tree: Tree, path: str, depth: int = 0) -> Iterator[tuple[str, Node]]:
    """What listing shows below `path`, a few names of each directory."""
    node = tree.resolve(path)
    yield path, node
    if isinstance(node, File) or depth > 6:
        return
    for number, name in enumerate(node.names()):
        if number == _MOST_NAMES:
            return
        assert name not in ("", ".", "..")
        assert "/" not in name
        try:
            yield from nodes(tree, f"{path}/{name}" if path else name, depth + 1)
        except ZnfsError:
            continue


def read_some(node: File) -> None:
    for start in (0, node.size // 2, max(0, node.size - _PIECE)):
        try:
            assert SECRET not in node.read(start, min(_PIECE, node.size - start))
        except ZnfsError:
            continue


def visit(root: Path) -> None:
    """Look at everything in the tree of a store, with all its views."""
    try:
        tree = open_tree(source(root), cache_size=_CACHE, views=VIEW_NAMES)
    except ZnfsError:
        return
    try:
        for description in tree.describe():
            assert ".." not in description.path.split("/")
        for _, node in nodes(tree, ""):
            if isinstance(node, File):
                read_some(node)
    except ZnfsError:
        pass
    finally:
        tree.close()


@pytest.mark.parametrize("part", range(3))
def test_trees_of_hostile_stores(part: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    for number in range(part, STORES, 3):
        seed = f"{SEED}-{number}"
        root = tmp_path / "store"
        store(random.Random(seed), root)
        began = time.monotonic()
        try:
            visit(root)
        except Exception as error:
            raise AssertionError(f"store {seed}: {error!r}") from error
        assert time.monotonic() - began < _MOST_SECONDS, seed
        shutil.rmtree(root)


def test_zip_files_of_noise() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"a{number}/b", bytes(range(200)) * number)
    whole = packed.getvalue()
    rng = random.Random(SEED)
    for _ in range(50 * STORES):
        directory = whole[:-500] + noise(rng, whole[-500:])
        store = ZipStore(Remote(directory if rng.random() < 0.7 else noise(rng, whole)))
        with contextlib.suppress(StoreError):
            for entry in store.list(""):
                with contextlib.suppress(StoreError):
                    store.get(f"{entry.name}/b", 0, 500)


def peak_rss(pid: int) -> int:
    """Bytes of memory the process had at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def test_a_mount_of_hostile_stores(tmp_path: Path, mount: Mount) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    stores = tmp_path / "stores"
    for number in range(STORES):
        store(random.Random(f"{SEED}-mount-{number}"), stores / f"s{number}")
    (stores / "good.txt").write_bytes(b"good")
    mounted = mount(stores, "--cache-size", str(_CACHE))
    pid = mounts.status(str(mounted))["pid"]
    for number in range(STORES):
        began = time.monotonic()
        walk(mounted / f"s{number}", 0)
        assert time.monotonic() - began < _MOST_SECONDS, number
        assert (mounted / "good.txt").read_bytes() == b"good", number
    assert mounts.status(str(mounted))["pid"] == pid
    assert peak_rss(pid) < _MOST_RSS


def walk(folder: Path, depth: int) -> None:
    """Look at everything, read the ends of every file; only promised errors."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry, _ in zip(entries, range(_MOST_NAMES), strict=False)]
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if depth < 6:
                    walk(folder / entry.name, depth + 1)
                continue
            ends(entry.path)
        for name in ("../../secret", "..", "c/../../../secret", "0.0", "c/0/0/0", "chunks/0/0/0"):
            if name.startswith(("0", "c")):
                ends(f"{folder}/{name}")
    except OSError as error:
        if error.errno not in _EXPECTED:
            raise


def ends(path: str) -> None:
    try:
        if os.path.isdir(path):
            return
        size = os.stat(path).st_size
        with open(path, "rb", buffering=0) as file:
            for start in (0, max(0, size - _PIECE)):
                assert SECRET not in os.pread(file.fileno(), _PIECE, start)
    except OSError as error:
        if error.errno not in _EXPECTED:
            raise
