"""The samples on a real mount, and the table of what read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Mounts, require_fuse
from tests.readers import samples

_HEADER = """# HDF5 readers

Made by `ZNFS_WRITE_MATRIX=docs/hdf5-readers.md pytest tests/readers`: every reader was given the
same files on a mount, and what it read was compared with what was written as Zarr. *Datasets*: 46
in nested groups, in chunks, by checksum. *Attributes*: texts (one of 160 kB), numbers, lists.
*10⁹ chunks*: the first and the last element of a 64000³ array. *Strings*: Zarr's own, of variable
length; for anndata, those of a matrix that it wrote as Zarr. *NetCDF*: a variable over named
dimensions of a `.nc` file that xarray wrote as Zarr, with its coordinates.

| Reader | Version | Datasets | Attributes | 10⁹ chunks | Strings | NetCDF |
|---|---|---|---|---|---|---|
"""
_FOOTER = """
Not run, for want of a package or a licence: HDFView, jHDF, current netCDF-Java, MATLAB, IDL, Julia,
Imaris. GNU Data Language of Debian is built without HDF5. PyTables knows no strings of variable
length, whoever wrote them: such a dataset is an `UnImplemented` node, and all others read.
CDO leaves them out, and variables that have them for a coordinate; Octave's `load` stops at them
unless it is told what to load, and its `ncread` knows none: in native files too. Bytes of
variable length are beyond NCO, ncdf4, rhdf5, pyfive and jsfive, in native files too.
"""
_COLUMNS = ("datasets", "attributes", "10^9 chunks", "strings", "NetCDF")
_rows: dict[tuple[str, str], dict[str, str]] = {}


@dataclass(frozen=True)
class Sample:
    """Paths on the mount."""

    hierarchy: Path
    sparse: Path
    slots: Path  # a group in fixed slots: 2^62 bytes
    strings: Path
    climate: Path  # NetCDF
    digests: dict[str, str] = field(default_factory=samples.digests)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    require_fuse()
    folder = tmp_path_factory.mktemp("readers")
    samples.write(folder)
    samples.write_sparse(folder)
    samples.write_many(folder)
    samples.write_strings(folder)
    samples.write_climate(folder)
    made = Mounts()
    try:
        path = made.mount(folder)
        files = ("sample.h5", "sparse.h5", "many.h5", "strings.h5", "climate.nc")
        yield Sample(*(path / f"{Path(name).stem}.zarr" / name for name in files))
    finally:
        made.close()


@pytest.fixture
def note() -> Callable[[str, str, str], None]:
    """`note(reader, version, column)`: this reader read this right."""

    def write(reader: str, version: str, column: str, text: str = "yes") -> None:
        assert column in _COLUMNS
        _rows.setdefault((reader, version), {})[column] = text

    return write


def pytest_sessionfinish() -> None:
    target = os.environ.get("ZNFS_WRITE_MATRIX")
    if target and _rows:
        lines = [
            f"| {reader} | {version} | " + " | ".join(row.get(c, "–") for c in _COLUMNS) + " |"
            for (reader, version), row in sorted(_rows.items())
        ]
        Path(target).write_text(_HEADER + "\n".join(lines) + "\n" + _FOOTER)
