"""Row 9: memory against `--cache-size` under row 7's load; bytes fetched against bytes needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench, Skipped
from benchmarks.data import Spec
from benchmarks.gateway import Gateway, gateway
from benchmarks.readers import Box
from benchmarks.report import plain_line
from benchmarks.rows import latency

_CACHE = 256 << 20
_BEYOND = 150 << 20
_BOX = 64
_BOXES = 24
_SEED = 5
_QUIET = 1.0  # seconds


def run(bench: Bench) -> None:
    _memory(bench)
    try:
        _fetched(bench)
    except Skipped as why:
        bench.skip(f"row 9, bytes fetched: {why}")


def _memory(bench: Bench) -> None:
    cached, missed = latency.specs()
    source = latency.both(bench.data, cached, missed)
    with mounts.znfs(source, "--cache-size", str(_CACHE)) as mount:
        started = system.resident(mount.pid)
        npy, other = (
            readers.Npy(mount.path / name, spec).files[0]
            for name, spec in ((latency.CACHED, cached), (latency.MISSED, missed))
        )
        for count in (1, 4, 16):
            latency.warm(npy)
            with latency.missing(other):
                latency.percentiles(npy, count, 2.0 if bench.quick else 10.0)
        peak = system.peak_resident(mount.pid)
    bench.add(
        plain_line(
            9, "peak resident memory under row 7's load", round(peak / (1 << 20)), "MiB",
            "cache of 256 MiB + 150 MiB", (_CACHE + _BEYOND) >> 20, at_most=1.0,
            note=f"{started >> 20} MiB when mounted",
        )
    )  # fmt: skip


def _fetched(bench: Bench) -> None:
    specs = [Spec(bench.volume, "zstd"), Spec(bench.volume, "zstd", 64, shard=256)]
    with gateway({spec.name: bench.data.store(spec) for spec in specs}) as s3:
        for spec in specs:
            path = bench.data.store(spec)
            _count(bench, spec, s3, "whole .npy in order", 1.05, _scan_npy, _stored(path))
            boxes = _boxes(spec)
            needed = _needed(path, spec, boxes)

            def read(folder: Path, spec: Spec = spec, boxes: list[Box] = boxes) -> None:
                get = readers.Hdf5(folder, spec).open()
                for box in boxes:
                    if not np.array_equal(get(box), bench.data.expect(spec.volume, box)):
                        raise AssertionError(f"{spec.name}: {box} is wrong")

            _count(bench, spec, s3, f"{_BOXES} random chunks, .h5", 1.1, read, needed)


def _count(
    bench: Bench, spec: Spec, s3: Gateway, what: str, at_most: float,
    read: Callable[[Path], None], needed: int,
) -> None:  # fmt: skip
    with mounts.znfs(s3.place(spec.name).url, *s3.options()) as mount:
        list(mount.path.iterdir())
        s3.line.count()
        read(mount.path)
        got = _until_quiet(s3)  # what is prefetched and never read counts as well
    bench.add(
        plain_line(
            9, f"bytes fetched, {what}, {spec.label}", round(got / 1e6, 1), "MB", "bytes needed",
            round(needed / 1e6, 1), at_most=at_most,
        )
    )  # fmt: skip


def _until_quiet(s3: Gateway) -> int:
    """Bytes that went over the line since it was asked last, and go until a second has none."""
    got = s3.line.count().bytes
    while True:
        time.sleep(_QUIET)
        more = s3.line.count().bytes
        if not more:
            return got
        got += more


def _scan_npy(folder: Path) -> None:
    readers.scan(next(folder.glob("*.npy")), memoryview(bytearray(1 << 20)))


def _stored(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _boxes(spec: Spec) -> list[Box]:
    """Different chunks, in random order."""
    rng = np.random.default_rng(_SEED)
    grid = [n // _BOX for n in spec.volume.shape]
    picked = rng.choice(int(np.prod(grid)), _BOXES, replace=False)
    corners = ([int(i) * _BOX for i in np.unravel_index(n, grid)] for n in picked)
    return [(slice(z, z + _BOX), slice(y, y + _BOX), slice(x, x + _BOX)) for z, y, x in corners]


def _needed(path: Path, spec: Spec, boxes: list[Box]) -> int:
    """Encoded bytes of the chunks at `boxes`, and of the indexes of their shards."""
    needed = 0
    shards = {}
    for box in boxes:
        index = [part.start // _BOX for part in box]
        if spec.shard is None:
            needed += path.joinpath("c", *map(str, index)).stat().st_size
            continue
        per = spec.shard // spec.chunk
        file = path.joinpath("c", *(str(i // per) for i in index))
        if file not in shards:
            entries = per**3
            raw = file.read_bytes()[-16 * entries - 4 : -4]
            shards[file] = np.frombuffer(raw, "<u8").reshape(per, per, per, 2)
            needed += 16 * entries + 4
        needed += int(shards[file][tuple(i % per for i in index)][1])
    return needed
