"""Chunks of elements of variable length, against numcodecs, and by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.vlen import VLenBytes, VLenUTF8

from znfs.cache.recency import cost
from znfs.codecs import Decoder
from znfs.codecs.vlen import Packed
from znfs.errors import ChunkError
from znfs.formats import zarr2
from znfs.meta import VARIABLE_BYTES, VARIABLE_TEXT, ArrayMeta, CodecSpec

MOST = 1 << 20


def decode(kind: Any, data: bytes, *shape: int, before: Any = (), most: int = MOST) -> Any:
    name = "vlen-utf8" if kind == VARIABLE_TEXT else "vlen-bytes"
    return Decoder((*before, CodecSpec(name)), kind, shape, b"", most).decode(data)


def unpack(block: np.ndarray[Any, Any], count: int) -> list[bytes]:
    packed = Packed(block, count)
    assert len(packed.starts) == count + 1
    assert len(packed.words) == packed.starts[-1]
    raw = packed.words.tobytes()
    places = zip(packed.starts.tolist(), packed.lengths.tolist(), strict=False)
    found = [raw[8 * start : 8 * start + length] for start, length in places]
    padded = b"".join(item + bytes(-len(item) % 8) for item in found)
    assert padded == raw
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=30))
def test_text(values: list[str]) -> None:
    data = bytes(VLenUTF8().encode(np.array(values, object)))
    block = decode(VARIABLE_TEXT, data, len(values))
    assert unpack(block, len(values)) == [value.encode() for value in values]
    assert not block.flags.writeable


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=6, max_size=6))
def test_bytes_of_a_transposed_chunk(values: list[bytes]) -> None:
    items = np.array([*values, None], object)[:6].reshape(2, 3)
    data = bytes(VLenBytes().encode(items.T.reshape(-1)))
    before = [CodecSpec("transpose", {"order": [1, 0]})]
    assert unpack(decode(VARIABLE_BYTES, data, 2, 3, before=before), 6) == values


def test_what_a_block_takes_is_what_the_cache_counts() -> None:
    data = bytes(VLenUTF8().encode(np.array(["x" * 100_000, ""], object)))
    block = decode(VARIABLE_TEXT, data, 2)
    assert 100_000 < cost(block) == block.nbytes < 100_100


def lengths(*items: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<I", claimed) + data for claimed, data in items)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends early"),
        (b"\2\0\0", "ends early"),
        (b"\2\0\0\0", "truncated"),
        (b"\1\0\0\0" + lengths((1, b"a"), (1, b"b")), "holds 1 elements where 2 belong"),
        (b"\xff\xff\xff\xff" + lengths((1, b"a")), "holds 4294967295 elements"),
        (b"\2\0\0\0" + lengths((1, b"a"), (2, b"b")), "truncated"),
        (b"\2\0\0\0" + lengths((0xFFFFFFFF, b"a"), (1, b"b")), "truncated"),
        (b"\2\0\0\0" + lengths((0x7FFFFFFF, b"a"), (1, b"b")), "truncated"),
        (b"\2\0\0\0" + lengths((1, b"a"), (1, b"b")) + b"c", "more bytes than its elements"),
        (b"\2\0\0\0" + lengths((1, b"a"), (1, b"\xff")), "utf-8"),
        # Two halves of one character: each element must be text by itself.
        (b"\2\0\0\0" + lengths((1, b"\xc3"), (1, b"\xa9")), "utf-8"),
        (b"\2\0\0\0" + lengths((3, b"\xed\xa0\x80"), (0, b"")), "utf-8"),  # a surrogate
    ],
)
def test_chunks_that_lie(data: bytes, words: str) -> None:
    with pytest.raises(ChunkError, match=f"vlen-utf8: .*{words}"):
        decode(VARIABLE_TEXT, data, 2)


@pytest.mark.parametrize("compressor", [None, "zlib", "zstd", "lz4", "blosc", "lzma", "bz2"])
def test_no_more_is_decoded_than_there_may_be(compressor: str | None) -> None:
    from numcodecs import get_codec

    data = bytes(VLenUTF8().encode(np.array(["a" * 5000, "b" * 5001], object)))
    after = [CodecSpec(compressor)] if compressor else []
    if compressor:
        data = bytes(get_codec({"id": compressor}).encode(data))
    codecs = [CodecSpec("vlen-utf8"), *after]
    assert Decoder(codecs, VARIABLE_TEXT, (2,), b"", 10_001).decode(data).nbytes > 10_000
    with pytest.raises(ChunkError, match=r"more than the \d+ bytes .* \(--string-bytes"):
        Decoder(codecs, VARIABLE_TEXT, (2,), b"", 10_000).decode(data)


def meta(fill: Any, kind: str = "vlen-utf8") -> ArrayMeta:
    document = {
        "zarr_format": 2, "shape": [3], "chunks": [2], "dtype": "|O", "fill_value": fill,
        "order": "C", "filters": [{"id": kind}], "compressor": None,
    }  # fmt: skip
    parsed = zarr2.parse({".zarray": json.dumps(document).encode()})
    assert isinstance(parsed, ArrayMeta)
    return parsed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "fill"),
    [
        *(("vlen-utf8", fill) for fill in (0, None, "", "eA==", 1.5, 7)),
        *(("vlen-bytes", fill) for fill in (None, "", "eA==")),  # it opens no others
    ],
)
def test_fill_values_are_zarrs(kind: str, fill: Any, tmp_path: Path) -> None:
    document = {
        "zarr_format": 2, "shape": [3], "chunks": [2], "dtype": "|O", "fill_value": fill,
        "order": "C", "filters": [{"id": kind}], "compressor": None,
    }  # fmt: skip
    (tmp_path / ".zarray").write_text(json.dumps(document))
    expected = zarr.open_array(tmp_path, mode="r")[0:1].tolist()[0]
    got = meta(fill, kind).fill
    assert (got if kind == "vlen-bytes" else got.decode()) == expected


def test_room() -> None:
    """256 bytes an element, but no less than 64 KiB a chunk and 1 MiB an array."""
    base = meta("")
    assert base.most_of_chunk == 1 << 19  # two chunks

    def most(shape: tuple[int, ...], chunks: tuple[int, ...], **more: Any) -> int:
        from dataclasses import replace

        return replace(base, shape=shape, chunks=chunks, **more).most_of_chunk

    assert most((), ()) == 1 << 20
    assert most((10**9,), (1000,)) == 256_000
    assert most((10**9,), (2,)) == 1 << 16
    assert most((10**9,), (2,), string_bytes=1 << 20) == 1 << 21
    assert most((10**9,), (1 << 20,), string_bytes=1 << 20) == (1 << 32) - 1
