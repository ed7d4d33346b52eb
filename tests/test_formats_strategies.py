"""Arrays of both Zarr formats as zarr-python's own hypothesis strategies make them, and of N5."""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore

from tests.reading import read_array, same
from znfs.formats.dtypes import N5_TYPES

strategies = pytest.importorskip("zarr.testing.strategies", reason="zarr without its strategies")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_arrays_of_zarr_python(data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        stores = st.builds(lambda: LocalStore(folder))
        stored = data.draw(strategies.arrays(stores=stores))
        expected = np.asarray(stored[...])
        if expected.dtype.kind in "OT":  # of variable length: compared in HDF5 (tests/hdf5)
            return
        meta, got = read_array(Path(folder) / stored.path)
        assert same(got, expected)
        assert meta.shape == stored.shape


_COMPRESSIONS = st.sampled_from([
    {"type": "raw"}, {"type": "gzip", "level": 1}, {"type": "gzip", "useZlib": True},
    {"type": "bzip2"}, {"type": "xz"}, {"type": "zstd"},
    {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    {"type": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2},
])  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    extents=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4),
    dtype=st.sampled_from(sorted(N5_TYPES)),
    compression=_COMPRESSIONS,
    seed=st.integers(0, 9),
    part=st.integers(0, 9),
)
def test_arrays_of_n5(
    extents: list[tuple[int, int]], dtype: str, compression: dict[str, Any], seed: int, part: int
) -> None:
    """Written by tensorstore; of the fastest axis only a part, so that blocks are missing."""
    shape, blocks = zip(*extents, strict=True)
    kind = np.dtype(dtype)
    noise = np.random.default_rng(seed).bytes(prod(shape) * kind.itemsize)
    values = np.frombuffer(noise, kind).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        store = ts.open({
            "driver": "n5", "kvstore": f"file://{folder}/", "metadata": {
                "dimensions": shape, "blockSize": blocks, "dataType": dtype,
                "compression": compression}}, create=True).result()  # fmt: skip
        if part := min(part, shape[0]):
            store[:part].write(values[:part]).result()
        expected = np.asarray(store.read().result()).T
        meta, got = read_array(Path(folder))
    assert same(got, expected)
    assert meta.shape == shape[::-1]
    assert meta.chunks == blocks[::-1]
