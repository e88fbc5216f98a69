"""Picture: at which size it is read."""

import numpy as np
import pytest

from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.picture import DRAWN_ENOUGH, Picture, follow_sizes, usual_size

SHAPE = (200, 200)


@pytest.fixture
def picture():
    """A picture in which nothing was set yet."""
    source = ImageSource.of_array(np.zeros(SHAPE))
    return Picture("p", "p", source, np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.uint8))


def square(side):
    """An edit that sets one square object; the diameter of a disc of that area is 1.13 times its side."""
    labels = np.zeros((side + 2, side + 2), np.int32)
    labels[1:-1, 1:-1] = 1
    return Edit("p", Box((0, 0), labels.shape), labels, labels > 0)


def test_a_picture_is_read_as_it_is_until_something_is_known(picture):
    """Without a measure nothing is resized; the user's word goes before any measure."""
    assert not picture.rescale(None, 24.0)
    picture.measured = 48.0
    assert picture.rescale(None, 24.0)
    assert picture.scale == 0.5
    assert picture.rescale(12.0, 24.0)
    assert picture.scale == 2


def test_the_objects_that_the_user_draws_tell_their_size(picture):
    """From the third object on their median counts, whatever the model had measured."""
    picture.measured = 5.0
    for _ in range(DRAWN_ENOUGH - 1):
        picture.note_sizes(square(40))
    assert picture.measured == 5
    picture.note_sizes(square(40))
    assert picture.measured == pytest.approx(45, abs=1)


def test_a_small_difference_does_not_change_the_size(picture):
    """A picture is not read anew after each correction."""
    picture.measured = 40.0
    for side in (38, 40, 42, 36):
        picture.note_sizes(square(side))
    assert picture.measured == 40


def test_what_is_erased_has_no_size(picture):
    """Background that the user set is no object."""
    erased = Edit("p", Box((0, 0), (9, 9)), np.zeros((9, 9), np.int32), np.ones((9, 9), bool))
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(erased)
    assert picture.measured is None


def test_another_usual_size_has_untouched_pictures_measured_anew(picture):
    """Three objects in one picture tell the size in the project; a little more of the same changes nothing."""
    source = ImageSource.of_array(np.ones(SHAPE))
    other = Picture("q", "q", source, np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.uint8), measured=5.0)
    assert follow_sizes([picture, other], None) is None
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(square(40))
    usual = follow_sizes([picture, other], None)
    assert usual == usual_size([picture, other]) == pytest.approx(45, abs=1)
    assert (picture.measured, other.measured) == (usual, None)
    other.measured = 44.0
    picture.note_sizes(square(42))
    assert follow_sizes([picture, other], usual) == usual
    assert other.measured == 44
