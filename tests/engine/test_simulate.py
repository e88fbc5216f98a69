"""Learning curves: the simulated annotator and the model, as in the app."""

from functools import partial

import numpy as np
import pytest

from napari_unet.core.corrections import TAUGHT
from napari_unet.core.errors import ModelError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.engine import simulate as engine
from napari_unet.engine.simulate import Known, simulate


@pytest.fixture
def known(draw):
    """Function that makes pictures of discs whose truth is known."""

    def make(*seeds, look="dark"):
        drawn = {seed: draw(seed, look=look) for seed in seeds}
        return [Known(f"p{seed}", ImageSource.of_array(image), labels) for seed, (image, labels) in drawn.items()]

    return make


def test_corrections_make_the_model_better(disc_model, known, quick, monkeypatch):
    """A model of bright discs learns dark ones from a few corrections, on pictures that are only scored."""
    steps = partial(engine.fine_tune, recipe=quick, steps=60)
    monkeypatch.setattr(engine, "fine_tune", lambda model, pool, seconds, seed: steps(model, pool, seed=seed))
    points = list(simulate(disc_model, known(1, 2, 3), known(50, 51), rounds=3, corrections=3))
    assert [point.corrections for point in points][:2] == [0, 3]
    assert points[-1].scores["ap50"] > points[0].scores["ap50"] + 0.3
    assert any(point.took_over for point in points)
    assert points[-1].right > points[1].right
    assert points[1].user_seconds > 3 * 1.5
    assert points[1].train_seconds == pytest.approx(points[1].user_seconds)
    assert sum(points[1].acts.values()) == 3


def test_the_model_learns_nothing_that_was_not_drawn(disc_model, known, monkeypatch):
    """What reaches the training is trusted only where the annotator corrected; held-out pictures are not in it."""
    seen = []

    def learn(model, pool, seconds, seed):
        seen.extend(pool)
        return iter(())

    monkeypatch.setattr(engine, "fine_tune", learn)
    pictures = known(1, 2, 3)
    points = list(simulate(disc_model, pictures, known(50), rounds=1, corrections=2))
    assert sum(points[1].acts.values()) == 2
    assert seen
    trusted = sum(int(correction.trusted.sum()) for correction in seen)
    assert 0 < trusted < 0.2 * sum(known.truth.size for known in pictures)
    for correction in seen:
        assert not correction.labels[~correction.trusted].all()
        assert any(np.array_equal(correction.image[0], p.source.read(Box.whole(p.truth.shape))[0]) for p in pictures)


def test_masks_that_the_user_set_stay(disc_model, known):
    """A prediction of the next round goes around what was corrected in an earlier one."""
    desk = engine._Desk(disc_model, known(1))
    _, acts = desk.correct(3)
    set_by_user = desk._pictures[0].taught >= TAUGHT
    before = desk._masks[0][set_by_user]
    desk._predict(0)
    assert len(acts) == 3
    assert np.array_equal(desk._masks[0][set_by_user], before)


def test_when_all_is_right_nothing_is_left_to_do(disc_model, known):
    """A picture that is right is accepted as a whole, and the annotator goes on to the next."""
    desk = engine._Desk(disc_model, known(1, 2, look="bright"))
    for _ in range(12):
        right, acts = desk.correct(4)
    assert right == 1
    assert {act.kind for act in acts} == {"right"}


def test_a_model_of_classes_is_a_sentence(make_model, known):
    """There are no objects to correct in its masks."""
    with pytest.raises(ModelError, match="models of objects"):
        next(simulate(make_model("classes"), known(1), known(2)))
