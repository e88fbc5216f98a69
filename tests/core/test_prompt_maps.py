"""Prompts: where they lie in a window, what a network sees of them, and where the next click goes."""

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.core.prompt_maps import MAPS, RADIUS, SURE, Window, next_click, obeying, prompt_maps
from napari_unet.core.prompts import Prompts

WINDOW = Window((10.0, 20.0), 2.0, 40)


def test_a_window_shows_pixels_where_they_lie():
    """Corners lie on corners: at twice the size the first pixel has its middle half a pixel inside."""
    assert WINDOW.seen(np.array([[10.0, 20.0]])).tolist() == [[0.5, 0.5]]
    assert WINDOW.seen(np.array([[29.0, 39.0]])).tolist() == [[38.5, 38.5]]
    assert WINDOW.box((100, 100)) == Box((10, 20), (30, 40))
    assert WINDOW.box((25, 100)) == Box((10, 20), (25, 40))
    assert Window((-3.5, 0.2), 1.0, 4).box((9, 9)) == Box((0, 0), (1, 5))


def test_each_prompt_has_its_map():
    """Discs on the object and beside it, the box filled, and the mask as it is."""
    before = np.zeros((40, 40), bool)
    before[3:9] = True
    prompts = Prompts(((15.0, 25.0),), ((25.0, 35.0), (100.0, 0.0)), Box((12, 22), (14, 25)))
    positive, negative, box, mask = prompt_maps(prompts, WINDOW, before)
    assert positive[10, 10] == positive[11, 11] == negative[30, 30] == 1
    assert positive.sum() == pytest.approx(np.pi * RADIUS**2, rel=0.2)
    assert negative.sum() == positive.sum()
    assert np.array_equal(np.argwhere(box).min(0), [4, 4])
    assert box.sum() == 4 * 6
    assert np.array_equal(mask, before)
    assert not prompt_maps(Prompts(), WINDOW, None).any()
    assert len(prompt_maps(Prompts(), WINDOW, None)) == MAPS


def test_what_does_not_follow_a_click_is_mended_around_it():
    """At the click it is as sure as it must be, far away it stays; what followed already stays altogether."""
    said = np.full((40, 40), -2.0, np.float32)
    said[:, 20:] = 8.0
    prompts = Prompts(((15.0, 22.0),), ((25.0, 37.0), (100.0, 0.0)))  # at (10.5, 4.5) and (30.5, 34.5) of the window
    mended = obeying(said, prompts, WINDOW)
    assert mended[10, 4] > SURE - 1
    assert mended[30, 34] < 1 - SURE
    assert mended[10, 4 + 15] == pytest.approx(-2, abs=0.5)
    assert mended[30, 34 - 14] == pytest.approx(8, abs=1)
    assert said[10, 4] == -2
    followed = obeying(mended, prompts, WINDOW)
    assert np.allclose(followed, mended, atol=0.5)
    right = Prompts(((15.0, 35.0),))
    assert np.array_equal(obeying(said, right, WINDOW), said)


def test_clicks_hold_that_lie_next_to_each_other():
    """A click beside the object does not undo one on it a pixel away, whichever of them the network followed."""
    window = Window((0.0, 0.0), 1.0, 40)
    for said in (-6.0, 0.5, 6.0):
        prompts = Prompts(((20.0, 20.0), (20.0, 22.0), (30.0, 5.0)), ((20.0, 21.0), (21.0, 20.0), (30.0, 7.0)))
        mended = obeying(np.full((40, 40), said, np.float32), prompts, window)
        for points, sign in ((prompts.positive, 1), (prompts.negative, -1)):
            for y, x in points:
                assert sign * mended[int(y), int(x)] > 0
        assert np.sign(mended[2, 38]) == np.sign(said)


def test_what_followed_its_click_goes_on_doing_so():
    """A pixel that was right is held where a click next to it asks for the opposite, and is no surer than it was."""
    said = np.full((40, 40), 5.5, np.float32)
    mended = obeying(said, Prompts(((20.0, 20.0),), ((20.0, 21.0),)), Window((0.0, 0.0), 1.0, 40))
    assert mended[20, 20] == pytest.approx(5.5, abs=0.01)
    assert mended[20, 21] == pytest.approx(-SURE, abs=0.01)


def test_the_next_click_is_in_the_middle_of_the_largest_error():
    """What is missing asks for a click on the object, what is too much for one beside it."""
    truth = np.zeros((30, 30), bool)
    truth[5:16, 5:16] = True
    assert next_click(truth, truth) is None
    assert next_click(np.zeros_like(truth), truth) == ((10, 10), True)
    mask = truth.copy()
    mask[20:29, 2:11] = True
    mask[5:7, 5:7] = False
    assert next_click(mask, truth) == ((24, 6), False)
    known = np.zeros_like(truth)
    known[:18] = True
    point, on_object = next_click(mask, truth, known)
    assert on_object
    assert truth[point]
    assert not mask[point]
