"""The metadata documents of nodes: asked for, and parsed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from znfs import deadline
from znfs.errors import Denied, MetadataError
from znfs.formats import Format
from znfs.hierarchy.paths import join
from znfs.meta import ArrayMeta, GroupMeta
from znfs.stores.base import Blob, Store

log = logging.getLogger(__name__)

# Documents asked for at once: of several nodes, for somebody may be looking at all there are.
_AT_ONCE = 64
# A longer metadata document is not read.
_MOST_DOCUMENT_BYTES = 256 << 20
# What is parsed of documents up to this long is kept for others of the same words.
_MOST_ALIKE_BYTES = 8192

# Documents that make arrays: one that is there says that its array is.
OF_ARRAYS = frozenset({"zarr.json", ".zarray", "attributes.json"})
# Documents that make a node, in order of precedence, each with those that say more of it.
_MORE_OF: dict[str, Sequence[str]] = {
    "zarr.json": (),
    ".zarray": (".zattrs",),
    ".zgroup": (".zattrs", ".zmetadata"),
    "attributes.json": (),
}
# Those that settle what is below a group of each format: all that take precedence over its own,
# and its own; not `.zmetadata`, for most of what is below groups is arrays.
_FIRST_ASKED = {
    "zarr3": ("zarr.json",),
    "zarr2": ("zarr.json", ".zarray", ".zgroup", ".zattrs"),
    "n5": ("zarr.json", ".zarray", ".zgroup", "attributes.json"),
}


class Documents:
    """The metadata documents in a store, of these formats."""

    def __init__(self, store: Store, formats: Sequence[Format]) -> None:
        self._store = store
        self._formats = formats
        # Those of one node are asked for at once: one round trip instead of six.
        self._pool = None if store.local else ThreadPoolExecutor(_AT_ONCE, "znfs-metadata")

    def close(self) -> None:
        """Stop the threads that ask for them."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def fetch(self, path: str, above: str | None) -> tuple[dict[str, Blob], Denied | None]:
        """The documents at `path`, by name, below a group of the format `above` (None: below
        something else). Denied is returned, not raised: another document may do. Raises StoreError.

        A store mostly keeps to one format, so below a group the documents that would settle the
        matter are asked for first: one request a node of Zarr v3 instead of six. Then come those
        that say more of what was found, or all others.
        """
        names = [name for fmt in self._formats for name in fmt.documents]
        first = _FIRST_ASKED.get(above or "", ())
        likely = [name for name in names if name in first]
        found, denied = self._get_all(path, likely)
        wanted = next((more for name, more in _MORE_OF.items() if name in found), names)
        left = [name for name in names if name in wanted and name not in first]
        others, denied_too = self._get_all(path, left)
        return found | others, denied or denied_too

    def _get_all(self, path: str, names: list[str]) -> tuple[dict[str, Blob], Denied | None]:
        # Only as much as is needed to see that it is too long to be a document.
        stop = _MOST_DOCUMENT_BYTES + 1

        def get(name: str) -> Blob | Denied | None:
            try:
                return self._store.get(join(path, name), 0, stop)
            except Denied as error:
                return error

        answers: Iterable[Blob | Denied | None] = map(get, names)
        if self._pool is not None:
            try:
                answers = self._pool.map(deadline.carried(get), names)
            except RuntimeError as error:  # no thread is to be had
                log.debug("%s: documents are asked for one after another: %s", path, error)
        answers = list(answers)
        found = {n: a for n, a in zip(names, answers, strict=True) if isinstance(a, Blob)}
        return found, next((a for a in answers if isinstance(a, Denied)), None)

    def parse(self, documents: Mapping[str, Blob]) -> tuple[str, ArrayMeta | GroupMeta] | None:
        """What they say of their node, and the name of the document that says it; None if they
        make no node. Raises MetadataError."""
        for name, blob in documents.items():
            if len(blob.data) > _MOST_DOCUMENT_BYTES:
                raise MetadataError(f"{name}: longer than {_MOST_DOCUMENT_BYTES >> 20} MiB")
        for fmt in self._formats:
            own = {n: bytes(documents[n].data) for n in fmt.documents if n in documents}
            meta = _parse(fmt, own) if own else None
            if meta is not None:
                return next(iter(own)), meta
        return None


def _parse(fmt: Format, docs: Mapping[str, bytes]) -> ArrayMeta | GroupMeta | None:
    """What the documents say. The arrays of a store are often alike to the letter: those of a
    plate, the levels of many images."""
    if sum(map(len, docs.values())) > _MOST_ALIKE_BYTES:
        return fmt.parse(docs)
    return _parse_alike(fmt, tuple(docs.items()))


@lru_cache(1024)
def _parse_alike(
    fmt: Format, docs: tuple[tuple[str, bytes], ...]
) -> ArrayMeta | GroupMeta | None:
    return fmt.parse(dict(docs))


def version_of(documents: Mapping[str, Blob], told: object) -> str:
    """The version of a node with these documents that is `told` this by nodes above it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(documents):
        blob = documents[name]
        for part in (name, blob.version, repr(blob.mtime)):
            digest.update(part.encode() + b"\0")
        digest.update(blob.data)
    digest.update(repr(told).encode())
    return digest.hexdigest()
