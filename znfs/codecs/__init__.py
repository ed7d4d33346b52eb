"""Codecs: the table of all znfs can undo, and the decoder of a chunk, prepared once per array.

Only what the table names is ever run: numcodecs' own registry holds `pickle`, which runs code,
and is not asked. A codec that the table lacks, or a configuration that it cannot honour, is
Unsupported when the decoder is prepared, never when a chunk is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from znfs.codecs import checks, compressors, filters, layout, n5, pco, promote, registered, vlen
from znfs.codecs.forms import (
    FAILURES,
    ArrayForm,
    Buffer,
    BytesForm,
    Config,
    Form,
    Prepare,
    Step,
    check_size,
    octets,
    shown,
)
from znfs.errors import ChunkError, Unsupported
from znfs.meta import VARIABLE, CodecSpec, Shape

__all__ = ["CODECS", "INTERNAL", "REFUSED", "Decoder", "encoded_limit", "encoded_size", "unwrap"]

_FAILURES = (*FAILURES, *compressors.STREAM_FAILURES)


def _prepare_raw(config: Config, form: BytesForm) -> tuple[Step, Form]:
    def decode(data: Buffer) -> Buffer:
        check_size(len(data), form)
        return data

    return decode, form


def _prepare_n5_block(config: Config, form: ArrayForm) -> tuple[Step, Form]:
    """An N5 block (codecs/n5.py). `compression`: CodecSpecs of the elements behind the header."""
    specs: Sequence[CodecSpec] = config.get("compression", ())

    def decompress(nbytes: int) -> Step:
        steps, _ = _chain(specs, BytesForm(nbytes, nbytes))
        return lambda data: _run(steps, data)

    return n5.block_decoder(form, decompress)


ARRAY_TO_BYTES: dict[str, Prepare] = {
    "bytes": layout.prepare_bytes,
    "n5_block": _prepare_n5_block,
    "packed_bits": registered.prepare_packed_bits,
}
ARRAY_TO_ARRAY: dict[str, Prepare] = {
    "transpose": layout.prepare_transpose,
    "promote": promote.prepare_promote,
    "bitround": filters.prepare_bitround,
    "packbits": filters.prepare_packbits,
    "cast_value": registered.prepare_cast_value,
    "scale_offset": registered.prepare_scale_offset,
    "reshape": registered.prepare_reshape,
    "squeeze": registered.prepare_squeeze,
    **{name: filters.prepare_filter(name) for name in filters.FILTERS},
}
# What can be applied to elements of variable length, and to no others but for the first three.
OF_VARIABLE: dict[str, Prepare] = {
    "transpose": layout.prepare_transpose,
    "reshape": registered.prepare_reshape,
    "squeeze": registered.prepare_squeeze,
    "vlen-utf8": vlen.prepare_utf8,
    "vlen-bytes": vlen.prepare_bytes,
}
BYTES_TO_BYTES: dict[str, Prepare] = {
    "raw": _prepare_raw,
    "blosc": compressors.prepare_blosc,
    "bz2": compressors.prepare_bz2,
    "gzip": compressors.prepare_gzip,
    "lz4": compressors.prepare_lz4,
    "lzma": compressors.prepare_lzma,
    "n5_lz4": n5.prepare_n5_lz4,
    "zlib": compressors.prepare_zlib,
    "zstd": compressors.prepare_zstd,
    "adler32": checks.prepare_adler32,
    "base64": checks.prepare_base64,
    "crc32": checks.prepare_crc32,
    "crc32c": checks.prepare_crc32c,
    "fletcher32": checks.prepare_fletcher32,
    "jenkins_lookup3": checks.prepare_jenkins,
    "shuffle": checks.prepare_shuffle,
    # Zarr v2 knows filters on bytes only
    "bitround": filters.prepare_bitround,
    "packbits": filters.prepare_packbits,
    **{name: filters.prepare_filter(name) for name in filters.FILTERS},
}

# What is known and refused, and why; everything else that CODECS lacks is refused as unknown.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **({} if pco.INSTALLED else {"pcodec": "needs a library: pip install 'znfs[pcodec]'"}),
        **dict.fromkeys(
            ("zfpy", "zfp", "zarrs.zfp"), "needs a library that znfs does not come with"
        ),
        **dict.fromkeys(("jpeg", "jpegxl", "zarrs.gdeflate", "lzw"), "is of images or a device's, "
                        "and needs a library that znfs does not come with"),
        "optional": "holds values that may be missing, which no view has room for",
        "vlen-ndarray": "holds arrays of variable length, which have no fixed size",
        "n5_varlen": "holds strings of variable length, which have no fixed size",
        "pickle": "runs code that the data names",
        "json": "holds Python objects, which have no fixed size",
        "json2": "holds Python objects, which have no fixed size",
        "msgpack2": "holds Python objects, which have no fixed size",
        "vlen-array": "holds arrays of variable length, which have no fixed size",
    }
)


if pco.INSTALLED:
    ARRAY_TO_BYTES["pcodec"] = BYTES_TO_BYTES["pcodec"] = pco.prepare_pcodec
# Codecs that formats put into a chain themselves; no document may name them.
INTERNAL = frozenset({"n5_block", "n5_lz4", "promote", "raw"})
CODECS: Mapping[str, Prepare] = MappingProxyType(
    {**ARRAY_TO_ARRAY, **ARRAY_TO_BYTES, **OF_VARIABLE, **BYTES_TO_BYTES}
)


def _chain(specs: Sequence[CodecSpec], form: Form) -> tuple[list[tuple[str, Step]], Form]:
    """The steps that undo `specs`, in the order of decoding, and the form of what is stored."""
    steps: list[tuple[str, Step]] = []
    for spec in specs:
        if spec.name not in CODECS:
            raise Unsupported(f"codec {shown(spec.name)} {REFUSED.get(spec.name, 'is unknown')}")
        kind, tables = _codecs_for(form)
        prepare = next((t[spec.name] for t in tables if spec.name in t), None)
        if prepare is None:
            raise Unsupported(f"codec {shown(spec.name)} cannot be applied to {kind}")
        step, form = prepare(spec.config, form)
        steps.append((spec.name, step))
    return steps[::-1], form


def _codecs_for(form: Form) -> tuple[str, tuple[Mapping[str, Prepare], ...]]:
    """What such a form is called, and the tables of the codecs that can be applied to it."""
    if isinstance(form, BytesForm):
        return "bytes", (BYTES_TO_BYTES,)
    if form.dtype in VARIABLE:
        return "elements of variable length", (OF_VARIABLE,)
    return "an array", (ARRAY_TO_ARRAY, ARRAY_TO_BYTES)


def _run(steps: Sequence[tuple[str, Step]], data: Any) -> Any:
    for name, step in steps:
        try:
            data = step(data)
        except _FAILURES as error:
            raise ChunkError(f"{name}: {error}") from error
    return data


class Decoder:
    """Decodes the chunks of one array. Safe for many threads.

    `specs` are in the order of encoding; `dtype` (little-endian) and `shape` are those of a
    decoded chunk; `fill` is one element, for parts of a chunk that are not stored. `most` is what
    elements of variable length may take together, in bytes; of them, those beyond `clip` (for each
    axis) are left out. Raises Unsupported.
    """

    def __init__(
        self,
        specs: Sequence[CodecSpec],
        dtype: np.dtype[Any],
        shape: Shape,
        fill: bytes,
        most: int = 0,
        clip: Shape = (),
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self._clip = (*map(slice, clip), ...)
        self._fill = fill
        self._steps, form = _chain(specs, ArrayForm(dtype, shape, fill, most))
        if not isinstance(form, BytesForm):
            raise Unsupported("no codec turns the array into bytes")

    def decode(self, data: bytes | memoryview, inside: Shape = ()) -> np.ndarray[Any, Any]:
        """The chunk: C-contiguous, read-only, exactly `shape` and `dtype`; if its elements are of
        variable length, a row of bytes that vlen.Packed reads. Raises ChunkError.

        Beyond the shape `inside`, if it is given, is the fill value, whatever is stored there: an
        array that was made smaller has elements there. It may lie in `data`: who keeps it asks
        `memory.keep`. Never produces much more than the declared size, whatever the data claims.
        """
        out = _run(self._steps, data)
        if self.dtype in VARIABLE:
            block = vlen.pack(out[self._clip])
        else:
            block = layout.contiguous(out.astype(self.dtype, copy=False)).reshape(self.shape)
            block = layout.filled(layout.truth(block), inside, self._fill)
        block.flags.writeable = False
        return block


def encoded_size(specs: Sequence[CodecSpec], dtype: np.dtype[Any], shape: Shape) -> int | None:
    """Bytes of an array after `specs`, None where that depends on the data. Raises Unsupported."""
    _, form = _chain(specs, ArrayForm(dtype, shape))
    return form.size if isinstance(form, BytesForm) else None


def encoded_limit(
    specs: Sequence[CodecSpec], dtype: np.dtype[Any], shape: Shape, fill: bytes, most: int
) -> int:
    """Bytes that an array may have at the most after `specs`; the arguments are Decoder's. Raises
    Unsupported."""
    _, form = _chain(specs, ArrayForm(dtype, shape, fill, most))
    return form.limit if isinstance(form, BytesForm) else form.nbytes


def unwrap(specs: Sequence[CodecSpec], data: bytes | memoryview, limit: int) -> bytes:
    """Undo bytes-to-bytes codecs. Raises ChunkError, also beyond `limit` bytes; Unsupported."""
    steps, _ = _chain(specs, BytesForm(None, limit))
    out = octets(_run(steps, data))
    if out.nbytes > limit:
        raise ChunkError(f"decodes to more than the {limit} bytes there may be")
    return out.tobytes()
