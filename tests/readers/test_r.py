"""R's packages: rhdf5, hdf5r and ncdf4."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require
from tests.readers import samples
from tests.readers.conftest import Sample

_SCRIPT = Path(__file__).parent / "r" / "read.R"
_PACKAGES = {"rhdf5": "r-bioc-rhdf5", "hdf5r": "r-cran-hdf5r", "ncdf4": "r-cran-ncdf4"}


@pytest.mark.parametrize("package", _PACKAGES)
def test_r(package: str, sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("Rscript")
    has = subprocess.run(["Rscript", "-e", f"library({package})"], capture_output=True)
    if has.returncode:
        pytest.skip(f"R has no {package} (Debian package {_PACKAGES[package]})")
    files = (sample.hierarchy, sample.sparse, sample.strings)
    command = ["Rscript", _SCRIPT, package, *files, tmp_path]
    done = subprocess.run(
        [*command, *samples.arrays()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for k, (values, _) in enumerate(samples.arrays().values(), 1):
        got = np.fromfile(tmp_path / str(k))
        np.testing.assert_array_equal(got, values.ravel().astype("f8"))
    lines = [line.strip() for line in done.stdout.splitlines()]
    reader = (f"R {package}", next(x.split()[1] for x in lines if x.startswith("version")))
    note(*reader, "datasets")
    for at in ("/", "/img"):
        for name in ("text", "long"):
            text = samples.ATTRIBUTES[name]
            assert f"{at} {name} {len(text)} {text[:6]}".strip() in lines
        for line in ("int 5", "float 3.5", "ints 1,2,3"):
            assert f"{at} {line}" in lines
    note(*reader, "attributes")
    assert [line for line in lines if line.startswith("element")] == ["element 1", "element 2"]
    note(*reader, "10^9 chunks")
    assert (tmp_path / "words").read_text().split("\n") == samples.STRINGS
    note(*reader, "strings")
