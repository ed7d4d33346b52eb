"""Row 4: from the command to the first pixels: mounting against the library in a new process, and
against converting the store first."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from benchmarks import mounts
from benchmarks.bench import Bench
from benchmarks.data import Spec
from benchmarks.measure import Side, compare
from benchmarks.readers import Box, planes
from benchmarks.report import time_line

_PLANE = 100

_ZARR = "import zarr; a = zarr.open_array({path!r}, mode='r')[{box}]"
_TENSORSTORE = (
    "import tensorstore as ts; a = ts.open({{'driver': 'zarr3', 'kvstore': 'file://' + {path!r}}},"
    " read=True).result()[{box}].read().result()"
)
_TO_TIFF = (
    "import zarr, tifffile; a = zarr.open_array({path!r}, mode='r')[...];"
    " tifffile.imwrite({target!r}, a); a = tifffile.imread({target!r}, key={plane})"
)
_TO_HDF5 = (
    "import zarr, h5py; a = zarr.open_array({path!r}, mode='r')[...];"
    " f = h5py.File({target!r}, 'w'); f.create_dataset('a', data=a, chunks=(64, 64, 64));"
    " a = f['a'][{box}]"
)
_PRINT = "; import sys; sys.stdout.buffer.write(a.tobytes())"


def run(bench: Bench) -> None:
    spec = Spec(bench.volume, "zstd")
    path = bench.data.store(spec)
    name = path.name.removesuffix(".zarr")
    width = len(str(spec.volume.shape[0] - 1))
    plane_file = f"tiff/{name}_z{_PLANE:0{width}}.tif"
    chunk: Box = (slice(64, 128), slice(64, 128), slice(64, 128))
    _compare(
        bench, spec, "first plane, tiff/", planes(_PLANE, _PLANE + 1),
        lambda folder: tifffile.imread(folder / plane_file), "to TIFF", _TO_TIFF,
    )  # fmt: skip
    _compare(
        bench, spec, "first chunk, .h5", chunk,
        lambda folder: _read_hdf5(folder / f"{name}.h5", name, chunk), "to HDF5", _TO_HDF5,
    )  # fmt: skip


def _read_hdf5(path: Path, dataset: str, box: Box) -> np.ndarray[Any, Any]:
    with h5py.File(path) as file:
        pixels: np.ndarray[Any, Any] = file[dataset][box]
    return pixels


def _compare(
    bench: Bench, spec: Spec, what: str, box: Box, look: Callable[[Path], np.ndarray[Any, Any]],
    to: str, convert: str,
) -> None:  # fmt: skip
    path = bench.data.store(spec)
    expected = bench.data.expect(spec.volume, box).tobytes()

    def check(pixels: bytes) -> None:
        if pixels != expected:
            raise AssertionError(f"{spec.name}: {what}: wrong pixels")

    with tempfile.TemporaryDirectory(prefix="znfs-bench-") as scratch:
        folder = Path(scratch, "mount")
        folder.mkdir()
        target = str(Path(scratch, "converted"))

        def mount() -> bytes:
            subprocess.run([*mounts.ZNFS, "mount", str(path), str(folder)], check=True)
            return look(folder).tobytes()

        def unmount() -> None:
            if folder.is_mount():
                subprocess.run([*mounts.ZNFS, "umount", str(folder)], check=True)

        def script(name: str, code: str) -> Side:
            values = {"path": str(path), "target": target, "box": _in_code(box), "plane": _PLANE}
            text = code.format(**values) + _PRINT
            command = [sys.executable, "-c", text]
            return Side(
                name,
                lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout,
                lambda: Path(target).unlink(missing_ok=True),
                check,
            )

        peers = [
            script("zarr-python, new process", _ZARR),
            script("tensorstore, new process", _TENSORSTORE),
            script(f"converting {to} first", convert),
        ]
        try:
            own = Side("znfs", mount, unmount, check)
            times = compare([own, *peers], bench.repeats, warm_up=True)
        finally:
            unmount()
    for peer in peers:
        bench.add(time_line(4, f"{what}, {spec.label}", times, own.name, peer.name))


def _in_code(box: Box) -> str:
    """As it is written between brackets."""
    return ", ".join(":" if s == slice(None) else f"{s.start}:{s.stop}" for s in box)
