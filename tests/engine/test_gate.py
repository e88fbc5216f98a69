"""When new weights take over, and what is never let in."""

import itertools
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.engine import student as learning
from napari_unet.engine import teacher, trial
from napari_unet.engine import train as engine
from napari_unet.engine.evaluate import Score
from napari_unet.engine.student import Student
from napari_unet.engine.train import fine_tune
from tests.engine.conftest import score_on


def weights(model):
    """A copy of a model's weights."""
    return {key: value.clone() for key, value in model.net.state_dict().items()}


def same(a, b):
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def score(model, corrections):
    """Mean score of a model."""
    total = Score()
    for correction in corrections:
        total += score_on(model, model.net.state_dict(), correction)
    return total.mean


def changes(events):
    """The take-overs among events."""
    return [event for event in events if isinstance(event, WeightsChanged)]


def ends(events):
    """The ends of rounds among events."""
    return [event for event in events if isinstance(event, TrainStep) and event.kept is not None]


# --- the gate ---------------------------------------------------------------------------------


def test_background_alone_changes_nothing(disc_model, correct, quick):
    """Who has only erased so far is told to show an object: else soon nothing would be found anywhere."""
    before = weights(disc_model)
    cases = [correct(seed) for seed in range(3)]
    erased = [replace(c, labels=np.zeros_like(c.labels), trusted=np.ones(c.labels.shape, bool)) for c in cases]
    rounds = list(fine_tune(disc_model, erased, steps=8, recipe=quick))
    assert {event.reason for event in ends(rounds)} == {engine.NO_OBJECTS}
    assert not changes(rounds)
    assert same(before, weights(disc_model))
    assert not any(
        event.reason == engine.NO_OBJECTS for event in ends(fine_tune(disc_model, [*erased, cases[0]], steps=8))
    )


@pytest.mark.parametrize("sabotage", ["huge steps", "random labels", "nothing there", "poison"])
def test_sabotage_does_not_make_the_model_worse(disc_model, correct, quick, sabotage):
    """Training that ruins the weights does not take over: on held-out pictures the model is as good as before."""
    held_out = [correct(seed, held_out=True) for seed in (30, 31, 32)]
    cases = [correct(seed) for seed in range(4)]
    recipe = replace(quick, round_steps=12)
    random = np.random.default_rng(0)
    if sabotage == "huge steps":
        recipe = replace(recipe, learning_rate=1e3)
    elif sabotage == "random labels":
        cases = [replace(c, labels=random.permutation(c.labels.ravel()).reshape(c.labels.shape)) for c in cases]
        cases = [replace(c, trusted=np.ones(c.labels.shape, bool)) for c in cases]
    elif sabotage == "nothing there":
        cases = [replace(c, labels=c.labels * 0, trusted=np.ones(c.labels.shape, bool)) for c in cases]
    else:
        recipe = replace(recipe, learning_rate=1e30)
    before = score(disc_model, held_out)
    events = list(fine_tune(disc_model, cases + held_out, steps=36, recipe=recipe))
    assert len(ends(events)) == 3
    assert score(disc_model, held_out) >= before - quick.tolerance
    assert all(torch.isfinite(value).all() for value in disc_model.net.state_dict().values())
    refused = [event for event in ends(events) if not event.kept]
    assert all(event.reason for event in refused)
    assert disc_model.version == len(changes(events)) == 3 - len(refused)
    if sabotage != "random labels":
        assert refused


@pytest.mark.parametrize("trainings", [1, 4])
def test_rounds_do_not_get_worse_little_by_little(disc_model, taught, quick, monkeypatch, trainings):
    """Each take-over scores 0.004 less: one may, but not a second one, be it of the same training or of the next."""

    def version_of(model, state, _correction):
        is_new = any(state[name].data_ptr() != value.data_ptr() for name, value in model.net.state_dict().items())
        return model.version + is_new

    monkeypatch.setattr(trial, "outputs_on", version_of)
    monkeypatch.setattr(trial, "score_of", lambda _card, version, _correction: Score({1: [1 - 0.004 * version]}, 1))
    rounds = []
    for _ in range(trainings):
        rounds += ends(list(fine_tune(disc_model, taught, steps=8 // trainings, recipe=replace(quick, round_steps=2))))
    assert [event.kept for event in rounds] == [True, False, False, False]
    assert disc_model.version == 1


@pytest.mark.parametrize(
    ("corrections", "trusts", "strayed"),
    [(18, (1, 1, 1, 1, 1, 1), False), (18, (1, 0, 1, 1, 1, 1), True), (6, (0,), False)],
)
def test_a_model_remembers_what_it_first_was(disc_model, taught, quick, monkeypatch, corrections, trusts, strayed):
    """Whatever trainings follow each other; and whether it left that behind in one of them, as enough of them say."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "")
    trust = itertools.cycle(map(float, trusts))

    def said(*_):
        yield
        return next(trust)

    monkeypatch.setattr(teacher, "_trust", said)
    before, parent = weights(disc_model), disc_model.sha256()
    assert disc_model.origin is None
    for _ in range(3):
        lesson = [*taught] * (corrections // len(taught))
        list(fine_tune(disc_model, lesson, steps=2, recipe=replace(quick, round_steps=2, teacher=1.0)))
        assert same(before, weights(disc_model.origin))
        assert not same(before, weights(disc_model))
        assert disc_model.card.parent == parent
        assert disc_model.strayed == strayed
        disc_model = disc_model.copy()
    assert disc_model.version == 3


@pytest.mark.parametrize(
    ("found", "knows", "kept"),
    [
        ((0.01, 0.014), True, False),
        ((0.02, 0.01), True, False),
        ((0.01, 0.04), True, True),
        ((0.01, 0.014), False, True),
    ],
)
def test_where_nothing_is_found_not_worse_is_not_enough(disc_model, taught, quick, monkeypatch, found, knows, kept):
    """What was drawn may be anything, and a model that knew something would lose it; learning goes on as it was."""
    before, after = (Score({0: [0.9], 1: [value]}, 10) for value in found)
    scores = itertools.chain([before], itertools.repeat(after))
    monkeypatch.setattr(trial, "_jury", lambda corrections, _: corrections[:1])
    monkeypatch.setattr(trial, "score_of", lambda *_: next(scores))
    monkeypatch.setattr(engine, "rehearsal_of", lambda _: taught[:1] if knows else ())
    monkeypatch.setattr(engine, "_start_again", Mock(side_effect=AssertionError))
    recipe = replace(quick, round_steps=1, endurance=0.0)
    events = ends(list(fine_tune(disc_model, taught, steps=1 if kept else 4, recipe=recipe)))
    assert {event.kept for event in events} == {kept}
    assert kept or {event.reason for event in events} == {engine.NOT_FOUND}


def test_weights_that_find_nothing_do_not_take_over(disc_model, taught, quick, monkeypatch):
    """A collapse to background is refused even where the score would allow it."""
    scores = itertools.cycle([Score({1: [0.5]}, 10), Score({1: [0.9]}, 0)])
    monkeypatch.setattr(trial, "score_of", lambda *_: next(scores))
    before = weights(disc_model)
    events = list(fine_tune(disc_model, taught, steps=2, recipe=replace(quick, round_steps=2)))
    assert [event.kept for event in ends(events)] == [False]
    assert "found nothing" in ends(events)[0].reason
    assert same(weights(disc_model), before)


def test_refused_rounds_start_again_from_the_model(disc_model, taught, quick, monkeypatch):
    """What is new gets worse before it gets better: only after some refused rounds a fresh copy begins, more gently."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "no")
    students = []
    real = engine.Student.__init__

    def watched(self, model, recipe, seed, rehearsal):
        real(self, model, recipe, seed, rehearsal)
        students.append((recipe.learning_rate, seed, same(self.net.state_dict(), model.net.state_dict())))

    monkeypatch.setattr(engine.Student, "__init__", watched)
    list(fine_tune(disc_model, taught, steps=8, recipe=replace(quick, round_steps=2, endurance=1)))
    rate = quick.learning_rate
    assert [s[0] for s in students] == [rate, rate / 2, rate / 4]
    assert len({s[1] for s in students}) == 3
    assert all(s[2] for s in students)


def test_a_fresh_copy_draws_by_the_users_seed(disc_model, quick):
    """Other seeds draw other crops after a round that was not kept, too; none is too large."""
    begun = [Student(disc_model, quick, seed) for seed in (0, 7, engine.SEEDS - 1)]
    seeds = [engine._start_again(disc_model, student).seed for student in begun]
    assert len({*seeds, *(student.seed for student in begun[:2])}) == 4
    assert all(0 <= seed < engine.SEEDS for seed in seeds)


def test_refused_rounds_that_were_cut_short_count_as_the_parts_that_they_are(disc_model, taught, quick, monkeypatch):
    """Where time ends each round after one of its two steps, twice as many are refused before a fresh copy begins."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "no")
    begun = []
    monkeypatch.setattr(engine, "_start_again", lambda model, student: begun.append(student.step) or student)
    recipe = replace(quick, round_steps=2, endurance=2, round_seconds=0.0)
    list(fine_tune(disc_model, taught, steps=12, seconds=1e6, recipe=recipe))
    assert begun == [5, 10]


def test_few_held_out_corrections_do_not_decide_alone(disc_model, correct, quick):
    """One empty place held out would welcome weights that find nothing; what was taught decides with it."""
    nothing = correct(7, held_out=True)
    nothing = replace(nothing, labels=nothing.labels * 0, trusted=nothing.labels == 0)
    cases, recipe = [correct(seed) for seed in range(4)], replace(quick, round_steps=4, learning_rate=1e3)
    before = score(disc_model, cases)
    events = list(fine_tune(disc_model, [*cases, nothing], steps=4, recipe=recipe))
    assert [event.kept for event in ends(events)] == [False]
    assert score(disc_model, cases) == before


# --- numbers that are none --------------------------------------------------------------------


def test_pixels_that_are_no_numbers_do_no_harm(disc_model, taught, quick):
    """NaN and infinite pixels in every picture poison nothing: no step is skipped, all weights stay finite."""
    random = np.random.default_rng(0)
    spoilt = []
    for correction in taught:
        image = correction.image.copy()
        image[random.random(image.shape) < 0.02] = np.nan
        image[random.random(image.shape) < 0.01] = np.inf
        spoilt.append(replace(correction, image=image))
    events = list(fine_tune(disc_model, spoilt, steps=25, recipe=quick))
    assert not any(event.skipped for event in events if isinstance(event, TrainStep))
    assert all(torch.isfinite(value).all() for value in disc_model.net.state_dict().values())
    assert changes(events)


def test_a_poisoned_gradient_is_not_stepped_on(disc_model, taught, quick):
    """A single NaN in a gradient skips the step: weights, average and optimiser stay, and training goes on."""
    student = Student(disc_model, quick, 0)
    student.study(taught[:5])
    assert np.isfinite(student.advance(1e-3))
    before, average = {k: v.clone() for k, v in student.net.state_dict().items()}, dict(student.average)
    student.study(taught[:5])
    next(iter(student.net.parameters())).grad.view(-1)[0] = torch.nan
    assert np.isnan(student.advance(1e-3))
    assert same(student.net.state_dict(), before)
    assert same(student.average, average)
    assert (student.step, student.skipped) == (2, 1)
    student.study(taught[:5])
    assert np.isfinite(student.advance(1e-3))


def test_a_round_of_skipped_steps_does_not_take_over(disc_model, taught, quick, monkeypatch):
    """A round in which more than a quarter of the steps was skipped is not kept, however short it was."""
    monkeypatch.setattr(learning, "loss_for", lambda kind, logits, *_: logits.sum() * torch.nan)
    before = weights(disc_model)
    events = list(fine_tune(disc_model, taught, steps=2, recipe=quick))
    assert {event.step for event in events if isinstance(event, TrainStep) and event.skipped} == {1, 2}
    assert not ends(events)[0].kept
    assert "not numbers" in ends(events)[0].reason
    assert same(weights(disc_model), before)
