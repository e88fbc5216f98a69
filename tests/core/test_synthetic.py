"""Made pictures: right labels, wide variety, the same for the same seed."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.synthetic import LOOKS, SIDE, SPECK, synthetic_pictures

MADE = list(synthetic_pictures(40, seed=5))


def test_a_seed_makes_the_same_pictures_again():
    """The seed alone decides, and each picture is another one."""
    again = list(synthetic_pictures(3, seed=5))
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels)
        for a, b in zip(MADE[:3], again, strict=True)
    )
    other = next(iter(synthetic_pictures(1, seed=6)))
    assert not np.array_equal(other.labels, MADE[0].labels)
    assert not np.array_equal(MADE[0].labels, MADE[1].labels)


@pytest.mark.parametrize("made", MADE, ids=range(len(MADE)))
def test_pictures_can_be_learnt_from(made):
    """Finite grey values that vary; objects in one piece each, none of them a speck."""
    assert made.image.shape in {(1, SIDE, SIDE), (3, SIDE, SIDE)}
    assert made.image.dtype == np.float32
    assert np.isfinite(made.image).all()
    assert made.image.std() > 0.01
    assert made.labels.dtype == np.int32
    for number in np.unique(made.labels[made.labels > 0]):
        one = made.labels == number
        assert ndimage.label(one, np.ones((3, 3)))[1] == 1
        assert one.sum() >= SPECK


def test_they_are_of_many_kinds():
    """Grey and coloured, bright on dark and dark on bright, sparse and packed, small and large objects."""
    assert {len(made.image) for made in MADE} == {1, 3}
    assert {made.look for made in MADE} == set(LOOKS)
    share = [(made.labels > 0).mean() for made in MADE]
    assert min(share) < 0.2
    assert max(share) > 0.7
    grey = [made for made in MADE if len(made.image) == 1 and 0.02 < (made.labels > 0).mean() < 0.98]
    brighter = [made.image[0][made.labels > 0].mean() > made.image[0][made.labels == 0].mean() for made in grey]
    assert 0 < sum(brighter) < len(brighter)
    sizes = [np.median(np.unique(m.labels[m.labels > 0], return_counts=True)[1]) for m in MADE if m.labels.any()]
    assert max(sizes) > 5 * min(sizes)


def test_objects_show_in_the_picture():
    """Something marks nearly every picture's objects: grey values differ inside, outside or at their outlines."""
    told = 0
    for made in MADE:
        image = made.image.mean(0)
        inside = made.labels > 0
        rim = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
        parts = [image[part] for part in (inside & ~rim, ~inside & ~rim, rim) if part.sum() > 50]
        means = [float(part.mean()) for part in parts]
        spread = [float(part.std()) for part in parts]
        told += max(means) - min(means) > 0.02 or max(spread) > 1.3 * min(spread)
    assert told >= 0.9 * len(MADE)
