"""Codecs one by one: what they decode, what they refuse, and where they stop."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znfs.cache import memory
from znfs.codecs import ARRAY_TO_BYTES, CODECS, Decoder, encoded_size, unwrap
from znfs.errors import ChunkError, Unsupported
from znfs.meta import VARIABLE, VARIABLE_BYTES, VARIABLE_TEXT, CodecSpec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BYTES = CodecSpec("bytes", {"endian": "little"})
DATA = np.random.default_rng(5).integers(0, 50, (6, 7), dtype="<u4")
RAW = DATA.tobytes()
LZMA_FILTERS = [{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
LZMA_RAW = {"format": lzma.FORMAT_RAW, "filters": LZMA_FILTERS}


def decoder(*specs: CodecSpec, dtype: Any = "<u4", shape: tuple[int, ...] = (6, 7)) -> Decoder:
    dtype = np.dtype(dtype)
    return Decoder((BYTES, *specs), dtype, shape, bytes(dtype.itemsize))


def unsized_zstd(data: bytes) -> bytes:
    """A frame that does not say how long its content is, as Java's writers leave it."""
    size = {zstd.CompressionParameter.content_size_flag: 0}
    return zstd.ZstdCompressor(options=size).compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def numcodec(name: str, **config: Any) -> tuple[CodecSpec, bytes]:
    codec = numcodecs.get_codec({"id": name, **config})
    return CodecSpec(name, config), bytes(codec.encode(DATA))


ENCODED: dict[str, tuple[CodecSpec, bytes]] = {
    "raw": (CodecSpec("raw"), RAW),
    "gzip": (CodecSpec("gzip"), gzip.compress(RAW)),
    "gzip-members": (CodecSpec("gzip"), gzip.compress(RAW[:50]) + gzip.compress(RAW[50:])),
    "gzip-padded": (CodecSpec("gzip"), gzip.compress(RAW) + bytes(9)),
    "zlib": (CodecSpec("zlib"), zlib.compress(RAW)),
    "bz2": (CodecSpec("bz2"), bz2.compress(RAW)),
    "bz2-streams": (CodecSpec("bz2"), bz2.compress(RAW[:9]) + bz2.compress(RAW[9:])),
    "xz": (CodecSpec("lzma"), lzma.compress(RAW)),
    "xz-streams": (CodecSpec("lzma"), lzma.compress(RAW[:9]) + lzma.compress(RAW[9:])),
    "lzma-alone": (CodecSpec("lzma", {"format": 2}), lzma.compress(RAW, lzma.FORMAT_ALONE)),
    "lzma-raw": (
        CodecSpec("lzma", LZMA_RAW),
        lzma.compress(RAW, lzma.FORMAT_RAW, filters=LZMA_FILTERS),
    ),
    "zstd": (CodecSpec("zstd"), zstd.compress(RAW)),
    "zstd-frames": (CodecSpec("zstd"), zstd.compress(RAW[:9]) + zstd.compress(RAW[9:])),
    "zstd-unsized": (CodecSpec("zstd"), unsized_zstd(RAW)),
    "zstd-mixed": (CodecSpec("zstd"), unsized_zstd(RAW[:9]) + zstd.compress(RAW[9:])),
    "lz4": numcodec("lz4"),
    **{
        f"blosc-{name}-{shuffle}": numcodec("blosc", cname=name, shuffle=shuffle)
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle in (0, 1, 2)
    },
    "shuffle": numcodec("shuffle", elementsize=4),
    "shuffle-ragged": (  # as HDF5 leaves a tail that is shorter than an element
        CodecSpec("shuffle", {"elementsize": 5}),
        bytes(numcodecs.Shuffle(5).encode(RAW[:165])) + RAW[165:],
    ),
    "shuffle-none": numcodec("shuffle", elementsize=0),
    "crc32": numcodec("crc32"),
    "crc32-end": numcodec("crc32", location="end"),
    "crc32c": numcodec("crc32c"),
    "crc32c-start": numcodec("crc32c", location="start"),
    "adler32": numcodec("adler32"),
    "fletcher32": numcodec("fletcher32"),
    "jenkins": numcodec("jenkins_lookup3", initval=7),
    "base64": numcodec("base64"),
    "delta": numcodec("delta", dtype="<u4", astype="<i2"),
    "fixedscaleoffset": numcodec("fixedscaleoffset", scale=2, offset=3, dtype="<u4", astype="<i4"),
    "astype": numcodec("astype", encode_dtype="<f8", decode_dtype="<u4"),
}
CHECKED = ["gzip", "zlib", "bz2", "xz", "crc32", "crc32c", "adler32", "fletcher32", "jenkins"]
SIZED_BY_DATA = ["gzip", "zlib", "bz2", "xz", "zstd", "zstd-unsized", "lz4", "blosc-lz4-1"]


@pytest.mark.parametrize("name", ENCODED)
def test_decodes(name: str):
    spec, data = ENCODED[name]
    for form in (data, memoryview(data), memoryview(b"before" + data)[6:]):
        got = decoder(spec).decode(form)
        assert got.tobytes() == RAW
        assert got.shape == DATA.shape
        assert got.dtype == DATA.dtype
        assert got.flags.c_contiguous
        assert not got.flags.writeable


@pytest.mark.parametrize("name", ENCODED)
def test_decodes_inside_a_compressor(name: str):
    """Where the size of what a codec yields is not known beforehand."""
    spec, data = ENCODED[name]
    for outer, wrap in (("zstd", zstd.compress), ("gzip", gzip.compress), ("zstd", unsized_zstd)):
        assert decoder(spec, CodecSpec(outer)).decode(wrap(data)).tobytes() == RAW


@pytest.mark.parametrize("name", ENCODED)
def test_the_wrong_length_is_an_error(name: str):
    spec, data = ENCODED[name]
    for shape in ((6, 6), (6, 8), (1,), (1000,)):
        with pytest.raises(ChunkError, match=spec.name):
            decoder(spec, shape=shape).decode(data)


@pytest.mark.parametrize("name", ENCODED)
def test_cut_and_lengthened_data_are_errors(name: str):
    spec, data = ENCODED[name]
    plain = decoder(spec)
    for bad in (b"", data[:1], data[:-1], data[: len(data) // 2], data + b"x", data + data):
        if name == "gzip-padded" and bad == data[:-1]:
            continue
        with pytest.raises(ChunkError, match=spec.name):
            plain.decode(bad)


@pytest.mark.parametrize("name", CHECKED)
def test_a_flipped_bit_is_an_error(name: str):
    spec, data = ENCODED[name]
    plain = decoder(spec)
    for at in range(0, len(data) * 8, 37):
        bad = bytearray(data)
        bad[at // 8] ^= 1 << at % 8
        with contextlib.suppress(ChunkError):  # but for such as the time in gzip's header
            assert plain.decode(bytes(bad)).tobytes() == RAW


@pytest.mark.parametrize("name", ENCODED)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_raises_nothing_but_chunk_errors(name: str, data: st.DataObject):
    spec, good = ENCODED[name]
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(bad)))
    with contextlib.suppress(ChunkError):
        assert decoder(spec).decode(bytes(bad[:cut])).shape == DATA.shape


# What a codec is given to undo, and how it is set up, where it is not bytes behind `bytes`.
OF_ARRAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bytes": ("<u4", {}), "packed_bits": ("<u4", {}), "n5_block": ("<u4", {}),
    "vlen-utf8": (VARIABLE_TEXT, {}), "vlen-bytes": (VARIABLE_BYTES, {}),
    "transpose": ("<u4", {"order": [1, 0]}), "reshape": ("<u4", {"shape": [42]}),
    "squeeze": ("<u4", {}), "cast_value": ("<u4", {"stored": np.dtype("<f4")}),
    "promote": ("<f4", {"from": "float8_e5m2"}), "quantize": ("<f4", {"digits": 1}),
    "scale_offset": ("<f4", {"scale": np.float32(2), "offset": np.float32(1)}),
    "categorize": ("<U1", {"labels": ["a"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CODECS))
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_noise_raises_nothing_but_chunk_errors(name: str, data: st.DataObject):
    config = {"dtype": "<u4", "astype": "<u2", "scale": 2, "offset": 1, "encode_dtype": "<u2",
              "decode_dtype": "<u4"}  # fmt: skip
    dtype, config = OF_ARRAYS.get(name, ("<u4", config))
    dtype, spec, shape = np.dtype(dtype), CodecSpec(name, config), (6, 7)
    if name not in OF_ARRAYS:
        chain = (BYTES, spec)
    else:
        chain = (spec,) if name in ARRAY_TO_BYTES or dtype in VARIABLE else (spec, BYTES)
    fill = b"" if dtype in VARIABLE else bytes(dtype.itemsize)
    plain = Decoder(chain, dtype, shape, fill, 1000)
    # Of a length that may be right: of 1, 2 or 4 bytes an element; and behind N5's header.
    noise = st.sampled_from([42, 84, 168]).flatmap(lambda n: st.binary(min_size=n, max_size=n))
    head = struct.pack(">HHII", 0, 2, 7, 6) if name == "n5_block" else b""
    with contextlib.suppress(ChunkError):
        plain.decode(data.draw(st.binary(max_size=300) | noise.map(lambda part: head + part)))


BOMB = 64 << 20
BOMBS = {
    "gzip": lambda: gzip.compress(bytes(BOMB)),
    "zlib": lambda: zlib.compress(bytes(BOMB)),
    "bz2": lambda: bz2.compress(bytes(BOMB)),
    "lzma": lambda: lzma.compress(bytes(BOMB), preset=1),
    "zstd": lambda: zstd.compress(bytes(BOMB)),
    "zstd-unsized": lambda: unsized_zstd(bytes(BOMB)),
    "zstd-frames": lambda: zstd.compress(RAW) + zstd.compress(bytes(BOMB)),
    "lz4": lambda: numcodecs.LZ4().encode(bytes(BOMB)),
    "blosc": lambda: numcodecs.Blosc().encode(bytes(BOMB)),
    "n5_lz4": lambda: numcodecs.LZ4().encode(bytes(BOMB)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_stop_at_the_declared_size(name: str):
    data = bytes(BOMBS[name]())
    spec = CodecSpec(name.split("-")[0])
    tracemalloc.start()
    try:
        for chain in ((spec,), (spec, CodecSpec("zstd"))):
            packed = data if len(chain) == 1 else zstd.compress(data)
            with pytest.raises(ChunkError):
                decoder(*chain).decode(packed)
        with pytest.raises(ChunkError):
            unwrap((spec,), data, len(RAW))
        assert tracemalloc.get_traced_memory()[1] < BOMB // 8
    finally:
        tracemalloc.stop()


def test_a_dictionary_that_takes_more_memory_than_there_may_be_is_refused(monkeypatch):
    data = lzma.compress(RAW, preset=6)  # 8 MiB
    assert decoder(CodecSpec("lzma")).decode(data).tobytes() == RAW
    monkeypatch.setattr("znfs.codecs.compressors._LZMA_MEMORY", 1 << 20)
    with pytest.raises(ChunkError, match=r"lzma: .*[Mm]emory"):
        decoder(CodecSpec("lzma")).decode(data)


def test_bombs_take_no_memory():
    """256 MiB where 16 KiB belong, in chains too: by how much the process grows."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bombs"], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["chains"] == 15
    assert told["silent"] == []
    assert told["grew"] < 64 << 20


IMPORTS = """
import threading
from znfs.codecs.native import numcodecs

failed = []
together = threading.Barrier(4)

def first_use(name):
    together.wait()
    try:
        numcodecs(name)
    except BaseException as error:
        failed.append((name, repr(error)))

threads = [threading.Thread(target=first_use, args=(n,)) for n in ("zstd", "blosc", "lz4", "vlen")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""


def test_codecs_first_used_at_once():
    """By threads that read chunks of several arrays as the first thing after mounting."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_headers_that_lie():
    lz4 = bytearray(ENCODED["lz4"][1])
    lz4[:4] = struct.pack("<I", 0xFFFFFFFF)
    blosc = bytearray(ENCODED["blosc-lz4-1"][1])
    lying = [(CodecSpec("lz4"), lz4)]
    for at in (4, 8, 12):  # size, block size, compressed size
        for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            bad = bytearray(blosc)
            bad[at : at + 4] = struct.pack("<I", value)
            lying.append((CodecSpec("blosc"), bad))
    for spec, bad in lying:
        with pytest.raises(ChunkError):
            decoder(spec).decode(bytes(bad))


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("pickle", {}, "runs code"),
        ("json2", {}, "no fixed size"),
        ("msgpack2", {}, "no fixed size"),
        ("vlen-utf8", {}, "cannot be applied to bytes"),
        ("vlen-array", {}, "no fixed size"),
        ("exec", {}, "unknown"),
        ("bytes", {}, "cannot be applied to bytes"),
        ("transpose", {"order": [1, 0]}, "cannot be applied to bytes"),
        ("lzma", {"format": 9}, "format"),
        ("lzma", {"format": 3, "filters": [{"id": 5}]}, "filters"),
        ("lzma", {"format": 3, "filters": "x"}, "filter"),
        ("lzma", {"format": 3, "filters": [{"id": 33, "dict_size": 1 << 31}]}, "memory"),
        ("crc32", {"location": "middle"}, "location"),
        ("shuffle", {"elementsize": -1}, "elementsize"),
        ("shuffle", {"elementsize": "4"}, "elementsize"),
        ("delta", {}, "delta"),
        ("delta", {"dtype": "|O"}, "cannot be applied"),
        ("delta", {"dtype": "x" * 99}, "no data type"),
        ("delta", {"dtype": {"names": 5}}, "no data type"),
        ("fixedscaleoffset", {"dtype": "<f4", "scale": 0, "offset": 0}, "scale is 0"),
        ("fixedscaleoffset", {"dtype": "<f4", "scale": "x", "offset": 0}, "scale"),
        ("fixedscaleoffset", {"dtype": "<f4", "scale": 1e400, "offset": 0}, "scale"),
        ("quantize", {"dtype": "<i4", "digits": 1}, "cannot be applied"),
        ("categorize", {"dtype": "|O", "labels": []}, "cannot be applied"),
        ("categorize", {"dtype": "<U3", "labels": 5}, "labels"),
        ("jenkins_lookup3", {"initval": -1}, "initval"),
        ("jenkins_lookup3", {"prefix": 5}, "prefix"),
        ("jenkins_lookup3", {"prefix": [300]}, "prefix"),
        ("blosc", {"cname": "snappy"}, "snappy"),
    ],
)
def test_refused_when_prepared(name: str, config: dict[str, Any], words: str):
    with pytest.raises(Unsupported, match=words):
        decoder(CodecSpec(name, config))


def test_categorize_and_packbits():
    labels = numcodecs.Categorize(labels=["no", "yes"], dtype="<U3")
    words = np.array(["yes", "no", "?", "yes"], "<U3")
    spec = CodecSpec("categorize", {"labels": ["no", "yes"], "dtype": "<U3", "astype": "u1"})
    got = decoder(spec, dtype="<U3", shape=(4,)).decode(bytes(labels.encode(words)))
    assert got.tolist() == ["yes", "no", "", "yes"]
    for n in (1, 7, 8, 9):
        bits = np.arange(n) % 3 == 0
        packed = bytes(numcodecs.PackBits().encode(bits))
        got = decoder(CodecSpec("packbits"), dtype="?", shape=(n,)).decode(packed)
        assert got.tolist() == bits.tolist()


def test_byte_order_and_transposition():
    data = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        for endian, code in (("little", "<i2"), ("big", ">i2")):
            chain = (
                CodecSpec("transpose", {"order": order}),
                CodecSpec("bytes", {"endian": endian}),
            )
            stored = data.transpose(order).astype(code).tobytes()
            got = Decoder(chain, data.dtype, data.shape, b"\0\0").decode(stored)
            assert got.flags.c_contiguous
            assert got.tolist() == data.tolist()


@pytest.mark.parametrize("shape", [(70, 65), (200, 300), (33, 47, 40), (5, 40, 3, 70), (1, 90000)])
def test_large_transposed_chunks(shape: tuple[int, ...]):
    data = np.random.default_rng(6).integers(0, 1 << 30, shape, dtype="<u4")
    for order in (list(range(len(shape)))[::-1], [*range(1, len(shape)), 0]):
        chain = (CodecSpec("transpose", {"order": order}), BYTES)
        got = Decoder(chain, data.dtype, shape, bytes(4)).decode(data.transpose(order).tobytes())
        assert got.flags.c_contiguous
        assert np.array_equal(got, data)


def test_any_byte_but_0_is_true():
    """The values: h5dump and readers of `.npy` show the bytes that are there."""
    stored = np.array([0, 1, 255, 2, 0, 128], np.uint8)
    right = np.array([0, 1, 1, 1, 0, 1], np.uint8)
    out = decoder(dtype="?", shape=(2, 3)).decode(stored.tobytes())
    assert (out.dtype, out.tobytes()) == (np.bool_, right.tobytes())
    kind = np.dtype([("a", "<u2"), ("in", [("flag", "?"), ("two", "?", (2,))]), ("b", "u1")])
    raw = bytes([255, 2, 3, 0, 4, 5])
    out = decoder(dtype=kind, shape=(2,)).decode(raw * 2)
    assert (out.dtype, out.tobytes()) == (kind, bytes([255, 2, 1, 0, 1, 5]) * 2)


def test_bools_that_are_right_are_not_copied():
    stored = np.array([0, 1, 1], np.uint8)
    out = decoder(dtype="?", shape=(3,)).decode(stored.data)
    assert np.shares_memory(out, stored)


def test_slices_of_a_larger_answer_are_not_kept():
    whole = bytes(100) + RAW + bytes(1 << 20)
    block = memory.keep(decoder().decode(memoryview(whole)[100 : 100 + len(RAW)]))
    assert not np.may_share_memory(block, np.frombuffer(whole, "u1"))
    assert block.tobytes() == RAW


def test_encoded_size_and_unwrap():
    index = np.dtype("<u8")
    assert encoded_size((BYTES, CodecSpec("crc32c")), index, (3, 2)) == 52
    assert encoded_size((BYTES, CodecSpec("gzip")), index, (3, 2)) is None
    assert unwrap((CodecSpec("gzip"), CodecSpec("crc32c")), numcodec_chain(), len(RAW)) == RAW
    with pytest.raises(ChunkError):
        unwrap((CodecSpec("gzip"), CodecSpec("crc32c")), numcodec_chain(), len(RAW) - 1)
    with pytest.raises(Unsupported):
        unwrap((CodecSpec("pickle"),), b"", 10)


def numcodec_chain() -> bytes:
    return bytes(numcodecs.CRC32C().encode(gzip.compress(RAW)))


def test_one_decoder_serves_many_threads():
    spec, data = ENCODED["zstd"]
    shared, wrong = decoder(spec), []

    def work() -> None:
        for _ in range(200):
            if shared.decode(data).tobytes() != RAW:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
