"""The views: what an array or a group is shown as. Which there are is in `table`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from znfs.arrays.array import Array, Group
from znfs.errors import UsageError
from znfs.node import Dir, File, Kind
from znfs.options import Options

Refuse = Callable[[Any], str | None]
Make = Callable[[Any, str], File | Dir]

NOT_OF_GROUPS = "groups have none"
NOT_OF_ARRAYS = "arrays have none"
MOST_NAME_BYTES = 255  # of a file, and of an HDF5 attribute: netCDF-C has room for 256
TOO_LONG = f"the name is longer than {MOST_NAME_BYTES} bytes"


def fits(name: str) -> bool:
    """Whether a name is not too long for a file, nor for netCDF-C, which has room for 256 bytes."""
    return len(name.encode("utf-8", "surrogateescape")) <= MOST_NAME_BYTES


class Listed(Enum):
    """Where a directory lists a view; a path to it resolves anyway (docs/SEMANTICS.md, "Names")."""

    BY_DEFAULT = "by default"
    IF_NAMED = "only where --views names it"
    NEVER = "it is there for who knows of it"


@dataclass(frozen=True)
class View:
    """A presentation of an array or a group.

    `key` is its name in `--views`; `entry` its name in a directory, `{}` standing for NAME;
    `kind` is what it is. `remarks` tells what a view that is shown leaves out, renames or converts.
    `of_array` and `of_group` tell why a node has no such view (None: it has); `make` builds it.
    """

    key: str
    entry: str
    make: Make
    of_array: Refuse
    of_group: Refuse = lambda group: NOT_OF_GROUPS
    listed: Listed = Listed.BY_DEFAULT
    kind: Kind = Kind.FILE
    remarks: Callable[[Any], list[str]] = lambda node: []

    def refuse(self, node: Array | Group) -> str | None:
        """Why `node` has no such view; None if it has."""
        return self.of_array(node) if isinstance(node, Array) else self.of_group(node)


def check(options: Options) -> None:
    """Raises UsageError for options of views that do not go together."""
    if options.hdf5_merge < 1:
        raise UsageError(f"--hdf5-merge {options.hdf5_merge}: at least 1")
    if options.hdf5_merge > 1 and options.hdf5_index != "btree":
        raise UsageError("--hdf5-merge needs --hdf5-index btree")
    if not 1 <= options.string_bytes < 1 << 32:
        raise UsageError(f"--string-bytes {options.string_bytes}: at least 1, less than 4 GiB")
