"""What goes into and comes out of one codec of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from znfs.meta import Shape, brief

Buffer = (
    bytes | bytearray | memoryview | np.ndarray[Any, Any]
)  # arrays of bytes are 1-D, contiguous uint8
Config = Mapping[str, Any]

# What a codec's library raises for data it cannot decode. Anything else is a defect of znfs.
FAILURES: tuple[type[Exception], ...] = (
    ValueError,  # numpy, base64, numcodecs; binascii.Error is one
    RuntimeError,  # numcodecs' C codecs
    TypeError,
    EOFError,
    OSError,  # bz2
    IndexError,
    OverflowError,
    BufferError,
)


@dataclass(frozen=True)
class ArrayForm:
    """An array: the side of a codec that faces the array.

    `fill` is one element, for parts that are not stored; None behind a codec that changes values,
    where nobody knows it. `most` is what elements of variable length may take together, in bytes.
    """

    dtype: np.dtype[Any]
    shape: Shape
    fill: bytes | None = None
    most: int = 0

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class BytesForm:
    """Bytes: exactly `size` of them where the metadata says so, in any case at most `limit`.

    `hint` tells people what sets the limit.
    """

    size: int | None
    limit: int
    hint: str = ""

    def encoded(self) -> BytesForm:
        """The form after a compressor: what cannot be compressed grows a little."""
        return BytesForm(None, self.limit + self.limit // 8 + 4096)

    def grown(self, count: int) -> BytesForm:
        """The form after a codec that adds `count` bytes (a checksum)."""
        return BytesForm(None if self.size is None else self.size + count, self.limit + count)


Form = ArrayForm | BytesForm
Step = Callable[[Any], Any]  # decodes: from the codec's encoded side to its decoded side
Prepare = Callable[[Config, Any], tuple[Step, Form]]


def octets(data: Buffer) -> np.ndarray[Any, Any]:
    """`data` as a 1-D array of uint8, not copied where it is contiguous."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def shown(value: Any) -> str:
    """`value` for a message: never longer than a line."""
    return brief(repr(value))


def check_size(have: int, form: BytesForm) -> None:
    """Raise ValueError unless `have` bytes are what the metadata declares."""
    if form.size is not None and have != form.size:
        raise ValueError(f"decodes to {have} bytes where {form.size} belong")
    if have > form.limit:
        raise too_much(form)


def too_much(form: BytesForm) -> ValueError:
    """The error of data that decodes to more than the metadata declares."""
    most = form.limit if form.size is None else form.size
    return ValueError(f"decodes to more than the {most} bytes there may be{form.hint}")
