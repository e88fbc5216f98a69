"""Models, versions and devices: what is chosen is used, what cannot be loaded changes nothing."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_unet.nets import model
from napari_unet.nets.model import load_model
from napari_unet.session.jobs import load_version
from tests.session.conftest import bytes_in_use, predicted, start


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
    assert session.state.devices[-1] == "cpu"
    session.use_device("cuda:99")
    ear.wait(lambda: ear.of("failed"))
    assert "cuda:99" in ear.of("failed")[0]
    assert session.state.model == "tiny"


def test_what_is_being_loaded_when_the_wish_changes_is_not_used(
    make_session, source, model_file, tmp_path, monkeypatch
):
    """A model that arrives after another one was wanted is dropped, also if that one cannot be loaded."""
    session, ear, _picture = start(make_session, source)
    in_use, is_there, go, load = session._learner.device().model, threading.Event(), threading.Event(), model.load_model

    def slow(*args, **kwargs):
        is_there.set()
        assert go.wait(60)
        return load(*args, **kwargs)

    monkeypatch.setattr(model, "load_model", slow)
    session.revert(0)
    assert is_there.wait(60)
    session.use_model("nothing.safetensors")
    go.set()
    ear.wait(lambda: ear.of("failed") and not session._worker.is_busy("model"))
    assert session._learner.device().model is in_use


def test_a_model_that_is_wanted_before_the_first_one_arrives_may_fail(make_session, source):
    """If nothing is in use yet, the model to begin with is loaded after all."""
    session, ear = make_session()
    session.use_model("nothing.safetensors")
    session.revert(3)
    ear.wait(lambda: session.state.model == "tiny" and not session._worker.is_busy("model"))
    assert [v.number for v in session.state.versions] == [0]


def test_without_a_model_a_device_can_still_be_mended(make_session, source):
    """If the device that was wanted is not there, choosing another one loads the model."""
    session, ear = make_session(device="cuda:99")
    ear.wait(lambda: ear.of("failed"))
    session.use_device("cpu")
    ear.wait(lambda: session.state.model == "tiny")


def test_a_training_goes_on_on_another_device(quick, make_session, train_gate, source, paint):
    """Changing the device in a round begins the round anew there, with the same weights."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.use_device("cpu")
    train_gate.release(1000)
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert session.state.learnt == 1


def test_a_version_rehearses_what_its_model_does(tmp_path, model_file):
    """Of a model of the user's own, too: a version is loaded from bytes, beside which nothing lies."""
    path = tmp_path / "mine.safetensors"
    load_model(model_file, device="cpu").save(path)
    path.with_suffix(".rehearsal.npz").touch()
    version = load_version(path.read_bytes(), "cpu", 3, str(path))
    assert (version.version, version.rehearsal) == (3, path.with_suffix(".rehearsal.npz"))
    assert load_version(path.read_bytes(), "cpu", 3, "scratch").rehearsal is None


def test_a_version_knows_what_it_first_was(tmp_path, model_file):
    """Unless that is gone, or another model has its name by now."""
    path = tmp_path / "mine.safetensors"
    first = load_model(model_file, device="cpu")
    first.save(path)
    version = first.copy()
    version.card = replace(version.card, parent=first.sha256())
    data = version.to_bytes()
    origin = load_version(data, "cpu", 3, str(path)).origin
    assert origin is not None
    assert origin.sha256() == first.sha256()
    version.save(path)
    assert load_version(data, "cpu", 3, str(path)).origin is None
    path.unlink()
    assert load_version(data, "cpu", 3, str(path)).origin is None
