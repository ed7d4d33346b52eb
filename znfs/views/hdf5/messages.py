"""Object header version 1 and its messages (specification IV.A)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from znfs.meta import Shape
from znfs.views.hdf5.structures import MAX_MESSAGE, Late, late_address, pad8

DATASPACE, DATATYPE, FILL_VALUE, DATA_LAYOUT = 0x01, 0x03, 0x05, 0x08
ATTRIBUTE, SYMBOL_TABLE = 0x0C, 0x11

_CONSTANT = 1  # message flag: the message does not change

EARLY, LATE, INCREMENTAL = 1, 2, 3  # space allocation time
_IF_SET = 2  # fill value write time
MOST_FILL = MAX_MESSAGE - 8  # bytes of a fill value


@dataclass(frozen=True)
class Message:
    """A header message. `late` bytes, each with its offset, replace those of the body when the
    header is encoded."""

    kind: int
    body: bytes
    flags: int = 0
    late: tuple[tuple[int, Late], ...] = ()


def dataspace_body(shape: Shape) -> bytes:
    """Dataspace message, version 1: a scalar for an empty shape; maximum sizes are the sizes."""
    return struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)


def dataspace(shape: Shape) -> Message:
    return Message(DATASPACE, dataspace_body(shape))


def datatype(body: bytes) -> Message:
    return Message(DATATYPE, body, _CONSTANT)


def fill_value(value: bytes, allocation: int) -> Message:
    """Fill Value message, version 2."""
    if not any(value):
        # HDF5's default. One that is written is what netCDF-Java takes for missing, and because of
        # it netCDF4-python masks NetCDF's own for bytes: 255.
        value = b""
    return Message(
        FILL_VALUE,
        struct.pack("<BBBBI", 2, allocation, _IF_SET, 1, len(value)) + value,
        _CONSTANT,
    )


def contiguous_layout(address: Callable[[], int], size: int) -> Message:
    """Data Layout message, version 3, class contiguous."""
    body = struct.pack("<BBQQ", 3, 1, 0, size)
    return Message(DATA_LAYOUT, body, late=((2, late_address(address)),))


def chunked_layout(address: Callable[[], int], chunk: Shape, itemsize: int) -> Message:
    """Data Layout message, version 3, class chunked: the address is the B-tree's."""
    dims = (*chunk, itemsize)
    body = struct.pack(f"<BBBQ{len(dims)}I", 3, 2, len(dims), 0, *dims)
    return Message(DATA_LAYOUT, body, late=((3, late_address(address)),))


def implicit_layout(address: Callable[[], int], chunk: Shape, itemsize: int) -> Message:
    """Data Layout message, version 4, class chunked, implicit index: the address is the data's."""
    dims = (*chunk, itemsize)
    implicit = 2
    width = (max(dims).bit_length() + 7) // 8  # HDF5 2.0 refuses more bytes than needed
    encoded = b"".join(n.to_bytes(width, "little") for n in dims)
    head = struct.pack("<BBBBB", 4, 2, 0, len(dims), width) + encoded + bytes([implicit])
    return Message(DATA_LAYOUT, head + bytes(8), late=((len(head), late_address(address)),))


def symbol_table(addresses: Callable[[], tuple[int, int]]) -> Message:
    """Symbol Table message: the addresses of the B-tree and of the local heap."""
    return Message(SYMBOL_TABLE, bytes(16), late=((0, lambda: struct.pack("<QQ", *addresses())),))


def attribute(name: str, datatype: bytes, shape: Shape, data: bytes | Late, size: int) -> Message:
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
    if isinstance(data, bytes):
        return Message(ATTRIBUTE, head + data)
    return Message(ATTRIBUTE, head + bytes(size), late=((len(head), data),))


class ObjectHeader:
    """Object header version 1, in one block.

    `size` is known at once; encode() after everything that messages refer to has its address.
    """

    PREFIX = 16
    MOST_MESSAGES = 0xFFFF

    def __init__(self, messages: Sequence[Message]) -> None:
        out = bytearray(self.PREFIX)
        self._late: list[tuple[int, Late]] = []
        for message in messages:
            body = pad8(message.body)
            out += struct.pack("<HHB3x", message.kind, len(body), message.flags)
            self._late += [(len(out) + at, data) for at, data in message.late]
            out += body
        struct.pack_into("<BxHII", out, 0, 1, len(messages), 1, len(out) - self.PREFIX)
        self._bytes = out
        self.size = len(out)

    def encode(self) -> bytes:
        for at, data in self._late:
            late = data()
            self._bytes[at : at + len(late)] = late
        return bytes(self._bytes)
