"""The other ways to find an object from clicks: on a picture on which each of them must succeed, and be mended."""

import numpy as np
import pytest

from napari_unet.core.metrics import overlap
from napari_unet.core.prompts import Prompts
from napari_unet.engine.click_peers import Scene, ways


@pytest.fixture
def scene():
    """Two bright discs on a dark ground, a little noise; the dense masks have both in one."""
    y, x = np.ogrid[:80, :100]
    one, two = (y - 40) ** 2 + (x - 35) ** 2 < 150, (y - 40) ** 2 + (x - 62) ** 2 < 150
    grey = np.where(one | two, 0.8, 0.2) + np.random.default_rng(0).normal(0, 0.02, one.shape)
    dense = (one | two).astype(np.int32)
    return Scene(grey.clip(0, 1), dense, 26.0), one, two


@pytest.mark.parametrize("name", ["Otsu", "random walker", "GrabCut"])
def test_a_clear_object_is_found_by_one_click(scene, name):
    """One click in the middle of a disc gives that disc, and not its neighbour."""
    if name not in ways():
        pytest.skip("OpenCV is not installed")
    seen, one, two = scene
    mask = ways()[name](seen, Prompts(((40.0, 35.0),)))
    assert mask.shape == one.shape
    assert overlap(mask, one) > 0.85
    assert not (mask & two).any()


def test_dense_masks_are_taken_as_they_are(scene):
    """The watershed's region is the predicted object, right or wrong; a click beside the object takes it away."""
    seen, one, two = scene
    assert np.array_equal(ways()["watershed"](seen, Prompts(((40.0, 35.0),))), one | two)
    assert not ways()["watershed"](seen, Prompts(((40.0, 35.0),), ((40.0, 62.0),))).any()


def test_more_clicks_mend_the_random_walker(scene):
    """Seeds beside the object keep the mask out."""
    seen, _one, _ = scene
    before = ways()["random walker"](seen, Prompts(((40.0, 35.0),)))
    after = ways()["random walker"](seen, Prompts(((40.0, 35.0),), ((40.0, 25.0),)))
    assert after.sum() < before.sum()
    assert not after[40, 25]


def test_clicks_at_the_edge_are_clicks(scene):
    """The part that is looked at is cut at the picture's edge."""
    seen, *_ = scene
    for way in ways().values():
        assert way(seen, Prompts(((0.0, 0.0),))).shape == seen.grey.shape
