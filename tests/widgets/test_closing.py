"""What is kept when a window or a dock is closed."""

import gc
import threading

import numpy as np
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QApplication,
)

from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.workspace import Workspace


@pytest.fixture
def own_masks(window):
    """The label layer of a picture in a window with the dock, nothing predicted."""
    window.add_image(np.zeros((60, 80)), name="mine")
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    QApplication.processEvents()
    workspace.first_run.use.click()
    return desk_of(window).masks


def test_closing_the_window_closes_the_session_and_keeps_the_last_stroke(window, own_masks, session):
    """A stroke that was painted just before is taught; the session is closed once, after it."""
    own_masks.layer.paint((20, 20), 1)
    window.close()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    assert len(session.edits) == 1
    assert session.names_called()[-1] == "close"


def test_the_x_of_the_window_keeps_the_last_stroke_and_the_masks(window, own_masks, session):
    """Napari removes no layer then; a button that seems to be down does not matter either."""
    own_masks.layer.paint((20, 20), 1)
    own_masks.is_pressed = True
    window.window._qt_window.close()
    assert len(session.edits) == 1
    assert [call[2][20, 20] for call in session.calls if call[0] == "keep_masks"] == [1]


def test_closing_the_window_keeps_the_object_in_work(window, own_masks, session, qtbot):
    """As far as its mask has come."""
    gestures_of(window).start("click")
    clicker = gestures_of(window).clicker
    clicker.take("on", [[20.0, 20.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    session.answers = False
    clicker.take("on", [[22.0, 22.0]], (0, 1))
    window.window._qt_window.close()
    assert [edit.tool for edit in session.edits] == ["click"]
    assert own_masks.baseline[20, 20]


@pytest.mark.parametrize("is_away", [False, True])
def test_a_click_just_before_the_window_is_closed_is_kept(window, own_masks, session, is_away):
    """Its answer is waited for a short while, also where the tool was put away already."""
    gestures_of(window).start("click")
    session.answers = False
    gestures_of(window).clicker.take("on", [[20.0, 20.0]], (0, 1))
    if is_away:
        gestures_of(window).stop()
    later = threading.Timer(0.1, session.answer, (len(session.clicks),))
    later.start()
    window.window._qt_window.close()
    later.join()
    assert [edit.tool for edit in session.edits] == ["click"]
    assert own_masks.baseline[20, 20]


def test_a_dock_that_is_closed_with_its_x_is_in_nobodys_way(window, session):
    """Napari lets it be destroyed, though Python halves of it live on: strokes and tools go on as before."""
    window.add_image(np.zeros((60, 80)), name="mine")
    old = Workspace(window)
    dock = window.window.add_dock_widget(old, name="U-Net Live")
    QApplication.processEvents()
    old.first_run.use.click()
    held = old.correct
    del old
    dock.title.close_button.click()
    del dock
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    with pytest.raises(RuntimeError):
        held.isVisible()
    window.layers["mine masks"].paint((20, 20), 1)
    desk_of(window).settle()
    gestures_of(window).start("cut")
    gestures_of(window).stop()
    desk_of(window).show("taught", False)
    window.layers.remove("mine")
    assert len(session.edits) == 1
