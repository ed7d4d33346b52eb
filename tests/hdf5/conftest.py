"""What all tests of virtual HDF5 need."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _(without_collections: None) -> None:
    """h5py reads the trees of this process."""
