"""Sides: what is held out is decided once, and never learnt."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.corrections import HELD_OUT, NOT_TAUGHT, TAUGHT, Edit
from napari_unet.core.geometry import Box
from napari_unet.core.sides import HELD_OUT_EVERY, SQUARE, Sides, region_of, squares_of

SHAPE = (SQUARE * 6, SQUARE * 6)


def spot(center, label=1, radius=5, picture="p"):
    """An edit that sets a small square object."""
    box = Box.around(center, (2 * radius,) * len(center[-2:]))
    labels = np.full(box.shape, label, np.int32)
    return Edit(picture, box, labels, np.ones(box.shape, bool))


def middle(row, column):
    """The middle of a square."""
    return (row * SQUARE + SQUARE // 2, column * SQUARE + SQUARE // 2)


@pytest.fixture
def taught():
    """What is taught in a picture of 6 x 6 squares: nothing yet."""
    return np.zeros(SHAPE, np.uint8)


def put(sides, edit, taught):
    """Divide an edit and apply it; the sides of its parts."""
    parts = sides.divide(edit, taught)
    for part in parts:
        part.apply(np.zeros(SHAPE, np.int32), taught)
    return [part.held_out for part in parts]


def test_every_fifth_new_square_is_held_out_whatever_is_set_in_it_later(taught):
    """The side of a square is drawn when something is first set in it, and stays."""
    sides = Sides()
    places = [middle(row, column) for row in range(2) for column in range(5)]
    first = [put(sides, spot(place), taught) for place in places]
    assert first == [[n % HELD_OUT_EVERY == HELD_OUT_EVERY - 1] for n in range(10)]
    again = [put(sides, spot((y + 30, x - 30), 2), taught) for y, x in places]
    assert again == first


def test_a_voxel_that_is_set_again_stays_where_it_was(taught):
    """What was held out is never taught by a later edit over it, and what was taught never scores."""
    sides = Sides()
    for column in range(5):
        put(sides, spot(middle(0, column)), taught)
    before = taught.copy()
    row = Box((0, 0), (SQUARE, SQUARE * 5))
    put(sides, Edit("p", row, np.ones(row.shape, np.int32), np.ones(row.shape, bool)), taught)
    assert np.array_equal(taught[before != NOT_TAUGHT], before[before != NOT_TAUGHT])
    assert (taught[:SQUARE, : SQUARE * 5] != NOT_TAUGHT).all()


def test_an_object_goes_as_a_whole_with_the_square_of_its_middle(taught):
    """An object that reaches from a held-out square into another one is held out to its last voxel."""
    sides = Sides()
    for column in range(4):
        put(sides, spot(middle(0, column)), taught)
    edge = SQUARE * 5
    assert put(sides, spot((64, edge - 2), 7), taught) == [True]  # its middle is in the fifth square
    assert put(sides, spot((64, edge + 40), 8), taught) == [False]
    assert (taught[60:68, edge : edge + 2] == HELD_OUT).all()


def test_a_large_accepted_region_teaches_and_scores(taught):
    """Accepting many squares at once does not put them all on one side; every object is on one side only."""
    sides = Sides()
    labels = np.zeros(SHAPE, np.int32)
    centers = np.arange(20, SHAPE[0], 41)
    for number, (y, x) in enumerate([(y, x) for y in centers for x in centers], start=1):
        labels[y - 8 : y + 8, x - 8 : x + 8] = number
    put(sides, Edit("p", Box.whole(SHAPE), labels, np.ones(SHAPE, bool), "region"), taught)
    share = (taught == HELD_OUT).mean()
    assert 0.1 < share < 0.3
    assert (taught != NOT_TAUGHT).all()
    for number in range(1, labels.max() + 1):
        assert np.unique(taught[labels == number]).size == 1


def test_untrusted_voxels_are_on_no_side(taught):
    """Where the user set nothing, nothing is taught; an edit that sets nothing gives no part."""
    edit = spot(middle(0, 0))
    trusted = edit.trusted.copy()
    trusted[:, 3:] = False
    put(Sides(), Edit("p", edit.box, edit.labels, trusted), taught)
    assert (taught[edit.box.slices] == np.where(trusted, TAUGHT, NOT_TAUGHT)).all()
    assert Sides().divide(Edit("p", edit.box, edit.labels, np.zeros_like(trusted)), taught) == []


def test_the_numbers_of_objects_may_be_large(taught):
    """An object with the largest number that there is costs no more than any other."""
    edit = spot(middle(0, 0), np.iinfo(np.int32).max)
    assert put(Sides(), edit, taught) == [False]


def test_sides_read_back_are_the_same(taught):
    """After reopening, every square is on the side it was on, also those that only parts of edits had met."""
    rng = np.random.default_rng(0)
    sides, kept = Sides(), []
    for _ in range(60):
        height, width = (int(n) for n in rng.integers(4, 200, 2))
        start = (int(rng.integers(0, SHAPE[0] - height)), int(rng.integers(0, SHAPE[1] - width)))
        box = Box(start, (start[0] + height, start[1] + width))
        labels = rng.integers(0, 4, (height, width), dtype=np.int32)
        edit = Edit("p", box, labels, rng.random((height, width)) < 0.5)
        parts = sides.divide(edit, taught)
        for part in parts:
            part.apply(np.zeros(SHAPE, np.int32), taught)
        kept += parts
    again, seen = Sides(), np.zeros(SHAPE, np.uint8)
    for edit in kept:
        again.remember(edit, seen)
        edit.apply(np.zeros(SHAPE, np.int32), seen)
    assert np.array_equal(seen, taught)
    assert again._sides == sides._sides


def test_an_undo_decides_nothing(taught):
    """An undo that is read back claims no square."""
    sides = Sides()
    undone = spot(middle(0, 0))
    sides.remember(replace(undone, tool="undo", taught=np.zeros(undone.box.shape, np.uint8)), taught)
    assert sides._sides == {}


def test_planes_of_a_stack_have_squares_of_their_own():
    """Along the leading axes each plane counts for itself."""
    assert squares_of(Box((3, 0, 120), (5, 128, 130))) == [(3, 0, 0), (3, 0, 1), (4, 0, 0), (4, 0, 1)]
    assert region_of((3, 0, 1)) == Box((3, 0, SQUARE), (4, SQUARE, 2 * SQUARE))


def test_an_edit_may_reach_outside_the_picture(taught):
    """What lies outside is left out when it is applied, and does no harm before."""
    assert put(Sides(), spot((0, 0)), taught) == [False]
    assert (taught[:5, :5] == TAUGHT).all()
