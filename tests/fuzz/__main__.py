"""The fuzzer: `python -m tests.fuzz SECONDS [TARGET...]`; of targets.py all, if none is named.

With atheris installed, mutations are guided by what of znfs they reach; else they are random. Each
target runs in processes of its own, which libFuzzer (or this module) ends when an input takes
longer than _HANG seconds, or the process more than _MEMORY bytes. What breaks a promise is kept
below build/fuzz, and the run goes on. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import re
import resource
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

BROKEN = "ZNFS_FUZZ_BROKEN"  # names a target whose promise is broken: to test this fuzzer
_HANG = 120  # seconds; the machine may be busy
_MEMORY = 1 << 30  # bytes, of which 300 MiB are Python, its libraries and the instrumentation
_LONGEST = 1 << 14  # bytes of an input
_MOST_FINDINGS = 10  # of a target; it is left then
_SHARES = {"documents": 2, "arrays": 2, "chunks": 3, "stores": 3}  # of the time; others take one


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--run", help=argparse.SUPPRESS)  # a target's own process
    parser.add_argument("--break", dest="broken", help=argparse.SUPPRESS)  # one that must fail
    given = parser.parse_args()
    if given.run:
        _run(given.run, given.seconds, given.folder)
        return 0
    from tests.fuzz.targets import TARGETS

    if given.broken:
        os.environ[BROKEN] = given.broken
    names = given.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no target {unknown.pop()!r}; there are {', '.join(TARGETS)}")
    engine = "atheris" if find_spec("atheris") else "random mutations"
    shares = sum(_SHARES.get(name, 1) for name in names)
    rows = []
    for name in names:
        budget = given.seconds * _SHARES.get(name, 1) / shares
        rows.append(_fuzz(name, budget, given.folder / name.replace(" ", "-")))
        print(_TABLE.format(*rows[-1]), flush=True)
    print(f"\n{engine}\n" + _TABLE.format("target", "seconds", "executions", "inputs", "findings"))
    for row in rows:
        print(_TABLE.format(*row))
    executions, findings = sum(row[2] for row in rows), sum(row[4] for row in rows)
    print(_TABLE.format("all", sum(row[1] for row in rows), executions, "", findings))
    return 1 if findings else 0


_TABLE = "{:12} {:>9} {:>12} {:>8} {:>9}"


def _fuzz(name: str, seconds: float, folder: Path) -> tuple[str, int, int, int, int]:
    """Run a target for so long; name, seconds, executions, inputs kept, findings."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    executions, findings = 0, 0
    while (left := seconds - (time.monotonic() - began)) > 1 and findings < _MOST_FINDINGS:
        log = folder / "log"
        with log.open("wb") as out:
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", str(left), "--run", name, "--folder", folder],
                stdout=out, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        text = log.read_text(errors="replace")
        executions += _executions(text)
        if done.returncode:
            findings += 1
            (folder / f"finding-{findings}.txt").write_text(text[-20_000:])
            print(f"{name}: finding {findings}: {_last_words(text)}", flush=True)
    inputs = sum(1 for _ in (folder / "corpus").iterdir()) if (folder / "corpus").exists() else 0
    return name, round(time.monotonic() - began), executions, inputs, findings


def _executions(text: str) -> int:
    final = re.findall(r"number_of_executed_units: (\d+)", text)
    return int(final[-1]) if final else int((re.findall(r"^#(\d+)", text, re.M) or [0])[-1])


def _last_words(text: str) -> str:
    """The line that says what went wrong."""
    telling = re.compile(r"\w*(Error|Exception)\b|ERROR|==")
    lines = [line for line in text.splitlines() if telling.match(line)]
    return " | ".join(lines[:3])[:300]


def _run(name: str, seconds: float, folder: Path) -> None:
    """Fuzz in this process; it ends by itself, or dies of what it finds."""
    warnings.simplefilter("ignore")
    if find_spec("atheris"):
        _guided(name, seconds, folder)
    else:
        _unguided(name, seconds, folder)


def _guided(name: str, seconds: float, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["znfs"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))[:most]
        return target.change(rng, data)[:most]

    atheris.Setup(
        [
            "fuzz", f"-max_total_time={int(seconds)}", f"-timeout={_HANG}",
            f"-rss_limit_mb={_MEMORY >> 20}", f"-max_len={_LONGEST}", "-print_final_stats=1",
            f"-artifact_prefix={folder}/", "-len_control=0", str(corpus),
        ],
        target.run, custom_mutator=mutate,
    )  # fmt: skip
    atheris.Fuzz()


def _unguided(name: str, seconds: float, folder: Path) -> None:
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    rng = random.Random(time.time())
    kept = folder / "input"
    over, count = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < over:
            data = rng.choice(target.seeds)
            for _ in range(rng.choice([1, 1, 2, 4])):
                data = target.change(rng, data) if rng.random() < 0.7 else _noise(rng, data)
            data = data[:_LONGEST]
            kept.write_bytes(data)
            faulthandler.dump_traceback_later(_HANG, exit=True)
            target.run(data)
            count += 1
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > _MEMORY:
                raise MemoryError(f"ERROR: more than {_MEMORY >> 20} MiB")
    except BaseException:
        kept.rename(folder / f"crash-{time.time_ns()}")
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        print(f"number_of_executed_units: {count}", flush=True)
    kept.unlink()


def _noise(rng: random.Random, data: bytes) -> bytes:
    from tests.fuzz.hostile import noise

    return noise(rng, data)


if __name__ == "__main__":
    sys.exit(main())
