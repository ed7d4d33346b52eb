"""A whole-slide image over S3 with 30 ms of latency: the first look takes few requests."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import znfs.tree.tree
from tests.conftest import running
from tests.images import Handle, write_image
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3
from znfs.options import Options
from znfs.tree import Tree

LEVELS, SIDE = 7, 1000  # of the coarsest; the first has 64,000 x 64,000 pixels
CHUNKS = 16  # of one plane of the coarsest level
DOCUMENTS = 6  # names that a node's metadata may have


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if name not in ("get", "get_ranges", "stat", "list"):
            return value

        def counted(*words: Any, **more: Any) -> Any:
            with self._lock:
                self.asked[name] += 1
            return value(*words, **more)

        return counted


@pytest.fixture(scope="module")
def s3():
    with running(S3) as server:
        yield server


@pytest.fixture(scope="module")
def slide(s3, tmp_path_factory):
    """Only the coarsest level has chunks; those of the others are fill value. Its pixels."""
    folder = tmp_path_factory.mktemp("slide") / "slide.zarr"
    coarse = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), "u1")
    write_image(folder, [coarse], "cyx", chunks=(1, 256, 256))
    (folder / "0").rename(folder / str(LEVELS - 1))
    group = zarr.open_group(folder, mode="r+")
    steps = []
    for k in range(LEVELS):
        if k < LEVELS - 1:
            side = SIDE << (LEVELS - 1 - k)
            group.create_array(
                str(k), shape=(3, side, side), chunks=(1, 256, 256), dtype="u1", fill_value=0
            )
        step = {"type": "scale", "scale": [1.0, 0.25 * 2**k, 0.25 * 2**k]}
        steps.append({"path": str(k), "coordinateTransformations": [step]})
    image = dict(group.attrs["multiscales"][0], datasets=steps)
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    client = s3.client()
    client.create_bucket(Bucket="slides")
    for path in folder.rglob("*"):
        if path.is_file():
            key = str(path.relative_to(folder.parent))
            client.put_object(Bucket="slides", Key=key, Body=path.read_bytes())
    return coarse


@pytest.fixture
def tree(s3, slide, monkeypatch):
    """A tree over a line of 30 ms, and what it asked of its store."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    counting = []
    real = znfs.tree.tree.open_store

    def open_store(*words: Any) -> Any:
        store, info = real(*words)
        counting.append(Counting(store))
        return counting[0], info

    monkeypatch.setattr(znfs.tree.tree, "open_store", open_store)
    with FaultProxy("127.0.0.1", s3.port) as proxy:
        proxy.latency = 0.03
        tree = Tree("s3://slides/slide.zarr", Options(endpoint_url=proxy.url))
        yield tree, counting[0]
        tree.close()


def test_first_plane_of_the_coarsest_level(tree, slide):
    tree, store = tree
    name = f"{LEVELS - 1}/tiff/{LEVELS - 1}_c0.tif"
    with tifffile.TiffFile(Handle(tree.resolve(name))) as found:
        np.testing.assert_array_equal(found.asarray(), slide[0])
    # The image's documents and the level's, and each chunk once.
    assert store.asked["get"] <= 2 * DOCUMENTS + CHUNKS
    assert store.asked["stat"] == 0
    assert store.asked["list"] <= 1


def test_coarsest_level_of_the_ome_tiff(tree, slide):
    tree, store = tree
    with tifffile.TiffFile(Handle(tree.resolve("slide.ome.tif"))) as found:
        level = found.series[0].levels[-1]
        np.testing.assert_array_equal(level.pages[0].asarray(), slide[0])
    assert store.asked["get"] <= (1 + LEVELS) * DOCUMENTS + CHUNKS
    assert store.asked["stat"] == 0
    assert store.asked["list"] <= 1
