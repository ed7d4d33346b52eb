"""The table of views, one line a view. It is made, and what makes them imported, at the first look
into a directory: a mount is ready sooner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from znfs.arrays.array import Array, Group
from znfs.node import File, Kind
from znfs.options import Options
from znfs.views import (
    MOST_NAME_BYTES,
    NOT_OF_ARRAYS,
    NOT_OF_GROUPS,
    Listed,
    Make,
    Refuse,
    View,
    chunks,
    fits,
    hdf5,
    npy,
)
from znfs.views.tiff import crop, ometiff, planes, stacks


def _of_fixed_size(array: Array) -> str | None:
    return "its elements are of variable length" if array.meta.is_variable else None


def _planes(orientation: str) -> Make:
    return lambda array, name: planes.PlanesDir(array, name, orientation)


def _refuse_planes(orientation: str) -> Refuse:
    def refuse(array: Array) -> str | None:
        if why := planes.refuse(array, orientation):
            return why
        first = next(planes.PlanesDir(array, array.name, orientation).names())
        if not fits(first):
            return f"the names of its files would be longer than {MOST_NAME_BYTES} bytes"
        return None

    return refuse


def _hdf5(layout: hdf5.Layout) -> Make:
    def make(node: Array | Group, name: str) -> File:
        if isinstance(node, Array):
            return hdf5.array_file(node, name, layout)
        return hdf5.group_file(node, layout)

    return make


def _netcdf(layout: hdf5.Layout) -> Callable[[Array | Group], str | None]:
    def refuse(node: Array | Group) -> str | None:
        named = hdf5.is_netcdf(node)
        return hdf5.refuse(node, layout) if named else "its dimensions have no names"

    return refuse


def _ome_tiff(group: Group) -> str | None:
    return ometiff.refuse(group) if ometiff.is_image(group) else NOT_OF_GROUPS


def views(options: Options) -> tuple[View, ...]:
    """All views there are, as `options`, which `check` let pass, want them."""
    layout = _layout(options)
    no_hdf5, no_netcdf = partial(hdf5.refuse, layout=layout), _netcdf(layout)
    return (
        View(
            "chunks", "chunks", lambda array, name: chunks.ChunksDir(array), _of_fixed_size,
            remarks=chunks.remarks, kind=Kind.DIRECTORY,
        ),
        View("npy", "{}.npy", lambda array, name: npy.npy_file(array), _of_fixed_size),
        View("tiff", "tiff", _planes("yx"), _refuse_planes("yx"), kind=Kind.DIRECTORY),
        View(
            "tiff.xz", "tiff.xz", _planes("xz"), _refuse_planes("xz"), kind=Kind.DIRECTORY,
            listed=Listed.IF_NAMED,
        ),
        View(
            "tiff.yz", "tiff.yz", _planes("yz"), _refuse_planes("yz"), kind=Kind.DIRECTORY,
            listed=Listed.IF_NAMED,
        ),
        View("tif", "{}.tif", lambda array, name: stacks.imagej_file(array), stacks.refuse_imagej),
        View("btf", "{}.btf", lambda array, name: stacks.big_file(array), planes.refuse),
        View(
            "tiff", "crop", crop.CropDir, _refuse_planes("yx"), kind=Kind.DIRECTORY,
            listed=Listed.NEVER,
        ),
        View(
            "h5", "{}.h5", _hdf5(layout), no_hdf5, no_hdf5,
            remarks=partial(hdf5.remarks, layout=layout),
        ),
        View(
            "nc", "{}.nc", _hdf5(replace(layout, characters=True)), no_netcdf, no_netcdf,
        ),
        View(
            "ome.tif", "{}.ome.tif", ometiff.image_file,
            lambda array: NOT_OF_ARRAYS, _ome_tiff, remarks=ometiff.remarks,
        ),
    )  # fmt: skip


def _layout(options: Options) -> hdf5.Layout:
    promote = {"auto": None, "keep": False, "float32": True}[options.hdf5_float16]
    return hdf5.Layout(options.hdf5_index, options.hdf5_merge, promote)
