"""Where to look next."""

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.picture import Picture
from napari_unet.core.suggest import LARGEST, SMALLEST, Doubtful, next_place, side_of_place, suggest


def doubtful(shape=(300, 400), at=(200, 300), radius=12, dtype=np.float16):
    """No doubt but in one disc."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    disc = (y - at[0]) ** 2 + (x - at[1]) ** 2 < radius**2
    doubt = np.zeros(shape, dtype)
    doubt[..., disc] = 255 if dtype == np.uint8 else 1
    return doubt


NOTHING = np.zeros((300, 400), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_the_place_in_doubt_is_found(dtype):
    """The box holds the doubtful disc, has the side asked for, and lies in the picture."""
    found = suggest(doubtful(dtype=dtype), NOTHING, 80)
    assert found.box.shape == (80, 80)
    assert not found.box.intersect(Box((190, 290), (210, 310))).is_empty
    assert 0 < found.gain <= 1


def test_a_doubtful_outline_is_no_reason_to_look():
    """A thin ring of doubt is the outline of an object; a wide spot is more, even if smaller in all."""
    ring = doubtful(at=(80, 80), radius=40) - doubtful(at=(80, 80), radius=38)
    assert suggest(ring, NOTHING, 80) is None
    spot = suggest(ring + doubtful(radius=6), NOTHING, 80)
    assert not spot.box.intersect(Box((195, 295), (205, 305))).is_empty


def test_what_was_seen_or_taught_is_left_out():
    """Without the disc there is no place at all."""
    doubt = doubtful()
    assert suggest(doubt, NOTHING, 80, seen=[Box((150, 250), (250, 350))]) is None
    assert suggest(doubt, (doubt > 0).astype(np.uint8), 80) is None


def test_places_at_the_edge_lie_inside():
    """A place near the corner is moved inwards; a picture smaller than a place is one place."""
    corner = suggest(doubtful(at=(298, 2)), NOTHING, 80)
    assert corner.box == Box((220, 0), (300, 80))
    small = suggest(np.ones((30, 40), np.float16), np.zeros((30, 40)), 80)
    assert small.box == Box((0, 0), (30, 40))


def test_a_plane_of_a_stack_is_named():
    """In a stack the box is one plane thick."""
    stack = np.zeros((5, 300, 400), np.float16)
    stack[3] = doubtful()
    found = suggest(stack, np.zeros(stack.shape, np.uint8), 80)
    assert (found.box.start[0], found.box.stop[0]) == (3, 4)
    assert found.box.shape[1:] == (80, 80)
    seen = [Box((3, 150, 250), (4, 250, 350))]
    assert suggest(stack, np.zeros(stack.shape, np.uint8), 80, seen=seen) is None


def test_large_pictures_are_looked_at_in_steps():
    """A picture of more pixels than are compared gives about the same place."""
    found = suggest(doubtful((3000, 3000), (2000, 1200), 60), np.zeros((3000, 3000), np.uint8), 200)
    assert not found.box.intersect(Box((1990, 1190), (2010, 1210))).is_empty


def test_the_side_follows_the_objects():
    """Some objects across, within limits."""
    assert side_of_place(30) == 150
    assert side_of_place(1) == SMALLEST
    assert side_of_place(1000) == LARGEST


def known(doubt, masks=None, drawn=()):
    """A picture with this doubt, masks and sizes of objects that were drawn in it; its objects are 16 pixels wide."""
    shape = doubt.shape
    source = ImageSource.of_array(np.zeros(shape, np.uint8))
    picture = Picture("k", "n", source, np.zeros(shape, np.int32), np.zeros(shape, np.uint8), drawn=list(drawn))
    return Doubtful(picture, doubt, masks, 16.0)


def within(box, at):
    """Whether a point lies in a box."""
    return all(a <= c < b for a, c, b in zip(box.start, at, box.stop, strict=True))


def test_of_several_pictures_the_most_doubtful_place_counts():
    """Wherever it is; what was seen of each is left out, and there may be none."""
    small, large = known(doubtful(radius=6)), known(doubtful(radius=12))
    key, box = next_place({"small": small, "large": large}, {})
    assert key == "large"
    assert within(box, (200, 300))
    assert next_place({"small": small, "large": large}, {"large": [box]})[0] == "small"
    assert next_place({"small": small}, {"small": [box]}) is None


def test_where_places_gave_no_objects_the_next_one_holds_some():
    """Debris is most doubtful; who only erased is led to objects, as many as places, where there are any."""
    debris, beside = doubtful(radius=14), doubtful(at=(60, 80), radius=6)
    masks = np.zeros(debris.shape, np.int32)
    masks[195:205, 295:305], masks[70:100, 60:100] = 1, 2
    first = Box((0, 320), (80, 400))
    open_at_first, after_one = {}, {"a": [first]}
    assert within(next_place({"a": known(debris + beside, masks)}, open_at_first)[1], (200, 300))
    assert within(next_place({"a": known(debris + beside, masks)}, after_one)[1], (60, 80))
    assert within(next_place({"a": known(debris + beside, masks, drawn=[16.0])}, after_one)[1], (200, 300))
    assert within(next_place({"a": known(debris + beside)}, after_one)[1], (200, 300))  # classes
    assert within(next_place({"a": known(debris, np.zeros_like(masks))}, after_one)[1], (200, 300))  # there are none


def test_a_place_with_objects_holds_some_that_are_sure_and_new():
    """What is in doubt itself, or was taught already, is no such object."""
    doubt = doubtful(radius=14)
    masks = np.zeros(doubt.shape, np.int32)
    masks[215:240, 270:330] = 1
    assert suggest(doubt, NOTHING, 80, masks=masks) is not None
    assert suggest(doubt, (masks > 0).astype(np.uint8), 80, masks=masks) is None
    assert suggest(np.maximum(doubt, masks.astype(np.float16) / 2), NOTHING, 80, masks=masks) is None
