"""What a store is: keys to bytes, each answer with its version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

# Statuses of a gateway behind which no server answers.
NOBODY_THERE = frozenset({502, 503, 504})
NO_TLS = "the server does not speak TLS: is it http:// instead of https://?"


@dataclass(frozen=True)
class Stat:
    """An object without its bytes. `version` is its ETag; of local files mtime in ns, size, inode.

    Where a server sends no ETag it is made of Last-Modified and size. `mtime` is in seconds, 0 if
    the store does not say.
    """

    size: int
    version: str
    mtime: float


@dataclass(frozen=True)
class Blob:
    """Bytes of an object (or of a range of it), with the whole object's version and mtime."""

    data: bytes | memoryview
    version: str
    mtime: float


@dataclass(frozen=True)
class Entry:
    """A name directly below a prefix: an object, or a prefix of longer keys."""

    name: str
    is_prefix: bool
    size: int = 0


@runtime_checkable
class Renewable(Protocol):
    """A store that keeps credentials, or what else may be out of date, or is over one that does."""

    def renew(self) -> None:
        """Read them anew at the next request. Never waits."""


@runtime_checkable
class Folders(Protocol):
    """A store that has folders, and can tell at once whether there is one."""

    def is_folder(self, path: str) -> bool | None:
        """Whether there is a folder at `path`, though it be empty; None if that cannot be told.
        Raises as `Store.stat` does."""


class Store(Protocol):
    """Keys are relative to the store's root, `/`-separated, without leading or trailing `/`.

    Safe for many threads. Every call returns within the deadline of the options it was opened
    with. Absent is None, never an exception; Denied for 401 and 403; StoreError for all that may
    pass (timeouts, 5xx after retries, resets) and for an answer of the wrong length; Unanswered, a
    StoreError, where nothing came back. Where the operation at hand has less left than that
    deadline (`znfs.deadline`), that holds.
    """

    url: str  # for people and logs: no user info, no signature
    concurrency: int  # requests worth having under way at once
    local: bool  # a look-up costs microseconds

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        """The object's bytes [start, stop); a negative start is a suffix (stop is then None).

        A range may end after the object does: the answer is then short; one that begins at or
        after its end is empty. With `if_match`, an object of another version raises Stale.
        """

    def stat(self, key: str) -> Stat | None:
        """Size, version and mtime of an object, or None (also for a prefix)."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """The names directly below `prefix` ("" is the root), in no particular order.

        Nothing there yields nothing. Raises NotListable where the store cannot list.
        """

    def close(self) -> None:
        """Let go of connections and files."""
