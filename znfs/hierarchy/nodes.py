"""What a path of a source may be besides an array or a group."""

from __future__ import annotations

from dataclasses import dataclass

from znfs.arrays.array import Array, Group


@dataclass(frozen=True)
class Prefix:
    """A plain prefix: no metadata, only names below it."""

    path: str
    name: str
    version: str = "prefix"
    mtime: float = 0.0


@dataclass(frozen=True)
class Unreadable:
    """A node whose metadata cannot be used; `reason` says why. Its keys still read raw.

    It `is_array` if as much can be told.
    """

    path: str
    name: str
    reason: str
    version: str
    mtime: float
    is_array: bool = False


HierarchyNode = Array | Group | Prefix | Unreadable
