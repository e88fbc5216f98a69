"""Projects as a session sees them: tomorrow, in two windows, one after the other, damaged, and on a full disk."""

import errno
import subprocess
import sys
import threading

import numpy as np
import pytest

from napari_unet.core.corrections import HELD_OUT
from napari_unet.core.errors import ProjectError
from napari_unet.core.events import WeightsChanged
from napari_unet.core.image import ImageSource
from napari_unet.session.learner import Learner
from napari_unet.store.files import FileSystem
from napari_unet.store.project import Project
from tests.session.conftest import discs, is_complete, start, whole


def test_tomorrow_everything_is_where_it_was(quick, make_session, paint, tmp_path):
    """Reopening brings back corrections, masks, sides, counts, versions, curve and the model in use."""
    path, source = tmp_path / "discs.tif", ImageSource.of_array(discs(shape=(256, 384))[0])
    session, ear, picture = start(make_session, source, path=path)
    edits = [paint(picture, (y, x), y + x) for y in (30, 160) for x in (30, 160, 290)]
    for edit in edits:
        before = (picture.truth[edit.box.slices].copy(), picture.taught[edit.box.slices].copy())
        session.add_edit(edit)
    session.withdraw(picture.key, edit.box, *before)
    masks = np.full(source.shape, 99, np.int32)
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    session.keep_masks(picture.key, masks)
    session.close(60)
    old, data = session.state, session._learner.device().model.to_bytes()

    again, ear, reopened = start(make_session, source, path=path, model="default")
    ear.wait_state(version=old.version)
    assert again._keeper.flush(60)
    state = again.state
    assert (state.corrections, state.pictures, state.learnt) == (old.corrections, old.pictures, old.learnt)
    assert old.corrections == 5
    assert state.versions == old.versions
    assert state.model == "tiny"
    assert again._learner.device().model.to_bytes() == data
    assert again.history == [e for e in session.history if isinstance(e, WeightsChanged) or e.kept is not None]
    assert np.array_equal(reopened.taught, picture.taught)
    known = picture.taught != 0
    assert np.array_equal(reopened.truth[known], picture.truth[known])
    assert np.array_equal(reopened.masks[known], picture.truth[known])
    assert (reopened.masks[~known] == 99).all()
    pools = [s._learner._pool for s in (session, again)]
    assert sum(c.trusted.sum() for c in pools[0]) == sum(c.trusted.sum() for c in pools[1]) > 0
    assert (reopened.taught == HELD_OUT).any()
    assert again._teaching._sides._sides == session._teaching._sides._sides
    again.revert(0)
    ear.wait_state(version=0)
    assert ear.of("failed") == []


def test_tomorrow_begins_with_any_picture_of_the_project(quick, make_session, source, paint, tmp_path):
    """Of two pictures corrected in one session, the second alone finds the project that began with the first."""
    session, _ear, first = start(make_session, source, path=tmp_path / "a.tif")
    session.learn(False)
    other = ImageSource.of_array(discs(1)[0])
    second = session.open_picture("b", other, path=tmp_path / "b.tif")
    session.add_edit(paint(first, (60, 60)))
    session.add_edit(paint(second, (90, 90)))
    session.close(60)
    again, _ear, reopened = start(make_session, other, path=tmp_path / "b.tif")
    assert again.state.project == tmp_path / "a.unetproj"
    assert again.state.corrections == 2
    assert reopened.taught.any()
    assert again._keeper.flush(60)


def test_a_project_that_is_opened_while_the_first_model_arrives_stays_as_it_was(
    quick, make_session, source, paint, tmp_path, monkeypatch
):
    """The model that a session starts with is not taken for a choice made in the project that is opened meanwhile."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    session.close(60)
    is_there, go, take = threading.Event(), threading.Event(), Learner.on_taken

    def late(self, taken):
        is_there.set()
        assert go.wait(60)
        return take(self, taken)

    monkeypatch.setattr(Learner, "on_taken", late)
    again, ear = make_session()
    assert is_there.wait(60)
    again.open_picture("discs", source, path=path)
    go.set()
    known = session.state
    ear.wait_state(version=known.version, versions=known.versions, learnt=1, learning="waiting")
    assert again._keeper.flush(60)
    assert again.state.versions == again._keeper.versions() == known.versions


def test_learning_goes_on_tomorrow(quick, make_session, source, paint, tmp_path):
    """A new correction in a reopened project is learnt, with a number of its own."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    session.close(60)
    again, ear, reopened = start(make_session, source, path=path)
    ear.wait_state(version=session.state.version)
    again.add_edit(paint(reopened, (90, 90), 2))
    ear.wait(lambda: ear.of("weights_changed") and again.state.learning == "waiting")
    assert ear.of("weights_changed")[0].version == session.state.version + 1
    assert (again.state.corrections, again.state.learnt) == (2, 2)
    assert ear.of("failed") == []


def test_a_second_window_is_told_and_can_still_predict(quick, make_session, source, paint, tmp_path):
    """Another session on the same folder reads it, says who holds it, and predicts, corrects and learns in memory."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60), 5))
    assert session._keeper.flush(60)
    second, ear, seen = start(make_session, source, path=path)
    assert "nother window" in second.state.read_only
    assert seen.truth[60, 60] == 5
    second.predict(seen.key, whole(seen))
    ear.wait(lambda: is_complete(ear))
    second.add_edit(paint(seen, (160, 160), 6))
    ear.wait(lambda: ear.of("weights_changed"))
    second.close(60)
    with Project.open(session.state.project, read_only=True) as project:
        assert len(list(project.edits())) == 1
        assert project.versions == ()


def test_another_project_shows_what_it_knows_of_the_open_pictures(quick, make_session, source, paint, tmp_path):
    """Opening an empty project begins anew; opening the first one again brings everything back."""
    session, ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    session.add_edit(paint(picture, (60, 60), 5))
    ear.wait(lambda: ear.of("weights_changed") and session.state.learning == "waiting")
    assert session._keeper.flush(60)
    first, old = session.state.project, session.state
    truth = picture.truth.copy()
    session.open_project(tmp_path / "empty.unetproj")
    ear.wait_state(version=0)
    assert session._keeper.flush(60)
    assert session.state.project == tmp_path / "empty.unetproj"
    assert (session.state.corrections, session.state.learnt, len(session.state.versions)) == (0, 0, 1)
    assert not picture.taught.any()
    assert (len(session._learner._pool), session.history, picture.drawn) == (0, [], [])
    session.open_project(first)
    ear.wait_state(version=old.version)
    assert np.array_equal(picture.truth, truth)
    assert len(picture.drawn) == 1
    assert (session.state.corrections, session.state.learnt) == (1, 1)
    assert session.state.versions == old.versions
    assert session.state.read_only == ""
    session.open_project(first)  # it is open already
    assert session.state.read_only == ""
    assert ear.of("failed") == []


def test_a_project_that_a_later_picture_brings_is_that_of_the_open_ones_too(make_session, source, paint, tmp_path):
    """What was confirmed in a picture comes back though it was opened before the one that leads to the project."""
    path, other = tmp_path / "discs.tif", ImageSource.of_array(discs(1)[0], name="other")
    session, _, picture = start(make_session, source, path=path)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60), 5))
    session.add_edit(paint(session.open_picture("other", other), (80, 80), 6))
    session.close(60)
    session, _ = make_session()
    session.learn(False)
    again, told = session.open_picture("other", other), []
    again.masks = np.full(other.shape, 6, np.int32)  # predicted, and not confirmed
    session.restored.connect(lambda: told.append(int(again.truth[80, 80])))
    session.open_picture("discs", source, path=path)
    assert told == [6]
    assert again.taught[80, 80]
    assert again.masks[80, 80] == 6


def test_masks_stay_where_the_project_of_a_later_picture_knows_nothing(make_session, source, paint, tmp_path):
    """What was predicted in an open picture is seen on, be it one that the project does not know or only in parts."""
    path = tmp_path / "discs.tif"
    others = [ImageSource.of_array(discs(seed)[0], name="other") for seed in (1, 2)]
    session, _, picture = start(make_session, source, path=path)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60), 5))
    session.add_edit(paint(session.open_picture("other", others[0]), (80, 80), 1))
    session.close(60)
    session, _ = make_session()
    session.learn(False)
    seen = [discs(seed)[1] for seed in (1, 2)]
    opened = [session.open_picture("other", each) for each in others]
    for each, masks in zip(opened, seen, strict=True):
        each.masks = masks.copy()
    session.open_picture("discs", source, path=path)
    assert opened[0].masks[80, 80] == 1
    away = seen[0].copy()
    away[60:100, 60:100] = 0
    assert (opened[0].masks[away > 0] > 1).all()
    assert np.array_equal(opened[1].masks, seen[1])


def test_the_channels_of_a_picture_are_read_back(make_session, paint, tmp_path):
    """Chosen before the first correction, after it, or before the project was: tomorrow the same ones are read."""
    path, color = tmp_path / "discs.tif", np.stack([discs(seed)[0] for seed in range(3)], -1)
    for chosen, later in (((2,), None), ((2,), (1,)), (None, (0, 2))):
        session, _, picture = start(make_session, ImageSource.of_array(color), path=path)
        session.learn(False)
        session.use_channels(picture.key, chosen)
        session.add_edit(paint(picture, (60, 60)))
        if later:
            assert session._keeper.flush(60)
            session.use_channels(picture.key, later)
        session.close(60)
        session, ear = make_session()
        opened = session.open_picture("discs", ImageSource.of_array(color))
        session.use_channels(opened.key, (1,))
        session.open_project(tmp_path / "discs.unetproj")
        assert opened.channels == (later or chosen)
        assert session._keeper.flush(60)
        assert ear.of("failed") == []
        session.close(60)


def test_a_project_knows_a_picture_by_the_name_that_the_user_gave_it(make_session, source, paint, tmp_path):
    """Given before the project was begun, or after."""
    session, _, picture = start(make_session, source, path=tmp_path / "discs.tif")
    session.learn(False)
    for name in ("Monday", "Tuesday"):
        session.rename_picture(picture.key, name)
        session.add_edit(paint(picture, (60, 60)))
        assert session._keeper.flush(60)
        assert session._keeper.project.pictures[picture.key].name == picture.name == name


def test_a_project_that_names_channels_that_are_not_there_is_not_believed(make_session, source, paint, tmp_path):
    """It may come from a stranger: the picture is read with all its channels."""
    path = tmp_path / "discs.tif"
    session, _, picture = start(make_session, source, path=path)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    session.use_channels(picture.key, (7,))
    session.close(60)
    session, ear, again = start(make_session, source, path=path)
    assert again.channels is None
    assert session._keeper.flush(60)
    assert ear.of("failed") == []


def test_a_folder_that_is_no_project_changes_nothing(make_session, source, paint, tmp_path):
    """What cannot be opened is an error to the caller; the project in hand stays."""
    session, _ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    assert session._keeper.flush(60)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"")
    before = session.state
    with pytest.raises(ProjectError):
        session.open_project(tmp_path / "holiday")
    assert session.state == before
    assert picture.taught.any()


def test_damaged_files_are_named_once(make_session, source, paint, tmp_path):
    """A correction that was torn is named when the project is opened; the others are there."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.learn(False)
    for place in (60, 160):
        session.add_edit(paint(picture, (place, place)))
    session.close(60)
    file = sorted((session.state.project / "corrections").glob("*.npz"))[0]
    file.write_bytes(file.read_bytes()[:-7])
    again, ear = make_session()
    reopened = again.open_picture("discs", source, path=path)
    assert len(ear.of("failed")) == 1
    assert file.name in ear.of("failed")[0]
    assert again.state.corrections == 1
    assert reopened.taught.any()


def test_a_failing_disk_is_said_and_nothing_is_lost(quick, make_session, source, paint, tmp_path, monkeypatch):
    """While the disk is full the sentence stays and work goes on; `save_again` saves it all."""
    is_full, write = threading.Event(), FileSystem.write

    def step(self, fd, data):
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "full")
        return write(self, fd, data)

    monkeypatch.setattr(FileSystem, "write", step)
    session, ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    is_full.set()
    for place in (60, 160, 220):
        session.add_edit(paint(picture, (place, place), place))
    ear.wait(lambda: session.state.save_problem)
    assert "the disk is full" in session.state.save_problem
    assert not session.state.saved
    assert session.state.corrections == 3
    session.use_diameter(10.0)  # other work of the same thread must not hide it
    assert session._keeper.flush(60)
    assert session.state.save_problem
    assert not session.state.saved
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))
    is_full.clear()
    session.save_again()
    ear.wait(lambda: session.state.saved and ear.of("weights_changed"))
    assert session.state.save_problem == ""
    session.close(60)
    with Project.open(session.state.project, read_only=True) as project:
        assert len(list(project.edits())) == 3


def test_a_project_whose_model_is_gone_still_opens(make_session, source, paint, tmp_path, model_file):
    """Its corrections are there, a sentence names the model, and the one to begin with takes its place."""
    own = tmp_path / "own.safetensors"
    own.write_bytes(model_file.read_bytes())
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path, model=str(own))
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    session.close(60)
    own.unlink()
    again, ear, reopened = start(make_session, source, path=path)
    ear.wait(lambda: again.state.model == "tiny" and ear.of("failed"))
    assert "own.safetensors" in ear.of("failed")[0]
    assert reopened.taught.any()
    assert again._keeper.flush(60)
    assert again._keeper.project.model == str(own)  # it may come back


def test_opening_a_project_ends_the_training_before(quick, make_session, train_gate, source, paint, tmp_path):
    """Also if the model of the opened project is gone: nothing goes on learning behind the user's back."""
    with Project.create(tmp_path / "other.unetproj") as other:
        other.begin_model("gone.safetensors")
    session, ear, picture = start(make_session, source)
    session.add_edit(paint(picture, (60, 60)))
    train_gate.release()
    ear.wait(lambda: ear.of("stepped"))
    session.open_project(tmp_path / "other.unetproj")
    train_gate.release(1000)
    ear.wait(lambda: ear.of("failed") and not session._worker.is_busy("learn"))
    assert "gone.safetensors" in ear.of("failed")[0]
    assert session.state.learning == "waiting"
    assert ear.of("weights_changed") == []
    assert session.history == []


def test_a_script_that_ends_without_closing_ends(model_file, tmp_path):
    """Neither thread holds the program, and what was confirmed last is on disk."""
    script = f"""
import numpy as np
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.session.session import Session

session = Session({str(model_file)!r}, "cpu")
session.open_project({str(tmp_path / "script.unetproj")!r})
picture = session.open_picture("noise", ImageSource.of_array(np.random.default_rng(0).random((64, 64))))
box = Box((4, 4), (20, 20))
session.add_edit(Edit(picture.key, box, np.ones(box.shape, np.int32), np.ones(box.shape, bool)))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    with Project.open(tmp_path / "script.unetproj") as project:
        assert not project.read_only
        assert len(list(project.edits())) == 1
