"""Row 8: starting, names and attributes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import mounts, system
from benchmarks.bench import Bench, Skipped
from benchmarks.data import Spec, write_hollow, write_many
from benchmarks.gateway import gateway
from benchmarks.measure import Side, Spread, Times, compare
from benchmarks.report import Line, duration, plain_line, time_line

_HELP = 0.2  # seconds
_READY = 0.5
_LISTED = 3.0
_NAMES = 100  # chunks along each of three axes: 10^6 names
_STATS = 5000  # names looked up a round


def run(bench: Bench) -> None:
    _start(bench)
    _many_names(bench)
    _find(bench)
    try:
        _remote_walk(bench)
    except Skipped as why:
        bench.skip(f"row 8, ls -lR over S3: {why}")


def _start(bench: Bench) -> None:
    interpreter = [sys.executable, "-c", "pass"]
    times = compare(
        [
            Side("help", lambda: _quiet([*mounts.ZNFS, "--help"])),
            Side("python -c pass", lambda: _quiet(interpreter)),
        ],
        bench.repeats * 2,
        warm_up=True,
    )
    bench.add(_within("znfs --help", times, "help", _HELP))
    spec = Spec(bench.volume, "zstd")
    path = bench.data.store(spec)
    with tempfile.TemporaryDirectory(prefix="znfs-bench-") as folder:

        def unmount() -> None:
            if Path(folder).is_mount():
                _quiet([*mounts.ZNFS, "umount", folder])

        code = f"import zarr; zarr.open_array({str(path)!r}, mode='r')"
        opening = Side("zarr", lambda: _quiet([sys.executable, "-c", code]))
        ready = Side("znfs", lambda: _quiet([*mounts.ZNFS, "mount", str(path), folder]), unmount)
        try:
            times = compare([ready, opening], bench.repeats, warm_up=True)
        finally:
            unmount()
    bench.add(_within("local mount, ready", times, "znfs", _READY))
    bench.add(
        Line(
            8, "local mount, ready", duration(times.spread("znfs").median),
            "zarr.open_array, new process", duration(times.spread("zarr").median),
            times.speedup("zarr", "znfs"),
        )
    )  # fmt: skip


def _many_names(bench: Bench) -> None:
    count = _NAMES**3
    path = bench.data.made(
        f"hollow-{count}", lambda target: write_hollow(target, (_NAMES * 64,) * 3, 64)
    )
    with mounts.znfs(path) as mount, mounts.null({}, names=count) as null:
        names, limit = mount.path / "chunks", null.path / "names"
        _list(names, count)
        before = system.resident(mount.pid)
        times = compare(
            [
                Side("znfs", lambda: _list(names, count)),
                Side("null FUSE", lambda: _list(limit, count)),
            ],
            bench.repeats,
        )
        grown = (system.peak_resident(mount.pid) - before) / (1 << 20)
        what = "listing 10^6 names"
        bench.add(_within(what, times, "znfs", _LISTED))
        note = f"resident memory grew by {grown:.1f} MiB"
        bench.add(time_line(8, what, times, "znfs", "null FUSE", note=note))

        rounds = iter(range(10**6))

        def stat(folder: Path, name: Callable[[int], str]) -> Side:
            def run() -> None:
                first = next(rounds) * _STATS
                for i in range(first, first + _STATS):
                    os.stat(folder / name(i))

            return Side(folder.name, run)

        times = compare(
            [stat(names, lambda i: f"{i // 10000}.{i // 100 % 100}.{i % 100}"), stat(limit, str)],
            bench.repeats,
        )
    own, peer = (times.spread(name).median for name in ("chunks", "names"))
    bench.add(
        Line(
            8, "stat of names not seen before", f"{_STATS / own:.0f} /s", "null FUSE",
            f"{_STATS / peer:.0f} /s", times.speedup("chunks", "names"),
        )
    )  # fmt: skip


def _find(bench: Bench) -> None:
    groups, arrays = (10, 100) if bench.quick else (100, 1000)
    nodes = groups * arrays
    path = bench.data.made(f"many-{nodes}", lambda target: write_many(target, groups, arrays))
    with mounts.znfs(path, "--views", "npy") as mount:
        found: dict[str, int] = {}

        def find(name: str, folder: Path) -> Side:
            def run() -> None:
                text = subprocess.run(
                    ["find", str(folder), "-name", ".zarray"], check=True, stdout=subprocess.PIPE
                ).stdout
                found[name] = text.count(b"\n")

            return Side(name, run, mount.refresh)

        times = compare([find("znfs", mount.path), find("the store", path)], bench.repeats)
        assert set(found.values()) == {nodes}, found
    bench.add(
        time_line(
            8, f"find over {nodes} arrays, from cold", times, "znfs", "the store",
            note=f"{nodes / times.spread('znfs').median:.0f} arrays/s",
        )
    )  # fmt: skip


def _remote_walk(bench: Bench) -> None:
    """`ls -lR` over S3, against zarr-python with obstore naming every array and its shape."""
    groups, arrays = 5, 20
    nodes = 1 + groups + groups * arrays
    path = bench.data.made(f"many-{groups * arrays}", lambda p: write_many(p, groups, arrays))
    with gateway({"many": path}) as s3:
        place = s3.place("many")
        s3.line.latency(0.03)
        with mounts.znfs(place.url, *s3.options(), "--ttl", "60") as mount:
            requests: dict[str, int] = {}

            def walk() -> None:
                _quiet(["ls", "-lR", str(mount.path)])

            def library() -> None:
                import zarr

                group = zarr.open_group(place.zarr(), mode="r")
                for _, member in group.members(max_depth=None):
                    assert member.name

            def counted(name: str, run: Callable[[], None]) -> Side:
                def check(_: Any) -> None:
                    requests[name] = s3.line.count().requests

                def prepare() -> None:
                    mount.refresh()
                    s3.line.count()

                return Side(name, run, prepare, check)

            name = "zarr-python with obstore"
            times = compare([counted("znfs", walk), counted(name, library)], bench.repeats)
    what = f"ls -lR over S3 at 30 ms, {nodes} nodes"
    bench.add(time_line(8, f"{what}: time", times, "znfs", name))
    bench.add(plain_line(8, f"{what}: requests", requests["znfs"], "", name, requests[name]))


def _within(what: str, times: Times, name: str, seconds: float) -> Line:
    """A time against what the issue allows."""
    ratios = [t / seconds for t in times.seconds[name]]
    own = duration(times.spread(name).median)
    return Line(8, what, own, "the limit", duration(seconds), Spread.of(ratios), at_most=1.0)


def _list(folder: Path, count: int) -> None:
    """Count names without holding them, as `ls -U` and `find` do."""
    with os.scandir(folder) as entries:
        found = sum(1 for _ in entries)
    if found != count:
        raise AssertionError(f"{folder} lists {found} names")


def _quiet(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
