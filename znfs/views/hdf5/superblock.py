"""The superblock (specification II.A) and the symbol table entry (III.C)."""

from __future__ import annotations

import struct

from znfs.views.hdf5.structures import GROUP_INTERNAL_K, GROUP_LEAF_K, UNDEFINED

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIZE = 96


def symbol_table_entry(
    name_offset: int, header: int, scratch: tuple[int, int] | None = None
) -> bytes:
    """A symbol table entry: the link's name in the local heap, the object header's address.

    `scratch` is the B-tree's and the local heap's address of a group (cache type 1).
    """
    if scratch is None:
        return struct.pack("<QQI4x16x", name_offset, header, 0)
    return struct.pack("<QQI4xQQ", name_offset, header, 1, *scratch)


def superblock(root_header: int, root_btree: int, root_heap: int, end_of_file: int) -> bytes:
    """Superblock version 0: the only one that every reader takes."""
    sizes = struct.pack("<BBBBBBBxHHI", 0, 0, 0, 0, 0, 8, 8, GROUP_LEAF_K, GROUP_INTERNAL_K, 0)
    addresses = struct.pack("<QQQQ", 0, UNDEFINED, end_of_file, UNDEFINED)
    return (
        SIGNATURE + sizes + addresses + symbol_table_entry(0, root_header, (root_btree, root_heap))
    )
