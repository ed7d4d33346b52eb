"""What metadata documents say, in one form for all formats. Frozen, no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from znfs.forks import cached_property

Index = tuple[int, ...]
Shape = tuple[int, ...]

# Types of elements of variable length, text and bytes. Their blocks are rows of bytes
# (codecs/vlen.py).
VARIABLE_TEXT: np.dtype[Any] = np.dtypes.StringDType()
VARIABLE_BYTES: np.dtype[Any] = np.dtype(object)
VARIABLE = (VARIABLE_TEXT, VARIABLE_BYTES)

_MOST_OF_CHUNK = (1 << 32) - 1
# What the elements of variable length of a chunk, and of an array, may take whatever their number.
_LEAST_OF_CHUNK = 64 << 10
_LEAST_OF_ARRAY = 1 << 20


def unravel(i: int, grid: Shape) -> Index:
    """The `i`-th index of `grid` in row-major order (Python integers: no limit of 2^63)."""
    index = []
    for n in reversed(grid):
        i, at = divmod(i, n)
        index.append(at)
    return tuple(reversed(index))


def ravel(index: Index, shape: Shape) -> int:
    """The number of an index of `shape` in row-major order."""
    at = 0
    for i, n in zip(index, shape, strict=True):
        at = at * n + i
    return at


def brief(text: str) -> str:
    """`text` for people: never longer than a line."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def type_name(dtype: np.dtype[Any]) -> str:
    """A type of elements, for people: one of many fields is cut."""
    if dtype == VARIABLE_TEXT:
        return "string"
    return "bytes" if dtype == VARIABLE_BYTES else brief(str(dtype))


@dataclass(frozen=True)
class CodecSpec:
    """One codec of a chain: its name in znfs's table (codecs.CODECS) and its configuration."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkKeys:
    """Chunk key encoding: how a chunk's grid index becomes a store key below the array.

    Zarr v2 has no prefix (`0.0.0`), Zarr v3's `default` has prefix `c` (`c/0/0/0`, `c` for 0-d),
    N5 reverses the index (`x/y/z`). All keys may end with a `suffix` (`c/0/0/0.tif`).
    """

    separator: str
    prefix: str = ""
    reverse: bool = False
    suffix: str = ""

    def key(self, index: Index) -> str:
        """The key of the chunk at `index`."""
        parts = [str(i) for i in (reversed(index) if self.reverse else index)]
        if self.prefix:
            parts.insert(0, self.prefix)
        return (self.separator.join(parts) or "0") + self.suffix

    def parse(self, key: str, grid: Shape) -> Index | None:
        """The index that `key` names, or None if it is no chunk of `grid`."""
        index = self.index(key, len(grid))
        if index is None or any(i >= n for i, n in zip(index, grid, strict=True)):
            return None
        return index

    def index(self, key: str, ndim: int) -> Index | None:
        """The index of so many numbers that `key` spells, of whatever grid; None if it is none."""
        if not ndim:
            return () if key == self.key(()) else None
        if not key.endswith(self.suffix):
            return None
        parts = key.removesuffix(self.suffix).split(self.separator)
        if self.prefix:
            if parts[0] != self.prefix:
                return None
            parts = parts[1:]
        if len(parts) != ndim or not all(p.isascii() and p.isdigit() for p in parts):
            return None
        if any((len(p) > 1 and p[0] == "0") or len(p) > 19 for p in parts):
            return None
        return tuple(int(p) for p in (reversed(parts) if self.reverse else parts))

    def first_below(self, folders: Sequence[str], ndim: int) -> str | None:
        """The first key of so many numbers below nested folders; None if they lead to no chunk."""
        depth = ndim + bool(self.prefix)
        if self.separator != "/" or len(folders) >= depth:
            return None
        key = "/".join([*folders, *["0"] * (depth - len(folders))]) + self.suffix
        return None if self.index(key, ndim) is None else key

    def begin_with(self, name: str, ndim: int) -> bool:
        """Whether chunks of some grid of so many dimensions are called `name`, or lie below it."""
        return (
            self.index(name, ndim) is not None or self.first_below((name,), ndim) is not None
        )


@dataclass(frozen=True)
class Shard:
    """One level of `sharding_indexed` (Zarr v3): a stored object that holds a grid of chunks.

    `shape` is the shard's shape in elements of the array (array axes). `chunks` is the shape of
    what it holds (array axes). `order` is the permutation applied before sharding (identity when
    no transpose precedes it): the index inside the shard counts in the permuted axes. `outer`
    are bytes-to-bytes codecs applied to the whole shard (rare; the shard is then read whole).
    """

    shape: Shape
    chunks: Shape
    index_codecs: tuple[CodecSpec, ...]
    index_at_end: bool = True
    order: tuple[int, ...] = ()
    outer: tuple[CodecSpec, ...] = ()

    @property
    def grid(self) -> Shape:
        """Chunks per shard along the array's axes."""
        return tuple(s // c for s, c in zip(self.shape, self.chunks, strict=True))


@dataclass(frozen=True)
class Edges:
    """Lengths of the stored objects along an axis that differ (Zarr v3 `rectilinear`).

    `runs` are (length, how many of it), in elements, from the first on; no length is 0.
    """

    runs: tuple[tuple[int, int], ...]

    @cached_property
    def _firsts(self) -> tuple[list[int], list[int]]:
        """For each run: the first object's number and its first element; then those behind all."""
        numbers, starts = [0], [0]
        for length, count in self.runs:
            numbers.append(numbers[-1] + count)
            starts.append(starts[-1] + length * count)
        return numbers, starts

    @property
    def count(self) -> int:
        """Number of objects."""
        return self._firsts[0][-1]

    @property
    def end(self) -> int:
        """The first element behind all of them."""
        return self._firsts[1][-1]

    @property
    def longest(self) -> int:
        return max((length for length, _ in self.runs), default=1)

    def span(self, number: int) -> tuple[int, int]:
        """First element and length of the object `number`."""
        numbers, starts = self._firsts
        run = bisect_right(numbers, number) - 1
        length = self.runs[run][0]
        return starts[run] + (number - numbers[run]) * length, length

    def at(self, element: int) -> int:
        """Number of the object that holds `element`."""
        numbers, starts = self._firsts
        run = bisect_right(starts, element) - 1
        return numbers[run] + (element - starts[run]) // self.runs[run][0]


# The symbols of units by OME-Zarr's names for them (UDUNITS-2); OME-XML has the same.
LENGTHS: Mapping[str, str] = {
    "picometer": "pm", "angstrom": "Å", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm",
    "centimeter": "cm", "decimeter": "dm", "meter": "m", "kilometer": "km", "inch": "in",
    "foot": "ft", "yard": "yd", "mile": "mi",
}  # fmt: skip
TIMES: Mapping[str, str] = {
    "picosecond": "ps", "nanosecond": "ns", "microsecond": "µs", "millisecond": "ms",
    "second": "s", "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip
SYMBOLS: Mapping[str, str] = {**LENGTHS, **TIMES}


@dataclass(frozen=True)
class Axis:
    """A named axis. `scale` is the pixel size in `unit` and `translation` its origin, if known."""

    name: str
    unit: str | None = None
    scale: float | None = None
    translation: float | None = None
    kind: str | None = None  # OME-Zarr's axis type: "space", "time", "channel"


@dataclass(frozen=True)
class Channel:
    """How an image's author wants a channel shown (OME-Zarr `omero`), as far as it is known.

    `color` is red, green, blue of 0 to 255; `window` the values shown black and in full colour.
    """

    name: str | None = None
    color: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class ArrayMeta:
    """An array as its metadata documents describe it.

    Axes are in C order everywhere (N5's are reversed: the slowest comes first). `dtype` is the
    type of decoded blocks, always little-endian; `fill` is one element of it. `chunks` is the
    unit of decoding: for a sharded array the innermost chunk. `codecs` are in the order of
    encoding. `axes` always has one entry per dimension, named as docs/SEMANTICS.md, "Names", says.

    Where stored objects are not all of one shape, `edges` has their lengths along each axis; the
    first of `shards` is then the largest there is. Without shards, `chunks` are then blocks of
    about the same size that are put together from them.

    Elements of variable length (`dtype` is VARIABLE_TEXT or VARIABLE_BYTES) take at most
    `most_of_chunk` bytes in a chunk: what views are laid out for must be known from metadata.
    """

    format: str  # "zarr2", "zarr3", "n5"
    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    fill: bytes
    keys: ChunkKeys
    codecs: tuple[CodecSpec, ...] = ()
    shards: tuple[Shard, ...] = ()  # outermost first
    edges: tuple[Edges, ...] = ()  # one an axis, or none: all stored objects are of one shape
    axes: tuple[Axis, ...] = ()
    dimension_names: tuple[str | None, ...] | None = None  # as stored, for NetCDF
    attributes: Mapping[str, Any] = field(default_factory=dict)
    stored_dtype: str = ""  # as the document spells it, for people
    channels: tuple[Channel, ...] = ()  # of the image this array is a level of
    fill_given: bool = True  # False: the document gave none (Zarr v2 null); `fill` is zeros
    string_bytes: int = 256  # room for an element of variable length, on average over a chunk

    @cached_property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def grid(self) -> Shape:
        """Number of chunks along each axis; 0 where the array is empty."""
        return tuple(-(-s // c) for s, c in zip(self.shape, self.chunks, strict=True))

    @cached_property
    def clipped_chunk(self) -> Shape:
        """Shape of a chunk as far as it can lie within the array's."""
        return tuple(map(min, self.chunks, self.shape))

    @cached_property
    def outer_chunks(self) -> Shape:
        """Shape of one stored object, the largest if they differ: the outermost shard, or the
        chunk."""
        if self.edges and not self.shards:
            return tuple(e.longest for e in self.edges)
        return self.shards[0].shape if self.shards else self.chunks

    @cached_property
    def outer_grid(self) -> Shape:
        """The grid of stored objects."""
        if self.edges:
            return tuple(e.count for e in self.edges)
        return tuple(-(-s // c) for s, c in zip(self.shape, self.outer_chunks, strict=True))

    @cached_property
    def is_assembled(self) -> bool:
        """Whether blocks are put together from stored chunks of other shapes."""
        return bool(self.edges) and not self.shards

    @cached_property
    def keyed_grid(self) -> Shape:
        """The grid of the chunks that keys name: stored ones, or those inside shards."""
        return self.outer_grid if self.is_assembled else self.grid

    def stored_shape(self, index: Index) -> Shape:
        """Shape of the stored object at `index` of `outer_grid`."""
        if not self.edges:
            return self.outer_chunks
        return tuple(e.span(i)[1] for e, i in zip(self.edges, index, strict=True))

    def inside(self, index: Index) -> Shape:
        """Shape of what lies within the array of the chunk at `index`; () if that is all of it."""
        if all((i + 1) * c <= n for i, c, n in zip(index, self.chunks, self.shape, strict=True)):
            return ()
        return tuple(
            min(c, n - i * c) for i, c, n in zip(index, self.chunks, self.shape, strict=True)
        )

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @cached_property
    def is_variable(self) -> bool:
        """Whether elements are of variable length."""
        return self.dtype in VARIABLE

    @cached_property
    def most_of_chunk(self) -> int:
        """Bytes that the elements of a chunk may take together, if they are of variable length."""
        count = max(1, prod(self.grid))
        room = self.string_bytes * prod(self.chunks)
        return min(max(room, _LEAST_OF_ARRAY // count, _LEAST_OF_CHUNK), _MOST_OF_CHUNK)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the whole decoded array; the most there may be if its elements vary."""
        if self.is_variable:
            return prod(self.grid) * self.chunk_nbytes
        return self.size * self.dtype.itemsize

    @cached_property
    def chunk_nbytes(self) -> int:
        """Bytes of one decoded chunk; the most there may be if its elements vary."""
        if self.is_variable:  # packed: a start, a length and up to 7 bytes of padding each
            return self.most_of_chunk + 19 * prod(self.chunks) + 16
        return prod(self.chunks) * self.dtype.itemsize

    @cached_property
    def dtype_name(self) -> str:
        return type_name(self.dtype)

    @cached_property
    def axis_names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.axes)


@dataclass(frozen=True)
class GroupMeta:
    """A group. `consolidated` maps paths below the group to that node's documents by name.

    It is None where the group has no consolidated metadata; an empty mapping says that the
    group has no children.
    """

    format: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    consolidated: Mapping[str, Mapping[str, bytes]] | None = None

    @cached_property
    def names_below(self) -> Mapping[str, frozenset[str]]:
        """Of each path that the consolidated metadata has something below: the names there."""
        names: dict[str, set[str]] = {}
        for key in self.consolidated or ():
            below = key
            while below:
                above, _, name = below.rpartition("/")
                known = names.setdefault(above, set())
                if name in known:
                    break
                known.add(name)
                below = above
        return {path: frozenset(found) for path, found in names.items()}
