"""N5's block: a big-endian header, then the compressed elements, first axis fastest.

Header (N5 specification, version 4): mode as uint16, then for modes 0 (default) and 1 (varlength)
the number of dimensions as uint16 and each size as uint32; for modes 1 and 2 (object) the number
of elements as uint32. A block at the edge may hold fewer elements than the block size.
"""

from __future__ import annotations

import contextlib
import struct
from math import prod
from typing import Any

import numpy as np
import xxhash

from znfs.cache import memory
from znfs.codecs.forms import ArrayForm, Buffer, BytesForm, Config, Form, Step, octets
from znfs.codecs.native import numcodecs
from znfs.errors import Unsupported

DEFAULT, VARLENGTH, OBJECT = 0, 1, 2
_LZ4_MAGIC = b"LZ4Block"
_LZ4_HEADER = struct.Struct("<BiiI")  # token, compressed size, size, checksum
_LZ4_STORED, _LZ4_PACKED = 0x10, 0x20
_LZ4_SEED = 0x9747B28C


def parse_header(raw: np.ndarray[Any, Any], rank: int) -> tuple[tuple[int, ...], int]:
    """The block's shape, slowest axis first, and where its elements begin. Raises ValueError."""
    head = raw[: 8 + 4 * rank].tobytes()
    if len(head) < 4:
        raise ValueError("ends within its header")
    mode, count = struct.unpack_from(">HH", head)
    if mode not in (DEFAULT, VARLENGTH):
        raise ValueError("is a block of serialised objects" if mode == OBJECT else f"mode {mode}")
    if count != rank:
        raise ValueError(f"has {count} dimensions where the array has {rank}")
    start = 4 + 4 * rank + (4 if mode == VARLENGTH else 0)
    if len(head) < start:
        raise ValueError("ends within its header")
    sizes = struct.unpack_from(f">{rank}I", head, 4)
    if mode == VARLENGTH:
        (elements,) = struct.unpack_from(">I", head, 4 + 4 * rank)
        if elements != prod(sizes):
            raise ValueError(f"is of variable length: {elements} elements for a shape of {sizes}")
    return sizes[::-1], start


def decode_lz4(raw: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The framings in use: lz4-java's block stream (n5-java), one bare LZ4 block (z5).

    zarr 2 wrote numcodecs' own, a bare block behind its size.
    """
    if raw[:8].tobytes() == _LZ4_MAGIC:
        return _decode_lz4_java(raw, size)
    out = memory.empty(size)
    header = struct.pack("<I", size)
    if raw[:4].tobytes() == header:
        # Tried first: as a bare block this may decode too, to something else.
        with contextlib.suppress(RuntimeError):
            numcodecs("lz4").decompress(raw, out)
            return out
    numcodecs("lz4").decompress(header + raw.tobytes(), out)
    return out


def _decode_lz4_java(raw: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """LZ4BlockOutputStream of lz4-java: blocks with size and xxHash32, an empty one at the end."""
    out = memory.empty(size)
    at = done = 0
    while True:
        data = at + len(_LZ4_MAGIC) + _LZ4_HEADER.size
        if data > raw.nbytes:
            if at == raw.nbytes and done == size:  # written without finish(): no last block
                return out
            raise ValueError("ends early")
        if raw[at : at + 8].tobytes() != _LZ4_MAGIC:
            raise ValueError("has something else where an LZ4 block belongs")
        token, packed, plain, check = _LZ4_HEADER.unpack(raw[at + 8 : data].tobytes())
        if packed < 0 or plain < 0 or done + plain > size or data + packed > raw.nbytes:
            raise ValueError("has an LZ4 block of impossible size")
        if plain == 0:
            if done != size or data + packed != raw.nbytes:
                raise ValueError(f"decodes to {done} bytes where {size} belong")
            return out
        part, source = out[done : done + plain], raw[data : data + packed]
        if token & 0xF0 == _LZ4_STORED and packed == plain:
            part[...] = source
        elif token & 0xF0 == _LZ4_PACKED:
            numcodecs("lz4").decompress(struct.pack("<I", plain) + source.tobytes(), part)
        else:
            raise ValueError(f"has an LZ4 block of unknown method {token:#x}")
        if xxhash.xxh32_intdigest(part.data, _LZ4_SEED) & 0x0FFFFFFF != check:
            raise ValueError("has an LZ4 block whose checksum does not match")
        done += plain
        at = data + packed


def prepare_n5_lz4(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """LZ4 as N5 has it. The size must be known, as it always is in an N5 block."""
    size = form.limit if form.size is None else form.size
    return lambda data: decode_lz4(octets(data), size), form.encoded()


def block_decoder(form: ArrayForm, decompress: Any) -> tuple[Step, Form]:
    """The decoder of a whole block. `decompress(size)` gives the step that yields `size` bytes."""
    if form.fill is None:
        raise Unsupported("n5_block: what a block lacks is unknown behind a codec of values")
    stored = form.dtype.newbyteorder(">")
    full = decompress(form.nbytes)
    padding = np.frombuffer(form.fill, form.dtype)[0]

    def decode(data: Buffer) -> np.ndarray[Any, Any]:
        raw = octets(data)
        shape, start = parse_header(raw, len(form.shape))
        if any(n > m for n, m in zip(shape, form.shape, strict=True)):
            raise ValueError(f"has shape {shape}, more than the block size {form.shape}")
        nbytes = prod(shape) * stored.itemsize
        step = full if nbytes == form.nbytes else decompress(nbytes)
        part = octets(step(raw[start:])).view(stored).reshape(shape)
        if shape == form.shape:
            return part.astype(form.dtype, copy=False)
        out = np.full(form.shape, padding, form.dtype)
        out[tuple(slice(n) for n in shape)] = part
        return out

    header = 8 + 4 * len(form.shape)
    return decode, BytesForm(None, BytesForm(None, form.nbytes).encoded().limit + header)
