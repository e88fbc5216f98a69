"""Scores where the user's word is known."""

import numpy as np
import pytest
import torch

from napari_unet.core.corrections import Correction
from napari_unet.engine.evaluate import Score, class_agreement, object_agreement, score_on

LABELS = np.zeros((12, 20), int)
LABELS[2:8, 2:8], LABELS[4:10, 11:18] = 1, 2
ALL = np.ones(LABELS.shape, bool)


def test_the_truth_scores_1_and_nothing_scores_little():
    """Right objects score 1 under any numbers; an empty prediction has the background alone."""
    assert object_agreement(LABELS, LABELS, ALL) == 1
    assert object_agreement(LABELS * 7, LABELS, ALL) == 1
    assert object_agreement(np.zeros_like(LABELS), LABELS, ALL) == pytest.approx(1 / 3)


def test_each_object_counts_the_same():
    """The score is the mean of the objects' best IoU and of the background that was left empty."""
    predicted = np.where(LABELS == 1, 5, 0)
    predicted[0, 0] = 9
    expected = np.mean([1, 0, 1 - 1 / (LABELS == 0).sum()])
    assert object_agreement(predicted, LABELS, ALL) == pytest.approx(expected)


def test_joined_objects_score_less():
    """Two objects predicted as one have an IoU of their share of it each."""
    joined = (LABELS > 0).astype(int)
    share = [np.mean(LABELS[LABELS > 0] == n) for n in (1, 2)]
    assert object_agreement(joined, LABELS, ALL) == pytest.approx(np.mean([*share, 1]))


def test_what_is_not_trusted_does_not_count():
    """Other labels and other predictions of untrusted background change no score."""
    trusted = LABELS == 1
    predicted = np.where(LABELS == 1, 1, 0)
    score = object_agreement(predicted, LABELS, trusted)
    other = np.where(trusted, LABELS, 2)
    noisy = predicted.copy()
    noisy[9:, :] = 4
    assert score == object_agreement(predicted, other, trusted) == object_agreement(noisy, LABELS, trusted) == 1


def test_nothing_to_compare_is_no_error():
    """Where nothing is trusted every prediction agrees."""
    assert object_agreement(LABELS, LABELS, ~ALL) == class_agreement(LABELS, LABELS, ~ALL) == 1


def test_classes_are_scored_by_their_mean_dice():
    """Each class that the user named counts the same, on trusted voxels."""
    predicted = np.where(LABELS == 2, 1, LABELS)
    dice = [1, 2 * 36 / (36 + 36 + 42), 0]
    assert class_agreement(predicted, LABELS, ALL) == pytest.approx(np.mean(dice))
    assert class_agreement(predicted, LABELS, LABELS == 1) == 1


def test_sums_of_scores():
    """Scores of several corrections add up to their mean; only 'nothing found anywhere' is blank."""
    total = Score(0.5, 1, 0) + Score(1.0, 1, 0)
    assert (total.mean, total.count, total.is_blank) == (0.75, 2, True)
    assert not (total + Score(0.0, 1, 3)).is_blank
    assert not Score().is_blank
    assert Score().mean == 0


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
