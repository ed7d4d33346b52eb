"""Where bands lie: which elements of an array each of them has (see bands.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from znfs.forks import cached_property
from znfs.meta import Index, Shape


@dataclass(frozen=True)
class BandGrid:
    """How an array is cut into slabs of `depths` planes along all axes but the last two, those of a
    chunk or fewer, and slabs into bands. Axes are in the order in which the array is read.

    Indexes count slabs along these axes, and chunks along the last but one. Positions are those of
    elements in C order.
    """

    shape: Shape
    chunks: Shape
    depths: Shape

    @cached_property
    def row(self) -> int:
        """Elements of a row."""
        return self.shape[-1]

    @cached_property
    def rows(self) -> int:
        """Rows of a plane."""
        return self.shape[-2]

    @cached_property
    def plane(self) -> int:
        """Elements of a plane."""
        return self.rows * self.row

    @cached_property
    def size(self) -> int:
        """Elements of the array."""
        return prod(self.shape)

    @cached_property
    def height(self) -> int:
        """Rows of a band in one plane."""
        return self.chunks[-2]

    @cached_property
    def count(self) -> int:
        """Bands of a slab."""
        return -(-self.rows // self.height)

    @cached_property
    def _axes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Of each axis but the last two: planes of the array, a chunk and a slab; slabs of a
        chunk."""
        return tuple(
            (n, chunk, depth, -(-min(chunk, n) // depth))
            for n, chunk, depth in zip(self.shape, self.chunks, self.depths, strict=False)
        )

    def segments(self, lo: int, hi: int) -> Iterator[tuple[Index, int, int, bool]]:
        """Elements [lo, hi) cut by bands: the band, where in it, how many elements follow each
        other there, and whether they are the last of the band's in that plane."""
        row, rows, height = self.row, self.rows, self.height
        at = lo
        while at < hi:
            y, x = divmod(at, row)
            plane, y = divmod(y, rows)
            slab, inside = self.slab(plane)
            while at < hi and y < rows:
                i_y, above = divmod(y, height)
                here = min(height, rows - i_y * height)
                left = (here - above) * row - x
                n = min(hi - at, left)
                yield (*slab, i_y), (inside * here + above) * row + x, n, n == left
                at += n
                y += here - above
                x = 0

    def indexes(self, lo: int, hi: int) -> Iterator[Index]:
        """The bands of elements [lo, hi) as they are needed, each once."""
        seen: set[Index] = set()
        for index, *_ in self.segments(lo, hi):
            if index not in seen:
                seen.add(index)
                yield index

    def slab(self, plane: int) -> tuple[Index, int]:
        """The slab that has the plane, and which of the slab's planes it is."""
        index: list[int] = []
        inside, planes = 0, 1
        for n, chunk, depth, slabs in reversed(self._axes):
            plane, z = divmod(plane, n)
            i_z, in_chunk = divmod(z, chunk)
            part, in_slab = divmod(in_chunk, depth)
            index.append(i_z * slabs + part)
            inside += in_slab * planes
            planes *= min(depth, chunk - part * depth, n - z + in_slab)
        return tuple(reversed(index)), inside

    def in_chunks(self, slab: Index) -> tuple[Index, tuple[slice, ...]]:
        """Along each axis but the last two, the chunks that a slab is part of, and which of their
        planes it has."""
        lead, parts = [], []
        for i, (n, chunk, depth, slabs) in zip(slab, self._axes, strict=True):
            i_z, part = divmod(i, slabs)
            first = part * depth
            lead.append(i_z)
            parts.append(slice(first, min(first + depth, chunk, n - i_z * chunk)))
        return tuple(lead), tuple(parts)

    def box(self, index: Index) -> Shape:
        """The shape of a band: that of its part of its chunks, cut at the array's edge, rows in
        full."""
        *slab, i_y = index
        _, parts = self.in_chunks(tuple(slab))
        planes = (part.stop - part.start for part in parts)
        return *planes, min(self.height, self.rows - i_y * self.height), self.row

    def is_last(self, hi: int) -> bool:
        """Whether the plane that ends at element `hi` or later is the last of its slab."""
        return self.slab_after(hi - 1) - hi < self.plane

    def slab_after(self, at: int) -> int:
        """Where the first plane after that of element `at` begins that needs other bands; at the
        latest where the last axis but two begins anew."""
        i = at // self.plane
        if not self._axes:
            return (i + 1) * self.plane
        n, chunk, depth, _ = self._axes[-1]
        z = i % n
        in_chunk = z % chunk
        end = z - in_chunk + min(chunk, in_chunk - in_chunk % depth + depth)
        return (i - z + min(n, end)) * self.plane
