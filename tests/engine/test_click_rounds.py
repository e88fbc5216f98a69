"""The click head in the rounds of `fine_tune`: it learns, and is never worse than before."""

import time

import numpy as np
import pytest
import torch

from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.engine import click_rounds
from napari_unet.engine.click_rounds import ClickRounds
from napari_unet.engine.train import fine_tune
from napari_unet.nets.click import new_head
from napari_unet.nets.model import CLICK


@pytest.fixture
def model(disc_model):
    """A model of discs with a click head that knows nothing."""
    disc_model.replace_click(new_head(disc_model.net, 0))
    return disc_model


def head_of(model):
    """A copy of its click head's weights."""
    return {name: value.clone() for name, value in model.click.state_dict().items()}


def same(a, b):
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_rounds_make_the_head_better(model, correct, monkeypatch):
    """After some rounds it finds discs of the jury better; what it won is a whole set of its weights."""
    monkeypatch.setattr(click_rounds, "STEPS", 10)
    monkeypatch.setattr(click_rounds, "LEARNING_RATE", 4e-3)
    rounds, taught, jury = ClickRounds(model, 0, ()), [correct(n) for n in range(4)], [correct(n) for n in range(8, 10)]
    before = np.mean([rounds.student.scores((model.click,), c)[0] for c in jury])
    for _ in range(3):
        assert sum(1 for _ in rounds.round(model.net.state_dict(), taught, jury)) == 10 * click_rounds.PIECES + len(
            jury
        )
        assert rounds.won.keys() <= {CLICK + name for name in model.click.state_dict()}
        model.replace_weights(rounds.won, version=model.version)
    after = np.mean([rounds.student.scores((model.click,), c)[0] for c in jury])
    assert after > before + 0.1


def test_a_head_that_is_worse_wins_nothing(model, correct, monkeypatch):
    """Weights that learnt nonsense are scored, and stay out."""
    rounds = ClickRounds(model, 0, ())
    scores = iter([([0.8], [0.7])])
    monkeypatch.setattr(rounds.student, "scores", lambda heads, correction: next(scores))
    list(rounds.round(model.net.state_dict(), [correct(0)], [correct(1)]))
    assert rounds.won == {}


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 0), (-1.0, 0), (1.0, 1), (4.0 + 8.0, 2), (1e6, click_rounds.STEPS)]
)
def test_a_head_learns_while_there_is_time(model, correct, monkeypatch, seconds, steps):
    """It makes no step after which its two judges could not be asked in time, and without a step asks none."""
    rounds, clock = ClickRounds(model, 0, ()), [0.0]

    def study(corrections):
        clock[0] += 1.0

    monkeypatch.setattr(rounds.student, "study", study)
    monkeypatch.setattr(
        rounds.student, "advance", lambda rate: setattr(rounds.student, "step", rounds.student.step + 1)
    )
    pieces = list(
        rounds.round(model.net.state_dict(), [correct(0)], [correct(1), correct(2)], lambda: seconds - clock[0])
    )
    assert rounds.student.step == steps
    assert len(pieces) == click_rounds.PIECES * steps + (2 if steps else 0)


def test_a_budget_of_seconds_holds_for_the_clicks_too(model, taught, quick, monkeypatch):
    """Whoever has a second waits about that long: the head learns only in what is left after the masks."""
    begun = time.monotonic()
    monkeypatch.setattr(click_rounds, "STEPS", 10**6)
    events = list(fine_tune(model, taught, seconds=1, recipe=quick))
    assert any(event.kept is not None for event in events if isinstance(event, TrainStep))
    assert time.monotonic() - begun < 20


def test_without_an_object_in_the_jury_nothing_is_won(model, correct):
    """What cannot be compared does not take over."""
    from dataclasses import replace

    empty = replace(correct(1), labels=np.zeros_like(correct(1).labels))
    rounds = ClickRounds(model, 0, ())
    list(rounds.round(model.net.state_dict(), [correct(0)], [empty]))
    assert rounds.won == {}


def test_fine_tuning_teaches_both_heads_in_one_version(model, taught, quick):
    """Dense weights and click head change together; a refused round of masks may still teach the clicks."""
    before, net = head_of(model), {k: v.clone() for k, v in model.net.state_dict().items()}
    versions = [e.version for e in fine_tune(model, taught, steps=60, recipe=quick) if isinstance(e, WeightsChanged)]
    assert versions
    assert model.version == versions[-1]
    assert not same(head_of(model), before)
    assert not same(model.net.state_dict(), net)


def test_a_refused_round_keeps_the_version(model, taught, quick, monkeypatch):
    """The click head may have learnt; masks, and so the version, are as before."""
    monkeypatch.setattr("napari_unet.engine.train._why_not", lambda *_, **__: "not today")
    net = {k: v.clone() for k, v in model.net.state_dict().items()}
    events = list(fine_tune(model, taught, steps=30, recipe=quick))
    assert not [e for e in events if isinstance(e, WeightsChanged)]
    assert [e.kept for e in events if isinstance(e, TrainStep) and e.kept is not None][-1] is False
    assert model.version == 0
    assert same(model.net.state_dict(), net)
