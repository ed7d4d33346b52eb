"""Every view of every array of the matrix, through one real mount, against another library."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.conftest import Mount
from tests.mounts.stores import FACTORS, Case, Values, cases, read, write

CASES = [case for format in FACTORS for case in cases(format)]
# One array a format whose files are read by ranges.
RANGES = (
    Case("zarr2", ">u2", "blosc-lz4", "F", 3, "cut", True, "plain"),
    Case("zarr3", "<f4", "zstd", "F", 3, "cut", True, "nested"),
    Case("n5", "|u1", "gzip", "C", 3, "cut", True, "plain"),
)
IMAGEJ_TYPES = ("uint8", "uint16", "int16", "float32")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All arrays, below one prefix."""
    root = tmp_path_factory.mktemp("matrix")
    for case in dict.fromkeys([*CASES, *RANGES]):
        write(root / case.format / case.name, case)
    return root


@pytest.fixture(scope="module")
def mounted(stores: Path, mount_for_module: Mount) -> Path:
    """One mount for all."""
    return mount_for_module(stores, "--views", "all")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.name}")
def test_views_equal_the_oracle(case: Case, stores: Path, mounted: Path) -> None:
    values = read(stores / case.format / case.name, case)
    np.testing.assert_array_equal(values, case.values())
    folder = mounted / case.format / case.name
    listed = {name for name in os.listdir(folder) if name not in DOCUMENTS}
    assert listed == expected_names(case)
    for view, check in CHECKS.items():
        if view.format(case.name) in listed:
            check(folder, case, values)
    np.testing.assert_array_equal(read(folder, case), values)


DOCUMENTS = ("zarr.json", ".zarray", ".zattrs", "attributes.json")


def expected_names(case: Case) -> set[str]:
    """What docs/SEMANTICS.md, "Names", lists for an array."""
    views = ["chunks", "{}.npy", "{}.h5"]
    if case.ndim >= 2:
        views += ["tiff", "{}.btf"]
        if np.dtype(case.dtype).name in IMAGEJ_TYPES:
            views.append("{}.tif")
    if case.ndim >= 3:
        views += ["tiff.xz", "tiff.yz"]
    return {view.format(case.name) for view in views}


def check_chunks(folder: Path, case: Case, values: Values) -> None:
    padding = [(0, -n % c) for n, c in zip(case.shape, case.chunks, strict=True)]
    padded = np.pad(values, padding, constant_values=case.fill)
    little = padded.dtype.newbyteorder("<")
    root = folder / "chunks"
    grid = [range(n // c) for n, c in zip(padded.shape, case.chunks, strict=True)]
    for index in product(*grid):
        part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, case.chunks, strict=True))
        assert (root / key(case, index)).read_bytes() == padded[part].astype(little).tobytes()
    found = sum(len(files) for _, _, files in os.walk(root))
    assert found == np.prod([len(r) for r in grid])


def key(case: Case, index: tuple[int, ...]) -> str:
    """The key of a chunk, by each format's specification."""
    words = [str(i) for i in index]
    if case.format == "n5":
        return "/".join(reversed(words))
    if case.format == "zarr2":
        return "./"[case.ndim % 2].join(words)
    prefix, separator = [("c", "/"), ("c", "."), ("", ".")][case.ndim % 3]
    return separator.join([prefix, *words] if prefix else words)


def check_npy(folder: Path, case: Case, values: Values) -> None:
    found = np.load(folder / f"{case.name}.npy")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    mapped = np.load(folder / f"{case.name}.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, values)


def check_planes(view: str) -> Callable[[Path, Case, Values], None]:
    """`tiff`, `tiff.xz` or `tiff.yz`: which axes are a plane's, the last three being z, y, x."""

    def check(folder: Path, case: Case, values: Values) -> None:
        rows, columns = {"tiff": (-2, -1), "tiff.xz": (-3, -1), "tiff.yz": (-3, -2)}[view]
        axes = ["i", "j", "z", "y", "x"] if case.ndim == 5 else ["i", "z", "y", "x"][-case.ndim :]
        n = case.ndim
        rest = [d for d in range(n) if d not in (rows % n, columns % n)]
        moved = as_tiff(values).transpose([*rest, rows % n, columns % n])
        expected = {}
        for index in np.ndindex(*moved.shape[:-2]):
            parts = "".join(
                f"_{axes[d]}{i:0{len(str(case.shape[d] - 1))}}"
                for d, i in zip(rest, index, strict=True)
            )
            expected[f"{case.name}{parts}.tif"] = moved[index]
        assert sorted(os.listdir(folder / view)) == sorted(expected)
        for name, plane in expected.items():
            found = tifffile.imread(folder / view / name)
            assert found.dtype == plane.dtype
            np.testing.assert_array_equal(found, plane)

    return check


def check_btf(folder: Path, case: Case, values: Values) -> None:
    planes = as_tiff(values).reshape(-1, *values.shape[-2:])
    with tifffile.TiffFile(folder / f"{case.name}.btf") as file:
        assert file.is_bigtiff
        assert len(file.pages) == len(planes)
        for page, plane in zip(file.pages, planes, strict=True):
            found = page.asarray()
            assert found.dtype == plane.dtype
            np.testing.assert_array_equal(found, plane)


def check_tif(folder: Path, case: Case, values: Values) -> None:
    planes = values.reshape(-1, *values.shape[-2:])
    with tifffile.TiffFile(folder / f"{case.name}.tif") as file:
        assert file.is_imagej
        assert not file.is_bigtiff
        assert len(file.pages) == len(planes)
        found = np.stack([page.asarray() for page in file.pages])
        hyperstack = file.series[0].asarray()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, planes)
    np.testing.assert_array_equal(hyperstack.reshape(planes.shape), planes)


def check_h5(folder: Path, case: Case, values: Values) -> None:
    with h5py.File(folder / f"{case.name}.h5", "r") as file:
        dataset = file[case.name]
        assert dataset.shape == values.shape
        assert dataset.dtype == values.dtype
        np.testing.assert_array_equal(dataset[...], values)


def as_tiff(values: Values) -> Values:
    """TIFF has no bool."""
    return values.astype("u1") if values.dtype.kind == "b" else values


CHECKS: dict[str, Callable[[Path, Case, Values], None]] = {
    "chunks": check_chunks,
    "{}.npy": check_npy,
    "tiff": check_planes("tiff"),
    "tiff.xz": check_planes("tiff.xz"),
    "tiff.yz": check_planes("tiff.yz"),
    "{}.tif": check_tif,
    "{}.btf": check_btf,
    "{}.h5": check_h5,
}


@pytest.fixture(scope="module")
def files(mounted: Path) -> list[Path]:
    """Every file of one array a format."""
    folders = [mounted / case.format / case.name for case in RANGES]
    return [f for folder in folders for f in folder.rglob("*") if f.is_file()]


def test_ranges_by_pread_mmap_and_sendfile(files: list[Path]) -> None:
    rng = random.Random(5)
    kinds = {f.suffix for f in files}
    assert kinds >= {".npy", ".tif", ".btf", ".h5", ".json"}
    for path in files:
        whole = path.read_bytes()
        assert len(whole) == path.stat().st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            for _ in range(8):
                start = rng.randrange(len(whole))
                stop = min(len(whole), start + rng.choice([1, 7, 100, 5000]))
                assert os.pread(file.fileno(), stop - start, start) == whole[start:stop]
                assert mapped[start:stop] == whole[start:stop]
                assert sent(file.fileno(), start, stop - start) == whole[start:stop]
            assert os.pread(file.fileno(), 100, len(whole)) == b""


def sent(descriptor: int, start: int, count: int) -> bytes:
    """What sendfile(2) makes of a range."""
    with open(os.memfd_create("sent"), "r+b") as out:
        while count > 0:
            n = os.sendfile(out.fileno(), descriptor, start, count)
            if not n:
                break
            start, count = start + n, count - n
        out.seek(0)
        return out.read()
