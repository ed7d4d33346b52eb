"""Elements that numpy has no type for: decoded as the next larger type that holds them exactly.

A Zarr v3 `bfloat16` or `float8_*` becomes float32, a 2- or 4-bit integer (a byte each in the
store) int8 or uint8. Every value is kept.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from znfs.codecs.forms import ArrayForm, Config, Form, Step, shown
from znfs.errors import Unsupported

DType = np.dtype[Any]

# name in Zarr v3: unsigned integer of as many bits in the store, type of decoded blocks
SMALL: dict[str, tuple[DType, DType]] = {
    "bfloat16": (np.dtype("<u2"), np.dtype("<f4")),
    **{
        name: (np.dtype("u1"), np.dtype("<f4"))
        for name in (
            "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn",
            "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
            "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn",
        )
    },
    **{name: (np.dtype("u1"), np.dtype("i1")) for name in ("int2", "int4")},
    **{name: (np.dtype("u1"), np.dtype("u1")) for name in ("uint2", "uint4")},
}  # fmt: skip
_BITS = {"int2": 2, "int4": 4, "uint2": 2, "uint4": 4, "float4_e2m1fn": 4}
_BITS |= {"float6_e2m3fn": 6, "float6_e3m2fn": 6}


def bits_of(name: str) -> int:
    """How many bits a small type has."""
    return _BITS.get(name, 8 * SMALL[name][0].itemsize)


@cache
def small(name: str) -> DType:
    """The type itself, which ml_dtypes has; few arrays need it."""
    import ml_dtypes

    found: DType = np.dtype(getattr(ml_dtypes, name))
    return found


def widen(name: str, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values of `stored`, which holds a small type's bits as unsigned integers."""
    bits, decoded = SMALL[name]
    if bits.itemsize == 2:
        return stored.view(small(name)).astype(decoded)
    every = np.arange(256, dtype=np.uint8)
    if name in _BITS:
        every &= (1 << _BITS[name]) - 1  # the others are padding
    table: np.ndarray[Any, Any] = every.view(small(name)).astype(decoded)
    return np.asarray(table[stored])


def prepare_promote(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """`from`: the name of the small type. What is encoded are its bits."""
    name = config.get("from")
    if name not in SMALL or SMALL[name][1] != form.dtype:
        raise Unsupported(f"promote: {shown(name)} does not become {form.dtype}")
    bits = ArrayForm(SMALL[name][0], form.shape)
    return lambda data: widen(name, np.ascontiguousarray(data)), bits
