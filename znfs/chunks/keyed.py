"""What chunks are, and those that are objects of their own in a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from znfs.errors import ChunkError, Denied
from znfs.meta import ChunkKeys, Index
from znfs.stores.base import Blob, Store


class Chunks(Protocol):
    def key(self, index: Index) -> str:
        """What to call the chunk at `index` in messages and logs."""

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        """The encoded bytes [start, stop) of the chunk at `index`, or None if it is absent.

        As Store.get: a negative start is a suffix; `if_match` demands a version of the object.
        """

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        """The chunks at `indexes`, in any order; neighbours come together where that is cheaper."""


class Keyed:
    """One stored object a chunk, of at most `most_bytes` where that is known.

    With `missing_403` an object that the store denies is absent.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        keys: ChunkKeys,
        most_bytes: int | None = None,
        missing_403: bool = False,
    ) -> None:
        self._store = store
        self._prefix = path + "/" if path else ""
        self._keys = keys
        self._most_bytes = most_bytes
        self._missing_403 = missing_403

    def key(self, index: Index) -> str:
        return self._prefix + self._keys.key(index)

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        most = self._most_bytes
        if most is None or start or stop is not None:
            return self._get(index, start, stop, if_match)
        blob = self._get(index, 0, most + 1, if_match)
        if blob is not None and len(blob.data) > most:
            raise ChunkError(f"{self.key(index)}: more than {most} bytes, too many for a chunk")
        return blob

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        for index in indexes:
            yield index, self.get(index)

    def _get(self, index: Index, start: int, stop: int | None, if_match: str | None) -> Blob | None:
        try:
            return self._store.get(self.key(index), start, stop, if_match=if_match)
        except Denied:
            if not self._missing_403:
                raise
            return None
