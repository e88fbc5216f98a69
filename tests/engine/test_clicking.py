"""The simulated clicks: their figures on answers that are known, and that kept objects teach."""

import numpy as np
import pytest

from napari_unet.core.image import ImageSource
from napari_unet.engine import clicking, simulate
from napari_unet.engine.clicking import OURS, Clicked, click_until, clicked, objects_of, simulate_clicks, together
from napari_unet.engine.simulate import Known
from napari_unet.nets.click import new_head


def disc(y, x, radius, shape=(60, 60)):
    """A disc."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.fixture
def model(disc_model):
    """A model of discs with a click head that knows nothing."""
    disc_model.replace_click(new_head(disc_model.net, 0))
    return disc_model


@pytest.fixture
def known(draw):
    """Function that draws a picture whose truth is known."""

    def picture(seed):
        image, labels = draw(seed)
        return Known(f"p{seed}", ImageSource.of_array(image), labels)

    return picture


def test_figures_of_known_answers():
    """An object that is right at once, one that is at the third click, one that never is."""
    facts = Clicked([[0.95], [0.5, 0.7, 0.86], [0.1, 0.3, 0.2]], [0.01, 0.02, 0.03]).facts(20)
    assert facts["objects"] == 3
    assert facts["iou@1"] == pytest.approx((0.95 + 0.5 + 0.1) / 3, abs=1e-4)
    assert facts["iou@2"] == pytest.approx((0.95 + 0.7 + 0.3) / 3, abs=1e-4)
    assert facts["iou@10"] == pytest.approx((0.95 + 0.86 + 0.3) / 3, abs=1e-4)  # the best so far
    assert facts["noc@80"] == facts["noc@85"] == pytest.approx((1 + 3 + 20) / 3, abs=1e-3)
    assert facts["noc@90"] == pytest.approx((1 + 20 + 20) / 3, abs=1e-3)
    assert facts["ms"] == 20.0
    assert Clicked().facts(20) == {"objects": 0}


def test_clicks_go_into_the_largest_error_until_it_is_right():
    """A mask too large, then too small, then right: one click in the middle, one beside the object, one on it."""
    truth, answers = disc(30, 30, 12), iter([disc(30, 30, 18), disc(36, 30, 6), disc(30, 30, 12)])
    steps = list(click_until(lambda prompts: next(answers), truth, most=20))
    assert len(steps) == 3
    prompts = steps[-1][0]
    assert prompts.positive[0] == (30, 30)
    (y, x), *_ = prompts.negative
    assert not truth[int(y), int(x)]
    y, x = prompts.positive[1]
    assert truth[int(y), int(x)]
    assert steps[-1][2] == 1.0


def test_clicks_end_after_most():
    """What never is right is left at last."""
    steps = list(click_until(lambda prompts: disc(0, 0, 5), disc(30, 30, 12), most=4))
    assert len(steps) == 4


def test_objects_are_drawn_by_lot_and_large_enough(known):
    """The same seed draws the same; specks are left out."""
    picture = known(0)
    picture.truth[0, :3] = 99
    masks = objects_of(picture, None, 3)
    assert len(masks) == 7
    assert all(np.array_equal(a, b) for a, b in zip(masks[:2], objects_of(picture, 2, 3), strict=True))


def test_all_ways_click_on_the_same_objects(model, known):
    """Each way has as many objects; pictures can be put together."""
    parts = list(clicked(model, [known(0), known(1)], objects=2, most=2, peers=True))
    whole = together(parts)
    assert {OURS, "Otsu", "random walker", "watershed"} <= whole.keys()
    assert {len(each.scores) for each in whole.values()} == {4}
    assert whole["Otsu"].facts(2)["iou@1"] > 0.8  # bright discs are what a threshold is for
    assert [len(part[OURS].scores) for part in parts] == [2, 2]


@pytest.mark.parametrize("spoilt", [np.s_[5:9, 5:9], np.s_[:]])
def test_a_picture_with_holes_is_clicked_on_in_all_ways(model, draw, spoilt):
    """Voxels that are no numbers, some or all of them, stop none of the ways."""
    image, labels = draw(1)
    image[spoilt] = np.nan
    (found,) = clicked(model, [Known("a", ImageSource.of_array(image), labels)], objects=1, most=1, peers=True)
    assert {len(each.scores) for each in found.values()} == {1}


def test_kept_objects_teach(model, known, monkeypatch):
    """What is kept goes to the training; held-out pictures are only clicked on."""
    seen = []

    def learn(model, corrections, **_):
        seen.append(sum(int(c.trusted.sum()) for c in corrections))
        assert any(p.positive for c in corrections for p in c.prompts)
        yield from ()

    monkeypatch.setattr(simulate, "fine_tune", learn)
    monkeypatch.setattr(clicking, "KEPT", 0.0)
    points = list(simulate_clicks(model, [known(0)], [known(1)], rounds=2, kept=2, steps=5, objects=1, most=2))
    assert [point.kept for point in points] == [0, 2, 4]
    assert 0 < seen[0] < seen[1]
    assert all(point.facts["objects"] == 1 for point in points)


def test_masks_that_are_never_right_are_not_kept(model, known, monkeypatch):
    """The annotator drops them: nothing false is taught."""
    monkeypatch.setattr(clicking, "KEPT", 1.1)
    points = list(simulate_clicks(model, [known(0)], [known(1)], rounds=1, kept=2, steps=1, objects=1, most=1))
    assert [point.kept for point in points] == [0, 0]
