"""Where bands lie, against NumPy."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from znfs.arrays.bandgrid import BandGrid


@st.composite
def grids(draw):
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=2, max_size=4)))
    chunks = tuple(draw(st.integers(1, 8)) for _ in shape)
    depths = tuple(
        draw(st.integers(1, min(n, c))) for n, c in zip(shape[:-2], chunks[:-2], strict=True)
    )
    return BandGrid(shape, chunks, depths)


def every_band(grid: BandGrid) -> dict[tuple[int, ...], np.ndarray]:
    """The elements' numbers, by band, cut out of the array as BandGrid's description has it."""
    numbers = np.arange(grid.size).reshape(grid.shape)
    axes = []
    for n, chunk, depth in zip(grid.shape, grid.chunks, grid.depths, strict=False):
        chunks = [range(i, min(i + chunk, n)) for i in range(0, n, chunk)]
        axes.append([c[i : i + depth] for c in chunks for i in range(0, len(c), depth)])
    rows = [range(i, min(i + grid.height, grid.rows)) for i in range(0, grid.rows, grid.height)]
    axes.append(rows)
    return {
        index: numbers[np.ix_(*(axis[i] for axis, i in zip(axes, index, strict=True)))]
        for index in product(*(range(len(axis)) for axis in axes))
    }


@given(grids())
@settings(max_examples=100, deadline=None)
def test_a_band_is_its_part_of_its_chunks(grid):
    numbers = np.arange(grid.size).reshape(grid.shape)
    for index, band in every_band(grid).items():
        assert grid.box(index) == band.shape
        lead, parts = grid.in_chunks(index[:-1])
        first = [i * c + part.start for i, c, part in zip(lead, grid.chunks, parts, strict=False)]
        assert numbers[(*first, index[-1] * grid.height, 0)] == band.flat[0]


@given(grids(), st.data())
@settings(max_examples=100, deadline=None)
def test_segments_are_the_elements_in_order(grid, data):
    bands = every_band(grid)
    lo = data.draw(st.integers(0, grid.size))
    hi = data.draw(st.integers(lo, grid.size))
    found = []
    for index, offset, n, is_end in grid.segments(lo, hi):
        band = bands[index]
        found.extend(band.ravel()[offset : offset + n].tolist())
        assert is_end == ((offset + n) % (band.shape[-2] * band.shape[-1]) == 0)
    assert found == list(range(lo, hi))
    needed = {index for index, band in bands.items() if ((lo <= band) & (band < hi)).any()}
    indexes = list(grid.indexes(lo, hi))
    assert len(indexes) == len(needed)
    assert set(indexes) == needed


@given(grids())
@settings(max_examples=100, deadline=None)
def test_the_slab_after_begins_where_a_plane_needs_other_bands(grid):
    planes = grid.size // grid.plane
    slabs = [grid.slab(plane)[0] for plane in range(planes)]
    run = grid.shape[-3] if grid.depths else 1
    for plane in range(planes):
        after = plane + 1
        while after % run and slabs[after] == slabs[plane]:
            after += 1
        for at in (plane * grid.plane, (plane + 1) * grid.plane - 1):
            assert grid.slab_after(at) == after * grid.plane
        assert grid.is_last((plane + 1) * grid.plane) is (after == plane + 1)
