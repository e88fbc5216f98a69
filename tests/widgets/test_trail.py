"""Undo and redo, whatever was done and in whatever order: labels, baseline and what is taught are as they were."""

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.widgets import tools
from tests.widgets.conftest import cells, predicted


def standing(masks, session):
    """How things are: labels, what is taught, and the number of corrections."""
    assert np.array_equal(masks.layer.data, masks.baseline)
    taught = masks.picture.taught != 0
    assert np.array_equal(masks.picture.truth[taught], masks.baseline[taught])
    return masks.layer.data.copy(), taught, len(session.edits) - len(session.withdrawn)


def same(a, b):
    """Whether things are as they were."""
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def stroke(masks, points, number):
    """One stroke of the brush along a line."""
    masks.layer.brush_size = 8
    with masks.layer.block_history():
        for share in np.linspace(0, 1, 12):
            y, x = np.array(points[0]) * (1 - share) + np.array(points[-1]) * share
            masks.layer.paint((y, x), number)


def click_kept(masks, point):
    """An object that was clicked and kept."""
    mask = np.zeros((60, 80), bool)
    mask[max(point[0] - 5, 0) : point[0] + 5, max(point[1] - 5, 0) : point[1] + 5] = True
    return tools.place(masks, (), (Box.whole((60, 80)), mask))


def act(random, masks):
    """One thing that a user does, somewhere."""
    points = [tuple(map(int, random.integers((5, 5), (55, 75)))) for _ in range(3)]
    region = Box(points[0], tuple(c + 15 for c in points[0]))
    whole = np.argwhere(masks.layer.data)
    hit = tuple(map(int, whole[random.integers(len(whole))])) if len(whole) else points[0]
    acts = {
        "paint": lambda: stroke(masks, points[:2], int(random.choice([0, 1, masks.next_id]))),
        "two strokes": lambda: [stroke(masks, points[i : i + 2], masks.next_id + i) for i in range(2)],
        "fill": lambda: masks.layer.fill(hit, masks.next_id),
        "delete": lambda: tools.delete(masks, hit),
        "join": lambda: tools.join(masks, [hit, points[1]]),
        "cut": lambda: tools.cut(masks, [(hit[0] - 1, hit[1]), (hit[0] + 1, hit[1])], (0, 1)),
        "click": lambda: click_kept(masks, points[0]),
        "accept": lambda: tools.accept_object(masks, hit),
        "region": lambda: tools.accept_region(masks, region),
        "nothing": lambda: tools.clear_region(masks, region),
    }
    name = str(random.choice(list(acts)))
    acts[name]()
    if random.random() < 0.8:  # else it is settled with the next one
        masks.settle()
    return name


@pytest.mark.parametrize("seed", range(12))
def test_undone_and_done_again_everything_is_as_it_was(masks, session, seed):
    """Also where boxes overlap, and for all tools mixed: each redo brings back what one undo took."""
    random = np.random.default_rng(seed)
    done = [act(random, masks) for _ in range(7)]
    masks.settle()
    seen = [standing(masks, session)]
    for _ in range(16):  # strokes that were taught together are two undo steps
        masks.undo()
        seen.append(standing(masks, session))
    assert same(seen[-1], (cells(), np.zeros((60, 80), bool), 0)), done
    while seen and same(seen[-1], standing(masks, session)):
        seen.pop()
    for expected in reversed(seen):
        masks.redo()
        assert same(standing(masks, session), expected), done


def test_two_strokes_over_each_other_are_done_again_one_by_one(masks, session):
    """The boxes overlap; napari's own undo and redo are seen, too."""
    for points, number in (([(20, 30), (20, 60)], 7), ([(15, 35), (40, 55)], 8)):
        stroke(masks, points, number)
        masks.settle()
    counts = []
    for step in (masks.layer.undo, masks.layer.undo, masks.layer.redo, masks.layer.redo):
        step()
        counts.append(standing(masks, session)[2])
    assert counts == [1, 0, 1, 2]


def test_undoing_three_steps_and_redoing_them_ends_where_it_began(masks, session):
    """Strokes over each other, all undone, teach nothing; all redone, they teach the same."""
    for number, point in ((7, (5, 70)), (8, (6, 71)), (9, (20, 20))):
        stroke(masks, [point], number)
        masks.settle()
    taught, labels = session.pictures["picture"].taught.copy(), masks.layer.data.copy()
    for _ in range(3):
        masks.layer.undo()
    assert not session.pictures["picture"].taught.any()
    for _ in range(3):
        masks.layer.redo()
    assert np.array_equal(session.pictures["picture"].taught, taught)
    assert np.array_equal(masks.layer.data, labels)


def test_an_object_that_was_made_and_deleted_is_undone_in_two_steps(masks, session):
    """Both undo steps and their redos show the same labels: which way it went tells them apart."""
    click_kept(masks, (10, 60))
    tools.delete(masks, (10, 60))
    counts = []
    for step in (masks.undo, masks.undo, masks.redo, masks.redo):
        step()
        counts.append(standing(masks, session)[2])
    assert counts == [1, 0, 1, 2]
    assert not masks.layer.data[10, 60]


def test_what_was_predicted_meanwhile_gives_way_to_what_is_done_again(masks, session):
    """A mended object is the user's as a whole again, and undone once more it leaves no correction behind."""
    stroke(masks, [(20, 24), (20, 34)], 1)
    masks.settle()
    mended = masks.layer.data == 1
    masks.undo()
    fresh = np.where(cells() == 1, 0, cells())
    fresh[20:24, 28:40] = 9
    masks.paste(predicted(fresh))
    masks.redo()
    standing(masks, session)
    assert np.array_equal(masks.layer.data == 1, mended)
    assert np.array_equal(masks.picture.taught != 0, mended)
    masks.undo()
    assert standing(masks, session)[2] == 0
    assert not masks.picture.taught.any()


@pytest.mark.parametrize("by_key", [True, False])
def test_a_stroke_that_was_undone_before_it_was_taught_can_be_done_again(masks, session, by_key):
    """It is taught then; also when somebody else calls napari's undo and redo."""
    stroke(masks, [(5, 60), (5, 70)], 7)
    painted = masks.layer.data.copy()
    for step in (masks.undo, masks.redo) if by_key else (masks.layer.undo, masks.layer.redo):
        step()
    masks.settle()
    labels, taught, count = standing(masks, session)
    assert np.array_equal(labels, painted)
    assert np.array_equal(taught, painted == 7)
    assert count == 1


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_was_rubbed_out_at_once_is_taught_when_it_comes_back(masks, session, share):
    """A stroke of which a part, or all, was rubbed out before it was taught: undo brings it back."""
    stroke(masks, [(5, 50), (5, 70)], 7)
    painted = masks.layer.data.copy()
    stroke(masks, [(5, 50), (5, 50 + 20 * share)], 0)
    masks.settle()
    masks.undo()
    masks.settle()
    labels, taught, count = standing(masks, session)
    assert np.array_equal(labels, painted)
    assert np.array_equal(taught, painted == 7)
    assert count == 1


def test_an_undo_while_the_masks_are_hidden_is_noticed(masks, session):
    """Napari draws no hidden layer, and says nothing of it."""
    stroke(masks, [(5, 60), (5, 70)], 7)
    masks.settle()
    masks.layer.visible = False
    masks.undo()
    assert same(standing(masks, session), (cells(), np.zeros((60, 80), bool), 0))


def test_an_undo_of_another_plane_is_noticed(viewer, desk, session):
    """The stroke lies in a plane that is not in view."""
    stack = viewer.add_image(np.zeros((3, 60, 80)), name="stack")
    desk.take(stack)
    masks = desk.add_masks()
    masks.layer.paint((1, 20, 20), 7)
    masks.settle()
    before = standing(masks, session)
    viewer.dims.set_point(0, 2)
    masks.undo()
    assert standing(masks, session)[2] == 0
    masks.redo()
    assert same(standing(masks, session), before)


@pytest.mark.parametrize("seed", range(4))
def test_predictions_between_undo_and_redo_leave_nothing_behind(masks, session, seed):
    """Whatever was predicted in between, layer and baseline are the same, and all undone nothing is taught."""
    random = np.random.default_rng(seed)
    does = {
        "act": lambda: act(random, masks),
        "undo": masks.undo,
        "redo": masks.redo,
        "predict": lambda: masks.paste(predicted(np.roll(cells(), random.integers(-9, 9, 2), (0, 1)))),
    }
    for name in random.choice(list(does), 25, p=[0.3, 0.3, 0.25, 0.15]):
        does[str(name)]()
        masks.settle()
        standing(masks, session)
    for _ in range(40):
        masks.undo()
    assert standing(masks, session)[2] == 0
    assert not masks.picture.taught.any()
