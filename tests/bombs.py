"""Decodes bombs of every compressor, alone and in chains, in a process of its own. Prints by how
many bytes the process grew at most, and the chains that raised nothing."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import resource
import zlib
from pathlib import Path

import numcodecs
import numpy as np

from znfs.codecs import Decoder
from znfs.errors import ChunkError
from znfs.meta import CodecSpec

BOMB = 256 << 20
BYTES = CodecSpec("bytes", {"endian": "little"})
DELTA = CodecSpec("delta", {"dtype": "<u4"})
SHUFFLE = CodecSpec("shuffle", {"elementsize": 4})
AS_TYPE = CodecSpec("astype", {"encode_dtype": "<f8", "decode_dtype": "<u4"})


def main() -> None:
    zeros = bytes(BOMB)
    numcodecs.blosc.set_nthreads(1)
    raw = {"format": lzma.FORMAT_RAW, "filters": [
        {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]}  # fmt: skip
    quick = {"id": lzma.FILTER_LZMA2, "preset": 0}
    bombs = {
        "gzip": gzip.compress(zeros, 1), "zlib": zlib.compress(zeros, 1),
        "bz2": bz2.compress(zeros[: 32 << 20], 1), "zstd": bytes(numcodecs.Zstd(1).encode(zeros)),
        "lz4": bytes(numcodecs.LZ4().encode(zeros)),
        "blosc": bytes(numcodecs.Blosc("lz4").encode(zeros)),
        "lzma": lzma.compress(zeros, preset=0),
    }  # fmt: skip
    packed = lzma.compress(zeros, lzma.FORMAT_RAW, filters=[quick])
    chains = [((CodecSpec(name),), data) for name, data in bombs.items()]
    chains += [
        ((CodecSpec("lzma", raw),), packed),
        ((DELTA, SHUFFLE, CodecSpec("zlib")), bombs["zlib"]),
        ((AS_TYPE, CodecSpec("zstd")), bombs["zstd"]),
        ((CodecSpec("zstd"), CodecSpec("gzip")), gzip.compress(bombs["zstd"])),
        ((CodecSpec("gzip"), CodecSpec("gzip")), gzip.compress(bombs["gzip"])),
        ((CodecSpec("gzip"), CodecSpec("base64")), base64.b64encode(bombs["gzip"])),
        ((CodecSpec("n5_lz4"),), bombs["lz4"]),
        ((CodecSpec("packbits"),), bytes(BOMB // 8)),
    ]
    del zeros
    dtype, shape = np.dtype("<u4"), (64, 64)
    Decoder((BYTES, CodecSpec("gzip")), dtype, shape, bytes(4)).decode(gzip.compress(bytes(16384)))
    # What was needed to make the bombs is no longer held, but counts as the peak: begin anew.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, silent = peak(), []
    for specs, data in chains:
        for lead in (BYTES, CodecSpec("n5_block", {"compression": specs})):
            head = b"\0\0\0\2" + np.array([64, 64], ">u4").tobytes()
            chain, given = ((lead, *specs), data) if lead is BYTES else ((lead,), head + data)
            if lead is not BYTES and specs[0].name == "packbits":
                continue
            try:
                Decoder(chain, dtype, shape, bytes(4)).decode(given)
                silent.append(str(chain))
            except ChunkError:
                pass
    print(json.dumps({"grew": peak() - before, "silent": silent, "chains": len(chains)}))


def peak() -> int:
    """Bytes of memory this process had at most, since the peak was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()
