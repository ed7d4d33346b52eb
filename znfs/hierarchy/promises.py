"""Names that metadata says exist, for stores that cannot list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from posixpath import normpath

from znfs.arrays.array import Group
from znfs.formats import ome
from znfs.hierarchy.paths import join, parent
from znfs.hierarchy.seen import Sightings


class Promises:
    """What OME-Zarr's metadata of the groups that were seen, and the user's manifest, promise."""

    def __init__(self, sightings: Sightings, manifest: Sequence[str]) -> None:
        self._sightings = sightings
        self._manifest = tuple(path.strip("/") for path in manifest)

    def names(self, path: str) -> set[str]:
        """Names directly below `path` that are promised, itself or on the way to what is."""
        prefix = path + "/" if path else ""
        below = f"{prefix}?"  # so that `path` itself is among the groups asked
        return {
            promise[len(prefix) :].split("/", 1)[0]
            for promise in self._all(below)
            if promise.startswith(prefix)
        } - {""}

    def lead_below(self, path: str) -> bool:
        """Whether something below `path` is promised."""
        return any(promise.startswith(path + "/") or not path for promise in self._all(path))

    def _all(self, path: str) -> Iterator[str]:
        """Paths that metadata above `path`, or the manifest, says exist."""
        yield from self._manifest
        at = path
        while at:
            at = parent(at)
            for near in (at, join(at, ome.SERIES_GROUP)):
                seen = self._sightings.at(near)
                if seen is not None and isinstance(seen.node, Group):
                    for child in ome.children(seen.node.meta.attributes):
                        promise = normpath(join(near, child))
                        if not promise.startswith("../"):
                            yield promise
