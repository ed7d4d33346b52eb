"""Tables of references: where a key's bytes are, by a kerchunk document in JSON or Parquet.

JSON is kerchunk's reference specification, versions 0 and 1. Its templates are replaced as text;
what needs a template language (`gen`, templates that are functions) is refused: it runs code that
the document holds. Parquet is the layout that kerchunk and VirtualiZarr write: `.zmetadata`, and a
file for every `record_size` chunks of an array.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from cachetools import LRUCache

from znfs.errors import SourceError
from znfs.stores.base import Blob, Entry, Store
from znfs.stores.keys import directly_below

_MOST_BYTES = 1 << 30  # a document beyond this is refused
_MOST_KEPT = 128 << 20  # bytes of records; one of 100,000 rows takes about 8 MiB
_MOST_ROWS = 1 << 22  # of a record; writers' default is 100,000
_COLUMNS = ("path", "offset", "size", "raw")
_HINT = "pip install 'znfs[parquet]'"
_SEGMENT = re.compile(r"[^/\0]+")
_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Range:
    """Bytes of a target; all of it where `size` is None."""

    url: str
    offset: int = 0
    size: int | None = None


Reference = bytes | Range
Columns = Mapping[str, Any]  # name -> pyarrow.ChunkedArray


class Table(Protocol):
    """The references of one version of a document."""

    version: str
    mtime: float

    def find(self, key: str) -> Reference | None:
        """What the key stands for. Raises SourceError, StoreError."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Names directly below a prefix; of Parquet tables without the chunks."""


def load(document: Store) -> Table | None:
    """The table that the object or (Parquet) folder `document` holds, or None.

    Raises SourceError for what is no table of references.
    """
    blob = document.get("", 0, _MOST_BYTES + 1)
    if blob is not None:
        return JsonTable(document.url, blob)
    blob = document.get(_METADATA, 0, _MOST_BYTES + 1)
    return None if blob is None else ParquetTable(document, blob)


def _json(url: str, blob: Blob) -> dict[str, Any]:
    if len(blob.data) > _MOST_BYTES:
        raise SourceError(f"{url}: references of more than {_MOST_BYTES >> 30} GiB")
    try:
        value = json.loads(bytes(blob.data))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{url}: no references: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{url}: no references: not a JSON object")
    return value


def _safe(key: str) -> bool:
    return all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in key.split("/"))


class JsonTable:
    """A kerchunk document in JSON, as VirtualiZarr writes it too."""

    def __init__(self, url: str, blob: Blob) -> None:
        self.version, self.mtime = blob.version, blob.mtime
        document = _json(url, blob)
        templates: Mapping[str, Any] = {}
        found: Any = document
        if "version" in document or isinstance(document.get("refs"), dict):
            if document.get("version", 1) != 1:
                raise SourceError(f"{url}: references of version {document['version']!r}, not 0, 1")
            if document.get("gen"):
                raise SourceError(
                    f"{url}: references by 'gen' need a template language, which runs code of the "
                    "document; write them out with kerchunk"
                )
            found, templates = document.get("refs"), document.get("templates") or {}
        if not isinstance(found, dict) or not isinstance(templates, dict):
            raise SourceError(f"{url}: no references in it")
        expand = _expander(url, templates)
        self._found: dict[str, Reference] = {}
        self._amiss: dict[str, str] = {}  # keys whose values are no references, and why
        for key, value in found.items():
            try:
                if _safe(key):
                    self._found[key] = _reference(url, key, value, expand)
            except SourceError as error:
                self._amiss[key] = str(error)
        self._keys = sorted(found)  # those that are not safe are listed, so that they are known of

    def find(self, key: str) -> Reference | None:
        if key in self._amiss:
            raise SourceError(self._amiss[key])
        return self._found.get(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        return directly_below(prefix, self._keys, self._size)

    def _size(self, key: str) -> int:
        found = self._found.get(key, b"")
        return len(found) if isinstance(found, bytes) else found.size or 0


def _expander(url: str, templates: Mapping[str, Any]) -> Callable[[str, str], str]:
    """What replaces `{{name}}` in the URL of a key's target."""
    for name, text in templates.items():
        if not isinstance(text, str) or "{{" in text:
            raise SourceError(f"{url}: template {name!r} is a function, which znfs does not run")

    def expand(key: str, text: str) -> str:
        if "{{" not in text:
            return text
        expanded = _TEMPLATE.sub(lambda m: templates.get(m[1], m[0]), text)
        if "{{" in expanded:
            raise SourceError(f"{url}: {key}: unknown template in {text[:80]!r}")
        return expanded

    return expand


def _reference(
    url: str, key: str, value: Any, expand: Callable[[str, str], str]
) -> Reference:
    match value:
        case str() if value.startswith("base64:"):
            try:
                return base64.b64decode(value[7:], validate=True)
            except ValueError as error:  # binascii.Error, and what is not ASCII
                raise SourceError(f"{url}: {key}: {error}") from None
        case str():
            return value.encode("utf-8", "surrogatepass")
        case dict():
            return json.dumps(value).encode()
        case [str(target)]:
            return Range(expand(key, target))
        case [str(target), int(offset), int(size)] if offset >= 0 <= size:
            return Range(expand(key, target), offset, size)
    raise SourceError(f"{url}: {key}: no reference: {str(value)[:80]!r}")


_METADATA = ".zmetadata"


class ParquetTable:
    """Kerchunk's references in Parquet: the records are read when a chunk asks for them."""

    def __init__(self, document: Store, blob: Blob) -> None:
        self.version, self.mtime = blob.version, blob.mtime
        self._document = document
        found = _json(document.url, blob)
        metadata, size = found.get("metadata"), found.get("record_size")
        if not isinstance(metadata, dict) or type(size) is not int or size < 1:
            raise SourceError(f"{document.url}: its {_METADATA} is not of references in Parquet")
        self._record_size = size
        self._metadata = {k: json.dumps(v).encode() for k, v in metadata.items() if _safe(k)}
        self._grids = {
            key.rpartition("/")[0]: _grid(value)
            for key, value in metadata.items()
            if key.endswith("/.zarray") and _safe(key)
        }
        self._keys = sorted(metadata)
        self._lock = threading.Lock()
        self._records: LRUCache[tuple[str, int], Columns | None] = LRUCache(_MOST_KEPT, _nbytes)

    def list(self, prefix: str) -> Iterator[Entry]:
        return directly_below(prefix, self._keys, lambda key: len(self._metadata.get(key, b"")))

    def find(self, key: str) -> Reference | None:
        if key in self._metadata:
            return self._metadata[key]
        field, _, name = key.rpartition("/")
        grid = self._grids.get(field)
        number = None if grid is None else _number(name, grid)
        if number is None:
            return None
        record, row = divmod(number, self._record_size)
        columns = self._record(field, record)
        return None if columns is None else _row(self._document.url, key, columns, row)

    def _record(self, field: str, record: int) -> Columns | None:
        """The columns of a record; None where none of its chunks is stored."""
        at = (field, record)
        with self._lock:
            if at in self._records:
                return self._records[at]
        key = f"{field}/refs.{record}.parq"
        blob = self._document.get(key, 0, _MOST_BYTES + 1)
        columns = None if blob is None else _read_parquet(key, blob)
        with self._lock:
            self._records[at] = columns
        return columns


def _nbytes(columns: Columns | None) -> int:
    """What a record counts against _MOST_KEPT; a larger one is kept alone."""
    arrow = 0 if columns is None else sum(column.nbytes for column in columns.values())
    return min(_MOST_KEPT, 512 + arrow)


def _grid(document: Any) -> tuple[int, ...] | None:
    """Chunks along each axis, by a `.zarray`; None where it is none."""
    if not isinstance(document, dict):
        return None
    shape, chunks = document.get("shape"), document.get("chunks")
    if not isinstance(shape, list) or not isinstance(chunks, list) or len(shape) != len(chunks):
        return None
    if not all(type(n) is int for n in (*shape, *chunks)) or any(c < 1 for c in chunks):
        return None
    return tuple(-(-s // c) for s, c in zip(shape, chunks, strict=True))


def _number(name: str, grid: tuple[int, ...]) -> int | None:
    """The place in C order of the chunk called `name` ("2.0"; "0" of an array without axes)."""
    parts = name.split(".")
    if not all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts):
        return None
    if not grid:
        return 0 if parts == ["0"] else None
    index = [int(p) for p in parts]
    if len(index) != len(grid) or any(i >= n for i, n in zip(index, grid, strict=True)):
        return None
    return sum(i * prod(grid[k + 1 :]) for k, i in enumerate(index))


def _read_parquet(key: str, blob: Blob) -> Columns:
    """The columns of a record, by pyarrow: fastparquet crashes the process on damaged files."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise SourceError(f"references in Parquet need pyarrow: {_HINT}") from error
    try:
        file = ParquetFile(pyarrow.BufferReader(blob.data))
        about = file.metadata
        nbytes = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        if about.num_rows > _MOST_ROWS or nbytes > _MOST_BYTES:
            raise SourceError(f"{key}: {about.num_rows} references of {nbytes} bytes")
        found = [name for name in _COLUMNS if name in file.schema_arrow.names]
        table = file.read(found, use_threads=False)
        return {name: table.column(name) for name in found}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise SourceError(f"{key}: no Parquet file of references: {error}") from error


def _row(url: str, key: str, columns: Columns, row: int) -> Reference | None:
    def value(column: str) -> Any:
        cells = columns.get(column)
        return None if cells is None or row >= len(cells) else cells[row].as_py()

    try:
        raw, path = value("raw"), value("path")
        if isinstance(raw, bytes):
            return raw
        if not isinstance(path, str):
            return None
        offset, size = int(value("offset") or 0), int(value("size") or 0)
    except (ValueError, TypeError, OverflowError):  # also for text that is no UTF-8
        raise SourceError(f"{url}: {key}: no reference") from None
    if offset < 0 or size < 0:
        raise SourceError(f"{url}: {key}: a reference of negative size or offset")
    # Writers give no size to what is all of its target. Elsewhere none is an empty range.
    return Range(path, offset, size) if offset or size else Range(path)
