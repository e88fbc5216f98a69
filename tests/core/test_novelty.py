"""Novelty: pictures of a kind that is known are told from pictures of another kind, by brightness and contrast."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.novelty import KNOWN_ENOUGH, NEW, SCALES, Familiar, look_of


def picture(seed, *, bright_ground=False, grain=1.0, shape=(96, 96), channels=3):
    """Blobs in noise, on a dark ground or on a bright one."""
    random = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter((random.random(shape) < 0.004).astype(float), 5)
    grey = 0.05 + 0.9 * blobs / max(blobs.max(), 1e-9) + random.normal(0, 0.02 * grain, shape)
    grey = 1 - grey if bright_ground else grey
    return np.repeat(grey[None].astype(np.float32), channels, 0)


@pytest.fixture(scope="module")
def familiar():
    """What has seen twenty pictures on dark ground."""
    return Familiar([picture(seed) for seed in range(20)])


def test_more_of_the_same_kind_is_not_new(familiar):
    """Pictures that were not learnt from, but are like those, lie as near as those lie to each other."""
    assert np.median([familiar.novelty(picture(seed)) for seed in range(100, 110)]) < NEW / 1.5


@pytest.mark.parametrize("changed", [{"bright_ground": True}, {"grain": 10}], ids=["bright ground", "grain"])
def test_another_kind_is_new(familiar, changed):
    """Other grounds and other grains are seen, in every single picture."""
    assert all(familiar.novelty(picture(seed, **changed)) > NEW for seed in range(100, 110))


def test_a_kind_that_was_seen_among_others_is_not_new():
    """It is near the few pictures of its own kind, however many there are of another one."""
    mixed = Familiar([*(picture(seed) for seed in range(20)), *(picture(s, bright_ground=True) for s in range(4))])
    assert np.median([mixed.novelty(picture(seed, bright_ground=True)) for seed in range(100, 110)]) < NEW


def test_what_was_learnt_from_is_as_familiar_as_can_be(familiar):
    """A picture itself is no way from what is known."""
    assert familiar.novelty(picture(3)) == pytest.approx(0, abs=1e-5)


def test_few_pictures_say_nothing():
    """Of fewer than eight nobody knows what is usual: nothing is called new."""
    few = Familiar([picture(seed) for seed in range(KNOWN_ENOUGH - 1)])
    assert few.novelty(picture(0, bright_ground=True)) == 0
    assert Familiar([picture(seed) for seed in range(KNOWN_ENOUGH)]).novelty(picture(0, bright_ground=True)) > NEW


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (33, 64)])
def test_any_size_has_a_look(familiar, shape):
    """Down to a single pixel; brightness comes first, then contrast from fine to coarse, and no value is none."""
    look = look_of(picture(0, shape=shape))
    assert look.shape == (3 * (SCALES + 2),)
    assert np.isfinite(look).all()
    assert np.isfinite(familiar.novelty(picture(0, shape=shape)))


def test_contrast_is_told_by_its_scale():
    """Stripes one pixel wide are lost at the first halving, those four pixels wide at the third, others nowhere."""
    for width, scale in ((1, 0), (4, 2)):
        stripes = (np.arange(64) // width % 2).astype(np.float32)
        look = look_of(np.tile(stripes, (64, 1))[None])
        contrast = np.exp(look[1:]) - 0.005
        assert contrast[scale] == pytest.approx(0.5, abs=1e-4)
        assert np.delete(contrast, scale) == pytest.approx(0, abs=1e-4)


def test_pictures_that_are_all_alike_do_not_divide_by_zero():
    """Where no picture differs from another, everything else is new."""
    same = Familiar([picture(0)] * KNOWN_ENOUGH)
    assert same.novelty(picture(0)) == pytest.approx(0, abs=1e-3)
    assert same.novelty(picture(1)) > NEW
