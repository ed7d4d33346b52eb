"""Which axes of an array make a plane, and in which order planes follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from znfs.meta import ArrayMeta, Axis, Index, Shape


@dataclass(frozen=True)
class Box:
    """A part of an array: where it begins and how far it goes."""

    start: Index
    shape: Shape

    @classmethod
    def whole(cls, meta: ArrayMeta) -> Box:
        return cls((0,) * meta.ndim, meta.shape)

    def with_axis(self, d: int, start: int, length: int) -> Box:
        """The same box but for axis `d`."""
        return Box(
            (*self.start[:d], start, *self.start[d + 1 :]),
            (*self.shape[:d], length, *self.shape[d + 1 :]),
        )


@dataclass(frozen=True)
class PlaneAxes:
    """The axes of a plane's rows and columns, and the rest in storage order."""

    row: int
    column: int
    rest: tuple[int, ...]


_IN_FULL = {"time": "t", "channel": "c"}  # as xarray's users name them


def _letter(axis: Axis) -> str:
    """The axis's name in small letters, or the one that it is short for."""
    name = axis.name.lower()
    return _IN_FULL.get(name, name)


def named(meta: ArrayMeta, name: str, among: Sequence[int] | None = None) -> int | None:
    """The axis of that name, else the first with it in capitals or in full."""
    among = range(meta.ndim) if among is None else among
    exact = (d for d in among if meta.axes[d].name == name)
    alike = (d for d in among if _letter(meta.axes[d]) == name)
    return next(exact, next(alike, None))


def yx(meta: ArrayMeta) -> tuple[int, int]:
    """Rows and columns of planes: the axes named y and x, else the last two."""
    y, x = named(meta, "y"), named(meta, "x")
    return (meta.ndim - 2, meta.ndim - 1) if y is None or x is None else (y, x)


def z_axis(meta: ArrayMeta) -> int:
    """The axis named z, else the last that is not a plane's; needs three dimensions."""
    z = named(meta, "z")
    plane = yx(meta)
    return max(d for d in range(meta.ndim) if d not in plane) if z is None or z in plane else z


def plane_axes(meta: ArrayMeta, orientation: str = "yx") -> PlaneAxes:
    """Orientation `yx`, `xz` (rows z, columns x) or `yz` (rows z, columns y)."""
    y, x = yx(meta)
    row, column = {
        "yx": lambda: (y, x),
        "xz": lambda: (z_axis(meta), x),
        "yz": lambda: (z_axis(meta), y),
    }[orientation]()
    return PlaneAxes(row, column, tuple(d for d in range(meta.ndim) if d not in (row, column)))


def _is(axis: Axis, name: str, kind: str) -> bool:
    return _letter(axis) == name or axis.kind == kind


def _find(meta: ArrayMeta, among: Sequence[int], name: str, kind: str) -> int | None:
    """The axis of that name, else the first of that kind."""
    found = named(meta, name, among)
    of_kind = (d for d in among if meta.axes[d].kind == kind)
    return next(of_kind, None) if found is None else found


@dataclass(frozen=True)
class Hyperstack:
    """ImageJ's five dimensions: the order t, z, c (c fastest), and the length of each."""

    order: tuple[int, ...]  # axes of the array: those that join t, z, c, then rows and columns
    frames: int
    slices: int
    channels: int
    t: int | None  # the axis of time, if frames are its steps and no other axis joins them
    z: int | None
    c: int | None

    @property
    def count(self) -> int:
        """Number of planes."""
        return self.frames * self.slices * self.channels


def hyperstack(meta: ArrayMeta) -> Hyperstack:
    """How ImageJ sees the array; axes it has no name for join t, in storage order."""
    axes = plane_axes(meta)
    c = _find(meta, axes.rest, "c", "channel")
    z = _find(meta, [d for d in axes.rest if d != c], "z", "space")
    joined = tuple(d for d in axes.rest if d not in (c, z))
    several = [d for d in joined if meta.shape[d] > 1] or joined
    t = several[0] if len(several) == 1 and _is(meta.axes[several[0]], "t", "time") else None
    return Hyperstack(
        joined + tuple(d for d in (z, c) if d is not None) + (axes.row, axes.column),
        prod(meta.shape[d] for d in joined),
        1 if z is None else meta.shape[z],
        1 if c is None else meta.shape[c],
        t,
        z,
        c,
    )
