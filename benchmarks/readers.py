"""What reads an array: the libraries in this process, and tools on a mount.

A Reader is opened for every measurement, as a program that starts would; what it opened then reads
boxes. Boxes are slices over z, y and x; results are arrays of those axes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorstore as ts
import tifffile
import zarr

from benchmarks.data import DTYPE, Spec

Box = tuple[slice, slice, slice]
Read = Callable[[Box], np.ndarray[Any, Any]]

ZARRS = "zarrs.ZarrsCodecPipeline"


@dataclass(frozen=True)
class Reader:
    """`open()` returns the function that reads a box."""

    name: str
    open: Callable[[], Read]


def planes(lo: int, hi: int) -> Box:
    """The box of whole planes [lo, hi)."""
    return slice(lo, hi), slice(None), slice(None)


@dataclass(frozen=True)
class Local:
    """Where a store is, for the libraries: a folder."""

    path: Path

    def zarr(self) -> Any:
        return str(self.path)

    def tensorstore(self) -> dict[str, Any]:
        return {"driver": "file", "path": f"{self.path}/"}


@dataclass(frozen=True)
class Remote:
    """Where a store is, for the libraries: a bucket's prefix at an S3 endpoint.

    Credentials are in the environment.
    """

    bucket: str
    prefix: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def zarr(self) -> Any:
        from obstore.store import S3Store
        from zarr.storage import ObjectStore

        store = S3Store(
            self.bucket, prefix=self.prefix, endpoint=self.endpoint, region="us-east-1",
            client_options={"allow_http": True},
        )  # fmt: skip
        return ObjectStore(store, read_only=True)

    def tensorstore(self) -> dict[str, Any]:
        return {
            "driver": "s3", "bucket": self.bucket, "path": f"{self.prefix}/",
            "endpoint": self.endpoint, "aws_region": "us-east-1",
            "aws_credentials": {"type": "environment"},
        }  # fmt: skip


Place = Local | Remote


def zarr_python(place: Place) -> Reader:
    name = "zarr-python 3" if isinstance(place, Local) else "zarr-python with obstore"
    return Reader(name, lambda: _as_read(zarr.open_array(place.zarr(), mode="r")))


def zarr_zarrs(place: Place) -> Reader:
    """zarr-python with the zarrs pipeline, which reads local stores."""

    def open() -> Read:
        with zarr.config.set({"codec_pipeline.path": ZARRS}):
            array = zarr.open_array(place.zarr(), mode="r")

        def read(box: Box) -> np.ndarray[Any, Any]:
            with zarr.config.set({"codec_pipeline.path": ZARRS}):
                return np.asarray(array[box])

        return read

    return Reader("zarr-python with zarrs", open)


def tensorstore(place: Place, format: str = "zarr3", cache: int = 0) -> Reader:
    """tensorstore, with `cache` bytes of decoded chunks; N5's axes are turned round, uncopied."""

    def open() -> Read:
        spec: dict[str, Any] = {"driver": format, "kvstore": place.tensorstore()}
        if cache:
            spec["recheck_cached_data"] = "open"  # else every read asks the store for news
        context = ts.Context({"cache_pool": {"total_bytes_limit": cache}})
        array = ts.open(spec, read=True, open=True, context=context).result()
        if format == "n5":
            array = array.T
        return lambda box: array[box].read().result()

    return Reader("tensorstore with a cache" if cache else "tensorstore", open)


def libraries(place: Place, spec: Spec) -> list[Reader]:
    """Those that can read the store."""
    if spec.format == "n5":
        return [tensorstore(place, "n5")]
    if isinstance(place, Local):
        return [zarr_python(place), zarr_zarrs(place), tensorstore(place)]
    return [zarr_python(place), tensorstore(place)]


def _as_read(array: Any) -> Read:
    return lambda box: np.asarray(array[box])


class Npy:
    """`NAME.npy` read as numpy does, in whole planes."""

    name = ".npy"

    def __init__(self, folder: Path, spec: Spec) -> None:
        self._path = next(folder.glob("*.npy"))
        self._plane = spec.volume.shape[1:]
        with self._path.open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            assert (shape, fortran, dtype) == (spec.volume.shape, False, DTYPE)
            self.data_at = file.tell()
        self.files = [self._path]

    def open(self) -> Read:
        def read(box: Box) -> np.ndarray[Any, Any]:
            lo, hi = box[0].start, box[0].stop
            size = self._plane[0] * self._plane[1]
            offset = self.data_at + lo * size * DTYPE.itemsize
            flat = np.fromfile(self._path, DTYPE, (hi - lo) * size, offset=offset)
            return flat.reshape(hi - lo, *self._plane)

        return read


class Tiff:
    """`tiff/`: every plane's pixels read from its file, in order.

    Where they are in the file is found with tifffile once, so that its own time is not measured.
    """

    name = "tiff/"

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.files = sorted((folder / "tiff").iterdir())
        assert len(self.files) == spec.volume.shape[0]
        with tifffile.TiffFile(self.files[0]) as tiff:
            self.data_at = tiff.pages[0].dataoffsets[0]
        self._plane = spec.volume.shape[1:]

    def open(self) -> Read:
        def read(box: Box) -> np.ndarray[Any, Any]:
            files = self.files[box[0]]
            out = np.empty((len(files), *self._plane), DTYPE)
            for path, plane in zip(files, out, strict=True):
                _read_at(path, self.data_at, plane.data.cast("B"))
            return out

        return read


class Hdf5:
    """`NAME.h5` read by h5py."""

    name = ".h5"

    def __init__(self, folder: Path, spec: Spec) -> None:
        self._path = next(folder.glob("*.h5"))
        with h5py.File(self._path) as file:
            (self._dataset,) = (name for name, item in file.items() if len(item.shape) == 3)
            self.data_at = file[self._dataset].id.get_chunk_info(0).byte_offset
        self.files = [self._path]

    def open(self) -> Read:
        file = h5py.File(self._path)
        dataset = file[self._dataset]

        def read(box: Box) -> np.ndarray[Any, Any]:
            # `file` is held here; it closes with this function.
            return dataset[box] if file else np.empty(0)

        return read


# What a program reads. Of each of its `files`, what comes before `data_at` is not pixels.
View = Npy | Tiff | Hdf5
VIEWS: tuple[type[Npy] | type[Tiff] | type[Hdf5], ...] = (Npy, Tiff, Hdf5)


def reader(view: View, mount: str = "znfs") -> Reader:
    return Reader(f"{mount} {view.name}", view.open)


def _read_at(path: Path, offset: int, out: memoryview) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < len(out):
            got = os.preadv(fd, [out[at:]], offset + at)
            if not got:
                raise EOFError(f"{path}: ends at {offset + at}")
            at += got
    finally:
        os.close(fd)


def scan(path: Path, buffer: memoryview) -> int:
    """Read a file from its beginning to its end; returns its bytes."""
    total = 0
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            total += got
    return total
