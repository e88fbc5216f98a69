"""Learner: the loop from corrections to new weights and back, as a session runs it."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet.core.corrections import TAUGHT
from napari_unet.core.errors import ModelError
from napari_unet.core.events import TrainStep
from napari_unet.core.geometry import Box
from napari_unet.engine.train import Recipe
from napari_unet.nets.model import load_model
from napari_unet.session import jobs
from tests.session.conftest import start


def bytes_in_use(session):
    """The file of the model in use (nothing runs meanwhile)."""
    return session._learner.device().model.to_bytes()


def predicted(session, ear, picture):
    """The labels of the whole picture, from the model in use."""
    ear.forget()
    session.predict(picture.key, Box.whole(picture.source.shape))
    ear.wait(lambda: any(p.done == p.total for p in ear.of("prediction_ready")))
    return {p.core: p.labels for p in ear.of("prediction_ready")}


@pytest.fixture
def gate(monkeypatch):
    """Lets the training go on only one event at a time: `gate.release()` gives one."""
    semaphore, learn = threading.Semaphore(0), jobs.fine_tune

    def gated(*args, **kwargs):
        for event in learn(*args, **kwargs):
            semaphore.acquire(timeout=60)
            yield event

    monkeypatch.setattr(jobs, "fine_tune", gated)
    yield semaphore
    semaphore.release(100_000)


def test_learning_starts_by_itself_and_ends_when_nothing_is_new(quick, make_session, source, paint):
    """After the first correction the model learns, takes over, and rests; curve, versions and counts tell of it."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    state = session.state
    assert (state.corrections, state.pictures, state.learnt) == (1, 1, 1)
    assert state.version == ear.of("weights_changed")[-1].version == len(state.versions) - 1
    assert state.versions[-1].learnt == ear.of("weights_changed")[-1].learnt == 1
    assert {"learning", "waiting"} <= {s.learning for s in ear.of("state_changed")}
    assert session.history[-1] in (*ear.of("weights_changed"), *ear.of("stepped"))
    bars = [p for p in ear.of("progressed") if p.job == "learn"]
    assert bars[-1].done == bars[-1].total
    assert all(p.done < p.total for p in bars[:-1])
    assert ear.of("failed") == []


def test_what_the_user_set_is_never_changed_by_learning(quick, make_session, source, paint):
    """Truth and trust are the user's: rounds and refreshed predictions leave every voxel as it was."""
    session, ear, picture = start(make_session, source)
    predicted(session, ear, picture)
    for number, place in enumerate([(40, 40), (70, 200), (180, 180)], start=1):
        session.add_edit(paint(picture, place, number))
    truth, taught = picture.truth.copy(), picture.taught.copy()
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert np.array_equal(picture.truth, truth)
    assert np.array_equal(picture.taught, taught)
    assert (taught == TAUGHT).sum() == 3 * 249


def test_new_weights_refresh_the_view(quick, make_session, source, paint):
    """After a take-over the picture that is watched is predicted anew, by the new weights."""
    session, ear, picture = start(make_session, source)
    predicted(session, ear, picture)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    ear.wait(lambda: not session.state.predicting)
    assert ear.of("prediction_ready")[-1].version == session.state.version > 0


def test_switched_off_it_learns_nothing_and_switched_on_what_was_missed(quick, make_session, source, paint):
    """Corrections made while learning is off wait until it is on."""
    session, ear, picture = start(make_session, source)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    assert session._keeper.flush(60)
    assert session.state.learning == "off"
    assert not session._worker.is_busy("learn")
    session.learn(True)
    ear.wait(lambda: ear.of("weights_changed"))


def test_switching_off_in_a_round_ends_it_and_switching_on_begins_again(quick, make_session, gate, source, paint):
    """Off means off at once; what was being learnt is learnt when it is on again."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.learn(False)
    assert session.state.learning == "off"
    gate.release(2)
    ear.wait(lambda: not session._worker.is_busy("learn"))
    assert len(ear.of("stepped")) <= 2
    session.learn(True)
    assert session.state.learning == "learning"
    gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed"))


def test_a_take_over_that_has_begun_is_told_even_if_learning_is_switched_off(quick, make_session, gate, source, paint):
    """The weights in use are always those of a version that is known and kept."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))

    def is_taking_over():
        gate.release()
        return any(step.kept for step in ear.of("stepped"))

    ear.wait(is_taking_over)
    session.learn(False)
    gate.release(3)
    ear.wait(lambda: not session._worker.is_busy("learn"))
    model = session._learner.device().model
    assert session.state.learning == "off"
    assert model.version == session.state.version == ear.of("weights_changed")[-1].version
    assert session._keeper.flush(60)
    assert session._keeper.project.model_bytes(model.version) == model.to_bytes()


def test_a_paused_training_goes_on_where_it_was(quick, make_session, gate, source, paint):
    """While paused no piece is done and no other training begins."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.pause(True)
    gate.release(3)
    predicted(session, ear, picture)  # other work goes on
    session.add_edit(paint(picture, (90, 60)))
    assert session._keeper.flush(60)
    steps = len(ear.of("stepped"))
    assert session.state.learning == "paused"
    predicted(session, ear, picture)
    assert len(ear.of("stepped")) == 0
    assert steps <= 1
    session.pause(False)
    assert session.state.learning == "learning"
    gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed"))
    assert ear.of("stepped")[0].step > 0


def test_pausing_before_there_is_anything_holds_what_comes(quick, make_session, source, paint):
    """Paused while waiting: a new correction starts nothing until it is let go on."""
    session, ear, picture = start(make_session, source)
    session.pause(True)
    session.add_edit(paint(picture, (60, 60)))
    assert session._keeper.flush(60)
    assert session.state.learning == "paused"
    session.pause(False)
    ear.wait(lambda: ear.of("weights_changed"))


def test_told_now_it_ends_the_round_and_takes_over(make_session, source, paint, monkeypatch):
    """'Learn now' does not wait for the round's end."""
    endless = Recipe(crop=64, batch=1, round_steps=10**6, round_seconds=1e6)
    monkeypatch.setattr(jobs, "fine_tune", partial(jobs.fine_tune, recipe=endless))
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: len(ear.of("stepped")) > 2)
    session.learn_now()
    ear.wait(lambda: any(step.kept is not None for step in ear.of("stepped")))


def test_told_now_it_starts_though_nothing_is_new_and_even_when_off(quick, make_session, source, paint):
    """'Learn now' starts a training at once; when that is through, off is still off."""
    session, ear, picture = start(make_session, source)
    session.learn_now()  # nothing to learn from: nothing happens
    assert session.state.learning == "waiting"
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    assert session._keeper.flush(60)
    session.learn_now()
    ear.wait(lambda: ear.of("weights_changed") and not session._worker.is_busy("learn"))
    ear.wait_state(learning="off")


def test_corrections_that_arrive_in_a_round_are_not_counted_as_learnt(quick, make_session, gate, source, paint):
    """'1 of 2': the one that came while the round ran is learnt by the next round."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.add_edit(paint(picture, (60, 90), 2))
    assert session._keeper.flush(60)

    def has_taken_over(times):
        gate.release()
        return len(ear.of("weights_changed")) >= times

    ear.wait(lambda: has_taken_over(1))
    assert (session.state.learnt, session.state.corrections) == (1, 2)
    ear.wait(lambda: has_taken_over(2))
    assert (session.state.learnt, session.state.corrections) == (2, 2)


def test_a_training_that_keeps_failing_is_told_once(make_session, source, paint, monkeypatch):
    """A failure ends the training; it is tried again when there is something new, not over and over."""
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        raise ModelError("This cannot be learnt.")
        yield

    monkeypatch.setattr(jobs, "fine_tune", broken)
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("failed") and session.state.learning == "waiting")
    assert session._keeper.flush(60)
    assert (len(calls), ear.of("failed")) == (1, ["This cannot be learnt."])
    session.add_edit(paint(picture, (90, 90)))
    ear.wait(lambda: len(ear.of("failed")) == 2)


def test_rounds_that_are_not_kept_end_in_rest(make_session, source, paint, monkeypatch):
    """If nothing better comes of it, the training rests instead of beginning again for ever."""
    calls = []

    def hopeless(*args, **kwargs):
        calls.append(1)
        for number in range(1, 4):
            yield TrainStep(number, number, 0.5, 0.3)
            yield TrainStep(number, number, 1.0, 0.3, kept=False, score=0.1, reason="The old ones stay.")

    monkeypatch.setattr(jobs, "fine_tune", hopeless)
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("stepped") and session.state.learning == "waiting")
    assert len(calls) == 1
    assert (session.state.version, session.state.learnt) == (0, 0)
    assert session.history[-1].kept is False


def test_going_back_gives_the_very_same_weights_and_masks(quick, make_session, source, paint):
    """Each version can be had back: the same bytes, the same masks; and learning counts on from the newest number."""
    session, ear, picture = start(make_session, source)
    kept = {0: (bytes_in_use(session), predicted(session, ear, picture))}
    for number, place in enumerate([(60, 60), (60, 200), (200, 60)], start=1):
        ear.forget()
        session.add_edit(paint(picture, place, number))
        ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
        kept[session.state.version] = (bytes_in_use(session), predicted(session, ear, picture))
    newest = session.state.version
    for version, (data, labels) in kept.items():
        ear.forget()
        session.revert(version)
        ear.wait_state(version=version, predicting=False)
        assert bytes_in_use(session) == data
        again = predicted(session, ear, picture)
        assert all(np.array_equal(again[core], labels[core]) for core in labels)
        assert session.state.learnt == next(v.learnt for v in session.state.versions if v.number == version)
    session.revert(1)
    ear.wait_state(version=1)
    ear.forget()
    session.add_edit(paint(picture, (128, 128), 9))
    ear.wait(lambda: ear.of("weights_changed"))
    assert ear.of("weights_changed")[0].version == newest + 1
    ear.wait_state(learning="waiting")
    numbers = [v.number for v in session.state.versions]
    assert numbers == sorted(set(numbers))
    assert session.state.learnt == session.state.corrections == 4
    assert ear.of("failed") == []


def test_the_project_notes_the_version_that_was_gone_back_to(quick, make_session, source, paint):
    """Tomorrow starts with the version in use today."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    session.revert(0)
    ear.wait_state(version=0)
    assert session._keeper.flush(60)
    assert session._keeper.project.current == 0
    assert session.state.learnt == 0


def test_a_model_that_cannot_be_loaded_changes_nothing(quick, make_session, source, paint, tmp_path):
    """A wrong file is one sentence; the model, its versions and what is on disk stay."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert session._keeper.flush(60)
    before, data = session.state, bytes_in_use(session)
    ear.forget()
    session.use_model(str(tmp_path / "nothing.safetensors"))
    ear.wait(lambda: ear.of("failed"))
    (sentence,) = ear.of("failed")
    assert "nothing.safetensors" in sentence
    assert session._keeper.flush(60)
    assert session.state == before
    assert bytes_in_use(session) == data
    session.use_device("cpu")
    ear.wait(lambda: not session._worker.is_busy("model"))
    assert bytes_in_use(session) == data
    assert [v.number for v in session._keeper.versions()] == [v.number for v in before.versions]


def test_another_model_learns_what_there_is(quick, make_session, source, paint, model_file, tmp_path):
    """Corrections stay when the model changes; versions and counts begin anew."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    other = load_model(model_file, device="cpu")
    other.card = replace(other.card, name="other")
    with torch.no_grad():
        next(iter(other.net.parameters())).add_(0.01)
    other.save(tmp_path / "other.safetensors")
    ear.forget()
    session.use_model(str(tmp_path / "other.safetensors"))
    ear.wait_state(model="other")
    states = [s for s in ear.of("state_changed") if s.model == "other"]
    assert states[0].version == 0
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert [v.number for v in session.state.versions][:2] == [0, 1]
    assert session._keeper.flush(60)
    assert Path(session._keeper.project.model) == tmp_path / "other.safetensors"
    assert ear.of("failed") == []


def test_a_device_that_is_chosen_at_once_does_not_lose_the_model(make_session, source, model_file):
    """Settings are applied right after the start, while the model is still loading."""
    session, ear = make_session(device="auto")
    session.use_device("cpu")
    ear.wait(lambda: session.state.model == "tiny")
    assert session.state.device.startswith("CPU")
    assert session.device_names()[-1] == "cpu"
    session.use_device("cuda:99")
    ear.wait(lambda: ear.of("failed"))
    assert "cuda:99" in ear.of("failed")[0]
    assert session.state.model == "tiny"


def test_without_a_model_a_device_can_still_be_mended(make_session, source):
    """If the device that was wanted is not there, choosing another one loads the model."""
    session, ear = make_session(device="cuda:99")
    ear.wait(lambda: ear.of("failed"))
    session.use_device("cpu")
    ear.wait(lambda: session.state.model == "tiny")


def test_a_training_goes_on_on_another_device(quick, make_session, gate, source, paint):
    """Changing the device in a round begins the round anew there, with the same weights."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.use_device("cpu")
    gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert session.state.learnt == 1


def test_a_listener_that_raises_stops_nothing(quick, make_session, source, paint, errors):
    """A dock's mistake ends neither the training, nor the prediction, nor the saving."""
    session, ear, picture = start(make_session, source)
    for name in ("stepped", "weights_changed", "state_changed", "progressed", "prediction_ready"):
        getattr(session, name).connect(lambda value: 1 / 0)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    predicted(session, ear, picture)
    assert session.state.saved
    assert errors
