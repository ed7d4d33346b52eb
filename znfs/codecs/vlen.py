"""Elements of variable length: the codecs `vlen-utf8` and `vlen-bytes`, and the blocks they make.

A chunk is the number of its elements, then of each its length and its bytes; numbers are 32-bit
and little-endian (numcodecs, `vlen`; the codecs of these names in the registry of Zarr v3). Within
a chain the elements are an array of Python's bytes; a block holds them packed, so that what a cache
counts is what they take.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from znfs.cache import memory
from znfs.codecs.forms import (
    ArrayForm,
    Buffer,
    BytesForm,
    Config,
    Form,
    Prepare,
    Step,
    check_size,
    octets,
)
from znfs.codecs.native import numcodecs
from znfs.errors import Unsupported
from znfs.meta import VARIABLE_BYTES, VARIABLE_TEXT, type_name

WORD = 8  # elements begin at multiples of so many bytes, as in HDF5's heap, which takes them so
_PADDING = [bytes(n) for n in range(WORD)]


class Packed:
    """The elements of a block, in C order.

    `starts` (count + 1) are in words of 8 bytes; `lengths` (count) in bytes; `words` are all
    elements, each with zeros up to the next word.
    """

    def __init__(self, block: np.ndarray[Any, Any], count: int) -> None:
        at = WORD * (count + 1)
        self.starts = block[:at].view("<u8")
        self.lengths = block[at : at + 4 * count].view("<u4")
        self.words = block[at + _aligned(4 * count) :].view("<u8")


def pack(items: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A block, as 1-D uint8, of an array of bytes objects of any shape."""
    flat = items.reshape(-1).tolist()
    count = len(flat)
    lengths = np.fromiter(map(len, flat), np.uint32, count)
    starts = np.zeros(count + 1, np.uint64)
    np.cumsum(-(-lengths.astype(np.int64) // WORD), out=starts[1:])
    parts = [b""] * (2 * count)
    parts[::2] = flat
    parts[1::2] = map(_PADDING.__getitem__, (-lengths.astype(np.int64) % WORD).tolist())
    at = WORD * (count + 1)
    data_at = at + _aligned(4 * count)
    block = memory.empty(data_at + WORD * int(starts[-1]))
    block[:at] = starts.view(np.uint8)
    block[at : at + 4 * count] = lengths.view(np.uint8)
    block[at + 4 * count : data_at] = 0
    block[data_at:] = np.frombuffer(b"".join(parts), np.uint8)
    return block


def _aligned(nbytes: int) -> int:
    return -(-nbytes // WORD) * WORD


def _prepare(name: str, dtype: np.dtype[Any]) -> Prepare:
    def prepare(config: Config, form: ArrayForm) -> tuple[Step, Form]:
        if form.dtype != dtype:
            raise Unsupported(f"{name} is not for elements of type {type_name(form.dtype)}")
        count = form.count
        plain = BytesForm(None, 4 + 4 * count + form.most, " (--string-bytes sets it)")

        def decode(data: Buffer) -> np.ndarray[Any, Any]:
            raw = octets(data)
            check_size(raw.nbytes, plain)
            if raw.nbytes < 4:
                raise ValueError("ends early")
            if (claimed := int(raw[:4].view("<u4")[0])) != count:
                raise ValueError(f"holds {claimed} elements where {count} belong")
            items: np.ndarray[Any, Any] = numcodecs("vlen").VLenBytes().decode(raw)
            joined = b"".join(items)
            if 4 + 4 * count + len(joined) != raw.nbytes:
                raise ValueError("has more bytes than its elements")
            if dtype == VARIABLE_TEXT and not joined.isascii():
                for item in items:
                    item.decode()  # raises UnicodeDecodeError, a ValueError
            return items.reshape(form.shape)

        return decode, plain

    return prepare


prepare_utf8 = _prepare("vlen-utf8", VARIABLE_TEXT)
prepare_bytes = _prepare("vlen-bytes", VARIABLE_BYTES)
