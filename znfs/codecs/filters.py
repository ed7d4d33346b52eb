"""numcodecs' filters. Zarr v2 applies them to bytes, Zarr v3 (`numcodecs.*`) to arrays.

In both the elements are taken in C order of what is encoded; so each filter is one function on a
1-D array, and a table says which types it maps between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np

from znfs.cache import memory
from znfs.codecs.forms import (
    ArrayForm,
    Buffer,
    BytesForm,
    Config,
    Form,
    Step,
    check_size,
    octets,
    shown,
)
from znfs.errors import Unsupported

Flat = np.ndarray[Any, Any]
DType = np.dtype[Any]
_MAX_LABELS = 1 << 16


@dataclass(frozen=True)
class Filter:
    """A filter with its configuration: types on either side, and how to undo it."""

    decoded: DType
    encoded: DType
    undo: Callable[[Flat], Flat]


def read_dtype(name: str, value: Any, kinds: str) -> DType:
    """A dtype of a filter's configuration, of one of `kinds`. Raises Unsupported."""
    try:
        dtype: DType = np.dtype(value)
    except (TypeError, ValueError, SyntaxError, KeyError):
        raise Unsupported(f"{name}: no data type {shown(value)}") from None
    if value is None or dtype.kind not in kinds or not dtype.itemsize:
        raise Unsupported(f"{name}: cannot be applied to {shown(value)}")
    return dtype


def _types(name: str, config: Config, given: DType | None, kinds: str) -> tuple[DType, DType]:
    decoded = read_dtype(name, config.get("dtype", given), kinds)
    encoded = config.get("astype")
    return decoded, decoded if encoded is None else read_dtype(name, encoded, kinds)


def _number(name: str, config: Config, key: str) -> int | float:
    value = config.get(key)
    if isinstance(value, (int, float)) and isfinite(value):
        return value
    raise Unsupported(f"{name}: {key} is {shown(value)}")


def delta(config: Config, given: DType | None) -> Filter:
    """Differences of neighbours; the first element is stored as it is."""
    decoded, encoded = _types("delta", config, given, "iufcmMb")

    def undo(data: Flat) -> Flat:
        out = memory.array(data.shape, decoded)
        np.cumsum(data, out=out)
        return out

    return Filter(decoded, encoded, undo)


def fixedscaleoffset(config: Config, given: DType | None) -> Filter:
    """Integers n for values n / scale + offset."""
    decoded, encoded = _types("fixedscaleoffset", config, given, "iufc")
    scale = _number("fixedscaleoffset", config, "scale")
    offset = _number("fixedscaleoffset", config, "offset")
    if not scale:
        raise Unsupported("fixedscaleoffset: scale is 0")
    return Filter(
        decoded, encoded, lambda data: (data / scale + offset).astype(decoded, copy=False)
    )


def quantize(config: Config, given: DType | None) -> Filter:
    """Rounded to some decimal digits: only the type may differ."""
    decoded, encoded = _types("quantize", config, given, "f")
    return Filter(decoded, encoded, lambda data: data.astype(decoded, copy=False))


def astype(config: Config, given: DType | None) -> Filter:
    """Stored as another type."""
    kinds = "biufcmMSU"
    decoded = read_dtype("astype", config.get("decode_dtype", given), kinds)
    encoded = read_dtype("astype", config.get("encode_dtype"), kinds)
    return Filter(decoded, encoded, lambda data: data.astype(decoded))


def categorize(config: Config, given: DType | None) -> Filter:
    """Numbers for strings: label k is stored as k + 1, anything else as 0."""
    decoded = read_dtype("categorize", config.get("dtype", given), "U")
    encoded = read_dtype("categorize", config.get("astype", "u1"), "iu")
    labels = config.get("labels")
    if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
        raise Unsupported("categorize: labels are no list of strings")
    if len(labels) > _MAX_LABELS:
        raise Unsupported(f"categorize: more than {_MAX_LABELS} labels")
    table = np.array(["", *labels], decoded)

    def undo(data: Flat) -> Flat:
        known = (data >= 0) & (data <= len(labels))
        return table[np.where(known, data, 0)]

    return Filter(decoded, encoded, undo)


FILTERS: dict[str, Callable[[Config, DType | None], Filter]] = {
    "delta": delta,
    "fixedscaleoffset": fixedscaleoffset,
    "quantize": quantize,
    "astype": astype,
    "categorize": categorize,
}


def prepare_filter(name: str) -> Callable[[Config, Form], tuple[Step, Form]]:
    """The table entry of a filter, for bytes (Zarr v2) and for arrays (Zarr v3)."""

    def prepare(config: Config, form: Form) -> tuple[Step, Form]:
        given = form.dtype if isinstance(form, ArrayForm) else None
        f = FILTERS[name](config, given)
        if isinstance(form, ArrayForm):
            return _on_array(name, f, form)
        return _on_bytes(f, form)

    return prepare


def _on_array(name: str, f: Filter, form: ArrayForm) -> tuple[Step, Form]:
    if f.decoded.newbyteorder("=") != form.dtype.newbyteorder("="):
        raise Unsupported(f"{name}: yields {f.decoded} where {form.dtype} belongs")
    native = Filter(f.decoded, f.encoded.newbyteorder("<"), f.undo)

    def decode(data: Flat) -> Flat:
        flat = np.ascontiguousarray(data).reshape(-1)
        return native.undo(flat).astype(form.dtype, copy=False).reshape(form.shape)

    return decode, ArrayForm(native.encoded, form.shape)


def _on_bytes(f: Filter, form: BytesForm) -> tuple[Step, Form]:
    def scaled(nbytes: int) -> int:
        return -(-nbytes // f.decoded.itemsize) * f.encoded.itemsize

    after = BytesForm(None if form.size is None else scaled(form.size), scaled(form.limit))

    def decode(data: Buffer) -> Flat:
        raw = octets(data)
        check_size(raw.nbytes, after)
        return octets(f.undo(raw.view(f.encoded)).astype(f.decoded, copy=False))

    return decode, after


def prepare_bitround(config: Config, form: Form) -> tuple[Step, Form]:
    """Rounded mantissas: the bits are stored as they are."""
    return lambda data: data, form


def prepare_packbits(config: Config, form: Form) -> tuple[Step, Form]:
    """Booleans as bits, behind a byte that counts the bits of padding."""
    size = form.size if isinstance(form, BytesForm) else prod(form.shape)
    limit = form.limit if isinstance(form, BytesForm) else prod(form.shape)
    if isinstance(form, ArrayForm) and form.dtype != np.bool_:
        raise Unsupported(f"packbits: cannot be applied to {form.dtype}")

    def decode(data: Any) -> Any:
        packed = octets(data)
        if not packed.size or packed[0] > 7:
            raise ValueError("has no count of padding bits")
        count = (packed.size - 1) * 8 - int(packed[0])
        if count < 0 or count > limit or size not in (None, count):
            raise ValueError(f"holds {count} values where {size} belong")
        flat = np.unpackbits(packed[1:], count=count)
        if isinstance(form, ArrayForm):
            return flat.view(np.bool_).reshape(form.shape)
        return flat

    if isinstance(form, ArrayForm):
        return decode, ArrayForm(np.dtype("u1"), (-(-limit // 8) + 1,))
    return decode, BytesForm(None if size is None else -(-size // 8) + 1, -(-limit // 8) + 1)
