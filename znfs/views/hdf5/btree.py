"""Version 1 B-trees (specification III.A): node type 0 of groups, node type 1 of chunks."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from znfs.arrays.extents import Records
from znfs.meta import Shape
from znfs.node import Extent
from znfs.views.hdf5.heap import LocalHeap
from znfs.views.hdf5.structures import CHUNK_INTERNAL_K, GROUP_INTERNAL_K, GROUP_LEAF_K, UNDEFINED
from znfs.views.hdf5.superblock import symbol_table_entry

_GROUP_NODE, _CHUNK_NODE = 0, 1
_HEADER = 24


def _header(node_type: int, level: int, entries: int, left: int, right: int) -> bytes:
    return struct.pack("<4sBBHQQ", b"TREE", node_type, level, entries, left, right)


def _levels(count: int, fanout: int) -> list[int]:
    """Nodes of each level of a tree over `count` (> 0) leaves' children, level 0 first."""
    levels = [-(-count // fanout)]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] // fanout))
    return levels


class SymbolTable:
    """A group's links: B-tree, symbol table nodes (III.B) and local heap, in one run of bytes.

    `names` are sorted and distinct. Every node but the last of its level is full.
    """

    NODE = _HEADER + 2 * GROUP_INTERNAL_K * 8 + (2 * GROUP_INTERNAL_K + 1) * 8
    LEAF_ENTRIES = 2 * GROUP_LEAF_K
    LEAF = 8 + LEAF_ENTRIES * 40

    def __init__(self, names: list[bytes]) -> None:
        self._heap = LocalHeap(names)
        self._count = len(names)
        self._leaves = -(-self._count // self.LEAF_ENTRIES)
        self._levels = _levels(self._leaves, 2 * GROUP_INTERNAL_K) if names else [1]
        self._tree_size = sum(self._levels) * self.NODE
        self.size = self._tree_size + self._leaves * self.LEAF + self._heap.size
        self.address = 0  # the root node's; set when placed

    @property
    def heap_address(self) -> int:
        return self.address + self.size - self._heap.size

    def encode(self, headers: Sequence[int]) -> bytes:
        """`headers` are the addresses of the links' object headers, in the order of names."""
        out = [self._node(*at) for at in self._nodes()]
        offsets = self._heap.offsets
        for first in range(0, self._count, self.LEAF_ENTRIES):
            last = min(first + self.LEAF_ENTRIES, self._count)
            entries = [symbol_table_entry(offsets[i], headers[i]) for i in range(first, last)]
            leaf = struct.pack("<4sBxH", b"SNOD", 1, len(entries)) + b"".join(entries)
            out.append(leaf.ljust(self.LEAF, b"\0"))
        out.append(self._heap.encode(self.heap_address))
        return b"".join(out)

    def _nodes(self) -> list[tuple[int, int]]:
        """(level, position) of every node, the root first."""
        return [
            (level, i)
            for level in range(len(self._levels) - 1, -1, -1)
            for i in range(self._levels[level])
        ]

    def _node_address(self, level: int, i: int) -> int:
        if level < 0:
            return self.address + self._tree_size + i * self.LEAF
        return self.address + (sum(self._levels[level + 1 :]) + i) * self.NODE

    def _node(self, level: int, i: int) -> bytes:
        fanout = 2 * GROUP_INTERNAL_K
        below = self._levels[level - 1] if level else self._leaves
        first, last = i * fanout, min((i + 1) * fanout, below)
        left = self._node_address(level, i - 1) if i else UNDEFINED
        right = self._node_address(level, i + 1) if i + 1 < self._levels[level] else UNDEFINED
        words = [self._last_name(level, first - 1)]
        for child in range(first, last):
            words += [self._node_address(level - 1, child), self._last_name(level, child)]
        body = struct.pack(f"<{len(words)}Q", *words)
        return (_header(_GROUP_NODE, level, last - first, left, right) + body).ljust(
            self.NODE, b"\0"
        )

    def _last_name(self, level: int, child: int) -> int:
        """Heap offset of the greatest name below the `child`-th entry of `level`: a key."""
        if child < 0:
            return 0  # the empty name, less than any
        links: int = self.LEAF_ENTRIES * (2 * GROUP_INTERNAL_K) ** level
        return self._heap.offsets[min((child + 1) * links, self._count) - 1]


class ChunkBTree:
    """A dataset's chunk index as arithmetic: no node exists until its bytes are read.

    `grid` and `chunk` are the number of chunks along each axis and their shape in elements;
    `nbytes` is what a key says a chunk takes. Chunks are indexed in row-major order, all of them.
    """

    FANOUT = 2 * CHUNK_INTERNAL_K

    def __init__(self, grid: Shape, chunk: Shape, nbytes: int) -> None:
        self._grid = grid
        self._chunk = np.array([*chunk, 0], np.uint64)
        self._nbytes = nbytes
        self._count = prod(grid)
        rank = len(grid)
        self._entry = np.dtype(
            [("size", "<u4"), ("mask", "<u4"), ("offset", "<u8", (rank + 1,)), ("child", "<u8")]
        )
        self._node_size = _HEADER + 8 * self.FANOUT + (self.FANOUT + 1) * (16 + 8 * rank)
        self._levels = _levels(self._count, self.FANOUT)
        self.size = sum(self._levels) * self._node_size

    def extents(self, address: int, chunk_address: Callable[[Any], Any]) -> list[Extent]:
        """The nodes, root first, to stand at `address`; `chunk_address` maps chunk numbers."""
        bases = [
            address + sum(self._levels[level + 1 :]) * self._node_size
            for level in range(len(self._levels))
        ]

        def maker(level: int) -> Callable[[int], bytes]:
            return lambda i: self._node(level, i, bases, chunk_address)

        return [
            Records(self._levels[level], self._node_size, maker(level))
            for level in range(len(self._levels) - 1, -1, -1)
        ]

    def _node(
        self, level: int, i: int, bases: list[int], chunk_address: Callable[[Any], Any]
    ) -> bytes:
        size, fanout = self._node_size, self.FANOUT
        each = fanout**level  # chunks below one entry
        below = -(-self._count // each)
        first, last = i * fanout, min((i + 1) * fanout, below)
        n = last - first
        entries = np.zeros(fanout + 1, self._entry)
        used = entries[:n]
        numbers = np.arange(first, last, dtype=np.int64)
        used["size"] = self._nbytes
        used["offset"] = self._offsets(numbers * each)
        used["child"] = chunk_address(numbers) if level == 0 else bases[level - 1] + numbers * size
        if last < below:  # the right sibling's first key
            entries[n]["size"] = self._nbytes
            entries[n]["offset"] = self._offsets(np.array([last * each]))[0]
        else:
            end = self._offsets(np.array([self._count - 1]))[0]
            entries[n]["offset"] = end + self._chunk
        left = bases[level] + (i - 1) * size if i else UNDEFINED
        right = bases[level] + (i + 1) * size if i + 1 < self._levels[level] else UNDEFINED
        head = _header(_CHUNK_NODE, level, n, left, right)
        return (head + entries.tobytes())[:size]

    def _offsets(self, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Element offsets of chunks, with the 0 of the element's own dimension."""
        out = np.zeros((len(numbers), len(self._chunk)), np.uint64)
        for axis, at in enumerate(np.unravel_index(numbers, self._grid)):
            out[:, axis] = at
        return out * self._chunk
