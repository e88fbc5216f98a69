"""Picture: at which size it is read, and how what a project knows is laid over its masks."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ImageError
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
    """From the third object on their median counts, the more the more there are; alone where nothing was measured."""
    picture.measured = 5.0
    for _ in range(DRAWN_ENOUGH - 1):
        picture.note_sizes(square(40))
    assert picture.measured == 5
    found = []
    for _ in range(60):
        picture.note_sizes(square(40))
        found.append(picture.measured)
    assert 5 * 1.25 < found[0] < 10
    assert found[7] == pytest.approx(15, rel=0.25)  # ten of them count as much as what the model saw
    assert found[-1] == pytest.approx(45, rel=0.4)
    assert sorted(found) == found
    assert len(set(found)) < 10  # the picture is not read anew after each correction
    assert picture.seen == 5


def test_without_a_measure_what_was_drawn_counts_alone(picture):
    """A picture that was corrected before it was ever predicted."""
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(square(40))
    assert picture.measured == pytest.approx(45, abs=1)


def test_objects_of_the_size_that_was_seen_bring_it_back(picture):
    """The largest were drawn first; once the usual ones are, the picture is read at its own size again."""
    picture.measured = 20.0
    for _ in range(4):
        picture.note_sizes(square(80))
    assert picture.measured > 25
    for _ in range(5):
        picture.note_sizes(square(20))
    assert picture.measured == pytest.approx(20)


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


def test_what_was_drawn_can_be_forgotten(picture):
    """Another project is opened, which knows nothing of it: the model's own size holds again."""
    picture.measured = 10.0
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(square(80))
    assert picture.measured != 10
    picture.forget_sizes()
    assert (picture.measured, picture.seen, picture.drawn) == (10, None, [])
    picture.forget_sizes()
    assert picture.measured == 10


def test_strokes_over_classes_have_no_size(picture):
    """How much of the ground somebody painted says nothing of objects."""
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(replace(square(60), kind="classes"))
    assert (picture.measured, picture.drawn) == (None, [])


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


def test_a_few_large_objects_are_not_expected_everywhere(picture):
    """They count in other pictures as much as in their own; where there are too few to tell one, as they are."""
    picture.measured = 10.0
    for _ in range(DRAWN_ENOUGH):
        picture.note_sizes(square(80))
    assert usual_size([picture]) == picture.measured < 20
    source = ImageSource.of_array(np.ones(SHAPE))
    other = Picture("q", "q", source, np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.uint8), drawn=[30.0, 31.0, 32.0])
    assert usual_size([other]) == 31
    assert usual_size([replace(other, drawn=[30.0]), replace(other, drawn=[31.0]), replace(other, drawn=[50.0])]) == 31


def squares(**places):
    """Labels with a square of 10 pixels for each number, `_3=(y, x)`."""
    labels = np.zeros(SHAPE, np.int32)
    for number, (y, x) in places.items():
        labels[y : y + 10, x : x + 10] = int(number[1:])
    return labels


def test_masks_that_a_project_knows_nothing_of_stay(picture):
    """An object that is seen stays, with a number of its own; the one that the project knows takes its own place."""
    picture.truth, picture.taught = squares(_1=(50, 50)), np.uint8(squares(_1=(50, 50)) > 0)
    picture.masks = squares(_1=(100, 100), _2=(52, 52), _3=(150, 150))
    picture.lay_known(squares(_2=(148, 148)), "objects")
    assert picture.masks[55, 55] == 1
    assert picture.masks[150, 150] == 2
    assert picture.masks[105, 105] not in (0, 1, 2)
    assert np.unique(picture.masks[picture.masks > 0]).size == 3
    assert np.count_nonzero(picture.masks) == 300


def test_classes_that_a_project_knows_nothing_of_stay_what_they_are(picture):
    """Their numbers mean something."""
    picture.taught[:20] = 1
    picture.masks = squares(_1=(15, 100), _2=(100, 100))
    picture.lay_known(squares(_2=(95, 100)), "classes")
    assert not picture.masks[:20].any()
    assert (picture.masks[20:25, 100:110] == 1).all()
    assert (picture.masks[95:110, 100:110] == 2).all()


def test_how_the_model_sees_a_picture_is_taken_over(picture):
    """Its size each time, inverted or not once; other channels are to be looked at anew."""
    limits = picture.source.limits()
    assert picture.note_sight(20.0, None) is False
    assert (picture.measured, picture.is_inverted, picture.reading) == (20, None, picture.source)
    assert picture.note_sight(21.0, is_inverted=True) is True
    assert picture.reading.limits() == limits.inverted()
    assert picture.reading is picture.reading
    assert picture.note_sight(22.0, is_inverted=False) is False
    assert (picture.measured, picture.is_inverted) == (22, True)
    picture.use_channels((0,))
    assert picture.is_inverted is None
    assert picture.reading.limits() == limits


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (Box((0, 0), (9, 9)), r"2 axes, and the picture 3. Give a Box of all: \(Z, Y, X\)"),
        (Box((0,) * 4, (9,) * 4), "4 axes, and the picture 3"),
        (Box((0,), (9,)), "1 axis, and the picture 3"),
        (Box((2, 0, 0), (3, 9, 9)), r"no plane \(2,\) in the picture, which is \(2, 200, 200\), \(Z, Y, X\)"),
        (Box((-1, 0, 0), (0, 9, 9)), r"no plane \(-1,\)"),
    ],
)
def test_a_view_that_is_none_is_a_sentence(view, words):
    """It has the axes of the picture, and a plane of it; where it lies in the plane is all one."""
    stack = np.zeros((2, *SHAPE))
    picture = Picture("p", "p", ImageSource.of_array(stack, rgb=False), stack.astype(int), stack.astype(np.uint8))
    picture.check_view(Box((1, -50, 500), (2, -9, 600)))
    with pytest.raises(ImageError, match=words):
        picture.check_view(view)
    with pytest.raises(TypeError, match="Give the view as a Box"):
        picture.check_view("all of it")
