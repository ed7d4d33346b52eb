"""Stores: where the bytes of a SOURCE are, behind one protocol (`znfs.stores.base.Store`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from znfs.errors import SourceError
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores.base import Store
from znfs.stores.urls import Location, parse, refuse_secrets
from znfs.stores.watched import WatchedStore

__all__ = ["SourceInfo", "Store", "local_path", "open_store", "refuse_secrets"]


@dataclass(frozen=True)
class SourceInfo:
    """What a SOURCE says of itself before any look at it."""

    name: str  # NAME of the root (docs/SEMANTICS.md, "Names")
    format: str | None  # the format a URL pipeline forces
    url: str  # without secrets
    identity: str  # what tells the store from others of its URL; may hold secrets


def open_store(source: str, options: Options) -> tuple[Store, SourceInfo]:
    """The store at SOURCE; no request is sent before its first use.

    Raises UsageError for a SOURCE that cannot be parsed or an option that does not fit it, and
    SourceError where the library for it is not installed.
    """
    source, options = _with_document(source, options)
    location = parse(source)
    store = _OPENERS.get(location.scheme, _open_fsspec)(location, options)
    for path in location.zips:
        from znfs.stores.zip import ZipStore

        store = ZipStore(store, path)
    if location.references is not None:
        from znfs.stores.references import ReferenceStore

        store = ReferenceStore(
            store,
            location.references,
            # Each watched for itself: one that is down takes no other with it.
            lambda url: WatchedStore(
                open_store(url, _for_target(location, url, options))[0], options.deadline
            ),
            location.server,
        )
    identity = repr((store.url, location.user.partition(":")[0], *_whose(location, options)))
    return store, SourceInfo(location.name, location.format, redact(source), identity)


def _whose(location: Location, options: Options) -> list[object]:
    """What else says whose store it is: profiles, endpoints, accounts, storage options, and the
    query of a URL, of which people are not shown what looks like a secret."""
    told: list[object] = [sorted(options.storage_option.items()), location.text.partition("?")[2]]
    if location.scheme == "s3":
        from znfs.stores import cloud

        profile = options.profile or os.environ.get("AWS_PROFILE")
        told += [cloud.endpoint_of(location, options), profile]
    if location.scheme == "az":
        told += [os.environ.get(f"AZURE_STORAGE_{name}") for name in ("ACCOUNT_NAME", "ENDPOINT")]
    return told


def local_path(source: str, options: Options) -> str | None:
    """The file or folder of this machine that SOURCE is read from, through whatever chain; None if
    it is elsewhere. Raises UsageError as open_store does."""
    source, _ = _with_document(source, options)
    return parse(source).file


def _with_document(source: str, options: Options) -> tuple[str, Options]:
    """References, whose document may be a storage option, as fsspec takes it."""
    if source.rstrip("/").lower() == "reference:" and options.storage_option.get("fo"):
        more = dict(options.storage_option)
        return f"reference://::{more.pop('fo')}", replace(options, storage_option=more)
    return source, options


def _for_target(document: Location, url: str, options: Options) -> Options:
    """What a target of references is opened with: credentials are told to no other server than
    they are for, whatever the document says. One of this machine's own may be about a cloud's."""
    target = parse(url)
    same_cloud = document.scheme == target.scheme and target.scheme in _CLOUDS
    own = document.file is not None and target.scheme not in ("http", "https")
    if same_cloud or own or document.authority == target.authority:
        return options
    return replace(options, storage_option={})


def _open_local(location: Location, options: Options) -> Store:
    from znfs.stores.local import LocalStore

    inside = location.zips or location.references is not None
    if not inside and os.path.isfile(location.path):
        raise SourceError(
            f"{location.path}: is a file; a zip file is opened as zip::PATH, "
            "references as reference://::PATH"
        )
    return LocalStore(location.path)


def _open_s3(location: Location, options: Options) -> Store:
    from znfs.stores import cloud
    from znfs.stores.s3fs import S3fsStore

    def by_s3fs() -> Store:
        return S3fsStore(location, options)

    return by_s3fs() if options.backend == "fsspec" else cloud.open_s3(location, options, by_s3fs)


def _open_gs(location: Location, options: Options) -> Store:
    from znfs.stores import cloud

    if options.backend == "fsspec":
        return _open_fsspec(location, options)
    return cloud.open_gs(location, options, lambda: _open_fsspec(location, options))


def _open_az(location: Location, options: Options) -> Store:
    from znfs.stores import cloud

    if options.backend == "fsspec":
        return _open_fsspec(location, options)
    return cloud.open_az(location, options, lambda: _open_fsspec(location, options))


def _open_http(location: Location, options: Options) -> Store:
    from znfs.stores.http import HttpStore

    return HttpStore(location, options)


def _open_fsspec(location: Location, options: Options) -> Store:
    from znfs.stores.generic import FsspecStore

    return FsspecStore(location, options)


_CLOUDS = frozenset({"s3", "gs", "az"})
_OPENERS: dict[str, Callable[[Location, Options], Store]] = {
    "file": _open_local,
    "s3": _open_s3,
    "gs": _open_gs,
    "az": _open_az,
    "http": _open_http,
    "https": _open_http,
}
