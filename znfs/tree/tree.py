"""The file tree of a source: paths to files and directories. FUSE, the CLI and Python use it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from math import inf
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from znfs import __version__, forks
from znfs.arrays.bands import spill_to
from znfs.cache import BlockCache
from znfs.chunks.disk import DiskTier
from znfs.errors import Denied, NoBucket, NotFound, SourceError, StoreError, UsageError
from znfs.formats import FORMATS
from znfs.hierarchy import Hierarchy, HierarchyNode, Unreadable
from znfs.hierarchy.paths import last, parent
from znfs.lastsaid import LastSaid
from znfs.node import File, Node
from znfs.options import Options
from znfs.stores import local_path, open_store
from znfs.stores.watched import WatchedStore
from znfs.tree.control import ControlDir
from znfs.tree.directories import CONTROL, NodeDir, Shown
from znfs.tree.provenance import attributes
from znfs.tree.reader import looker, open_file
from znfs.tree.survey import Description, Survey
from znfs.views import check

_MOST_FILES = 4096


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


def _again(known: _Resolved, owner: HierarchyNode, node: Node) -> Node:
    """What a path is that was `known` and is made anew as `node`: what holds still what it
    computed, if that is the same."""
    before = known.node
    if isinstance(before, File) and isinstance(node, File) and before.remembers:
        return node.after(before)
    return before if before.version == node.version and known.owner is owner else node


class Tree:
    """The files of one source. Building it parses and opens; the first request is `probe`'s."""

    def __init__(self, source: str, options: Options) -> None:
        self.options = options
        self._pid = os.getpid()
        check(options)
        manifest = _read_manifest(options.manifest)
        store, info = open_store(source, options)
        self._store = WatchedStore(store, options.deadline)
        self.url = info.url
        self._here = local_path(source, options)
        self.root_name = info.name
        self._cache = BlockCache(
            options.cache_size, self._store.concurrency, line=self._store.line
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
            string_bytes=options.string_bytes,
            formats=formats,
            manifest=manifest,
            disk=self._disk,
            identity=info.identity,
        )
        self._shown = Shown(self._hierarchy, options)
        self._survey = Survey(self._shown)
        self._files: LRUCache[str, _Resolved] = LRUCache(maxsize=_MOST_FILES)
        self._remembered: dict[str, _Resolved] = {}  # files that remember, which are few
        self._lock = threading.Lock()
        self._started = time.time()
        self._began = _awake_or_not()
        self._refreshed = 0
        self._reports: dict[str, Callable[[], Any]] = {}
        # Asked once, since status must answer at once, and above all when the store does not.
        self._store_has_control = LastSaid(self._look_for_control, False, once=True)

    @property
    def patience(self) -> float:
        """Seconds that an operation may take: the deadline; a local store is waited for."""
        return inf if self._store.local else self.options.deadline

    def probe(self) -> None:
        """A first look at the source. Raises SourceError, Denied or StoreError: why it cannot be
        shown."""
        try:
            node = self._hierarchy.node("")
        except Denied as error:
            raise Denied(f"{self.url}: {error}") from error
        except NoBucket as error:
            raise SourceError(f"{self.url}: there is no such bucket") from error
        except StoreError as error:
            self._store_has_control.pause()
            raise StoreError(f"{self.url}: {error}") from error
        if node is None:
            if self._here is not None and not os.path.exists(self._here):
                raise SourceError(f"{self.url}: no such file or directory")
            raise SourceError(f"{self.url}: no Zarr or N5 metadata there, and nothing to list")
        if isinstance(node, Unreadable) and not self._survey.is_anything_below(node):
            raise SourceError(f"{self.url}: {node.reason}")

    def resolve(self, path: str) -> Node:
        """The file or directory at `path` ("" or "/" is the root).

        Raises NotFound; Denied, Stale, StoreError where the store has to be asked and fails.
        """
        forks.check(self._pid)
        path = path.strip("/")
        return self._control(path) if self._is_control(path) else self._resolve(path).node

    def _resolve(self, path: str) -> _Resolved:
        """From the nearest place above that is known, down: not by recursion, for a path may have
        any number of parts."""
        unknown = []
        above = path
        while (found := self._known(above)) is None:
            unknown.append(above)
            if not above:
                break
            above = parent(above)
        for at in reversed(unknown):
            found = self._look_up(at, found)
        assert found is not None
        return found

    def _known(self, path: str) -> _Resolved | None:
        """What the path was found to be, while that holds."""
        with self._lock:
            known = self._files.get(path)
        if (
            known is not None
            and time.monotonic() < known.until
            and self._hierarchy.node(known.owner.path) is known.owner
        ):
            return known
        return None

    def _look_up(self, path: str, above: _Resolved | None) -> _Resolved:
        """What the path is, in the directory `above`; None above the root."""
        with self._lock:
            known = self._files.get(path) or self._remembered.get(path)
        began = time.monotonic()
        if above is None:
            root = self._hierarchy.node("")
            if root is None:
                raise NotFound(f"{self.url}: nothing there any more")
            owner: HierarchyNode = root
            node: Node = NodeDir(self._shown, root)
        else:
            found = None if isinstance(above.node, File) else above.node.lookup(last(path))
            if found is None:
                raise NotFound(f"{path}: no such file")
            node = found
            owner = node.node if isinstance(node, NodeDir) else above.owner
        if known is not None:
            node = _again(known, owner, node)
        now = time.monotonic()
        until = now + max(self.options.ttl, 10 * (now - began)) if _outlives(owner, node) else inf
        resolved = _Resolved(owner, node, until)
        with self._lock:
            self._files[path] = resolved
            if isinstance(node, File) and node.remembers:
                self._remembered[path] = resolved
        return resolved

    def open(self, path: str) -> BufferedReader:
        """The file at `path` as a seekable binary file object, for numpy, tifffile, h5py.

        Raises as `resolve` does, and IsADirectoryError; its reads raise ZnfsError.
        """
        node = self.resolve(path)
        if not isinstance(node, File):
            raise IsADirectoryError(path)
        return open_file(node, path, looker(self.resolve, path, node))

    def refresh(self, also: Callable[[], None] = lambda: None) -> None:
        """Forget all metadata and blocks, and read credentials anew. It counts as done once `also`
        has been called."""
        forks.check(self._pid)
        self._store.renew()
        self._hierarchy.refresh()
        self._cache.clear()
        with self._lock:
            self._files.clear()
        also()
        self._store_has_control.ask_anew()
        with self._lock:
            self._refreshed += 1

    def status(self) -> dict[str, Any]:
        """Counters and state, for status.json, metrics and `znfs status`."""
        forks.check(self._pid)
        reports = {name: report() for name, report in self._reports.items()}
        return reports | {
            "version": __version__,
            "source": self.url,
            "name": self.root_name,
            "pid": os.getpid(),
            "refreshed": self._refreshed,
            "started": self._started,
            "uptime": _awake_or_not() - self._began,
            "store": self._store.status(),
            "cache": self._cache.status(),
            "disk_cache": None if self._disk is None else self._disk.status(),
        }

    def report(self, name: str, made: Callable[[], Any]) -> None:
        """Have the status hold `made()`, which is JSON-able, as `name`."""
        self._reports[name] = made

    def attributes(self, path: str) -> dict[str, str]:
        """Where the file or directory at `path` comes from: url, etag, shape, and so on.

        Raises as `resolve` does.
        """
        forks.check(self._pid)
        path = path.strip("/")
        if self._is_control(path):
            self._control(path)
            return {}
        found = self._resolve(path)
        return attributes(self._store.url, path, found.owner, found.node)

    def describe(self) -> Iterator[Description]:
        """Every node from the root down, depth first."""
        forks.check(self._pid)
        return self._survey.describe()

    def stored_size(self, path: str) -> int | None:
        """Bytes of all objects below `path`; None where the store cannot list, or there is too
        much to list for the asking."""
        forks.check(self._pid)
        return self._survey.stored_size(path)

    def close(self) -> None:
        """Stop loading and close the store. Nothing in a forked process: it is not its own."""
        if os.getpid() != self._pid:
            return
        self._hierarchy.close()
        self._cache.close()
        self._store.close()
        if self._disk is not None:
            self._disk.close()

    def _is_control(self, path: str) -> bool:
        """Whether that is `.znfs`, or below it, and not the store's own."""
        return path.split("/", 1)[0] == CONTROL and not self._store_has_control.get()

    def _look_for_control(self) -> bool:
        """Whether a child of the store takes the place of `.znfs`."""
        return self._hierarchy.node(CONTROL) is not None or self._store.stat(CONTROL) is not None

    def _control(self, path: str) -> Node:
        node: Node | None = ControlDir(self.status)
        for part in path.split("/")[1:]:
            node = node.lookup(part) if node is not None and not isinstance(node, File) else None
        if node is None:
            raise NotFound(f"{path}: no such file")
        return node


def open_tree(source: str, options: Options | None = None, **overrides: Any) -> Tree:
    """The tree of `source`, looked at once. Keyword arguments are fields of Options; variables and
    the configuration file are not read (api.open_tree does).

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


def _awake_or_not() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read_manifest(path: str | None) -> list[str]:
    """Paths of nodes, one a line; `#` begins a comment."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--manifest {path}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
