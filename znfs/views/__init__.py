"""The views: what an array or a group is shown as. One line a view in `views`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from znfs.array import Array, Group
from znfs.errors import UsageError
from znfs.node import Dir, File
from znfs.options import Options
from znfs.views import hdf5, npy
from znfs.views.chunks import ChunksDir
from znfs.views.tiff import crop, ometiff, planes, stacks

Refuse = Callable[[Any], str | None]
Make = Callable[[Any, str], File | Dir]

NOT_OF_GROUPS = "groups have none"
NOT_OF_ARRAYS = "arrays have none"
MOST_NAME_BYTES = 255


@dataclass(frozen=True)
class View:
    """A presentation of an array or a group.

    `key` is its name in `--views`; `entry` its name in a directory, `{}` standing for NAME;
    `listed` is False where it is there only for who knows of it. `remarks` tells what a view that
    is shown leaves out, renames or converts.
    `of_array` and `of_group` tell why a node has no such view (None: it has); `make` builds it.
    """

    key: str
    entry: str
    make: Make
    of_array: Refuse
    of_group: Refuse = lambda group: NOT_OF_GROUPS
    listed: bool = True
    remarks: Callable[[Any], list[str]] = lambda node: []

    def refuse(self, node: Array | Group) -> str | None:
        """Why `node` has no such view; None if it has."""
        return self.of_array(node) if isinstance(node, Array) else self.of_group(node)


def _always(node: Array | Group) -> None:
    return None


def _planes(orientation: str) -> Make:
    return lambda array, name: planes.PlanesDir(array, name, orientation)


def _refuse_planes(orientation: str) -> Refuse:
    def refuse(array: Array) -> str | None:
        if why := planes.refuse(array):
            return why
        if orientation != "yx" and array.meta.ndim < 3:
            return "needs three dimensions"
        first = next(planes.PlanesDir(array, array.name, orientation).names())
        if len(first.encode("utf-8", "surrogateescape")) > MOST_NAME_BYTES:
            return "the names of its files would be longer than 255 bytes"
        return None

    return refuse


def _hdf5(layout: hdf5.Layout) -> Make:
    def make(node: Array | Group, name: str) -> File:
        if isinstance(node, Array):
            return hdf5.array_file(node, name, layout)
        return hdf5.group_file(node, name, layout)

    return make


def _netcdf(node: Array | Group) -> str | None:
    return None if hdf5.is_netcdf(node) else "its dimensions have no names"


def _ome_tiff(group: Group) -> str | None:
    return ometiff.refuse(group) if ometiff.is_image(group) else NOT_OF_GROUPS


def views(options: Options) -> tuple[View, ...]:
    """All views there are, as `options` want them. Raises UsageError."""
    layout = _layout(options)
    return (
        View("chunks", "chunks", lambda array, name: ChunksDir(array), _always),
        View("npy", "{}.npy", lambda array, name: npy.npy_file(array), _always),
        View("tiff", "tiff", _planes("yx"), _refuse_planes("yx")),
        View("tiff.xz", "tiff.xz", _planes("xz"), _refuse_planes("xz")),
        View("tiff.yz", "tiff.yz", _planes("yz"), _refuse_planes("yz")),
        View("tif", "{}.tif", lambda array, name: stacks.imagej_file(array), stacks.refuse_imagej),
        View("btf", "{}.btf", lambda array, name: stacks.big_file(array), planes.refuse),
        View("tiff", "crop", crop.CropDir, planes.refuse, listed=False),
        View("h5", "{}.h5", _hdf5(layout), hdf5.refuse, hdf5.refuse, remarks=hdf5.remarks),
        View("nc", "{}.nc", _hdf5(layout), _netcdf, _netcdf),
        View(
            "ome.tif", "{}.ome.tif", ometiff.image_file,
            lambda array: NOT_OF_ARRAYS, _ome_tiff, remarks=ometiff.remarks,
        ),
    )  # fmt: skip


def _layout(options: Options) -> hdf5.Layout:
    if options.hdf5_merge < 1:
        raise UsageError(f"--hdf5-merge {options.hdf5_merge}: at least 1")
    if options.hdf5_merge > 1 and options.hdf5_index != "btree":
        raise UsageError("--hdf5-merge needs --hdf5-index btree")
    promote = options.hdf5_float16 == "float32"
    return hdf5.Layout(options.hdf5_index, options.hdf5_merge, promote)
