"""An undo step holds little memory, and brings back exactly what was."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.widgets import history
from napari_unet.widgets.history import Step, newest


@pytest.fixture
def picture():
    """Labels of objects, and what is taught of them: nothing here, taught or held out there."""
    random = np.random.default_rng(0)
    shape = (512, 512)
    return SimpleNamespace(labels=random.integers(0, 9, shape, np.int32), taught=random.integers(0, 3, shape, np.uint8))


def step_in(picture, box, changed):
    """The step of an edit that changes some voxels of a box."""
    labels = np.where(changed, 99, picture.labels[box.slices]).astype(np.int32)
    edit = Edit("p", box, labels, np.ones(box.shape, bool), "region")
    return edit, Step.of(edit, changed, box, picture.labels, picture.taught)


@pytest.mark.parametrize("much", [0.0, 0.02, 1.0])
def test_a_step_brings_back_exactly_what_was(picture, much):
    """Whether it changed no label, some or all of them: labels and what was taught are as before, voxel by voxel."""
    box = Box((100, 50), (401, 350))
    changed = np.random.default_rng(1).random(box.shape) < much
    edit, step = step_in(picture, box, changed)
    baseline, taught = picture.labels.copy(), picture.taught.copy()
    baseline[box.slices][changed] = edit.labels[changed]
    edit.apply(picture.labels.copy(), taught)
    assert step.changes_labels == changed.any()
    assert step.is_reverted(picture.labels)
    assert step.is_reverted(baseline) != changed.any()
    assert np.array_equal(step.edit("p", edit.labels).trusted, edit.trusted)
    before = step.take_back(baseline)
    assert np.array_equal(baseline, picture.labels)
    assert np.array_equal(before, picture.taught[box.slices])
    assert before.dtype == np.uint8


def test_what_is_only_right_takes_three_bits_a_voxel(picture):
    """'View is right' at 2048 x 2048 is 1.5 MB, not 46."""
    whole = Box.whole(picture.labels.shape)
    step = step_in(picture, whole, np.zeros(whole.shape, bool))[1]
    assert step.nbytes == picture.labels.size * 3 // 8


def test_a_stroke_keeps_what_it_changed_alone(picture):
    """A dab in a large object is no copy of the object."""
    whole = Box.whole(picture.labels.shape)
    changed = np.zeros(whole.shape, bool)
    changed[200:220, 300:330] = True
    step = step_in(picture, whole, changed)[1]
    assert step.place == Box((200, 300), (220, 330))
    assert step.nbytes == picture.labels.size * 3 // 8 + 600 * 5


def test_the_oldest_steps_go_where_memory_is_full(picture, monkeypatch):
    """Of steps that changed no label the newest that fit stay; of the others all, for napari can undo them."""
    whole, none = Box.whole(picture.labels.shape), np.zeros(picture.labels.shape, bool)
    dab = none.copy()
    dab[0, 0] = True
    painted, *right = [step_in(picture, whole, changed)[1] for changed in (dab, none, none, none)]
    monkeypatch.setattr(history, "LARGEST", 2 * right[0].nbytes)
    assert newest([right[0], painted, *right[1:]]) == [painted, *right[1:]]
    monkeypatch.setattr(history, "LARGEST", 0)
    assert newest([painted, *right]) == [painted, right[-1]]
