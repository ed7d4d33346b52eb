"""`znfs info`: what a source holds, for people and as JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from znfs.meta import SYMBOLS, ArrayMeta, Axis, CodecSpec, GroupMeta, brief
from znfs.tables import print_table, printable, size_text

if TYPE_CHECKING:
    from znfs.tree import Tree
    from znfs.tree.survey import Description

COLUMNS = ("Path", "Kind", "Axes", "Shape", "Chunks", "Type", "Codecs", "Size", "Stored", "Views")
RIGHT = ("Shape", "Chunks", "Size", "Stored")


def show(tree: Tree, *, as_json: bool) -> None:
    """Print every node below the root of `tree`, then what is hidden or unreadable, and why."""
    nodes = tree.describe()
    if as_json:
        found = {
            "source": tree.url,
            "name": tree.root_name,
            "nodes": [node_json(tree, node) for node in nodes],
        }
        json.dump(_plain(found), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    rows, notes = [], []
    for node in nodes:
        rows.append(row(tree, node))
        notes += [f"  {node.path or '/'}: {remark}" for remark in node.remarks]
    print(printable(tree.url))
    print_table(COLUMNS, rows, right=RIGHT)
    if notes:
        print("\nNotes")
        print("\n".join(map(printable, notes)))


def row(tree: Tree, node: Description) -> tuple[str, ...]:
    """The node's line in the table; one cell for each of COLUMNS."""
    meta = node.meta
    path, views = node.path or "/", " ".join(_short(node))
    if not isinstance(meta, ArrayMeta):
        kind = f"{meta.format} {node.kind}" if isinstance(meta, GroupMeta) else node.kind
        return (path, kind, "", "", "", "", "", "", "", views)
    stored = tree.stored_size(node.path)
    chunks = f"≤ {_by(meta.outer_chunks)}" if meta.is_assembled else _by(meta.chunks)
    if meta.shards:
        chunks += " in " + " in ".join(_by(s.shape) for s in reversed(meta.shards))
    return (
        path,
        f"{meta.format} {node.kind}",
        " ".join(map(axis_text, meta.axes)),
        _by(meta.shape),
        chunks,
        brief(meta.stored_dtype or meta.dtype_name),
        " ".join(c.name for c in meta.codecs) or "none",
        ("≤ " if meta.is_variable else "") + size_text(meta.nbytes),
        "" if stored is None else size_text(stored),
        views,
    )


def node_json(tree: Tree, node: Description) -> dict[str, Any]:
    """The node for `--json`."""
    found: dict[str, Any] = {"path": node.path, "kind": node.kind, "name": node.name}
    if node.meta is not None:
        found["format"] = node.meta.format
    if isinstance(meta := node.meta, ArrayMeta):
        found |= {
            "shape": meta.shape,
            "chunks": meta.chunks,
            "shards": [s.shape for s in meta.shards],
            **({"chunk_edges": [e.runs for e in meta.edges]} if meta.edges else {}),
            "dtype": meta.dtype_name if meta.is_variable else meta.dtype.name,
            "stored_dtype": meta.stored_dtype,
            "codecs": meta.codecs,
            "axes": [
                {k: v for k, v in vars(axis).items() if v is not None} for axis in meta.axes
            ],
            "nbytes": meta.nbytes,
            "stored_nbytes": tree.stored_size(node.path),
        }  # fmt: skip
    return found | {"views": node.views, "remarks": node.remarks}


def _plain(value: Any) -> Any:
    """`value` as JSON has it. A codec's configuration may hold further codecs, and numpy's types
    and numbers; numbers may be none that JSON knows, which are spelt as Zarr does."""
    if isinstance(value, CodecSpec):
        return {"name": value.name, "configuration": _plain(value.config)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def axis_text(axis: Axis) -> str:
    """An axis with its pixel size: `z:40nm`."""
    if axis.scale is None:
        return axis.name
    return f"{axis.name}:{axis.scale:g}{SYMBOLS.get(axis.unit or '', axis.unit or '')}"


def _by(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _short(node: Description) -> list[str]:
    return [v.removeprefix(node.name + ".") for v in node.views]
