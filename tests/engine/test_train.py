"""Learning from corrections: what it learns, and when its weights take over."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.core.intensity import Limits
from napari_unet.engine import train as engine
from napari_unet.engine.evaluate import Score
from napari_unet.engine.sampling import ExampleCache
from napari_unet.engine.student import FINE_TUNE, Student
from napari_unet.engine.train import Control, fine_tune, train
from napari_unet.nets.model import load_model, model_from_bytes
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


# --- what is learnt ---------------------------------------------------------------------------


def test_a_few_partial_corrections_teach_another_look(disc_model, taught, correct, quick):
    """From half the discs of five pictures the model learns dark discs, on held-out and on unseen pictures."""
    unseen = [correct(seed, look="dark") for seed in (50, 51)]
    before = score(disc_model, unseen)
    events = list(fine_tune(disc_model, taught, steps=150, recipe=quick))
    assert before < 0.5
    assert score(disc_model, unseen) > max(0.7, before + 0.3)
    taken = changes(events)
    assert taken[0].score_before + 0.3 < taken[-1].score_after
    assert all(change.score_after >= change.score_before - quick.tolerance for change in taken)
    assert [change.version for change in taken] == list(range(1, disc_model.version + 1))
    assert {(change.held_out, change.learnt) for change in taken} == {(1, 5)}


@pytest.mark.parametrize("outputs", [1, 3])
def test_classes_are_learnt(make_model, quick, outputs):
    """A model of classes learns from strokes which grey value is which class, with one output or several."""
    random = np.random.default_rng(0)
    truth = np.zeros((64, 64), int)
    truth[:, 20:40], truth[:, 40:] = 1, min(2, max(outputs - 1, 1))
    cases = []
    for held_out in (False, False, True):
        image = (truth * 100 + random.normal(0, 10, truth.shape)).astype(np.float32)
        trusted = random.random(truth.shape) < (1 if held_out else 0.05)
        labels = np.where(trusted, truth, 9)
        cases.append(Correction(image, labels, trusted, Limits((0.0,), (200.0,)), held_out))
    model = make_model("classes", out_channels=outputs)
    events = list(fine_tune(model, cases, steps=75, recipe=quick))
    assert changes(events)[-1].score_after > 0.9
    assert score(model, cases[2:]) > 0.9


def test_what_took_over_is_what_is_saved(disc_model, taught, quick):
    """The weights in use after a take-over are, bit for bit, those that are read back from the file."""
    events = list(fine_tune(disc_model, taught, steps=25, recipe=quick))
    assert changes(events)
    again = model_from_bytes(disc_model.to_bytes())
    assert same(weights(again), weights(disc_model))
    assert score(again, taught) == changes(events)[-1].score_after


def test_held_out_corrections_teach_nothing(disc_model, taught, quick, monkeypatch):
    """Other labels in a held-out correction change not a bit of what is learnt."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "")
    other = replace(taught[5], labels=np.roll(taught[5].labels, 20, 0), image=taught[5].image * 0)
    results = []
    for held_out in (taught[5], other):
        model = disc_model.copy()
        list(fine_tune(model, [*taught[:5], held_out], steps=25, recipe=quick))
        results.append(weights(model))
    assert same(*results)


def test_untrusted_labels_teach_nothing(disc_model, taught, quick):
    """What the labels say where nothing is trusted changes not a bit of what classes learn, nor do undone objects."""
    other = [replace(c, labels=np.where(c.trusted, c.labels, 0)) for c in taught]
    results = []
    for cases in (taught, other):
        model = disc_model.copy()
        list(fine_tune(model, cases, steps=25, recipe=quick))
        results.append(weights(model))
    assert same(*results)


def test_the_same_seed_learns_the_same(disc_model, taught, quick):
    """Two trainings with one seed give the same weights and events, another seed gives others."""
    results = []
    for seed in (3, 3, 4):
        model = disc_model.copy()
        events = list(fine_tune(model, taught, steps=25, seed=seed, recipe=quick))
        results.append((weights(model), [repr(event) for event in events]))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0])


def test_statistics_of_batchnorm_stay(make_model, taught, quick):
    """Fine-tuning leaves BatchNorm's statistics as they were, bit for bit."""
    model = make_model(norm="batch")
    before = weights(model)
    list(fine_tune(model, taught, steps=50, recipe=quick))
    assert model.version >= 1
    after = weights(model)
    kept = [key for key in before if "running" in key or "num_batches" in key]
    assert kept
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert not same(before, after)


def test_training_from_pictures_learns_the_statistics(make_model, correct, quick):
    """With `train_norm`, as from whole pictures, BatchNorm's statistics are learnt."""
    model = make_model(norm="batch")
    student = Student(model, replace(quick, train_norm=True), 0)
    list(train(student, [correct(0)], steps=3))
    key = "encoders.0.1.running_mean"
    assert not torch.equal(student.average[key], model.net.state_dict()[key])


# --- corrections that come and go -------------------------------------------------------------


def test_a_new_correction_joins_the_running_training(disc_model, taught, quick):
    """A correction that is appended while the training runs is learnt from the next piece on."""
    results = []
    for late in (False, True):
        model, cases = disc_model.copy(), [taught[0], taught[5]]
        events = []
        for event in fine_tune(model, cases, steps=25, recipe=quick):
            events.append(event)
            if late and len(events) == 5:
                cases.append(taught[1])
        results.append((weights(model), [e.loss for e in events if isinstance(e, TrainStep)], changes(events)))
    assert results[0][1][:5] == results[1][1][:5]
    assert results[0][1][5:] != results[1][1][5:]
    assert not same(results[0][0], results[1][0])
    assert [c.learnt for c in results[0][2] + results[1][2]] == [1, 2]


def test_a_new_correction_keeps_the_training_going(disc_model, taught, quick):
    """Without a budget the training rests after some rounds without anything new or better, not before."""
    recipe = replace(quick, round_steps=2, patience=3, tolerance=2.0)
    rounds = []
    for grows in (0, 4, 9):
        cases = taught[:1]
        count = 0
        for event in fine_tune(disc_model.copy(), cases, recipe=recipe):
            if isinstance(event, TrainStep) and event.kept is not None:
                count += 1
                if count == grows or (grows and count == 2):
                    cases.append(taught[count])
        rounds.append(count)
    assert rounds[0] == 3
    assert rounds[1] > rounds[0]


@pytest.mark.parametrize(("seconds", "rounds"), [(math.inf, 3), (0.0, 12)], ids=["in time", "slow"])
def test_a_slow_computer_rests_after_as_many_steps(disc_model, taught, quick, seconds, rounds):
    """Rounds that time ends early, here after one of four steps, count as the part that they are."""
    recipe = replace(quick, round_steps=4, patience=3, tolerance=2.0, round_seconds=seconds)
    events = [e for e in fine_tune(disc_model, taught[:1], recipe=recipe) if isinstance(e, TrainStep)]
    assert sum(event.kept is not None for event in events) == rounds
    assert events[-1].step == 12


def test_a_replaced_correction_is_news(disc_model, taught, quick):
    """A correction that takes another one's place, as when more is painted there, is as good as a new one."""
    recipe = replace(quick, round_steps=2, patience=2, tolerance=2.0)
    cases, count = taught[:1], 0
    for event in fine_tune(disc_model, cases, recipe=recipe):
        if isinstance(event, TrainStep) and event.kept is not None:
            count += 1
            if count == 1:
                cases[0] = replace(cases[0])
    assert count == 4


def test_a_withdrawn_correction_takes_no_memory(disc_model, taught, quick, monkeypatch):
    """At the end of a round only the corrections that are still there are kept as examples."""
    kept = []
    monkeypatch.setattr(ExampleCache, "keep_only", lambda self, corrections: kept.append(len(corrections)))
    cases = list(taught)
    for number, _ in enumerate(fine_tune(disc_model, cases, steps=4, recipe=replace(quick, round_steps=2))):
        if number == 0:
            del cases[1:4]
    assert kept == [3, 3]


def test_a_training_ends_when_everything_is_undone(disc_model, taught, quick):
    """If all corrections are withdrawn the training ends, and the model stays as it is."""
    before = weights(disc_model)
    cases = taught[:2]
    for number, _ in enumerate(fine_tune(disc_model, cases, recipe=quick)):
        if number == 7:
            cases.clear()
    assert same(weights(disc_model), before)
    assert disc_model.version == 0


def test_nothing_to_learn_from_is_a_sentence(disc_model, correct, quick):
    """No correction, held-out ones alone, or ones without trust: the error says what to do, before any work."""
    blank = Correction(np.zeros((8, 8)), np.zeros((8, 8), int), np.zeros((8, 8), bool))
    for cases in ([], [correct(0, held_out=True)], [blank]):
        with pytest.raises(ModelError, match="Correct an object"):
            fine_tune(disc_model, cases, recipe=quick)


def test_a_model_of_volumes_is_a_sentence(make_model, correct):
    """A 3-D model says that it does not learn yet."""
    with pytest.raises(ModelError, match="Choose a 2-D model"):
        fine_tune(make_model(ndim=3, depth=1), [correct(0)])
    volume = Correction(np.zeros((3, 8, 8)), np.ones((3, 8, 8), int), np.ones((3, 8, 8), bool), channels_first=False)
    with pytest.raises(ModelError, match="each slice of a stack"):
        fine_tune(make_model(), [volume])
    with pytest.raises(ModelError, match="no seed"):
        fine_tune(make_model(), [correct(0)], seed=-1)


# --- budgets and pieces -----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 30])
def test_a_budget_of_steps_is_kept(disc_model, taught, quick, steps):
    """As many steps are made as were asked for, and the last round ends with a verdict."""
    events = list(fine_tune(disc_model, taught, steps=steps, recipe=replace(quick, batch=2)))
    done = [event for event in events if isinstance(event, TrainStep)]
    assert done[-1].step == steps
    assert len(ends(events)) == -(-steps // quick.round_steps)
    assert isinstance(events[-1], WeightsChanged) or events[-1].kept is False


@pytest.mark.parametrize("budget", [{"steps": 0}, {"seconds": 0}, {"seconds": 0.0, "steps": 9}])
def test_a_budget_of_nothing_ends_at_once(disc_model, taught, quick, budget):
    """Whoever asks for no steps, or no time, gets the model back as it was."""
    before = disc_model.version
    assert not list(itertools.islice(fine_tune(disc_model, taught, recipe=quick, **budget), 100))
    assert disc_model.version == before


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one second each time somebody looks."""
    ticks = itertools.count()
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


@pytest.mark.usefixtures("clock")
def test_a_budget_of_seconds_is_kept(disc_model, taught, quick):
    """The training ends in the step after its time is up."""
    events = list(fine_tune(disc_model, taught, seconds=30, recipe=quick))
    learning = [event for event in events if event not in changes(events) and event.progress < 1]
    assert len(learning) < 60
    assert ends(events)


@pytest.mark.usefixtures("clock")
def test_seconds_are_kept_for_judging():
    """What the first round's judging took is kept in the next ones, so that the last one is judged in time."""
    budget = engine.Budget(None, 100.0, reserve=5.0)  # a look at the clock takes a second
    assert budget.left() == 99.0
    assert budget.used(10**6) == (2.0 + 5.0) / 100
    assert engine.Budget(3, None).left() == math.inf
    assert engine.Budget(None, math.inf, reserve=5.0).used(10**6) == 0.0


@pytest.mark.usefixtures("clock")
def test_a_budget_of_steps_has_no_clock(disc_model, taught, quick):
    """On a slow computer the same rounds are made, so that a seed gives the same weights there."""
    events = list(fine_tune(disc_model, taught, steps=50, recipe=replace(quick, round_seconds=10.0)))
    assert [end.step for end in ends(events)] == [25, 50]


@pytest.mark.usefixtures("clock")
def test_a_round_ends_when_its_time_is_up(disc_model, taught, quick):
    """However slow the computer, a round takes over after its seconds."""
    recipe = replace(quick, round_seconds=10.0, round_steps=1000)
    events = fine_tune(disc_model, taught, recipe=recipe)
    first = list(itertools.takewhile(lambda event: isinstance(event, TrainStep), events))
    assert 2 < first[-1].step < 12


def test_a_round_can_be_ended_from_outside(disc_model, taught, quick):
    """`finish_round` ends the round with the step that runs, and the next round runs its whole length again."""
    control, seen = Control(), []
    for event in fine_tune(disc_model, taught, steps=30, recipe=replace(quick, batch=2), control=control):
        seen.append(event)
        if len(seen) == 5:  # two events a piece, two pieces a step: the second step has begun
            control.finish_round = True
    assert [event.step for event in ends(seen)] == [2, 27, 30]
    assert not control.finish_round


def test_pieces_are_short_and_progress_rises(disc_model, taught, quick):
    """Crops, then their gradients: each is reported, `batch` of both make a step, and the progress rises to the end."""
    events = list(fine_tune(disc_model, taught, steps=4, recipe=replace(quick, batch=3, round_steps=4)))
    pieces = [event for event in events if isinstance(event, TrainStep)]
    assert [event.step for event in pieces[:24]] == [0] * 5 + [1] * 6 + [2] * 6 + [3] * 6 + [4]
    rising = [event.progress for event in pieces]
    assert rising == sorted(rising)
    assert rising[-1] == 1
    assert {event.round for event in pieces} == {1}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_learning_needs_gradients_whatever_the_caller_has_set(taught, quick, mode):
    """A training that is pulled where torch was told to keep no gradients learns, and leaves that as it was."""
    with mode():
        model = load_model("scratch", device="cpu")
        before = weights(model)
        for _ in fine_tune(model, taught, steps=2, recipe=quick):
            assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        model.replace_weights({name: value + 1 for name, value in before.items()})
        assert not same(before, weights(model))


def test_the_model_changes_between_two_pieces_alone(disc_model, taught, quick):
    """A training that is closed in the middle of a round has changed nothing."""
    before = weights(disc_model)
    job = fine_tune(disc_model, taught, recipe=quick)
    for _ in range(20):
        next(job)
        assert same(weights(disc_model), before)
    job.close()
    assert same(weights(disc_model), before)
    assert disc_model.version == 0


def test_the_recipe_of_the_window_is_short_pieces():
    """A piece of fine-tuning is one crop, and a round lasts no longer than a user waits."""
    assert FINE_TUNE.micro == 1
    assert FINE_TUNE.round_seconds <= 15
    assert not FINE_TUNE.train_norm


# --- from whole pictures ----------------------------------------------------------------------


def test_the_learning_rate_warms_up_and_falls(make_model, correct, quick, monkeypatch):
    """From whole pictures the rate rises over 100 steps and falls to 0 along a cosine."""
    student = Student(make_model(), replace(quick, micro=1, crop=16, warmup=100), 0)
    rates = []
    monkeypatch.setattr(student, "study", lambda corrections: student._losses.append(torch.ones(())))
    monkeypatch.setattr(student.optimizer, "step", lambda rate, healthy: rates.append(rate))
    events = list(train(student, [correct(0)], steps=400))
    assert np.argmax(rates) in range(90, 110)
    assert rates[0] < 0.02 * quick.learning_rate
    assert rates[-1] < 1e-3 * quick.learning_rate
    assert (np.diff(rates[110:]) < 0).all()
    assert [event.step for event in events] == list(range(1, 401))
    assert [event.progress for event in events] == [n / 400 for n in range(400)]


@pytest.mark.usefixtures("clock")
def test_a_budget_of_time_goes_on_where_it_was(make_model, correct, quick):
    """A training that has used up half its time goes on from the middle of its schedule."""
    student = Student(make_model(), replace(quick, micro=1, crop=16), 0)
    events = list(train(student, [correct(0)], seconds=40, used=0.5))
    assert events[0].progress >= 0.5
    assert len(events) <= 20
    assert not list(train(student, [correct(0)], seconds=40, used=1.0))
