"""The click head learns from its own mistakes, and leaves the network alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.prompts import Prompts
from napari_unet.engine import click_student as engine
from napari_unet.engine.click import ClickSegmenter
from napari_unet.engine.click_student import ClickStudent, mask_loss, train_clicks
from napari_unet.nets.click import SIDE, new_head


def same(a, b):
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def student(disc_model):
    """A student with a new head."""
    return ClickStudent(disc_model, 0)


def test_the_network_stays_as_it_is(student, correct):
    """Only the head changes, so that masks of the whole picture do not get worse."""
    before = {k: v.clone() for k, v in student.model.state().items()}
    head = {k: v.clone() for k, v in student.head.state_dict().items()}
    losses = list(train_clicks(student, [correct(seed) for seed in range(3)], steps=2))
    assert all(math.isfinite(loss) for loss in losses)
    assert student.step == 2
    assert same(student.model.state(), before)
    assert not same(student.head.state_dict(), head)
    assert student.model.click is None


def test_the_same_seed_learns_the_same(disc_model, correct):
    """Two trainings with one seed give the same head, another seed another one."""
    results = []
    for seed in (3, 3, 4):
        student = ClickStudent(disc_model, seed)
        list(train_clicks(student, [correct(n) for n in range(3)], steps=2))
        results.append(dict(student.average))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_head_goes_on_from_what_it_knows(disc_model):
    """The head of a model is copied, not begun anew, and the model keeps its own."""
    disc_model.replace_click(new_head(disc_model.net, 5))
    student = ClickStudent(disc_model, 0)
    assert same(student.head.state_dict(), disc_model.click.state_dict())
    student.head.head.bias.data += 1
    assert not same(student.head.state_dict(), disc_model.click.state_dict())


def test_clicks_are_learnt(disc_model, correct, draw, monkeypatch):
    """A few steps on discs, and the disc under a click is found better than before, and better than its neighbours."""
    for name, value in {"CROP": 96, "CROPS": 3, "OBJECTS": 2, "LEARNING_RATE": 4e-3, "AVERAGING": 0.8}.items():
        monkeypatch.setattr(engine, name, value)
    student = ClickStudent(disc_model, 0)
    losses = list(train_clicks(student, [correct(seed) for seed in range(100, 106)], steps=50))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    student.head.load_state_dict(student.average)
    disc_model.replace_click(student.head)
    segmenter = ClickSegmenter(disc_model)
    image, labels = draw(41)
    segmenter.set_image(image, diameter=17)
    masks = {n: segmenter.segment([tuple(np.argwhere(labels == n).mean(0))]) for n in range(1, labels.max() + 1)}
    assert np.mean([mask[labels == n].mean() for n, mask in masks.items()]) > 0.5
    assert np.mean([mask[(labels > 0) & (labels != n)].mean() for n, mask in masks.items()]) < 0.1


def test_prompts_are_on_the_object(student, correct):
    """First clicks lie on known objects, in windows that show as much of them as there is."""
    for each in student._tries([correct(seed, 0.5) for seed in range(3)]):
        assert each.seen.shape[1:] == each.truth.shape == (SIDE, SIDE)
        assert (each.truth & each.known).any()
        for y, x in each.prompts.positive:
            assert each.truth[int(y), int(x)]
        assert each.prompts.positive or each.prompts.box or each.prompts.negative


def test_users_own_clicks_are_learnt_from(student, correct, monkeypatch):
    """An object that the user clicked on begins with these clicks: the first one, or all; on its own pixels."""
    monkeypatch.setattr(engine, "OWN", 1.0)
    correction = correct(2)
    number = int(correction.labels.max())
    y, x = np.argwhere(correction.labels == number)[0].tolist()  # at its rim, where chance hardly clicks
    beside = (float(y) - 8, float(x))
    shown = replace(correction, labels=np.where(correction.labels == number, number, 0))
    shown = replace(shown, prompts=(Prompts(((float(y), float(x)),), (beside,)), Prompts((), ((1.0, 1.0),))))
    tries = [each for _ in range(6) for each in student._tries([shown])]
    assert tries
    assert {len(each.prompts.negative) for each in tries} == {0, 1}
    for each in tries:
        ((row, column),) = each.prompts.positive
        assert each.truth[int(row), int(column)]
        near = each.truth[int(row) - 3 : int(row) + 4, int(column) - 3 : int(column) + 4]
        assert not near.all()


def test_heads_are_compared_where_the_user_clicked(student, correct, monkeypatch):
    """The first click of the comparison is the user's, not one in the middle."""
    clicks = []
    monkeypatch.setattr(engine, "point_inside", lambda mask: clicks.append(mask.sum()) or np.argwhere(mask)[0])
    correction = correct(2)
    numbers = range(1, correction.labels.max() + 1)
    middles = [np.argwhere(correction.labels == n).mean(0) for n in numbers]
    shown = replace(correction, prompts=tuple(Prompts((tuple(m.tolist()),)) for m in middles))
    student.scores((student.head,), shown)
    assert not clicks
    student.scores((student.head,), correction)
    assert clicks


def test_the_next_click_goes_into_the_error(student, correct):
    """After a click the old mask is shown too, and one prompt more, where the truth is known."""
    tries = student._tries([correct(0)])
    before = [each.prompts for each in tries]
    engine._click_again(tries, student._masks(student.head, tries))
    for each, old in zip(tries, before, strict=True):
        assert each.previous is not None
        new = len(each.prompts.positive) + len(each.prompts.negative) - len(old.positive) - len(old.negative)
        assert new == (0 if not ((each.previous != each.truth) & each.known).any() else 1)
        for y, x in each.prompts.negative[len(old.negative) :]:
            assert not each.truth[int(y), int(x)]


def test_what_is_not_known_does_not_count():
    """Pixels of which nothing is known change no loss."""
    random = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(3, 1, 8, 8, generator=random), (torch.rand(3, 1, 8, 8, generator=random) > 0.5).float()
    known = torch.zeros(3, 1, 8, 8)
    known[..., :4] = 1
    noisy, other = logits.clone(), truth.clone()
    noisy[..., 4:] += 3
    other[..., 4:] = 1 - other[..., 4:]
    assert mask_loss(noisy, other * known + truth * (1 - known), known) == pytest.approx(
        float(mask_loss(logits, truth, known))
    )
    assert mask_loss((2 * truth - 1) * 20, truth, known) < 0.05 < mask_loss((1 - 2 * truth) * 20, truth, known)


def test_pictures_without_objects_teach_nothing(student, correct):
    """Empty pictures among others are passed over; with nothing else a step is skipped."""
    empty = replace(correct(0), labels=np.zeros_like(correct(0).labels))
    assert math.isnan(next(train_clicks(student, [empty], steps=1)))
    assert math.isfinite(next(train_clicks(student, [empty, correct(1)], steps=2)))


def test_heads_are_scored_alike_on_the_same_objects(student, correct):
    """Overlaps after one click and after two, of each object; nothing of a place without objects; always the same."""
    correction = correct(1)
    other = new_head(student.net, 7)
    scores = student.scores((student.head, other), correction)
    assert [len(each) for each in scores] == [8, 8]  # four objects, clicked on twice
    assert all(0 <= value <= 1 for each in scores for value in each)
    assert scores == student.scores((student.head, other), correction)
    assert scores[0] != scores[1]
    empty = replace(correction, labels=np.zeros_like(correction.labels))
    assert student.scores((student.head,), empty) == [[]]


def test_pictures_are_seen_through_other_weights(student, correct):
    """The network of the model stays as it is while the head learns for the one that may take over."""
    other = {
        name: value + 0.5 if value.is_floating_point() else value for name, value in student.net.state_dict().items()
    }
    before = student.scores((student.head,), correct(1))
    student.look_through(other)
    assert student.scores((student.head,), correct(1)) != before
    assert same(student.net.state_dict(), other)
    assert not same(student.model.net.state_dict(), other)
