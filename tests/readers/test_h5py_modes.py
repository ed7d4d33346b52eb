"""The ways h5py opens a file, and many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.readers import samples
from tests.readers.conftest import Sample

_IMG = samples.arrays()["img"][0]


@pytest.mark.parametrize(
    "how",
    [
        {"driver": "core"}, {"driver": "core", "backing_store": False}, {"driver": "sec2"},
        {"driver": "stdio"}, {"libver": "latest"}, {"libver": ("earliest", "v110")},
        {"rdcc_nbytes": 0}, {"rdcc_nbytes": 1 << 30, "rdcc_nslots": 521}, {"rdcc_w0": 1.0},
        {"locking": True}, {"locking": False}, {"locking": "best-effort"},
        {"fs_strategy": None}, {"track_order": True}, {"meta_block_size": 1 << 16},
    ],
    ids=str,
)  # fmt: skip
def test_ways_to_open(sample: Sample, how: dict[str, Any]) -> None:
    with h5py.File(sample.hierarchy, "r", **how) as file:
        np.testing.assert_array_equal(file["img"][...], _IMG)
        np.testing.assert_array_equal(file["img"][3:60, ::7, -1], _IMG[3:60, ::7, -1])
        assert file.attrs["long"] == samples.LONG_TEXT
        assert len(file["many"]) == samples.MANY


def test_swmr_is_as_for_any_file_of_that_superblock(sample: Sample, tmp_path: Path) -> None:
    """SWMR takes superblock 3; a reader that asks for it is told so, as by HDF5's own files."""
    native = tmp_path / "native.h5"
    with h5py.File(native, "w", libver="earliest") as file:
        file["a"] = 1
    said = []
    for path in (native, sample.hierarchy):
        try:
            h5py.File(path, "r", swmr=True).close()
            said.append("")
        except OSError as error:
            said.append(str(error).split(str(path))[0])
    assert said[0] == said[1]


@pytest.mark.parametrize("mode", ["r+", "a", "w", "w-"])
def test_writing_is_refused(sample: Sample, mode: str) -> None:
    with pytest.raises(OSError, match=r"Read-only|unable to|Unable to|exists"):
        h5py.File(sample.hierarchy, mode)
    with h5py.File(sample.hierarchy) as file, pytest.raises((OSError, ValueError, KeyError)):
        file["new"] = 1


@pytest.mark.parametrize("locking", ["TRUE", "FALSE", "BEST_EFFORT", ""])
def test_file_locking(sample: Sample, locking: str) -> None:
    """Two processes at once, whatever the variable says."""
    code = (
        "import sys, h5py\n"
        "file = h5py.File(sys.argv[1])\n"
        "print(int(file['img'][0, 0, 0]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    if locking:
        env["HDF5_USE_FILE_LOCKING"] = locking
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, sample.hierarchy],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == str(_IMG[0, 0, 0])
    finally:
        for process in processes:
            process.communicate(timeout=60)


def _read_boxes(path: Path, seed: int) -> list[str]:
    """Digests of random boxes of the image."""
    out = []
    with h5py.File(path) as file:
        for box in _boxes(seed):
            out.append(samples.digest(file["img"][box]))
    return out


def _boxes(seed: int) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, _IMG.shape, (20, 3))
    return [
        tuple(slice(a, min(n, a + 17)) for a, n in zip(start, _IMG.shape, strict=True))
        for start in starts.tolist()
    ]


def test_sixteen_processes(sample: Sample) -> None:
    with ProcessPoolExecutor(16, mp_context=get_context("fork")) as pool:
        found = list(pool.map(_read_boxes, [sample.hierarchy] * 16, range(16)))
    for seed, digests in enumerate(found):
        assert digests == [samples.digest(_IMG[box]) for box in _boxes(seed)]
