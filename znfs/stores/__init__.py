"""Stores: where the bytes of a SOURCE are, behind one protocol (`znfs.stores.base.Store`)."""

from __future__ import annotations

from dataclasses import dataclass

from znfs.errors import UsageError
from znfs.options import Options
from znfs.stores.base import Blob, Entry, Stat, Store
from znfs.stores.urls import Location, parse, redact, refuse_secrets

__all__ = [
    "Blob", "Entry", "SourceInfo", "Stat", "Store", "open_store", "redact", "refuse_secrets",
]


@dataclass(frozen=True)
class SourceInfo:
    """What a SOURCE says of itself before any look at it."""

    name: str  # the contract's NAME of the root
    format: str | None  # the format a URL pipeline forces
    url: str  # without secrets


def open_store(source: str, options: Options) -> tuple[Store, SourceInfo]:
    """The store at SOURCE; no request is sent before its first use.

    Raises UsageError for a SOURCE that cannot be parsed or an option that does not fit it, and
    SourceError where the library for it is not installed.
    """
    location = parse(source)
    return _open_base(location, options), SourceInfo(location.name, location.format, redact(source))


def _open_base(location: Location, options: Options) -> Store:
    if location.scheme == "file":
        from znfs.stores.local import LocalStore

        return LocalStore(location.path)
    raise UsageError(f"{location.scheme}: no such store")
