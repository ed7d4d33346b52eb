"""Python environments beside the tests' own, for old releases of libraries."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_TIMEOUT = 300
ZARR2 = "2.18.7"
# The last releases on zarr-python 2: one environment for all tests that need one of them.
OF_ZARR2 = (f"zarr=={ZARR2}", "numcodecs==0.15.1", "ome-zarr==0.10.2")


def cache() -> Path:
    """Where the tests keep what takes long to fetch, from one run to the next."""
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(above) / "znfs-tests"


def fetch(what: str, command: Sequence[str | Path], seconds: float = _TIMEOUT) -> None:
    """Run a command that brings `what` from a package registry. Skips the test, saying why, if it
    fails or is not through in time: a network may leave packets unanswered."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what}: did not arrive within {seconds:.0f} s")
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["the command failed"]
        pytest.skip(f"{what}: cannot be had: {lines[-1]}")


def python_with(*requirements: str) -> str:
    """A Python that has `requirements`, made once in the user's cache. Skips the test, saying
    why, if it cannot be made."""
    name = "-".join(requirements).replace("==", "-")
    folder = cache() / f"{name}-python{sys.version_info.minor}"
    python, ready = folder / "bin/python", folder / "ready"
    # A pip of its own, and compiling what is never imported, would take two thirds of the time.
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    cache().mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several workers want it
        if ready.exists():
            return str(python)
        for command in (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
            [*pip, "install", "-q", "--no-compile", *requirements],
        ):
            fetch(f"an environment with {requirements[0]}", command)
        ready.touch()
    return str(python)


def run_with(python: str, script: Path, *words: object) -> str:
    """What `script` prints, run by another environment's `python`."""
    done = subprocess.run(
        [python, "-W", "ignore", str(script), *map(str, words)],
        capture_output=True, text=True, timeout=_TIMEOUT,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
