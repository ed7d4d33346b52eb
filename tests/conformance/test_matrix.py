"""Every feature of every writer, through one real mount: values, and the store's own keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conformance import extensions, n5
from tests.conformance.images import images
from tests.conformance.samples import Sample, Values, everything
from tests.conftest import Mount, znfs
from tests.environments import OF_ZARR2, ZARR2, python_with, run_with
from tests.hdf5.support import as_objects
from tests.reading import same
from znfs.daemon import mounts

pytestmark = pytest.mark.filterwarnings("ignore")


def zarr2(root: Path) -> Iterator[Sample]:
    """Samples of zarr-python 2."""
    (root / "zarr2").mkdir(exist_ok=True)
    script = Path(__file__).with_name("zarr_two.py")
    folder = root / "zarr2/own"
    folder.mkdir()
    python = python_with(*OF_ZARR2)
    made = run_with(python, script, folder)
    words = (f"zarr-python {ZARR2}", f"zarr-python {ZARR2}")
    for name, feature in json.loads(made):
        values = np.load(folder / f"{name.replace('/', '-')}.npy")
        if "|O" in feature:
            values = values.astype(object)
        yield Sample(f"zarr2/own/{name}", "Zarr v2", feature, *words, values)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def mounted(root: Path, mount_for_module: Mount) -> Path:
    """One mount above all stores, of which some are written later."""
    (root / "empty").mkdir()
    return mount_for_module(root, "--views", "npy,chunks,h5")


def of_hdf5(view: Path) -> Values:
    """Elements of variable length, which `NAME.npy` does not have, out of `NAME.h5`."""
    assert not view.exists()
    with h5py.File(view.with_suffix(".h5")) as file:
        dataset = file[view.stem]
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        return as_objects(dataset, "T" if is_text else "O")


def agree(ours: Values, theirs: Values) -> bool:
    """Whether two arrays hold the same, bit for bit but for a long double's padding."""
    if ours.dtype == object:
        return np.array_equal(ours, theirs)
    if ours.dtype.itemsize != theirs.dtype.itemsize:
        return False
    if ours.dtype == np.longdouble:
        return np.array_equal(ours, theirs, equal_nan=True)
    return same(ours, theirs)


def compare(
    samples: Iterator[Sample], root: Path, mounted: Path, found: Callable[..., None]
) -> list[Sample]:
    """That the views of all samples hold their values, and that refused ones have none."""
    wrong: list[str] = []
    refused = []
    written = list(samples)
    mounts.refresh(str(mounted))
    for sample in written:
        view = mounted / sample.path / f"{Path(sample.path).name}.npy"
        words = (sample.format, sample.feature, sample.writer, sample.oracle)
        if sample.values is None:
            refused.append(sample)
            if view.exists():
                wrong.append(f"{sample.path}: not refused")
            found(*words, f"refused: {sample.refused}")
            continue
        try:
            ours = np.load(view) if sample.values.dtype != object else of_hdf5(view)
        except (OSError, ValueError) as error:
            wrong.append(f"{sample.path} ({sample.feature}): {error}")
            continue
        if not agree(ours, sample.values):
            wrong.append(f"{sample.path} ({sample.feature}): values differ")
        found(*words, "equal")
    assert not wrong, "\n".join(wrong)
    return refused


def same_keys(root: Path, mounted: Path, below: str) -> int:
    """That every file of the stores below reads byte for byte at its own path; how many."""
    keys = [path for path in (root / below).rglob("*") if path.is_file()]
    for path in keys:
        assert (mounted / path.relative_to(root)).read_bytes() == path.read_bytes(), path
    return len(keys)


def test_every_feature(root: Path, mounted: Path, found: Callable[..., None]) -> None:
    refused = compare(everything(root), root, mounted, found)
    assert refused
    for below in ("zarr3", "zarr2", "tensorstore", "z5py", "refused"):
        assert same_keys(root, mounted, below)
    told = {n["path"]: n for n in json.loads(znfs("info", "--json", root).stdout)["nodes"]}
    for sample in refused:
        node = told[sample.path]
        assert node["kind"] == "unreadable", sample
        assert sample.refused in " ".join(node["remarks"]), (sample, node)
    (arrays,) = told["refused/arrays"]["remarks"]
    assert "shape [3]" in arrays


@pytest.mark.parametrize(
    ("write", "below"),
    [
        (extensions.by_zarrs, "zarrs"), (extensions.small_types, "small"),
        (extensions.by_hand, "extended"), (n5.by_hand, "hand.n5"), (n5.blosc, "blosc.n5"),
        (n5.n5_zarr, "n5-zarr"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_extensions_and_n5(
    write: Callable[[Path], Iterator[Sample]], below: str, root: Path, mounted: Path,
    found: Callable[..., None],
) -> None:  # fmt: skip
    for sample in compare(write(root), root, mounted, found):
        assert sample.refused in reasons(root / sample.path), sample
    assert same_keys(root, mounted, below)


def test_registered_extensions_that_are_refused(
    root: Path, mounted: Path, found: Callable[..., None]
) -> None:
    samples = compare(extensions.refused(root), root, mounted, found)
    assert len(samples) == len(extensions.REFUSED)
    told = json.loads(znfs("info", "--json", root / "registered").stdout)["nodes"]
    remarks = {f"registered/{node['path']}": " ".join(node["remarks"]) for node in told}
    for sample in samples:
        assert sample.refused in remarks[sample.path], (sample, remarks[sample.path])


def reasons(path: Path) -> str:
    """Why znfs shows no views of the array at `path`."""
    told = json.loads(znfs("info", "--json", path.parent).stdout)["nodes"]
    return " ".join(r for node in told if node["path"] == path.name for r in node["remarks"])


def test_zarr_python_2(root: Path, mounted: Path, found: Callable[..., None]) -> None:
    assert not compare(zarr2(root), root, mounted, found)
    assert same_keys(root, mounted, "zarr2/own")


def test_images(root: Path, mounted: Path, found: Callable[..., None]) -> None:
    assert not compare(images(root), root, mounted, found)
    assert same_keys(root, mounted, "images")
