"""What a source holds, node by node: for `znfs info`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from znfs.arrays.array import Array, Group
from znfs.errors import Denied, ZnfsError
from znfs.hierarchy import HierarchyNode, Prefix, Unreadable
from znfs.hierarchy.paths import join
from znfs.meta import ArrayMeta, GroupMeta
from znfs.tree.directories import NodeDir, Shown

_MOST_LISTED = 10_000  # folders looked through for a stored size...
_MOST_LISTED_FAR = 100  # ...and requests to a distant store
_OF_CHUNKS = re.compile(r"c|[0-9]+")  # folders that chunks may be in, in any format
_KINDS = {Array: "array", Group: "group", Prefix: "prefix", Unreadable: "unreadable"}


@dataclass(frozen=True)
class Description:
    """One node."""

    path: str
    kind: str  # "array", "group", "prefix" or "unreadable"
    name: str
    meta: ArrayMeta | GroupMeta | None
    views: tuple[str, ...]
    remarks: tuple[str, ...]


class Survey:
    """A walk over the nodes of a hierarchy, and over the store's objects."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._hierarchy = shown.hierarchy
        self._store = shown.hierarchy.store

    def describe(self) -> Iterator[Description]:
        """Every node from the root down, depth first."""
        waiting = [""]
        while waiting:
            path = waiting.pop()
            below: list[str] = []
            yield from self._describe(path, below)
            waiting += reversed(below)

    def stored_size(self, path: str) -> int | None:
        """Bytes of all objects below `path`; None where the store cannot list, or there is too
        much to list for the asking."""
        size, visited, waiting = 0, 0, [path]
        most = _MOST_LISTED if self._store.local else _MOST_LISTED_FAR
        while waiting:
            prefix = waiting.pop()
            visited += 1
            if visited > most:
                return None
            try:
                entries = list(self._store.list(prefix))
            except ZnfsError:
                return None
            visited += len(entries) // 1000
            for entry in entries:
                if entry.is_prefix and entry.name not in ("", ".", ".."):
                    waiting.append(join(prefix, entry.name))
                size += entry.size
        return size or None  # web servers' pages do not tell sizes exactly

    def is_anything_below(self, node: HierarchyNode) -> bool:
        """Whether there is a node directly below one."""
        return any(map(self._node, self._below(node)))

    def _describe(self, path: str, below: list[str]) -> Iterator[Description]:
        """The node at `path`, if it is one; to `below` the paths of its children."""
        try:
            node = self._hierarchy.node(path)
        except ZnfsError as error:
            name = self._hierarchy.name(path)
            yield Description(path, "unreadable", name, None, (), (str(error),))
            return
        if node is None:
            return
        views, remarks = NodeDir(self._shown, node).views_and_remarks()
        if isinstance(node, Unreadable):
            remarks = (node.reason, *remarks)
        meta = node.meta if isinstance(node, Array | Group) else None
        yield Description(path, _KINDS[type(node)], node.name, meta, views, remarks)
        below += self._below(node)

    def _below(self, node: HierarchyNode) -> Iterator[str]:
        """Paths of what may be nodes below one. How the chunks of an unreadable one are called is
        not known: a folder that may have some, and no metadata, is none."""
        if isinstance(node, Array) and node.meta.format != "n5":
            return
        for name in self._hierarchy.children(node.path):
            path = join(node.path, name)
            if (
                isinstance(node, Unreadable)
                and _OF_CHUNKS.fullmatch(name)
                and (node.is_array or isinstance(self._node(path), Prefix))
            ):
                continue
            yield path

    def _node(self, path: str) -> HierarchyNode | None:
        """What is at `path`; None, too, where nobody may look."""
        try:
            return self._hierarchy.node(path)
        except Denied:
            return None
