"""Learner: the loop from corrections to new weights and back, as a session runs it."""

from functools import partial

import numpy as np
import pytest

from napari_unet.core.corrections import TAUGHT
from napari_unet.core.errors import ModelError
from napari_unet.core.events import TrainStep
from napari_unet.engine.student import Recipe
from napari_unet.session import jobs
from tests.session.conftest import predicted, start


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


def test_switching_off_in_a_round_ends_it_and_switching_on_begins_again(quick, make_session, train_gate, source, paint):
    """Off means off at once; what was being learnt is learnt when it is on again."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.learn(False)
    assert session.state.learning == "off"
    train_gate.release(2)
    ear.wait(lambda: not session._worker.is_busy("learn"))
    assert len(ear.of("stepped")) <= 2
    session.learn(True)
    assert session.state.learning == "learning"
    train_gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed"))


def test_a_take_over_that_has_begun_is_told_though_switched_off(quick, make_session, train_gate, source, paint):
    """The weights in use are always those of a version that is known and kept."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))

    def is_taking_over():
        train_gate.release()
        return any(step.kept for step in ear.of("stepped"))

    ear.wait(is_taking_over)
    session.learn(False)
    train_gate.release(3)
    ear.wait(lambda: not session._worker.is_busy("learn"))
    model = session._learner.device().model
    assert session.state.learning == "off"
    assert model.version == session.state.version == ear.of("weights_changed")[-1].version
    assert session._keeper.flush(60)
    assert session._keeper.project.model_bytes(model.version) == model.to_bytes()


def test_a_paused_training_goes_on_where_it_was(quick, make_session, train_gate, source, paint):
    """While paused no piece is done and no other training begins."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.pause(True)
    train_gate.release(3)
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
    train_gate.release(1000)
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


def test_corrections_that_arrive_in_a_round_are_not_counted_as_learnt(quick, make_session, train_gate, source, paint):
    """'1 of 2': the one that came while the round ran is learnt by the next round."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.add_edit(paint(picture, (60, 90), 2))
    assert session._keeper.flush(60)

    def has_taken_over(times):
        train_gate.release()
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
    assert session.state.learn_problem == "This cannot be learnt."
    session.add_edit(paint(picture, (90, 90)))
    ear.wait(lambda: len(ear.of("failed")) == 2)
    monkeypatch.setattr(jobs, "fine_tune", lambda *_, **__: iter(()))
    session.add_edit(paint(picture, (90, 60)))
    ear.wait(lambda: not session.state.learn_problem)


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


def test_a_listener_that_raises_stops_nothing(quick, make_session, source, paint, errors):
    """A dock's mistake ends neither the training, nor the prediction, nor the saving."""
    session, ear, picture = start(make_session, source)
    for name in ("stepped", "weights_changed", "state_changed", "progressed", "prediction_ready"):
        getattr(session, name).connect(lambda value: 1 / 0)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    predicted(session, ear, picture)
    ear.wait(lambda: session.state.saved)
    assert errors


def test_undoing_everything_ends_the_training(quick, make_session, train_gate, source, paint):
    """When nothing is left to learn from, the training rests without a word; a new correction begins another."""
    session, ear, picture = start(make_session, source)
    edit = paint(picture, (60, 60))
    nothing = np.zeros(edit.box.shape, np.int32)
    session.add_edit(edit)
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.withdraw(picture.key, edit.box, nothing, nothing.astype(np.uint8))
    assert session._keeper.flush(60)
    train_gate.release(100)
    ear.wait_state(learning="waiting", corrections=0)
    session.add_edit(paint(picture, (90, 90)))
    train_gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed"))
    assert ear.of("failed") == []


def test_a_training_whose_corrections_were_undone_before_it_begins_says_nothing(make_session, source, paint):
    """Undone at once: there is nothing to learn, and nothing to tell."""
    session, ear, picture = start(make_session, source)
    pool = session._learner._pool
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    assert session._keeper.flush(60)
    session._learner._worker.pause("learn", True)
    asked = []
    can_teach = type(pool).can_teach
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(pool), "can_teach", property(lambda self: asked.append(1) or len(asked) == 1))
        session.learn_now()
        ear.wait(lambda: not session._worker.is_busy("learn"))
    assert can_teach.fget(pool)
    assert (ear.of("failed"), ear.of("stepped")) == ([], [])
