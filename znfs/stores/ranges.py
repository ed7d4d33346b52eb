"""What `Store.get` promises of ranges and versions, for every store alike."""

from __future__ import annotations

import re

from znfs.errors import Stale, StoreError
from znfs.stores.base import Blob, Stat, Store

MOST_WHOLE = 1 << 30  # bytes read for the sake of a part
# RFC 9110: ASCII digits. `\d` has others, and int() refuses 4,300 of them.
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def content_length(text: str) -> int | None:
    """The number that a Content-Length says; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def content_range(text: str) -> tuple[int, int, int | None] | None:
    """The bytes [lo, hi) and the object's size (None: not told) that a Content-Range says; None if
    it is none of a part."""
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        return None
    return int(found[1]), int(found[2]) + 1, None if found[3] == "*" else int(found[3])


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


def from_end(store: Store, key: str, start: int, if_match: str | None) -> Blob | None:
    """The object's last `-start` bytes, of a server that takes no range that is counted from the
    end: those of the version whose size it tells."""
    found = store.stat(key)
    if found is None:
        return None
    lo, hi = resolve(start, None, found.size)
    return store.get(key, lo, hi, if_match=if_match or found.version)
