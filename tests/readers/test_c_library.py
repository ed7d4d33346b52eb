"""The HDF5 C library from 1.8 to 2.x, out of old h5py wheels, by ctypes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.readers import samples
from tests.readers.conftest import Sample

# h5py's version, the Python its wheel is for, and the HDF5 inside.
_WHEELS = [
    ("2.7.1", "3.6", "1.8.18"), ("2.8.0", "3.6", "1.10.2"), ("2.10.0", "3.6", "1.10.4"),
    ("3.1.0", "3.9", "1.12.0"), ("3.8.0", "3.11", "1.12.2"), ("3.11.0", "3.11", "1.14.2"),
    ("3.14.0", "3.11", "1.14.6"), ("3.16.0", "3.11", "2.0.0"),
]  # fmt: skip
_PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", "manylinux_2_17", "manylinux_2_28")
_READER = Path(__file__).parent / "read_libhdf5.py"


def _wheels() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "znfs-tests" / "wheels"


def _library(version: str, python: str) -> str:
    """The libhdf5 of an h5py wheel, unpacked into the user's cache; skips if it cannot be had."""
    folder = _wheels() / f"h5py-{version}"
    if not folder.exists():
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
            "--implementation", "cp", "--python-version", python, "-d", str(_wheels()),
            *(f"--platform={p}_x86_64" for p in _PLATFORMS), f"h5py=={version}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        found = sorted(_wheels().glob(f"h5py-{version}-*.whl"))
        if done.returncode or not found:
            pytest.skip(f"no wheel of h5py {version}: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(folder)
    return str(next(folder.rglob("libhdf5-*.so*")))


@pytest.mark.parametrize(("h5py", "python", "version"), _WHEELS, ids=[w[2] for w in _WHEELS])
def test_libhdf5(
    h5py: str, python: str, version: str, sample: Sample, note: Callable[..., None]
) -> None:
    library = _library(h5py, python)
    done = subprocess.run(
        [sys.executable, _READER, library, sample.hierarchy, sample.sparse, *sample.digests],
        # Other libraries of the wheel lie beside it.
        env={**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["version"] == version
    assert got["datasets"] == sample.digests
    note("HDF5 C library", version, "datasets")
    assert got["attributes"] == {"/": samples.ATTRIBUTES, "/img": samples.ATTRIBUTES}
    note("HDF5 C library", version, "attributes")
    assert got["sparse"] == [1, 2]
    note("HDF5 C library", version, "10^9 chunks")
