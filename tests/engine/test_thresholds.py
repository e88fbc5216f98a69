"""Thresholds of a model: chosen by what the user said, and kept with its weights."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet.core.card import ModelCard
from napari_unet.core.events import WeightsChanged
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, settings_for
from napari_unet.engine import evaluate as scoring
from napari_unet.engine import teacher, trial
from napari_unet.engine import thresholds as finding
from napari_unet.engine import train as engine
from napari_unet.engine.evaluate import Score, score_of
from napari_unet.engine.predict import labels_of, plane_of, predict
from napari_unet.engine.segment import segment
from napari_unet.engine.thresholds import GAIN, HARDLY, SEEN, SURELY, better_thresholds
from napari_unet.engine.train import fine_tune
from napari_unet.nets.model import load_model


def end_of(work):
    """What a generator returns, and the number of its pieces."""
    ended = []

    def run():
        ended.append((yield from work))

    pieces = sum(1 for _ in run())
    return ended[0], pieces


@pytest.fixture
def tries(monkeypatch):
    """Function that has cards scored by a rule; gives what is found from a card, and the number of pieces of work."""

    def find(score, card=ModelCard(), corrections=3, left=lambda: 1.0):  # noqa: B008  a card never changes
        monkeypatch.setattr(finding, "outputs_on", lambda *_: None)
        monkeypatch.setattr(finding, "score_of", lambda card, *_: Score({1: [score(card)]}, 1))
        return end_of(better_thresholds(SimpleNamespace(card=card), {}, [None] * corrections, left))

    return find


def test_each_moves_a_step_to_where_the_score_is_better(tries):
    """First how far objects are parted, then from where on they begin; all else on the card stays."""

    def score(card):
        return 0.7 - abs(card.separation - 0.8) / 2 - abs(card.foreground - 0.4) / 2

    card, _ = tries(score, ModelCard(name="mine"))
    assert card == ModelCard(name="mine", foreground=0.4, separation=0.6)
    again, _ = tries(score, card)
    assert (again.foreground, again.separation) == (0.4, 0.7)


def test_they_stay_within_bounds(tries):
    """A model whose thresholds left them would find next to nothing, or one object."""
    card = ModelCard()
    for _ in range(9):
        card, _ = tries(lambda card: 0.5 + (card.foreground - card.separation) / 4, card)
    assert (card.foreground, card.separation) == (0.8, 0.2)


def test_others_must_be_clearly_better(tries):
    """Else a chance would change what the user sees."""
    for more, found in ((GAIN / 2, 0.5), (2 * GAIN, 0.6)):
        card, _ = tries(lambda card, more=more: 0.5 + (SURELY - HARDLY) * more * (card.separation == 0.6))
        assert card.separation == found


def test_what_counts_is_how_many_objects_are_found(tries):
    """Not how exactly: an outline that fits better is worth no object that is lost."""
    for rough, exact, found in ((SURELY, 1.0, 0.5), (0.0, HARDLY, 0.5), (0.45, 0.55, 0.6)):
        card, _ = tries(lambda card, rough=rough, exact=exact: exact if card.separation == 0.6 else rough)
        assert card.separation == found


def test_work_comes_in_short_pieces(tries):
    """One for each correction and way to build; a click waits for no more. Only the newest corrections are seen."""
    assert tries(lambda _: 0.5)[1] == 3 + 3 * 5
    assert tries(lambda _: 0.5, corrections=100)[1] == SEEN + SEEN * 5


def test_when_time_is_up_they_stay(tries):
    """What was seen of them until then is no choice."""
    seconds = iter([1.0, 1.0, 0.0])
    assert tries(lambda card: 1 - card.separation, left=lambda: next(seconds)) == (ModelCard(), 3 + 3 * 3)


def test_masks_are_built_with_the_thresholds_of_the_model(disc_model, draw):
    """By `segment`, and tile by tile in napari, where a half of the user's is that of the model."""
    image, _ = draw(1)
    before, plane = segment(disc_model, image), plane_of(disc_model, ImageSource.of_array(image))
    asked = InstanceSettings(foreground=0.7)
    wanted = list(predict(disc_model, plane, settings=asked))[-1].labels
    disc_model.card = replace(disc_model.card, foreground=0.7)
    assert (segment(disc_model, image) > 0).sum() < (before > 0).sum()
    assert np.array_equal(list(predict(disc_model, plane))[-1].labels, wanted)
    assert (list(predict(disc_model, plane, settings=asked))[-1].labels > 0).sum() < (wanted > 0).sum()


@pytest.fixture
def found(monkeypatch):
    """What is found, of however few objects, is a separation of 0.3."""

    def find(model, *_):
        yield
        return replace(model.card, separation=0.3)

    monkeypatch.setattr(trial, "better_thresholds", find)
    monkeypatch.setattr(trial, "ENOUGH", 0)


@pytest.mark.usefixtures("found")
def test_a_round_that_takes_over_finds_them(disc_model, taught, quick, monkeypatch, tmp_path):
    """And a file keeps them."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "")
    list(fine_tune(disc_model, taught, steps=4, recipe=replace(quick, round_steps=2)))
    assert disc_model.version == 2
    disc_model.save(tmp_path / "learnt.safetensors")
    assert load_model(tmp_path / "learnt.safetensors").card.separation == 0.3


@pytest.mark.usefixtures("found")
def test_a_round_that_is_refused_moves_nothing(disc_model, taught, quick, monkeypatch):
    """Old weights stay with their thresholds."""
    monkeypatch.setattr(engine, "_why_not", lambda *_, **__: "no")
    list(fine_tune(disc_model, taught, steps=2, recipe=replace(quick, round_steps=2)))
    assert disc_model.card.separation == 0.5


@pytest.mark.usefixtures("found")
def test_weights_are_judged_with_their_thresholds(disc_model, taught, quick, monkeypatch):
    """New ones with those found for them, old ones with theirs."""
    monkeypatch.setattr(trial, "score_of", lambda card, *_: Score({1: [1 - card.separation]}, 1))
    events = list(fine_tune(disc_model, taught, steps=4, recipe=replace(quick, round_steps=2)))
    changes = [event for event in events if isinstance(event, WeightsChanged)]
    assert [round(score, 6) for e in changes for score in (e.score_before, e.score_after)] == [0.5, 0.7, 0.7, 0.7]


@pytest.mark.usefixtures("found")
def test_thresholds_that_do_harm_are_left(disc_model, taught, quick, monkeypatch):
    """Where the corrections that decide score lower with them than what is in use, the weights keep the usual ones."""
    monkeypatch.setattr(trial, "score_of", lambda card, *_: Score({1: [card.separation]}, 1))
    events = list(fine_tune(disc_model, taught, steps=2, recipe=replace(quick, round_steps=2)))
    assert [event.score_after for event in events if isinstance(event, WeightsChanged)] == [0.5]
    assert disc_model.card.separation == 0.5


def test_corrections_tell_that_pieces_are_one_object(disc_model, correct, monkeypatch):
    """Where the network breaks what the user drew whole, objects that touch are kept together from then on."""
    case = correct(1)
    pieces = np.zeros((2, *case.labels.shape), np.float16)
    pieces[0] = case.labels > 0
    pieces[1] = pieces[0] * (0.7 + 0.3 * np.sin(np.arange(case.labels.shape[1]) * 0.9))
    monkeypatch.setattr(scoring, "_outputs_of", lambda *_: pieces)
    card, _ = end_of(better_thresholds(disc_model, {}, [case], lambda: math.inf))
    assert card.separation < 0.5
    before, after = (score_of(each, pieces, case).mean for each in (disc_model.card, card))
    assert after > before + GAIN


@pytest.mark.parametrize("half", [0.5, 0.8])
def test_doubt_is_largest_at_the_threshold(half):
    """And none is left where the network is sure."""
    values = np.array([[[0, half / 2, half, (1 + half) / 2, 1]], [[0, 0, 0, 0, 0]]], np.float16)
    doubt = labels_of(values, "objects", settings_for(ModelCard(foreground=half)), 1.0)[1]
    assert doubt[0] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=2e-3)


@pytest.mark.parametrize(
    ("kind", "enough", "known"), [("classes", 0, 1.1), ("objects", 1000, 1.1), ("objects", 0, 0.0)]
)
def test_they_are_not_sought(make_model, taught, quick, monkeypatch, kind, enough, known):
    """Classes have none, few objects tell nothing, and what the model knew is right with those that there are."""
    monkeypatch.setattr(trial, "better_thresholds", lambda *_: pytest.fail("sought"))
    monkeypatch.setattr(trial, "ENOUGH", enough)
    monkeypatch.setattr(teacher, "KNOWN", known)
    cases = [replace(c, labels=np.minimum(c.labels, 1)) for c in taught]
    assert list(fine_tune(make_model(kind), cases, steps=2, recipe=replace(quick, round_steps=2, teacher=1.0)))
