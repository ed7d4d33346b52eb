"""Telling readers that go on from those that jump about, and how far ahead to look for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, product
from math import prod

from znfs.arrays.bandgrid import BandGrid
from znfs.meta import Index, Shape, ravel, unravel


class Stream:
    """A reader of runs of rows, in slabs of bands (see bands.py).

    The kernel's own read-ahead sends a file's reads several at a time and out of order, so what
    lies near the last position counts as its continuation. The depth doubles each time that the
    reader had to wait. Races between threads cost a wrong guess, no more.
    """

    _NEAR = 4 << 20  # elements
    _STREAK = 2  # reads that continue each other before anything is looked ahead for
    _STEADY = 8  # reads that continue each other until it is no chance
    _MOST_DEPTH = 64  # bands
    _REACH = 8  # times what was read

    def __init__(self, grid: BandGrid, spare: int, *, far: bool) -> None:
        """There is room for `spare` bands besides those of a slab; the store may be `far`."""
        self._grid = grid
        self._spare = spare
        self._far = far
        self._depth = 2
        # What the last reads that had to wait for nothing took, and how far they went: together, as
        # of what the kernel sends out of order some go a few elements on and others a megabyte.
        self._seconds, self._elements = 1e-9, 1.0
        self._position = -1
        self._streak = 0
        self._time = 0.0
        self._start = 0
        self._forget()

    def _forget(self) -> None:
        """The reader has begun anew, elsewhere."""
        self._slab: Index | None = None
        self._first = 0  # the band of the slab it came to first
        self._begun = 0  # bands of the slab begun, counted from `_first` round
        self._passed = 0  # bands of the slab that were read through
        self._crossed = False  # whether it has gone from one slab to the next
        self._after = 0  # the element that is first of the slab to be begun next
        self._ahead = 0  # bands begun of slabs after this one

    def come_to(self, index: Index, hi: int) -> Index | None:
        """The reader has come to element `hi`, in the band `index`. Returns the slab it has left
        thereby, if any."""
        left, slab = self._slab, index[:-1]
        if left == slab:
            return None
        self._crossed = left is not None
        self._slab, self._first = slab, index[-1]
        self._begun = self._passed = 0
        self._ahead -= self._grid.count
        after = self._grid.slab_after(hi - 1)
        if self._after <= after or self._ahead < 0:
            self._after, self._ahead = after, 0
        return left

    def next(self, index: Index, hi: int, slab_time: float) -> Iterator[Index]:
        """The bands to begin for a reader who has come to element `hi`, in the band `index`; to
        load a slab takes `slab_time`. Each counts as begun once the one after it is asked for.

        First the other bands of this slab: the rest of the plane, then those of the planes after
        it. Then the slabs after this one, so that they are there just in time, and as far as they
        drive out only what was read through.
        """
        grid, (*slab, i_y) = self._grid, index
        wanted = min(grid.count, (i_y - self._first) % grid.count + 1 + self._depth)
        while self._begun < wanted:
            i = (self._first + self._begun) % grid.count
            # Those behind the reader may have been read through, and be gone.
            if i > i_y or not grid.is_last(hi):
                yield (*slab, i)
            self._begun += 1
        # A distant store is not asked for another slab before the reader has gone from one to the
        # next: many look at the planes of one and stop.
        if self._begun < grid.count or (self._far and not self._crossed):
            return
        near = max(grid.plane, self.soon(2 * slab_time))
        room = self._spare + self._passed
        while self._after < grid.size and self._after - hi <= near and self._ahead < room:
            following, _ = grid.slab(self._after // grid.plane)
            yield (*following, self._ahead % grid.count)
            self._ahead += 1
            if self._ahead % grid.count == 0:
                self._after = grid.slab_after(self._after)

    def pass_by(self, index: Index) -> None:
        """A band was read through."""
        self._passed += index[:-1] == self._slab

    def soon(self, seconds: float) -> int:
        """How many elements a reader goes on in that time, while nothing has to be waited for; no
        more than so many times what it has come already: many look at a few planes and stop."""
        come = self._position - self._start
        return min(int(seconds * self._elements / self._seconds), self._REACH * come)

    def is_near(self, lo: int) -> bool:
        """Whether `lo` is about where the reader is."""
        return self._position >= 0 and abs(lo - self._position) <= self._NEAR

    def is_steady(self, lo: int) -> bool:
        """Whether a read at `lo` is one of a long row of such."""
        return self._streak >= self._STEADY and self.is_near(lo)

    def note(self, lo: int, hi: int, waited: bool) -> bool:
        """Take note of a read; returns whether it takes a sequential reader further."""
        now = time.monotonic()
        if not self.is_near(lo):
            self._position, self._streak, self._depth = hi, 0, 2
            self._forget()
            self._start, self._time = lo, now
            return False
        ahead = hi - self._position
        self._streak += 1
        if waited and self._streak >= self._STREAK:
            self._depth = min(self._MOST_DEPTH, 2 * self._depth)
        if ahead <= 0:
            return False  # it was overtaken
        if not waited:
            self._seconds += (now - self._time - self._seconds) / 16
            self._elements += (ahead - self._elements) / 16
        self._position, self._time = hi, now
        return self._streak >= self._STREAK


class PlaneReads:
    """Tells who reads all of the planes of a file from who reads a few rows of many.

    All of them are read by who goes on for longer than `room` elements and leaves out less than
    half, and, after a jump, by who has read a plane before it. Races between threads cost a wrong
    guess, no more.
    """

    _NEAR = Stream._NEAR

    def __init__(self, plane: int, row: int, room: int) -> None:
        """`plane` and `row` are elements of one."""
        self._plane = plane
        self._row = row
        self._room = room
        self._first = self._last = -1  # of what was read since the last jump
        self._position = -1
        self._read = 0
        self._had_plane = False  # before the last jump
        self._answer = False

    def note(self, lo: int, hi: int) -> bool:
        """Take note of a read of elements [lo, hi). Whether it is of who reads all."""
        if not self._is_near(lo):
            if hi - lo < self._row and self._position >= 0:
                return False  # a look at an element is no reader's jump
            self._had_plane = self._read >= self._plane
            self._first, self._last, self._read = lo, hi, 0
        self._position = hi
        self._first, self._last = min(self._first, lo), max(self._last, hi)
        self._read += hi - lo
        come = self._last - self._first
        self._answer = self._had_plane or (come > self._room and 2 * self._read >= come)
        return self._answer

    def expect(self, lo: int) -> bool:
        """Whether what is read from `lo` on will most likely be of who reads all."""
        return self._answer and self._is_near(lo)

    def _is_near(self, lo: int) -> bool:
        return self._position >= 0 and abs(lo - self._position) <= self._NEAR


class Walk:
    """Looks ahead for a reader who takes `count` pieces one after another.

    `begin` is given the pieces to begin loading, and says whether there was room for all. No more
    are begun than a quarter of the cache holds, which has room for `room` of them. Races between
    threads cost a wrong guess, no more.
    """

    _STREAK = 3  # pieces in a row before anything is looked ahead for
    _MOST_DEPTH = 64
    # For so many pieces taken in a row, one is begun ahead: of a walk that ends, so large a part is
    # in vain.
    _STREAK_FOR_EACH = 32

    def __init__(self, count: int, begin: Callable[[range], bool], room: int) -> None:
        self._count = count
        self._most = max(1, min(self._MOST_DEPTH, room // 4))
        self._begin = begin
        self._at = -1
        self._streak = 0
        self._depth = 1
        self._begun = 0  # pieces before this have been begun

    def follow(self, i: int) -> None:
        """The reader has come to the `i`-th piece."""
        if i == self._at:
            return
        if i != self._at + 1:
            self._at, self._streak, self._depth, self._begun = i, 0, 1, 0
            return
        self._at = i
        self._streak += 1
        if not self.is_steady:
            return
        if i >= self._begun:  # the reader has overtaken us
            self.late()
        depth = max(self._depth, min(self._streak // self._STREAK_FOR_EACH, self._most))
        first = max(i + 1, self._begun)
        if first > i + 1 + depth // 2:
            return  # half of it is still ahead; one by one, waking threads took longer than loading
        self._begun = min(self._count, i + 1 + depth)
        if first < self._begun and not self._begin(range(first, self._begun)):
            self._begun = first  # the next time again

    def hand_over(self, i: int) -> None:
        """The reader will find all up to the `i`-th piece without us."""
        self._begun = max(self._begun, i + 1)

    def steps(self, i: int) -> range:
        """The pieces that the reader has come to, if it now comes to the `i`-th."""
        return range(self._at + 1 if self._at < i <= self._begun else i, i + 1)

    @property
    def is_steady(self) -> bool:
        """Whether the reader has taken several in a row."""
        return self._streak >= self._STREAK

    def late(self) -> None:
        """The reader has to wait for the piece: look further ahead."""
        if self.is_steady:
            self._depth = min(self._most, 2 * self._depth)


class ChunkWalk:
    """Looks ahead for a reader of whole chunks, one after another: HDF5.

    What it reads are boxes of chunks of `grid`, each in row-major order, up to the whole array.
    What was handed over to the kernel is read several at a time and in no order, and nobody is
    told when the reader takes it: that is seen by what it wants next.
    """

    def __init__(self, grid: Shape, walk: Walk, boxes: Boxes) -> None:
        self._at = -1
        self._grid = grid
        self._walk = walk
        self._boxes = boxes
        self._is_run = False  # what was read of the box last is one chunk after another
        self._handed: set[int] = set()

    def follow(self, i: int) -> None:
        """The reader has come to the `i`-th chunk."""
        if i == self._at or i in self._handed:
            return
        self._at = i
        self._handed.clear()
        for k in self._walk.steps(i) if self._is_run else (i,):
            self._is_run = self._boxes.follow(unravel(k, self._grid))
            if self._is_run:
                self._walk.follow(k)

    def ahead(self, i: int) -> Iterator[int]:
        """The chunks that will be read after the `i`-th, in order."""
        if i != self._at:
            return
        if not self._is_run:
            coming = (ravel(index, self._grid) for index in self._boxes.coming)
            yield from (k for k in coming if k > i)
        elif self._walk.is_steady:
            yield from range(i + 1, prod(self._grid))

    def hand_over(self, i: int) -> None:
        """The kernel is told to read the `i`-th chunk, as it was all before it."""
        self._handed.add(i)
        if self._is_run:
            self._walk.hand_over(i)

    def late(self) -> None:
        """The reader has to wait for the chunk."""
        self._walk.late()


class Boxes:
    """Tells boxes of chunks from the order in which their chunks are read, and has begun what
    follows.

    Who reads on in the second row wants as much of it as of the first, and of the second layer as
    much as of the first. The rest may be guessed: that a box has what all of the last
    ones had in common, for who cuts a volume into equal pieces reads such pieces again; and that
    it goes on along an axis, as most of them did. What is guessed and not read stays a small share
    of what is read, `waste` of it.

    A chunk that the kernel had in its page cache is missing from the order, which does no harm.
    """

    _ALIKE = 8  # boxes
    _MOST = 0.6  # of the last boxes
    _MOST_CREDIT = 16.0  # chunks
    _MOST_ASKED = 1024  # chunks: a layer may have a million

    def __init__(
        self, grid: Shape, begin: Callable[[Iterable[Index]], object], *, waste: float
    ) -> None:
        self.coming: list[Index] = []  # what is certain of the box, and was asked for last
        self._waste = waste
        self._grid = grid
        self._begin = begin
        self._corner: Index = (-1,) * len(grid)
        self._extent: Index = (0,) * len(grid)  # of the box as far as it was read, in chunks
        self._last: Index = ()  # the chunk read last, from the corner
        self._before: tuple[Index, ...] = ()  # extents of the last boxes
        self._credit = 0.0  # chunks that may be guessed in vain
        self._guessed: set[Index] = set()

    def follow(self, index: Index) -> bool:
        """The reader has come to the chunk at `index`. Returns whether its box, so far, is chunks
        one after another in the array's own order."""
        self._credit = min(
            self._MOST_CREDIT, self._credit + self._waste + (index in self._guessed)
        )
        self._guessed.discard(index)
        at = tuple(i - c for i, c in zip(index, self._corner, strict=True))
        grown = [d for d, (a, n) in enumerate(zip(at, self._extent, strict=True)) if a >= n]
        axis = grown[0] if grown else 0
        if min(at) < 0 or at <= self._last or len(grown) > 1 or at[axis] > self._extent[axis]:
            self._start(index)
            return True
        self._last = at
        if grown:
            extent = self._extent
            self._extent = (*extent[:axis], extent[axis] + 1, *extent[axis + 1 :])
            if not self._is_run():
                # The rest of this row or layer; of the axes before it, where the reader is.
                self.coming = self._ask(*self._layer(axis, at))
            self._guess(axis)
            self._guess(axis - 1)
        return self._is_run()

    def _start(self, index: Index) -> None:
        """A new box, with its corner there."""
        if prod(self._extent):
            self._before = (*self._before, self._extent)[-self._ALIKE :]
        self._corner = index
        self._extent = (1,) * len(index)
        self._last = (0,) * len(index)
        self._guessed.clear()
        self.coming = []
        if self._waste and len(self._before) == self._ALIKE and self._credit >= 0:
            self._bet(self._last, tuple(map(min, *self._before)))
        self._guess(len(index) - 1)

    def _guess(self, axis: int) -> None:
        """Have one more row or layer along `axis` begun, if the box most likely has it."""
        if axis < 0 or not self._waste:
            return
        now = self._extent[axis]
        as_long = [extent for extent in self._before if extent[axis] >= now]
        longer = sum(extent[axis] > now for extent in as_long)
        if len(as_long) < self._ALIKE // 2 or longer < self._MOST * len(as_long):
            return
        start, shape = self._layer(axis, (*(0 for _ in range(axis)), now))
        if prod(shape) <= self._credit:
            self._bet(start, shape)

    def _bet(self, start: Index, shape: Shape) -> None:
        """Ask for what may turn out not to be wanted."""
        asked = self._ask(start, shape)
        self._credit -= len(asked)
        self._guessed.update(asked)

    def _layer(self, axis: int, at: Index) -> tuple[Index, Shape]:
        """Start, from the corner, and shape of the row or layer that holds `at`, across `axis`."""
        inner = len(self._extent) - axis - 1
        return (*at[: axis + 1], *(0,) * inner), (*(1,) * (axis + 1), *self._extent[axis + 1 :])

    def _ask(self, start: Index, shape: Shape) -> list[Index]:
        """Have the chunks of a part of the box begun, but for the one that is being read."""
        first = [c + s for c, s in zip(self._corner, start, strict=True)]
        axes = [
            range(at, min(at + n, most))
            for at, n, most in zip(first, shape, self._grid, strict=True)
        ]
        here = tuple(c + a for c, a in zip(self._corner, self._last, strict=True))
        wanted = list(islice((i for i in product(*axes) if i > here), self._MOST_ASKED))
        if wanted:
            self._begin(wanted)
        return wanted

    def _is_run(self) -> bool:
        """Whether the box is a run of chunks: whole rows, whole layers."""
        outermost = next((d for d, n in enumerate(self._extent) if n > 1), len(self._extent))
        return self._extent[outermost + 1 :] == self._grid[outermost + 1 :]
