"""The HDF5 C library from 1.8 to 2.x, out of old and new wheels, by ctypes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.environments import cache
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


def _library(version: str, python: str) -> str:
    """The libhdf5 of an h5py wheel, unpacked into the user's cache; skips if it cannot be had."""
    wheels = cache() / "wheels"
    folder = wheels / f"h5py-{version}"
    if not folder.exists():
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
            "--implementation", "cp", "--python-version", python, "-d", str(wheels),
            *(f"--platform={p}_x86_64" for p in _PLATFORMS), f"h5py=={version}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        found = sorted(wheels.glob(f"h5py-{version}-*.whl"))
        if done.returncode or not found:
            pytest.skip(f"no wheel of h5py {version}: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(folder)
    return str(next(folder.rglob("libhdf5-*.so*")))


def _bundled(package: str) -> str:
    """The libhdf5 in the wheel of an installed package."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    found = [file for file in files if re.match(r"libhdf5-.*\.so", file.name)]
    if not found:
        pytest.skip(f"{package} was not installed from a wheel that holds libhdf5")
    return str(found[0].locate())


@pytest.mark.parametrize(("h5py", "python", "version"), _WHEELS, ids=[w[2] for w in _WHEELS])
def test_libhdf5(
    h5py: str, python: str, version: str, sample: Sample, note: Callable[..., None]
) -> None:
    assert _read(_library(h5py, python), sample, note) == version


@pytest.mark.parametrize("package", ["netCDF4", "tables"])
def test_libhdf5_of_other_wheels(package: str, sample: Sample, note: Callable[..., None]) -> None:
    """They may be newer than any h5py has."""
    _read(_bundled(package), sample, note)


def _read(library: str, sample: Sample, note: Callable[..., None]) -> str:
    """Check all that a library reads; returns its version."""
    done = subprocess.run(
        [
            sys.executable, _READER, library,
            sample.hierarchy, sample.sparse, sample.strings, *sample.digests,
        ],
        # Other libraries of the wheel lie beside it.
        env={**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    row = ("HDF5 C library", got["version"])
    assert got["datasets"] == sample.digests
    note(*row, "datasets")
    assert got["attributes"] == {"/": samples.ATTRIBUTES, "/img": samples.ATTRIBUTES}
    note(*row, "attributes")
    assert got["sparse"] == [1, 2]
    note(*row, "10^9 chunks")
    assert got["strings"] == samples.STRINGS
    note(*row, "strings")
    return str(got["version"])
