"""Many processes read different views at once, with a cache far smaller than the data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import znfs
from demo.write import write_n5
from tests.conftest import Mount
from znfs.daemon import mounts
from znfs.node import File

READER = Path(__file__).with_name("reader.py")
READERS = 16
CACHE = 4 << 20
MEMORY = CACHE + (150 << 20)  # the daemon's own Python and libraries are in the second part

Values = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def values() -> Values:
    z, y, x = np.indices((96, 192, 200))
    noise = np.random.default_rng(1).integers(0, 64, z.shape)
    return (500 * (2 + np.sin(z / 9) + np.cos(y / 17) * np.sin(x / 13)) + noise).astype("u2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, values: Values) -> Path:
    root = tmp_path_factory.mktemp("stress")
    make = {"shape": values.shape, "dtype": "u2"}
    zarr.create_array(root / "plain", chunks=(32, 32, 32), zarr_format=2, **make)[...] = values
    zarr.create_array(root / "sharded", chunks=(16, 32, 32), shards=(32, 64, 64), **make)[...] = (
        values
    )
    write_n5(root, "n5", values, (24, 40, 64))
    return root


@pytest.fixture(scope="module")
def copies(store: Path, values: Values, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the mount as they must be: made without FUSE, with cache enough, and checked."""
    root = tmp_path_factory.mktemp("copies")
    tree = znfs.open_tree(str(store), cache_size=1 << 28)
    for array in ("plain", "sharded", "n5"):
        names = [f"{array}{ending}" for ending in (".npy", ".tif", ".btf", ".h5")]
        names += [f"tiff/{array}_z{z:02}.tif" for z in range(0, 96, 9)]
        names += [f"tiff.xz/{array}_y{y:03}.tif" for y in range(0, 192, 31)]
        for name in names:
            file = tree.resolve(f"{array}/{name}")
            assert isinstance(file, File)
            copy = root / array / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read(0, file.size))
        np.testing.assert_array_equal(np.load(root / array / f"{array}.npy"), values)
        np.testing.assert_array_equal(tifffile.imread(root / array / f"{array}.tif"), values)
        np.testing.assert_array_equal(tifffile.imread(root / array / f"{array}.btf"), values)
        with h5py.File(root / array / f"{array}.h5") as h5:
            np.testing.assert_array_equal(h5[array][...], values)
        plane = tifffile.imread(root / array / f"tiff/{array}_z18.tif")
        np.testing.assert_array_equal(plane, values[18])
    tree.close()
    return root


def stress(mounted: Path, copies: Path, seconds: float) -> int:
    """Let all readers run; how many ranges they read."""
    readers = [
        subprocess.Popen(
            [sys.executable, str(READER), str(mounted), str(copies), str(seconds), str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(READERS)
    ]  # fmt: skip
    try:
        said = [reader.communicate(timeout=seconds + 120) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
    assert not any(errors for _, errors in said), [errors for _, errors in said if errors]
    assert all(reader.returncode == 0 for reader in readers)
    return sum(int(out) for out, _ in said)


def memory(mounted: Path) -> int:
    """The most bytes the daemon has had in memory."""
    pid = mounts.status(str(mounted))["pid"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def test_sixteen_readers(store: Path, copies: Path, mount: Mount) -> None:
    mounted = mount(store, "--cache-size", CACHE)
    assert stress(mounted, copies, 4) > READERS
    assert memory(mounted) < MEMORY
    assert mounts.status(str(mounted))["cache"]["evictions"] > 0


@pytest.mark.soak
def test_sixteen_readers_for_minutes(store: Path, copies: Path, mount: Mount) -> None:
    mounted = mount(store, "--cache-size", CACHE)
    stress(mounted, copies, float(os.environ.get("ZNFS_SOAK_SECONDS", "90")))
    assert memory(mounted) < MEMORY
