"""A small tree in memory, for tests of what stands above the tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from znfs.errors import NotFound, StoreError
from znfs.node import Dir, File, Kind, Node


class Bytes:
    """An extent of given bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_into(self, start: int, out: memoryview) -> None:
        out[:] = self.data[start : start + len(out)]

    def prefetch(self, start: int, stop: int) -> None:
        pass


class Blocked(Bytes):
    """An extent whose reads wait for `release`; `waiting` counts them."""

    def __init__(self, size: int) -> None:
        super().__init__(b"x" * size)
        self.release = threading.Event()
        self.waiting = threading.Semaphore(0)

    def read_into(self, start: int, out: memoryview) -> None:
        self.waiting.release()
        self.release.wait(60)
        super().read_into(start, out)


class Failing(Bytes):
    """An extent whose reads raise `error`."""

    def __init__(self, size: int, error: BaseException) -> None:
        super().__init__(bytes(size))
        self.error = error

    def read_into(self, start: int, out: memoryview) -> None:
        raise self.error


class Folder:
    """A directory of given nodes."""

    def __init__(self, nodes: dict[str, Node], version: str = "d1", mtime: float = 0.0) -> None:
        self.nodes = nodes
        self.version = version
        self.mtime = mtime

    def names(self, start: int = 0) -> Iterator[str]:
        yield from list(self.nodes)[start:]

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        for name, node in list(self.nodes.items())[start:]:
            yield name, Kind.FILE if isinstance(node, File) else Kind.DIRECTORY

    def lookup(self, name: str) -> Node | None:
        return self.nodes.get(name)


class Counted:
    """A directory of `count` names, computed; each is a file of one byte."""

    version, mtime = "d1", 0.0

    def __init__(self, count: int) -> None:
        self.count = count

    def names(self, start: int = 0) -> Iterator[str]:
        return (f"{i // 10000}.{i // 100 % 100}.{i % 100}" for i in range(start, self.count))

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return ((name, Kind.FILE) for name in self.names(start))

    def lookup(self, name: str) -> Node | None:
        return File([Bytes(b"1")], "v1")


class FakeTree:
    """A tree of the nodes below `root`; `down` makes every answer a StoreError."""

    root_name = "fake"
    url = "fake:///tree"

    def __init__(self, root: Dir) -> None:
        self.root = root
        self.down = False
        self.refreshed = 0

    def probe(self) -> None:
        if self.down:
            raise StoreError("fake:///tree: no answer")

    def resolve(self, path: str) -> Node:
        if self.down:
            raise StoreError("fake:///tree: no answer")
        node: Node | None = self.root
        for part in path.split("/")[1:]:
            node = None if node is None or isinstance(node, File) else node.lookup(part)
        if node is None:
            raise NotFound(path)
        return node

    def attributes(self, path: str) -> dict[str, str]:
        return {"etag": self.resolve(path).version, "url": self.url + path}

    def report(self, name: str, made: Callable[[], Any]) -> None:
        pass

    def refresh(self) -> None:
        self.refreshed += 1

    def status(self) -> dict[str, Any]:
        return {"source": self.url, "version": "1"}

    def close(self) -> None:
        pass


def text(content: str | bytes, version: str = "v1", mtime: float = 0.0) -> File:
    """A file of that content."""
    return File([Bytes(content.encode() if isinstance(content, str) else content)], version, mtime)
