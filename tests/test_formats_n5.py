"""N5, against z5py and tensorstore, and blocks written byte by byte as the specification says."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import xxhash
import z5py
from numcodecs import LZ4, Blosc, Zstd

from tests.reading import read_array, same
from znfs.codecs import Decoder
from znfs.errors import ChunkError, MetadataError, Unsupported
from znfs.formats import n5
from znfs.meta import ArrayMeta, Axis, GroupMeta

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float32", "float64"]  # fmt: skip
BASE = {"dimensions": [6, 5, 4], "blockSize": [4, 3, 2], "dataType": "int16",
        "compression": {"type": "raw"}}  # fmt: skip


def parse(**changes: Any) -> Any:
    merged = {k: v for k, v in {**BASE, **changes}.items() if v is not ...}
    return n5.parse({"attributes.json": json.dumps(merged).encode()})


def block(
    data: np.ndarray, compress: Any = bytes, mode: int = 0, count: int | None = None
) -> bytes:
    """`data` (slowest axis first) as an N5 block."""
    head = struct.pack(f">HH{data.ndim}I", mode, data.ndim, *data.shape[::-1])
    if mode == 1:
        head += struct.pack(">I", data.size if count is None else count)
    return head + compress(data.astype(data.dtype.newbyteorder(">")).tobytes())


def decoder(meta: ArrayMeta) -> Decoder:
    return Decoder(meta.codecs, meta.dtype, meta.chunks, meta.fill)


def lz4_java(raw: bytes, size: int = 100, finish: bool = True, damage: int = 0) -> bytes:
    """LZ4BlockOutputStream of lz4-java: blocks of `size` bytes, every second one stored."""
    out = b""
    for k, at in enumerate(range(0, len(raw), size)):
        part = raw[at : at + size]
        check = xxhash.xxh32_intdigest(part, 0x9747B28C) & 0x0FFFFFFF
        packed, token = (part, 0x10) if k % 2 else (LZ4().encode(part)[4:], 0x20)
        head = struct.pack("<BiiI", token | 6, len(packed), len(part), check ^ damage)
        out += b"LZ4Block" + head + packed
    return out + (b"LZ4Block" + struct.pack("<BiiI", 0x16, 0, 0, 0) if finish else b"")


COMPRESSIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "raw": ({"type": "raw"}, bytes),
    "gzip": ({"type": "gzip", "level": -1, "useZlib": False}, gzip.compress),
    "gzip-members": ({"type": "gzip"}, lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:])),
    "zlib": ({"type": "gzip", "useZlib": True}, zlib.compress),
    "bzip2": ({"type": "bzip2", "blockSize": 9}, bz2.compress),
    "xz": ({"type": "xz", "preset": 6}, lzma.compress),
    "lz4-java": ({"type": "lz4", "blockSize": 65536}, lz4_java),
    "lz4-java-unfinished": ({"type": "lz4"}, lambda b: lz4_java(b, finish=False)),
    "lz4-bare": ({"type": "lz4"}, lambda b: LZ4().encode(b)[4:]),
    "lz4-numcodecs": ({"type": "lz4"}, lambda b: LZ4().encode(b)),
    "blosc": ({"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}, Blosc().encode),
    "zstd": ({"type": "zstd", "level": 3}, Zstd(3).encode),
}


@pytest.mark.parametrize(
    ("name", "old"),
    [(name, old) for name in COMPRESSIONS for old in (False, True) if name != "zlib" or not old],
)
def test_every_compression(name: str, old: bool):
    config, compress = COMPRESSIONS[name]
    changes: dict[str, Any] = {"compression": config}
    if old:
        changes = {"compression": ..., "compressionType": config["type"]}
    meta = parse(**changes)
    data = np.arange(24, dtype="i2").reshape(2, 3, 4)
    assert decoder(meta).decode(block(data, lambda b: bytes(compress(b)))).tolist() == data.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize("seed", range(8))
def test_lz4_of_both_bare_kinds_is_told_apart(dtype: str, seed: int):
    """Behind its size a bare block may decode as one, but not to the same values."""
    meta = parse(dataType=dtype, compression={"type": "lz4"})
    data = np.random.default_rng(seed).integers(0, 100, (2, 3, 4)).astype(dtype)
    for compress in (lambda b: bytes(LZ4().encode(b)), lambda b: bytes(LZ4().encode(b)[4:])):
        assert decoder(meta).decode(block(data, compress)).tolist() == data.tolist()


def test_lz4_java_blocks_with_damage():
    meta = parse(compression={"type": "lz4"})
    data = np.arange(24, dtype="i2").reshape(2, 3, 4)
    good = block(data, lambda b: lz4_java(b, 10))
    assert decoder(meta).decode(good).tolist() == data.tolist()
    first = good.index(b"LZ4Block")
    second = good.index(b"LZ4Block", first + 1)

    def changed(at: int, to: bytes) -> bytes:
        return good[:at] + to + good[at + len(to) :]

    for bad, why in (
        (block(data, lambda b: lz4_java(b, 10, damage=1)), "checksum"),
        (good[:-30], "impossible size"),
        (good[:-10], "ends early"),
        (block(data, lambda b: lz4_java(b[:-8], 10, finish=False)), "ends early"),
        (good + b"x", "decodes to 48 bytes"),
        (changed(first, b"LZ5Block"), "n5_lz4"),
        (changed(second, b"LZ5Block"), "something else"),
        (changed(second + 8, b"\x36"), "unknown method 0x36"),
        (changed(second + 9, struct.pack("<i", -1)), "impossible size"),
        (block(data, lambda b: lz4_java(b + b"more", 10)), "impossible size"),
        (block(data, lambda b: lz4_java(b[:-2], 10)), "decodes to 46 bytes"),
    ):
        with pytest.raises(ChunkError, match=why):
            decoder(meta).decode(bad)


@pytest.mark.parametrize("compression", ["raw", "gzip", "bzip2", "xz", "lz4", "blosc"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_written_by_z5py(tmp_path: Path, dtype: str, compression: str):
    data = np.random.default_rng(1).integers(0, 100, (7, 5, 3)).astype(dtype)
    with z5py.N5File(str(tmp_path / "s.n5"), mode="w") as file:
        stored = file.create_dataset(
            "a", shape=data.shape, chunks=(4, 3, 2), dtype=dtype, compression=compression
        )
        stored[:4] = data[:4]
        expected = stored[:]
    assert same(read_array(tmp_path / "s.n5/a")[1], expected)


@pytest.mark.parametrize(
    "compression",
    [
        {"type": "raw"}, {"type": "gzip"}, {"type": "gzip", "useZlib": True}, {"type": "bzip2"},
        {"type": "xz"}, {"type": "zstd"},
        {"type": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2},
    ],
    ids=lambda c: "-".join(map(str, c.values())),
)  # fmt: skip
def test_written_by_tensorstore(tmp_path: Path, compression: dict[str, Any]):
    metadata = {
        "dimensions": [9, 7, 5], "blockSize": [4, 6, 3], "dataType": "uint16",
        "compression": compression, "axes": ["x", "y", "z"], "units": ["nm", "nm", "um"],
        "resolution": [4, 4, 40],
    }  # fmt: skip
    kvstore = {"driver": "file", "path": str(tmp_path)}
    spec = {"driver": "n5", "kvstore": kvstore, "metadata": metadata}
    stored = ts.open(spec, create=True).result()
    stored[:7] = np.random.default_rng(1).integers(0, 100, (7, 7, 5)).astype("u2")
    meta, got = read_array(tmp_path)
    assert same(got, stored.read().result().T)
    assert meta.axes == (
        Axis("z", "um", 40.0, kind="space"),
        Axis("y", "nm", 4.0, kind="space"),
        Axis("x", "nm", 4.0, kind="space"),
    )


def test_shape_chunks_and_keys_are_reversed():
    meta = parse()
    assert meta.shape == (4, 5, 6)
    assert meta.chunks == (2, 3, 4)
    assert meta.keys.key((0, 1, 2)) == "2/1/0"
    assert meta.fill == bytes(2)
    assert meta.axis_names == ("z", "y", "x")


def test_blocks_at_the_edge_may_be_cut():
    meta = parse()
    data = np.arange(1, 9, dtype="i2").reshape(2, 2, 2)
    got = decoder(meta).decode(block(data))
    assert got.shape == (2, 3, 4)
    assert got[:2, :2, :2].tolist() == data.tolist()
    assert got.sum() == data.sum()
    for compression in ("gzip", "lz4", "blosc"):
        config, compress = COMPRESSIONS["lz4-bare" if compression == "lz4" else compression]
        cut = block(data, lambda b, compress=compress: bytes(compress(b)))
        assert decoder(parse(compression=config)).decode(cut).tolist() == got.tolist()


def test_block_modes():
    meta = parse()
    data = np.arange(24, dtype="i2").reshape(2, 3, 4)
    assert decoder(meta).decode(block(data, mode=1)).tolist() == data.tolist()
    with pytest.raises(ChunkError, match="variable length"):
        decoder(meta).decode(block(data, mode=1, count=25))
    with pytest.raises(ChunkError, match="serialised objects"):
        decoder(meta).decode(b"\0\2\0\0\0\5hello")
    with pytest.raises(ChunkError, match="mode 3"):
        decoder(meta).decode(block(data, mode=3))


@pytest.mark.parametrize("cut", range(16))
def test_headers_that_end_early(cut: int):
    data = block(np.arange(24, dtype="i2").reshape(2, 3, 4))
    with pytest.raises(ChunkError):
        decoder(parse()).decode(data[:cut])


def test_blocks_that_do_not_fit():
    meta = parse()
    full = block(np.arange(24, dtype="i2").reshape(2, 3, 4))
    for bad in (
        full[:-1],
        full + b"\0",
        block(np.zeros((3, 3, 4), "i2")),
        block(np.zeros((3, 4), "i2")),
        struct.pack(">HHIII", 0, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    ):
        with pytest.raises(ChunkError, match="n5_block"):
            decoder(meta).decode(bad)


def test_groups_and_attributes():
    group = n5.parse({"attributes.json": b'{"n5": "2.5.1", "scales": [[1, 1]]}'})
    assert group == GroupMeta("n5", {"scales": [[1, 1]]})
    meta = parse(n5="2.0", name="x", pixelResolution={"unit": "um", "dimensions": [1, 2, 3]})
    assert set(meta.attributes) == {"name", "pixelResolution"}
    assert [(a.name, a.scale, a.unit) for a in meta.axes] == [
        ("z", 3.0, "um"), ("y", 2.0, "um"), ("x", 1.0, "um"),
    ]  # fmt: skip
    setup = n5.parse({"attributes.json": b'{"dataType": "uint8", "downsamplingFactors": []}'})
    assert isinstance(setup, GroupMeta)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimensions": [-1, 1, 1]}, "extent -1"),
        ({"dimensions": 5.5}, "no integer"),
        ({"blockSize": [0, 1, 1]}, "extent 0"),
        ({"blockSize": [1, 1]}, "2 dimensions"),
        ({"blockSize": ...}, "has no 'blockSize'"),
        ({"dataType": "float16"}, "no data type"),
        ({"dataType": {}}, "no data type"),
        ({"compression": 5}, "no compression"),
        ({"compression": {"level": 5}}, "no compression"),
    ],
)
def test_nonsense_is_named(changes: dict[str, Any], words: str):
    with pytest.raises(MetadataError, match=words) as caught:
        parse(**changes)
    assert str(caught.value).startswith("attributes.json: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataType": "string"}, "raw keys read"),
        ({"dataType": "object"}, "raw keys read"),
        ({"compression": {"type": "jpeg"}}, "jpeg"),
        ({"compression": {"type": "pickle"}}, "runs code"),
        ({"blockSize": [1 << 20, 1 << 20, 1]}, "4 GiB"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict[str, Any], words: str):
    with pytest.raises(Unsupported, match=words):
        parse(**changes)
