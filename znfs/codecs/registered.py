"""Array codecs of the registry of Zarr extensions: cast_value, scale_offset, reshape, squeeze,
packbits. (numcodecs' filters, packbits among them, are in filters.py.)

What a configuration says in terms of Zarr's data types, formats/zarr3.py has made numpy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from znfs.codecs.forms import ArrayForm, Buffer, BytesForm, Config, Form, Step, octets, shown
from znfs.errors import Unsupported

Values = np.ndarray[Any, Any]

_AT_ONCE = 1 << 16  # elements whose bits are unpacked together: each bit takes a byte


def _nearest_away(x: Values) -> Values:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1.0, x), whole)


_ROUNDINGS: dict[str, Callable[[Values], Values]] = {
    "nearest-even": np.rint,
    "towards-zero": np.trunc,
    "towards-positive": np.ceil,
    "towards-negative": np.floor,
    "nearest-away": _nearest_away,
}
_RANGES = ("error", "clamp", "wrap")


def prepare_cast_value(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """Stored as another type, `stored`, of the same values where it has them."""
    stored, decoded = config.get("stored"), form.dtype
    if not isinstance(stored, np.dtype) or stored.kind not in "iuf" or decoded.kind not in "iuf":
        raise Unsupported(f"cast_value: from {decoded} to {shown(config.get('data_type'))}")
    rounding = config.get("rounding", "nearest-even")
    beyond = config.get("out_of_range", "error")
    if not isinstance(rounding, str) or rounding not in _ROUNDINGS or beyond not in _RANGES:
        raise Unsupported(f"cast_value: rounding {shown(rounding)}, out_of_range {shown(beyond)}")
    cast = _to_integers if decoded.kind in "iu" else _to_floats

    def decode(data: Values) -> Values:
        return cast(data, decoded, _ROUNDINGS[rounding], beyond)

    return decode, ArrayForm(stored, form.shape)


def _to_floats(data: Values, dtype: np.dtype[Any], _: Any, beyond: str) -> Values:
    with np.errstate(over="ignore"):
        out = data.astype(dtype)
    lost = np.isinf(out) & np.isfinite(data)
    if lost.any():
        if beyond != "clamp":
            raise ValueError(f"holds values that are not in the range of {dtype}")
        out[lost] = np.copysign(np.finfo(dtype).max, data[lost])
    return out


def _to_integers(
    data: Values, dtype: np.dtype[Any], rounded: Callable[[Values], Values], beyond: str
) -> Values:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    if data.dtype.kind in "iu":
        info = np.iinfo(data.dtype)
        lo, hi = max(least, info.min), min(most, info.max)
        if beyond == "clamp":
            data = np.clip(data, lo, hi)
        elif beyond == "error" and data.size and not lo <= data.min() <= data.max() <= hi:
            raise ValueError(f"holds values that are not in the range of {dtype}")
        return data.astype(dtype)
    if np.isnan(data).any():
        raise ValueError(f"holds NaN, which {dtype} has not")
    whole = rounded(data.astype("f8"))
    above, below = whole >= float(most) + (most < 1 << 53), whole < float(least)
    if beyond == "wrap":
        if np.isinf(whole).any():
            raise ValueError(f"holds infinities, which {dtype} has not")
        # Of the amount: what -1 leaves of 2^64 is no float, and the next is 2^64 itself.
        amount = np.mod(np.abs(whole), 2.0 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}")
        return np.where(whole < 0, np.negative(amount), amount).view(dtype.newbyteorder("="))
    outside = above | below
    if beyond == "error" and outside.any():
        raise ValueError(f"holds values that are not in the range of {dtype}")
    out = np.where(outside, 0, whole).astype(dtype)
    out[above], out[below] = most, least
    return out


def prepare_scale_offset(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """Stored as (value - offset) * scale, in the array's own type."""
    scale, offset = config.get("scale"), config.get("offset")
    if form.dtype.kind not in "fc":
        # What division means where it leaves a rest is not said.
        raise Unsupported(f"scale_offset: applied to {form.dtype}; znfs reads it of floats")
    if not isinstance(scale, np.generic) or not isinstance(offset, np.generic):
        raise Unsupported(f"scale_offset: scale {shown(scale)}, offset {shown(offset)}")
    if not scale:
        raise Unsupported("scale_offset: scale is 0")

    def decode(data: Values) -> Values:
        with np.errstate(all="ignore"):
            return np.asarray(data / scale + offset).astype(form.dtype, copy=False)

    return decode, form


def prepare_reshape(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """Another shape of the same elements in C order. Parts of `shape`: an extent, -1 for what is
    left, or a list of the array's axes that become one."""
    wanted = config.get("shape")
    if not isinstance(wanted, list) or len(wanted) > 32:
        raise Unsupported(f"reshape: shape {shown(wanted)}")
    shape: list[int] = []
    used: list[int] = []
    for part in wanted:
        if isinstance(part, list) and all(type(k) is int for k in part):
            if any(not 0 <= k < len(form.shape) for k in part):
                raise Unsupported(f"reshape: no axes {shown(part)}")
            used += part
            shape.append(prod(form.shape[k] for k in part))
        elif type(part) is int and (part > 0 or (part == -1 and -1 not in shape)):
            shape.append(part)
        else:
            raise Unsupported(f"reshape: shape {shown(wanted)}")
    if used != sorted(set(used)):
        raise Unsupported(f"reshape: axes {shown(used)} are not in order")
    count = prod(form.shape)
    if -1 in shape:
        rest = -prod(shape)
        shape[shape.index(-1)] = count // rest if rest else 0
    if prod(shape) != count:
        raise Unsupported(f"reshape: {form.shape} does not become {tuple(shape)}")
    return _reshaped(form, tuple(shape))


def prepare_squeeze(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """Without the axes whose extent is 1."""
    return _reshaped(form, tuple(n for n in form.shape if n != 1))


def _reshaped(form: ArrayForm, shape: tuple[int, ...]) -> tuple[Step, Form]:
    return lambda data: data.reshape(form.shape), replace(form, shape=shape)


def prepare_packed_bits(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """`packbits`: the bits first_bit to last_bit of each number, without gaps, the least first.

    `bits` is the number of bits of a type that numpy lacks, `signed` whether it has a sign.
    """
    kind, parts = form.dtype.kind, 2 if form.dtype.kind == "c" else 1
    if kind not in "biufc":
        raise Unsupported(f"packbits: cannot be applied to {form.dtype}")
    width = form.dtype.itemsize // parts
    bits = config.get("bits", 1 if kind == "b" else 8 * width)
    first, last = config.get("first_bit"), config.get("last_bit")
    first, last = 0 if first is None else first, bits - 1 if last is None else last
    if type(first) is not int or type(last) is not int or not 0 <= first <= last < bits:
        raise Unsupported(f"packbits: bits {shown(first)} to {shown(last)} of {bits}")
    padding = config.get("padding_encoding", "none")
    if padding not in ("none", "first_byte", "last_byte"):
        raise Unsupported(f"packbits: padding_encoding {shown(padding)}")
    signed = config.get("signed", kind == "i")
    count, each = prod(form.shape) * parts, last - first + 1
    size = -(-count * each // 8)

    def unpacked(raw: Values, n: int) -> Values:
        full = np.zeros((n, 8 * width), np.uint8)
        found = np.unpackbits(raw, count=n * each, bitorder="little").reshape(n, each)
        full[:, first : last + 1] = found
        if signed:
            full[:, last + 1 : bits] = found[:, -1:]
        return np.packbits(full, axis=1, bitorder="little")

    def decode(data: Buffer) -> Values:
        raw = octets(data)
        if raw.nbytes != size + (padding != "none"):
            raise ValueError(f"has {raw.nbytes} bytes where {size} belong")
        if padding != "none":
            said = raw[0] if padding == "first_byte" else raw[-1]
            raw = raw[1:] if padding == "first_byte" else raw[:-1]
            if said != size * 8 - count * each:
                raise ValueError(f"has {said} bits of padding where others belong")
        out = np.empty((count, width), np.uint8)
        step = _AT_ONCE * each // 8
        for k, at in enumerate(range(0, count, _AT_ONCE)):
            n = min(_AT_ONCE, count - at)
            out[at : at + n] = unpacked(raw[k * step : (k + 1) * step], n)
        flat: Values = out.reshape(-1).view(form.dtype.newbyteorder("<"))
        return flat.reshape(form.shape)

    return decode, BytesForm(size + (padding != "none"), size + (padding != "none"))
