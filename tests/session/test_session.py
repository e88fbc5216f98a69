"""Session: the loop as docks use it: predict, correct, keep, come back tomorrow."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings
from napari_unet.engine import predict as engine
from napari_unet.engine.predict import plane_of
from napari_unet.engine.segment import Assembly, segment
from napari_unet.nets.model import load_model
from napari_unet.session import jobs
from napari_unet.store.project import Project
from tests.session.conftest import is_complete, start, whole


@pytest.fixture
def runs(monkeypatch):
    """How often the network runs."""
    calls, run = [], engine.run_network

    def counted(*args, **kwargs):
        calls.append(1)
        return run(*args, **kwargs)

    monkeypatch.setattr(engine, "run_network", counted)
    return calls


@pytest.fixture
def gate(monkeypatch):
    """Lets the network run only so often: `gate.release()` gives one tile."""
    semaphore, run = threading.Semaphore(0), engine.run_network

    def gated(*args, **kwargs):
        semaphore.acquire(timeout=60)
        return run(*args, **kwargs)

    monkeypatch.setattr(engine, "run_network", gated)
    yield semaphore
    semaphore.release(100_000)


@pytest.fixture
def tiles(monkeypatch):
    """Tiles are small, so that a small picture has many; and they are looked at once."""
    monkeypatch.setattr(engine, "SMALL", 0)
    backend = jobs.backend_of
    monkeypatch.setattr(jobs, "backend_of", lambda model: replace(backend(model), core=64))


# --- pictures and predictions ----------------------------------------------------------------------


def test_a_picture_that_is_opened_twice_is_one(make_session, source):
    """The same voxels, also in another array and under another name, are the same picture."""
    session, _ear, picture = start(make_session, source)
    again = ImageSource.of_array(source.read(whole(picture))[0].copy())
    assert session.open_picture("another name", again) is picture
    assert list(session.pictures) == [picture.key]


@pytest.fixture
def one_thread(monkeypatch):
    """One torch thread everywhere: sums over pixels (GroupNorm's) round otherwise with another number."""
    monkeypatch.setattr(jobs.Device, "spare_cores", lambda self, active: torch.set_num_threads(1))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_predictions_assemble_to_what_the_engine_gives(one_thread, make_session, source, model_file):
    """What arrives tile by tile, in the end, is what `segment` gives at once, at the size that both measure."""
    session, ear, picture = start(make_session, source)
    picture.measured = picture.is_inverted = None
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    ear.wait(lambda: len(ear.of("prediction_ready")) == 2)  # the one tile, and a closer look at it
    assembly = Assembly(np.zeros(source.shape, np.int32))
    assembly.add(ear.of("prediction_ready")[-1])
    expected = segment(load_model(model_file, device="cpu"), source.read(whole(picture))[0])
    assert expected.max() > 5
    assembly.finish()
    assert np.array_equal(assembly.labels, expected)
    bars = [p for p in ear.of("progressed") if p.job == "predict"]
    assert (bars[-1].done, bars[-1].total) == (1, 1)
    assert [s.predicting for s in ear.of("state_changed")][-1] is False


def test_tiles_assemble_to_what_the_engine_gives(one_thread, tiles, make_session, source, model_file):
    """In many tiles, too, the session adds and loses nothing."""
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))
    model = load_model(model_file, device="cpu")
    plane = plane_of(model, source, core=64)
    expected = {p.core: p.labels for p in engine.predict(model, plane) if hasattr(p, "core")}
    found = {p.core: p.labels for p in ear.of("prediction_ready")}
    assert len(found) == 16
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[core], expected[core]) for core in found)


def test_a_newer_request_takes_the_place_of_the_older_one(tiles, make_session, gate, source):
    """Of the older request nothing arrives any more once the newer one is made."""
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    gate.release(2)
    ear.wait(lambda: ear.of("prediction_ready"))
    first = ear.of("prediction_ready")[0].request
    session.predict(picture.key, whole(picture))
    ear.forget()
    gate.release(100)
    ear.wait(lambda: is_complete(ear))
    assert {p.request for p in ear.of("prediction_ready")} == {first + 1}


def test_what_is_looked_at_comes_next(tiles, make_session, gate, source):
    """When the user moves, the tiles of the new view are done before the others."""
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, Box((0, 0), (60, 60)))
    gate.release(1)
    ear.wait(lambda: ear.of("prediction_ready"))
    session.look_at(picture.key, Box((200, 200), (250, 250)))
    session.look_at("no such picture", Box((0, 0), (1, 1)))
    gate.release(3)  # one of them for the tile that is broken off
    ear.wait(lambda: len(ear.of("prediction_ready")) >= 3)
    order = [p.core.start for p in ear.of("prediction_ready")]
    assert order[0] == (0, 0)
    assert (192, 192) in order[1:3]


def test_a_closer_look_waits_until_nothing_else_is_to_be_done(tiles, make_session, source, monkeypatch):
    """It is broken off for whatever comes, goes on after it, and is given up for a new question."""
    session, ear, picture = start(make_session, source)
    monkeypatch.setattr(engine, "SMALL", 2**19)
    looks, blocked = [], threading.Event()
    real = engine.outputs_of

    def noted(model, plane, tile, x, mirrors=((),)):
        if len(mirrors) > 1:
            looks.append(tile.index)
            blocked.wait(60)
        return real(model, plane, tile, x, mirrors)

    monkeypatch.setattr(engine, "outputs_of", noted)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: looks)
    assert session.state.predicting is False
    session.predict(picture.key, whole(picture))  # nothing has to be computed for that
    blocked.set()
    ear.wait(lambda: len(ear.of("prediction_ready")) == 16 + 16 + 16)  # the last look is through, not only begun
    assert len(looks) <= 17  # the tile that was broken off
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: not session.state.predicting)
    time.sleep(0.3)
    assert len(looks) <= 17  # a closer look is taken once


def test_cancelling_stops_within_a_moment(tiles, make_session, gate, source):
    """The state says so at once; the tile that was being computed does not arrive."""
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    gate.release(1)
    ear.wait(lambda: ear.of("prediction_ready"))
    ear.forget()
    begin = time.monotonic()
    session.cancel()
    assert time.monotonic() - begin < 0.3
    assert session.state.predicting is False
    gate.release(100)
    session.use_device("cpu")  # a later job: when it is through, so is the tile
    ear.wait(lambda: not session._worker.is_busy("model"))
    assert ear.of("prediction_ready") == []
    assert ear.of("progressed")[-1].done == ear.of("progressed")[-1].total


def test_thresholds_act_without_the_network(tiles, runs, make_session, source):
    """New thresholds build the objects anew from what the network said before."""
    session, ear, picture = start(make_session, source)
    session.rebuild(session.settings)  # nothing is watched yet: nothing happens
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))
    count = len(runs)
    before = sum((p.labels > 0).sum() for p in ear.of("prediction_ready"))
    ear.forget()
    session.rebuild(replace(session.settings, foreground=0.95))
    ear.wait(lambda: is_complete(ear))
    assert (count, len(runs)) == (16, 16)
    assert sum((p.labels > 0).sum() for p in ear.of("prediction_ready")) < before
    assert session.settings == InstanceSettings(foreground=0.95)


def test_channels_and_diameter_change_what_is_read(make_session, paint):
    """After another choice the picture is read so, and so are its corrections."""
    rng = np.random.default_rng(0)
    source = ImageSource.of_array(rng.integers(0, 255, (2, 128, 128), dtype=np.uint8), channel_axis=0)
    session, _ear, picture = start(make_session, source)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    session.use_channels(picture.key, (1,))
    assert session.state.channels == (picture.key, (1,))
    session.use_diameter(9.0)
    assert session._keeper.flush(60)
    (correction,) = session._learner._pool
    assert len(correction.image) == 1
    assert correction.scale == picture.scale == 2.0
    other = ImageSource.of_array(rng.integers(0, 255, (64, 64), dtype=np.uint8))
    assert session.open_picture("later", other).scale == 2.0


def test_when_memory_runs_out_tiles_are_halved(make_session, source, monkeypatch):
    """A device with too little memory gets smaller tiles, with a sentence, until it fits."""
    run, sizes = engine.run_network, []

    def small_only(model, x, *args, **kwargs):
        sizes.append(x.shape[-1])
        if x.shape[-1] > 220:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(model, x, *args, **kwargs)

    monkeypatch.setattr(engine, "run_network", small_only)
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert ear.of("failed")[0] == "Not enough memory on the device for tiles of 448: using 224."
    assert sizes[0] > sizes[-1]


def test_when_memory_never_suffices_it_gives_up_with_a_sentence(make_session, source, monkeypatch):
    """Tiles are not halved for ever; afterwards the session goes on."""

    def never(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    session, ear, picture = start(make_session, source)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_network", never)
        session.predict(picture.key, whole(picture))
        ear.wait(lambda: ear.of("failed") and not session.state.predicting)
    assert ear.of("failed")[-1].startswith("There is not enough memory")
    assert ear.of("failed")[-2].endswith("using 64.")
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))


def test_the_session_goes_on_after_an_exception(make_session, source, monkeypatch, caplog):
    """A mistake in a job is one sentence and a line in the log; the next request is answered."""
    session, ear, picture = start(make_session, source)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_network", lambda *args, **kwargs: 1 / 0)
        session.predict(picture.key, whole(picture))
        ear.wait(lambda: ear.of("failed") and not session.state.predicting)
    assert ear.of("failed") == [
        "Something went wrong inside U-Net Live (ZeroDivisionError: division by zero). Your corrections are kept."
    ]
    assert "ZeroDivisionError" in caplog.text
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))


def test_a_picture_that_cannot_be_read_is_a_sentence(make_session, paint):
    """A lazy picture whose file is gone spoils neither the session nor the saving."""

    class Gone:
        """An array that can be read for a while."""

        shape, dtype, is_there = (128, 128), np.dtype(np.uint8), True

        def __getitem__(self, index):
            if not Gone.is_there:
                raise OSError("gone")
            return np.random.default_rng(0).integers(0, 255, self.shape, dtype=np.uint8)[index]

    session, ear, picture = start(make_session, ImageSource.of_array(Gone()))
    Gone.is_there = False
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: ear.of("failed"))
    ear.forget()
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("failed"))
    assert ear.of("failed")[0].startswith("A correction is saved, but cannot be learnt: ")
    ear.wait(lambda: session.state.saved)
    assert session.state.save_problem == ""


def test_a_picture_that_is_closed_is_watched_no_more(tiles, make_session, gate, source, paint):
    """Closing stops its prediction; what was set comes back when it is opened again."""
    session, _ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60), 5))
    session.predict(picture.key, whole(picture))
    session.close_picture(picture.key)
    assert not session.state.predicting
    assert session._keeper.flush(60)
    again = session.open_picture("discs", source)
    assert again is not picture
    assert np.array_equal(again.truth, picture.truth)
    assert np.array_equal(again.taught, picture.taught)


# --- closing ---------------------------------------------------------------------------------------


def test_closing_while_it_learns_and_predicts_is_quick(tiles, quick, make_session, source, paint):
    """Within two seconds everything is saved and no thread is left; a second closing does nothing."""
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("stepped"))
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: ear.of("prediction_ready"))
    session.add_edit(paint(picture, (160, 160)))
    begin = time.monotonic()
    session.close()
    assert time.monotonic() - begin < 2.0
    session.close()
    assert not session._worker._thread.is_alive()
    assert not session._keeper._disk._thread.is_alive()
    assert session.state.saved
    with Project.open(session.state.project) as project:
        assert len(list(project.edits())) == 2


def test_after_closing_nothing_happens_any_more(make_session, source):
    """What docks still ask for while a window closes does no harm."""
    session, _ear, picture = start(make_session, source)
    session.close(60)
    session.predict(picture.key, whole(picture))
    session.keep_masks(picture.key, picture.truth)
    session.learn_now()
    session.user_is_active()
    assert not session.state.predicting


def test_many_things_at_once_end_in_rest(quick, tiles, make_session, source, paint, model_file):
    """A hundred random requests in a row: no deadlock, no error, and at the end all is saved and learnt."""
    rng = np.random.default_rng(0)
    session, ear, picture = start(make_session, source)
    edit = paint(picture, (30, 30))

    def add():
        session.add_edit(paint(picture, tuple(int(n) for n in rng.integers(20, 230, 2)), int(rng.integers(1, 50))))

    actions = [
        add,
        add,
        lambda: session.withdraw(picture.key, edit.box, edit.labels * 0, picture.taught[edit.box.slices].copy()),
        lambda: session.predict(picture.key, whole(picture)),
        session.cancel,
        lambda: session.look_at(picture.key, Box((0, 0), (50, 50))),
        lambda: session.rebuild(InstanceSettings(foreground=float(rng.uniform(0.3, 0.7)))),
        lambda: session.learn(bool(rng.integers(2))),
        lambda: session.pause(bool(rng.integers(2))),
        session.learn_now,
        lambda: session.revert(int(rng.choice([v.number for v in session.state.versions]))),
        lambda: session.use_device("cpu"),
        lambda: session.use_model(str(model_file)),
        session.user_is_active,
        session.save_again,
        lambda: session.keep_masks(picture.key, picture.truth.copy()),
        lambda: ear.wait(lambda: True),
    ]
    for turn in range(100):
        actions[int(rng.integers(len(actions)))]()
        if turn % 5 == 0:
            assert session._keeper.flush(60)
    session.learn(True)
    session.pause(False)
    ear.wait(lambda: not session._worker.is_busy("model"))
    add()
    ear.wait(lambda: session.state.learnt == session.state.corrections)
    ear.wait(lambda: session.state.learning == "waiting" and session.state.saved and not session.state.predicting)
    assert [s for s in ear.of("failed") if "Version" not in s] == []


def test_planes_of_which_little_is_ever_seen_have_small_tiles(make_session, source, monkeypatch):
    """A view that moves over a large plane waits for the tile that is running, so that one is short."""
    monkeypatch.setattr(jobs, "LARGEST_KEPT", 1000)
    monkeypatch.setattr(jobs, "QUICK_TILE", 64)
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert len({prediction.core for prediction in ear.of("prediction_ready")}) == 16
