"""pcodec, if its library is installed (`znfs[pcodec]`): the standalone format of pco."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from znfs.cache import memory
from znfs.codecs.forms import ArrayForm, Buffer, BytesForm, Config, Form, Step, octets
from znfs.errors import Unsupported

INSTALLED = find_spec("pcodec") is not None
_TYPES = ("<f4", "<u2", "<f8", "<i2", "<i4", "<u4", "<i8", "<u8", "<f2")


def prepare_pcodec(config: Config, form: ArrayForm | BytesForm) -> tuple[Step, Form]:
    """Numbers of a type that the data itself names; as bytes (Zarr v2) any that fills the chunk."""
    if isinstance(form, ArrayForm):
        dtype = form.dtype
        if dtype.str not in _TYPES:
            raise Unsupported(f"pcodec: cannot be applied to {dtype}")
        shape, count = form.shape, form.nbytes // dtype.itemsize

        def decode_array(data: Buffer) -> np.ndarray[Any, Any]:
            return _decompress(octets(data).tobytes(), dtype, count).reshape(shape)

        return decode_array, BytesForm(form.nbytes, form.nbytes).encoded()
    size = form.size
    if size is None:
        raise Unsupported("pcodec: before a codec whose output has no fixed size")

    def decode(data: Buffer) -> Buffer:
        raw = octets(data).tobytes()
        failure: Exception = ValueError("no whole number of elements")
        for name in _TYPES:
            dtype = np.dtype(name)
            if size % dtype.itemsize == 0:
                try:
                    return octets(_decompress(raw, dtype, size // dtype.itemsize))
                except (RuntimeError, TypeError) as error:  # also for numbers of another type
                    failure = error
        raise failure

    return decode, form.encoded()


def _decompress(data: bytes, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """Exactly `count` numbers. Raises ValueError, RuntimeError."""
    from pcodec import standalone

    out = memory.array((count,), dtype)
    try:
        done = standalone.simple_decompress_into(data, out)
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust; no subclass of Exception
            raise ValueError("damaged") from None
        raise
    if done.n_processed != count or not done.finished:
        raise ValueError(f"decodes to {done.n_processed} numbers where {count} belong")
    return out
