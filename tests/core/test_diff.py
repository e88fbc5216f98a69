"""What the user changed becomes an edit; what our tools change is right by the pixel."""

import numpy as np
import pytest

from napari_unet.core import diff
from napari_unet.core.geometry import Box


def picture(text):
    """Labels drawn with characters: '.' is 0."""
    rows = [line.split() for line in text.strip().splitlines()]
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.int32)


CELLS = """
    . 1 1 1 . . 2 2 .
    . 1 1 1 . . 2 2 .
    . 1 1 1 . . 2 2 .
    . . . . . . . . .
    3 3 3 3 3 3 3 3 3
"""


def whole(change, labels):
    """The labels after a change."""
    after = labels.copy()
    after[change.box.slices] = change.labels
    return after


def trusted(edit, shape):
    """Where an edit is trusted, in the whole picture."""
    mask = np.zeros(shape, bool)
    mask[edit.box.slices] = edit.trusted
    return mask


def test_no_change_is_no_edit():
    """Equal labels give no edit."""
    labels = picture(CELLS)
    assert diff.diff(labels, labels.copy(), Box.whole(labels.shape)) is None


def test_a_mended_object_is_trusted_as_a_whole_and_the_rest_is_not():
    """One voxel added to object 1 teaches all of object 1, and nothing of 2 and 3."""
    before, after = picture(CELLS), picture(CELLS)
    after[3, 2] = 1
    edit = diff.diff(before, after, Box((3, 2), (4, 3)), picture="p", tool="paint")
    assert np.array_equal(trusted(edit, after.shape), after == 1)
    assert (edit.picture, edit.tool) == ("p", "paint")


def test_an_erased_object_is_trusted_background():
    """Where an object was erased, background is taught."""
    before, after = picture(CELLS), picture(CELLS)
    after[after == 2] = 0
    edit = diff.diff(before, after, Box.whole(after.shape))
    assert np.array_equal(trusted(edit, after.shape), before == 2)
    assert not edit.labels[edit.trusted].any()


def test_what_is_left_of_an_object_that_was_painted_over_is_not_the_users():
    """A new object over a part of an old one teaches the new one alone; one that was cut or rubbed out teaches both."""
    before, after = picture(CELLS), picture(CELLS)
    after[:3, 3] = 9
    edit = diff.diff(before, after, Box.whole(after.shape))
    assert np.array_equal(trusted(edit, after.shape), after == 9)
    edit = diff.diff(before, after, Box.whole(after.shape), tool="cut")
    assert np.array_equal(trusted(edit, after.shape), (after == 1) | (after == 9))
    after[:3, 3] = 0
    edit = diff.diff(before, after, Box.whole(after.shape))
    assert np.array_equal(trusted(edit, after.shape), before == 1)


def test_only_changed_voxels_are_trusted_for_classes():
    """Without whole objects, one changed voxel is one trusted voxel."""
    before, after = picture(CELLS), picture(CELLS)
    after[3, 2] = 1
    edit = diff.diff(before, after, Box.whole(after.shape), whole_objects=False)
    assert trusted(edit, after.shape).sum() == 1


def test_a_change_outside_the_box_is_not_looked_at():
    """Only the box is compared."""
    before, after = picture(CELLS), picture(CELLS)
    after[0, 0] = 5
    assert diff.diff(before, after, Box((2, 2), (5, 9))) is None


def test_a_plane_of_a_stack_leaves_the_planes_beside_it_alone():
    """An object is looked for in the plane of the change only."""
    before = np.stack([picture(CELLS)] * 3)
    after = before.copy()
    after[1, 3, 2] = 1
    edit = diff.diff(before, after, Box((1, 3, 2), (2, 4, 3)))
    assert edit.box.start[0] == 1
    assert edit.box.stop[0] == 2
    assert edit.trusted.sum() == np.count_nonzero(after[1] == 1)


def test_a_large_object_is_found_beyond_the_first_window():
    """The search grows until an object of 500 voxels' length is whole."""
    labels = np.zeros((20, 600), np.int32)
    labels[8:12, 50:550] = 4
    assert diff.object_box(labels, {4}, Box((9, 300), (10, 301))) == Box((8, 50), (12, 550))


def test_delete_makes_the_object_background():
    """Only the object under the point goes."""
    labels = picture(CELLS)
    after = whole(diff.delete_object(labels, (1, 2)), labels)
    assert np.array_equal(after, np.where(labels == 1, 0, labels))
    assert diff.delete_object(labels, (3, 0)) is None


def test_join_gives_the_first_number_and_fills_a_narrow_gap():
    """Two objects two voxels apart become one connected object with the first one's number."""
    labels = picture(CELLS)
    after = whole(diff.join_objects(labels, [(1, 2), (1, 6)]), labels)
    assert (after[:3, 1:8] == 1).all()
    assert np.array_equal(after == 3, labels == 3)
    assert diff.join_objects(labels, [(1, 2), (1, 3), (3, 0)]) is None


@pytest.mark.parametrize(
    "path", [[(0, 4), (4, 4)], [(1, 4), (3, 4)], [(2, 2), (2, 6)]], ids=["through", "too short", "across"]
)
def test_a_line_cuts_an_object_in_two_also_when_it_stops_short(path):
    """Both parts are connected, keep every voxel, and one keeps the number."""
    labels = np.zeros((5, 9), np.int32)
    labels[0:5, 1:8] = 6
    after = whole(diff.cut_object(labels, path, 7), labels)
    assert np.array_equal(after != 0, labels != 0)
    assert set(np.unique(after)) == {0, 6, 7}
    assert (after == 6).sum() >= (after == 7).sum()


def test_a_line_over_background_cuts_nothing():
    """No object under the line, no change."""
    assert diff.cut_object(picture(CELLS), [(3, 0), (3, 8)], 9) is None


def test_a_cleared_region_takes_objects_that_lie_mostly_inside_as_a_whole():
    """The remaining strip of a nearly covered object goes too; a barely touched object only loses what is inside."""
    labels = picture(CELLS)
    after = whole(diff.clear_region(labels, Box((0, 0), (5, 3))), labels)
    assert not (after == 1).any()
    assert np.array_equal(after == 3, (labels == 3) & (np.arange(9) >= 3))


def test_an_accepted_region_keeps_objects_on_its_border_whole_but_trusts_only_the_inside():
    """The edit's box holds the crossing object, its trusted mask is the region."""
    labels = picture(CELLS)
    edit = diff.accepted_region(labels, Box((0, 2), (3, 5)))
    assert edit.box == Box((0, 1), (3, 5))
    assert trusted(edit, labels.shape).sum() == 9


def test_the_first_free_number_is_above_all_others():
    """One more than the largest; 1 for an empty picture."""
    assert diff.free_id(picture(CELLS)) == 4
    assert diff.free_id(np.zeros((0, 3), np.int32)) == 1


def test_an_edit_knows_how_right_the_masks_were_before():
    """A new object was missing, one grown a little was nearly right, and a class is compared by itself."""
    before = np.zeros((30, 40), np.int32)
    before[5:15, 5:15] = 1
    new, grown = before.copy(), before.copy()
    new[20:26, 20:30] = 2
    grown[5:15, 15:16] = 1
    assert diff.diff(before, new, Box.whole(new.shape)).right == 0
    assert diff.diff(before, grown, Box.whole(new.shape)).right == pytest.approx(100 / 110)
    assert diff.diff(before, grown, Box.whole(new.shape), whole_objects=False).right == 0
    assert diff.accepted_object(before, (6, 6)).right == 1
