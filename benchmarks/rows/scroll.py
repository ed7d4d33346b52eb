"""Row 6: all planes in order with caches larger and smaller than a slab of chunks, from S3.

A slab is the chunks that one plane touches: what must be held to decode nothing twice. The peer of
all is znfs with a cache of two slabs.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import QUICK, Spec
from benchmarks.gateway import Gateway, gateway
from benchmarks.measure import Side, Spread, compare
from benchmarks.report import plain_line, time_line

_CACHES = {"2 slabs": 2.0, "1 slab": 1.0, "1/8 slab": 0.125}
_REFERENCE = "2 slabs"
_TIGHT = "1/8 slab"  # nothing holds a slab: chunks are fetched several times
_PATIENT = 2.0  # times the reference, with 1/8 of a slab and a disk tier


def run(bench: Bench) -> None:
    spec = Spec(QUICK, "zstd")
    with gateway({spec.name: bench.data.store(spec)}) as s3:
        _measure(bench, spec, s3)


def _measure(bench: Bench, spec: Spec, s3: Gateway) -> None:
    slab = spec.chunk * int(np.prod(spec.volume.shape[1:])) * 2
    gets: dict[str, list[int]] = {}
    sides = []
    for disk in (False, True):
        for cache, share in _CACHES.items():
            name = cache + (" and a disk tier" if disk else "")
            sides.append(_Scroll(bench, spec, s3, name, int(share * slab), disk, gets))
    times = compare([side.side() for side in sides], bench.repeats)
    for side in sides:
        name = side.name
        per_chunk = Spread.of(gets[name]).median / spec.chunk_count
        holds = name != _TIGHT
        bench.add(
            plain_line(
                6, f"scrolling z, cache of {name}: GETs a chunk", round(per_chunk, 2), "",
                "one each", 1.0, at_most=1.02 if holds else None,
                note="with those of metadata",
            )
        )  # fmt: skip
        if name == _REFERENCE:
            continue
        at_most = _PATIENT if name == "1/8 slab and a disk tier" else None
        what = f"scrolling z, cache of {name}: time"
        bench.add(time_line(6, what, times, name, _REFERENCE, at_most))


class _Scroll:
    """A mount made anew for every round, so that its disk tier is empty too."""

    def __init__(
        self, bench: Bench, spec: Spec, s3: Gateway, name: str, cache: int, disk: bool,
        gets: dict[str, list[int]],
    ) -> None:  # fmt: skip
        self.name = name
        self._bench = bench
        self._spec = spec
        self._s3 = s3
        self._cache = cache
        self._disk = disk
        self._gets = gets
        self._stack = ExitStack()
        self._view: readers.Tiff | None = None

    def side(self) -> Side:
        return Side(self.name, self._run, self._prepare, self._check)

    def _prepare(self) -> None:
        place = self._s3.place(self._spec.name)
        options = [*self._s3.options(), "--cache-size", str(self._cache)]
        if self._disk:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="znfs-bench-"))
            options += ["--disk-cache", folder]
        mount = self._stack.enter_context(mounts.znfs(place.url, *options))
        self._view = readers.Tiff(mount.path, self._spec)
        mount.refresh()
        system.drop_pages(*self._view.files)
        self._s3.line.count()

    def _run(self) -> list[np.ndarray[Any, Any]]:
        assert self._view is not None
        read = self._view.open()
        return [read(readers.planes(z, z + 1)) for z in range(self._spec.volume.shape[0])]

    def _check(self, found: list[np.ndarray[Any, Any]]) -> None:
        self._gets.setdefault(self.name, []).append(self._s3.line.count().gets)
        self._stack.close()
        for z, plane in enumerate(found):
            expected = self._bench.data.expect(self._spec.volume, readers.planes(z, z + 1))
            if not np.array_equal(plane, expected):
                raise AssertionError(f"{self.name}: plane {z} is wrong")
