"""The file tree of a source: which path reads as what. FUSE, the CLI and Python are its users.

A path is resolved in this order: nodes of the hierarchy, then the store's other keys where they
are known without a request, then views, then keys that must be asked for. A child of the store
that has a view's name therefore wins over the view.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from math import inf
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from znfs import __version__
from znfs.array import Array, Group
from znfs.bands import spill_to
from znfs.cache import BlockCache
from znfs.disk import DiskTier
from znfs.errors import NotFound, SourceError, StoreError, Unsupported, UsageError, ZnfsError
from znfs.extents import Literal, Object
from znfs.formats import FORMATS
from znfs.hierarchy import Hierarchy, HierarchyNode, Prefix, Unreadable
from znfs.meta import ArrayMeta, GroupMeta
from znfs.node import File, Node
from znfs.options import UNLISTED_VIEWS, Options
from znfs.reader import open_file
from znfs.stores import open_store
from znfs.stores.watched import WatchedStore
from znfs.views import NOT_OF_ARRAYS, NOT_OF_GROUPS, VIEWS, View, hdf5

# Names that desktops and their daemons look for in every folder (contract: no request for them).
_OS_JUNK = frozenset(
    {".DS_Store", ".hidden", ".Trash", ".localized", ".xdg-volume-info", ".directory",
     "desktop.ini", "Desktop.ini", "Thumbs.db", "autorun.inf", "AutoRun.inf", "BDMV",
     ".metadata_never_index", ".Spotlight-V100", ".fseventsd", ".TemporaryItems"}
)  # fmt: skip
_OS_JUNK_PREFIXES = ("._", ".Trash-", ".fuse_hidden")

_MOST_FILES = 4096
_DOWN_SECONDS = 10.0  # how long a store that did not answer is not asked about `.znfs` again
_MOST_NAME_BYTES = 255
_MOST_FILE_BYTES = 1 << 63


@dataclass(frozen=True)
class Description:
    """One node, for `znfs info`."""

    path: str
    kind: str  # "array", "group", "prefix" or "unreadable"
    name: str
    meta: ArrayMeta | GroupMeta | None
    views: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Resolved:
    """What a path is: valid until `until` (monotonic seconds) and while `owner` is the node that
    the hierarchy has at its path."""

    owner: HierarchyNode
    node: Node
    until: float


def _outlives(owner: HierarchyNode, node: Node) -> bool:
    """Whether a file may change while its owner's version stays: stored objects, and files over
    everything below a group."""
    return isinstance(node, File) and (node.version != owner.version)


class Tree:
    """The files of one source. Building it parses and opens; the first request is `probe`'s."""

    def __init__(self, source: str, options: Options) -> None:
        self.options = options
        store, info = open_store(source, options)
        self._store = WatchedStore(store, options.deadline)
        self.url = info.url
        self.root_name = info.name
        self._cache = BlockCache(
            options.cache_size, self._store.concurrency, far=not self._store.local
        )
        self._disk = None
        if options.disk_cache is not None:
            self._disk = DiskTier(options.disk_cache, options.disk_cache_size)
            self._cache.on_evict = spill_to(self._disk.spill)
        formats = [f for f in FORMATS if info.format in (None, f.name)]
        self._hierarchy = Hierarchy(
            self._store,
            self._cache,
            root_name=info.name,
            ttl=options.ttl,
            missing_403=options.missing_403,
            formats=formats,
            manifest=_read_manifest(options.manifest),
            disk=self._disk,
        )
        chosen = options.views
        self._views = tuple(v for v in VIEWS if chosen is None or v.key in chosen)
        self._listed = tuple(
            v
            for v in self._views
            if v.listed and (chosen is not None or v.key not in UNLISTED_VIEWS)
        )
        self._files: LRUCache[str, _Resolved] = LRUCache(maxsize=_MOST_FILES)
        self._lock = threading.Lock()
        self._started = time.time()
        self._refreshed = 0
        self._own_control: bool | None = None
        self._ask_control = 0.0  # when, if the store was down (monotonic seconds)

    def probe(self) -> None:
        """A first look at the source. Raises SourceError, Denied or StoreError: why it cannot be
        shown."""
        try:
            node = self._hierarchy.node("")
        except StoreError:
            self._ask_control = time.monotonic() + _DOWN_SECONDS
            raise
        if node is None:
            raise SourceError(f"{self.url}: no Zarr or N5 metadata there, and nothing to list")
        if isinstance(node, Unreadable):
            raise SourceError(f"{self.url}: {node.reason}")

    def resolve(self, path: str) -> Node:
        """The file or directory at `path` ("" or "/" is the root).

        Raises NotFound; Denied, Stale, StoreError where the store has to be asked and fails.
        """
        path = path.strip("/")
        if path.split("/", 1)[0] == ".znfs" and not self._store_has_control():
            return self._control(path)
        return self._resolve(path).node

    def _resolve(self, path: str) -> _Resolved:
        with self._lock:
            known = self._files.get(path)
        if (
            known is not None
            and time.monotonic() < known.until
            and self._hierarchy.node(known.owner.path) is known.owner
        ):
            return known
        began = time.monotonic()
        if not path:
            root = self._hierarchy.node("")
            if root is None:
                raise NotFound(f"{self.url}: nothing there any more")
            owner: HierarchyNode = root
            node: Node = NodeDir(self, root)
        else:
            above, _, name = path.rpartition("/")
            parent = self._resolve(above)
            found = None if isinstance(parent.node, File) else parent.node.lookup(name)
            if found is None:
                raise NotFound(f"{path}: no such file")
            node = found
            owner = node.node if isinstance(node, NodeDir) else parent.owner
        if known is not None and known.node.version == node.version and known.owner is owner:
            node = known.node  # it still holds what it computed
        now = time.monotonic()
        until = now + max(self.options.ttl, 10 * (now - began)) if _outlives(owner, node) else inf
        resolved = _Resolved(owner, node, until)
        with self._lock:
            self._files[path] = resolved
        return resolved

    def open(self, path: str) -> BufferedReader:
        """The file at `path` as a seekable binary file object, for numpy, tifffile, h5py.

        Raises as `resolve` does, and IsADirectoryError; its reads raise ZnfsError.
        """
        node = self.resolve(path)
        if not isinstance(node, File):
            raise IsADirectoryError(path)
        return open_file(node, path)

    def refresh(self) -> None:
        """Forget all metadata and blocks."""
        self._hierarchy.refresh()
        self._cache.clear()
        with self._lock:
            self._files.clear()
            self._own_control, self._ask_control = None, 0.0
            self._refreshed += 1

    def status(self) -> dict[str, Any]:
        """Counters and state, for status.json and `znfs status`."""
        return {
            "version": __version__,
            "source": self.url,
            "name": self.root_name,
            "pid": os.getpid(),
            "refreshed": self._refreshed,
            "started": self._started,
            "uptime": time.time() - self._started,
            "store": self._store.status(),
            "cache": self._cache.status(),
            "disk_cache": None if self._disk is None else self._disk.status(),
        }

    def describe(self) -> Iterator[Description]:
        """Every node from the root down, depth first."""
        yield from self._describe("")

    def close(self) -> None:
        """Stop loading and close the store."""
        self._hierarchy.close()
        self._cache.close()
        self._store.close()
        if self._disk is not None:
            self._disk.close()

    def _store_has_control(self) -> bool:
        """Whether a child of the store takes the place of `.znfs`; no, while the store is down.

        Asked once, since status must answer at once, and above all when the store does not.
        """
        if self._own_control is None and time.monotonic() > self._ask_control:
            try:
                self._own_control = (
                    self._hierarchy.node(".znfs") is not None
                    or self._store.stat(".znfs") is not None
                )
            except ZnfsError:
                self._ask_control = time.monotonic() + _DOWN_SECONDS
        return bool(self._own_control)

    def _control(self, path: str) -> Node:
        node: Node | None = ControlDir(self)
        for part in path.split("/")[1:]:
            node = node.lookup(part) if node is not None and not isinstance(node, File) else None
        if node is None:
            raise NotFound(f"{path}: no such file")
        return node

    def _describe(self, path: str) -> Iterator[Description]:
        try:
            node = self._hierarchy.node(path)
        except ZnfsError as error:
            name = self._hierarchy.name(path)
            yield Description(path, "unreadable", name, None, (), (str(error),))
            return
        if node is None:
            return
        directory = NodeDir(self, node)
        if isinstance(node, Unreadable):
            yield Description(path, "unreadable", node.name, None, (), (node.reason,))
            return
        kind = {Array: "array", Group: "group", Prefix: "prefix"}[type(node)]
        meta = None if isinstance(node, Prefix) else node.meta
        views, remarks = directory.views_and_remarks()
        yield Description(path, kind, node.name, meta, views, remarks)
        if isinstance(node, Array) and node.meta.format != "n5":
            return
        for name in self._hierarchy.children(path):
            yield from self._describe(f"{path}/{name}" if path else name)


class NodeDir:
    """The directory of an array, a group, a prefix or an unreadable node."""

    def __init__(self, tree: Tree, node: HierarchyNode) -> None:
        self._tree = tree
        self._hierarchy = tree._hierarchy
        self.node = node
        self.version = node.version
        self.mtime = node.mtime

    def names(self, start: int = 0) -> Iterator[str]:
        names = set(self._store_names())
        if isinstance(self.node, Array | Group):
            names.update(
                view.entry.format(self.node.name)
                for view in self._tree._listed
                if view.refuse(self.node) is None and self._shows(view)
            )
        if not self.node.path:
            names.add(".znfs")
        yield from sorted(name for name in names if _is_listable(name))[start:]

    def lookup(self, name: str) -> Node | None:
        return self.find(name)

    def find(self, name: str) -> Node | None:
        """The node of that name, listed or not."""
        if _is_junk(name) or name in ("", ".", ".."):
            return None
        path = self._below(name)
        node = self.node
        if name in self._hierarchy.documents(node.path):
            return object_file(self._hierarchy, path)
        if isinstance(node, Array) and (raw := self._chunk_object(name)) is not None:
            return raw
        view = self._view(name)
        if view is not None and isinstance(node, Array) and not self._may_hide(name):
            return self._open(view)
        child = self._hierarchy.node(path)
        if child is not None:
            return NodeDir(self._tree, child)
        if view is not None and not self._has_object(name):
            return self._open(view)
        return self._object(path, name)

    def views_and_remarks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the views shown; what is hidden, refused or converted, and why."""
        node = self.node
        if not isinstance(node, Array | Group):
            return (), ()
        shown: list[str] = []
        refused: dict[str, list[str]] = {}
        store_names = set(self._store_names())
        for view in self._tree._views:
            entry = view.entry.format(node.name)
            why = view.refuse(node) or self._why_not_shown(view, entry, store_names)
            if why is None:
                shown.append(entry)
            else:
                refused.setdefault(why, []).append(entry)
        for without_saying in (NOT_OF_GROUPS, NOT_OF_ARRAYS):
            refused.pop(without_saying, None)
        remarks = [f"no {', '.join(entries)}: {why}" for why, entries in refused.items()]
        if f"{node.name}.h5" in shown:
            remarks += hdf5.remarks(node)
        remarks += [f"{n!r} cannot be listed" for n in store_names if not _is_listable(n)]
        return tuple(shown), tuple(remarks)

    def _why_not_shown(self, view: View, entry: str, store_names: set[str]) -> str | None:
        if entry in store_names:
            return "hidden by the store's own object of that name"
        if not _is_listable(entry):
            return "the name is longer than 255 bytes"
        try:
            return None if self._open(view) is not None else "too large (2^63 bytes or more)"
        except ZnfsError as error:
            return str(error)

    def _below(self, name: str) -> str:
        return f"{self.node.path}/{name}" if self.node.path else name

    def _view(self, name: str) -> View | None:
        """The view this node has under that name."""
        node = self.node
        if not isinstance(node, Array | Group):
            return None
        for view in self._tree._views:
            if view.entry.format(node.name) == name:
                return view if view.refuse(node) is None else None
        return None

    def _shows(self, view: View) -> bool:
        """Whether the view is not too large to be listed."""
        assert isinstance(self.node, Array | Group)
        if isinstance(self.node, Group) or self.node.meta.nbytes < _MOST_FILE_BYTES >> 4:
            return True  # too small to be too large, whatever the view adds
        return self._open(view) is not None

    def _open(self, view: View) -> Node | None:
        assert isinstance(self.node, Array | Group)
        try:
            made = view.make(self.node, self.node.name)
        except Unsupported:  # too large for the view's format
            return None
        return None if isinstance(made, File) and made.size >= _MOST_FILE_BYTES else made

    def _store_names(self) -> list[str]:
        """Children and other objects as far as they are known without listing chunks."""
        node, path = self.node, self.node.path
        names = list(self._hierarchy.documents(path))
        if isinstance(node, Array) and node.meta.format != "n5":
            return names
        names += self._hierarchy.children(path)
        listing = self._hierarchy.listing(path)
        if listing is None:
            return names
        if isinstance(node, Array):  # N5; a one-dimensional array's chunks are beside its children
            grid = node.meta.outer_grid
            return names + [n for n in listing.objects if node.meta.keys.parse(n, grid) is None]
        return [*names, *listing.objects, *listing.prefixes]

    def _may_hide(self, name: str) -> bool:
        """Whether a store child of an array may hide the view `name`.

        Zarr arrays have no children, and asking a remote store for each view would cost requests;
        a local look-up is free, and N5 arrays may have children.
        """
        assert isinstance(self.node, Array)
        return self._hierarchy.store.local or self.node.meta.format == "n5"

    def _has_object(self, name: str) -> bool:
        listing = None
        if not (isinstance(self.node, Array) or self._hierarchy.store.local):
            listing = self._hierarchy.listing(self.node.path)
        if listing is not None:
            return name in listing.objects
        return self._hierarchy.store.stat(self._below(name)) is not None

    def _chunk_object(self, name: str) -> Node | None:
        """An encoded chunk, or a directory on the way to one; None if `name` is neither."""
        assert isinstance(self.node, Array)
        return RawChunksDir(self.node, self._hierarchy, ()).lookup(name)

    def _object(self, path: str, name: str) -> File | None:
        listing = None
        if isinstance(self.node, Group | Prefix) and not self._hierarchy.store.local:
            listing = self._hierarchy.listing(self.node.path)
        if listing is not None and name not in listing.objects:
            return None
        return object_file(self._hierarchy, path)


class RawChunksDir:
    """Encoded chunks of an array at the store's own keys: looked up, never listed."""

    def __init__(self, array: Array, hierarchy: Hierarchy, fixed: tuple[str, ...]) -> None:
        self._array = array
        self._hierarchy = hierarchy
        self._fixed = fixed
        self.version = array.version
        self.mtime = array.mtime

    def names(self, start: int = 0) -> Iterator[str]:
        return iter(())

    def lookup(self, name: str) -> Node | None:
        keys, grid = self._array.meta.keys, self._array.meta.outer_grid
        parts = (*self._fixed, name)
        if keys.parse("/".join(parts), grid) is not None:
            path = "/".join(p for p in (self._array.path, *parts) if p)
            file = object_file(self._hierarchy, path)
            if file is None:
                self._array.confirm()  # an absent chunk of a store that is gone is no fill value
            return file
        if keys.separator == "/" and self._leads_to_chunks(parts):
            return RawChunksDir(self._array, self._hierarchy, parts)
        return None

    def _leads_to_chunks(self, parts: tuple[str, ...]) -> bool:
        keys, grid = self._array.meta.keys, self._array.meta.outer_grid
        depth = len(grid) + bool(keys.prefix)
        if len(parts) >= depth:
            return False
        return keys.parse("/".join([*parts, *["0"] * (depth - len(parts))]), grid) is not None


class ControlDir:
    """`.znfs/`: the daemon's own files."""

    version = "znfs"
    mtime = 0.0

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def names(self, start: int = 0) -> Iterator[str]:
        yield from ["status.json"][start:]

    def lookup(self, name: str) -> File | None:
        if name != "status.json":
            return None
        text = json.dumps(self._tree.status(), indent=1) + "\n"
        file = File([Literal(text.encode())], str(time.time_ns()), time.time())
        file.live = True
        return file


def object_file(hierarchy: Hierarchy, key: str) -> File | None:
    """A stored object byte for byte; None if there is none."""
    store = hierarchy.store
    stat = store.stat(key)
    if stat is None:
        return None
    extent = Object(store, hierarchy.cache, key, stat.size, stat.version)
    return File([extent], stat.version, stat.mtime)


def open_tree(source: str, options: Options | None = None, **overrides: Any) -> Tree:
    """The tree of `source`, looked at once. Keyword arguments are fields of Options.

    Raises SourceError, NotFound, Denied, StoreError, UsageError.
    """
    if options is not None and overrides:
        raise UsageError("give options or keyword arguments, not both")
    tree = Tree(source, options or Options(**overrides))
    try:
        tree.probe()
    except BaseException:
        tree.close()
        raise
    return tree


def _read_manifest(path: str | None) -> list[str]:
    """Paths of nodes, one a line; `#` begins a comment."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--manifest {path}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _is_junk(name: str) -> bool:
    return name in _OS_JUNK or name.startswith(_OS_JUNK_PREFIXES)


def _is_listable(name: str) -> bool:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    return len(name.encode("utf-8", "surrogateescape")) <= _MOST_NAME_BYTES
