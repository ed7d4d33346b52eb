"""Bytes-to-bytes compressors. Each decodes at most the declared size, whatever the data says.

A table entry takes the configuration and the form of what was compressed, and gives the function
that decompresses. Where the size is known and the library can, it decodes straight into the
block's own memory. All of them release the interpreter lock while they decode.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import sys
from collections.abc import Callable
from typing import Any

from isal import isal_zlib

from znfs.cache import memory
from znfs.codecs.forms import (
    Buffer,
    BytesForm,
    Config,
    Form,
    Step,
    check_size,
    octets,
    shown,
    too_much,
)
from znfs.codecs.native import numcodecs
from znfs.errors import Unsupported

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STREAM_FAILURES: tuple[type[Exception], ...] = (
    isal_zlib.error,  # type: ignore[assignment]  # stub's error
    lzma.LZMAError,
    zstd.ZstdError,
)

_LZMA_MEMORY = 1 << 30  # dictionaries beyond this are refused
_ZSTD_WINDOW = (27, 31)  # log2 of the windows accepted: at least, at most


def streams(
    make: Callable[[], Any], data: Buffer, form: BytesForm, padding: bytes = b""
) -> bytes | bytearray:
    """Decode concatenated streams with decompressor objects as zlib, bz2, lzma and zstd have them.

    Never produces more than one byte above the declared size. `padding` may follow a stream.
    Raises ValueError for data that ends early or has anything else behind its end.
    """
    room = form.limit if form.size is None else form.size
    parts: list[bytes] = []
    rest: Any = octets(data)
    while True:
        stream = make()
        parts.append(stream.decompress(rest, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise too_much(form)
        if not stream.eof:
            raise ValueError("ends early")
        rest = stream.unused_data.lstrip(padding) if padding else stream.unused_data
        if not rest:
            out = parts[0] if len(parts) == 1 else b"".join(parts)
            check_size(len(out), form)
            return out


def _stream_codec(
    make: Callable[[Config, BytesForm], Callable[[], Any]], padding: bytes = b""
) -> Callable[[Config, BytesForm], tuple[Step, Form]]:
    def prepare(config: Config, form: BytesForm) -> tuple[Step, Form]:
        fresh = make(config, form)

        def decode(data: Buffer) -> Buffer:
            return streams(fresh, data, form, padding)

        return decode, form.encoded()

    return prepare


def _inflater(bits: int) -> Callable[[Config, BytesForm], Callable[[], Any]]:
    return lambda config, form: lambda: isal_zlib.decompressobj(bits)


def _unlzma(config: Config, form: BytesForm) -> Callable[[], Any]:
    kind = config.get("format", lzma.FORMAT_XZ)
    if type(kind) is not int:
        raise Unsupported(f"lzma: no format {shown(kind)}")
    if kind == lzma.FORMAT_RAW:
        filters = config.get("filters")
        if not isinstance(filters, list) or not all(isinstance(f, dict) for f in filters):
            raise Unsupported(f"lzma: filters {shown(filters)}")
        for size in (f.get("dict_size", 0) for f in filters):
            if type(size) is not int or size > _LZMA_MEMORY:
                raise Unsupported("lzma: a filter needs more memory than znfs gives it")
        try:
            lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        except (lzma.LZMAError, *(ValueError, TypeError, KeyError, OverflowError)) as error:
            raise Unsupported(f"lzma: filters {shown(filters)}: {error}") from None
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    if kind not in (lzma.FORMAT_AUTO, lzma.FORMAT_XZ, lzma.FORMAT_ALONE):
        raise Unsupported(f"lzma: no format {shown(kind)}")
    return lambda: lzma.LZMADecompressor(kind, memlimit=_LZMA_MEMORY)


def prepare_zstd(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """Zstandard, RFC 8878: frames one after another, with or without their size."""
    least, most = _ZSTD_WINDOW
    window = min(max(form.limit.bit_length(), least), most)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window}

    def decode(data: Buffer) -> Buffer:
        raw = octets(data)
        if form.size and zstd.get_frame_info(raw[:18].data).decompressed_size == form.size:
            out = memory.empty(form.size)  # fails if further frames need more room
            numcodecs("zstd").decompress(raw, out)
            return out
        return streams(lambda: zstd.ZstdDecompressor(options=options), raw, form)

    return decode, form.encoded()


def prepare_lz4(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """numcodecs' LZ4: the size as a little-endian 32-bit integer, then one LZ4 block."""

    def decode(data: Buffer) -> Buffer:
        raw = octets(data)
        if raw.nbytes < 4:
            raise ValueError("ends early")
        size = int(raw[:4].view("<u4")[0])
        check_size(size, form)
        out = memory.empty(size)
        numcodecs("lz4").decompress(raw, out)
        return out

    return decode, form.encoded()


def _blosc_has() -> list[str]:
    found: list[str] = numcodecs("blosc").list_compressors()
    return found


def prepare_blosc(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """Blosc 1: the header (16 bytes) says everything; of the configuration only `cname` matters."""
    if config.get("cname") == "snappy" and "snappy" not in _blosc_has():
        raise Unsupported("blosc: compressed with snappy, which numcodecs' Blosc lacks")

    def decode(data: Buffer) -> Buffer:
        raw = octets(data)
        if raw.nbytes < 16:
            raise ValueError("ends early")
        size, _, length = struct.unpack("<III", raw[4:16].tobytes())
        if length != raw.nbytes:
            raise ValueError(f"header says {length} bytes where there are {raw.nbytes}")
        check_size(size, form)
        out = memory.empty(size)
        if size:
            numcodecs("blosc").decompress(raw, out)
        return out

    return decode, form.encoded()


prepare_gzip = _stream_codec(_inflater(31), padding=b"\0")  # gzip may be padded with zeros
prepare_zlib = _stream_codec(_inflater(15))
prepare_bz2 = _stream_codec(lambda config, form: bz2.BZ2Decompressor)
prepare_lzma = _stream_codec(_unlzma)
