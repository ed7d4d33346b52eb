"""Python environments beside the tests' own, for old releases of libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TIMEOUT = 300


def python_with(*requirements: str) -> str:
    """A Python that has `requirements`, made once in the user's cache. Skips the test, saying
    why, if it cannot be made."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = "-".join(requirements).replace("==", "-")
    folder = Path(cache) / "znfs-tests" / f"{name}-python{sys.version_info.minor}"
    python, ready = folder / "bin/python", folder / "ready"
    if ready.exists():
        return str(python)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *requirements],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{requirements[0]} was not installed within {_TIMEOUT} s")
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it failed"]
            pytest.skip(f"no environment with {requirements[0]}: {lines[-1]}")
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
