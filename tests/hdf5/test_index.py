"""B-trees: every address against the arithmetic of the design, and sizes far beyond any disk."""

from __future__ import annotations

import json
import struct
import time
from itertools import product
from math import prod
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hdf5.support import Seekable, resolve, tree
from znfs.node import File
from znfs.views.hdf5.btree import ChunkBTree, SymbolTable
from znfs.views.hdf5.structures import UNDEFINED


def _chunks(
    file: File, base: int, rank: int, address: int
) -> list[tuple[int, tuple[int, ...], int]]:
    """(size, offset, address) of all chunks below a node; checks keys and siblings."""
    node_size = 24 + 64 * 8 + 65 * (16 + 8 * rank)
    node = file.read(address - base, node_size)
    signature, kind, level, used, left, right = struct.unpack_from("<4sBBHQQ", node)
    assert (signature, kind) == (b"TREE", 1)
    entry = struct.Struct(f"<II{rank + 1}QQ")
    entries = [entry.unpack_from(node, 24 + i * entry.size) for i in range(used)]
    last_key = struct.unpack_from(f"<II{rank + 1}Q", node, 24 + used * entry.size)
    assert not any(node[24 + used * entry.size + 16 + 8 * rank :])
    for sibling, back in ((left, 16), (right, 8)):
        if sibling != UNDEFINED:
            other = file.read(sibling - base, node_size)
            assert other[5] == level
            assert struct.unpack_from("<Q", other, back)[0] == address
    if right != UNDEFINED:
        assert last_key == entry.unpack_from(file.read(right - base, node_size), 24)[:-1]
    found = []
    for size, _, *offset, child in entries:
        assert offset[-1] == 0
        if level == 0:
            found.append((size, tuple(offset[:-1]), child))
        else:
            below = _chunks(file, base, rank, child)
            assert below[0][:2] == (size, tuple(offset[:-1]))
            found += below
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 1 << 40))
def test_chunk_index_holds_every_chunk_once(grid: list[int], base: int) -> None:
    _check_index(tuple(grid), base)


@pytest.mark.parametrize("grid", [(1,), (64,), (65,), (4096,), (4097,), (17, 16, 15)])
def test_levels(grid: tuple[int, ...]) -> None:
    _check_index(grid, 8192)


def _check_index(grid: tuple[int, ...], base: int) -> None:
    chunk = tuple(range(3, 3 + len(grid)))
    index = ChunkBTree(grid, chunk, 1234)
    file = File(index.extents(base, lambda numbers: 7 + numbers * 4096), "v")
    assert file.size == index.size
    expected = [
        (1234, tuple(i * c for i, c in zip(at, chunk, strict=True)), 7 + number * 4096)
        for number, at in enumerate(product(*map(range, grid)))
    ]
    assert _chunks(file, base, len(grid), base) == expected


@pytest.mark.parametrize("count", [0, 1, 8, 9, 256, 257, 3000, 9000])
def test_links_of_a_group(tmp_path: Path, count: int) -> None:
    names = sorted(f"n{i}".encode() for i in range(count))
    table = SymbolTable(names)
    table.address = 1 << 20
    data = table.encode(range(count))
    assert len(data) == table.size

    def names_below(address: int) -> list[tuple[bytes, int]]:
        at = address - table.address
        heap = struct.unpack_from("<Q", data, table.heap_address - table.address + 24)[0]

        def name(offset: int) -> bytes:
            start = heap - table.address + offset
            return data[start : data.index(b"\0", start)]

        if data[at : at + 4] == b"SNOD":
            (n,) = struct.unpack_from("<H", data, at + 6)
            pairs = [struct.unpack_from("<QQ", data, at + 8 + 40 * i) for i in range(n)]
            return [(name(offset), header) for offset, header in pairs]
        (used,) = struct.unpack_from("<H", data, at + 6)
        words = struct.unpack_from(f"<{2 * used + 1}Q", data, at + 24)
        found: list[tuple[bytes, int]] = []
        for i in range(used):
            below = names_below(words[2 * i + 1])
            assert name(words[2 * i]) < below[0][0]
            assert name(words[2 * i + 2]) == below[-1][0]
            found += below
        return found

    assert names_below(table.address) == [(name, i) for i, name in enumerate(names)]


def sparse(path: Path, shape: list[int], chunks: list[int], dtype: str) -> Path:
    """An array without any chunk but the first and the last, whose values are 1 and 2."""
    path.mkdir()
    document = {
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "compressor": None,
        "filters": None, "fill_value": 0, "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(document))
    last = ".".join(str(-(-s // c) - 1) for s, c in zip(shape, chunks, strict=True))
    for key, value in ((".".join("0" * len(shape)), 1), (last, 2)):
        (path / key).write_bytes(np.full(prod(chunks), value, dtype).tobytes())
    return path


def _time_of_first_element(file: File) -> float:
    """Seconds of this process's own work, whatever else the machine does."""
    began = time.process_time()
    with h5py.File(Seekable(file)) as h5:
        assert h5["a"][0, 0, 0] == 1
    return time.process_time() - began


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype"),
    [
        ([64_000, 64_000, 64_000], [64, 64, 64], "<u2"),  # 10^9 chunks
        ([1 << 20, 1 << 20, 1 << 20], [256, 256, 256], "<u4"),  # 4 EiB
    ],
)
def test_a_billion_chunks(tmp_path: Path, shape: list[int], chunks: list[int], dtype: str) -> None:
    path = sparse(tmp_path / "a", shape, chunks, dtype)
    with tree(path) as opened:
        file = resolve(opened, "a.h5")
        took = min(_time_of_first_element(file) for _ in range(5))  # the first has imports to do
        source = Seekable(file)
        with h5py.File(source) as h5:
            data = h5["a"]
            assert data[0, 0, 0] == 1
            assert data[0, 0, shape[2] - 1] == 0
            metadata = sum(n for at, n in source.reads if n <= 8192)
            assert data[shape[0] - 1, shape[1] - 1, shape[2] - 1] == 2
            assert data[shape[0] // 2, 5, 7] == 0
            assert data.id.get_offset() is None
        assert metadata < 64 << 10
        assert took < 0.02
    assert file.size < 1 << 63
