"""Prompts add up, and move with the picture."""

from napari_unet.core.geometry import Box
from napari_unet.core.prompts import SCRIBBLE, Prompts, box_between, thinned


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
