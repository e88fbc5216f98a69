"""Predictions go into the label layer, corrections come out; an undo takes back what was taught."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.widgets import tools
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.history import STEPS
from napari_unet.widgets.layers import label_layer, source_of
from tests.widgets.conftest import cells, predicted


def dab(masks, point, number=7, size=5):
    """Paint one dab, as one stroke of the brush."""
    masks.layer.brush_size = size
    masks.layer.paint(point, number)


def test_a_prediction_appears_without_an_undo_step(masks, session):
    """Pasted labels lie in the layer, are taught to nobody, and Ctrl+Z does not touch them."""
    masks.layer.undo()
    assert np.array_equal(masks.layer.data, cells())
    assert session.edits == []


def test_a_painted_object_is_the_users_as_a_whole(masks, session):
    """Mending a rim of an object teaches the whole object."""
    dab(masks, (20, 28), number=1)
    assert masks.settle() == 1
    edit = session.edits[0]
    mine = np.zeros((60, 80), bool)
    mine[edit.box.slices] = edit.trusted
    assert np.array_equal(mine, masks.layer.data == 1)
    assert edit.tool == "paint"


def test_for_classes_only_the_painted_voxels_are_taught(masks, session):
    """With classes one id is everywhere, so only what the brush changed is trusted."""
    session.state = type(session.state)(kind="classes")
    masks.kind = "classes"
    dab(masks, (20, 31), number=1)
    masks.settle()
    assert session.edits[0].trusted.sum() == np.count_nonzero(masks.layer.data != cells())


def test_a_prediction_never_overwrites_what_the_user_set(masks, session):
    """After a correction, an empty prediction clears the other objects but not the corrected one."""
    dab(masks, (20, 20), number=7)
    masks.settle()
    before = masks.layer.data.copy()
    masks.paste(predicted(np.zeros((60, 80), int)))
    taught = session.pictures["picture"].taught != 0
    assert np.array_equal(masks.layer.data[taught], before[taught])
    assert not masks.layer.data[~taught].any()


def test_a_prediction_never_overwrites_a_stroke_that_is_not_settled_yet(masks):
    """What was painted a moment ago stays when a tile arrives before it is taught."""
    dab(masks, (5, 70))
    masks.paste(predicted(np.zeros((60, 80), int)))
    assert masks.layer.data[5, 70] == 7
    assert masks.settle() == 1


def test_objects_keep_their_numbers_when_refreshed(masks):
    """The same objects under other local numbers keep the numbers they had."""
    masks.paste(predicted(np.where(cells() == 1, 2, np.where(cells() == 2, 1, 0))))
    assert np.array_equal(masks.layer.data, cells())


def test_an_object_across_two_tiles_is_one(desk):
    """Two tiles that see halves of an object give it one number."""
    left, right = Box((0, 0), (60, 40)), Box((0, 24), (60, 80))
    whole = cells()
    tiles = [(left, Box((0, 0), (60, 32))), (right, Box((0, 32), (60, 80)))]
    whole[20:30, 20:60] = 1  # a bar across the seam
    whole[whole == 2] = 0
    for window, core in tiles:
        desk.masks.paste(predicted(whole[window.slices], window=window, core=core))
    assert set(np.unique(desk.masks.layer.data)) == {0, desk.masks.layer.data[25, 30]}


def test_an_undone_stroke_teaches_nothing(masks, session):
    """A stroke that was undone before it was taught gives no edit."""
    dab(masks, (5, 70))
    masks.layer.undo()
    assert masks.settle() == 0
    assert session.edits == []


def test_an_undo_after_teaching_takes_it_back(masks, session):
    """Undo withdraws the edit: nothing is taught there, and the labels are as predicted."""
    dab(masks, (5, 70))
    masks.settle()
    assert session.pictures["picture"].taught.any()
    masks.layer.undo()
    assert not session.pictures["picture"].taught.any()
    assert np.array_equal(masks.layer.data, cells())
    assert masks.settle() == 0


def test_a_redo_teaches_again(masks, session):
    """Undo and then redo leaves the voxels taught as before."""
    dab(masks, (5, 70))
    masks.settle()
    taught = session.pictures["picture"].taught.copy()
    masks.layer.undo()
    masks.layer.redo()
    assert np.array_equal(session.pictures["picture"].taught, taught)


def test_undoing_one_of_two_strokes_kept_together_leaves_the_other(masks, session):
    """Two strokes taught as one edit: undo takes back the second, the first stays taught."""
    dab(masks, (5, 70))
    first = masks.layer.data == 7
    dab(masks, (7, 72))
    assert masks.settle() == 1
    masks.layer.undo()
    assert np.array_equal(session.pictures["picture"].taught != 0, first)
    masks.layer.undo()
    assert not session.pictures["picture"].taught.any()


def test_far_strokes_are_two_corrections(masks, session):
    """Two objects painted in one go far apart are kept as two edits."""
    dab(masks, (5, 70), 7)
    dab(masks, (50, 10), 8)
    assert masks.settle() == 2
    assert len(session.edits) == 2


TOOLS = {
    "delete": lambda m: tools.delete(m, (20, 20)),
    "join": lambda m: tools.join(m, [(20, 20), (40, 50)]),
    "cut": lambda m: tools.cut(m, [(30, 50), (50, 50)], (0, 1)),
    "nothing": lambda m: tools.clear_region(m, Box((0, 0), (40, 40))),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_is_one_undo_step_and_teaches(masks, session, tool):
    """Each tool changes the layer, teaches at once, and one undo takes all of it back."""
    assert TOOLS[tool](masks)
    assert not np.array_equal(masks.layer.data, cells())
    assert {edit.tool for edit in session.edits} == {tool}
    masks.layer.undo()
    assert np.array_equal(masks.layer.data, cells())
    assert not session.pictures["picture"].taught.any()


def test_yes_right_teaches_the_object_as_it_is_and_undo_takes_it_back(masks, session):
    """Accepting changes no label, teaches exactly the object, and our undo takes it back."""
    assert tools.accept_object(masks, (20, 20))
    assert np.array_equal(session.pictures["picture"].taught != 0, cells() == 1)
    masks.undo()
    assert not session.pictures["picture"].taught.any()


def test_nothing_in_a_region_is_taken_back_at_once(masks):
    """What was cleared and what was background already are one step."""
    tools.clear_region(masks, Box((10, 10), (35, 35)))
    masks.undo()
    assert np.array_equal(masks.layer.data, cells())
    assert not masks.picture.taught.any()


def test_a_stroke_can_be_undone_after_many_objects_were_accepted(masks):
    """Napari knows the stroke still: so must we, or its undo would be taken for another correction."""
    dab(masks, (5, 70))
    masks.settle()
    for _ in range(STEPS + 1):
        tools.accept_object(masks, (40, 50))
    masks.layer.undo()
    assert masks.baseline[5, 70] == masks.picture.taught[5, 70] == 0


def test_an_accepted_region_is_taught_with_its_background(masks, session):
    """Every voxel of the rectangle is taught, none outside it."""
    assert tools.accept_region(masks, Box((10, 10), (30, 50)))
    expected = np.zeros((60, 80), bool)
    expected[10:30, 10:50] = True
    assert np.array_equal(session.pictures["picture"].taught != 0, expected)


def test_undoing_a_painted_and_accepted_object_forgets_both(masks, session):
    """An object that was painted, accepted and then undone is taught in no way."""
    dab(masks, (5, 70))
    masks.settle()
    tools.accept_object(masks, (5, 70))
    masks.layer.undo()
    assert not session.pictures["picture"].taught.any()


def test_saved_masks_come_back_with_what_was_taught(desk, session):
    """A picture that was kept begins with its masks; what the user taught wins over them."""
    picture = session.pictures["picture"]
    picture.masks = cells()
    picture.truth[20, 20], picture.taught[20, 20] = 9, 1
    layer = label_layer(picture, desk.image)
    assert layer.data[20, 20] == 9
    assert layer.data[40, 50] == 2


def test_the_layer_lies_where_the_picture_lies(viewer, desk):
    """Scale, shift and rotation of the picture are the label layer's, in a stack too."""
    image = viewer.add_image(np.zeros((3, 20, 30)), scale=(2, 0.5, 0.5), translate=(1, 2, 3), rotate=5, name="stack")
    assert desk.take(image)
    layer = desk.add_masks().layer
    assert np.allclose(layer.scale, image.scale)
    assert np.allclose(layer.extent.world, image.extent.world)
    assert layer.name == "stack masks"


def test_a_colour_picture_and_a_picture_with_channels_have_plain_masks(viewer, desk):
    """The axis of colours or channels is none of the label layer's, which is turned as the picture is."""
    colour = viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True, name="colour")
    channels = viewer.add_image(
        np.zeros((2, 20, 30)), axis_labels=("c", "y", "x"), scale=(1, 0.5, 0.5), rotate=30, shear=[0.2], name="channels"
    )
    for image in (colour, channels):
        assert source_of(image).shape == (20, 30)
        desk.take(image)
        layer = desk.add_masks().layer
        assert layer.data.shape == (20, 30)
        assert np.allclose(layer.data_to_world((10, 20)), image.data_to_world((0, 10, 20)[-image.ndim :])[-2:])


def test_channels_that_are_not_in_front_are_refused(viewer):
    """Napari lines layers up by their last axes: masks without the channels would follow the wrong slider."""
    image = viewer.add_image(np.zeros((6, 2, 60, 80)), name="stack", axis_labels=("z", "c", "y", "x"))
    with pytest.raises(ImageError, match="Put the channels first, or split them"):
        source_of(image)


def test_a_stroke_from_the_background_is_a_new_object(masks):
    """The brush gets a fresh number when a stroke begins on background away from the number it holds."""
    layer = masks.layer
    layer.selected_label = 1
    masks._number_stroke([50, 10])
    assert layer.selected_label == masks.next_id
    layer.selected_label = 1
    masks._number_stroke([20, 29])  # beside object 1: more of it
    assert layer.selected_label == 1


def found_beside(number=3):
    """The two cells, and one more."""
    labels = cells()
    labels[5:10, 60:70] = number
    return predicted(labels)


def test_a_stroke_and_an_object_found_meanwhile_have_two_numbers(masks):
    """Also while the stroke is still being drawn."""
    layer, number = masks.layer, masks.layer.selected_label
    layer.mode = "paint"
    press = SimpleNamespace(type="mouse_press", position=(50.0, 10.0), dims_displayed=(0, 1))
    stroke = masks._watch_button(layer, press)
    next(stroke)
    masks.paste(found_beside())
    assert layer.selected_label == number
    layer.paint((50, 10), number)
    assert layer.data[7, 65] not in (0, number)


def test_a_cut_half_never_gets_the_number_of_a_stroke(masks):
    """A stroke that is not settled yet has its number already."""
    layer = masks.layer
    layer.paint((15, 60), masks.next_id)
    assert tools.cut(masks, [(40, 35), (40, 65)], (0, 1))
    assert len({int(layer.data[p]) for p in ((15, 60), (36, 50), (46, 50))}) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_a_number_that_the_user_picked_stays(masks, number):
    """Tiles that come meanwhile suggest no other one."""
    masks.layer.selected_label = number
    masks.paste(found_beside())
    assert masks.layer.selected_label == number


def test_other_data_of_another_size_is_refused_in_a_sentence(masks, monkeypatch):
    """Somebody sets data of another size: one sentence, and predictions are left out."""
    told = []
    monkeypatch.setattr("napari_unet.widgets.mask_layer.show_error", told.append)
    masks.layer.data = np.zeros((5, 5), np.int32)
    masks.paste(predicted(cells()))
    assert len(told) == 1
    assert "Remove the layer" in told[0]


def test_other_data_of_another_size_stops_nothing_once_something_was_corrected(masks, session, viewer, monkeypatch):
    """No step, stroke, tool or undo looks for its place in it; with the right size all goes on."""
    told = []
    monkeypatch.setattr("napari_unet.widgets.mask_layer.show_error", told.append)
    dab(masks, (20, 20), number=7)
    masks.settle()
    dab(masks, (50, 70), number=8)  # not settled yet
    known = masks.baseline.copy()
    before = masks.layer.data
    masks.layer.data = np.zeros((10, 10), np.int32)
    assert len(told) == 1
    masks.settle()
    masks.undo()
    masks.redo()
    dab(masks, (5, 5))
    gestures = gestures_of(viewer)
    assert not tools.delete(masks, (5, 5))
    assert not tools.clear_region(masks, Box((0, 0), (9, 9)))
    assert not tools.accept_object(masks, (5, 5))
    assert not tools.accept_region(masks, Box((0, 0), (9, 9)))
    assert not tools.cut(masks, [(1, 5), (9, 5)], (0, 1))
    assert not tools.join(masks, [(5, 5), (20, 20)])
    assert not tools.place(masks, (), (Box((20, 20), (22, 22)), np.ones((2, 2), bool)))
    gestures.accept_view()
    masks.reload()
    assert masks.baseline[20, 20] == 7
    masks.layer.data = before
    masks.settle()
    assert masks.layer.data[50, 70] == masks.baseline[50, 70] == 8
    assert (known != masks.baseline).any()


def test_in_a_stack_the_view_is_one_plane_in_voxels(viewer, desk):
    """With scale and shift, the view is the plane that the slider stands on, at the right place."""
    stack = viewer.add_image(np.zeros((5, 60, 80)), scale=(2, 0.5, 0.5), translate=(10, 3, 4), name="stack")
    desk.take(stack)
    desk.add_masks()
    viewer.dims.set_point(0, 10 + 2 * 3)
    assert desk.view() == Box((3, 0, 0), (4, 60, 80))


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
@pytest.mark.parametrize(("slice_", "ndisplay", "is_taught"), [(3, 2, True), (15, 2, False), (3, 3, False)])
def test_a_view_is_right_only_where_a_plane_of_the_picture_is_shown(viewer, desk, slice_, ndisplay, is_taught):
    """Where another stack is longer, and in 3-D, nothing is taught, and a sentence says why."""
    for name, count in (("long", 20), ("stack", 5)):
        viewer.add_image(np.zeros((count, 60, 80), np.float32), name=name)
    desk.take(viewer.layers["stack"])
    masks, gestures, said = desk.add_masks(), gestures_of(viewer), []
    viewer.dims.ndisplay = ndisplay
    viewer.dims.set_point(0, slice_)
    masks.layer.corner_pixels = np.array([[0, 0, 0], [0, 59, 79]])
    gestures.said.connect(said.append)
    gestures.accept_view()
    assert masks.picture.taught.any(axis=(1, 2)).tolist() == [i == slice_ and is_taught for i in range(5)]
    assert bool(said) != is_taught


def test_in_a_stack_a_cut_and_a_deletion_stay_in_their_plane(viewer, desk, session):
    """The planes beside the one in view keep their objects."""
    stack = viewer.add_image(np.zeros((3, 60, 80)), name="stack")
    desk.take(stack)
    masks = desk.add_masks()
    for z in range(3):
        masks.paste(predicted(cells()[None], key="stack", window=Box((z, 0, 0), (z + 1, 60, 80))))
    before = masks.layer.data.copy()
    assert tools.cut(masks, [(1, 30, 50), (1, 50, 50)], (1, 2))
    assert tools.delete(masks, (1, 20, 20))
    assert np.array_equal(masks.layer.data[[0, 2]], before[[0, 2]])
    assert len(np.unique(masks.layer.data[1])) == 3


def test_drawing_only_what_changed_gives_the_same_picture(viewer, desk):
    """On a large plane a pasted tile is drawn alone; the result is what drawing all of it gives."""
    large = viewer.add_image(np.zeros((600, 700), np.uint8), name="large")
    desk.take(large)
    masks = desk.add_masks()
    tile = Box((100, 200), (160, 280))
    masks.paste(predicted(cells(), key="large", window=tile))
    masks.refresh()
    part = masks.layer._slice.image.view.copy()
    masks.layer.refresh()
    assert part.any()
    assert np.array_equal(part, masks.layer._slice.image.view)


def test_late_answers_to_an_older_question_are_dropped(desk):
    """After new thresholds, tiles of the request before are not pasted over the fresh ones."""
    desk._masks.paste(predicted(cells(), request=2))
    desk._masks.paste(predicted(np.zeros((60, 80), int), request=1))
    assert np.array_equal(desk.masks.layer.data, cells())


def test_a_prediction_of_another_picture_goes_nowhere(desk):
    """Only the picture it was made of gets it."""
    desk._masks.paste(predicted(cells(), key="another"))
    assert not desk.masks.layer.data.any()
