"""The simulated annotator: it mends what is wrong, the largest fault first, and nothing that is right."""

import numpy as np
import pytest
from skimage.measure import label

from napari_unet.core.annotator import correct, faults, stroke
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import evaluate

SHAPE = (80, 80)


def draw(*discs):
    """Labels of discs (y, x, radius), numbered from 1 in their order."""
    y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.int32)
    for number, (cy, cx, radius) in enumerate(discs, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


A, B = (25, 25, 12), (25, 50, 12)
WRONG = {
    "missed": (draw(A), draw(A, B)),
    "false": (draw(A, B), draw(A)),
    "merged": (np.minimum(draw(A, B), 1), draw(A, B)),
    "split": (np.where(np.indices(SHAPE)[1] > 27, 2, 1) * (draw(A) > 0), draw(A)),
    "outline": (draw((25, 25, 9)), draw(A)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_fault_is_seen_and_mended_by_one_act(kind):
    """What is wrong has its name, and after one correction nothing is wrong any more."""
    shown, truth = WRONG[kind]
    assert [fault.kind for fault in faults(shown, truth)] == [kind]
    act = correct(shown, truth, picture="p")
    assert (act.kind, act.edit.picture) == (kind, "p")
    assert act.seconds > 1.5
    assert evaluate(act.labels, truth)["ap75"] == 1
    assert faults(act.labels, truth) == []


def test_what_is_right_is_said_to_be_right():
    """Without a fault the whole picture is accepted, background too, and no label changes."""
    shown = draw(A, B)
    act = correct(shown * 7, shown)
    assert act.kind == "right"
    assert act.edit.trusted.all()
    assert np.array_equal(act.labels, shown * 7)


def test_the_largest_fault_comes_first():
    """A large missed object goes before a small false one."""
    shown, truth = draw((60, 60, 4)), draw((20, 20, 15))
    acts = [correct(shown, truth)]
    acts.append(correct(acts[0].labels, truth))
    assert [act.kind for act in acts] == ["missed", "false"]


def test_painting_takes_the_place_of_what_is_there():
    """Fragments of an object are rubbed out and it is painted whole; a neighbour keeps what is its own."""
    truth = draw((40, 40, 20), (40, 70, 8))
    shown = np.where(truth == 2, 9, 0)
    shown[35:40, 35:40] = 5
    shown[50:54, 40:44] = 6
    act = correct(shown, truth)
    assert act.kind == "missed"
    assert np.array_equal(act.labels > 0, truth > 0)
    assert len(np.unique(act.labels)) == 3
    assert (act.labels[truth == 2] == 9).all()


def test_the_truth_is_told_only_where_something_was_done():
    """A correction trusts the objects it touched; the rest of the truth stays with the annotator."""
    shown, truth = draw(), draw(A, (60, 60, 10))
    act = correct(shown, truth)
    trusted = np.zeros(SHAPE, bool)
    trusted[act.edit.box.slices] = act.edit.trusted
    assert np.array_equal(trusted, truth == 1)


@pytest.mark.parametrize("seed", range(3))
def test_many_faults_are_mended_one_by_one(seed):
    """Whatever masks it is given, the annotator ends with the truth and then says so."""
    random = np.random.default_rng(seed)
    truth = draw(A, B, (60, 20, 10), (60, 45, 9), (62, 68, 7))
    shown = np.kron(random.integers(0, 6, (10, 10)), np.ones((8, 8), int)).astype(np.int32)
    acts = [correct(shown, truth)]
    while acts[-1].kind != "right":
        acts.append(correct(acts[-1].labels, truth))
        assert len(acts) < 40
    shown = acts[-1].labels
    assert evaluate(shown, truth)["ap75"] == 1


def test_clutter_goes_with_one_drag_before_anything_else():
    """Several false masks in an empty part are cleared at once, and what is empty between them is taught as such."""
    truth, specks = draw((15, 15, 9)), draw((40, 50, 3), (55, 40, 3), (60, 60, 3), (50, 65, 3))
    shown = np.where(specks > 0, 10 + specks, 0)
    act = correct(shown, truth)
    assert act.kind == "clutter"
    assert act.edit.trusted.all()
    assert not act.edit.labels.any()
    assert act.edit.trusted.sum() > 1000
    assert len(np.unique(act.labels)) < len(np.unique(shown)) - 2
    assert not truth[act.edit.box.slices].any()


def test_only_what_lies_in_the_place_is_mended():
    """A fault elsewhere is left alone: there the place is right, and the place alone is said to be so."""
    shown, truth = draw(), draw(A, (60, 60, 10))
    place = Box((40, 40), (80, 80))
    act = correct(shown, truth, place=place)
    assert act.labels[60, 60] > 0
    assert not act.labels[25, 25]
    act = correct(act.labels, truth, place=place)
    assert act.kind == "right"
    assert act.edit.box == place


def test_an_edit_tells_how_right_the_masks_were():
    """What was missing was not right; what is said to be right was."""
    assert correct(draw(), draw(A)).edit.right == 0
    assert correct(draw(A), draw(A)).edit.right == 1
    assert 0.5 < correct(draw((25, 25, 9)), draw(A)).edit.right < 0.75


def test_strokes_are_drawn_where_the_class_is_wrong():
    """A stroke teaches the class of the largest wrong part, inside it, and is no wider than a brush."""
    truth = np.zeros(SHAPE, np.int32)
    truth[20:60, 10:70] = 1
    act = stroke(np.zeros(SHAPE, np.int32), truth, picture="p")
    told = np.zeros(SHAPE, bool)
    told[act.edit.box.slices] = act.edit.trusted
    assert (truth[told] == 1).all()
    assert (act.edit.labels[act.edit.trusted] == 1).all()
    assert np.ptp(np.nonzero(told)[1]) > 30
    assert told.sum() <= (80 + 16) * (2 * 8 + 1)
    assert act.edit.right == 0
    back = stroke(np.ones(SHAPE, np.int32), truth)
    assert (back.edit.labels[back.edit.trusted] == 0).all()
    assert back.seconds < act.seconds


def test_strokes_end_when_all_is_right():
    """Stroke after stroke the classes become right, up to lines one pixel wide."""
    truth = (draw(A, (60, 60, 14)) > 0).astype(np.int32)
    shown = np.zeros(SHAPE, np.int32)
    for _ in range(60):
        act = stroke(shown, truth)
        if act is None:
            break
        shown = act.labels
    assert act is None
    assert (shown != truth).mean() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_the_annotator_says_nothing_false(seed):
    """Whatever masks it is given: each object that it tells is a true one as a whole, and background is background."""
    random = np.random.default_rng(seed)
    truth = draw(A, B, (60, 20, 10), (60, 45, 9), (62, 68, 7))
    shown = label(np.kron(random.integers(0, 9, (10, 10)), np.ones((8, 8), int)), connectivity=1).astype(np.int32)
    for _ in range(80):
        act = correct(shown, truth)
        if act.kind == "right":
            break
        there, edit = truth[act.edit.box.slices], act.edit
        for number in np.unique(edit.labels[edit.trusted & (edit.labels > 0)]):
            told = edit.trusted & (edit.labels == number)
            same = there == np.bincount(there[told]).argmax()
            assert (told & same).sum() >= 0.75 * (told | same).sum()
        empty = edit.trusted & (edit.labels == 0)
        assert not empty.any() or (there[empty] == 0).mean() >= 0.8
        shown = act.labels
    assert act.kind == "right"
