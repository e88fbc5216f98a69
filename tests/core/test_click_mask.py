"""The mask of one object: where it lies, as a window shows it, and which of its parts were clicked on."""

import numpy as np
import pytest

from napari_unet.core.click_mask import ClickMask, clicked, mask_in, seen_mask, tight
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.prompt_maps import Window


@pytest.fixture
def whole():
    """A plane with two objects."""
    plane = np.zeros((20, 30), bool)
    plane[4:9, 10:12] = True
    plane[12:15, 20:29] = True
    return plane


def test_masks_know_their_place(whole):
    """A mask in its box is the same one in the whole plane; an empty one is none, and of another shape a sentence."""
    found = mask_in(whole, (20, 30))
    assert found.box == Box((4, 10), (15, 29))
    assert np.array_equal(found.over((20, 30)), whole)
    assert mask_in(np.zeros((20, 30)), (20, 30)) is None
    with pytest.raises(ImageError, match="must be alike"):
        mask_in(whole, (30, 20))


def test_room_around_a_mask_is_cut_off(whole):
    """What is left knows where it lies; nothing at all is one empty pixel."""
    box = Box((3, 5), (18, 30))
    assert tight(whole[box.slices], box).box == Box((4, 10), (15, 29))
    nothing = tight(np.zeros((5, 5), bool), box)
    assert (nothing.box, nothing.mask.any()) == (Box((3, 5), (4, 6)), False)


def test_a_window_shows_a_mask_where_it_lies(whole):
    """At half the size, beyond the edge of the picture, and where the mask ends."""
    shown = seen_mask(mask_in(whole, (20, 30)), Window((-4.0, 2.0), 0.5, 16))
    assert shown[(10 + 4) // 2 - 3, (10 - 2) // 2]
    assert np.array_equal(shown[2:12, :14], whole[1::2, 3::2])
    assert not shown[:2].any()
    assert not shown[12:].any()


def test_the_parts_that_were_clicked_on_are_taken(whole):
    """The part under a click, both under two; the larger one where no click is on any."""
    small, large = whole.copy(), whole.copy()
    small[10:], large[:10] = False, False
    assert np.array_equal(clicked(whole, np.array([[5.0, 11.0]])), small)
    assert np.array_equal(clicked(whole, np.array([[5.0, 11.0], [13.4, 25.0]])), whole)
    assert np.array_equal(clicked(whole, np.array([[0.0, 0.0], [99.0, 5.0]])), large)
    assert clicked(small, np.zeros((0, 2))) is small


def test_a_mask_of_one_pixel_covers_it():
    """The smallest object there is."""
    assert np.argwhere(ClickMask(Box((2, 3), (3, 4)), np.ones((1, 1), bool)).over((5, 5))).tolist() == [[2, 3]]
