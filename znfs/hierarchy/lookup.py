"""Nodes by path, and their versions.

A node's version is a hash of its metadata documents with their ETag and Last-Modified (of local
files: mtime in ns, size, inode). It is checked when somebody asks for the node and the last check
is older than `ttl`; a node whose version changed is a new object, and so has new cache keys.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, prod
from posixpath import normpath
from weakref import WeakValueDictionary

from cachetools import LRUCache

from znfs import deadline, forks
from znfs.array import Array, Group
from znfs.cache import BlockCache
from znfs.disk import DiskTier
from znfs.errors import Denied, MetadataError, Stale, StoreError, ZnfsError
from znfs.formats import FORMATS, Format, ome
from znfs.formats.arrays import with_room
from znfs.formats.axes import told
from znfs.hierarchy.documents import Documents, version_of
from znfs.hierarchy.listings import Listing, Listings
from znfs.hierarchy.nodes import HierarchyNode, Prefix, Unreadable
from znfs.meta import ArrayMeta, Axis, Channel, GroupMeta
from znfs.node import is_encodable
from znfs.stores.base import Blob, Folders, Store
from znfs.stores.urls import node_name

log = logging.getLogger(__name__)

# Nodes remembered; one takes 2-5 kB.
_MOST_NODES = 16_384
# So many names in an array's folder may be chunks' where it is listed for the others: far away a
# page of S3's LIST, near by 40 ms.
_FEW_FAR = 1000
_FEW_NEAR = 10_000
# A look at the metadata that began this recently confirms that an absent chunk is fill;
# a listing as recent, that a folder is empty. What is gone from its store is neither.
_CONFIRM_SECONDS = 1.0


@dataclass
class _Seen:
    """What a look at a path showed; times are monotonic seconds.

    It stands until `until`, `ttl` after the look ended; for who asks for no older look, if it
    `checked` late enough. If the store did not answer when it was to be checked again, it is used
    nevertheless until it is no longer `excused` (HTTP: stale-if-error).
    """

    node: HierarchyNode | None  # None: there is nothing
    checked: float  # when the look began, or the older one at the metadata that it is taken from
    until: float = 0.0
    excused: float = 0.0
    scope: Group | None = None  # nearest group, this node or above it, with consolidated metadata
    above: _Seen | None = None  # what was seen above it, which the LRU may have dropped
    documents: tuple[str, ...] = ()  # names of those that make the node
    stamps: tuple[tuple[str, str], ...] = ()  # keys and versions of its own documents


@dataclass(frozen=True)
class _Failure:
    """A look that failed: its error is that of all who waited meanwhile, and of those who come
    for as long again. The kernel sends look-ups of a name one after another, and each would wait.
    """

    error: ZnfsError
    ended: float
    until: float

    def stands(self, arrived: float, now: float) -> bool:
        return self.ended > arrived or now < self.until


@dataclass(frozen=True)
class _Inherited:
    """What an array is told by a group above it."""

    axes: tuple[Axis, ...] | None = None
    channels: tuple[Channel, ...] = ()


class Hierarchy:
    """Nodes by path (`""` is the source itself). Safe for many threads."""

    def __init__(
        self,
        store: Store,
        cache: BlockCache,
        *,
        root_name: str,
        ttl: float,
        missing_403: bool = False,
        string_bytes: int = ArrayMeta.string_bytes,
        formats: Sequence[Format] = FORMATS,
        manifest: Sequence[str] = (),
        disk: DiskTier | None = None,
        identity: str = "",
    ) -> None:
        """`identity` tells this store from all others, to the disk tier; by default, its URL.

        `string_bytes` is ArrayMeta's.
        """
        self.store = store
        self._folders = store if isinstance(store, Folders) else None
        self.cache = cache
        self._root_name = root_name
        self._ttl = ttl
        self.missing_403 = missing_403
        self._string_bytes = string_bytes
        self._disk = disk
        self._identity = identity or store.url
        self._manifest = tuple(path.strip("/") for path in manifest)
        self._seen: LRUCache[str, _Seen] = LRUCache(maxsize=_MOST_NODES)
        self._listings = Listings(store, ttl)
        self._documents = Documents(store, formats)
        self._failed: LRUCache[str, _Failure] = LRUCache(maxsize=1024)
        self._lock = threading.Lock()
        # Who looks at a path, and who waits for that, has its lock; when nobody has, it goes.
        self._looking: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        # When a look for the node's own document began that found it, by path and stamps.
        self._there: LRUCache[tuple[str, tuple[tuple[str, str], ...]], float] = LRUCache(1024)
        self._generation = 0
        self._pid = os.getpid()
        self._tier = None if disk is None else disk.of_store(self._identity)

    def node(self, path: str) -> HierarchyNode | None:
        """What `path` is, or None. Metadata is read if the last look ended `ttl` ago or earlier.

        Where the store does not answer, a node already known stays. Raises Denied, StoreError.
        """
        return self._look(path, None).node

    def documents(self, path: str) -> tuple[str, ...]:
        """Names of the metadata documents that make the node."""
        return self._look(path, None).documents

    def stored_documents(self, path: str, listing: Listing | None) -> Sequence[str]:
        """Names of those that the store has, by the node's `listing` or a local look.

        Where neither is at hand, what consolidated metadata tells of is taken to be stored, but for
        an empty `.zattrs`: zarr-python 3 tells of one for every node, stored or not.
        """
        seen = self._look(path, None)
        if seen.scope is None or seen.stamps:
            return seen.documents  # they were read
        if listing is not None:
            return [name for name in seen.documents if name in listing.objects]
        if self.store.local:
            return [name for name in seen.documents if self.store.stat(_join(path, name))]
        told = _consolidated(path, seen.scope)
        return [name for name in seen.documents if told[name] != b"{}"]

    def listing(self, node: HierarchyNode, within: float = inf) -> Listing | None:
        """The names the store lists directly below the node; None where it cannot list, or would
        list an array's chunks: in a distant store any, near by many. It is taken anew if it is
        older than `ttl`, or than `within` seconds.

        Raises Denied, StoreError: also if it takes longer than its operation has left.
        """
        near = self.store.local
        if isinstance(node, Array) and not _lists_briefly(node.meta, near):
            return None
        if isinstance(node, Unreadable) and node.is_array and not near:
            return None
        return self._listings.of(node.path, within)

    def is_folder(self, path: str) -> bool | None:
        """Whether the store has a folder at `path`; None if it has no folders, only keys."""
        return None if self._folders is None else self._folders.is_folder(path)

    def has_names(self, path: str) -> bool:
        """Whether the store lists anything below `path`. Raises Denied, StoreError."""
        listing = self._listings.of(path)
        return listing is not None and bool(listing.prefixes or listing.objects)

    def refresh(self) -> None:
        """Forget all metadata, and begin anew with the blocks of every node."""
        tier = self._tier
        if self._disk is not None:
            self._disk.renew(self._identity)
            tier = self._disk.of_store(self._identity)
        self._listings.forget()  # first: what begins in the new generation sees none of the old
        with self._lock:
            self._generation += 1
            self._tier = tier
            self._seen.clear()
            self._failed.clear()

    def close(self) -> None:
        """Stop the threads that read metadata."""
        self._documents.close()
        self._listings.close()

    def children(self, path: str) -> Sequence[str]:
        """Names below a group, an N5 array or a prefix that may be nodes, sorted."""
        seen = self._look(path, None)
        names: set[str] = set()
        consolidated = self._below_scope(seen, path)
        if consolidated is not None:
            names.update(consolidated)
        elif seen.node is None:
            return []
        elif (listing := self.listing(seen.node)) is not None:
            names.update(listing.prefixes)
        else:
            names.update(self._reserved(path, seen.node))
            names.update(self._promised(path))
        if isinstance(seen.node, Array):
            meta = seen.node.meta
            names = {name for name in names if not meta.keys.begin_with(name, meta.ndim)}
        # A key may hold an empty segment or a dot segment; neither can be a directory's name.
        return sorted(names - {"", ".", ".."})

    def _look(self, path: str, since: float | None) -> _Seen:
        """From the nearest node above that is fresh, down: not by recursion, for a path may have
        any number of parts."""
        forks.check(self._pid)
        while True:
            arrived = time.monotonic()
            with self._lock:
                generation = self._generation
            stale = []
            at = path
            while (seen := self._fresh(at, since)) is None:
                stale.append(at)
                if not at:
                    break
                at = _parent(at)
            for at in reversed(stale):
                seen = self._look_below(at, seen, since, arrived, generation)
                if seen is None:
                    break
            if seen is not None:
                return seen

    def _fresh(self, path: str, since: float | None) -> _Seen | None:
        """What is known of `path`, if it is to be used without another look."""
        with self._lock:
            seen = self._seen.get(path)
        return seen if seen is not None and self._is_fresh(seen, since) else None

    def _look_below(
        self, path: str, parent: _Seen | None, since: float | None, arrived: float, generation: int
    ) -> _Seen | None:
        """Look at `path`, below what was seen above it, for who `arrived` then. None if a refresh
        comes between: what was read may be half of each generation.

        No other path's lock is held meanwhile: locks never nest downwards.
        """
        with self._turn(path) as is_ours:
            with self._lock:
                seen, failure = self._seen.get(path), self._failed.get(path)
            if not is_ours:
                if (known := _known(seen, since)) is not None:
                    return known
                raise StoreError(f"{path}: another look at it did not end in time")
            if seen is not None and self._is_fresh(seen, since):
                return seen
            known = _known(seen, since)
            if (spared := _spared(known, failure, parent, arrived)) is not None:
                return spared
            fresh = self._read_or_excuse(path, parent, seen, known)
            with self._lock:
                if generation != self._generation:
                    return None
                self._seen[path] = fresh
                return fresh

    @contextmanager
    def _turn(self, path: str) -> Iterator[bool]:
        """With this thread the only one that looks at `path`; False if others took too long."""
        with self._lock:
            lock = self._looking.setdefault(path, threading.Lock())
        wait = deadline.wait()
        is_ours = lock.acquire(timeout=-1 if wait is None else wait)
        try:
            yield is_ours
        finally:
            if is_ours:
                lock.release()

    def _read_or_excuse(
        self, path: str, parent: _Seen | None, seen: _Seen | None, known: _Seen | None
    ) -> _Seen:
        """What is at `path` now; if that cannot be read, what is `known`, or the error."""
        began = time.monotonic()
        try:
            fresh = self._read(path, parent, seen, began)
        except (StoreError, Denied) as error:
            ended = time.monotonic()
            if known is None:
                until = ended + min(self._ttl, ended - began)
                with self._lock:
                    self._failed[path] = _Failure(error, ended, until)
                raise
            log.warning("%s: metadata cannot be checked, what is known stays: %s", path, error)
            return replace(known, excused=ended + max(self._ttl, ended - began))
        # What is taken from above is only as fresh as that.
        source = parent if parent is not None and fresh.checked < began else None
        until = time.monotonic() + self._ttl if source is None else source.until
        return replace(fresh, until=until)

    def _is_fresh(self, seen: _Seen, since: float | None) -> bool:
        if since is not None:
            return seen.checked >= since
        now = time.monotonic()
        return (now < seen.until or now < seen.excused) and self._scope_stands(seen)

    def _scope_stands(self, seen: _Seen) -> bool:
        scope = seen.scope
        if scope is None or scope is seen.node:
            return True
        with self._lock:
            top = self._seen.get(scope.path)
        return top is None or top.node is scope

    def _read(self, path: str, parent: _Seen | None, old: _Seen | None, began: float) -> _Seen:
        if parent is not None and self._cannot_be(path, parent):
            return _Seen(None, min(began, parent.checked), scope=parent.scope, above=parent)
        scope = parent.scope if parent else None
        if parent is not None and scope is not None:
            began = min(began, parent.checked)  # it is only as fresh as what it is taken from
            blobs = {
                name: Blob(data, scope.version, scope.mtime)
                for name, data in _consolidated(path, scope).items()
            }
            denied = None
        else:
            inside = parent.node if parent else None
            above = inside.meta.format if isinstance(inside, Group) else None
            blobs, denied = self._documents.fetch(path, above)
        if not blobs:
            node = self._without_documents(path, parent, denied)
            return _Seen(node, began, scope=scope, above=parent)
        inherited = _inherited(path, parent)
        version = version_of(blobs, inherited)
        if old is not None and old.node is not None and old.node.version == version:
            own_scope = old.scope is old.node
            return replace(
                old, checked=began, excused=0.0, scope=old.scope if own_scope else scope,
                above=parent,
            )  # fmt: skip
        node = self._build(path, blobs, version, inherited, scope)
        # zarr-python writes an empty consolidated_metadata into the groups that it consolidates:
        # what a group above says of all below it stands.
        if scope is None and isinstance(node, Group) and node.meta.consolidated is not None:
            scope = node
        prefix = path + "/" if path else ""
        stamps = tuple((prefix + name, blob.version) for name, blob in blobs.items())
        own = parent is None or parent.scope is None
        return _Seen(
            node, began, scope=scope, documents=tuple(sorted(blobs)),
            stamps=stamps if own else (), above=parent,
        )  # fmt: skip

    def _build(
        self, path: str, blobs: Mapping[str, Blob], version: str, inherited: _Inherited,
        scope: Group | None,
    ) -> HierarchyNode | None:  # fmt: skip
        name = self.name(path)
        mtime = max(blob.mtime for blob in blobs.values())
        try:
            parsed = self._documents.parse(blobs)
            if parsed is None:
                return None
            document, meta = parsed
            if isinstance(meta, GroupMeta):
                at_hand = scope is not None or meta.consolidated is not None
                return self._group(path, meta, version, mtime, at_hand)
            if meta.is_variable:
                meta = with_room(document, meta, self._string_bytes)
            if inherited.axes is not None and len(inherited.axes) == meta.ndim:
                axes = told(inherited.axes, meta.axes)
                meta = replace(meta, axes=axes, channels=inherited.channels)
            return Array(
                path, name, meta, version, mtime, self.store, self.cache,
                lambda: self._confirm(path, version), self.missing_403,
                self._tier, self._generation,
            )  # fmt: skip
        except MetadataError as error:
            documents = tuple(sorted(blobs))
            return Unreadable(path, name, str(error), version, mtime, documents, error.of_array)

    def _group(
        self, path: str, meta: GroupMeta, version: str, mtime: float, at_hand: bool = False
    ) -> Group:
        def child(name: str) -> Array | Group | None:
            node = self.node(f"{path}/{name}" if path else name)
            return node if isinstance(node, Array | Group) else None

        return Group(
            path, self.name(path), meta, version, mtime,
            lambda: list(filter(is_encodable, self.children(path))), child, at_hand,
        )  # fmt: skip

    def _without_documents(
        self, path: str, parent: _Seen | None, denied: Denied | None
    ) -> HierarchyNode | None:
        """What a path without metadata documents is: a prefix, an N5 group, or nothing."""
        inside = parent.node if parent else None
        if not self._below_scope(parent, path):
            has_names = False
            try:
                has_names = self.has_names(path)
            except Denied as error:
                denied = denied or error
            if not has_names and not any(
                promise.startswith(path + "/") or not path for promise in self._all_promised(path)
            ):
                if denied is not None:
                    raise denied
                if inside is None or not self._is_empty_folder(path, inside):
                    return None
        if isinstance(inside, Array | Group) and inside.meta.format == "n5":
            return self._group(path, GroupMeta("n5"), "n5", 0.0)  # in N5 every folder is a group
        return Prefix(path, self.name(path))

    def _is_empty_folder(self, path: str, parent: HierarchyNode) -> bool:
        """Whether there is a folder at `path`, below which nothing is listed.

        Where the store has none, the listing above tells: S3's markers are keys that end in `/`.
        """
        if (told := self.is_folder(path)) is not None:
            return told
        listing = self.listing(parent, _CONFIRM_SECONDS)
        return listing is not None and path.rpartition("/")[2] in listing.prefixes

    def name(self, path: str) -> str:
        """NAME of a node (docs/SEMANTICS.md, "Names")."""
        return node_name(path) if path else self._root_name

    def _cannot_be(self, path: str, parent: _Seen) -> bool:
        """True if `path` needs no request to be ruled out."""
        if parent.node is None:
            return True
        name = path.rsplit("/", 1)[-1]
        if not is_encodable(name):
            return True
        if isinstance(parent.node, Array):
            meta = parent.node.meta
            if meta.keys.begin_with(name, meta.ndim):
                return True
        if name in (self._below_scope(parent, _parent(path)) or ()):
            return False
        if self.is_folder(path) is False:
            return True
        if self.store.local or isinstance(parent.node, Array):
            return False
        listing = self._listings.of(_parent(path))
        return listing is not None and name not in listing.prefixes

    def _below_scope(self, seen: _Seen | None, path: str) -> frozenset[str] | None:
        """Names directly below `path` by consolidated metadata; None if there is none."""
        if seen is None or seen.scope is None:
            return None
        scope = seen.scope
        return scope.meta.names_below.get(_relative(path, scope.path), frozenset())

    def _all_promised(self, path: str) -> Iterator[str]:
        """Paths that metadata above `path`, or the manifest, says exist."""
        yield from self._manifest
        at = path
        while at:
            at = _parent(at)
            for near in (at, _join(at, ome.SERIES_GROUP)):
                with self._lock:
                    seen = self._seen.get(near)
                if seen is not None and isinstance(seen.node, Group):
                    for child in ome.children(seen.node.meta.attributes):
                        promise = normpath(_join(near, child))
                        if not promise.startswith("../"):
                            yield promise

    def _reserved(self, path: str, node: HierarchyNode | None) -> set[str]:
        """Names that OME-Zarr reserves below a group, and that are there: it takes a look each."""
        if not isinstance(node, Group):
            return set()
        names = ome.perhaps(node.meta.attributes)
        return {name for name in names if self._is_there(_join(path, name))}

    def _is_there(self, path: str) -> bool:
        """Whether there is a node. Denied is no: S3 denies what is missing to who may not list."""
        try:
            return self.node(path) is not None
        except Denied:
            return False

    def _promised(self, path: str) -> set[str]:
        """Names directly below `path` that metadata or the manifest promises."""
        prefix = path + "/" if path else ""
        below = f"{prefix}?"  # so that `path` itself is among the groups asked
        return {
            promise[len(prefix) :].split("/", 1)[0]
            for promise in self._all_promised(below)
            if promise.startswith(prefix)
        } - {""}

    def _confirm(self, path: str, version: str) -> None:
        """Raise Stale unless the node at `path` has `version` still, by a look at most 1 s old, and
        is still there now.

        A local look costs microseconds: it is taken anew, so that a folder deleted within that
        second is not an image of zeros either. Far away one request tells that a document is there,
        and the same.
        """
        if self.store.local and self._stands(path, version):
            return
        arrived = time.monotonic()
        since = arrived - (0.0 if self.store.local else _CONFIRM_SECONDS)
        seen = self._look_for(path, version, since)
        is_consolidated = seen.scope is not None and seen.scope.path != path
        is_older = is_consolidated or seen.checked < arrived
        if is_older and not self._confirm_own(path, seen, arrived):
            self._look_for(path, version, arrived)

    def _look_for(self, path: str, version: str, since: float) -> _Seen:
        """A look at `path` that began since then. Raises Stale if it has not `version` any more."""
        seen = self._look(path, since)
        if seen.node is None or seen.node.version != version:
            raise Stale(f"{path or self.store.url}: changed, or gone from its store")
        return seen

    def _stands(self, path: str, version: str) -> bool:
        """Whether the documents of a local node are the very files they were: 20 us, where reading
        and hashing them anew takes milliseconds if they are large."""
        with self._lock:
            seen = self._seen.get(path)
        if seen is None or seen.node is None or seen.node.version != version or not seen.stamps:
            return False
        stats = ((self.store.stat(key), stamp) for key, stamp in seen.stamps)
        return all(stat is not None and stat.version == stamp for stat, stamp in stats)

    def _confirm_own(self, path: str, seen: _Seen, arrived: float) -> bool:
        """That the node's own document is there, by a look begun since `arrived`: one look serves
        all who wait for the one before. False if it is another one than was seen: it has to be
        read."""
        with self._turn(path) as is_ours:
            if not is_ours:
                raise StoreError(f"{path}: another look at it did not end in time")
            began = time.monotonic()
            with self._lock:
                if self._there.get((path, seen.stamps), -inf) >= arrived:
                    return True
            own = [name for name in seen.documents if name in _OWN_DOCUMENTS]
            own = own or [".zmetadata"]  # which may be all that an array has
            keys = [_join(path, name) for name in own]
            stats = {key: stat for key in keys if (stat := self.store.stat(key)) is not None}
            if not stats:
                if seen.stamps:
                    raise Stale(f"{keys[0]}: gone, though it was there a moment ago")
                # A deleted array's is in consolidated metadata, too.
                only = "only in consolidated metadata"
                raise Stale(f"{keys[0]}: not there, {only}: a missing chunk is no fill value then")
            stamps = dict(seen.stamps)
            if any(stat.version != stamps.get(key, stat.version) for key, stat in stats.items()):
                return False
            with self._lock:
                self._there[path, seen.stamps] = began
            return True


_OWN_DOCUMENTS = frozenset({"zarr.json", ".zarray", "attributes.json"})


def _consolidated(path: str, scope: Group) -> Mapping[str, bytes]:
    """The documents of a node by the consolidated metadata of a group above it."""
    assert scope.meta.consolidated is not None
    return scope.meta.consolidated.get(_relative(path, scope.path), {})


def _known(seen: _Seen | None, since: float | None) -> _Seen | None:
    """What may stand in for a look that fails: a node, unless one seen since then is asked for."""
    return seen if seen is not None and seen.node is not None and since is None else None


def _spared(
    known: _Seen | None, failure: _Failure | None, parent: _Seen | None, arrived: float
) -> _Seen | None:
    """What is known, if the store did not answer just now and is not to be asked again. Raises the
    error that it gave then, if nothing is."""
    now = time.monotonic()
    if failure is not None and failure.stands(arrived, now):
        if known is None:
            raise failure.error.with_traceback(None)  # else it grows with every raise
        return replace(known, excused=failure.until)
    if known is not None and parent is not None and parent.excused > now:
        # Who reads below a node that cannot be checked waits for that once, not at every level of
        # the path.
        return replace(known, excused=parent.excused)
    return None


def _inherited(path: str, above: _Seen | None) -> _Inherited:
    """What a group above says of this array (OME-Zarr `multiscales` and `omero`)."""
    at = path
    while above is not None:
        at = _parent(at)
        if isinstance(above.node, Group) and above.node.meta.attributes:
            attributes = above.node.meta.attributes
            axes = ome.level_axes(attributes).get(_relative(path, at))
            if axes is not None:
                return _Inherited(axes, ome.channels(attributes))
        above = above.above
    return _Inherited()


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _relative(path: str, above: str) -> str:
    return path[len(above) :].lstrip("/") if above else path


def _lists_briefly(meta: ArrayMeta, near: bool) -> bool:
    """Whether chunks, by the metadata, have few of the names directly in their array's folder."""
    keys, grid = meta.keys, meta.outer_grid
    most = _FEW_NEAR if near else _FEW_FAR
    if keys.separator == "/" and keys.prefix:
        return True
    if keys.separator == "/" and len(grid) > 1:  # these are folders on the way to chunks
        return meta.format == "n5" or grid[0] <= most  # N5's arrays may have children
    return near and prod(grid) <= most
