"""What is fuzzed: functions that take bytes, and raise only if znfs breaks a promise.

A promise: an error is one of znfs's own; what is decoded has the declared size; no path leaves its
root; a document of references has opened only what it may. Hangs and memory are the engine's to
watch: every input here declares at most some MiB.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
from numcodecs.vlen import VLenBytes

from tests.fuzz.hostile import document as change_document
from tests.fuzz.hostile import noise
from tests.memory_store import MemoryStore
from tests.test_codecs import DATA, ENCODED
from tests.test_codecs import decoder as decoder_of
from tests.test_formats_fuzz import DOCUMENTS, OME, ZARR, check
from tests.test_zip_store import Remote
from znfs.arrays.array import Array
from znfs.cache import BlockCache
from znfs.codecs import Decoder
from znfs.codecs.vlen import Packed
from znfs.errors import ChunkError, StoreError, ZnfsError
from znfs.formats import ome
from znfs.hierarchy import Hierarchy
from znfs.meta import VARIABLE, VARIABLE_BYTES, VARIABLE_TEXT, CodecSpec
from znfs.stores.autoindex import entries
from znfs.stores.base import Store
from znfs.stores.references import ReferenceStore
from znfs.stores.zip import ZipStore

_MANY = 50  # names of a listing, chunks of an array, that are looked at


@dataclass(frozen=True)
class Target:
    """`run` takes an input; `seeds` are where the engine begins; `change` is a mutation that knows
    more of the inputs than the engine does."""

    run: Callable[[bytes], None]
    seeds: list[bytes]
    change: Callable[[random.Random, bytes], bytes] = noise


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _broken(data: bytes) -> None:
    """What a target does that finds something at once."""
    assert len(data) < 10, "broken on purpose"


# Metadata documents: the first byte chooses the name.

_NAMES = sorted({name for name, _ in DOCUMENTS.values()})
_RECTILINEAR = ZARR | {
    "chunk_grid": {"name": "rectilinear", "configuration": {
        "kind": "inline", "chunk_shapes": [[2, 4, [1, 2]], [[2, 2]]]}}}  # fmt: skip
_PLAIN = {**_RECTILINEAR, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}
_SHARDS = _RECTILINEAR | {"codecs": [ZARR["codecs"][1]]}
_EXTENDED = ZARR | {
    "codecs": [
        {"name": "scale_offset", "configuration": {"scale": 2, "offset": 1}},
        {"name": "cast_value", "configuration": {
            "data_type": "int4", "rounding": "nearest-away", "out_of_range": "clamp"}},
        {"name": "reshape", "configuration": {"shape": [[0, 1]]}},
        {"name": "packbits", "configuration": {
            "first_bit": 0, "last_bit": 3, "padding_encoding": "first_byte"}},
    ],
    "chunk_key_encoding": {"name": "suffix", "configuration": {
        "suffix": ".tif", "base_encoding": {"name": "v2"}}},
}  # fmt: skip


_MORE = (_RECTILINEAR, _PLAIN, _SHARDS, _EXTENDED)


def _document(data: bytes) -> None:
    if data:
        check({_NAMES[data[0] % len(_NAMES)]: data[1:]})


def _change_behind(first: int) -> Callable[[random.Random, bytes], bytes]:
    """Structural changes of JSON behind the first bytes."""
    return lambda rng, data: data[:first] + change_document(rng, data[first:])


def _of_documents() -> list[bytes]:
    every = [*DOCUMENTS.values(), *(("zarr.json", d) for d in _MORE)]
    return [bytes([_NAMES.index(name)]) + _json(value) for name, value in every]


# Arrays: a document, whose blocks are then read. Every chunk there is holds the same.


class _Chunks(MemoryStore):
    def get(self, key: str, *args: Any, **more: Any) -> Any:
        if key.startswith(("c/", "0")) and key not in self.objects:
            self.objects[key] = bytes(8) + b"\x1f\x8b" + bytes(200)
            found = super().get(key, *args, **more)
            del self.objects[key]
            return found
        return super().get(key, *args, **more)


def _array(data: bytes) -> None:
    if data:
        name = _NAMES[data[0] % len(_NAMES)]
        _read_blocks(_Chunks({name: data[1:]}))


def _read_blocks(store: Store) -> None:
    hierarchy = Hierarchy(store, BlockCache(4 << 20, 0), root_name="a", ttl=60.0)
    try:
        node = hierarchy.node("")
        if not isinstance(node, Array) or node.meta.chunk_nbytes > 1 << 20:
            return
        grid = node.meta.grid
        for place in islice(np.ndindex(*(min(n, 3) for n in grid)), _MANY):
            last = tuple(n - 1 - i for n, i in zip(grid, place, strict=True))
            for index in (place, last):
                with contextlib.suppress(ZnfsError):
                    if node.meta.is_variable:
                        block = node.load(index)
                        if block is not None:
                            _check_packed(block, prod(node.meta.clipped_chunk))
                        continue
                    block = node.block(index)
                    assert block.shape == node.meta.chunks
                    assert block.dtype == node.meta.dtype
    except ZnfsError:
        pass
    finally:
        hierarchy.close()


def _check_packed(block: np.ndarray[Any, Any], count: int) -> None:
    """Elements of variable length lie one after another, all within the block."""
    packed = Packed(block, count)
    assert packed.starts[0] == 0
    assert packed.starts[-1] == len(packed.words)
    assert (np.diff(packed.starts.astype("i8")) == -(-packed.lengths.astype("i8") // 8)).all()


# Encoded chunks: the first byte chooses the codecs.


def _filters() -> dict[str, tuple[Decoder, bytes]]:
    made: dict[str, tuple[Decoder, bytes]] = {}
    for name, config in (
        ("delta", {"dtype": "<u4"}),
        ("fixedscaleoffset", {"dtype": "<u4", "astype": "<u2", "scale": 1, "offset": 0}),
        ("astype", {"encode_dtype": "<u2", "decode_dtype": "<u4"}),
        ("shuffle", {"elementsize": 4}),
    ):
        codec = numcodecs.get_codec({"id": name, **config})
        encoded = np.asarray(codec.encode(DATA.reshape(-1))).tobytes()
        specs = (CodecSpec(name, config), CodecSpec("zlib"), CodecSpec("crc32c"))
        packed = bytes(numcodecs.Zlib().encode(encoded))
        crc = google_crc32c.value(packed).to_bytes(4, "little")
        made[f"{name}, zlib, crc32c"] = (decoder_of(*specs), packed + crc)
    header = np.array([0, 2], ">u2").tobytes() + np.array([7, 6], ">u4").tobytes()
    for name, compression in (("raw", ()), ("n5_lz4", (CodecSpec("n5_lz4"),))):
        spec = CodecSpec("n5_block", {"compression": compression})
        turned = CodecSpec("transpose", {"order": [1, 0]})
        body = DATA.astype(">u4").tobytes()
        if compression:
            body = bytes(numcodecs.LZ4().encode(body))
        decoder = Decoder((turned, spec), np.dtype("<u4"), (7, 6), bytes(4))
        made[f"N5 {name}"] = (decoder, header + body)
    packed = CodecSpec("packed_bits", {"last_bit": 9, "padding_encoding": "first_byte"})
    cast = CodecSpec("cast_value", {"stored": np.dtype("<f4"), "out_of_range": "clamp"})
    body = bytes([4]) + bytes(range(53))
    made["packbits"] = (Decoder((packed,), np.dtype("<u4"), (6, 7), bytes(4)), body)
    made["cast_value"] = (
        Decoder((cast, CodecSpec("bytes", {})), np.dtype("<u4"), (6, 7), bytes(4)),
        DATA.astype("<f4").tobytes(),
    )
    texts = np.array([b"", b"a", "é".encode(), b"x" * 100, b"12345678", b"123456789"], object)
    body = bytes(VLenBytes().encode(texts))
    for codec, kind in (("vlen-utf8", VARIABLE_TEXT), ("vlen-bytes", VARIABLE_BYTES)):
        turned = CodecSpec("transpose", {"order": [1, 0]})
        made[codec] = (Decoder((turned, CodecSpec(codec)), kind, (3, 2), b"", 4096), body)
    for name in ("packbits", "cast_value", "N5 raw", "N5 n5_lz4", "vlen-utf8", "vlen-bytes"):
        decoder, data = made[name]
        decoder.decode(data)  # the seeds are good
    return made


_DECODERS = [(decoder_of(spec), data) for spec, data in ENCODED.values()] + [*_filters().values()]


def _chunk(data: bytes) -> None:
    if data:
        decoder, _ = _DECODERS[data[0] % len(_DECODERS)]
        with contextlib.suppress(ChunkError):
            block = decoder.decode(data[1:])
            if decoder.dtype in VARIABLE:
                _check_packed(block, prod(decoder.shape))
                return
            assert (block.shape, block.dtype) == (decoder.shape, decoder.dtype)


# Shards, of several kinds by the first byte.


def _sharded(edges: Any = None, **config: Any) -> bytes:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    inner = [index[0], *config.pop("inner", [])]
    outer = config.pop("outer", [])
    sharding = {"chunk_shape": [4], "codecs": inner, "index_codecs": index, **config}
    grid = {"name": "regular", "configuration": {"chunk_shape": [8]}}
    if edges:
        grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": edges}}
    return _json({
        "zarr_format": 3, "node_type": "array", "shape": [16], "data_type": "uint16",
        "chunk_grid": grid, "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}, *outer],
    })  # fmt: skip


_GZIP = [{"name": "gzip", "configuration": {"level": 1}}]
_SHARDED = [
    _sharded(), _sharded(index_location="start"), _sharded(inner=_GZIP), _sharded(outer=_GZIP),
    _sharded(index_codecs=[{"name": "bytes", "configuration": {"endian": "big"}}]),
    _sharded(edges=[[4, 8, 4]]),
]  # fmt: skip


def _shard(data: bytes) -> None:
    if data:
        document = _SHARDED[data[0] % len(_SHARDED)]
        _read_blocks(MemoryStore({"zarr.json": document, "c/0": data[1:], "c/1": data[1:]}))


def _of_shards() -> list[bytes]:
    body = np.arange(8, dtype="<u2").tobytes()
    index = np.array([0, 8, 8, 8], "<u8").tobytes()
    crc = google_crc32c.value(index).to_bytes(4, "little")
    whole = body + index + crc
    at_start = np.array([36, 8, 44, 8], "<u8").tobytes()
    begun = at_start + google_crc32c.value(at_start).to_bytes(4, "little") + body
    packed = bytes(numcodecs.GZip().encode(whole))
    bare = body + np.array([0, 8, 8, 8], ">u8").tobytes()
    return [bytes([k]) + d for k, d in enumerate((whole, begun, whole, packed, bare, whole))]


# Documents of references: from this machine or another by the first byte.


class _References(MemoryStore):
    def __init__(self, local: bool, data: bytes) -> None:
        super().__init__({"": data})
        self.local = local
        self.url = "/data/refs.json" if local else "https://data.example/refs.json"


def _references(data: bytes) -> None:
    local = bool(data[:1] and data[0] % 2)

    def open_target(url: str) -> Store:
        assert url == "/" if local and "://" not in url else url.partition("://")[0] in _PERMITTED
        return MemoryStore({"x": b"data"})

    store = ReferenceStore(_References(local, data[1:]), "", open_target)
    with contextlib.suppress(ZnfsError):
        for entry in islice(store.list(""), _MANY):
            assert "/" not in entry.name
            for below in (entry.name, f"{entry.name}/0"):
                with contextlib.suppress(ZnfsError):
                    found = store.stat(below), store.get(below, 0, 1000)
                    assert found == (None, None) or entry.name not in ("", ".", "..")


_PERMITTED = {"s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "ftp", "hf",
              "osdf", "pelican"}  # fmt: skip
_REFERENCES = {"version": 1, "templates": {"u": "s3://bucket/x"}, "refs": {
    ".zgroup": '{"zarr_format": 2}', "a/0": ["{{u}}", 3, 5], "a/1": ["https://h/x"],
    "b": "base64:AAEC", "c": ["file:///etc/passwd", 0, 9], "d": ["../x"], "e": {"f": 1},
    "../g": "out", "h": ["zip://x::/etc/x"], "i": ["http://127.0.0.1/", 0, 1]}}  # fmt: skip


# Records of references in Parquet.


def _record(data: bytes) -> None:
    index = json.dumps({"record_size": 4, "metadata": {
        "a/.zarray": {"shape": [4], "chunks": [1]}}}).encode()  # fmt: skip
    document = MemoryStore({".zmetadata": index, "a/refs.0.parq": data})
    document.url = "/data/refs.parq"
    store = ReferenceStore(document, "", lambda url: MemoryStore({"x": b"data"}))
    for row in range(4):
        with contextlib.suppress(ZnfsError):
            store.get(f"a/{row}", 0, 100)


def _of_records() -> list[bytes]:
    try:
        import pyarrow
        from pyarrow.parquet import write_table
    except ImportError:  # then no record is read
        return [b"PAR1"]
    made = []
    for compression in ("none", "zstd", "snappy", "gzip"):
        table = pyarrow.table({
            "path": ["s3://b/x", "s3://b/y", None, ""], "offset": [0, 4, 0, 1],
            "size": [4, 0, 0, 9], "raw": [None, None, b"inline", None]})  # fmt: skip
        out = io.BytesIO()
        write_table(table, out, compression=compression)
        made.append(out.getvalue())
    return made


# Zip files, pages of web servers, image metadata.


def _zip(data: bytes) -> None:
    store = ZipStore(Remote(data))
    with contextlib.suppress(StoreError):
        for entry in islice(store.list(""), _MANY):
            # Dots may be names of members; the tree does not show them (the target `stores`).
            assert "/" not in entry.name
            for key in (entry.name, f"{entry.name}/b"):
                with contextlib.suppress(StoreError):
                    store.stat(key)
                    store.get(key, 0, 500)


def _of_zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            for number in range(3):
                archive.writestr(f"a{number}/b", bytes(range(60)) * number)
        made.append(packed.getvalue())
    return made


def _page(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for entry in entries(text, "https://data.example/a/b/") or ():
        assert entry.name not in ("", ".", "..")
        assert "/" not in entry.name


_PAGE = b"""<html><head><title>Index of /a/b/</title></head><body><h1>Index of /a/b/</h1><pre>
<a href="../">../</a>\n<a href="c/">c/</a>  01-Jan-2026 10:00   -\n<a href="d%20e">d e</a>  9K
<a href="/a/b/f">f</a> <a href="//h/x">x</a> <a href="?C=N;O=D">N</a></pre></body></html>"""


def _image(data: bytes) -> None:
    try:
        attributes = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(attributes, dict):
        return
    for source in (attributes, {"ome": attributes}):
        for path, axes in ome.level_axes(source).items():
            assert path
            assert isinstance(axes, tuple)
        assert all(len(text) < 400 for text in ome.remarks(source))
        ome.channels(source)
        assert all(isinstance(path, str) for path in (*ome.children(source), *ome.perhaps(source)))


# Whole stores in a folder, through the tree with all its views: the input is a seed.


def _store(data: bytes) -> None:
    from tests.fuzz.hostile import store
    from tests.fuzz.test_hostile import SECRET, visit

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret").write_bytes(SECRET)
        root = Path(folder) / "store"
        store(random.Random(data), root)
        visit(root)
        shutil.rmtree(root)


TARGETS: dict[str, Target] = {
    "documents": Target(_document, _of_documents(), _change_behind(1)),
    "arrays": Target(_array, _of_documents(), _change_behind(1)),
    "chunks": Target(_chunk, [bytes([k]) + data for k, (_, data) in enumerate(_DECODERS)]),
    "shards": Target(_shard, _of_shards()),
    "references": Target(
        _references, [bytes([k]) + _json(_REFERENCES) for k in (0, 1)], _change_behind(1)
    ),
    "records": Target(_record, _of_records()),
    "zip files": Target(_zip, _of_zips()),
    "web pages": Target(_page, [_PAGE]),
    "images": Target(_image, [_json(OME)], _change_behind(0)),
    "stores": Target(_store, [bytes([k]) for k in range(8)]),
}
if (_name := os.environ.get("ZNFS_FUZZ_BROKEN")) in TARGETS:
    TARGETS[_name] = replace(TARGETS[_name], run=_broken)
