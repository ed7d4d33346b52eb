"""`znfs ls` and `znfs cat`: the tree without FUSE."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from znfs.errors import NotFound, UsageError
from znfs.node import File, Node

if TYPE_CHECKING:
    from znfs.tree import Tree

_PIECE = 4 << 20  # bytes read at a time
_BATCH = 1000  # names written at a time


def list_directory(tree: Tree, path: str, *, long: bool) -> None:
    """Print the names in the directory at `path`, one a line; with sizes and times if `long`."""
    node = resolve(tree, path)
    if isinstance(node, File):
        _write_lines([_line(node, path) if long else path])
        return
    lines: list[str] = []
    for name in node.names():
        if long:
            child = node.lookup(name)
            if child is None:
                continue
            lines.append(_line(child, name))
        else:
            lines.append(name)
        if len(lines) == _BATCH:
            _write_lines(lines)
            lines.clear()
    _write_lines(lines)


def copy_file(tree: Tree, path: str) -> None:
    """Write the file at `path` to standard output, a piece at a time."""
    node = resolve(tree, path)
    if not isinstance(node, File):
        raise UsageError(f"{path or '/'}: is a directory; 'znfs ls' lists it")
    piece = memoryview(bytearray(min(_PIECE, max(node.size, 1))))
    out, at = sys.stdout.buffer, 0
    while got := node.read_into(at, piece):
        at += got
        if at < node.size:
            node.prefetch(at, at + len(piece))
        out.write(piece[:got])
    out.flush()


def resolve(tree: Tree, path: str) -> Node:
    """The node at a path as people write it, with or without slashes at its ends."""
    path = path.strip("/")
    try:
        return tree.resolve(path)
    except NotFound as exc:
        raise NotFound(f"{path or '/'}: no such file or directory in {tree.url}") from exc


def _line(node: Node, name: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(node.mtime))
    if isinstance(node, File):
        return f"{node.size:>16}  {when}  {name}"
    return f"{'-':>16}  {when}  {name}/"


def _write_lines(lines: list[str]) -> None:
    if lines:
        sys.stdout.buffer.write(os.fsencode("\n".join(lines) + "\n"))
        sys.stdout.buffer.flush()
