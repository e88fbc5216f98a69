"""Where to look next."""

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.core.suggest import LARGEST, SMALLEST, side_of_place, suggest


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
