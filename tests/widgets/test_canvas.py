"""The canvas of a real window: its OpenGL context, and the user's hand on it by mouse and key events."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QOpenGLContext
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from vispy.gloo import gl

from napari_unet.widgets import tools
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.workspace import Workspace
from tests.widgets.conftest import cells


@pytest.mark.parametrize("how", ["one", "selected", "all"])
def test_what_layers_held_on_the_graphics_card_is_freed_in_the_context_that_drew_them(hand, monkeypatch, how):
    """From whatever context they are removed: a software renderer crashes at one of the next drawings otherwise."""
    viewer, contexts = hand.viewer, []
    viewer.window.add_dock_widget(Workspace(viewer), name="U-Net Live")
    layers = viewer.layers
    layers.selection = {layers["picture"], layers["picture masks"]}
    QApplication.processEvents()
    viewer.screenshot(flash=False)  # all of them are drawn
    delete = gl.glDeleteProgram
    monkeypatch.setattr(gl, "glDeleteProgram", lambda _: contexts.append(QOpenGLContext.currentContext()) or delete(_))
    hand.canvas.doneCurrent()  # as after Qt has put the window together
    {"one": lambda: layers.remove("picture"), "selected": layers.remove_selected, "all": layers.clear}[how]()
    assert contexts
    assert set(contexts) == {hand.canvas.context()}


def test_key_n_flies_to_the_next_place(hand):
    """N on the masks: what is in doubt comes into the middle of the canvas."""
    desk_of(hand.viewer).masks.doubt[...] = 0
    desk_of(hand.viewer).masks.doubt[30:50, 40:60] = 255
    hand.viewer.scene.camera.center = (0, 0, 0)
    hand.point_at((0, 0))
    hand.press(Qt.Key.Key_N)
    assert np.allclose(hand.viewer.scene.camera.center[-2:], (30, 40), atol=12)


def test_a_painted_stroke_becomes_a_correction_and_undo_takes_it_back(hand, session, qtbot):
    """Brush, drag, wait: one edit with a number of its own; Ctrl+Z: nothing is taught."""
    masks = desk_of(hand.viewer).masks
    masks.layer.mode = "paint"
    hand.drag((8, 60), (8, 70))
    qtbot.waitUntil(lambda: len(session.edits) == 1, timeout=5000)
    assert masks.layer.data[8, 65] == 3
    assert not masks.is_pressed
    QTest.keyClick(hand.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.array_equal(masks.layer.data, cells())
    assert not masks.picture.taught.any()


def test_a_stroke_leaves_nothing_but_itself(hand, qtbot):
    """Where the brush was put away the masks look as beside it: napari's circle goes with all that is of it."""
    layer = desk_of(hand.viewer).masks.layer
    hand.viewer.layers["picture"].visible = False
    qtbot.wait(50)  # the brush is warmed
    layer.mode = "paint"
    hand.drag((8, 50), (8, 70))
    layer.mode = "pan_zoom"
    qtbot.wait(50)
    shot = hand.viewer.screenshot(canvas_only=True, flash=False)
    end, middle = (hand.pixel(point) for point in ((8, 70), (8, 60)))
    assert shot[middle.y(), middle.x(), :3].any()
    assert np.array_equal(shot[end.y(), end.x()], shot[middle.y(), middle.x()])


def test_a_click_deletes_a_drag_cuts_and_escape_puts_the_tool_away(hand, session):
    """The tools work by the mouse, and give the layer back as it was."""
    desk, gestures = desk_of(hand.viewer), gestures_of(hand.viewer)
    layer = desk.masks.layer
    layer.mode = "paint"
    gestures.start("delete")
    hand.drag((20, 20))
    assert not (layer.data == 1).any()
    gestures.start("cut")
    hand.drag((25, 50), (55, 50))
    assert len(np.unique(layer.data)) == 3
    assert [edit.tool for edit in session.edits] == ["delete", "cut"]
    hand.press(Qt.Key.Key_Escape)
    names = [other.name for other in hand.viewer.layers]
    assert names == ["picture", "picture masks", "picture taught", "U-Net Live pen"]
    assert len(hand.viewer.layers["U-Net Live pen"].data) == 0
    assert gestures.tool == ""
    assert str(layer.mode) == "paint"


def test_of_two_quick_clicks_the_second_is_a_click_and_no_zoom(hand, session, qtbot):
    """With a tool in hand, also where a drag begins with it; without one a double click zooms, as in napari."""
    viewer, gestures = hand.viewer, gestures_of(hand.viewer)
    zoom = viewer.scene.camera.zoom
    gestures.start("click")
    hand.drag((10, 60))
    hand.double((12, 62))
    qtbot.waitUntil(lambda: not gestures.clicker.is_waiting)
    assert len(session.clicks[-1][2].positive) == 2
    gestures.start("cut")
    hand.drag((25, 50))
    hand.double((25, 50), (55, 50))
    assert session.edits[-1].tool == "cut"
    assert viewer.scene.camera.zoom == zoom
    gestures.stop()
    hand.double((10, 60))
    assert viewer.scene.camera.zoom == 2 * zoom


def listed(viewer):
    """The names that napari's layer list shows, top first."""
    view = viewer.window._qt_viewer.layers
    rows = range(view.model().rowCount())
    return [view.model().index(row, 0).data() for row in rows if not view.isRowHidden(row)]


def test_the_layers_that_tools_draw_on_are_not_listed(hand):
    """Only what there is to choose is: also while a tool is in hand, and when layers are added, moved or removed."""
    viewer, gestures = hand.viewer, gestures_of(hand.viewer)
    shown = ["picture taught", "picture masks", "picture"]
    assert listed(viewer) == shown
    for tool in ("click", "cut"):
        gestures.start(tool)
        assert listed(viewer) == shown
    assert {"U-Net Live pen", "U-Net Live click"} < {layer.name for layer in viewer.layers}
    gestures.stop()
    viewer.add_points(name="mine")
    viewer.layers.move(viewer.layers.index("mine"), 0)
    assert listed(viewer) == [*shown, "mine"]
    viewer.layers.remove("mine")
    gestures.start("region")
    assert listed(viewer) == shown
    assert viewer.layers.selection.active is desk_of(viewer).masks.layer


def test_no_layer_that_is_not_listed_is_selected(hand):
    """A layer that was on top is deleted, and napari selects the one below: then it is the top one of the list."""
    viewer = hand.viewer
    gestures_of(viewer).start("click")
    viewer.add_points(name="mine")
    viewer.layers.remove_selected()
    assert viewer.layers.selection.active is viewer.layers["picture taught"]
    assert set(viewer.layers.selection) == {viewer.layers["picture taught"]}
    viewer.layers.select_next()
    assert viewer.layers.selection.active is viewer.layers["picture taught"]


def test_a_region_is_dragged_and_two_clicks_join(hand, session):
    """A rectangle says 'right'; a click on each of two objects joins them."""
    gestures, masks = gestures_of(hand.viewer), desk_of(hand.viewer).masks
    gestures.start("region")
    hand.drag((5, 5), (30, 35))
    assert masks.picture.taught[5:31, 5:36].all()
    assert np.count_nonzero(masks.picture.taught) == 26 * 31
    gestures.start("join")
    hand.drag((20, 20))
    hand.drag((40, 50))
    assert set(np.unique(masks.layer.data)) == {0, 1}
    hand.viewer.layers["picture masks"].undo()
    assert np.array_equal(masks.layer.data, cells())


def test_keys_act_on_the_object_under_the_cursor(hand, session):
    """Y says yes, D deletes, T hides the rim, J begins a join."""
    masks = desk_of(hand.viewer).masks
    hand.point_at((20, 20))
    hand.press(Qt.Key.Key_Y)
    assert np.array_equal(masks.picture.taught != 0, cells() == 1)
    hand.point_at((40, 50))
    hand.press(Qt.Key.Key_D)
    assert not (masks.layer.data == 2).any()
    hand.press(Qt.Key.Key_T)
    assert not hand.viewer.layers["picture taught"].visible
    hand.point_at((20, 20))
    hand.press(Qt.Key.Key_J)
    assert gestures_of(hand.viewer).tool == "join"


def test_taking_naparis_brush_puts_our_tool_away(hand):
    """Choosing a mode of napari ends our tool and keeps the chosen mode."""
    gestures, layer = gestures_of(hand.viewer), desk_of(hand.viewer).masks.layer
    gestures.start("cut")
    layer.mode = "erase"
    assert gestures.tool == ""
    assert str(layer.mode) == "erase"


def test_ctrl_z_takes_back_the_last_step_though_it_changed_no_label(hand):
    """What was accepted last goes first; the stroke before it stays."""
    masks = desk_of(hand.viewer).masks
    masks.layer.paint((50, 10), 9)
    tools.accept_object(masks, (40, 50))
    hand.viewer.layers.selection.active = masks.layer
    QTest.keyClick(hand.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QApplication.processEvents()
    assert not masks.picture.taught[40, 50]
    assert masks.layer.data[50, 10] == 9


def test_a_stroke_that_ends_on_another_layer_holds_nothing_up(hand, session, qtbot):
    """The layer was exchanged while the button was down, so its end is told to the other one: later strokes teach."""
    viewer, masks = hand.viewer, desk_of(hand.viewer).masks
    other = viewer.add_labels(np.zeros((60, 80), int), name="other")
    viewer.layers.selection.active = masks.layer
    masks.layer.mode = "paint"
    QTest.mousePress(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.pixel((5, 60)))
    assert masks.is_pressed
    viewer.layers.selection.active = other
    QTest.mouseRelease(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.pixel((5, 66)))
    assert not masks.is_pressed
    viewer.layers.selection.active = masks.layer
    hand.drag((50, 10), (50, 20))
    qtbot.waitUntil(lambda: len(session.edits) >= 1)
