"""The tools in hand."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.core.geometry import Box
from napari_unet.session.session import SessionState
from napari_unet.widgets import tools
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from tests.widgets.conftest import predicted


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
def test_in_3d_the_tool_is_put_away(qtbot, masks, viewer, session):
    """Nobody sees there what is pointed at: the object in work is kept, and keys and clicks do nothing."""
    gestures, clicker, said = gestures_of(viewer), clicker_of(viewer), []
    gestures.start("click")
    clicker.take("on", [[30.0, 30.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    gestures.said.connect(said.append)
    viewer.dims.ndisplay = 3
    assert not gestures.tool
    assert len(session.edits) == 1
    viewer.cursor.position = (20, 20)
    for tool in ("delete", "accept", "join", "click"):
        said.clear()
        if tool == "click":
            gestures.start(tool)
        else:
            gestures.at_cursor(tool, masks.layer)
        assert said[-1] == "Switch to the 2-D view to correct objects."
    assert len(session.edits) == 1


def test_masks_that_are_hidden_are_shown_before_anything_is_done_to_them(desk, masks, viewer, session):
    """Nobody says of masks that they are right, or deletes one, without seeing them."""
    gestures, said = gestures_of(viewer), []
    gestures.said.connect(said.append)
    viewer.cursor.position = (20, 20)
    for act in (gestures.accept_view, lambda: gestures.at_cursor("delete", masks.layer)):
        masks.layer.visible = False
        act()
        assert masks.layer.visible
        assert "hidden" in said[-1]
        assert not session.edits
    for act in (lambda: gestures.start("cut"), desk.predict):
        masks.layer.visible = False
        act()
        assert masks.layer.visible
    gestures.at_cursor("delete", masks.layer)
    assert len(session.edits) == 1


@pytest.mark.parametrize(("before", "after"), [(0, 2), (3, 3), (5, 4)])
def test_predict_turns_to_a_slice_that_the_picture_has(viewer, session, before, after):
    """Where another stack is longer, nothing was seen of what was predicted; a slice that it has stays in view."""
    random = np.random.default_rng(0)
    viewer.add_image(random.random((6, 60, 80), dtype=np.float32), name="longer")
    viewer.add_image(random.random((3, 60, 80), dtype=np.float32), name="stack", translate=(2, 0, 0))
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    viewer.dims.set_current_step(0, before)
    desk.predict()
    assert viewer.dims.current_step[0] == after
    asked = next(call for call in session.calls if call[0] == "predict")
    assert asked[2].start[0] == after - 2


@pytest.mark.parametrize("is_found", [True, False])
def test_what_is_confirmed_comes_after_the_object_in_work(qtbot, masks, viewer, session, is_found):
    """With an object that was clicked and not kept yet, "View is right" keeps it, and confirms it with the view."""
    gestures, clicker = gestures_of(viewer), clicker_of(viewer)
    gestures.start("click")
    session.answers = is_found
    clicker.take("on", [[10.0, 60.0]], (0, 1))
    if is_found:
        qtbot.waitUntil(lambda: not clicker.is_waiting)
    masks.layer.corner_pixels = np.array([[0, 0], [59, 79]])
    gestures.accept_view()
    if not is_found:
        assert not session.edits
        session.answer(1)
    qtbot.waitUntil(lambda: len(session.edits) == 2)
    assert [edit.tool for edit in session.edits] == ["click", "region"]
    assert not clicker.is_at_work
    assert masks.layer.data[10, 60] == session.edits[1].labels[10, 60] == 3


def test_ctrl_z_takes_the_last_click_back_before_any_step(qtbot, masks, viewer, session):
    """An object that was kept before stays while another one is in work; the next one takes it back."""
    gestures, clicker = gestures_of(viewer), clicker_of(viewer)
    gestures.start("click")
    for point in ((10.0, 60.0), (50.0, 10.0)):
        clicker.take("on", [list(point)], (0, 1))
        qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert len(session.edits) == 1
    masks.undo()
    assert not clicker.is_at_work
    assert masks.layer.data[10, 60] == 3
    masks.undo()
    assert masks.layer.data[10, 60] == 0
    gestures.stop()
    masks.redo()
    assert masks.layer.data[10, 60] == 3


@pytest.mark.parametrize("is_smaller", [True, False])
def test_an_object_that_is_kept_is_confirmed_as_a_whole(masks, session, is_smaller):
    """Also where the click only found it smaller than it was predicted: no prediction changes it any more."""
    plane = masks.layer.data == 2
    plane[40, 59 if is_smaller else 60] ^= True
    box = Box.of_mask(plane)
    assert tools.place(masks, (), (box, plane[box.slices])) == 2
    assert session.edits[0].tool == "click"
    assert (masks.picture.taught[plane] != 0).all()
    masks.paste(predicted(np.zeros((60, 80), int)))
    assert np.array_equal(masks.layer.data == 2, plane)


def test_layers_of_tools_take_no_place_in_the_grid(masks, viewer):
    """Each would have an empty one without a tool in hand; elsewhere they stay seen, for showing one takes a while."""
    gestures, of_tools = gestures_of(viewer), {"U-Net Live pen", "U-Net Live click"}

    def seen():
        return {layer.name for layer in viewer.layers if layer.visible} & of_tools

    gestures._on_picture()
    assert seen() == of_tools
    viewer.canvas.grid.enabled = True
    assert not seen()
    for tool in ("click", "cut"):
        gestures.start(tool)
        assert seen() == of_tools
        gestures.stop()
        assert not seen()
    viewer.canvas.grid.enabled = False
    assert seen() == of_tools


@pytest.mark.parametrize("tool", ["delete", "join", "cut", "accept"])
def test_of_classes_no_tool_takes_all_of_one(desk, masks, viewer, session, tool):
    """Key D on a spot deleted the whole class, K made a hundred classes of it: they need objects, and say so."""
    session.state = replace(session.state, kind="classes", classes=("background", "class 1"))
    masks.kind = "classes"
    gestures, before, said = gestures_of(viewer), masks.layer.data.copy(), []
    gestures.said.connect(said.append)
    if tool != "cut":
        viewer.cursor.position = (20, 20)
        gestures.at_cursor(tool, masks.layer)
    gestures.start(tool)
    assert gestures.tool == ""
    assert said[-1].startswith("This model tells classes apart")
    assert not session.edits
    assert np.array_equal(masks.layer.data, before)
    gestures.start("region")
    assert gestures.tool == "region"


def test_nothing_of_a_class_goes_beyond_the_rectangle(masks, session):
    """Most of the class lies in the rectangle: the rest of it stays, for it is no piece of one object."""
    masks.layer.data[0, :2] = 2
    session.state = replace(session.state, kind="classes", classes=("background", "class 1", "class 2"))
    masks.kind = "classes"
    assert tools.clear_region(masks, Box((25, 30), (60, 80)))
    assert np.count_nonzero(masks.layer.data == 2) == 2
    assert not masks.layer.data[25:, 30:].any()


def test_a_tool_whose_layer_was_left_is_in_hand_again_at_once(desk, masks, viewer):
    """Who looked after the picture's contrast and presses Click again wants to click: not to put the tool away."""
    panel, viewer.layers.selection.active = CorrectPanel(viewer), masks.layer
    panel.tools["click"].click()
    viewer.layers.selection.active = viewer.layers["picture"]
    viewer.layers["picture"].translate = (5, 7)
    panel.tools["click"].click()
    assert np.allclose(clicker_of(viewer).view.layer.translate, (5, 7))
    assert viewer.layers.selection.active is masks.layer
    assert gestures_of(viewer).tool == "click"
    assert panel.tools["click"].isChecked()
    panel.tools["click"].click()
    assert gestures_of(viewer).tool == ""


def test_a_tool_in_hand_changes_no_masks_that_were_hidden_meanwhile(hand, session):
    """They are shown, and the next click is taken."""
    masks = desk_of(hand.viewer).masks
    gestures_of(hand.viewer).start("delete")
    hand.press(Qt.Key.Key_V)
    assert not masks.layer.visible
    for is_there in (True, False):
        hand.drag((20, 20), (20, 20))
        assert masks.layer.visible
        assert bool(masks.layer.data[20, 20]) == is_there


def test_a_dock_that_is_opened_again_shows_the_tool_in_hand(qtbot, masks, viewer):
    """Tools outlive it: its buttons are as they were when it was closed."""
    gestures_of(viewer).start("click")
    gestures_of(viewer).clicker.may_replace = True
    panel = CorrectPanel(viewer)
    qtbot.addWidget(panel)
    assert [name for name, made in panel.tools.items() if made.isChecked()] == ["click"]
    assert panel.may_replace.isChecked()


def test_the_tool_is_in_hand_when_the_model_is_there(qtbot, viewer, masks, session):
    """Pressed while it is still being loaded, the button does not stay lit; unless another tool was taken meanwhile."""
    loaded, gestures, panel = session.state, gestures_of(viewer), CorrectPanel(viewer)
    qtbot.addWidget(panel)
    session.state = SessionState()
    panel.tools["click"].click()
    assert "loaded" in panel.last.text()
    assert not panel.tools["click"].isChecked()
    session.state_changed.emit(session.state)
    assert gestures.tool == ""
    session.state = loaded
    session.state_changed.emit(loaded)
    qtbot.waitUntil(lambda: gestures.tool == "click")
    assert panel.tools["click"].isChecked()
    gestures.stop()
    session.state = SessionState()
    panel.tools["click"].click()
    panel.tools["cut"].click()
    session.state = loaded
    session.state_changed.emit(loaded)
    qtbot.wait(20)
    assert gestures.tool == "cut"
