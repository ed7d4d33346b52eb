"""Options: one frozen dataclass, from which flags, `-o`, environment and configuration derive."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from znfs.errors import UsageError

VIEW_NAMES = ("chunks", "npy", "tiff", "tiff.xz", "tiff.yz", "tif", "btf", "h5", "nc", "ome.tif")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}

_NO_SIZE = 1 << 63  # bytes: no file system and no library counts so far


def parse_size(text: str | int) -> int:
    """Bytes in `512MiB`, `20GiB`, `64k` or `1048576`; units are powers of 1024.

    Raises UsageError.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*", str(text), re.IGNORECASE)
    size = float(found[1]) * _UNITS[found[2].upper()] if found else inf
    if not found:
        raise UsageError(f"{text!r} is not a size; write it like 512MiB or 20GiB")
    if size >= _NO_SIZE:
        raise UsageError(f"{str(text)[:40]!r} is not a size below 8192P")
    return int(size)


def spell_size(size: int) -> str:
    """`size` as `parse_size` reads it, in the largest unit that it is a multiple of."""
    unit = max((u for u, n in _UNITS.items() if size % n == 0), key=_UNITS.__getitem__)
    return f"{size // _UNITS[unit]}{unit}{'iB' if unit else ''}"


def number(
    parse: Callable[[str], Any], least: float, most: float, spell: Callable[[Any], str] = str,
    kind: str = "number",
) -> Callable[[str], Any]:  # fmt: skip
    """A parser of numbers from `least` to `most`, of which `parse` reads one and `spell` makes
    text. It raises UsageError."""

    def parsed(text: str) -> Any:
        try:
            value = parse(text)
        except ValueError:
            raise UsageError(f"{text!r} is not a {kind}") from None
        if not least <= value <= most:  # NaN is not, either
            raise UsageError(f"{text!r} is not from {spell(least)} to {spell(most)}")
        return value

    return parsed


def parse_views(text: str | tuple[str, ...]) -> tuple[str, ...] | None:
    """The views of a `--views` list; None for "by default". Raises UsageError."""
    names = tuple(text.split(",")) if isinstance(text, str) else text
    if names == ("all",):
        return VIEW_NAMES
    if unknown := [n for n in names if n not in VIEW_NAMES]:
        raise UsageError(f"no view {unknown[0]!r}; there are {', '.join(VIEW_NAMES)}, all")
    return names


def parse_path(text: str) -> str:
    """The path of a file or folder here: absolute, for a daemon leaves the directory that it is
    begun in. Raises UsageError."""
    path = os.path.expanduser(text)
    if not text or path.startswith("~"):
        raise UsageError(f"{text!r} is no path" + (", for no such home is known" if text else ""))
    return os.path.abspath(path)


_MOST_SECONDS = 10**9  # timers and time-outs have no infinity, and an end
_octal = "{:03o}".format
_owner = number(int, 0, (1 << 32) - 2)  # to the system, -1 is no owner


def option(default: Any, help: str, group: str, *, shown: bool = True, **more: Any) -> Any:
    """A field of Options; `more` may hold parse, metavar, choices, repeat; and where str() does
    not, `spell` makes text of a value that `parse` reads. One that may hold a secret is not `shown`
    in the options' repr. A default that is a class makes one."""
    metadata = {"help": help, "group": group, **more}
    if isinstance(default, type):
        return field(default_factory=default, repr=shown, metadata=metadata)
    return field(default=default, repr=shown, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """How a source is opened, cached, shown and mounted."""

    cache_size: int = option(
        1 << 30, "memory for decoded blocks", "cache", parse=parse_size, spell=spell_size,
        metavar="SIZE",
    )
    disk_cache: str | None = option(
        None, "folder for encoded blocks", "cache", parse=parse_path, metavar="DIR"
    )
    disk_cache_size: int = option(
        20 << 30, "most that folder may hold", "cache", parse=parse_size, spell=spell_size,
        metavar="SIZE",
    )
    ttl: float = option(
        5.0, "how long metadata is trusted before it is checked again", "cache",
        parse=number(float, 0, inf), metavar="SECONDS",
    )
    views: tuple[str, ...] | None = option(
        None, f"which views to show, of {', '.join(VIEW_NAMES)}, or all", "views",
        parse=parse_views, metavar="LIST",
    )
    hdf5_index: str = option(
        "btree", "index of chunks in HDF5 files: btree, which every reader knows, or implicit, for "
        "HDF5 1.10 and later", "views", choices=("btree", "implicit"),
    )
    hdf5_merge: int = option(
        1, "chunks of the store in one HDF5 chunk, for readers that walk the whole index", "views",
        parse=number(int, 1, (1 << 63) - 1), metavar="COUNT",
    )
    hdf5_float16: str = option(
        "auto", "what HDF5 files show 16-bit floats as; auto: float32 where they are NetCDF, whose "
        "readers fail on others", "views", choices=("auto", "keep", "float32"),
    )
    string_bytes: int = option(
        256, "room in HDF5 files for a string of variable length, on average over a chunk",
        "views", parse=parse_size, spell=spell_size, metavar="SIZE",
    )
    manifest: str | None = option(
        None, "file that names the nodes of a store that cannot list", "source",
        parse=parse_path, metavar="FILE",
    )
    backend: str = option(
        "auto", "library that reads S3, GCS and Azure", "source",
        choices=("auto", "obstore", "fsspec"),
    )
    anon: bool = option(False, "do not sign requests", "source")
    requester_pays: bool = option(False, "agree to be charged for requests", "source")
    profile: str | None = option(None, "AWS profile", "source", metavar="NAME")
    region: str | None = option(None, "S3 region", "source", metavar="NAME")
    endpoint_url: str | None = option(None, "S3 endpoint", "source", metavar="URL", shown=False)
    storage_option: Mapping[str, str] = option(
        dict, "option for the storage library; may be repeated", "source",
        metavar="KEY=VALUE", repeat=True, shown=False,
    )
    missing_403: bool = option(False, "a chunk answered 403 is missing, not an error", "source")
    deadline: float = option(
        30.0, "how long a store may say nothing, retries included", "source",
        parse=number(float, 0.001, _MOST_SECONDS), metavar="SECONDS",
    )
    allow_other: bool = option(False, "let other users read the mount", "mount")
    uid: int | None = option(None, "owner of the files", "mount", parse=_owner, metavar="UID")
    gid: int | None = option(None, "group of the files", "mount", parse=_owner, metavar="GID")
    umask: int = option(
        0o222, "permission bits that are off", "mount",
        parse=number(lambda text: int(text, 8), 0, 0o777, _octal, "number in octal digits"),
        spell=_octal, metavar="OCTAL",
    )
    log_level: str = option(
        "warning", "least severe message to log", "mount",
        choices=("debug", "info", "warning", "error"),
    )
    log_file: str | None = option(
        None, "log to this file, a JSON object a line, not to the journal", "mount",
        parse=parse_path, metavar="FILE",
    )
    metrics_port: int | None = option(
        None, "answer Prometheus at http://127.0.0.1:PORT/metrics", "mount",
        parse=number(int, 1, (1 << 16) - 1), metavar="PORT",
    )
    foreground: bool = option(False, "stay in the foreground", "mount")
