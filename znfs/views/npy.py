"""`NAME.npy`: the whole array in NumPy's format (numpy.lib.format, version 1.0 to 3.0)."""

from __future__ import annotations

import io

import numpy as np

from znfs.array import Array
from znfs.extents import Literal, Slab
from znfs.node import File


def npy_file(array: Array) -> File:
    """Header and the array in C order, little-endian."""
    meta = array.meta
    fields = {
        "descr": np.lib.format.dtype_to_descr(meta.dtype),
        "fortran_order": False,
        "shape": meta.shape,
    }
    header = io.BytesIO()
    try:
        np.lib.format.write_array_header_1_0(header, fields)
    except ValueError:  # names of fields beyond Latin-1, or a header of 64 KiB
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(header, fields)
    return File([Literal(header.getvalue()), Slab(array)], array.version, array.mtime)
