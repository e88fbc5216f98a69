"""Scores where the user's word is known."""

import numpy as np
import pytest
import torch

from napari_unet.core.corrections import Correction
from napari_unet.engine import evaluate as scoring
from napari_unet.engine.evaluate import Score
from tests.engine.conftest import score_on

LABELS = np.zeros((12, 20), int)
LABELS[2:8, 2:8], LABELS[4:10, 11:18] = 1, 2
ALL = np.ones(LABELS.shape, bool)


def test_sums_of_scores():
    """Scores add up: ten empty places do not outweigh two objects, and one does not weigh as much as they."""
    total = Score({1: [0.2, 0.4]}, 5) + sum((Score({0: [1.0]}, 0) for _ in range(10)), Score())
    assert total.mean == pytest.approx((0.3 + 1.0) / 2)
    assert len(total.parts[0]) == 10
    assert (Score({1: [0.2, 0.4]}, 5) + Score({0: [1.0]}, 0)).mean == pytest.approx((0.2 + 0.4 + 1.0) / 3)
    assert Score({0: [0.2, 0.4]}, 5).mean == pytest.approx(0.3)
    assert Score().mean == 0


def test_only_nothing_found_where_something_is_counts_as_blank():
    """An empty place in which nothing is found is right."""
    assert Score({1: [0.0], 0: [1.0]}, 0).is_blank
    assert not (Score({1: [0.0]}, 0) + Score({1: [0.0]}, 3)).is_blank
    assert not Score({0: [1.0]}, 0).is_blank
    assert not Score().is_blank


def test_a_trained_model_scores_more_than_a_blank_one(disc_model, make_model, correct):
    """Weights are scored without taking over, partial corrections included."""
    before = {key: value.clone() for key, value in disc_model.net.state_dict().items()}
    blank = make_model().net.state_dict()
    for part in (1.0, 0.4):
        case = correct(1, part)
        good = score_on(disc_model, disc_model.net.state_dict(), case)
        assert good.mean > 0.85
        assert good.found > 0
        assert good.mean > score_on(disc_model, blank, case).mean + 0.2
    assert all(torch.equal(value, before[key]) for key, value in disc_model.net.state_dict().items())


@pytest.mark.parametrize(("kind", "scale"), [("objects", 1.0), ("objects", 0.7), ("classes", 1.0)])
def test_a_large_picture_is_scored_in_tiles(make_model, draw, monkeypatch, kind, scale):
    """What the network sees at once is bounded, and the score is that of the picture in one piece."""
    model = make_model(kind, norm="batch", seed=3)
    image, labels = draw(1, (200, 150), 12)
    case = Correction(image, np.minimum(labels, 1), np.ones(labels.shape, bool), scale=scale)
    state, seen = model.net.state_dict(), []
    whole = score_on(model, state, case)
    model.net.register_forward_hook(lambda net, inputs, output: seen.append(inputs[0][0, 0].numel()))
    monkeypatch.setattr(scoring, "CORE", 16)
    tiled = score_on(model, state, case)
    assert len(seen) > 1
    assert max(seen) <= (16 + 2 * 24) ** 2 < labels.size * scale**2
    assert tiled.found == pytest.approx(whole.found, rel=0.01)
    assert whole.found
    for number, scores in whole.parts.items():
        assert tiled.parts[number] == pytest.approx(scores, abs=0.002)


def test_the_scale_of_a_correction_counts(disc_model, correct):
    """A correction of a picture at another size is scored at the size the model knows, over its own pixels."""
    case = correct(1)
    large = Correction(
        np.kron(case.image, np.ones((3, 3), np.float32)),
        np.kron(case.labels, np.ones((3, 3), np.int32)),
        np.kron(case.trusted, np.ones((3, 3), bool)),
        case.limits,
        scale=1 / 3,
    )
    score = score_on(disc_model, disc_model.net.state_dict(), large)
    assert score.mean > 0.8
