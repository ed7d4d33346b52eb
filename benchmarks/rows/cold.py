"""Row 1: a whole volume, nothing of it in znfs's cache nor in the page cache of the mount.

The store itself is in the page cache, or else the disk is measured; one line has it dropped too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import LARGE, Spec
from benchmarks.measure import Side, Times, compare
from benchmarks.readers import Local, Reader
from benchmarks.report import speed_line

_SLAB = 256  # planes a reader holds at a time
_OF_NULL = 0.8


def run(bench: Bench) -> None:
    specs = [
        Spec(bench.volume, "lz4"),
        Spec(bench.volume, "zstd"),
        Spec(bench.volume, "gzip"),
        Spec(bench.volume, "zstd", 64, shard=256),
        Spec(bench.volume, "gzip", format="n5"),
    ]
    if not bench.quick:
        specs += [Spec(bench.volume, "lz4", 128), Spec(bench.volume, "zstd", 128)]
        specs += [Spec(bench.volume, "gzip", 128, shard=256)]
        specs += [Spec(LARGE, "lz4", 128), Spec(LARGE, "zstd", 64, shard=256)]
    for spec in specs:
        _compare(bench, spec)
    _compare(bench, Spec(bench.volume, "zstd"), store_dropped=True)


def _compare(bench: Bench, spec: Spec, *, store_dropped: bool = False) -> None:
    path = bench.data.store(spec)
    nbytes = spec.volume.nbytes
    check = checker(bench, spec)
    with mounts.znfs(path) as mount:
        views = [view(mount.path, spec) for view in readers.VIEWS]
        heads = {file: view.data_at for view in views for file in view.files}

        def cold() -> None:
            if store_dropped:
                system.drop_pages(path)

        def forget() -> None:
            mount.refresh()
            for view in views:
                system.drop_pages(*view.files)
            cold()

        own = [reader_side(readers.reader(v), spec, prepare=forget, check=check) for v in views]
        peers = [
            reader_side(library, spec, prepare=cold, check=check)
            for library in readers.libraries(Local(path), spec)
        ]
        with mounts.null_like(mount, heads) as nobody:
            limits = [null_side(view(nobody.path, spec), spec) for view in readers.VIEWS]
            times = compare([*own, *peers, *limits], bench.repeats)
    note = "store not in the page cache either" if store_dropped else ""
    large = f"{nbytes >> 30} GiB " if nbytes > 1 << 30 else ""
    for side, limit in zip(own, limits, strict=True):
        what = f"cold {large}{spec.label}, {side.name.removeprefix('znfs ')}"
        for peer in [*peers, limit]:
            aim = _aim(spec, peer.name, limit.name, times)
            bench.add(speed_line(1, what, times, side.name, peer.name, nbytes, aim, note))


def _aim(spec: Spec, peer: str, limit: str, times: Times) -> float | None:
    """1.0 of zarr-python and tensorstore, 1.5 of zarr-python with gzip; or 0.8 of what the same
    program gets from the null file system, if that is less."""
    aims = {"zarr-python 3": 1.5 if spec.codec == "gzip" else 1.0, "tensorstore": 1.0}
    if peer not in aims:
        return None
    return min(aims[peer], _OF_NULL * times.speedup(limit, peer).median)


def reader_side(
    reader: Reader, spec: Spec, *, prepare: Callable[[], None], check: Callable[[Any], None]
) -> Side:
    """Read the whole volume in slabs; the slabs are the result."""
    depth = spec.volume.shape[0]

    def run() -> list[np.ndarray[Any, Any]]:
        read = reader.open()
        return [read(readers.planes(z, min(z + _SLAB, depth))) for z in range(0, depth, _SLAB)]

    return Side(reader.name, run, prepare, check)


def checker(bench: Bench, spec: Spec) -> Callable[[Any], None]:
    """That the slabs of a whole volume hold what they should."""

    def check(slabs: list[np.ndarray[Any, Any]]) -> None:
        at = 0
        for slab in slabs:
            box = readers.planes(at, at + len(slab))
            if not np.array_equal(slab, bench.data.expect(spec.volume, box)):
                raise AssertionError(f"{spec.name}: planes {box[0]} are wrong")
            at += len(slab)
        assert at == spec.volume.shape[0]

    return check


def null_side(view: readers.View, spec: Spec) -> Side:
    """The same program on the null file system, where it finds something else than the volume."""

    def prepare() -> None:
        system.drop_pages(*view.files)

    return reader_side(
        readers.reader(view, "null FUSE"), spec, prepare=prepare, check=lambda slabs: None
    )
