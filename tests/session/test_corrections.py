"""Corrections in a session: kept first, learnt next, taken back by an undo."""

from dataclasses import replace

import numpy as np

from napari_unet.core.corrections import TAUGHT, Edit
from napari_unet.core.geometry import Box
from napari_unet.store.project import Project
from tests.session.conftest import start

# --- corrections -----------------------------------------------------------------------------------


def test_a_correction_is_on_disk_before_it_can_be_learnt(make_session, source, paint, monkeypatch):
    """In memory at once, on disk next; only then in the pool that the training draws from."""
    session, _ear, picture = start(make_session, source)
    session.learn(False)
    pool, seen, add = session._learner._pool, [], Project.add_edit

    def watched(self, edit):
        seen.append(len(pool))
        return add(self, edit)

    monkeypatch.setattr(Project, "add_edit", watched)
    session.add_edit(paint(picture, (60, 60), 7))
    assert picture.truth[60, 60] == 7
    assert picture.taught[60, 60] == TAUGHT
    assert session.state.corrections == 1
    assert session._keeper.flush(60)
    assert seen == [0]
    assert len(pool) == 1
    assert session.state.saved
    assert session.state.project == session._keeper.project.path


def test_an_edit_that_sets_nothing_is_no_correction(make_session, source, paint):
    """Without a trusted voxel there is nothing to keep and nothing to count."""
    session, _ear, picture = start(make_session, source)
    edit = paint(picture, (60, 60))
    session.add_edit(replace(edit, trusted=np.zeros_like(edit.trusted)))
    assert session.state.corrections == 0
    assert session.state.saved


def test_an_undo_puts_back_what_was_there_and_counts_back(make_session, source, paint):
    """After an undo truth, trust, counts and what is learnt are as before; also after reopening."""
    session, _ear, picture = start(make_session, source)
    session.learn(False)
    edit = paint(picture, (60, 60), 7)
    session.add_edit(paint(picture, (66, 66), 3))
    before = (picture.truth[edit.box.slices].copy(), picture.taught[edit.box.slices].copy())
    truth, taught = picture.truth.copy(), picture.taught.copy()
    session.add_edit(edit)
    assert session.corrections_in(picture.key) == 2
    session.withdraw(picture.key, edit.box, *before)
    assert np.array_equal(picture.taught, taught)
    assert np.array_equal(picture.truth, truth)
    assert session.state.corrections == session.corrections_in(picture.key) == 1
    assert session._keeper.flush(60)
    assert session._learner._pool[0].trusted.sum() == (taught == TAUGHT).sum()


def test_an_undo_keeps_what_a_later_correction_set_in_the_same_box(make_session, source):
    """Two corrections whose boxes overlap but whose voxels do not: undoing the first one keeps the second."""
    session, _ear, picture = start(make_session, source)
    session.learn(False)
    left = np.zeros((20, 20), bool)
    left[:, :8] = True
    first = Edit(picture.key, Box((50, 50), (70, 70)), np.full((20, 20), 1, np.int32), left)
    second = Edit(picture.key, Box((50, 54), (70, 74)), np.full((20, 20), 2, np.int32), left)
    before = (picture.truth[first.box.slices].copy(), picture.taught[first.box.slices].copy())
    session.add_edit(first)
    session.add_edit(replace(second, trusted=left[:, ::-1]))
    session.withdraw(picture.key, first.box, *before)
    expected = np.zeros(picture.taught.shape, bool)
    expected[50:70, 66:74] = True
    assert np.array_equal(picture.taught == TAUGHT, expected)
    assert (picture.truth[expected] == 2).all()
    assert session._keeper.flush(60)
    (correction,) = session._learner._pool
    assert (correction.labels[correction.trusted] == 2).all()
    assert correction.trusted.sum() == expected.sum()


def test_a_later_correction_over_an_earlier_one_survives_the_undo_of_that(make_session, source):
    """Voxels that were set again belong to the later correction."""
    session, _ear, picture = start(make_session, source)
    session.learn(False)
    first = Edit(picture.key, Box((50, 50), (70, 70)), np.full((20, 20), 1, np.int32), np.ones((20, 20), bool))
    second = Edit(picture.key, Box((60, 60), (80, 80)), np.full((20, 20), 2, np.int32), np.ones((20, 20), bool))
    session.add_edit(first)
    session.add_edit(second)
    nothing = np.zeros((20, 20), np.int32)
    session.withdraw(picture.key, first.box, nothing, nothing.astype(np.uint8))
    assert (picture.truth[60:80, 60:80] == 2).all()
    assert np.count_nonzero(picture.taught) == 400
