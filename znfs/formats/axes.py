"""Axis names by one rule for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from znfs.meta import Axis

_LAST = ("z", "y", "x")
_BEFORE = "ijklmnopqrstuvwabcdefgh"


def default_names(ndim: int) -> tuple[str, ...]:
    """The last three are z, y, x; those before are i, j, k, …"""
    before = max(0, ndim - 3)
    names = [
        _BEFORE[k] if k < len(_BEFORE) else _BEFORE[k - len(_BEFORE)] * 2 for k in range(before)
    ]
    return (*names, *_LAST[3 - (ndim - before) :])


def valid(names: Sequence[str | None]) -> bool:
    """Whether `names` can name axes: all given, alphanumeric and distinct."""
    return len(set(names)) == len(names) and all(isinstance(n, str) and n.isalnum() for n in names)


def choose(ndim: int, *candidates: Sequence[Axis] | None) -> tuple[Axis, ...]:
    """The first candidate of `ndim` axes with valid names.

    If there is none, default names, with unit and scale of the first candidate of `ndim` axes.
    """
    fitting = [c for c in candidates if c is not None and len(c) == ndim]
    for axes in fitting:
        if valid([a.name for a in axes]):
            return tuple(axes)
    known = fitting[0] if fitting else [Axis("")] * ndim
    return tuple(
        replace(axis, name=name) for axis, name in zip(known, default_names(ndim), strict=True)
    )


def named(names: object) -> tuple[Axis, ...] | None:
    """Axes that have only names; None if `names` is no list. A missing name is empty."""
    if not isinstance(names, (list, tuple)):
        return None
    return tuple(Axis(n if isinstance(n, str) else "") for n in names)
