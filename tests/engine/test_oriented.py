"""Corrections are learnt as the model sees their pictures best."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.corrections import Correction
from napari_unet.core.events import WeightsChanged
from napari_unet.core.image import ImageSource
from napari_unet.core.sizes import median_diameter
from napari_unet.engine.measure import as_seen_by
from napari_unet.engine.oriented import Oriented
from napari_unet.engine.sampling import network_input
from napari_unet.engine.train import fine_tune


def corrections_of(draw, model, dark, count=3, **how):
    """Whole pictures of discs without limits, as their own model sees their size."""
    pictures = [draw(seed, shape=(240, 240), count=40) for seed in range(count)]
    return [
        Correction(1000 - image if dark else image, labels, np.ones(labels.shape, bool), scale=scale, **how)
        for image, labels in pictures
        for scale in [model.card.diameter / median_diameter(labels)]
    ]


def looked(model, corrections):
    """The corrections after all looks."""
    seen = Oriented(model, corrections)
    assert sum(1 for _ in seen.look()) > 0
    return seen


@pytest.mark.parametrize("dark", [False, True])
def test_they_are_seen_as_segment_sees_their_pictures(disc_model, draw, dark):
    """Dark discs are learnt as bright ones, which the model knows; bright ones as they are."""
    given = corrections_of(draw, disc_model, dark)
    seen = looked(disc_model, given)
    assert len(seen) == 3
    assert as_seen_by(disc_model, ImageSource.of_array(given[0].image))[0].is_inverted == dark
    for one, other in zip(given, seen, strict=True):
        plain = network_input(one, 1)
        assert np.array_equal(network_input(other, 1), 1 - plain if dark else plain)
    assert seen[1] is seen[1]
    assert [*seen] == seen[:]
    assert (seen[0] is given[0]) == (not dark)


def test_what_has_limits_stays_as_it_is_and_new_ones_join(disc_model, draw):
    """Who gives limits has said how the picture is read; most of the others decide for all of them."""
    given = corrections_of(draw, disc_model, dark=True)
    told = replace(given[0], limits=(0, 1000))
    given[0] = told
    seen = looked(disc_model, given)
    assert seen[0] is told
    given.append(corrections_of(draw, disc_model, dark=False, count=1)[0])
    assert seen[3].limits == ImageSource.of_array(given[3].image).limits().inverted()


def test_without_time_to_look_nothing_is_inverted(disc_model, draw):
    """Whoever stops amid the looks learns the pictures as they are."""
    given = corrections_of(draw, disc_model, dark=True)
    seen = Oriented(disc_model, given)
    next(seen.look())
    assert seen[0] is given[0]


def test_fine_tune_begins_with_what_the_model_knows(disc_model, draw, quick):
    """Dark discs are right from the beginning for a model of bright ones."""
    given = corrections_of(draw, disc_model, dark=True)
    events = list(fine_tune(disc_model, given, steps=quick.round_steps, recipe=quick))
    assert next(e.score for e in reversed(events) if getattr(e, "score", None) is not None) > 0.8
    assert disc_model.card.is_inverted == any(isinstance(e, WeightsChanged) for e in events)
