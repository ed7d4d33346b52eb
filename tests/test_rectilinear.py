"""Chunks that are not all of one shape: rectilinear grids, and the shards of such a grid.

The stores are made by hand from the specification; tests/conformance has those of zarrs.
"""

from __future__ import annotations

import gzip
import io
import json
import threading
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
import zarr.codecs as zc

from tests.memory_store import MemoryStore
from tests.reading import assemble, parse, read_array
from znfs.arrays.array import Array
from znfs.cache import BlockCache
from znfs.errors import MetadataError, Stale, ZnfsError
from znfs.hierarchy import Hierarchy
from znfs.line import Line
from znfs.meta import Edges
from znfs.tree import open_tree

DATA = np.random.default_rng(5).integers(1, 60_000, (11, 13, 7)).astype("<u2")
FILL = 7
EDGES = ((2, 4, 1, 4), (3, 3, 5, 4), (3, 3, 3))  # the last axis ends beyond the array
SPELLED = [[2, 4, 1, 4], [[3, 2], 5, 4], 3]
GZIP = [
    {"name": "bytes", "configuration": {"endian": "big"}},
    {"name": "gzip", "configuration": {"level": 1}},
]


def rectilinear(*shapes: Any) -> dict[str, Any]:
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": shapes}}


def document(grid: Any, codecs: Any = GZIP, shape: Any = DATA.shape) -> dict[str, Any]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint16",
        "chunk_grid": grid, "fill_value": FILL, "codecs": codecs,
        "chunk_key_encoding": {"name": "default"},
    }  # fmt: skip


def stored(edges: Any = EDGES, data: np.ndarray = DATA) -> dict[str, bytes]:
    """The chunks of `data`, each gzip of big-endian numbers; what is beyond `data` is 9."""
    objects = {}
    for index in product(*(range(len(e)) for e in edges)):
        shape = [e[i] for e, i in zip(edges, index, strict=True)]
        start = [sum(e[:i]) for e, i in zip(edges, index, strict=True)]
        part = data[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
        chunk = np.full(shape, 9, ">u2")
        chunk[tuple(map(slice, part.shape))] = part
        objects["/".join(["c", *map(str, index)])] = gzip.compress(chunk.tobytes())
    return objects


def write(root: Path, objects: dict[str, bytes], described: Any) -> Path:
    for key, value in objects.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(value)
    (root / "zarr.json").write_text(json.dumps(described))
    return root


@pytest.mark.parametrize(
    "grid",
    [
        rectilinear(*SPELLED),
        rectilinear(list(EDGES[0]), [[3, 1], [3, 1], [5, 1], 4], [[3, 3]]),
        rectilinear([2, 4, 1, [4, 2]], [*EDGES[1], 1000], [3, 3, 3, [5, 1 << 40]]),
        {"name": "rectangular", "configuration": {"chunk_shape": [*map(list, EDGES[:2]), 3]}},
    ],
    ids=["lengths", "runs", "more chunks than needed", "ZEP 3"],
)
def test_every_spelling_reads_the_same(grid: Any, tmp_path: Path) -> None:
    meta, values = read_array(write(tmp_path, stored(), document(grid)))
    assert [e.count for e in meta.edges] == [4, 4, 3]
    np.testing.assert_array_equal(values, DATA)


def test_a_last_chunk_that_ends_with_the_array(tmp_path: Path) -> None:
    bounded = {"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": [4, 13, 5]}}
    objects = stored(((4, 4, 3), (13,), (5, 2)))
    _, values = read_array(write(tmp_path, objects, document(bounded)))
    np.testing.assert_array_equal(values, DATA)


def test_edges_that_are_all_alike_make_a_regular_grid(tmp_path: Path) -> None:
    objects = stored(((4, 4, 4), (5, 5, 5), (7,)))
    path = write(tmp_path, objects, document(rectilinear(4, [[5, 3]], [7, 7])))
    meta, values = read_array(path)
    assert (meta.edges, meta.chunks) == ((), (4, 5, 7))
    np.testing.assert_array_equal(values, DATA)


@pytest.mark.parametrize("shape", [(), (0, 4), (4, 0)])
def test_no_dimension_and_no_extent(shape: tuple[int, ...], tmp_path: Path) -> None:
    grid = rectilinear(*([[2, 1, 1]] * len(shape)))
    objects = {} if shape else {"c": gzip.compress(b"\0\5")}
    _, values = read_array(write(tmp_path, objects, document(grid, shape=shape)))
    np.testing.assert_array_equal(values, np.full(shape, 5))


@pytest.mark.parametrize(
    ("shards", "width"),
    [
        (((2, 4, 1, 4), (6, 8), (7,)), 7),
        (((11,), (4, 2, 8), (7, 7)), 7),
        (((4, 7), (6, 8), (2, 4, 1)), 1),  # several chunks of several shards in a row
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_shards_that_are_not_all_of_one_shape(
    shards: tuple[tuple[int, ...], ...], width: int, nested: bool, tmp_path: Path
) -> None:
    """zarr-python writes each shard, as an array of one shard."""
    objects = {}
    codecs = [zc.BytesCodec(), zc.GzipCodec()]
    codec: Any = zc.ShardingCodec(chunk_shape=(1, 2, width), codecs=codecs)
    if nested:
        codec = zc.ShardingCodec(chunk_shape=(1, 2, width), codecs=[
            zc.ShardingCodec(chunk_shape=(1, 1, width), codecs=codecs)])  # fmt: skip
    for index in product(*(range(len(e)) for e in shards)):
        shape = [e[i] for e, i in zip(shards, index, strict=True)]
        start = [sum(e[:i]) for e, i in zip(shards, index, strict=True)]
        part = DATA[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
        if not part.size:
            continue
        array = zarr.create_array(
            tmp_path / "made", shape=shape, chunks=shape, dtype="u2", fill_value=FILL,
            serializer=codec, compressors=None, overwrite=True,
        )  # fmt: skip
        array[tuple(map(slice, part.shape))] = part
        made = tmp_path / "made/c/0/0/0"
        objects["/".join(["c", *map(str, index)])] = made.read_bytes()
    described = json.loads((tmp_path / "made/zarr.json").read_text())
    grid = rectilinear(*map(list, shards))
    write(tmp_path / "a", objects, document(grid, described["codecs"]))
    _, values = read_array(tmp_path / "a")
    np.testing.assert_array_equal(values, DATA)
    tree = open_tree(str(tmp_path / "a"))
    np.testing.assert_array_equal(np.load(io.BytesIO(read(tree, "a.npy"))), DATA)
    inner = np.frombuffer(read(tree, "chunks/c/3/5/0"), "<u2")
    expected = DATA[3, 5 if nested else slice(10, 12), :width]
    np.testing.assert_array_equal(inner, expected.reshape(-1))
    first = (3, 5 if nested else 10, 0)
    at = [np.searchsorted(np.cumsum(e), x, "right") for e, x in zip(shards, first, strict=True)]
    assert tree.attributes("chunks/c/3/5/0")["url"].endswith("/c/{}/{}/{}".format(*at))


def read(tree: Any, path: str) -> bytes:
    file = tree.resolve(path)
    return file.read(0, file.size)


def test_every_view_of_it(tmp_path: Path) -> None:
    objects = stored()
    del objects["c/1/2/0"], objects["c/3/0/2"]
    expected = DATA.copy()
    expected[2:6, 6:11, :3] = FILL
    expected[7:, :3, 6:] = FILL
    path = write(tmp_path / "a.zarr", objects, document(rectilinear(*SPELLED)))
    tree = open_tree(str(path))
    np.testing.assert_array_equal(np.load(io.BytesIO(read(tree, "a.npy"))), expected)
    with h5py.File(io.BytesIO(read(tree, "a.h5"))) as f:
        np.testing.assert_array_equal(f["a"][:], expected)
        np.testing.assert_array_equal(f["a"][3:9, 4:7, 2:], expected[3:9, 4:7, 2:])
    # `chunks` has what the keys name, in the shape it is stored in; the keys are the store's own.
    for i, j, k in np.ndindex(4, 4, 3):
        key = f"c/{i}/{j}/{k}"
        shape = (EDGES[0][i], EDGES[1][j], EDGES[2][k])
        data = objects.get(key)
        whole = np.full(shape, FILL, "<u2")
        if data is not None:
            whole[...] = np.frombuffer(gzip.decompress(data), ">u2").reshape(shape)
        whole[:, 13 - sum(EDGES[1][:j]) :] = FILL  # beyond the array, where 9 is stored
        whole[:, :, 7 - 3 * k :] = FILL
        assert read(tree, f"chunks/{key}") == whole.tobytes()
        file = tree.resolve(f"chunks/{key}")
        assert file.read(3, 5) == whole.tobytes()[3:8]
        if data is not None:
            assert read(tree, key) == data
    assert list(tree.resolve("chunks/c").names()) == ["0", "1", "2", "3"]
    assert list(tree.resolve("chunks/c/0").names()) == ["0", "1", "2", "3"]
    assert list(tree.resolve("chunks/c/0/0").names()) == ["0", "1", "2"]
    with pytest.raises(ZnfsError):
        tree.resolve("chunks/c/4/0/0")


@pytest.mark.parametrize("far", [False, True])
def test_each_chunk_is_fetched_once_for_all_the_blocks_that_need_it(far: bool) -> None:
    store = MemoryStore(stored() | {
        "zarr.json": json.dumps(document(rectilinear(*SPELLED))).encode()})  # fmt: skip
    cache = BlockCache(1 << 20, 4, line=Line(4) if far else None)
    hierarchy = Hierarchy(store, cache, root_name="a", ttl=60.0)
    array = hierarchy.node("")
    assert isinstance(array, Array)
    assert array.meta.chunks == (3, 4, 3)
    np.testing.assert_array_equal(assemble(array), DATA)
    cache.close()
    hierarchy.close()
    assert {k: n for k, n in store.gets.items() if k.startswith("c/")} == dict.fromkeys(
        (k for k in store.objects if k.startswith("c/")), 1
    )


def test_a_missing_chunk_is_fill_value_only_while_the_array_stands() -> None:
    store = MemoryStore(stored() | {
        "zarr.json": json.dumps(document(rectilinear(*SPELLED))).encode()})  # fmt: skip
    hierarchy = Hierarchy(store, BlockCache(1 << 20, 1), root_name="a", ttl=60.0)
    array = hierarchy.node("")
    assert isinstance(array, Array)
    del store.objects["c/0/0/0"]
    expected = DATA[:3, :4, :3].copy()
    expected[:2, :3] = FILL
    np.testing.assert_array_equal(array.block((0, 0, 0)), expected)
    store.objects.clear()
    with pytest.raises(Stale):
        array.block((2, 2, 2))
    hierarchy.close()


def test_the_chunks_of_a_block_are_fetched_side_by_side() -> None:
    store = MemoryStore(stored() | {
        "zarr.json": json.dumps(document(rectilinear(*SPELLED))).encode()})  # fmt: skip
    cache = BlockCache(1 << 20, 4, line=Line(4))
    hierarchy = Hierarchy(store, cache, root_name="a", ttl=60.0)
    array = hierarchy.node("")
    assert isinstance(array, Array)
    together = threading.Barrier(4, timeout=20)  # of the first block's chunks each waits for all

    def wait(key: str) -> None:
        together.wait()

    store.fail = wait
    np.testing.assert_array_equal(array.block((0, 0, 0)), DATA[:3, :4, :3])
    cache.close()
    hierarchy.close()


def test_chunks_that_are_done_with_are_the_first_to_go() -> None:
    """With room for a few chunks none is fetched more often than the rows of blocks it is in."""
    data = np.random.default_rng(1).integers(0, 99, (4000, 3)).astype("<u2")
    edges = ((1000, *([10] * 300)), (3,))
    store = MemoryStore(stored(edges, data) | {"zarr.json": json.dumps(
        document(rectilinear([1000, [10, 300]], 3), shape=data.shape)).encode()})  # fmt: skip
    cache = BlockCache(20_000, 1)
    array = Hierarchy(store, cache, root_name="a", ttl=60.0).node("")
    assert isinstance(array, Array)
    np.testing.assert_array_equal(assemble(array), data)
    assert max(n for k, n in store.gets.items() if k.startswith("c/")) == 1


def test_a_damaged_chunk_is_an_error_and_named(tmp_path: Path) -> None:
    objects = stored()
    objects["c/1/1/1"] = gzip.compress(bytes(10))
    with pytest.raises(ZnfsError, match=r"c/1/1/1.*bytes"):
        read_array(write(tmp_path, objects, document(rectilinear(*SPELLED))))


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (rectilinear(*SPELLED[:2]), "3 dimensions"),
        (rectilinear([2, 4, 1, 3], 13, 7), "covers 10 of 11"),
        (rectilinear([], 13, 7), "covers 0 of 11"),
        (rectilinear([2, 0, 9], 13, 7), "extent 0"),
        (rectilinear([[11, 0]], 13, 7), "extent 0"),
        (rectilinear([[11, -1]], 13, 7), "extent -1"),
        (rectilinear([[11, 1, 1]], 13, 7), "no integer"),
        (rectilinear(["11"], 13, 7), "no integer"),
        (rectilinear([1 << 70], 13, 7), "extent 1180"),
        (rectilinear("x", 13, 7), "no integer"),
        (rectilinear([[1 << 40, 1]], [13, 1], 7), "more than the 4 GiB"),
        ({"name": "rectilinear", "configuration": {"chunk_shapes": SPELLED}}, "of kind None"),
        ({"name": "rectilinear", "configuration": {
            "kind": "inline", "chunk_shapes": SPELLED, "encoded_chunk_shapes": SPELLED}},
         "with .'encoded_chunk_shapes'."),
        ({"name": "hexagonal"}, "chunk grid 'hexagonal' is unknown"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused(grid: Any, words: str, tmp_path: Path) -> None:
    write(tmp_path, {}, document(grid))
    with pytest.raises(MetadataError, match=words):
        parse(tmp_path)


def test_shards_must_divide_into_chunks(tmp_path: Path) -> None:
    sharding = {"name": "sharding_indexed", "configuration": {
        "chunk_shape": [2, 13, 7], "codecs": GZIP[:1], "index_codecs": GZIP[:1]}}  # fmt: skip
    write(tmp_path, {}, document(rectilinear([4, 3, 4], 13, 7), [sharding]))
    with pytest.raises(MetadataError, match="not all shards divide"):
        parse(tmp_path)


def test_places_along_an_axis() -> None:
    edges = Edges(((3, 2), (1, 4), (10**12, 10**6)))
    lengths = [3, 3, 1, 1, 1, 1, 10**12]
    starts = [sum(lengths[:i]) for i in range(7)]
    assert [edges.span(i) for i in range(7)] == list(zip(starts, lengths, strict=True))
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        assert {edges.at(start), edges.at(start + length - 1)} == {number}
    assert edges.count == 10**6 + 6
    assert edges.span(10**6 + 5)[0] + 10**12 == edges.end
