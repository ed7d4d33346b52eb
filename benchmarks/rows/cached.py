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
            with mounts.null_like(mount, dict.fromkeys(view.files, view.data_at)) as nobody:
                peer = _scan("null FUSE", kind(nobody.path, spec).files)
                times = compare([own, peer], bench.repeats, warm_up=True)
            what = f"cached {spec.label}, {view.name}"
            # HDF5 has gaps between chunks: its size is not the volume's.
            nbytes = sum(file.stat().st_size for file in view.files)
            bench.add(speed_line(3, what, times, own.name, peer.name, nbytes, _AT_LEAST))


def _scan(name: str, files: list[Path]) -> Side:
    buffer = memoryview(bytearray(8 << 20))
    return Side(
        name,
        lambda: sum(readers.scan(file, buffer) for file in files),
        lambda: system.drop_pages(*files),
    )
