"""`NAME.npy`: the whole array in NumPy's format (numpy.lib.format, version 1.0 to 3.0)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from znfs.arrays.array import Array
from znfs.arrays.extents import Literal, Slab
from znfs.node import File


def npy_file(array: Array) -> File:
    """Header and the array in C order, little-endian."""
    meta = array.meta
    fields = {
        "descr": np.lib.format.dtype_to_descr(meta.dtype),
        "fortran_order": False,
        "shape": meta.shape,
    }
    return File([Literal(_header(fields)), Slab(array)], array.version, array.mtime)


def _header(fields: dict[str, Any]) -> bytes:
    """In the oldest version that can say it, as NumPy has it."""
    header = io.BytesIO()
    try:
        np.lib.format.write_array_header_1_0(header, fields)
    except UnicodeEncodeError:  # names of fields beyond Latin-1
        return _header_3_0(fields)
    except ValueError:  # 64 KiB or more
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(header, fields)
    return header.getvalue()


def _header_3_0(fields: dict[str, Any]) -> bytes:
    """In UTF-8. NumPy writes that version only with the elements of an array."""
    text = repr(fields).encode()
    before = np.lib.format.magic(3, 0)
    length = len(text) + 1
    length += -(len(before) + 4 + length) % 64
    return before + length.to_bytes(4, "little") + text.ljust(length - 1) + b"\n"
