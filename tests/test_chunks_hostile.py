"""Shard indexes that lie, shards that unpack to too much: an error, and no memory spent on them."""

from __future__ import annotations

import gzip
import json
import os
import resource
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from tests.memory_store import MemoryStore
from znfs import hierarchy
from znfs.cache import BlockCache
from znfs.errors import ChunkError, StoreError
from znfs.tree import open_tree

CHUNK = np.arange(64, dtype="u2")
MISSING = 2**64 - 1


def shard(entries: list[tuple[int, int]], body: bytes, checksum: bool = True) -> bytes:
    index = np.array(entries, "<u8").tobytes()
    crc = google_crc32c.value(index).to_bytes(4, "little") if checksum else b""
    return body + index + crc


def store(root: Path, outer: list[Any], data: bytes) -> None:
    """A sharded array of one shard that has two chunks of 64 numbers."""
    codec = {"name": "sharding_indexed", "configuration": {
        "chunk_shape": [64], "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}},
                         {"name": "crc32c"}]}}  # fmt: skip
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [128], "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [128]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [codec, *outer],
    }  # fmt: skip
    (root / "c").mkdir(parents=True)
    (root / "zarr.json").write_text(json.dumps(document))
    (root / "c/0").write_bytes(data)


@pytest.mark.parametrize(
    "entry",
    [
        (1000, 128), (0, 1 << 40), (1 << 62, 128), ((1 << 63) - 1, 128), (MISSING - 1, 128),
        (MISSING, 128), (0, MISSING), (1 << 63, 1 << 63), (0, 127), (0, 0),
    ],
)  # fmt: skip
def test_lying_indexes(entry: tuple[int, int], tmp_path: Path) -> None:
    root = tmp_path / "a"
    store(root, [], shard([entry, (0, 128)], CHUNK.tobytes()))
    # The file is made long, and sparse: what the index claims is there to be read.
    with (root / "c/0").open("r+b") as file:
        tail = file.read()[-36:]
        file.truncate(1 << 36)
        file.seek((1 << 36) - 36)
        file.write(tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tree = open_tree(str(root))
    if entry == (1000, 128):  # beyond what was written: zeros of the sparse file
        assert tree.resolve("chunks/c/0").read(0, 128) == bytes(128)
    else:
        with pytest.raises((ChunkError, StoreError), match=r"c/0|c\[0\]|too|bytes"):
            tree.resolve("chunks/c/0").read(0, 128)
    assert tree.resolve("chunks/c/1").read(0, 128) == CHUNK.tobytes()
    fails = pytest.raises((ChunkError, StoreError)) if entry[0] != 1000 else nullcontext()
    with fails:
        tree.resolve("a.npy").read(0, 1000)
    tree.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_a_shard_that_unpacks_to_more_than_it_may_hold(tmp_path: Path) -> None:
    gzipped = [{"name": "gzip", "configuration": {"level": 9}}]
    whole = shard([(0, 128), (MISSING, MISSING)], CHUNK.tobytes())
    store(tmp_path / "good", gzipped, gzip.compress(whole))
    assert open_tree(str(tmp_path / "good")).resolve("chunks/c/0").read(0, 128) == CHUNK.tobytes()
    bomb = gzip.compress(bytes(64 << 20) + whole)
    store(tmp_path / "bomb", gzipped, bomb)
    with pytest.raises(ChunkError, match="more"):
        open_tree(str(tmp_path / "bomb")).resolve("chunks/c/0").read(0, 128)
    store(tmp_path / "long", gzipped, bomb)
    os.truncate(tmp_path / "long/c/0", 1 << 36)
    with pytest.raises(ChunkError, match="too many"):
        open_tree(str(tmp_path / "long")).resolve("chunks/c/0").read(0, 128)


def test_a_document_of_any_length(tmp_path: Path) -> None:
    root = tmp_path / "g"
    (root / "a").mkdir(parents=True)
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    (root / "a/.zarray").write_text("{")
    os.truncate(root / "a/.zarray", 1 << 36)
    told = {d.path: d for d in open_tree(str(root)).describe()}
    assert told["a"].kind == "unreadable"
    assert "longer than" in told["a"].remarks[0]


def test_of_a_distant_document_no_more_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("znfs.hierarchy.documents._MOST_DOCUMENT_BYTES", 1000)
    document = b'{"zarr_format": 3, "node_type": "group"}'
    store = MemoryStore({"zarr.json": document, "a/zarr.json": document + b" " * 1_000_000})
    nodes = hierarchy.Hierarchy(store, BlockCache(1 << 20, 1), root_name="g", ttl=60.0)
    found = nodes.node("a")
    nodes.close()
    assert isinstance(found, hierarchy.Unreadable)
    assert "longer than" in found.reason
    assert store.fetched < 3000


def test_documents_of_many_small_values(tmp_path: Path) -> None:
    """Few bytes that would be many objects are counted before they are made."""
    document = b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": [%s]}}'
    (tmp_path / "a").mkdir()
    (tmp_path / "a/zarr.json").write_bytes(document % b",".join([b"[]"] * (1 << 22)))
    tracemalloc.start()
    _, told = open_tree(str(tmp_path)).describe()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "4,194,304 values" in told.remarks[0]
    assert peak < 80 << 20


def test_nodes_far_below(tmp_path: Path) -> None:
    depth = 3000
    group = {"zarr_format": 3, "node_type": "group"}
    inner = {"/".join("a" * n): group for n in (1, 2, depth)}
    group = group | {"consolidated_metadata": {"kind": "inline", "metadata": inner}}
    (tmp_path / "zarr.json").write_text(json.dumps(group))
    tree = open_tree(str(tmp_path))
    told = list(tree.describe())
    assert [d.kind for d in told[:4]] == ["group", "group", "group", "prefix"]
    assert len(told) == depth + 1
    assert told[-1].kind == "group"
    assert list(tree.resolve(told[-1].path).names())


def test_chunks_that_a_filter_stores_wider_are_not_taken_for_hostile(tmp_path):
    import numcodecs
    import zarr

    path = str(tmp_path / "wide.zarr")
    data = np.arange(40_000, dtype="u1")
    filters = [numcodecs.AsType(encode_dtype="<f8", decode_dtype="|u1")]
    array = zarr.create_array(
        path, shape=data.shape, chunks=(40_000,), dtype="u1", zarr_format=2,
        filters=filters, compressors=None,
    )  # fmt: skip
    array[:] = data
    file = open_tree(path).resolve("chunks/0")
    assert file.read(0, file.size) == data.tobytes()
