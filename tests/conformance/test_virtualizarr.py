"""References of VirtualiZarr, local and on S3, against what xarray reads of the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Mount, running
from tests.environments import python_with, run_with
from tests.servers.s3 import S3

VERSION = "2.5.1"
SCRIPT = Path(__file__).with_name("virtual.py")
NAMES = ("t", "g", "time", "x")


def write(folder: Path, *words: str) -> Path:
    python = python_with(
        f"virtualizarr=={VERSION}", "zarr==3.1.6", "h5netcdf", "kerchunk", "fastparquet", "h5py"
    )
    folder.mkdir(exist_ok=True)
    run_with(python, SCRIPT, folder, *words)
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("virtual"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3, Path]]:
    folder = write(tmp_path_factory.mktemp("virtual-s3"), "s3://data")
    with running(S3) as server:
        client = server.client()
        client.create_bucket(Bucket="data")
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "data", str(path.relative_to(folder)))
        yield server, folder


def check(mounted: Path, folder: Path) -> None:
    for name in NAMES:
        expected = np.load(folder / f"{name}.npy")
        np.testing.assert_array_equal(np.load(mounted / name / f"{name}.npy"), expected)


@pytest.mark.parametrize("document", ["refs.json", "refs.parq"])
def test_local(document: str, local: Path, mount: Mount, found: Callable[..., None]) -> None:
    check(mount(f"reference://::{local / document}"), local)
    note(found, document, "local")


@pytest.mark.parametrize("document", ["refs.json", "refs.parq"])
def test_on_s3(
    document: str, s3: tuple[S3, Path], mount: Mount, monkeypatch: pytest.MonkeyPatch,
    found: Callable[..., None],
) -> None:  # fmt: skip
    server, folder = s3
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    check(mount(f"reference://::s3://data/{document}", "--endpoint-url", server.url), folder)
    note(found, document, "S3")


def note(found: Callable[..., None], document: str, where: str) -> None:
    kind = "JSON" if document.endswith("json") else "Parquet"
    found("References and archives", f"{kind} references, two files as one, {where}",
          f"VirtualiZarr {VERSION}", "xarray", "equal", len(NAMES))  # fmt: skip
