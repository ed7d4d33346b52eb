"""A damaged chunk is an error for reads of that chunk only, and passes when the chunk is mended."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from tests.hdf5.support import Seekable, resolve, tree


def test_a_damaged_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    values = np.arange(40 * 40, dtype="i4").reshape(40, 40)
    array = zarr.create_array(path, shape=(40, 40), chunks=(10, 10), dtype="i4", zarr_format=2)
    array[...] = values
    good = (path / "1.2").read_bytes()
    (path / "1.2").write_bytes(b"no such chunk")
    with tree(path) as opened, h5py.File(Seekable(resolve(opened, "a.h5"))) as file:
        with pytest.raises(Exception, match=r"1\.2"):
            file["a"][...]
        with pytest.raises(Exception, match=r"1\.2"):
            file["a"][12, 25]
        np.testing.assert_array_equal(file["a"][:10], values[:10])
        np.testing.assert_array_equal(file["a"][10:20, :20], values[10:20, :20])
        (path / "1.2").write_bytes(good)
        np.testing.assert_array_equal(file["a"][...], values)


def test_what_hdf5_cannot_hold_is_left_out(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=2)
    group.create_array("good", shape=(3,), dtype="i4")[...] = [1, 2, 3]
    group.create_array("deep", shape=(1,) * 33, dtype="i4", chunks=(1,) * 33)
    with tree(tmp_path / "g.zarr") as opened:
        remarks = {d.path: d.remarks for d in opened.describe()}
        with h5py.File(Seekable(resolve(opened, "g.h5"))) as file:
            assert list(file) == ["good"]
    assert any("33 dimensions" in remark for remark in remarks["deep"])
    assert any("deep is left out" in remark for remark in remarks[""])
