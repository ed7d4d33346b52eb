"""Formats: what makes a node of a store an array or a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from znfs.formats import n5, zarr2, zarr3
from znfs.meta import ArrayMeta, GroupMeta

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """A format: the names of its metadata documents, and how to read them.

    `parse` takes those of `documents` that exist. It returns None if they make no node of this
    format, and raises MetadataError or Unsupported (naming the document and the reason).
    """

    name: str
    documents: tuple[str, ...]
    parse: Callable[[Mapping[str, bytes]], ArrayMeta | GroupMeta | None]


FORMATS: tuple[Format, ...] = (  # in order of precedence
    Format("zarr3", zarr3.DOCUMENTS, zarr3.parse),
    Format("zarr2", zarr2.DOCUMENTS, zarr2.parse),
    Format("n5", n5.DOCUMENTS, n5.parse),
)
