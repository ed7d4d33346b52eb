"""The arithmetic of `Store.get`'s ranges, the same for every store."""

from __future__ import annotations


def resolve(start: int, stop: int | None, size: int) -> tuple[int, int]:
    """The bytes [lo, hi) that `get(key, start, stop)` means of an object of `size` bytes."""
    if start < 0:
        return max(0, size + start), size
    hi = size if stop is None else min(stop, size)
    return min(start, hi), hi
