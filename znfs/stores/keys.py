"""Keys as paths: what stores that look into them have in common."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from znfs.stores.base import Entry


def joined(path: str, key: str) -> str:
    """`key` below `path`; both may be empty."""
    return f"{path}/{key}" if path and key else key or path


def has_dots(key: str) -> bool:
    """Whether a segment is `.` or `..`: clients resolve these themselves, and would leave the
    root."""
    return any(segment in (".", "..") for segment in key.split("/"))


def directly_below(
    prefix: str, keys: Sequence[str], size: Callable[[str], int]
) -> Iterator[Entry]:
    """The names directly below `prefix`, of a store that has these keys, sorted."""
    above = prefix + "/" if prefix else ""
    at = bisect_left(keys, above)
    while at < len(keys) and keys[at].startswith(above):
        name, slash, _ = keys[at][len(above) :].partition("/")
        if slash:
            yield Entry(name, True)
            at = bisect_left(keys, f"{above}{name}0", at)  # "0" is the one after "/"
        else:
            yield Entry(name, False, size(keys[at]))
            at += 1
