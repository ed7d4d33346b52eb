"""Programs that read files: what they print, and which version they are."""

from __future__ import annotations

import re
import subprocess


def run(*command: object, fails: bool = False, timeout: float = 120) -> str:
    """What a program prints; its errors if it is known to fail."""
    done = _done(*command, timeout=timeout)
    assert (done.returncode != 0) == fails, (done.stdout[-500:], done.stderr[-500:])
    return done.stderr if fails else done.stdout


def version(*command: object) -> str:
    """The first number of a version in what it prints."""
    done = _done(*command)
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "?"


def _done(*command: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, errors="replace",
        timeout=timeout,
    )  # fmt: skip
