"""Sixteen readers, faults at random, caches of random sizes: every byte is right or refused."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import GRID, RIGHT, VALUES, Mounted
from tests.servers.faultproxy import FaultProxy
from tests.servers.statusproxy import StatusProxy
from znfs.daemon import mounts

READERS = 16
MOST = {"threads": 350, "descriptors": 500, "resident_bytes": 300 << 20}
# How much more the second half of a long mount may take than its first, once warm. Threads and
# descriptors come and go with the faults: what is compared is the median of each half.
GROWTH = {"threads": 40, "descriptors": 40, "resident_bytes": 24 << 20}
WARM_UP = 0.2  # the part of a mount's life that is not compared
CACHES = ("16KiB", "64KiB", "1MiB", "16MiB")
REFUSALS = {errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOENT}

# Damage without a checksum is left out: metadata has none.
LINE: tuple[dict[str, Any], ...] = (
    {"refuse": True}, {"hang_after": 0}, {"hang_after": 2000}, {"rate": 20_000.0},
    {"reset_after": 450}, {"reset_after": 2000, "every": 3}, {"close_after": 450},
    {"latency": 0.2},
)  # fmt: skip
ANSWERS: tuple[dict[str, Any], ...] = (
    {"status": 403, "only": "/c/"}, {"status": 429, "every": 2}, {"status": 500},
    {"status": 503, "retry_after": 1}, {"status": 503, "every": 3},
)  # fmt: skip


@dataclass(frozen=True)
class Round:
    """What one mount saw: reads by how they ended, faults, and the daemon's vitals."""

    counts: Counter[str]
    faults: int
    vitals: list[dict[str, int]]
    flags: str

    def __str__(self) -> str:
        first, last = self.vitals[0], self.vitals[-1]
        grown = ", ".join(f"{name} {first[name]} to {last[name]}" for name in GROWTH)
        return f"{self.flags}: {dict(self.counts)}, {self.faults} faults, {grown}"


def read_one(mounted: Mounted, rng: random.Random) -> None:
    """Read a random piece of a random view. AssertionError for a wrong byte, OSError if refused."""
    if rng.random() < 0.5:
        index = rng.choice(GRID)
        with mounted.chunk(index).open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read(1 << 20) == rig.block(index), index
        return
    flat = VALUES.tobytes()
    start = rng.randrange(len(flat))
    size = rng.randrange(1, 40_000)
    with (mounted.path / "sums.npy").open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        head = os.fstat(file.fileno()).st_size - len(flat)
        got = os.pread(file.fileno(), size, head + start)
    assert got, "a read inside the file had nothing"
    assert got == flat[start : start + len(got)]


def readers(mounted: Mounted, seed: int, over: threading.Event) -> Callable[[], Counter[str]]:
    """Sixteen threads that read until `over`; a call waits for them and counts what they got."""
    counts: Counter[str] = Counter()
    failures: list[BaseException] = []
    lock = threading.Lock()

    def run(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while not over.is_set():
            began = time.monotonic()
            try:
                read_one(mounted, rng)
                said = RIGHT
            except (OSError, AssertionError) as error:
                number = getattr(error, "errno", 0)
                if number not in REFUSALS:
                    failures.append(error)
                    return
                said = errno.errorcode[number]
            # The kernel asks for the parts of a path, and for pages, one by one.
            if time.monotonic() - began > 6 * rig.DEADLINE + rig.MARGIN:
                failures.append(AssertionError(f"{said} after {time.monotonic() - began:.1f} s"))
                return
            with lock:
                counts[said] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(READERS)]
    for thread in threads:
        thread.start()

    def finish() -> Counter[str]:
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a reader hangs"
        assert not failures, failures[0]
        return counts

    return finish


def one_round(
    start: Start, line: FaultProxy, status_proxy: StatusProxy, seed: int, seconds: float,
    folder: Path,
) -> Round:  # fmt: skip
    """One mount, its readers, and faults that come and go."""
    rng = random.Random(seed)
    flags = ["--cache-size", rng.choice(CACHES)]
    if rng.random() < 0.5:
        flags += ["--disk-cache", str(folder / "cache"), "--disk-cache-size", "1MiB"]
    mounted = start(line.url, "sums", *flags)
    vitals: list[dict[str, int]] = []
    faults = 0
    over = threading.Event()
    finish = readers(mounted, seed, over)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            faults += 1
            for name, value in rng.choice(({}, *LINE)).items():
                setattr(line, name, value)
            if rng.random() < 0.4:
                status_proxy.fail(**rng.choice(ANSWERS))
            if rng.random() < 0.5:
                line.drop_all()
            time.sleep(rng.uniform(0.1, min(2.0, seconds / 4)))
            line.heal()
            status_proxy.heal()
            vitals.append(check_vitals(mounted))
            time.sleep(rng.uniform(0.0, min(1.0, seconds / 4)))
    finally:
        over.set()
        line.heal()
        status_proxy.heal()
        line.drop_all()
    counts = finish()
    mounted.recovery()
    vitals.append(check_vitals(mounted))
    mounted.close()
    return Round(counts, faults, vitals, " ".join(flags))


def check_vitals(mounted: Mounted) -> dict[str, int]:
    """Memory, threads and descriptors of the daemon, which are within bounds."""
    process: dict[str, int] = mounts.status(str(mounted.path))["process"]
    assert all(process[name] < most for name, most in MOST.items()), process
    return process


def check_flat(vitals: Sequence[dict[str, int]]) -> None:
    """Nothing grows: the second half of a mount's life is as the first, once it was warm."""
    warm = vitals[int(len(vitals) * WARM_UP) :]
    first, second = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    for name, most in GROWTH.items():
        before, after = (median(v[name] for v in half) for half in (first, second))
        assert after - before < most, f"{name}: {before} grew to {after}"


def test_growth_is_noticed() -> None:
    flat = [{"threads": 100 + i % 7, "descriptors": 90, "resident_bytes": 1 << 27}
            for i in range(50)]  # fmt: skip
    check_flat(flat)
    for name in GROWTH:
        growing = [v | {name: v[name] + i * GROWTH[name] // 20} for i, v in enumerate(flat)]
        with pytest.raises(AssertionError, match=name):
            check_flat(growing)


def test_random_faults(
    start: Start, line: FaultProxy, status_proxy: StatusProxy, tmp_path: Path
) -> None:
    found = one_round(start, line, status_proxy, 1, 5, tmp_path)
    assert found.counts[RIGHT] > READERS


@pytest.mark.soak
def test_random_faults_for_long(
    start: Start, line: FaultProxy, status_proxy: StatusProxy, tmp_path: Path
) -> None:
    """Mounts of five minutes each, or a quarter of the time; `-s` shows what each did."""
    total = float(os.environ.get("ZNFS_SOAK_SECONDS", "90"))
    length = min(300.0, total / 4)
    began, rounds = time.monotonic(), list[Round]()
    while time.monotonic() - began < total - length / 2:
        found = one_round(start, line, status_proxy, len(rounds) + 1, length, tmp_path)
        rounds.append(found)
        print(f"{time.monotonic() - began:.0f} s: {found}", flush=True)
        if length > 60:
            check_flat(found.vitals)
    counts = sum((r.counts for r in rounds), Counter[str]())
    print(f"{len(rounds)} mounts, {sum(r.faults for r in rounds)} faults, reads: {dict(counts)}")
    assert counts[RIGHT] > READERS
