"""Directories: what a node of the hierarchy holds as files.

A name is looked for in this order: the node's metadata documents, encoded chunks at the store's
keys, nodes below, the store's other objects, then views. A child of the store that has a view's
name therefore wins over the view. One exception spares requests: where a distant store was asked
for all names of an array's folder, a view that none of them hides is opened at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from znfs.arrays.array import Array, Group
from znfs.arrays.extents import Object
from znfs.errors import Denied, Unsupported, ZnfsError
from znfs.forks import cached_property
from znfs.formats import ome
from znfs.hierarchy import Hierarchy, HierarchyNode, Prefix
from znfs.hierarchy.paths import join
from znfs.node import File, Kind, Node, Unlisted, is_encodable
from znfs.options import Options
from znfs.views import NOT_OF_ARRAYS, NOT_OF_GROUPS, TOO_LONG, Listed, View, fits

# Names that desktops and their daemons look for in every folder: they shall cost no request.
_OS_JUNK = frozenset(
    {".DS_Store", ".hidden", ".Trash", ".localized", ".xdg-volume-info", ".directory",
     "desktop.ini", "Desktop.ini", "Thumbs.db", "autorun.inf", "AutoRun.inf", "BDMV",
     ".metadata_never_index", ".Spotlight-V100", ".fseventsd", ".TemporaryItems",
     ".trackerignore", ".nomedia", ".thumbnails", ".sh_thumbnails", ".AppleDouble", ".AppleDB",
     "Network Trash Folder", "Temporary Items", "System Volume Information", "$RECYCLE.BIN"}
)  # fmt: skip
_OS_JUNK_PREFIXES = ("._", ".Trash-", ".fuse_hidden")
CONTROL = ".znfs"  # at the root, what the mount says of itself; a child of the store hides it
_MOST_FILE_BYTES = 1 << 63
_MOST_TOLD = 3  # names in a remark


class Shown:
    """What a tree shows of a hierarchy: the views that are there, and those that are listed."""

    def __init__(self, hierarchy: Hierarchy, options: Options) -> None:
        self.hierarchy = hierarchy
        self._options = options

    @cached_property
    def views(self) -> tuple[View, ...]:
        from znfs.views.table import views

        chosen = self._options.views
        return tuple(v for v in views(self._options) if chosen is None or v.key in chosen)

    @cached_property
    def listed(self) -> tuple[View, ...]:
        wanted = {Listed.BY_DEFAULT} | ({Listed.IF_NAMED} if self._options.views else set())
        return tuple(view for view in self.views if view.listed in wanted)


class NodeDir:
    """The directory of an array, a group, a prefix or an unreadable node."""

    def __init__(self, shown: Shown, node: HierarchyNode) -> None:
        self._shown = shown
        self._hierarchy = shown.hierarchy
        self.node = node
        self.version = node.version
        self.mtime = node.mtime

    def names(self, start: int = 0) -> Iterator[str]:
        return (name for name, _ in self.entries(start))

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        kinds: dict[str, Kind] = {}
        if isinstance(self.node, Array | Group):
            for view in self._shown.listed:
                if self._lists(view):
                    kinds[view.entry.format(self.node.name)] = view.kind
        kinds |= self._store_names()
        if not self.node.path:
            kinds.setdefault(CONTROL, Kind.DIRECTORY)
        # A name that cannot be looked up must not be listed: `tar` and `rsync` would fail on it.
        names = sorted(n for n in kinds if _is_listable(n) and not _is_junk(n))
        return ((name, kinds[name]) for name in names[start:])

    def lookup(self, name: str) -> Node | None:
        """The node of that name, listed or not."""
        if _is_never_there(name):
            return None
        path = self._below(name)
        node = self.node
        if name in self._hierarchy.documents(node.path):
            return object_file(self._hierarchy, path)
        if isinstance(node, Array) and (chunks := RawChunksDir(node, self._hierarchy)).has(name):
            if (found := chunks.lookup(name)) is not None:
                return found
            view = self._view(name)
            return None if view is None else self._open(view)
        view = self._view(name)
        if view is not None and isinstance(node, Array) and not self._may_hide(name):
            return self._open(view)
        try:
            child = self._hierarchy.node(path)
            if child is not None:
                return NodeDir(self._shown, child)
            if view is None or self._has_object(name):
                return self._object(path, name)
        except Denied:
            # S3 denies what is missing to who may not list. What it may be could not be read.
            if view is None:
                raise
        return self._open(view)

    def views_and_remarks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the views shown; what is hidden, refused or converted, and why."""
        node = self.node
        store_names = self._store_names().keys()
        not_shown = [*_not_shown(store_names), *self._beyond_grid()]
        if not node.path and CONTROL in store_names:
            not_shown.append(".znfs: what the mount says of itself is hidden by the store's own")
        if not isinstance(node, Array | Group):
            return (), tuple(not_shown)
        shown: list[str] = []
        said: list[str] = []
        refused: dict[str, list[str]] = {}
        for view in self._shown.views:
            entry = view.entry.format(node.name)
            try:
                why = view.refuse(node) or self._why_not_shown(view, entry, store_names)
            except ZnfsError as error:
                why = str(error)
            if why is None:
                shown.append(entry)
                said += view.remarks(node)
            else:
                refused.setdefault(why, []).append(entry)
        for without_saying in (NOT_OF_GROUPS, NOT_OF_ARRAYS):
            refused.pop(without_saying, None)
        remarks = [f"no {', '.join(entries)}: {why}" for why, entries in refused.items()]
        remarks += said
        if isinstance(node, Group):
            remarks += ome.remarks(node.meta.attributes)
            remarks += _other_dimensions(node)
        return tuple(shown), (*remarks, *not_shown)

    def _why_not_shown(self, view: View, entry: str, store_names: Set[str]) -> str | None:
        hides = isinstance(self.node, Array) and self._may_hide(entry)
        if entry in store_names or (hides and self._has_object(entry)):
            return "hidden by the store's own object of that name"
        if not _is_listable(entry):
            return TOO_LONG
        try:
            return None if self._open(view) is not None else "too large (2^63 bytes or more)"
        except ZnfsError as error:
            return str(error)

    def _below(self, name: str) -> str:
        return join(self.node.path, name)

    def _view(self, name: str) -> View | None:
        """The view this node has under that name."""
        node = self.node
        if not isinstance(node, Array | Group):
            return None
        for view in self._shown.views:
            if view.entry.format(node.name) == name:
                return view if view.refuse(node) is None else None
        return None

    def _lists(self, view: View) -> bool:
        """Whether the view is listed. It is where that cannot be told, as one child of a group
        cannot be read: who looks at the view has that error, and who lists the folder the others.
        """
        assert isinstance(self.node, Array | Group)
        try:
            return view.refuse(self.node) is None and self._shows(view)
        except ZnfsError:
            return True

    def _shows(self, view: View) -> bool:
        """Whether the view is not too large to be listed."""
        assert isinstance(self.node, Array | Group)
        if isinstance(self.node, Group) or self.node.meta.nbytes < _MOST_FILE_BYTES >> 14:
            return True  # too small: no view takes 16 KiB for a byte, nor HDF5 for its chunk
        return self._open(view) is not None

    def _open(self, view: View) -> Node | None:
        assert isinstance(self.node, Array | Group)
        try:
            made = view.make(self.node, self.node.name)
        except Unsupported:  # too large for the view's format
            return None
        return None if isinstance(made, File) and made.size >= _MOST_FILE_BYTES else made

    def _store_names(self) -> dict[str, Kind]:
        """Children and other objects as far as they are known without listing chunks."""
        node, path = self.node, self.node.path
        kinds: dict[str, Kind] = {}
        listing = self._hierarchy.listing(node)
        if listing is not None:
            kinds |= dict.fromkeys(listing.objects, Kind.FILE)
            kinds |= dict.fromkeys(listing.prefixes, Kind.DIRECTORY)
        if isinstance(node, Array):  # chunks may be among them
            keys, ndim = node.meta.keys, node.meta.ndim
            kinds = {n: kind for n, kind in kinds.items() if not keys.begin_with(n, ndim)}
        kinds |= dict.fromkeys(self._hierarchy.children(path), Kind.DIRECTORY)
        return kinds | dict.fromkeys(self._hierarchy.stored_documents(path, listing), Kind.FILE)

    def _beyond_grid(self) -> list[str]:
        """Remark on what is named as chunks are, that the array has not."""
        node = self.node
        if not isinstance(node, Array) or (listing := self._hierarchy.listing(node)) is None:
            return []
        chunks = RawChunksDir(node, self._hierarchy)
        keys, ndim = node.meta.keys, node.meta.ndim
        found = sorted(
            n for n in (*listing.objects, *listing.prefixes)
            if keys.begin_with(n, ndim) and not chunks.has(n)
        )  # fmt: skip
        if not found:
            return []
        told = ", ".join(map(repr, found[:_MOST_TOLD])) + ", …" * (len(found) > _MOST_TOLD)
        return [f"not listed, for chunks beyond the array's shape are named so: {told}"]

    def _may_hide(self, name: str) -> bool:
        """Whether a store child of an array may hide the view `name`.

        A local look-up is free. A distant store is asked once for all names, unless all of the
        array's chunks are among them.
        """
        assert isinstance(self.node, Array)
        if self._hierarchy.store.local:
            return True
        listing = self._hierarchy.listing(self.node)
        return listing is not None and (name in listing.objects or name in listing.prefixes)

    def _has_object(self, name: str) -> bool:
        listing = None
        if not (isinstance(self.node, Array) or self._hierarchy.store.local):
            listing = self._hierarchy.listing(self.node)
        if listing is not None:
            return name in listing.objects
        return self._hierarchy.store.stat(self._below(name)) is not None

    def _object(self, path: str, name: str) -> Node | None:
        if isinstance(self.node, Array):
            return RawChunksDir(self.node, self._hierarchy).lookup(name)
        listing = None
        if isinstance(self.node, Group | Prefix) and not self._hierarchy.store.local:
            listing = self._hierarchy.listing(self.node)
        if listing is not None and name not in listing.objects:
            return None
        return object_file(self._hierarchy, path)


class RawChunksDir(Unlisted):
    """A folder of an array's encoded chunks at the store's own keys: looked up, never listed.

    Folders on the way to chunks are there whatever is stored in them: they cost no request. What
    else lies there reads as well.
    """

    def __init__(self, array: Array, hierarchy: Hierarchy, fixed: tuple[str, ...] = ()) -> None:
        self._array = array
        self._hierarchy = hierarchy
        self._fixed = fixed
        self.version = array.version
        self.mtime = array.mtime

    def lookup(self, name: str) -> Node | None:
        if _is_never_there(name):
            return None
        parts = (*self._fixed, name)
        below = RawChunksDir(self._array, self._hierarchy, parts)
        if self._leads_to_chunks(parts):
            return below
        path = "/".join(p for p in (self._array.path, *parts) if p)
        file = self._chunk(path) if self._is_chunk(parts) else object_file(self._hierarchy, path)
        return file or (below if self._is_folder(parts, path) else None)

    def has(self, name: str) -> bool:
        """Whether a chunk of the array is called `name`, or lies below it."""
        parts = (*self._fixed, name)
        return self._leads_to_chunks(parts) or self._is_chunk(parts)

    def _is_chunk(self, parts: tuple[str, ...]) -> bool:
        meta = self._array.meta
        return meta.keys.parse("/".join(parts), meta.outer_grid) is not None

    def _leads_to_chunks(self, parts: tuple[str, ...]) -> bool:
        meta = self._array.meta
        first = meta.keys.first_below(parts, meta.ndim)
        return first is not None and meta.keys.parse(first, meta.outer_grid) is not None

    def _chunk(self, path: str) -> File | None:
        try:
            file = object_file(self._hierarchy, path)
        except Denied:
            if not self._hierarchy.missing_403:
                raise
            file = None
        if file is None:
            self._array.confirm()  # an absent chunk of a store that is gone is no fill value
        return file

    def _is_folder(self, parts: tuple[str, ...], path: str) -> bool:
        """Whether there is a folder. A distant one that may hold chunks is taken to be there: a
        listing would be one of chunks."""
        keys, ndim = self._array.meta.keys, self._array.meta.ndim
        if (told := self._hierarchy.is_folder(path)) is not None:
            return told
        if keys.first_below(parts, ndim) is not None:
            return True
        is_chunk = keys.index("/".join(parts), ndim) is not None
        return not is_chunk and self._hierarchy.has_names(path)


def object_file(hierarchy: Hierarchy, key: str) -> File | None:
    """A stored object byte for byte; None if there is none."""
    store = hierarchy.store
    stat = store.stat(key)
    if stat is None:
        return None
    extent = Object(store, hierarchy.cache, key, stat.size, stat.version)
    file = File([extent], stat.version, stat.mtime)
    file.stored = True
    return file


def _is_never_there(name: str) -> bool:
    """Whether a look-up of the name need not ask."""
    return _is_junk(name) or name in ("", ".", "..") or not is_encodable(name)


def _is_junk(name: str) -> bool:
    return name in _OS_JUNK or name.startswith(_OS_JUNK_PREFIXES)


def _other_dimensions(group: Group) -> Iterator[str]:
    """Remarks on levels whose arrays have not as many dimensions as the group's metadata says:
    nothing that it tells of the image holds for them."""
    for path, axes in ome.level_axes(group.meta.attributes).items():
        try:
            level = group.child(path)
        except ZnfsError:  # which is said of the level itself
            continue
        if isinstance(level, Array) and level.meta.ndim != len(axes):
            yield (
                f"multiscales: {path} has {level.meta.ndim} dimensions and no axes, sizes or "
                f"channels, for {len(axes)} axes are told"
            )


def _not_shown(names: Set[str]) -> list[str]:
    """Remarks on what of a store's names is not listed."""
    remarks = [f"{n!r} cannot be listed" for n in sorted(names) if not _is_listable(n)]
    junk = [f"{n!r} is not shown: only desktops use it" for n in sorted(names) if _is_junk(n)]
    return remarks + junk


def _is_listable(name: str) -> bool:
    if name in ("", ".", "..") or "/" in name or "\0" in name or not is_encodable(name):
        return False
    return fits(name)
