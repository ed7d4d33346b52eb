"""Paths of nodes: `""` is the source itself, and no path begins or ends with a slash."""

from __future__ import annotations


def parent(path: str) -> str:
    """The path of the node above; of the source, itself."""
    return path.rpartition("/")[0]


def last(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def join(path: str, name: str) -> str:
    """`name`, which may be a path, below `path`."""
    return f"{path}/{name}" if path else name


def relative(path: str, above: str) -> str:
    """`path` as seen from a node at or above it."""
    return path[len(above) :].lstrip("/") if above else path
