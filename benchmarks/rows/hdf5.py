"""Row 10: HDF5 by h5py, random boxes of 64³ and the whole volume.

From the page cache against a native HDF5 file of the same chunks, uncompressed, on tmpfs; from
znfs's cache against h5py on the null file system, which has the file's metadata; cold against
zarr-python on the store. And how many chunks were fetched for those that the boxes touch.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench, Skipped
from benchmarks.data import DTYPE, Spec
from benchmarks.measure import Side, compare
from benchmarks.readers import Box, Local
from benchmarks.report import plain_line, speed_line

_TMPFS = Path("/dev/shm")
_BOXES, _SIDE, _SEED = 64, 64, 7
_OF_NATIVE, _OF_NULL = 0.9, 0.8
_ONE_EACH = 1.02  # with those of metadata
_ROUNDS = 3  # times as many as elsewhere: of these, one round is twice the other
_NULL, _NATIVE = "null FUSE", "native HDF5 on tmpfs"


@dataclass(frozen=True)
class Task:
    """What is read, box after box."""

    name: str
    boxes: list[Box]

    @property
    def nbytes(self) -> int:
        elements = sum(int(np.prod([s.stop - s.start for s in box])) for box in self.boxes)
        return elements * DTYPE.itemsize

    def chunks(self, side: int) -> list[tuple[int, ...]]:
        """Those that each box touches, in the order of reading."""
        return [
            index
            for box in self.boxes
            for index in itertools.product(
                *(range(s.start // side, -(-s.stop // side)) for s in box)
            )
        ]


def run(bench: Bench) -> None:
    if shutil.disk_usage(_TMPFS).free < 3 * bench.volume.nbytes:
        raise Skipped(f"{_TMPFS} has no room for a copy")
    spec = Spec(bench.volume, "zstd")
    path = bench.data.store(spec)
    cache = str(2 * spec.volume.nbytes)
    with (
        mounts.znfs(path, "--cache-size", cache) as mount,
        tempfile.TemporaryDirectory(prefix="znfs-bench-", dir=_TMPFS) as folder,
    ):
        _write_native(bench, spec, Path(folder, "native.h5"))
        native = readers.Reader(_NATIVE, readers.Hdf5(Path(folder), spec).open)
        view = readers.Hdf5(mount.path, spec)
        with mounts.null_like(mount, dict.fromkeys(view.files, view.data_at)) as nobody:
            null = readers.Hdf5(nobody.path, spec)
            for task in (_random(spec), _whole(spec)):
                _measure(bench, spec, task, mount, view, native, null)


def _measure(
    bench: Bench, spec: Spec, task: Task, mount: mounts.Mount, view: readers.Hdf5,
    native: readers.Reader, null: readers.Hdf5,
) -> None:  # fmt: skip
    what = f"HDF5, {task.name}, {spec.label}"
    own = readers.reader(view)
    nothing = readers.Reader(_NULL, null.open)

    def pages() -> None:
        system.drop_pages(*view.files)

    def forget() -> None:
        mount.refresh()
        pages()

    def side(reader: readers.Reader, prepare: Callable[[], object] = lambda: None) -> Side:
        return Side(reader.name, lambda: _read(reader, task), prepare, _checker(bench, spec, task))

    limit = Side(_NULL, lambda: _read(nothing, task), lambda: system.drop_pages(*null.files))
    store = readers.zarr_python(Local(bench.data.store(spec)))

    times = compare([side(own), side(native)], _ROUNDS * bench.repeats, warm_up=True)
    bench.add(
        speed_line(10, f"{what}: page cache", times, own.name, _NATIVE, task.nbytes, _OF_NATIVE)
    )
    times = compare([side(own, pages), limit], _ROUNDS * bench.repeats, warm_up=True)
    bench.add(
        speed_line(10, f"{what}: znfs's cache", times, own.name, _NULL, task.nbytes, _OF_NULL)
    )
    sides = [side(own, forget), side(store), side(native), limit]
    times = compare(sides, _ROUNDS * bench.repeats)
    aim = min(1.0, _OF_NULL * times.speedup(_NULL, store.name).median)
    for peer, at_least in ((store.name, aim), (_NATIVE, None), (_NULL, None)):
        bench.add(speed_line(10, f"{what}: cold", times, own.name, peer, task.nbytes, at_least))

    forget()
    before = mount.status()["store"]["requests"]
    _read(own, task)
    after = mount.status()["store"]["requests"]
    fetched = sum(after.values()) - sum(before.values())
    touched = len(set(task.chunks(spec.chunk)))
    bench.add(
        plain_line(
            10, f"{what}: requests for {touched} chunks touched", round(fetched / touched, 3), "",
            "one each", 1.0, at_most=_ONE_EACH, note="with those of metadata",
        )
    )  # fmt: skip


def _random(spec: Spec) -> Task:
    rng = np.random.default_rng(_SEED)
    corners = rng.integers(0, np.array(spec.volume.shape) - _SIDE + 1, (_BOXES, 3)).tolist()
    sides = ([slice(at, at + _SIDE) for at in corner] for corner in corners)
    boxes = [(z, y, x) for z, y, x in sides]
    return Task(f"{_BOXES} random boxes of {_SIDE}³", boxes)


def _whole(spec: Spec) -> Task:
    depth = spec.volume.shape[0]
    slabs = range(0, depth, spec.chunk)
    rest = [slice(0, n) for n in spec.volume.shape[1:]]
    boxes = [(slice(z, min(z + spec.chunk, depth)), rest[0], rest[1]) for z in slabs]
    return Task("the whole volume", boxes)


def _read(reader: readers.Reader, task: Task) -> list[np.ndarray[Any, Any]]:
    read = reader.open()
    return [read(box) for box in task.boxes]


def _checker(bench: Bench, spec: Spec, task: Task) -> Callable[[Any], None]:
    def check(found: list[np.ndarray[Any, Any]]) -> None:
        for box, got in zip(task.boxes, found, strict=True):
            if not np.array_equal(got, bench.data.expect(spec.volume, box)):
                raise AssertionError(f"{spec.name}: {box} is wrong")

    return check


def _write_native(bench: Bench, spec: Spec, path: Path) -> None:
    with h5py.File(path, "w", libver="earliest") as file:
        dataset = file.create_dataset("native", spec.volume.shape, DTYPE, chunks=(spec.chunk,) * 3)
        for z in range(0, spec.volume.shape[0], spec.chunk):
            box = readers.planes(z, min(z + spec.chunk, spec.volume.shape[0]))
            dataset[box] = bench.data.expect(spec.volume, box)
