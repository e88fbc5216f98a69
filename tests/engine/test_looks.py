"""Looks at a part of a picture: what shows there, and how sure of it a network is."""

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.targets import rim_distance
from napari_unet.engine import looks as seen
from tests.engine.conftest import part


def test_specks_and_fragments_do_not_count():
    """What is far smaller than most of the foreground is debris."""
    assert seen._usual([1.0, 2.0, 20.0, 21.0, 22.0]) == 21


def test_outputs_that_fit_each_other_are_at_peace(disc_model, draw, monkeypatch):
    """Distances that are those in the objects give no strife; distances that deny the middles give much."""
    image, labels = draw(1, shape=(160, 160), count=14)
    source, view = ImageSource.of_array(image), Box((0, 0), (160, 160))

    def strife(distance):
        monkeypatch.setattr(seen, "_outputs_in", lambda *_: (labels, distance, image))
        return ended(seen._look(disc_model, source, view, 1.0)).strife

    assert strife(rim_distance(labels)) == 0
    assert strife(np.zeros(labels.shape, np.float32)) > 0.3


def test_steadiness_is_how_far_a_mirror_image_shows_the_same(disc_model, draw, monkeypatch):
    """1 where the masks are the same, less where the network finds other things in the mirror image."""
    image, labels = draw(1, shape=(160, 160), count=14)
    looks = seen.Looks(disc_model, ImageSource.of_array(image), Box((0, 0), (160, 160)))
    look = seen.Look(disc_model.card.diameter, 0.1, 1.0, part(labels, image))

    def found_in(*_, mirrors=((),)):
        return labels if mirrors == ((),) else np.where(labels % 2, labels, 0), rim_distance(labels), image

    monkeypatch.setattr(seen, "_outputs_in", found_in)
    share = np.mean(np.unique(labels[labels > 0]) % 2)
    assert ended(looks.steadiness(look, labels.max())) == pytest.approx(share)
    assert ended(looks.steadiness(look, labels.max() + 1)) is None  # they would agree by chance


def test_labels_of_one_look_are_found_at_the_pixels_of_another():
    """Whatever part of the picture each saw, and at which size; outside there is nothing."""
    labels = np.arange(1, 17).reshape(4, 4).astype(np.int32)
    far = part(labels, None, Box((0, 0), (8, 8)))
    near = part(np.zeros((4, 4), np.int32), None, Box((2, 2), (6, 6)))
    assert far.labels_at(near).tolist() == np.kron(labels, np.ones((2, 2), int))[2:6, 2:6].tolist()
    aside = part(np.zeros((2, 4), np.int32), None, Box((6, -2), (10, 2)))
    assert far.labels_at(aside).tolist() == [[0, 0, 13, 13], [0, 0, 0, 0]]


def ended(looking):
    """What a look gives in the end."""
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return end.value
