"""Axes by one rule for all formats: their names, and reading sizes and units from attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from znfs.meta import Axis

KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

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
    """The first candidate of `ndim` axes, with the names of the first whose names are valid.

    If there is none, default names.
    """
    fitting = [c for c in candidates if c is not None and len(c) == ndim] or [[Axis("")] * ndim]
    names = ([a.name for a in axes] for axes in fitting)
    return _renamed(fitting[0], next(filter(valid, names), default_names(ndim)))


def told(above: Sequence[Axis], own: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes of an array by what a group `above` it says: with the names of the array's `own` if
    those that the group has for them are not valid."""
    if valid([a.name for a in above]):
        return tuple(above)
    return _renamed(above, [a.name for a in own])


def _renamed(axes: Sequence[Axis], names: Sequence[str]) -> tuple[Axis, ...]:
    return tuple(replace(axis, name=name) for axis, name in zip(axes, names, strict=True))


def named(names: object) -> tuple[Axis, ...] | None:
    """Axes that have only names; None if `names` is no list. A missing name is empty."""
    if not isinstance(names, (list, tuple)):
        return None
    return tuple(Axis(n if isinstance(n, str) else "") for n in names)


def placed(
    axes: Sequence[Axis], scale: Sequence[float] | None, translation: Sequence[float] | None
) -> tuple[Axis, ...]:
    """The same axes with these pixel sizes and origins."""
    return tuple(
        replace(
            axis,
            scale=None if scale is None else scale[k],
            translation=None if translation is None else translation[k],
        )
        for k, axis in enumerate(axes)
    )


def text(value: Any) -> str | None:
    """`value` if it is a string that says something."""
    return value if isinstance(value, str) and value else None


def numbers(value: Any, count: int | None = None) -> list[float] | None:
    """`value` as a list of finite numbers, `count` of them; None if it is anything else."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return None
    try:
        out = [float(v) for v in value if isinstance(v, (int, float)) and not isinstance(v, bool)]
    except OverflowError:
        return None
    return out if len(out) == len(value) and all(map(isfinite, out)) else None
