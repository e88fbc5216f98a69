"""Prompts add up, and move with the picture."""

import numpy as np
import pytest

from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import SCRIBBLE, Prompts, box_between, box_in, points_in, prompts_in, thinned


def test_clicks_add_up():
    """A click is added on its side; the old prompts stay what they were."""
    first = Prompts(((1, 2),))
    both = first.and_click((3, 4), False).and_click((5, 6), True)
    assert both == Prompts(((1, 2), (5.0, 6.0)), ((3.0, 4.0),))
    assert first.negative == ()
    assert Prompts(negative=((1, 2),)).is_empty
    assert not first.is_empty
    assert not Prompts(box=Box((0, 0), (1, 1))).is_empty


def test_prompts_move():
    """Points and the box move alike."""
    prompts = Prompts(((1.0, 2.0),), ((3.0, 4.0),), Box((0, 1), (5, 6)))
    assert prompts.shift((10, -1)) == Prompts(((11.0, 1.0),), ((13.0, 3.0),), Box((10, 0), (15, 5)))
    assert Prompts().shift((1, 1)) == Prompts()


def test_a_drag_is_a_box_and_a_scribble_has_few_points():
    """Whatever the direction of the drag, both ends are in its box."""
    assert box_between([(9.4, 2.0), (5.0, 5.0), (3.6, 7.0)]) == Box((4, 2), (10, 8))
    path = [(float(n), 0.0) for n in range(200)]
    assert SCRIBBLE <= len(thinned(path)) <= 2 * SCRIBBLE
    assert list(thinned(path[:5])) == path[:5]


@pytest.mark.parametrize("points", [[(1, 2, 3)], [(1, np.nan)], ["ab"], [(1, 2), 3], 5])
def test_points_that_are_none_are_a_sentence(points):
    """Three numbers, no number, text, a number alone."""
    with pytest.raises(ImageError, match=r"no list of \(y, x\)"):
        points_in(points, (10, 20))


def test_points_outside_of_the_picture_are_none():
    """Lists and arrays are taken, and none at all; within the pixels at the edge a point may lie anywhere."""
    assert points_in([(-3, 5), (4.5, 99), (4.5, 19), (10, 3)], (10, 20)) == ((4.5, 19.0),)
    assert points_in(np.array([(-0.4, 5), (9.9, 19.6)]), (10, 20)) == ((0.0, 5.0), (9.0, 19.0))
    assert points_in(np.zeros((0, 2)), (10, 20)) == points_in([], (10, 20)) == ()


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ((10, 10, 10, 10), "nothing of the picture"),
        ((50, 50, 60, 60), "nothing of the picture"),
        (Box((3, 3), (3, 9)), "nothing of the picture"),
        ((1, 2, 3), "is no box"),
        ((1, 2, 3, np.nan), "is no box"),
    ],
)
def test_a_box_that_is_none_is_a_sentence(box, sentence):
    """Empty, beside the picture, of too few numbers."""
    with pytest.raises(ImageError, match=sentence):
        box_in(box, (10, 20))


def test_a_box_over_the_edge_ends_there():
    """A hand draws over it, however far."""
    assert box_in((-2, 3, 5, 40), (10, 20)) == Box((0, 3), (5, 20))


@pytest.mark.parametrize("box", [(8, 7, 4, 2), (4, 7, 8, 2), (8, 2, 4, 7), Box((8, 7), (4, 2))])
def test_a_box_may_be_drawn_from_any_corner(box):
    """As a hand does."""
    assert box_in(box, (10, 20)) == Box((4, 2), (8, 7))


def test_of_prompts_what_is_inside_counts():
    """A scribble that leaves the picture, a click beside it that shows what is no object; none at all is none."""
    prompts = Prompts(((3.0, 4.0), (3.0, 99.0)), ((-5.0, 4.0),), Box((-2, 3), (5, 40)))
    assert prompts_in(prompts, (10, 20)) == Prompts(((3.0, 4.0),), (), Box((0, 3), (5, 20)))
    assert prompts_in(Prompts(), (10, 20)) == Prompts()


@pytest.mark.parametrize("prompts", [Prompts(((3.0, 99.0),)), Prompts(((-5.0, 4.0),), ((3.0, 4.0),))])
def test_clicks_that_are_all_outside_are_a_sentence(prompts):
    """Nothing shows an object of this picture then."""
    with pytest.raises(ImageError, match=r"outside of the picture, \(10, 20\). Click on an object in it"):
        prompts_in(prompts, (10, 20))
