"""Grids of tiles: what is written once, what is read for it, and in which order."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.geometry import Box
from napari_unet.core.tiles import Grid, cover

SHAPES = st.tuples(st.integers(1, 150), st.integers(1, 150))
CORES = st.integers(9, 90)
STEPS = st.sampled_from([1, 4, 16])


@settings(max_examples=50)
@given(SHAPES, CORES, STEPS, st.integers(0, 3), st.integers(0, 2))
def test_every_pixel_is_written_once(shape, core, step, halo, mirror):
    """The cores of a grid cover each pixel of any picture exactly once."""
    grid = cover(Box.whole(shape), core=core, halo=halo * step, mirror=mirror * step, step=step)
    times = np.zeros(shape, int)
    for tile in grid.tiles():
        assert not tile.core.is_empty
        times[tile.core.slices] += 1
    assert (times == 1).all()


@settings(max_examples=50)
@given(SHAPES, CORES, STEPS, st.integers(0, 3), st.integers(0, 2))
def test_a_window_holds_the_halo_and_a_little_mirror(shape, core, step, halo, mirror):
    """A window is its core with a whole halo, but reaches no further out of the picture than the mirror does."""
    halo, mirror = halo * step, mirror * step
    plane = Box.whole(shape)
    for tile in cover(plane, core=core, halo=halo, mirror=mirror, step=step).tiles():
        assert tile.core.grow(halo).intersect(plane) == tile.window.intersect(plane)
        assert tile.window.intersect(plane.grow(mirror)) == tile.window
        assert tile.around.intersect(tile.window) == tile.around == tile.around.intersect(plane)
        assert tile.core.intersect(tile.around) == tile.core


@settings(max_examples=50)
@given(SHAPES, CORES, STEPS)
def test_tiles_meet_the_same_coarse_pixels(shape, core, step):
    """Windows start on multiples of the network's coarsest step, and cores are no longer than asked for."""
    grid = cover(Box.whole(shape), core=core, halo=2 * step, mirror=step, step=step)
    for tile in grid.tiles():
        assert all(a % step == 0 for a in tile.window.start)
        assert all(n <= max(core, step) for n in tile.core.shape)


def test_tiles_are_as_equal_as_the_step_allows():
    """A picture a little longer than one tile is cut in the middle, not into one tile and a sliver."""
    grid = cover(Box.whole((1100, 448)), core=448, halo=96, mirror=32, step=16)
    assert grid.counts == (3, 1)
    assert [tile.core.shape[0] for tile in grid.tiles()] == [368, 368, 364]


def test_a_plane_of_a_stack_is_cut_along_its_last_axes_alone():
    """Tiles of a plane keep its place in the stack and are one plane thick, window and all."""
    plane = Box((2, 7, 0, 0), (3, 8, 40, 60))
    for tile in cover(plane, core=32, halo=8, mirror=4, step=4).tiles():
        for box in (tile.core, tile.around, tile.window):
            assert (box.start[:2], box.stop[:2]) == ((2, 7), (3, 8))


def test_a_volume_is_cut_along_three_axes():
    """With three axes the cores cover a volume once."""
    grid = cover(Box.whole((10, 20, 33)), core=8, halo=4, mirror=4, step=4, ndim=3)
    assert sum(math.prod(tile.core.shape) for tile in grid.tiles()) == 10 * 20 * 33


@pytest.fixture
def grid() -> Grid:
    """Four by four tiles of 16 pixels."""
    return cover(Box.whole((64, 64)), core=16, halo=0, mirror=0, step=16)


def test_tiles_in_view_come_first(grid):
    """It is told which tiles the view meets, and how far all of them are from its middle."""
    view = Box((20, 20), (60, 60))
    away, meets = grid.away(view)
    assert away.shape == meets.shape == grid.counts
    for tile in grid.tiles():
        assert meets[tile.index] == (not tile.core.intersect(view).is_empty)
        assert away[tile.index] == pytest.approx(math.dist(tile.core.center, view.center))
    assert meets.sum() == 9
    assert np.unravel_index(away.argmin(), away.shape) == (2, 2)


def test_a_view_beside_the_picture_still_gives_an_order(grid):
    """A view that shows nothing of the picture puts the tiles nearest to it first."""
    view = Box((100, 100), (120, 120))
    away, meets = grid.away(view)
    assert np.unravel_index(away.argmin(), away.shape) == (3, 3)
    assert not meets.any()


def test_a_view_of_another_plane_meets_nothing():
    """Distances count along the plane; a view at another time, or another depth, shows none of its tiles."""
    grid = cover(Box((3, 0, 0), (4, 100, 100)), core=50, halo=8, mirror=8, step=4)
    assert grid.away(Box((3, 0, 0), (4, 10, 10)))[1].sum() == 1
    assert not grid.away(Box((2, 0, 0), (3, 10, 10)))[1].any()
