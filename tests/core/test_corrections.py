"""Edit: what one confirmed change does to a picture's labels."""

import numpy as np
import pytest

from napari_unet.core.corrections import HELD_OUT, NOT_TAUGHT, TAUGHT, Correction, Edit
from napari_unet.core.errors import ImageError, LabelsError
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits
from napari_unet.core.prompts import Prompts


@pytest.fixture
def state():
    """A picture of 4 x 5 pixels with nothing taught, all of object 9."""
    return np.full((4, 5), 9, np.int32), np.zeros((4, 5), np.uint8)


def edit(box, **kwargs):
    """An edit that sets a box to object 3, all of it trusted."""
    values = {"labels": np.full(box.shape, 3, np.int32), "trusted": np.ones(box.shape, bool)}
    return Edit("p", box, **{**values, **kwargs})


def test_an_edit_writes_where_it_is_trusted_and_nowhere_else(state):
    """Labels change, and are taught, at trusted voxels only."""
    labels, taught = state
    trusted = np.array([[True, False], [False, True]])
    edit(Box((1, 1), (3, 3)), trusted=trusted).apply(labels, taught)
    assert labels[1:3, 1:3].tolist() == [[3, 9], [9, 3]]
    assert taught[1:3, 1:3].tolist() == [[TAUGHT, NOT_TAUGHT], [NOT_TAUGHT, TAUGHT]]
    assert (labels == 3).sum() == (taught != 0).sum() == 2


def test_a_held_out_edit_is_marked_as_such(state):
    """What scores the model is told from what teaches it."""
    labels, taught = state
    edit(Box((0, 0), (1, 2)), held_out=True).apply(labels, taught)
    assert taught[0].tolist() == [HELD_OUT, HELD_OUT, 0, 0, 0]


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [
        ((-2, -2), (2, 2), 4),
        ((3, 3), (9, 9), 2),
        ((9, 9), (12, 12), 0),
        ((-9, -9), (-5, -5), 0),
        ((-1, -1), (9, 9), 20),
    ],
)
def test_what_lies_outside_the_picture_is_left_out(state, start, stop, inside):
    """A box that reaches over the rim, or lies wholly outside, writes what is inside."""
    labels, taught = state
    edit(Box(start, stop)).apply(labels, taught)
    assert (labels == 3).sum() == (taught == TAUGHT).sum() == inside


def test_the_right_part_of_a_box_over_the_rim_is_written(state):
    """Clipping a box clips its arrays at the same side."""
    labels, taught = state
    edit(Box((-1, -1), (1, 2)), labels=np.arange(6, dtype=np.int32).reshape(2, 3)).apply(labels, taught)
    assert labels[0].tolist() == [4, 5, 9, 9, 9]


@pytest.mark.parametrize("held_out", [False, True])
def test_an_undo_puts_back_what_was_taught(state, held_out):
    """An edit with its own `taught` writes it as it is, whatever `held_out` says, and again only where trusted."""
    labels, taught = state
    box = Box((0, 0), (1, 3))
    edit(box).apply(labels, taught)
    before = {
        "labels": np.array([[9, 9, 9]], np.int32),
        "taught": np.array([[NOT_TAUGHT, HELD_OUT, NOT_TAUGHT]], np.uint8),
    }
    trusted = np.array([[True, True, False]])
    edit(box, tool="undo", trusted=trusted, held_out=held_out, **before).apply(labels, taught)
    assert labels[0].tolist() == [9, 9, 3, 9, 9]
    assert taught[0].tolist() == [NOT_TAUGHT, HELD_OUT, TAUGHT, 0, 0]


def test_an_undo_over_the_rim_puts_back_the_part_inside(state):
    """`taught` of an undo is clipped like its labels."""
    labels, taught = state
    values = np.array([[1, 2, 1, 2]], np.uint8)
    edit(Box((0, -2), (1, 2)), tool="undo", taught=values).apply(labels, taught)
    assert taught[0].tolist() == [1, 2, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.uint16])
def test_labels_of_any_integer_type_take_an_edit(dtype):
    """The label layer's own type is kept."""
    labels, taught = np.zeros((4, 5), dtype), np.zeros((4, 5), np.uint8)
    edit(Box((0, 0), (4, 5))).apply(labels, taught)
    assert labels.dtype == dtype
    assert (labels == 3).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_one_or_two_channels_may_come_last(channels):
    """They are put first; colours stay as they are, and more channels are refused."""
    image, labels = np.arange(20.0 * channels).reshape(4, 5, channels), np.zeros((4, 5), int)
    given = Correction(image, labels, labels == 0)
    assert np.array_equal(given.image, np.moveaxis(image, -1, 0))
    assert Correction(np.zeros((4, 5, 3)), labels, labels == 0).image.shape == (4, 5, 3)
    with pytest.raises(ImageError, match=r"\(4, 5, 7\)"):
        Correction(np.zeros((4, 5, 7)), labels, labels == 0)
    with pytest.raises(LabelsError, match="same pixels"):
        Correction(np.zeros((4, 5, 3, 2)), labels, labels == 0)


def test_what_is_no_correction_is_a_sentence():
    """Negative labels that are trusted, text; lists are taken, and negative labels of which nothing is known."""
    image, labels, trusted = np.zeros((4, 5)), np.full((4, 5), -1), np.ones((4, 5), bool)
    with pytest.raises(LabelsError, match="negative"):
        Correction(image, labels, trusted)
    with pytest.raises(ImageError, match="give numbers"):
        Correction(image.astype(str), -labels, trusted)
    for scale in (0, -1.0, np.nan, np.inf, 1000):
        with pytest.raises(ImageError, match=r"scale above 0, and of 100 at most\.$"):
            Correction(image, -labels, trusted, scale=scale)
    assert Correction(image, labels, ~trusted).labels.shape == (4, 5)
    assert isinstance(Correction(image.tolist(), (-labels).tolist(), trusted.tolist()).labels, np.ndarray)


@pytest.mark.parametrize(
    ("image", "limits", "expected"),
    [
        (np.zeros((4, 5)), (0, 255), Limits((0.0,), (255.0,))),
        (np.zeros((4, 5)), [np.uint8(3), np.float32(4)], Limits((3.0,), (4.0,))),
        (np.zeros((4, 5)), np.array([0, 1]), Limits((0.0,), (1.0,))),
        (np.zeros((4, 5, 4), np.uint8), (0, 255), Limits((0.0,) * 3, (255.0,) * 3)),
        (np.zeros((4, 5, 2)), ((0, 10), (5, 20)), Limits((0.0, 10.0), (5.0, 20.0))),
        (np.zeros((2, 4, 5)), (0, (5, 20)), Limits((0.0, 0.0), (5.0, 20.0))),
        (np.zeros((2, 4, 5)), Limits((0.0, 1.0), (2.0, 3.0)), Limits((0.0, 1.0), (2.0, 3.0))),
        (np.zeros((4, 5)), None, None),
    ],
)
def test_limits_may_be_a_pair_of_numbers(image, limits, expected):
    """Users have no name for our own record: (0, 255) counts for every channel, or there is one number of each."""
    labels = np.zeros((4, 5), int)
    assert Correction(image, labels, labels == 0, limits).limits == expected


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (255, "no pair"),
        ("light", "no pair"),
        ((0, 1, 2), "no pair"),
        ((0, None), "no span"),
        ((5, 5), "no span"),
        ((255, 0), "no span"),
        ((0, np.nan), "no span"),
        ((0, np.inf), "no span"),
        (((0, 0), (1, 1)), "2 channels"),
        (Limits((0.0,) * 3, (1.0,) * 3), "3 channels"),
        ((0, []), "channels"),
    ],
)
def test_limits_that_are_none_are_a_sentence(limits, words):
    """They are refused where they are given, not far inside the training."""
    labels = np.zeros((4, 5), int)
    with pytest.raises(ImageError, match=words):
        Correction(np.zeros((4, 5)), labels, labels == 0, limits)


@pytest.mark.parametrize(
    ("option", "kind", "words"),
    [
        ({"scale": "x"}, TypeError, "Give the scale as one number"),
        ({"scale": None}, TypeError, "Give the scale as one number"),
        ({"scale": np.ones(2)}, TypeError, "Give the scale as one number"),
        ({"own": 3}, TypeError, "Give the own part as a Box"),
        ({"own": (0, 0, 2, 2)}, TypeError, "Give the own part as a Box"),
        ({"own": Box((0,), (3,))}, ImageError, "Give a Box of their pixels"),
        ({"own": Box((1, 1), (1, 3))}, ImageError, "Give a Box of their pixels"),
        ({"own": Box((-1, 0), (2, 2))}, ImageError, "Give a Box of their pixels"),
        ({"prompts": Prompts(((1.0, 1.0),))}, TypeError, "Give prompts as a tuple"),
        ({"prompts": [(1, 1)]}, TypeError, "Give prompts as a tuple"),
        ({"held_out": "yes"}, TypeError, "Give held_out as True or False"),
    ],
)
def test_an_option_that_is_none_is_a_sentence(option, kind, words):
    """It is refused where it is given, not far inside the training."""
    labels = np.zeros((4, 5), int)
    with pytest.raises(kind, match=words):
        Correction(np.zeros((4, 5)), labels, labels == 0, **option)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 2), (4, 5, 3), (2, 4, 5)])
def test_nothing_is_learnt_from_what_is_masked(shape):
    """A masked pixel of the image, the labels or the trusted mask is not trusted, and no array stays masked."""
    labels, trusted = np.ones((4, 5), int), np.ones((4, 5), bool)
    image = np.ma.masked_array(np.full(shape, 7.0), np.zeros(shape, bool))
    image[(..., 0, 1) if shape == (2, 4, 5) else (0, 1)] = np.ma.masked
    labels, trusted = np.ma.masked_array(labels), np.ma.masked_array(trusted)
    labels[1, 2], trusted[2, 3] = np.ma.masked, np.ma.masked
    given = Correction(image, labels, trusted)
    assert np.argwhere(~given.trusted).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert np.isnan(given.image).any()
    assert not any(isinstance(array, np.ma.MaskedArray) for array in (given.image, given.labels, given.trusted))
