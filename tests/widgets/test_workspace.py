"""The docks in a real napari window: what the user clicks reaches the session, what it tells is shown."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPointF
from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLabel, QProgressBar, QWidget

from napari_unet.core.events import Progress, TrainStep, WeightsChanged
from napari_unet.session.session import SessionState, Version
from napari_unet.widgets import viewer_session
from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.learn_panel import LearnPanel
from napari_unet.widgets.predict_panel import PredictPanel
from napari_unet.widgets.project_panel import ProjectPanel
from napari_unet.widgets.score_plot import ScorePlot
from napari_unet.widgets.workspace import Workspace
from tests.widgets.conftest import cells, predicted


@pytest.fixture
def predict_panel(viewer, qtbot):
    """The Predict panel of a viewer without a window."""
    panel = PredictPanel(viewer)
    qtbot.addWidget(panel)
    return panel


def text_of(panel, name):
    """What a line of a panel says."""
    return panel.findChild(QLabel, name).text()


def tell(qtbot, session, signal, event, until):
    """Emit an event of the session, and wait until it is shown."""
    if isinstance(event, SessionState):
        session.state = event
    getattr(session, signal).emit(event)
    qtbot.waitUntil(until)


# --- predict ---


def test_the_open_picture_is_taken_at_once(predict_panel, session):
    """No dialog: the picture that is open is in hand when the dock opens."""
    assert predict_panel.image.currentText() == "picture"
    assert ("open_picture", "picture") in session.calls
    assert predict_panel.predict.isEnabled()


def test_predict_asks_for_the_view_and_makes_the_label_layer(predict_panel, session, viewer):
    """One click: a layer 'picture masks', and the session is asked for what is in view."""
    predict_panel.predict.click()
    assert "picture masks" in viewer.layers
    name, key, view = session.calls[-1]
    assert (name, key) == ("predict", "picture")
    assert view.shape == (60, 80)


def test_the_label_layer_is_at_hand_for_the_brush(predict_panel, viewer):
    """After the first prediction the label layer is the active one; the rim of what is taught never is."""
    predict_panel.predict.click()
    assert viewer.layers.selection.active is viewer.layers["picture masks"]
    assert not viewer.layers["picture taught"].editable


def test_progress_takes_the_place_of_the_button_with_time_left_and_cancel(predict_panel, session, qtbot):
    """'Predicting 34 % · 12 s left', and Cancel stops it."""
    event = Progress("predict", "Predicting", 34, 100, 12.0)
    tell(qtbot, session, "progressed", event, lambda: predict_panel.work.currentIndex() == 1)
    assert predict_panel.findChild(QProgressBar, "progress").text() == "Predicting 34 % · 12 s left"
    predict_panel.cancel.click()
    assert session.names_called()[-1] == "cancel"
    end = Progress("predict", "Predicting", 100, 100)
    tell(qtbot, session, "progressed", end, lambda: predict_panel.work.currentIndex() == 0)


def test_a_threshold_acts_without_a_new_prediction(predict_panel, session, qtbot):
    """Moving a slider rebuilds the objects, once for many small moves."""
    for value in (0.6, 0.62, 0.7):
        predict_panel.foreground.setValue(value)
    qtbot.waitUntil(lambda: "rebuild" in session.names_called())
    assert session.names_called().count("rebuild") == 1
    assert session.calls[-1][1].foreground == pytest.approx(0.7)


def test_measure_takes_the_median_diameter_of_the_objects(predict_panel, session):
    """Two cells of radius 8 and 10: about 18 pixels; with one of them taught, that one alone counts."""
    predict_panel.predict.click()
    masks = predict_panel.desk.masks
    masks.paste(predicted(cells()))
    predict_panel.measure.click()
    assert predict_panel.diameter.value() == pytest.approx(18, abs=1)
    masks.picture.taught[cells() == 2] = 1
    predict_panel.measure.click()
    assert predict_panel.diameter.value() == pytest.approx(20, abs=1)
    assert session.calls[-1] == ("use_diameter", predict_panel.diameter.value())


def test_models_and_devices_are_chosen_by_name(predict_panel, session):
    """The pickers show labels and hand over names; the line says what runs where."""
    predict_panel.model.setCurrentIndex(1)
    predict_panel.model.activated.emit(1)
    assert session.calls[-1] == ("use_model", "tiny")
    predict_panel.device.activated.emit(0)
    assert session.calls[-1] == ("use_device", "auto")
    assert text_of(predict_panel, "device_line") == "CPU, 2 cores"


def test_channels_are_offered_only_where_there_are_several(predict_panel, session, viewer):
    """A colour picture offers All, Red, Green, Blue; a grey one offers nothing."""
    assert predict_panel.channels_row.isHidden()
    colour = viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="colour")
    predict_panel.desk.take(colour)
    assert [predict_panel.channels.itemText(i) for i in range(4)] == ["All", "Red", "Green", "Blue"]
    predict_panel.channels.setCurrentIndex(2)
    predict_panel.channels.activated.emit(2)
    assert session.calls[-1] == ("use_channels", "colour", (1,))


def test_a_picture_that_cannot_be_used_is_one_sentence(predict_panel, viewer, monkeypatch):
    """Complex numbers: a sentence, and the picture before stays in hand."""
    told = []
    monkeypatch.setattr("napari_unet.widgets.desk.show_error", told.append)
    odd = viewer.add_image(np.zeros((20, 30), np.complex64), name="odd")
    assert not predict_panel.desk.take(odd)
    assert len(told) == 1
    assert predict_panel.desk.image.name == "picture"


# --- correct ---


@pytest.fixture
def correct_panel(viewer, desk, masks, qtbot):
    """The Correct panel over two predicted cells."""
    panel = CorrectPanel(viewer)
    qtbot.addWidget(panel)
    return panel


def test_accept_teaches_a_stroke_at_once(correct_panel, masks, session):
    """No need to wait for the pause after a stroke."""
    masks.layer.paint((5, 70), 7)
    correct_panel.accept.click()
    assert len(session.edits) == 1
    assert text_of(correct_panel, "last_action") == "Correction taken"


def test_a_stroke_teaches_by_itself_after_a_pause(correct_panel, masks, session, qtbot):
    """Painting and waiting is all a user has to do."""
    masks.layer.paint((5, 70), 7)
    assert session.edits == []
    qtbot.waitUntil(lambda: len(session.edits) == 1, timeout=5000)


def test_a_stroke_is_not_taught_while_the_button_is_down(correct_panel, masks, session, desk):
    """The pause is over but the next stroke is being drawn: wait."""
    masks.layer.paint((5, 70), 7)
    masks.is_pressed = True
    desk.settle()
    assert session.edits == []
    masks.is_pressed = False
    desk.settle()
    assert len(session.edits) == 1


def test_the_last_action_is_told_and_can_be_undone(correct_panel, masks, session):
    """'View is right', then undo: nothing is taught."""
    correct_panel.view_right.click()
    assert text_of(correct_panel, "last_action") == "The region is right"
    correct_panel.undo.click()
    assert not masks.picture.taught.any()


def test_the_doubt_layer_appears_only_when_asked_for(correct_panel, viewer):
    """A soft heat layer, made once, that does not take the brush away from the masks."""
    assert "picture doubt" not in viewer.layers
    correct_panel.doubt.setChecked(True)
    assert viewer.layers["picture doubt"].data.max() > 0
    assert viewer.layers.selection.active is viewer.layers["picture masks"]
    correct_panel.doubt.setChecked(False)
    assert not viewer.layers["picture doubt"].visible


def test_masks_that_were_removed_come_back_with_the_next_prediction(correct_panel, viewer, desk, session):
    """Removing the label layer loses nothing: what was in it is kept and shown again."""
    viewer.layers.remove("picture masks")
    assert "keep_masks" in session.names_called()
    assert not correct_panel.accept.isEnabled()
    desk.predict()
    assert np.array_equal(viewer.layers["picture masks"].data, cells())


# --- learn ---


@pytest.fixture
def learn_panel(viewer, desk, qtbot):
    """The Learn panel."""
    panel = LearnPanel(viewer)
    qtbot.addWidget(panel)
    return panel


LEARNING = SessionState(
    learning="learning",
    corrections=27,
    pictures=3,
    learnt=25,
    version=2,
    versions=(Version(0, None, 0), Version(1, 0.81, 9), Version(2, 0.84, 25)),
)


def test_counts_and_the_round_are_told(learn_panel, session, qtbot):
    """'27 corrections in 3 pictures · learnt 25 · round 6, 8 s left'."""
    session.stepped.emit(TrainStep(200, 6, 0.4, 0.3))
    session.progressed.emit(Progress("learn", "Learning", 4, 10, 8.0))
    wanted = "27 corrections in 3 pictures · learnt 25 · round 6, 8 s left"
    tell(qtbot, session, "state_changed", LEARNING, lambda: text_of(learn_panel, "counts") == wanted)


def test_a_take_over_is_told_with_both_scores(learn_panel, session, qtbot):
    """The user reads what learning brought."""
    event = WeightsChanged(1, 0.81, 0.84, 5, 1)
    wanted = "Learnt from 1 correction · held-out score 0.81 → 0.84"
    tell(qtbot, session, "weights_changed", event, lambda: text_of(learn_panel, "news") == wanted)


def test_learning_is_switched_paused_and_hurried(learn_panel, session, qtbot):
    """The switch and the two buttons reach the session."""
    tell(qtbot, session, "state_changed", LEARNING, learn_panel.now.isEnabled)
    learn_panel.learn.click()
    learn_panel.now.click()
    learn_panel.pause.click()
    assert session.calls[-3:] == [("learn", False), ("learn_now",), ("pause", True)]


def test_an_earlier_version_can_be_had_back(learn_panel, session, qtbot):
    """Choose it and press Revert; the version in use cannot be reverted to."""
    tell(qtbot, session, "state_changed", LEARNING, lambda: learn_panel.version.count() == 3)
    assert not learn_panel.revert.isEnabled()
    assert learn_panel.version.currentText() == "Version 2 · 0.84 (best)"
    learn_panel.version.setCurrentIndex(2)
    learn_panel.revert.click()
    assert session.calls[-1] == ("revert", 0)


def test_a_dock_that_opens_late_shows_the_curve_so_far(viewer, session, qtbot):
    """What happened before is drawn, and hovering a version tells of it."""
    session.history = [TrainStep(i, 1, i / 50, 1 / (i + 1)) for i in range(50)] + [WeightsChanged(1, 0.8, 0.9, 4, 12)]
    panel = LearnPanel(viewer)
    qtbot.addWidget(panel)
    panel.plot.resize(240, 84)
    spots = {panel.plot.told_at(QPointF(x, y)) for x in range(0, 240, 4) for y in range(0, 84, 4)}
    assert "Version 1: held-out score 0.90, learnt from 12 corrections" in spots
    assert any(spot.startswith("Loss 0.") for spot in spots)


def test_the_curve_bears_skipped_steps_and_missing_scores(qtbot):
    """NaN is drawn nowhere and breaks nothing."""
    plot = ScorePlot()
    qtbot.addWidget(plot)
    plot.add(TrainStep(1, 1, 0.1, float("nan"), skipped=True))
    plot.add(WeightsChanged(1, float("nan"), float("nan"), 0, 1))
    plot.add(TrainStep(2, 1, 0.2, 0.5, kept=False, reason="no better"))
    assert not plot.grab().isNull()


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


# --- the workspace ---


@pytest.fixture
def window(make_napari_viewer, session):
    """A real napari window with the fake session behind it."""
    viewer = make_napari_viewer()
    viewer_session.keep_session(viewer, session)
    return viewer


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


def test_sections_fold(window):
    """A click on a title folds its panel away, another brings it back."""
    workspace = Workspace(window)
    window.window.add_dock_widget(workspace, name="U-Net Live")
    section = workspace.sections["Learn"]
    section.title.click()
    assert section.panel.isHidden() or section._holder.isHidden()
    section.title.click()
    assert not section._holder.isHidden()


def test_two_docks_of_one_viewer_share_the_desk(window):
    """Any number of docks are views of one thing."""
    window.add_image(np.zeros((60, 80)), name="mine")
    first, second = Workspace(window), Workspace(window)
    for dock in (first, second):
        window.window.add_dock_widget(dock)
    assert first.correct.desk is second.predict.desk is desk_of(window)
    assert first.correct.gestures is second.correct.gestures
