"""What a label layer and its picture know of each other."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.widgets import tools
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.layers import vertices_of
from tests.widgets.conftest import cells, predicted


def test_the_number_of_an_object_is_no_class(masks, session):
    """Once classes are predicted the brush has one of them; a class that the user picked stays."""
    assert masks.layer.selected_label == 3
    masks.layer.selected_label = 9  # as after some strokes
    session.state = type(session.state)(kind="classes", classes=("background", "class 1", "class 2"))
    masks.kind = "classes"
    classes = replace(predicted(np.ones((60, 80), int)), kind="classes")
    masks.paste(classes)
    assert masks.layer.selected_label == 1
    masks.layer.selected_label = 2
    masks.paste(classes)
    assert masks.layer.selected_label == 2


@pytest.mark.parametrize("is_pressed", [False, True])
def test_a_model_of_another_kind_begins_with_its_own_corrections(desk, masks, session, qtbot, is_pressed):
    """A stroke that waits, or is drawn, is taken as what it was meant; masks of objects are no masks of classes."""

    def turn():
        for picture in session.pictures.values():
            picture.truth[...], picture.taught[...], picture.masks[...] = 0, 0, 0
        session.calls.append(("turn",))
        session.restored.emit()

    session.turn = turn
    masks.layer.paint((5, 70), 7)
    masks.is_pressed = is_pressed
    state = replace(session.state, kind="classes", classes=("background", "class 1"))
    session.state = state
    session.state_changed.emit(state)
    if is_pressed:
        qtbot.wait(300)
        assert ("turn",) not in session.calls
        masks.is_pressed = False
    qtbot.waitUntil(lambda: ("turn",) in session.calls)
    assert [(edit.kind, edit.labels.max()) for edit in session.edits] == [("objects", 7)]
    assert not masks.layer.data.any()
    assert masks.layer.selected_label == 1  # the number of an object is no class
    masks.layer.paint((5, 70), 1)
    desk.settle()
    assert session.edits[1].kind == "classes"
    session.state_changed.emit(state)
    qtbot.wait(50)
    assert session.calls.count(("turn",)) == 1
    assert masks.layer.data[5, 70] == 1


def test_masks_of_a_project_stay_when_its_model_of_classes_comes(desk, masks, session, qtbot):
    """It is loaded a little later than the project is opened."""
    masks.picture.masks = np.full((60, 80), 1, np.int32)
    session.restored.emit()
    state = replace(session.state, kind="classes", classes=("background", "class 1"))
    session.turn = session.restored.emit
    session.state = state
    session.state_changed.emit(state)
    qtbot.waitUntil(lambda: masks.kind == "classes")
    assert (masks.layer.data == 1).all()


def test_each_polygon_has_a_number_of_its_own(hand):
    """Cells that are outlined one by one are no single object; a polygon that begins on one adds to it."""
    layer = desk_of(hand.viewer).masks.layer
    hand.viewer.layers.selection.active = layer
    layer.mode = "polygon"
    for corners in (((5, 40), (5, 50), (15, 50)), ((5, 65), (5, 75), (15, 75)), ((7, 73), (20, 70), (20, 78))):
        for corner in corners:
            QTest.mouseMove(hand.canvas, hand.pixel(corner))
            QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.pixel(corner))
        hand.press(Qt.Key.Key_Return)
    assert [layer.data[point] for point in ((7, 48), (7, 73), (18, 74))] == [3, 4, 4]


def outline(hand, corners):
    """Clicks of the polygon tool, the last one of them not closing it."""
    for corner in corners:
        QTest.mouseMove(hand.canvas, hand.pixel(corner))
        QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.pixel(corner))


def test_undo_amid_a_polygon_takes_its_last_vertex_back(hand, session):
    """Then the one before, then the polygon, and only then the last correction; the next polygon has a fresh number."""
    masks = desk_of(hand.viewer).masks
    layer = hand.viewer.layers.selection.active = masks.layer
    tools.delete(masks, (20, 20))
    layer.mode, layer.selected_label = "polygon", 2
    outline(hand, ((42, 50), (5, 60), (15, 60), (15, 40)))
    for left in (3, 2, 1, 0):
        assert not session.withdrawn
        masks.undo()
        assert len(vertices_of(layer)) == left + (left > 0)
    masks.undo()
    assert len(session.withdrawn) == 1
    outline(hand, ((5, 60), (5, 70), (15, 70), (50, 70)))
    masks.undo()
    hand.point_at((15, 69))
    hand.press(Qt.Key.Key_Return)
    assert layer.data[7, 68] == 3
    assert layer.data[18, 69] == 0


@pytest.mark.parametrize("mode", ["paint", "erase", "fill", "polygon"])
@pytest.mark.parametrize("slice_in_view", [0, 1, 4, 5])
def test_nothing_is_drawn_in_slices_that_the_picture_does_not_have(hand, qtbot, monkeypatch, mode, slice_in_view):
    """Before its first slice napari drew in its last ones, which nobody sees, and after its last slice it failed."""
    viewer, said = hand.viewer, []
    monkeypatch.setattr("napari_unet.widgets.mask_layer.show_info", said.append)
    viewer.add_image(np.random.default_rng(0).random((6, 60, 80), dtype=np.float32), name="longer")
    viewer.add_image(np.random.default_rng(1).random((3, 60, 80), dtype=np.float32), name="stack", translate=(2, 0, 0))
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    layer = viewer.layers.selection.active = desk.add_masks().layer
    layer.data[...] = 1
    desk.masks.baseline[...] = 1
    qtbot.wait(50)  # the brush is warmed
    viewer.dims.set_current_step(0, slice_in_view)
    layer.mode, layer.selected_label = mode, 2
    outline(hand, ((20, 20), (20, 40), (40, 40)))
    hand.press(Qt.Key.Key_Return)
    is_there = 2 <= slice_in_view < 5
    assert [bool((plane != 1).any()) for plane in layer.data] == [is_there and slice_in_view == z + 2 for z in range(3)]
    assert (str(layer.mode) == mode) == is_there
    assert len(said) == (not is_there)


def test_undo_amid_a_stroke_round_an_object_drops_it(hand, session):
    """What the right button of the brush has begun goes, not the correction before it."""
    masks = desk_of(hand.viewer).masks
    layer = hand.viewer.layers.selection.active = masks.layer
    tools.delete(masks, (20, 20))
    layer.mode = "paint"
    QTest.mouseMove(hand.canvas, hand.pixel((5, 40)))
    QTest.mouseClick(hand.canvas, Qt.MouseButton.RightButton, pos=hand.pixel((5, 40)))
    hand.point_at((5, 60))
    assert layer.data[5, 50]
    masks.undo()
    assert not layer.data[5, 50]
    assert not session.withdrawn


def test_labels_that_are_set_in_a_smaller_type_have_numbers_for_all_objects(masks):
    """A thresholded picture, or napari's "Convert to uint8": object 300 is predicted later, and stays 300."""
    masks.layer.data = np.zeros((60, 80), np.uint8)
    masks.settle()
    masks.reserve(299)
    masks.picture.taught[...] = 0
    masks.paste(predicted(cells()))
    assert masks.layer.data.max() == 301
    assert np.array_equal(masks.layer.data, masks.baseline)
