"""Stores, trees and files for the tests of virtual HDF5."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from znfs.node import File
from znfs.tree import Tree, open_tree


class Seekable(io.RawIOBase):
    """A virtual file as Python's file object, for h5py and xarray. Counts what is read."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.at = 0
        self.reads: list[tuple[int, int]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.file.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, out: Any) -> int:
        view = memoryview(out).cast("B")
        n = self.file.read_into(self.at, view)
        self.reads.append((self.at, n))
        self.at += n
        return n


@contextmanager
def tree(path: Path | str, **options: Any) -> Iterator[Tree]:
    """A store's tree, closed whatever happens."""
    opened = open_tree(str(path), **options)
    try:
        yield opened
    finally:
        opened.close()


def resolve(opened: Tree, path: str) -> File:
    """The file at `path`."""
    file = opened.resolve(path)
    assert isinstance(file, File)
    return file


def materialise(file: File, target: Path) -> Path:
    """The file on disk, read once in order."""
    with target.open("wb") as out:
        for at in range(0, file.size, 1 << 20):
            out.write(file.read(at, 1 << 20))
    return target


def text(values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Strings of variable length, as h5py gives them (bytes), as numpy's of fixed length."""
    flat = [value.decode() for value in np.asarray(values, object).ravel()]
    return np.array(flat, dtype).reshape(np.shape(values))


def as_objects(dataset: h5py.Dataset, kind: str) -> np.ndarray[Any, Any]:
    """Elements of variable length as Python's: text (`kind` is "T"), or bytes."""
    found = (dataset.asstr() if kind == "T" else dataset)[()]
    out = np.empty(dataset.shape, object)
    for at in np.ndindex(dataset.shape):
        item = found[at] if at else found
        out[at] = item if kind == "T" else item.tobytes()
    return out
