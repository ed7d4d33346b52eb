"""The tree as an fsspec filesystem: `znfs://em/em.npy::s3://bucket/x.zarr`.

What follows `znfs://` is a path in the tree; what follows `::` is the source, itself a chain if
need be. `znfs::s3://bucket/x.zarr/x.h5` arrives undivided: the source is then the longest part
of it that holds a store.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from znfs.errors import Denied, NotFound, SourceError, StoreError, UsageError, ZnfsError
from znfs.hierarchy.paths import join
from znfs.node import File, Node
from znfs.tree import Tree
from znfs.tree.reader import RawReader, looker

_PYTHON_ERRORS: dict[type[ZnfsError], type[OSError]] = {
    NotFound: FileNotFoundError,
    Denied: PermissionError,
}  # any other is OSError


class ZnfsFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Read-only. `fo` is the source; other keyword arguments are options (`cache_size=…`)."""

    protocol = "znfs"
    root_marker = ""

    def __init__(
        self,
        fo: str = "",
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        kept = {k: options.pop(k) for k in _FSSPEC_OPTIONS if k in options}
        super().__init__(**kept)
        if not fo:
            raise UsageError("znfs:// needs a source: znfs://PATH::SOURCE")
        source, storage = source_of(fo, target_protocol, target_options or {})
        if storage:
            options = {"storage_option": storage | dict(options.get("storage_option") or {})} | {
                k: v for k, v in options.items() if k != "storage_option"
            }
        self._tree, self._below = open_enclosing(source, options)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        return str(path).partition("::")[0].removeprefix("znfs://").strip("/")

    @property
    def tree(self) -> Tree:
        """The tree behind this filesystem."""
        return self._tree

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        return _details(path, self._resolve(path))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        node = self._resolve(path)
        if isinstance(node, File):
            return [_details(path, node)] if detail else [path]
        names = {join(path, name): name for name in node.names()}
        if not detail:
            return list(names)
        found = {p: _below(node, name) for p, name in names.items()}
        return [_details(p, child) for p, child in found.items() if child is not None]

    def modified(self, path: str) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._resolve(self._strip_protocol(path)).mtime, UTC)

    def ukey(self, path: str) -> str:
        return self._resolve(self._strip_protocol(path)).version

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        file = self._file(self._strip_protocol(path))
        first, last, _ = slice(start, end).indices(file.size)
        with python_errors(path):
            return file.read(first, max(0, last - first))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            self._refuse(path)
        path = self._strip_protocol(path)
        file = self._file(path)
        look = looker(self._tree.resolve, self._full(path), file)
        if "cache_type" in kwargs:  # as blockcache:: does, which then puts its own into the file
            cached = _Cached(self, path, **kwargs | {"size": file.size})
            cached.look = look
            return cached
        opened: Any = _Reader(file, path, look).buffered()
        opened.size = file.size  # as fsspec's own files have it
        return opened

    def _refuse(self, path: Any = None, *args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    # Some of these do nothing in fsspec, and say nothing.
    mkdir = makedirs = rmdir = rm_file = cp_file = mv = touch = _refuse

    def _file(self, path: str) -> File:
        node = self._resolve(path)
        if not isinstance(node, File):
            raise IsADirectoryError(path)
        return node

    def _resolve(self, path: str) -> Node:
        with python_errors(path):
            return self._tree.resolve(self._full(path))

    def _full(self, path: str) -> str:
        return "/".join(p for p in (self._below, path) if p)


_FSSPEC_OPTIONS = (
    "use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache",
    "asynchronous", "loop", "batch_size",
)  # fmt: skip


class _Reader(RawReader):
    """A reader whose errors are OSErrors, as fsspec's users expect."""

    def readinto(self, buffer: Any) -> int:
        with python_errors(self.name):
            return super().readinto(buffer)


class _Cached(AbstractBufferedFile):  # type: ignore[misc]
    """A file with one of fsspec's caches. `look` is RawReader's."""

    look: Callable[[], File] | None = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        with python_errors(self.path):
            if self.look is not None:
                return self.look().read(start, end - start)
        found: bytes = self.fs.cat_file(self.path, start, end)
        return found


@contextmanager
def python_errors(path: str) -> Iterator[None]:
    """ZnfsError as the OSError that means the same."""
    try:
        yield
    except ZnfsError as exc:
        kinds = (_PYTHON_ERRORS[t] for t in type(exc).__mro__ if t in _PYTHON_ERRORS)
        raise next(kinds, OSError)(f"{path}: {exc}") from exc


def _below(node: Any, name: str) -> Node | None:
    with python_errors(name):
        found: Node | None = node.lookup(name)
    return found


def _details(path: str, node: Node) -> dict[str, Any]:
    kind, size = ("file", node.size) if isinstance(node, File) else ("directory", 0)
    return {
        "name": path, "type": kind, "size": size, "mtime": node.mtime, "version": node.version,
    }  # fmt: skip


def source_of(
    fo: str, protocol: str | None, options: Mapping[str, Any]
) -> tuple[str, dict[str, str]]:
    """SOURCE as written, from what fsspec made of it, and its storage options as text.

    fsspec unpacks `A::B::C` into A's `fo` and `target_options`, which hold B's, and so on.
    """
    rest = dict(options)
    inner = rest.pop("fo", None)
    inner_protocol = rest.pop("target_protocol", None)
    inner_options = rest.pop("target_options", None) or {}
    storage = {k: v if isinstance(v, str) else json.dumps(v) for k, v in rest.items()}
    source = fo if protocol in (None, "file") or "://" in fo else f"{protocol}://{fo}"
    if inner is None:
        return source, storage
    below, more = source_of(inner, inner_protocol, inner_options)
    return f"{source}::{below}", storage | more


def open_enclosing(source: str, options: Mapping[str, Any]) -> tuple[Tree, str]:
    """The tree of `source`, or of the closest prefix of it that holds a store, and the rest.

    Raises the error of `source` itself if there is none.
    """
    from znfs.api import open_tree

    head, separator, path = source.rpartition("://")
    parts, first = path.split("/"), None
    least = 1 if head in ("", "file") else 2  # a bucket or host alone is no store
    for count in range(len(parts), least - 1, -1):
        try:
            tree = open_tree(head + separator + "/".join(parts[:count]), **options)
        except (SourceError, NotFound, StoreError) as exc:
            first = first or exc
            continue
        below = "/".join(parts[count:])
        try:
            tree.resolve(below)
        except BaseException as exc:
            tree.close()
            if isinstance(exc, NotFound):
                raise first or exc from exc
            raise
        return tree, below
    raise first or SourceError(f"{source}: no store there")
