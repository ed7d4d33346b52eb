"""Bytes-to-bytes codecs that are no compressors: checksums, shuffles, base64."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np

from znfs.cache import memory
from znfs.codecs.forms import Buffer, BytesForm, Config, Form, Step, check_size, octets, shown
from znfs.codecs.native import numcodecs
from znfs.errors import Unsupported

Bytes = np.ndarray[Any, Any]


def _crc32c(data: Bytes) -> int:
    return int(google_crc32c.value(data))


def _checksum(
    compute: Callable[[Bytes], int], place: str
) -> Callable[[Config, BytesForm], tuple[Step, Form]]:
    """A 32-bit little-endian checksum before or behind the data."""

    def prepare(config: Config, form: BytesForm) -> tuple[Step, Form]:
        where = config.get("location", place)
        if where not in ("start", "end"):
            raise Unsupported(f"checksum: no location {shown(where)}")

        def decode(data: Buffer) -> Buffer:
            raw = octets(data)
            if raw.nbytes < 4:
                raise ValueError("ends early")
            stored, payload = (raw[:4], raw[4:]) if where == "start" else (raw[-4:], raw[:-4])
            check_size(payload.nbytes, form)
            if compute(payload) & 0xFFFFFFFF != int.from_bytes(stored.tobytes(), "little"):
                raise ValueError("checksum does not match")
            return payload

        return decode, form.grown(4)

    return prepare


def prepare_jenkins(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """Bob Jenkins' lookup3 behind the data, as HDF5 computes it."""
    start, prefix = config.get("initval", 0), config.get("prefix")
    if type(start) is not int or not 0 <= start < 1 << 32:
        raise Unsupported(f"jenkins_lookup3: initval {shown(start)}")
    if prefix is not None and not isinstance(prefix, (str, bytes, list)):
        raise Unsupported(f"jenkins_lookup3: prefix {shown(prefix)}")
    try:
        head = np.frombuffer(
            prefix.encode() if isinstance(prefix, str) else bytes(prefix or b""), np.uint8
        )
    except (ValueError, TypeError):
        raise Unsupported(f"jenkins_lookup3: prefix {shown(prefix)}") from None

    def compute(data: Bytes) -> int:
        return int(numcodecs("jenkins").jenkins_lookup3(np.concatenate((head, data)), start))

    return _checksum(compute, "end")({}, form)


def prepare_fletcher32(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """HDF5's Fletcher-32 behind the data."""
    codec = numcodecs("fletcher32").Fletcher32()

    def decode(data: Buffer) -> Buffer:
        raw = octets(data)
        if raw.nbytes < 4:
            raise ValueError("ends early")
        check_size(raw.nbytes - 4, form)
        if raw.nbytes == 4:
            return raw[:0]
        return octets(codec.decode(raw))

    return decode, form.grown(4)


def prepare_shuffle(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """HDF5's byte shuffle: byte k of every element, for each k; a ragged tail stays as it is."""
    width = config.get("elementsize", 4)
    if type(width) is not int or not 0 <= width <= 1 << 20:
        raise Unsupported(f"shuffle: elementsize {shown(width)}")
    codec = numcodecs("shuffle").Shuffle(width)

    def decode(data: Buffer) -> Buffer:
        raw = octets(data)
        check_size(raw.nbytes, form)
        body = raw.nbytes // width * width if width > 1 else 0
        out = memory.empty(raw.nbytes)
        if body:
            codec.decode(raw[:body], out[:body])
        out[body:] = raw[body:]
        return out

    return decode, form


def prepare_base64(config: Config, form: BytesForm) -> tuple[Step, Form]:
    """Base64, RFC 4648 section 4."""
    after = BytesForm(
        None if form.size is None else -(-form.size // 3) * 4, -(-form.limit // 3) * 4 + 4096
    )

    def decode(data: Buffer) -> Buffer:
        out = base64.b64decode(octets(data).tobytes(), validate=True)
        check_size(len(out), form)
        return out

    return decode, after


prepare_crc32c = _checksum(_crc32c, "end")
prepare_crc32 = _checksum(lambda data: zlib.crc32(data.data), "start")
prepare_adler32 = _checksum(lambda data: zlib.adler32(data.data), "start")
