"""Project and the one dock: what is shown, what is kept, and what happens when the window closes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QWidget,
)

from napari_unet.core.errors import ProjectError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.session.session import SessionState
from napari_unet.widgets import viewer_session
from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.icons import theme_color
from napari_unet.widgets.project_panel import ProjectPanel
from napari_unet.widgets.workspace import Workspace
from tests.widgets.conftest import LEARNING, cells, tell, text_of

# --- project ---


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (SessionState(), "Nothing to save yet. A project begins by itself with your first correction."),
        (SessionState(project=Path("/a/cells.unetproj")), "cells.unetproj · saved"),
        (SessionState(project=Path("/a/cells.unetproj"), saved=False), "cells.unetproj · saving…"),
        (
            SessionState(project=Path("/a/b"), save_problem="The disk is full: free some room."),
            "The disk is full: free some room.",
        ),
        (SessionState(read_only="Another window has this project open."), "Another window has this project open."),
    ],
)
def test_one_line_says_where_the_work_is_and_whether_it_is_safe(viewer, desk, session, qtbot, state, sentence):
    """The plain line, the lasting problem, and the sentence for a reader."""
    session.state = state
    panel = ProjectPanel(viewer)
    qtbot.addWidget(panel)
    assert text_of(panel, "saved") == sentence
    assert panel.where.property("manner") == ("error" if state.save_problem else panel.where.property("manner"))


def test_the_table_counts_corrections_of_each_picture(viewer, desk, masks, session, qtbot):
    """One row a picture."""
    panel = ProjectPanel(viewer)
    qtbot.addWidget(panel)
    masks.layer.paint((5, 70), 7)
    desk.settle()
    tell(qtbot, session, "state_changed", SessionState(corrections=1), lambda: panel.table.item(0, 1).text() == "1")
    assert panel.table.item(0, 0).text() == "picture"


def test_the_table_follows_the_name_of_a_picture(viewer, desk, masks, session, qtbot):
    """Of two layers that show it the first names it."""
    panel = ProjectPanel(viewer)
    qtbot.addWidget(panel)
    desk.take(viewer.add_image(desk.image.data, name="again"))
    viewer.layers["picture"].name = "cells of Monday"
    assert panel.table.item(0, 0).text() == "cells of Monday"
    viewer.layers["again"].name = "cells of Tuesday"
    assert panel.table.item(0, 0).text() == "cells of Monday"


def test_the_table_tells_pictures_that_are_not_open(viewer, desk, masks, session, qtbot):
    """One that was removed stays, for its corrections are learnt; opened again it is a picture like others."""
    panel = ProjectPanel(viewer)
    qtbot.addWidget(panel)
    data = desk.image.data
    viewer.layers.remove("picture")
    assert panel.table.item(0, 0).text() == "picture (not open)"
    assert "are kept, and learnt" in panel.table.item(0, 0).toolTip()
    desk.take(viewer.add_image(data, name="picture"))
    assert panel.table.item(0, 0).text() == "picture"
    assert panel.table.rowCount() == 1


# --- the workspace ---


def test_an_empty_viewer_says_what_to_do(window, qtbot):
    """One sentence and two buttons; with a picture, one button."""
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    assert text_of(workspace, "first_run") == "Open a picture, or start with a sample."
    assert not workspace.first_run.openers.isHidden()
    window.add_image(np.zeros((60, 80)), name="mine")
    assert workspace.first_run.openers.isHidden()
    workspace.first_run.use.click()
    assert "mine masks" in window.layers
    assert workspace.first_run.isHidden()


def test_a_picture_that_is_refused_is_not_called_ready(qtbot, viewer, session, monkeypatch):
    """What was wrong with it was told once; the dock goes on saying how to see it again."""
    monkeypatch.setattr("napari_unet.widgets.album.show_error", lambda _: None)
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 2, 20, 30)), name="stack", axis_labels=("z", "c", "y", "x"))
    workspace = Workspace(viewer)
    qtbot.addWidget(workspace)
    assert text_of(workspace, "first_run") == "stack is not in use. Press 'Use this picture' to see why."


def test_every_control_has_a_name_and_a_tooltip(window):
    """Tests and scripts find controls by name; users learn what they do."""
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider)
    ours = [
        child
        for panel in (workspace.predict, workspace.correct, workspace.learn, workspace.project, workspace.first_run)
        for child in vars(panel).values()
        if isinstance(child, QWidget) and isinstance(child, kinds)
    ]
    assert len(ours) > 15
    assert [child for child in ours if not child.objectName() or not child.toolTip()] == []
    names = {child.objectName() for child in ours}
    assert {"predict", "learn", "accept", "revert", "model", "device", "image", "measure", "cancel"} <= names


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_what_went_wrong_can_be_read(window, session, theme):
    """The line above all else stands out from the dock by 4.5 to 1, and is still red."""
    window.theme = theme
    text = Workspace(window).trouble.text
    style = text.styleSheet()
    rgb = [float(part) / 255 for part in style[style.index("rgba(") + 5 :].split(",")[:3]]
    ground = theme_color("background", text).getRgbF()[:3]

    def luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted(luminance(color) + 0.05 for color in (rgb, ground))
    assert bright / dark >= 4.5
    assert rgb[0] > 1.3 * max(rgb[1:])


def test_a_dock_has_the_theme_of_its_viewer(window, make_napari_viewer, session):
    """Set from Python, for one viewer alone: titles, icons and curve of its dock follow, those of another do not."""
    dock = Workspace(window)
    title = dock.sections["Learn"].title
    before, icon = title.styleSheet(), dock.learn.pause.icon().cacheKey()
    window.theme = "light"
    assert theme_color("text", dock.learn.plot).lightnessF() < 0.5
    assert title.styleSheet() != before
    assert dock.learn.pause.icon().cacheKey() != icon
    another = make_napari_viewer()
    viewer_session.keep_session(another, type(session)())
    assert theme_color("text", Workspace(another).learn.plot).lightnessF() > 0.5
    window.theme = "dark"
    assert (title.styleSheet(), dock.learn.pause.icon().cacheKey()) == (before, icon)


def test_tooltips_name_the_key(window):
    """Delete is on D."""
    panel = CorrectPanel(window)
    window.window.add_dock_widget(panel, name="Correct")
    assert panel.tools["delete"].toolTip() == "Delete objects: click them (D)"


def test_nothing_is_wider_than_the_dock(window):
    """At 300 pixels no control is cut."""
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    assert workspace.widget().minimumSizeHint().width() <= workspace.minimumWidth()


def test_all_that_is_needed_at_once_fits_into_a_small_window(make_napari_viewer, session, qtbot):
    """At 1280 x 720 nobody has to scroll from Predict to the versions of the model, however much there is to tell.

    With more room the curve is larger: in a larger window, or when sections are folded.
    """
    viewer = make_napari_viewer(show=True)
    viewer_session.keep_session(viewer, session)
    viewer.window.resize(1280, 720)
    viewer.add_image(np.zeros((60, 80)), name="mine")
    workspace = Workspace(viewer)
    viewer.window.add_dock_widget(workspace, name="U-Net Live", area="right")
    workspace.first_run.use.click()
    for event in (TrainStep(1, 1, 0.5, 0.5), TrainStep(2, 1, 1.0, 0.4), WeightsChanged(2, 0.81, 0.84, 25, 2)):
        session.stepped.emit(event) if isinstance(event, TrainStep) else session.weights_changed.emit(event)
    state = replace(LEARNING, recent=(19, 20))
    tell(qtbot, session, "state_changed", state, lambda: workspace.learn.versions_row.isVisible())
    qtbot.waitUntil(lambda: workspace.learn.plot.isVisible() and workspace.learn.news.isVisible())
    QApplication.processEvents()
    shown = workspace.viewport().height()
    assert shown < 660
    assert workspace.sections["Learn"].geometry().bottom() <= shown
    for title in ("Correct", "Project"):
        workspace.sections[title].title.click()
    qtbot.waitUntil(lambda: workspace.learn.plot.height() > 100)  # what room there is is the curve's
    assert workspace.widget().height() <= shown
    assert not workspace.learn.plot.grab().isNull()
    for title in ("Correct", "Project"):
        workspace.sections[title].title.click()
    qtbot.waitUntil(lambda: workspace.learn.plot.height() < 100)
    QApplication.processEvents()
    assert workspace.sections["Learn"].geometry().bottom() <= shown


def test_a_picker_is_shown_where_there_is_a_choice(window, session, qtbot):
    """One picture, one device and one version need none."""
    window.add_image(np.zeros((60, 80)), name="mine")
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    rows = (workspace.predict.image_row, workspace.predict.device_row, workspace.learn.versions_row)
    assert all(row.isHidden() for row in rows)
    assert workspace.learn.plot.isHidden()
    window.add_image(np.zeros((60, 80)), name="other")
    state = replace(LEARNING, devices=("cpu", "cuda"))
    tell(qtbot, session, "state_changed", state, lambda: not any(row.isHidden() for row in rows))


def test_what_keeps_the_work_from_being_saved_is_seen_wherever_one_has_scrolled(window, session, qtbot):
    """One sentence above all sections, until it is saved; Project says it, too."""
    dock = Workspace(window)
    window.window.add_dock_widget(dock)
    dock.sections["Project"].title.click()
    assert dock.trouble.isHidden()
    sentence = "Cannot save: the disk is full. Free some space; your corrections wait."
    broken = SessionState(saved=False, save_problem=sentence)
    tell(qtbot, session, "state_changed", broken, lambda: not dock.trouble.isHidden())
    assert text_of(dock, "trouble") == text_of(dock, "saved") == sentence
    tell(qtbot, session, "state_changed", SessionState(), dock.trouble.isHidden)
    reader = SessionState(read_only="Another window has this project open.")
    tell(qtbot, session, "state_changed", reader, lambda: not dock.trouble.isHidden())
    assert text_of(dock, "trouble") == reader.read_only


def test_sections_fold(window):
    """A click on a title folds its panel away, another brings it back."""
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    section = workspace.sections["Learn"]
    section.title.click()
    assert section.panel.isHidden() or section._holder.isHidden()
    section.title.click()
    assert not section._holder.isHidden()


def test_another_project_is_shown_in_the_layers_at_once(viewer, desk, masks, session, qtbot):
    """Opening a project replaces the labels in place, and undo does not reach back into the other one."""
    panel = ProjectPanel(viewer)
    qtbot.addWidget(panel)
    layer = masks.layer
    layer.paint((5, 70), 7)
    picture = session.pictures["picture"]
    picture.masks = np.full((60, 80), 4, np.int32)

    def open_folder(path):
        picture.taught[...] = 0
        session.restored.emit()

    session.open_project = open_folder
    assert desk.open_project(Path("/a/other.unetproj"))
    layer.undo()
    assert (layer.data == 4).all()


def test_a_project_shows_what_it_knows_of_a_picture_without_masks(viewer, session):
    """Its folder was moved, so it was not found by itself: opened by hand, it shows all at once, before any Predict."""
    desk = desk_of(viewer)
    desk.take(viewer.layers["picture"])
    assert desk.masks is None

    def open_folder(path):
        picture = session.pictures["picture"]
        picture.truth[:5], picture.taught[:5] = 9, 1

    session.open_project = open_folder
    assert desk.open_project(Path("/a/moved.unetproj"))
    assert (desk.masks.layer.data[:5] == 9).all()


def test_opening_the_project_that_is_open_leaves_the_masks(desk, masks, session):
    """Masks that nobody confirmed stay, too."""
    assert desk.open_project(Path("/a/cells.unetproj"))
    assert np.array_equal(masks.layer.data, cells())


def test_a_picture_that_brings_its_project_shows_it_in_the_layers_of_the_others(viewer, desk, masks, session):
    """A stroke that was not settled yet is taught before; the labels of the project are shown at once."""
    open_picture = session.open_picture

    def open_with_project(name, source, *, path=None):
        session.pictures["picture"].masks = np.full((60, 80), 4, np.int32)
        session.restored.emit()
        return open_picture(name, source, path=path)

    session.open_picture = open_with_project
    masks.layer.paint((5, 70), 7)
    desk.take(viewer.add_image(np.ones((60, 80)), name="other"))
    assert len(session.edits) == 1
    assert masks.layer.data[20, 20] == masks.baseline[20, 20] == 4
    assert masks.layer.data[5, 70] == 7


def test_masks_that_a_project_knows_nothing_of_stay_on_the_screen(desk, masks, session):
    """Nothing vanishes when a later picture brings a project; where the project knows something, that is shown."""
    session.restored.emit()
    assert np.array_equal(masks.layer.data, cells())
    picture = session.pictures["picture"]
    picture.truth[:5], picture.taught[:5] = 9, 1
    session.restored.emit()
    assert np.array_equal(masks.layer.data[5:], cells()[5:])
    assert np.array_equal(masks.baseline, masks.layer.data)
    assert (masks.layer.data[:5] == 9).all()
    assert (masks.doubt[5:] > 0).all()
    assert masks.next_id == 10


def test_a_project_that_cannot_be_opened_is_one_sentence(viewer, desk, masks, session, monkeypatch):
    """The labels stay as they are."""
    told = []

    def refuse(path):
        raise ProjectError("This folder is no project.")

    session.open_project = refuse
    monkeypatch.setattr("napari_unet.widgets.desk.show_error", told.append)
    assert not desk.open_project(Path("/a/other.unetproj"))
    assert told == ["This folder is no project."]
    assert np.array_equal(masks.layer.data, cells())


def test_the_wheel_scrolls_and_chooses_nothing(window, session, qtbot):
    """Whatever it is over while the panel is scrolled: another model would begin its versions anew."""
    window.add_image(np.zeros((3, 60, 80)), name="mine", axis_labels=("c", "y", "x"))
    dock = Workspace(window)
    qtbot.addWidget(dock)
    dock.resize(300, 300)
    dock.show()
    panel, bar = dock.predict, dock.verticalScrollBar()
    slider = next(child for child in panel.foreground.findChildren(QAbstractSlider))
    session.calls.clear()
    for control in (panel.model, panel.channels, panel.diameter, slider):
        bar.setValue(20)
        for way in (-120, 120):
            before, middle = bar.value(), QPointF(control.rect().center())
            event = QWheelEvent(
                middle,
                QPointF(control.mapToGlobal(middle.toPoint())),
                QPoint(),
                QPoint(0, way),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
            QApplication.sendEvent(control, event)
            assert (bar.value() - before) * way < 0
    assert panel.model.currentText() == "Generalist (shipped)"
    assert panel.diameter.value() == 0
    assert not session.calls


def test_larger_letters_make_it_wider(viewer, qtbot):
    """Napari's preferences have a size of letters; nothing is cut."""
    dock = Workspace(viewer)
    qtbot.addWidget(dock)
    dock.show()
    narrow = dock.minimumWidth()
    dock.setStyleSheet("* { font-size: 16pt; }")
    qtbot.waitUntil(lambda: dock.minimumWidth() > narrow)
    assert dock.widget().minimumSizeHint().width() <= dock.minimumWidth()
    labels = [child for child in dock.predict.findChildren(QLabel) if child.text() in ("Foreground", "Separation")]
    dock.resize(dock.minimumWidth(), 800)
    qtbot.waitUntil(lambda: all(label.width() >= label.sizeHint().width() > 80 for label in labels))
    assert len(labels) == 2


def test_two_docks_of_one_viewer_share_the_desk(window):
    """Any number of docks are views of one thing."""
    window.add_image(np.zeros((60, 80)), name="mine")
    first, second = Workspace(window), Workspace(window)
    for dock in (first, second):
        window.window.add_dock_widget(dock)
    assert first.correct.desk is second.predict.desk is desk_of(window)
    assert first.correct.gestures is second.correct.gestures
