"""What `Store.get` promises of ranges and versions, for every store alike."""

from __future__ import annotations

from znfs.errors import Stale, StoreError
from znfs.stores.base import Blob, Stat


def resolve(start: int, stop: int | None, size: int) -> tuple[int, int]:
    """The bytes [lo, hi) that `get(key, start, stop)` means of an object of `size` bytes."""
    if start < 0:
        return max(0, size + start), size
    hi = size if stop is None else min(stop, size)
    return min(start, hi), hi


def check(
    key: str, data: bytes | memoryview, start: int, stop: int | None, lo: int, hi: int, size: int
) -> None:
    """That `data`, answered as bytes [lo, hi) of `size`, is what `start` and `stop` asked for.

    Raises StoreError: a server that ignores ranges or breaks off must not pass for the object.
    """
    if (lo, hi) != resolve(start, stop, size) or len(data) != hi - lo:
        raise StoreError(
            f"{key}: wrong answer for bytes {start} to {'end' if stop is None else stop}: "
            f"{len(data)} bytes, said to be {lo} to {hi} of {size}"
        )


def matching(key: str, blob: Blob, if_match: str | None) -> Blob:
    """`blob`, if it is of the version demanded. Raises Stale."""
    if if_match is not None and blob.version != if_match:
        raise Stale(f"{key}: the object has changed")
    return blob


def empty(
    key: str, found: Stat | None, start: int, stop: int | None, if_match: str | None
) -> Blob | None:
    """The answer to a range that is empty or that the server says begins after the end.

    Raises StoreError if by `found` there are bytes in it.
    """
    if found is None:
        return None
    lo, hi = resolve(start, stop, found.size)
    if lo < hi:
        raise StoreError(f"{key}: the server refuses bytes {lo} to {hi} of {found.size}")
    return matching(key, Blob(b"", found.version, found.mtime), if_match)
