"""Row 2: a volume in the page cache, against the same bytes in a file on tmpfs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import mounts, readers
from benchmarks.bench import Bench, Skipped
from benchmarks.data import Spec
from benchmarks.measure import compare
from benchmarks.report import speed_line
from benchmarks.rows.cold import checker, reader_side

_TMPFS = Path("/dev/shm")
_AT_LEAST = 0.9


def run(bench: Bench) -> None:
    if shutil.disk_usage(_TMPFS).free < 4 * bench.volume.nbytes:
        raise Skipped(f"{_TMPFS} has no room for copies")
    spec = Spec(bench.volume, "zstd")
    check = checker(bench, spec)
    with (
        mounts.znfs(bench.data.store(spec)) as mount,
        tempfile.TemporaryDirectory(prefix="znfs-bench-", dir=_TMPFS) as copies,
    ):
        for kind in readers.VIEWS:
            view = kind(mount.path, spec)
            for file in view.files:
                copy = copies / file.relative_to(mount.path)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
            own = reader_side(
                readers.reader(view), spec, prepare=partial(_warm, view.files), check=check
            )
            peer = reader_side(
                readers.Reader("tmpfs", kind(Path(copies), spec).open), spec,
                prepare=lambda: None, check=check,
            )  # fmt: skip
            times = compare([own, peer], bench.repeats, warm_up=True)
            what = f"warm {spec.label}, {view.name}"
            bench.add(
                speed_line(2, what, times, own.name, peer.name, bench.volume.nbytes, _AT_LEAST)
            )


def _warm(files: Sequence[Path]) -> None:
    """Into the page cache, again: the host of a virtual machine takes pages back as it likes (of
    512 MiB, 10 MiB in a second), but none of tmpfs."""
    buffer = memoryview(bytearray(8 << 20))
    for file in files:
        readers.scan(file, buffer)
