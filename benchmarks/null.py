"""A file system that does nothing, on znfs's own binding: the limit of what a mount can give.

    python -m benchmarks.null MOUNTPOINT SIZE FILES NAMES

has the files `null0`, `null1`, ... of SIZE bytes each, and a folder `names` of NAMES files of one
byte. Reads copy from one small piece of memory, as any file system must at least copy; every path
is known without a look. Serves until standard input ends.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import numpy as np

from znfs import mounts
from znfs.errors import NotFound
from znfs.fuse import Operations, Session, load_binding, mount_options
from znfs.node import File, Node

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


class Names:
    """A folder of files, all alike: `prefix` and a number."""

    version = "null"
    mtime = 0.0

    def __init__(self, prefix: str, count: int, file: File, also: tuple[str, ...] = ()) -> None:
        self._prefix = prefix
        self._count = count
        self._file = file
        self._also = also

    def names(self, start: int = 0) -> Iterator[str]:
        numbered = (f"{self._prefix}{i}" for i in range(self._count))
        return itertools.islice(itertools.chain(numbered, self._also), start, None)

    def lookup(self, name: str) -> Node | None:
        number = name.removeprefix(self._prefix)
        return self._file if number.isdecimal() and int(number) < self._count else None


class NullTree:
    """A tree of two folders."""

    def __init__(self, size: int, files: int, names: int) -> None:
        self._root = Names("null", files, File([Memory(size)], "null"), also=("names",))
        self._names = Names("", names, File([Memory(1)], "null"))

    def resolve(self, path: str) -> Node:
        folder, _, name = path[1:].rpartition("/")
        if not name:
            return self._root
        node = self._names.lookup(name) if folder else self._root.lookup(name)
        if name == "names":
            node = self._names
        if node is None:
            raise NotFound(path)
        return node

    def attributes(self, path: str) -> dict[str, str]:
        return {}


def main() -> None:
    mountpoint = sys.argv[1]
    size, files, names = map(int, sys.argv[2:])
    binding = load_binding()
    operations = Operations(NullTree(size, files, names))
    session = Session(operations, binding, ended=lambda: None)
    session.mount(mountpoint, mount_options("null", binding, allow_other=False, ttl=1.0))
    session.start()
    sys.stdin.read()
    mounts.detach(mountpoint, lazy=True)


if __name__ == "__main__":
    main()
