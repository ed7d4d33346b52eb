"""Constants and primitives shared by all structures of the HDF5 File Format Specification 3.0.

Offsets and lengths are 8 bytes, numbers little-endian, in every file made here.
"""

from __future__ import annotations

from collections.abc import Callable

Late = Callable[[], bytes]  # bytes that are known once addresses are

UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF  # "undefined address"

GROUP_LEAF_K = 4  # superblock v0: a symbol table node holds 2K entries
GROUP_INTERNAL_K = 16  # superblock v0: a group's B-tree node has 2K children
# Not a field of superblock v0, so it has its default; v1, which has it, pyfive and jsfive refuse.
CHUNK_INTERNAL_K = 32

PAGE = 4096
# Chunks are followed by zeros, so that the kernel's read-ahead (512 KiB, mounts.READ_AHEAD_KIB)
# ends before the next chunk begins. For who reads a chunk in pieces it reaches twice as far as its
# size: 24 random chunks cost 24 fetches with such a gap, 47 with half of it.
_MOST_GAP = 1 << 20
_GAP_FROM = 256 << 10  # smaller chunks would be mostly gap

MAX_CHUNK = (1 << 32) - 1  # a chunk's size in bytes is a 4-byte field
MAX_FILE = 1 << 63
MAX_MESSAGE = 65_528  # a header message's size is a 2-byte field, and a multiple of 8


def gap(nbytes: int) -> int:
    """Bytes of zeros behind a chunk of `nbytes`. What is read whole, up to the size of the
    read-ahead, is not read ahead of at all: so smaller chunks do with less."""
    return min(2 * nbytes, _MOST_GAP) if nbytes >= _GAP_FROM else 0


def late_address(address: Callable[[], int]) -> Late:
    """An address that is known later, as files have it."""
    return lambda: address().to_bytes(8, "little")


def align(offset: int, to: int) -> int:
    """The first multiple of `to` that is no less than `offset`."""
    return -(-offset // to) * to


def pad8(data: bytes) -> bytes:
    """`data` with zeros up to a multiple of 8 bytes."""
    return data + b"\0" * (-len(data) % 8)
