"""Mount Zarr and N5 stores as files: decoded chunks, NumPy, TIFF, HDF5 and NetCDF-4.

    tree = znfs.open_tree("s3://bucket/x.zarr")   # the tree of files, without FUSE
    with znfs.mount("x.n5") as path: ...          # a mount for as long as the block runs

Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "mount", "open_file", "open_tree", "status"]

if TYPE_CHECKING:
    from znfs.api import mount, open_tree, status
    from znfs.tree.reader import open_file

_FROM = {
    "mount": "znfs.api", "open_tree": "znfs.api", "status": "znfs.api",
    "open_file": "znfs.tree.reader",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'znfs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FROM[name]), name)
