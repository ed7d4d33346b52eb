"""A file system that does nothing, on znfs's own binding: the limit of what a mount can give.

    python -m benchmarks.null MOUNTPOINT DESCRIPTION

DESCRIPTION is a JSON document: `files` has the size of every file by its path, `heads` the first
bytes of some in base64 (what a reader must find there, such as a TIFF's header), and `names` is how
many files of one byte a folder `names` has. All else reads as one small piece of memory again and
again, as any file system must at least copy; every path is known without a look. Serves until
standard input ends.
"""

from __future__ import annotations

import itertools
import json
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from znfs.arrays.extents import Literal
from znfs.daemon import mounts
from znfs.errors import NotFound
from znfs.fuse import Operations, Session, load_binding, mount_options
from znfs.node import File, Kind, Node

_PIECE = 1 << 20  # as much as the kernel asks for at most


class Memory:
    """An extent of the same bytes again and again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._piece = np.arange(_PIECE // 4, dtype="<u4").view(np.uint8)

    def read_into(self, start: int, out: memoryview) -> None:
        target = np.frombuffer(out, np.uint8)
        target[:] = self._piece[: len(target)]

    def prefetch(self, start: int, stop: int) -> None:
        pass


class Folder:
    """A folder of these nodes by their names."""

    version = "null"
    mtime = 0.0

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    def names(self, start: int = 0) -> Iterator[str]:
        return itertools.islice(self._nodes, start, None)

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        for name, node in itertools.islice(self._nodes.items(), start, None):
            yield name, Kind.FILE if isinstance(node, File) else Kind.DIRECTORY

    def lookup(self, name: str) -> Node | None:
        return self._nodes.get(name)


class Numbers:
    """A folder of files of one byte named 0, 1, 2, ..."""

    version = "null"
    mtime = 0.0

    def __init__(self, count: int) -> None:
        self._count = count
        self._file = File([Memory(1)], "null")

    def names(self, start: int = 0) -> Iterator[str]:
        return map(str, range(start, self._count))

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return ((name, Kind.FILE) for name in self.names(start))

    def lookup(self, name: str) -> Node | None:
        return self._file if name.isdecimal() and int(name) < self._count else None


class NullTree:
    """The files and folders of a description."""

    def __init__(self, files: dict[str, int], heads: dict[str, str], names: int) -> None:
        self._numbers = Numbers(names)
        root: dict[str, Node] = {"names": self._numbers}
        self._nodes: dict[str, Node] = {"": Folder(root), "names": self._numbers}
        below = {"": root}
        for path, size in files.items():
            head = b64decode(heads.get(path, ""))
            folder, _, name = path.rpartition("/")
            if folder not in below:
                below[folder] = {}
                self._nodes[folder] = root[folder] = Folder(below[folder])
            file = File([Literal(head), Memory(size - len(head))], "null")
            self._nodes[path] = below[folder][name] = file

    def resolve(self, path: str) -> Node:
        path = path.strip("/")
        node = self._nodes.get(path)
        if node is None and path.startswith("names/"):
            node = self._numbers.lookup(path.removeprefix("names/"))
        if node is None:
            raise NotFound(path)
        return node

    def attributes(self, path: str) -> dict[str, str]:
        return {}


def main() -> None:
    mountpoint = sys.argv[1]
    description = json.loads(Path(sys.argv[2]).read_text())
    binding = load_binding()
    operations = Operations(NullTree(**description))
    session = Session(operations, binding, ended=lambda: None)
    session.mount(mountpoint, mount_options("null", binding, allow_other=False, ttl=1.0))
    session.start()
    sys.stdin.read()
    mounts.detach(mountpoint, lazy=True)


if __name__ == "__main__":
    main()
