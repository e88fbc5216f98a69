"""Box, against numpy's own slicing; and drags of the mouse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.geometry import Box, dense, rectangle


@st.composite
def boxes(draw, axes=2, *, low=-6, high=12):
    """A box, perhaps empty, perhaps partly or wholly outside the picture."""
    start = draw(st.tuples(*[st.integers(low, high)] * axes))
    size = draw(st.tuples(*[st.integers(0, 8)] * axes))
    return Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))


def painted(box, frame):
    """A mask of a frame that starts at `frame.start`, true inside the box."""
    mask = np.zeros(frame.shape, bool)
    mask[box.intersect(frame).within(frame).slices] = True
    return mask


FRAME = Box((-10, -10), (30, 30))


def test_whole_covers_an_array():
    """The box of a whole array starts at 0 and cuts out all of it."""
    array = np.arange(24).reshape(2, 3, 4)
    box = Box.whole(array.shape)
    assert box == Box((0, 0, 0), (2, 3, 4))
    assert box.shape == array.shape
    assert array[box.slices].size == 24
    assert not box.is_empty


@pytest.mark.parametrize(
    ("center", "shape", "expected"),
    [
        ((5, 5), (4, 4), Box((3, 3), (7, 7))),
        ((5, 5), (3, 5), Box((4, 3), (7, 8))),
        ((0.4, -0.4), (2, 2), Box((-1, -1), (1, 1))),
        ((1.6, 10, 20), (1, 1, 1), Box((2, 10, 20), (3, 11, 21))),
    ],
)
def test_around_centers_a_shape(center, shape, expected):
    """A box around a point has the shape asked for, with the point's voxel in the middle."""
    assert Box.around(center, shape) == expected


@given(hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))))
def test_of_mask_is_the_smallest_box(mask):
    """The box of a mask holds every true voxel and touches one on each side; of nothing there is none."""
    box = Box.of_mask(mask)
    if not mask.any():
        assert box is None
        return
    assert mask[box.slices].sum() == mask.sum()
    for axis in range(3):
        sides = np.moveaxis(mask[box.slices], axis, 0)
        assert sides[0].any()
        assert sides[-1].any()


@given(boxes(), boxes())
def test_intersect_is_what_both_hold(a, b):
    """The voxels of an intersection are those in both boxes, whichever is asked first, and never fewer than none."""
    both = a.intersect(b)
    assert (painted(both, FRAME) == (painted(a, FRAME) & painted(b, FRAME))).all()
    assert all(n >= 0 for n in both.shape)
    assert both.is_empty == b.intersect(a).is_empty


@given(boxes(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_clip_keeps_what_lies_in_the_picture(box, shape):
    """A clipped box can be cut out of the picture, and is the part of the box that lies inside."""
    inside = box.clip(shape)
    assert inside == box.intersect(Box.whole(shape))
    assert np.zeros(shape)[inside.slices].shape == inside.shape


@given(st.lists(boxes(), min_size=1, max_size=4))
def test_union_holds_them_all(some):
    """A union holds every box, and starts and stops where one of them does."""
    union = Box.union(some)
    assert all(b.intersect(union) == b or b.is_empty for b in some)
    assert union.start == tuple(min(b.start[a] for b in some) for a in range(2))
    assert union.stop == tuple(max(b.stop[a] for b in some) for a in range(2))


@given(boxes(), st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_shift_moves_and_comes_back(box, by):
    """A shifted box has the same shape, and shifting back gives the box itself."""
    moved = box.shift(by)
    assert moved.shape == box.shape
    assert moved.shift([-n for n in by]) == box


@given(boxes(), st.integers(0, 4))
def test_grow_adds_on_each_side(box, by):
    """A grown box is wider by the same number of voxels on every side and keeps its middle."""
    grown = box.grow(by)
    assert grown.shape == tuple(n + 2 * by for n in box.shape)
    assert grown.center == box.center


def test_grow_can_leave_leading_axes_alone():
    """A halo for Y and X alone leaves T and Z as they are."""
    assert Box((3, 2, 5, 5), (4, 3, 9, 9)).grow((2, 1)) == Box((3, 2, 3, 4), (4, 3, 11, 10))


@given(boxes(low=0, high=4), st.integers(0, 3))
def test_within_counts_from_the_outer_box(box, halo):
    """Cutting the outer box and then the inner one within it gives the inner box of the array."""
    array = np.arange(400).reshape(20, 20)
    outer = box.grow(halo).clip(array.shape)
    assert (array[outer.slices][box.within(outer).slices] == array[box.slices]).all()


def test_boxes_are_records():
    """Equal boxes are equal, may be keys of a dict, and do not change."""
    assert {Box((0, 0), (1, 1)): "a"}[Box((0, 0), (1, 1))] == "a"
    with pytest.raises(AttributeError):
        Box((0, 0), (1, 1)).start = (1, 1)


def test_boxes_of_different_axes_do_not_mix():
    """A box of a plane and one of a stack cannot be combined by mistake."""
    with pytest.raises(ValueError, match="argument"):
        Box((0, 0), (1, 1)).intersect(Box((0, 0, 0), (1, 1, 1)))


def test_a_drag_encloses_a_rectangle_of_its_plane():
    """From any corner; along other axes it stays where it began."""
    assert rectangle([[3.2, 9.6, 2.4], [3.2, 5.0, 0.0], [4.0, 4.4, 7.9]], (1, 2)) == Box((3, 4, 2), (4, 11, 9))


def test_points_along_a_drag_are_at_most_a_voxel_apart():
    """And go through all that it went through."""
    path = [[0.0, 0.0], [0.0, 3.5], [2.0, 3.5]]
    points = dense(path)
    assert np.abs(np.diff(points, axis=0)).max() <= 1
    assert all(point in points for point in path)
