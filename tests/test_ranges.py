"""Any range of any view equals that part of the whole, whatever the cache holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import znfs
from tests.mounts.stores import Case, write
from znfs.node import File
from znfs.tree import Tree

CASES = (
    Case("zarr2", ">u2", "blosc-lz4", "F", 3, "cut", True, "plain"),
    Case("zarr3", "<f4", "zstd", "F", 4, "cut", True, "nested"),
    Case("zarr3", ">c16", "none", "C", 2, "cut", True, "end"),
    Case("zarr3", "|i1", "crc32c", "C", 1, "cut", False, "start"),
    Case("n5", "|u1", "gzip", "C", 5, "cut", True, "plain"),
)
TINY_CACHE = 4096  # some blocks of some arrays


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, File, bytes]]]:
    """Each view's file under a tiny cache, and its bytes as read in order under a large one."""
    root = tmp_path_factory.mktemp("ranges")
    found = []
    with ExitStack() as stack:
        for case in CASES:
            store = root / case.format / case.name
            write(store, case)
            large = open_tree(stack, store, 1 << 28)
            tiny = open_tree(stack, store, TINY_CACHE)
            for path in walk(large, ""):
                whole, file = large.resolve(path), tiny.resolve(path)
                assert isinstance(whole, File)
                assert isinstance(file, File)
                found.append((path, file, whole.read(0, whole.size)))
                assert len(found[-1][2]) == whole.size == file.size
        yield found


def open_tree(stack: ExitStack, root: Path, cache: int) -> Tree:
    tree = znfs.open_tree(str(root), cache_size=cache, views=ALL)
    stack.callback(tree.close)
    return tree


ALL = ("chunks", "npy", "tiff", "tiff.xz", "tiff.yz", "tif", "btf", "h5")


def walk(tree: Tree, path: str) -> Iterator[str]:
    """Every listed file."""
    node = tree.resolve(path)
    if isinstance(node, File):
        yield path
        return
    for name in node.names():
        if name != ".znfs":  # live
            yield from walk(tree, f"{path}/{name}")


def test_every_view_is_there(files: list[tuple[str, File, bytes]]) -> None:
    paths = [path for path, _, _ in files]
    for ending in (".npy", ".tif", ".btf", ".h5", "zarr.json", ".zarray", "attributes.json"):
        assert any(path.endswith(ending) for path in paths), ending
    for folder in ("chunks", "tiff", "tiff.xz", "tiff.yz"):
        assert any(path.startswith(f"/{folder}/") for path in paths), folder


@given(data=st.data())
def test_any_range_is_part_of_the_whole(
    files: list[tuple[str, File, bytes]], data: st.DataObject
) -> None:
    path, file, whole = data.draw(st.sampled_from(files), label="file")
    for _ in range(8):
        start = data.draw(st.integers(0, file.size + 2) | st.integers(0, min(file.size, 600)))
        size = data.draw(st.integers(0, 300) | st.integers(0, file.size + 2))
        assert file.read(start, size) == whole[start : start + size], path
        out = np.full(size, 0xA5, np.uint8)
        n = file.read_into(start, memoryview(out))
        assert n == max(0, min(size, file.size - start))
        assert out[:n].tobytes() == whole[start : start + n]
        assert (out[n:] == 0xA5).all()  # nothing is written past the end
        file.prefetch(start, start + size)
