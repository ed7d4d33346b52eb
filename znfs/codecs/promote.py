"""Elements that numpy has no type for: decoded as the next larger type that holds them exactly.

A Zarr v3 `bfloat16` or `float8_*` becomes float32, a 2- or 4-bit integer (a byte each in the
store) int8 or uint8. Every value is kept.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from znfs.codecs.forms import ArrayForm, Config, Form, Step, shown
from znfs.errors import Unsupported

DType = np.dtype[Any]

# name in Zarr v3: type in ml_dtypes, type of decoded blocks
SMALL: dict[str, tuple[DType, DType]] = {
    name: (np.dtype(getattr(ml_dtypes, name)), np.dtype(decoded))
    for name, decoded in (
        ("bfloat16", "<f4"),
        ("float8_e3m4", "<f4"),
        ("float8_e4m3", "<f4"),
        ("float8_e4m3b11fnuz", "<f4"),
        ("float8_e4m3fn", "<f4"),
        ("float8_e4m3fnuz", "<f4"),
        ("float8_e5m2", "<f4"),
        ("float8_e5m2fnuz", "<f4"),
        ("float8_e8m0fnu", "<f4"),
        ("float6_e2m3fn", "<f4"),
        ("float6_e3m2fn", "<f4"),
        ("float4_e2m1fn", "<f4"),
        ("int2", "i1"),
        ("int4", "i1"),
        ("uint2", "u1"),
        ("uint4", "u1"),
    )
}
_BITS = {"int2": 2, "int4": 4, "uint2": 2, "uint4": 4, "float4_e2m1fn": 4}
_BITS |= {"float6_e2m3fn": 6, "float6_e3m2fn": 6}


def widen(name: str, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values of `stored`, which holds a small type's bits as unsigned integers."""
    small, decoded = SMALL[name]
    if small.itemsize == 2:
        return stored.view(small).astype(decoded)
    every = np.arange(256, dtype=np.uint8)
    if name in _BITS:
        every &= (1 << _BITS[name]) - 1  # the others are padding
    table: np.ndarray[Any, Any] = every.view(small).astype(decoded)
    return np.asarray(table[stored])


def prepare_promote(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """`from`: the name of the small type. What is encoded are its bits."""
    name = config.get("from")
    if name not in SMALL or SMALL[name][1] != form.dtype:
        raise Unsupported(f"promote: {shown(name)} does not become {form.dtype}")
    bits = np.dtype(f"<u{SMALL[name][0].itemsize}")
    return lambda data: widen(name, np.ascontiguousarray(data)), ArrayForm(bits, form.shape)
