"""Nodes by path, and their versions.

A node's version is a hash of its metadata documents with their ETag and Last-Modified (of local
files: mtime in ns, size, inode). It is checked when somebody asks for the node and the last check
is older than `ttl`; a node whose version changed is a new object, and so has new cache keys.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import inf, prod
from typing import Any

from znfs import forks
from znfs.arrays.array import Array, Group
from znfs.cache import BlockCache
from znfs.chunks.disk import DiskTier
from znfs.errors import Denied, MetadataError, StoreError
from znfs.formats import FORMATS, Format, n5axes, ome
from znfs.formats.arrays import with_room
from znfs.formats.axes import told
from znfs.hierarchy.absence import CONFIRM_SECONDS, Absence
from znfs.hierarchy.documents import Documents, version_of
from znfs.hierarchy.listings import Listing, Listings
from znfs.hierarchy.nodes import HierarchyNode, Prefix, Unreadable
from znfs.hierarchy.paths import join, last, parent, relative
from znfs.hierarchy.promises import Promises
from znfs.hierarchy.seen import Failure, Seen, Sightings
from znfs.meta import ArrayMeta, Axis, Channel, GroupMeta
from znfs.node import is_encodable
from znfs.stores.base import Blob, Folders, Store
from znfs.stores.urls import node_name

log = logging.getLogger(__name__)

# So many names in an array's folder may be chunks' where it is listed for the others: far away a
# page of S3's LIST, near by 40 ms.
_FEW_FAR = 1000
_FEW_NEAR = 10_000


@dataclass(frozen=True)
class _Inherited:
    """What an array is told by a group above it."""

    axes: tuple[Axis, ...] | None = None
    channels: tuple[Channel, ...] = ()
    first: Mapping[str, Any] = field(default_factory=dict)  # told of s0, if `axes` is None


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
        self._listings = Listings(store, ttl)
        self._documents = Documents(store, formats)
        self._sightings = Sightings()
        self._promises = Promises(self._sightings, manifest)
        self._absence = Absence(store, self._sightings, self._look)
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
            return [name for name in seen.documents if self.store.stat(join(path, name))]
        told = seen.consolidated(path)
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

        def begin() -> None:
            self._tier = tier

        self._listings.forget()  # first: what begins in the new generation sees none of the old
        self._sightings.forget(begin)

    def close(self) -> None:
        """Stop the threads that read metadata."""
        self._documents.close()
        self._listings.close()

    def children(self, path: str) -> Sequence[str]:
        """Names below a group, an N5 array or a prefix that may be nodes, sorted."""
        seen = self._look(path, None)
        names: set[str] = set()
        consolidated = seen.consolidated_below(path)
        if consolidated is not None:
            names.update(consolidated)
        elif seen.node is None:
            return []
        elif (listing := self.listing(seen.node)) is not None:
            names.update(listing.prefixes)
        else:
            names.update(self._reserved(path, seen.node))
            names.update(self._promises.names(path))
        if isinstance(seen.node, Array):
            meta = seen.node.meta
            names = {name for name in names if not meta.keys.begin_with(name, meta.ndim)}
        # A key may hold an empty segment or a dot segment; neither can be a directory's name.
        return sorted(names - {"", ".", ".."})

    def _look(self, path: str, since: float | None) -> Seen:
        """From the nearest node above that is fresh, down: not by recursion, for a path may have
        any number of parts."""
        forks.check(self._pid)
        while True:
            arrived = time.monotonic()
            generation = self._sightings.generation
            stale = []
            at = path
            while (seen := self._sightings.fresh(at, since)) is None:
                stale.append(at)
                if not at:
                    break
                at = parent(at)
            for at in reversed(stale):
                seen = self._look_below(at, seen, since, arrived, generation)
                if seen is None:
                    break
            if seen is not None:
                return seen

    def _look_below(
        self, path: str, above: Seen | None, since: float | None, arrived: float, generation: int
    ) -> Seen | None:
        """Look at `path`, below what was seen above it, for who `arrived` then. None if a refresh
        comes between: what was read may be half of each generation.

        No other path's lock is held meanwhile: locks never nest downwards.
        """
        with self._sightings.turn(path) as is_ours:
            if is_ours and (fresh := self._sightings.fresh(path, since)) is not None:
                return fresh
            seen = self._sightings.at(path)
            known = None if seen is None else seen.instead(since)
            if not is_ours:
                if known is not None:
                    return known
                raise StoreError(f"{path}: another look at it did not end in time")
            if (spared := self._sightings.spared(path, known, above, arrived)) is not None:
                return spared
            fresh = self._read_or_excuse(path, above, seen, known)
            return fresh if self._sightings.keep(path, fresh, generation) else None

    def _read_or_excuse(
        self, path: str, above: Seen | None, seen: Seen | None, known: Seen | None
    ) -> Seen:
        """What is at `path` now; if that cannot be read, what is `known`, or the error."""
        began = time.monotonic()
        try:
            fresh = self._read(path, above, seen, began)
        except (StoreError, Denied) as error:
            ended = time.monotonic()
            if known is None:
                until = ended + min(self._ttl, ended - began)
                self._sightings.fail(path, Failure(error, ended, until))
                raise
            log.warning("%s: metadata cannot be checked, what is known stays: %s", path, error)
            return replace(known, excused=ended + max(self._ttl, ended - began))
        # What is taken from above is only as fresh as that.
        source = above if above is not None and fresh.checked < began else None
        until = time.monotonic() + self._ttl if source is None else source.until
        return replace(fresh, until=until)

    def _read(self, path: str, above: Seen | None, old: Seen | None, began: float) -> Seen:
        if above is not None and self._cannot_be(path, above):
            return Seen(None, min(began, above.checked), scope=above.scope, above=above)
        scope = above.scope if above else None
        if above is not None and scope is not None:
            began = min(began, above.checked)  # it is only as fresh as what it is taken from
            blobs = {
                name: Blob(data, scope.version, scope.mtime)
                for name, data in above.consolidated(path).items()
            }
            denied = None
        else:
            inside = above.node if above else None
            within = inside.meta.format if isinstance(inside, Group) else None
            blobs, denied = self._documents.fetch(path, within)
        if not blobs:
            node = self._without_documents(path, above, denied)
            return Seen(node, began, scope=scope, above=above)
        inherited = _inherited(path, above)
        version = version_of(blobs, inherited)
        if old is not None and old.node is not None and old.node.version == version:
            own_scope = old.scope is old.node
            return replace(
                old, checked=began, excused=0.0, scope=old.scope if own_scope else scope,
                above=above,
            )  # fmt: skip
        node = self._build(path, blobs, version, inherited, scope)
        if node is None:  # `.zattrs` alone makes none, and hides nothing below it
            node = self._without_documents(path, above, denied)
        # zarr-python writes an empty consolidated_metadata into the groups that it consolidates:
        # what a group above says of all below it stands.
        if scope is None and isinstance(node, Group) and node.meta.consolidated is not None:
            scope = node
        stamps = tuple((join(path, name), blob.version) for name, blob in blobs.items())
        own = above is None or above.scope is None
        return Seen(
            node, began, scope=scope, documents=tuple(sorted(blobs)),
            stamps=stamps if own else (), above=above,
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
            above = inherited.axes
            if inherited.first:
                above = n5axes.numbered_level(inherited.first, meta.attributes, meta.ndim)
            if above is not None and len(above) == meta.ndim:
                axes = told(above, meta.axes)
                meta = replace(meta, axes=axes, channels=inherited.channels)
            return Array(
                path, name, meta, version, mtime, self.store, self.cache,
                lambda: self._absence.confirm(path, version), self.missing_403,
                self._tier, self._sightings.generation,
            )  # fmt: skip
        except MetadataError as error:
            return Unreadable(path, name, str(error), version, mtime, error.of_array)

    def _group(
        self, path: str, meta: GroupMeta, version: str, mtime: float, at_hand: bool = False
    ) -> Group:
        def child(name: str) -> Array | Group | None:
            node = self.node(join(path, name))
            return node if isinstance(node, Array | Group) else None

        return Group(
            path, self.name(path), meta, version, mtime,
            lambda: list(filter(is_encodable, self.children(path))), child, at_hand,
        )  # fmt: skip

    def _without_documents(
        self, path: str, above: Seen | None, denied: Denied | None
    ) -> HierarchyNode | None:
        """What a path without metadata documents is: a prefix, an N5 group, or nothing."""
        inside = above.node if above else None
        if above is None or not above.consolidated_below(path):
            has_names = False
            try:
                has_names = self.has_names(path)
            except Denied as error:
                denied = denied or error
            if not has_names and not self._promises.lead_below(path):
                if denied is not None:
                    raise denied
                if inside is None or not self._is_empty_folder(path, inside):
                    return None
        if isinstance(inside, Array | Group) and inside.meta.format == "n5":
            return self._group(path, GroupMeta("n5"), "n5", 0.0)  # in N5 every folder is a group
        return Prefix(path, self.name(path))

    def _is_empty_folder(self, path: str, above: HierarchyNode) -> bool:
        """Whether there is a folder at `path`, below which nothing is listed.

        Where the store has none, the listing above tells: S3's markers are keys that end in `/`.
        """
        if (told := self.is_folder(path)) is not None:
            return told
        listing = self.listing(above, CONFIRM_SECONDS)
        return listing is not None and last(path) in listing.prefixes

    def name(self, path: str) -> str:
        """NAME of a node (docs/SEMANTICS.md, "Names")."""
        return node_name(path) if path else self._root_name

    def _cannot_be(self, path: str, above: Seen) -> bool:
        """True if `path` needs no request to be ruled out."""
        if above.node is None:
            return True
        name = last(path)
        if not is_encodable(name):
            return True
        if isinstance(above.node, Array):
            meta = above.node.meta
            if meta.keys.begin_with(name, meta.ndim):
                return True
        if name in (above.consolidated_below(parent(path)) or ()):
            return False
        if self.is_folder(path) is False:
            return True
        if self.store.local or isinstance(above.node, Array):
            return False
        listing = self._listings.of(parent(path))
        return listing is not None and name not in listing.prefixes

    def _reserved(self, path: str, node: HierarchyNode | None) -> set[str]:
        """Names that OME-Zarr or Paintera reserves below a group, and are there: a look at each."""
        if not isinstance(node, Group):
            return set()
        names = ome.perhaps(node.meta.attributes)
        found = {name for name in names if self._is_there(join(path, name))}
        if n5axes.is_numbered(node.meta.attributes):
            levels = (f"s{k}" for k in range(n5axes.MOST_LEVELS))
            found.update(takewhile(lambda name: self._is_there(join(path, name)), levels))
        return found

    def _is_there(self, path: str) -> bool:
        """Whether there is a node. Denied is no: S3 denies what is missing to who may not list."""
        try:
            return self.node(path) is not None
        except Denied:
            return False


def _inherited(path: str, above: Seen | None) -> _Inherited:
    """What a group above says of this array (OME-Zarr `multiscales` and `omero`)."""
    at = path
    while above is not None:
        at = parent(at)
        if isinstance(above.node, Group) and above.node.meta.attributes:
            attributes = above.node.meta.attributes
            below = relative(path, at)
            axes = ome.level_axes(attributes).get(below)
            first = {} if axes is not None else ome.first_level(attributes, below)
            if axes is not None or first:
                return _Inherited(axes, ome.channels(attributes), first)
        above = above.above
    return _Inherited()


def _lists_briefly(meta: ArrayMeta, near: bool) -> bool:
    """Whether chunks, by the metadata, have few of the names directly in their array's folder."""
    keys, grid = meta.keys, meta.outer_grid
    most = _FEW_NEAR if near else _FEW_FAR
    if keys.separator == "/" and keys.prefix:
        return True
    if keys.separator == "/" and len(grid) > 1:  # these are folders on the way to chunks
        return meta.format == "n5" or grid[0] <= most  # N5's arrays may have children
    return near and prod(grid) <= most
