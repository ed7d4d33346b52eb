"""JavaScript readers under Node: jsfive, and h5wasm, which is the C library as WebAssembly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.environments import cache, fetch
from tests.readers import samples
from tests.readers.conftest import Sample

_SCRIPTS = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages, kept in the user's cache; skips if they cannot be had."""
    require("node", "npm")
    folder = cache() / "javascript"
    if not all((folder / "node_modules" / name).exists() for name in ("jsfive", "h5wasm")):
        folder.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--silent", "--prefix", folder]
        fetch("jsfive and h5wasm", [*npm, "jsfive@0.4", "h5wasm@0.10"], 120)
    return folder


def _read(packages: Path, reader: str, *arguments: object) -> tuple[str, Any]:
    """The package's version, and what the script of its name printed."""
    about = json.loads((packages / "node_modules" / reader / "package.json").read_text())
    done = subprocess.run(
        ["node", _SCRIPTS / f"{reader}.mjs", *map(str, arguments)],
        cwd=packages, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return about["version"], json.loads(done.stdout)


_SAME = {"/": samples.ATTRIBUTES, "/img": samples.ATTRIBUTES}


def test_jsfive(packages: Path, sample: Sample, note: Callable[..., None]) -> None:
    version, got = _read(packages, "jsfive", sample.hierarchy, sample.strings, *sample.digests)
    assert got["datasets"] == sample.digests
    note("jsfive", version, "datasets")
    assert got["attributes"] == _SAME
    note("jsfive", version, "attributes")
    note("jsfive", version, "10^9 chunks", "reads the whole file")
    assert got["strings"] == samples.STRINGS
    note("jsfive", version, "strings")


def test_h5wasm(packages: Path, sample: Sample, note: Callable[..., None]) -> None:
    files = (sample.hierarchy, sample.sparse, sample.strings)
    version, got = _read(packages, "h5wasm", *files, *sample.digests)
    assert got["datasets"] == sample.digests
    note("h5wasm", version, "datasets")
    assert got["attributes"] == _SAME
    note("h5wasm", version, "attributes")
    assert got["sparse"] == [1, 2]
    note("h5wasm", version, "10^9 chunks")
    assert got["strings"] == samples.STRINGS
    note("h5wasm", version, "strings")
