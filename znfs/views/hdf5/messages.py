"""Object header version 1 and its messages (specification IV.A)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from znfs.meta import Shape
from znfs.views.hdf5.structures import align, pad8

DATASPACE, DATATYPE, FILL_VALUE, DATA_LAYOUT = 0x01, 0x03, 0x05, 0x08
ATTRIBUTE, SYMBOL_TABLE = 0x0C, 0x11

_CONSTANT = 1  # message flag: the message does not change

EARLY, LATE, INCREMENTAL = 1, 2, 3  # space allocation time
_IF_SET = 2  # fill value write time


@dataclass(frozen=True)
class Message:
    """A header message: its size is known when the file is planned, its bytes when it is placed."""

    kind: int
    size: int
    encode: Callable[[], bytes]
    flags: int = 0


def _fixed(kind: int, body: bytes, flags: int = 0) -> Message:
    return Message(kind, len(body), lambda: body, flags)


def dataspace_body(shape: Shape) -> bytes:
    """Dataspace message, version 1: a scalar for an empty shape; maximum sizes are the sizes."""
    return struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)


def dataspace(shape: Shape) -> Message:
    return _fixed(DATASPACE, dataspace_body(shape))


def datatype(body: bytes) -> Message:
    return _fixed(DATATYPE, body, _CONSTANT)


def fill_value(value: bytes, allocation: int) -> Message:
    """Fill Value message, version 2."""
    return _fixed(
        FILL_VALUE,
        struct.pack("<BBBBI", 2, allocation, _IF_SET, 1, len(value)) + value,
        _CONSTANT,
    )


def contiguous_layout(address: Callable[[], int], size: int) -> Message:
    """Data Layout message, version 3, class contiguous."""
    return Message(DATA_LAYOUT, 18, lambda: struct.pack("<BBQQ", 3, 1, address(), size))


def chunked_layout(address: Callable[[], int], chunk: Shape, itemsize: int) -> Message:
    """Data Layout message, version 3, class chunked: the address is the B-tree's."""
    dims = (*chunk, itemsize)
    return Message(
        DATA_LAYOUT,
        11 + 4 * len(dims),
        lambda: struct.pack(f"<BBBQ{len(dims)}I", 3, 2, len(dims), address(), *dims),
    )


def implicit_layout(address: Callable[[], int], chunk: Shape, itemsize: int) -> Message:
    """Data Layout message, version 4, class chunked, implicit index: the address is the data's."""
    dims = (*chunk, itemsize)
    implicit = 2
    width = (max(dims).bit_length() + 7) // 8  # HDF5 2.0 refuses more bytes than needed
    encoded = b"".join(n.to_bytes(width, "little") for n in dims)
    head = struct.pack("<BBBBB", 4, 2, 0, len(dims), width) + encoded + bytes([implicit])
    return Message(DATA_LAYOUT, len(head) + 8, lambda: head + struct.pack("<Q", address()))


def symbol_table(addresses: Callable[[], tuple[int, int]]) -> Message:
    """Symbol Table message: the addresses of the B-tree and of the local heap."""
    return Message(SYMBOL_TABLE, 16, lambda: struct.pack("<QQ", *addresses()))


def attribute(
    name: str, datatype: bytes, shape: Shape, data: bytes | Callable[[], bytes], size: int
) -> Message:
    """Attribute message: version 1, or version 3 if the name is not ASCII.

    `size` is that of the data.
    """
    space = dataspace_body(shape)
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    lengths = (len(encoded), len(datatype), len(space))
    if name.isascii():
        head = struct.pack("<BxHHH", 1, *lengths) + pad8(encoded) + pad8(datatype) + pad8(space)
    else:
        utf8 = 1
        head = struct.pack("<BBHHHB", 3, 0, *lengths, utf8) + encoded + datatype + space
    body = (lambda: head + data) if isinstance(data, bytes) else (lambda: head + data())
    return Message(ATTRIBUTE, len(head) + size, body)


class ObjectHeader:
    """Object header version 1, in one block.

    `size` is known at once; encode() after everything that messages refer to has its address.
    """

    PREFIX = 16
    MOST_MESSAGES = 0xFFFF

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self.size = self.PREFIX + sum(8 + align(m.size, 8) for m in messages)

    def encode(self) -> bytes:
        out = [
            struct.pack("<BxHII4x", 1, len(self._messages), 1, self.size - self.PREFIX),
        ]
        for message in self._messages:
            body = pad8(message.encode())
            out += [struct.pack("<HHB3x", message.kind, len(body), message.flags), body]
        return b"".join(out)
