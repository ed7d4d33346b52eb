"""Row 5: S3 with a latency: one plane, 64 planes in order, random boxes; all from cold.

Every side opens the array first and so reads its metadata, as znfs does after a refresh. Planes in
order are 64 reads of znfs; the libraries read them in one go, tensorstore with a cache one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import Spec
from benchmarks.gateway import Gateway, gateway
from benchmarks.measure import Side, Spread, compare
from benchmarks.readers import Box, Reader
from benchmarks.report import time_line

_PLANES = 64
_BOXES = 32
_SIDE = 48  # voxels of a random box
_SEED = 11


def run(bench: Bench) -> None:
    specs = [Spec(bench.volume, "zstd")]
    if not bench.quick:
        specs.append(Spec(bench.volume, "zstd", 64, shard=256))
    with gateway({spec.name: bench.data.store(spec) for spec in specs}) as s3:
        for spec in specs:
            _measure(bench, spec, s3)


@dataclass(frozen=True)
class Task:
    """What is read, box after box. Libraries read `slab` instead where that is their best."""

    name: str
    view: readers.View
    boxes: list[Box]
    slab: Box | None = None
    at_most: float | None = None  # of tensorstore's time


def _measure(bench: Bench, spec: Spec, s3: Gateway) -> None:
    place = s3.place(spec.name)
    libraries = [readers.zarr_python(place), readers.tensorstore(place)]
    cached = readers.tensorstore(place, cache=1 << 30)
    with mounts.znfs(place.url, *s3.options()) as mount:
        tiff, hdf5 = (kind(mount.path, spec) for kind in (readers.Tiff, readers.Hdf5))
        walk = [readers.planes(z, z + 1) for z in range(_PLANES)]
        tasks = [
            Task("one plane", tiff, [readers.planes(100, 101)], at_most=1.3),
            Task("64 planes in order", tiff, walk, readers.planes(0, _PLANES), at_most=1.0),
            Task(f"{_BOXES} random boxes of {_SIDE}³", hdf5, _random_boxes(spec)),
        ]
        for latency in (0.0, 0.03, 0.1):
            s3.line.latency(latency)
            for task in tasks:

                def forget(task: Task = task) -> None:
                    mount.refresh()
                    system.drop_pages(*task.view.files)
                    s3.line.count()

                gets: dict[str, list[int]] = {}
                own = side(readers.reader(task.view), task.boxes, bench, spec, s3, gets, forget)
                at_once = [task.slab] if task.slab else task.boxes
                peers = [side(r, at_once, bench, spec, s3, gets) for r in libraries]
                if len(task.boxes) > 1:
                    peers.append(side(cached, task.boxes, bench, spec, s3, gets))
                times = compare([own, *peers], bench.repeats)
                what = f"S3 {latency * 1e3:.0f} ms, {task.name}, {spec.label}, {task.view.name}"
                for peer in peers:
                    counts = [int(Spread.of(gets[side.name]).median) for side in (own, peer)]
                    at_most = task.at_most if peer.name == "tensorstore" else None
                    note = f"GETs {counts[0]} against {counts[1]}"
                    bench.add(time_line(5, what, times, own.name, peer.name, at_most, note))


def side(
    reader: Reader, boxes: list[Box], bench: Bench, spec: Spec, s3: Gateway,
    gets: dict[str, list[int]], prepare: Callable[[], object] | None = None,
) -> Side:  # fmt: skip
    """Read the boxes one after another. What went over the line is counted."""

    def run() -> list[np.ndarray[Any, Any]]:
        read = reader.open()
        return [read(box) for box in boxes]

    def check(results: list[np.ndarray[Any, Any]]) -> None:
        gets.setdefault(reader.name, []).append(s3.line.count().gets)
        for box, result in zip(boxes, results, strict=True):
            if not np.array_equal(result, bench.data.expect(spec.volume, box)):
                raise AssertionError(f"{spec.name}: {reader.name}: {box} is wrong")

    return Side(reader.name, run, prepare or s3.line.count, check)


def _random_boxes(spec: Spec) -> list[Box]:
    rng = np.random.default_rng(_SEED)
    corners = [rng.integers(0, n - _SIDE, _BOXES) for n in spec.volume.shape]
    return [
        (slice(z, z + _SIDE), slice(y, y + _SIDE), slice(x, x + _SIDE))
        for z, y, x in zip(*(c.tolist() for c in corners), strict=True)
    ]
