"""The user's hand: real mouse and key events on napari's canvas."""

from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.widgets import viewer_session
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.shortcuts import register
from tests.widgets.conftest import cells, predicted


class Hand:
    """Clicks, drags and keys at places of the picture, through Qt's events."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.canvas = viewer.window._qt_viewer.canvas.native

    def pixel(self, point):
        """Where a voxel (y, x) is on the canvas."""
        camera = self.viewer.scene.camera
        center, size = np.array(camera.center[-2:]), self.canvas.size()
        middle = np.array([size.height(), size.width()]) / 2
        y, x = middle + (np.array(point) - center) * camera.zoom
        return QPoint(round(x), round(y))

    def drag(self, *points):
        """Press at the first point, move over the others, release at the last."""
        QTest.mouseMove(self.canvas, self.pixel(points[0]))
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(points[0]))
        for a, b in pairwise(points):
            for share in np.linspace(0, 1, 6)[1:]:
                spot = self.pixel(np.array(a) + share * (np.array(b) - np.array(a)))
                self._move_pressed(spot)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(points[-1]))
        QApplication.processEvents()

    def _move_pressed(self, spot):
        at, above = QPointF(spot), QPointF(self.canvas.mapToGlobal(spot))
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        QTest.qWait(12)  # vispy leaves out moves that follow each other more closely than a screen can show
        move = QMouseEvent(QEvent.Type.MouseMove, at, above, none, left, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, move)

    def point_at(self, point):
        """Move the mouse there, with no button down."""
        QTest.mouseMove(self.canvas, self.pixel(point))
        QApplication.processEvents()

    def press(self, key):
        """Press a key with the focus on the canvas."""
        QTest.keyClick(self.canvas, key)
        QApplication.processEvents()


@pytest.fixture
def hand(make_napari_viewer, session, qtbot):
    """A hand over a real window with two predicted cells."""
    viewer = make_napari_viewer(show=True)
    register()
    viewer_session.keep_session(viewer, session)
    viewer.add_image(np.random.default_rng(0).random((60, 80), dtype=np.float32), name="picture")
    desk = desk_of(viewer)
    desk.take(viewer.layers["picture"])
    desk.add_masks().paste(predicted(cells()))
    desk.masks.refresh()
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.reset_view()
    QApplication.processEvents()
    return Hand(viewer)


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
