"""Every error znfs raises on purpose.

    ZnfsError
    ├── UsageError        the command line, an option or a call is wrong    exit status 2
    ├── SourceError       SOURCE cannot be opened, or is not what it says   exit status 1
    ├── MountError        the mount cannot be made or taken away            exit status 1
    ├── NotFound          nothing has that name                             ENOENT
    ├── Denied            the store answered 401 or 403                     EACCES
    ├── NotListable       the store cannot list this prefix                 (handled by the tree)
    ├── Stale             the node changed, or its store has gone           ESTALE
    ├── StoreError        timeouts, 5xx after retries, broken connections   EIO
    │   ├── NoBucket      the bucket is not there
    │   └── Unanswered    nothing came back: the store may be down
    ├── ChunkError        a chunk that does not decode to what it must be   EIO
    └── MetadataError     a metadata document that cannot be understood     (named by `znfs info`)
        └── Unsupported   understood, but znfs cannot read such data

Libraries' own exceptions become these in `stores/` and nowhere else; these become errno in
`znfs.fuse` and nowhere else. Messages name the thing (the key, the document, the option) and hold
no secrets.
"""

from __future__ import annotations


class ZnfsError(Exception):
    """Base of all errors znfs raises on purpose."""


class UsageError(ZnfsError):
    """The command line, an option, the configuration or a call from Python is wrong."""


class SourceError(ZnfsError):
    """SOURCE cannot be opened, or holds nothing znfs can show."""


class MountError(ZnfsError):
    """A mount cannot be made, found or taken away; the message says why."""


class NotFound(ZnfsError):
    """Nothing has that name."""


class Denied(ZnfsError):
    """The store refuses: 401, 403, or no permission on a local file."""


class NotListable(ZnfsError):
    """The store cannot list; names must come from metadata."""


class Stale(ZnfsError):
    """The node has changed since it was opened, or its store has gone."""


class StoreError(ZnfsError):
    """The store did not answer, or answered wrongly."""


class NoBucket(StoreError):
    """There is no bucket (or container) of that name: never taken for a missing object."""


class Unanswered(StoreError):
    """The store did not answer at all: no connection, silence, or a gateway without it."""


class ChunkError(ZnfsError):
    """A chunk that is damaged: it does not decode to its declared shape and type."""


class MetadataError(ZnfsError):
    """A metadata document is not what its format says."""

    of_array = False  # whether the document is known to describe an array


class Unsupported(MetadataError):
    """A valid document that describes data znfs cannot read; the message says which and why."""
