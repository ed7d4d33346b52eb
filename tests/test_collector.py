"""Python's garbage collector while HDF5 files are planned."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

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
