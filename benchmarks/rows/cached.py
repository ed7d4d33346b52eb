"""Row 3: a volume in znfs's cache, not in the page cache, against a file system that does nothing.

Both are read from end to end into one buffer: how close to the limit of the binding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import Spec
from benchmarks.measure import Side, compare
from benchmarks.report import speed_line

_AT_LEAST = 0.8


def run(bench: Bench) -> None:
    specs = [Spec(bench.volume, "zstd", 64)]
    if not bench.quick:
        specs.append(Spec(bench.volume, "zstd", 128))
    for spec in specs:
        _compare(bench, spec)


def _compare(bench: Bench, spec: Spec) -> None:
    with mounts.znfs(bench.data.store(spec), "--cache-size", str(2 * spec.volume.nbytes)) as mount:
        for kind in readers.VIEWS:
            view = kind(mount.path, spec)
            got = view.open()(readers.planes(0, spec.volume.shape[0]))  # fills znfs's cache
            if not np.array_equal(got, bench.data.base(spec.volume)):
                raise AssertionError(f"{spec.name}: {view.name} is wrong")
            own = _scan(f"znfs {view.name}", view.files)
            size = view.files[0].stat().st_size  # HDF5 has gaps between chunks: not the volume's
            with mounts.null(size, files=len(view.files)) as null:
                mounts.match_read_ahead(mount, null)
                files = [null.path / f"null{i}" for i in range(len(view.files))]
                peer = _scan("null FUSE", files)
                times = compare([own, peer], bench.repeats, warm_up=True)
            what = f"cached {spec.label}, {view.name}"
            nbytes = size * len(files)
            bench.add(speed_line(3, what, times, own.name, peer.name, nbytes, _AT_LEAST))


def _scan(name: str, files: list[Path]) -> Side:
    buffer = memoryview(bytearray(8 << 20))
    return Side(
        name,
        lambda: sum(readers.scan(file, buffer) for file in files),
        lambda: system.drop_pages(*files),
    )
