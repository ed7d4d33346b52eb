"""Python's garbage collector while HDF5 files are planned."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zarr

from znfs.tree import open_tree
from znfs.views.hdf5.collector import paused


def test_paused_as_long_as_anybody_plans() -> None:
    assert gc.isenabled()
    with ThreadPoolExecutor(1) as other:
        mine, theirs = paused(), paused()
        mine.__enter__()
        other.submit(theirs.__enter__).result()
        mine.__exit__(None, None, None)
        assert not gc.isenabled()
        other.submit(theirs.__exit__, None, None, None).result()
    assert gc.isenabled()


def test_who_has_disabled_it_finds_it_so() -> None:
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_plan_leaves_collections_on(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "g.zarr").create_array("a", shape=(2,), chunks=(1,), dtype="u1")
    assert open_tree(str(tmp_path / "g.zarr")).open("g.h5").read(4) == b"\x89HDF"
    assert gc.isenabled()
