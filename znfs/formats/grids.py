"""Chunk grids of Zarr v3: `regular` (core specification), `rectilinear` (registered extension).

Two more are read as what they are special cases of: ZEP 3's draft `rectangular`, and zarrs'
`regular_bounded`, whose last chunk along an axis ends where the array does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from znfs.codecs.forms import shown
from znfs.errors import MetadataError, Unsupported
from znfs.formats.document import MAX_EXTENT, chunk_shape, integer
from znfs.meta import Edges, Shape

_MOST_RUNS = 1 << 20  # of one axis; a run takes 100-200 bytes

Grid = tuple[Shape, tuple[Edges, ...]]


def parse(document: str, kind: str, config: Mapping[str, Any], extents: Shape) -> Grid:
    """The shape of the largest stored object, and its edges where not all are of that shape."""
    if kind not in _GRIDS:
        raise Unsupported(f"{document}: chunk grid {shown(kind)} is unknown")
    return _GRIDS[kind](document, config, extents)


def block_shape(extents: Shape, edges: tuple[Edges, ...]) -> Shape:
    """The shape of blocks that unlike chunks are put together to: about that of a typical one, so
    that neither many chunks make a block nor many blocks need a chunk."""
    return tuple(
        e.longest if len(e.runs) < 2 else -(-n // e.count)
        for n, e in zip(extents, edges, strict=True)
    )


def _regular(document: str, config: Mapping[str, Any], extents: Shape) -> Grid:
    return chunk_shape(document, "chunk_shape", config.get("chunk_shape"), extents), ()


def _regular_bounded(document: str, config: Mapping[str, Any], extents: Shape) -> Grid:
    chunks, _ = _regular(document, config, extents)
    return _grid(
        tuple(
            Edges(((c, n // c), (n % c, 1)) if n > c and n % c else ((min(c, n) or c, -(-n // c)),))
            for n, c in zip(extents, chunks, strict=True)
        )
    )


def _rectilinear(document: str, config: Mapping[str, Any], extents: Shape) -> Grid:
    if config.get("kind") != "inline":
        raise Unsupported(f"{document}: rectilinear chunks of kind {shown(config.get('kind'))}")
    if more := config.keys() - {"kind", "chunk_shapes"}:
        # One is being discussed that gives chunks another shape than the part of the array they
        # fill: what is not known cannot be ignored here.
        raise Unsupported(f"{document}: rectilinear chunks with {shown(sorted(more))}")
    return _edges(document, "chunk_shapes", config.get("chunk_shapes"), extents)


def _rectangular(document: str, config: Mapping[str, Any], extents: Shape) -> Grid:
    return _edges(document, "chunk_shape", config.get("chunk_shape"), extents)


def _edges(document: str, what: str, value: Any, extents: Shape) -> Grid:
    if not isinstance(value, list) or len(value) != len(extents):
        raise MetadataError(f"{document}: {what} of {len(extents)} dimensions is {shown(value)}")
    return _grid(tuple(_axis(document, what, v, n) for v, n in zip(value, extents, strict=True)))


def _grid(edges: tuple[Edges, ...]) -> Grid:
    """Edges that are all alike are none."""
    longest = tuple(e.longest for e in edges)
    return longest, (edges if any(len(e.runs) > 1 for e in edges) else ())


def _axis(document: str, what: str, value: Any, extent: int) -> Edges:
    """The runs of lengths that cover `extent` elements; what is beyond holds nothing of them."""
    whole = not isinstance(value, list)
    runs: list[tuple[int, int]] = []
    at = 0
    for item in [value] if whole else value:
        length, count = item if isinstance(item, list) and len(item) == 2 else (item, 1)
        length = _positive(document, what, length)
        count = _positive(document, what, count)
        needed = -(-(extent - at) // length)
        count = needed if whole else min(count, needed)
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + count)
        elif count or not runs:
            runs.append((length, count))
        at += length * count
        if at >= extent:
            break
        if len(runs) > _MOST_RUNS:
            raise Unsupported(f"{document}: {what} with more than {_MOST_RUNS} runs of an axis")
    if at < extent or not runs:
        raise MetadataError(f"{document}: {what} covers {at} of {extent} elements")
    return Edges(tuple(runs))


def _positive(document: str, what: str, value: Any) -> int:
    number = integer(document, what, value)
    if not 0 < number <= MAX_EXTENT:
        raise MetadataError(f"{document}: {what} has the extent {number}")
    return number


_GRIDS: Mapping[str, Callable[[str, Mapping[str, Any], Shape], Grid]] = {
    "regular": _regular,
    "rectilinear": _rectilinear,
    "rectangular": _rectangular,
    "zarrs.regular_bounded": _regular_bounded,
    "regular_bounded": _regular_bounded,
}
