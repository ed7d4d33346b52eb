"""`crop/X,Y,W,H/`: the planes and the stack of an array, cut to a box, made up on demand.

The four numbers are a region of the IIIF Image API: column and row of the upper left corner, width
and height, in pixels. As there, a region that reaches beyond the image is cut at its edge, and one
that lies outside is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from znfs.arrays.array import Array
from znfs.node import File, Kind, Unlisted
from znfs.views.tiff import stacks
from znfs.views.tiff.axes import Box, yx
from znfs.views.tiff.planes import PlanesDir

_NUMBER = r"(0|[1-9][0-9]{0,18})"
_REGION = re.compile(",".join([_NUMBER] * 4), re.ASCII)


class CropDir(Unlisted):
    """The directory above all regions: none is listed, each is there."""

    def __init__(self, array: Array, name: str) -> None:
        self._array = array
        self._name = name
        self.version = array.version
        self.mtime = array.mtime

    def lookup(self, name: str) -> RegionDir | None:
        found = _REGION.fullmatch(name)
        if found is None:
            return None
        x, y, width, height = map(int, found.groups())
        box = Box.whole(self._array.meta)
        for d, start, length in zip(yx(self._array.meta), (y, x), (height, width), strict=True):
            left = min(length, box.shape[d] - start)
            if left <= 0:
                return None
            box = box.with_axis(d, start, left)
        return RegionDir(self._array, self._name, box)


class RegionDir:
    """The planes of `tiff/` cut to a box, and before them, of more than one plane, `NAME.tif`."""

    def __init__(self, array: Array, name: str, box: Box) -> None:
        self._array = array
        self._box = box
        self._planes = PlanesDir(array, name, box=box)
        has_stack = array.meta.ndim > 2 and stacks.refuse_imagej(array, box) is None
        self._stack_names = [f"{name}.tif"] if has_stack else []
        self.version = array.version
        self.mtime = array.mtime

    def names(self, start: int = 0) -> Iterator[str]:
        yield from islice(self._stack_names, start, None)
        yield from self._planes.names(max(0, start - len(self._stack_names)))

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return ((name, Kind.FILE) for name in self.names(start))

    def lookup(self, name: str) -> File | None:
        if name in self._stack_names:
            return stacks.imagej_file(self._array, self._box)
        return self._planes.lookup(name)
