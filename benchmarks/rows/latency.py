"""Row 7: how long a cached read of 128 KiB takes, for 1, 4 and 16 readers, alone and while another
reader misses.

"Cached" is in znfs's cache and not in the page cache. The reader that misses reads an array of
gzip from end to end, again and again. What that costs where it shares no daemon, only the
processors, is measured too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import QUICK, STANDARD, Data, Spec
from benchmarks.measure import Spread
from benchmarks.report import Line, duration

_AT_MOST = 3.0
_READERS = (1, 4, 16)
Table = np.ndarray[Any, Any]  # rounds x (p50, p99)
CACHED, MISSED = "cached", "missed"


def run(bench: Bench) -> None:
    seconds = 2.0 if bench.quick else 5.0
    cached, missed = specs()
    # Room for what is cached and for a slab of what is missed, with what is begun of the next one.
    room = 3 * cached.volume.nbytes
    with (
        mounts.znfs(both(bench.data, cached, missed), "--cache-size", str(room)) as mount,
        mounts.znfs(bench.data.store(missed), "--cache-size", "64MiB") as elsewhere,
        mounts.null({"null": cached.volume.nbytes}) as null,
    ):
        npy = readers.Npy(mount.path / CACHED, cached).files[0]
        other = readers.Npy(mount.path / MISSED, missed).files[0]
        apart = readers.Npy(elsewhere.path, missed).files[0]
        for count in _READERS:
            alone, disturbed, beside, limit = [], [], [], []
            for _ in range(bench.repeats):
                warm(npy)
                alone.append(percentiles(npy, count, seconds))
                limit.append(percentiles(null.path / "null", count, seconds))
                with missing(apart):
                    beside.append(percentiles(npy, count, seconds))
                with missing(other):
                    disturbed.append(percentiles(npy, count, seconds))
            _lines(bench, count, *map(np.array, (alone, disturbed, beside, limit)))


def specs() -> tuple[Spec, Spec]:
    """The array that is cached, and the one that is missed, which is larger than the cache."""
    return Spec(QUICK, "lz4"), Spec(STANDARD, "gzip")


def both(data: Data, cached: Spec, missed: Spec) -> Path:
    """A folder of the two stores, to be mounted as one source."""

    def link(target: Path) -> None:
        target.mkdir()
        for name, spec in ((CACHED, cached), (MISSED, missed)):
            (target / name).symlink_to(data.store(spec))

    return data.made(f"{cached.name}-and-{missed.name}", link)


def warm(path: Path) -> None:
    """Have all of a file in znfs's cache."""
    system.drop_pages(path)
    readers.scan(path, memoryview(bytearray(8 << 20)))


@contextmanager
def missing(path: Path) -> Iterator[None]:
    """Meanwhile, read a file from end to end and again. It is larger than the room that what is
    cached leaves, so that it always misses."""
    over = threading.Event()

    def read() -> None:
        buffer = bytearray(1 << 20)
        while not over.is_set():
            system.drop_pages(path)
            with path.open("rb", buffering=0) as file:
                while not over.is_set() and file.readinto(buffer):
                    pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def percentiles(path: Path, count: int, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile, in seconds, of the reads of `count` processes together."""
    command = [sys.executable, "-m", "benchmarks.load", str(path), str(seconds)]
    processes = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(count)
    ]
    try:
        latencies: list[float] = []
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            latencies += json.loads(process.communicate()[0])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    p50, p99 = np.percentile(latencies, [50, 99])
    return float(p50), float(p99)


def _lines(
    bench: Bench, count: int, alone: Table, disturbed: Table, beside: Table, limit: Table
) -> None:
    for i, name in enumerate(("p50", "p99")):
        at_most = _AT_MOST if name == "p99" else None
        for what, own, peer, peers, aim in (
            ("", alone, "null FUSE", limit, None),
            (" while another reader misses", disturbed, "alone", alone, at_most),
            (" while another daemon misses", beside, "alone", alone, None),
        ):
            ratios = own[:, i] / peers[:, i]
            bench.add(
                Line(
                    7, f"{name} of cached 128 KiB, {count} reader{'s'[: count > 1]}{what}",
                    duration(float(np.median(own[:, i]))), peer,
                    duration(float(np.median(peers[:, i]))), Spread.of(ratios.tolist()),
                    at_most=aim,
                )
            )  # fmt: skip
