"""Predict and Correct: what the user clicks reaches the session, what it tells is shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtWidgets import (
    QProgressBar,
)

from napari_unet.core.errors import ImageError
from napari_unet.core.events import Progress
from napari_unet.session.session import SessionState
from napari_unet.widgets import tools
from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.layers import add_quietly
from napari_unet.widgets.predict_panel import PredictPanel
from tests.widgets.conftest import cells, predicted, tell, text_of


@pytest.fixture
def predict_panel(viewer, qtbot):
    """The Predict panel of a viewer without a window."""
    panel = PredictPanel(viewer)
    qtbot.addWidget(panel)
    return panel


def test_the_open_picture_is_taken_at_once(predict_panel, session):
    """No dialog: the picture that is open is in hand when the dock opens."""
    assert predict_panel.image.currentText() == "picture"
    assert ("open_picture", "picture") in session.calls
    assert predict_panel.predict.isEnabled()


def test_a_picture_that_comes_after_the_dock_is_taken(viewer, session, qtbot):
    """So is one that hides it, if it was not added quietly, and another one when the picture in hand is removed."""
    viewer.layers.clear()
    panel = PredictPanel(viewer)
    qtbot.addWidget(panel)
    assert not panel.predict.isEnabled()
    random = np.random.default_rng(0)
    for name, how, taken in (
        ("first", "translucent", "first"),
        ("second", "additive", "first"),
        ("third", "translucent", "third"),
        ("fourth", "translucent", "third"),
    ):
        image = Image(random.random((60, 80)), name=name, blending=how)
        if name == "fourth":
            add_quietly(viewer.layers, image)
        else:
            viewer.add_layer(image)
        qtbot.wait(300)
        assert panel.image.currentText() == taken
        assert panel.predict.isEnabled()
    viewer.layers.remove("third")
    qtbot.waitUntil(lambda: panel.image.currentText() == "fourth" and panel.predict.isEnabled())


def test_a_picture_that_is_chosen_is_shown(viewer, desk, masks, predict_panel):
    """What lies over it is hidden, with its rims; what is added up with it, or lies elsewhere, is not."""
    masks.layer.paint((5, 70), 7)
    desk.settle()
    random = np.random.default_rng(1)
    viewer.add_image(random.random((60, 80)), name="over", blending="translucent")
    viewer.add_image(random.random((60, 80)), name="added", blending="additive")
    viewer.add_image(random.random((60, 80)), name="beside", translate=(0, 200))

    def choose(name):
        predict_panel.image.setCurrentText(name)
        predict_panel.image.activated.emit(predict_panel.image.currentIndex())

    def seen():
        return {layer.name for layer in viewer.layers if layer.visible and not layer.name.startswith("U-Net Live")}

    choose("over")
    assert desk.image is viewer.layers["over"]
    assert viewer.layers.selection.active is viewer.layers["over"]
    assert seen() == {"over", "added", "beside"}
    choose("picture")
    assert viewer.layers.selection.active is masks.layer
    assert seen() == {"picture", "picture masks", "picture taught", "added", "beside"}


def test_predict_asks_for_the_view_and_makes_the_label_layer(predict_panel, session, viewer):
    """One click: a layer 'picture masks', and the session is asked for what is in view."""
    predict_panel.predict.click()
    assert "picture masks" in viewer.layers
    name, key, view = session.calls[-1]
    assert (name, key) == ("predict", "picture")
    assert view.shape == (60, 80)


def test_the_label_layer_is_at_hand_for_the_brush(predict_panel, viewer):
    """The label layer is the active one, also when the first correction brings the rim of what is taught."""
    predict_panel.predict.click()
    viewer.layers["picture masks"].paint((5, 70), 7)
    predict_panel.desk.settle()
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


def test_the_measured_size_is_shown_until_the_user_gives_one(predict_panel, session, qtbot):
    """What the model measured stands in the field; a step up begins there, and at 0 it is measured again."""
    predict_panel.desk.picture.measured = 31.6
    text = predict_panel.diameter.text
    tell(qtbot, session, "state_changed", SessionState(model="tiny", measured=31.6), lambda: text() == "auto: 32 px")
    predict_panel.diameter.stepUp()
    assert session.calls[-1] == ("use_diameter", 32)
    predict_panel.diameter.stepDown()
    assert session.calls[-1] == ("use_diameter", 31)
    predict_panel.diameter.setValue(0)
    assert session.calls[-1] == ("use_diameter", None)
    assert text() == "auto: 32 px"


def test_whether_a_picture_is_seen_inverted_is_shown_and_can_be_said(predict_panel, session, qtbot):
    """The model chooses it the first time; after that the user does."""
    picture, box = predict_panel.desk.picture, predict_panel.inverted
    assert not box.isChecked()
    picture.is_inverted = True
    tell(qtbot, session, "state_changed", SessionState(model="tiny"), box.isChecked)
    assert "invert" not in session.names_called()
    box.click()
    assert session.calls[-1] == ("invert", picture.key, False)


def test_a_size_that_is_given_from_python_is_shown(predict_panel, session, qtbot):
    """And taken back from there; nothing is asked of the session for it."""
    shown = predict_panel.diameter.text
    tell(qtbot, session, "state_changed", SessionState(model="tiny", given=41.7), lambda: shown() == "42 px")
    tell(qtbot, session, "state_changed", SessionState(model="tiny"), lambda: shown() == "auto")
    assert "use_diameter" not in session.names_called()


def test_only_a_model_of_classes_names_classes(predict_panel, session, qtbot):
    """Objects have a size and thresholds; classes have names."""
    predict_panel.show()
    shown = predict_panel.classes.isVisibleTo
    classes = SessionState(model="tiny", kind="classes", classes=("background", "cell"))
    tell(qtbot, session, "state_changed", classes, lambda: shown(predict_panel))
    assert predict_panel.classes.text() == "background, cell"
    assert not predict_panel.diameter.isVisibleTo(predict_panel)
    tell(qtbot, session, "state_changed", SessionState(model="tiny"), lambda: not shown(predict_panel))
    assert predict_panel.diameter.isVisibleTo(predict_panel)


def test_before_a_model_is_loaded_the_picker_says_so(predict_panel, session, qtbot):
    """The dock is there a second before its first model."""
    tell(qtbot, session, "state_changed", SessionState(), lambda: predict_panel.model.currentIndex() == -1)
    assert predict_panel.model.placeholderText() == "No model yet"


def test_models_and_devices_are_chosen_by_name(predict_panel, session):
    """The pickers show labels and hand over names; the line says what runs where."""
    predict_panel.model.setCurrentIndex(1)
    predict_panel.model.activated.emit(1)
    assert session.calls[-1] == ("use_model", "classes")
    predict_panel.device.activated.emit(0)
    assert session.calls[-1] == ("use_device", "auto")
    assert text_of(predict_panel, "device_line") == "CPU, 2 cores"


def test_the_model_in_use_is_shown_by_its_own_name_and_a_file_of_the_users_too(predict_panel, session, qtbot):
    """The session says 'Generalist', the list 'Generalist (shipped)'; an opened file joins the list."""
    state = SessionState(model="Generalist")
    tell(qtbot, session, "state_changed", state, lambda: predict_panel.model.currentText() == "Generalist (shipped)")
    mine = SessionState(model="my cells")
    tell(qtbot, session, "state_changed", mine, lambda: predict_panel.model.currentText() == "my cells")
    tell(qtbot, session, "state_changed", state, lambda: predict_panel.model.currentText() == "Generalist (shipped)")


def test_channels_are_offered_only_where_there_are_several(predict_panel, session, viewer):
    """A colour picture offers All, Red, Green, Blue; a grey one offers nothing."""
    assert predict_panel.channels_row.isHidden()
    colour = viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="colour")
    predict_panel.desk.take(colour)
    assert [predict_panel.channels.itemText(i) for i in range(4)] == ["All", "Red", "Green", "Blue"]
    predict_panel.channels.setCurrentIndex(2)
    predict_panel.channels.activated.emit(2)
    assert session.calls[-1] == ("use_channels", "colour", (1,))


def test_the_channels_that_a_project_knows_are_shown(predict_panel, session, viewer):
    """Also where it is opened while the picture is in hand."""
    desk = predict_panel.desk
    desk.take(viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="colour"))
    session.pictures["colour"].channels = (2,)
    desk.open_project(Path("/a/colour.unetproj"))
    assert predict_panel.channels.currentText() == "Blue"


def test_several_channels_that_python_chose_are_shown_by_name(predict_panel, session, viewer, qtbot):
    """As one more choice, while it is the one; without one, "All" is what the model reads."""
    box = predict_panel.channels
    predict_panel.desk.take(viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="colour"))
    for chosen, shown in (((0, 2), "Red + Blue"), ((1, 2), "Green + Blue"), ((1,), "Green"), (None, "All")):
        session.pictures["colour"].channels = chosen
        state = SessionState(model="Generalist", channels=("colour", chosen))
        tell(qtbot, session, "state_changed", state, lambda shown=shown: box.currentText() == shown)
        assert box.count() <= 5


def test_a_picture_that_comes_back_shows_its_channels(predict_panel, viewer):
    """What the model reads is what the box says."""
    rgb = np.zeros((60, 80, 3), np.uint8)
    first, second = (viewer.add_image(rgb + i, rgb=True, name=name) for i, name in enumerate(("first", "second")))
    desk = predict_panel.desk
    desk.take(first)
    desk.picture.channels = (1,)
    desk.take(second)
    assert predict_panel.channels.currentText() == "All"
    desk.take(first)
    assert predict_panel.channels.currentText() == "Green"


def test_a_file_of_the_users_can_be_chosen_again(predict_panel, session, qtbot):
    """The list shows the model's name, and takes its file."""
    mine = SessionState(model="my cells", model_source="/a/cells.safetensors")
    tell(qtbot, session, "state_changed", mine, lambda: predict_panel.model.currentText() == "my cells")
    predict_panel.model.activated.emit(predict_panel.model.currentIndex())
    assert session.calls[-1] == ("use_model", "/a/cells.safetensors")


def test_keeping_fresh_reaches_the_session(predict_panel, session):
    """It is the session that predicts again after learning."""
    predict_panel.fresh.setChecked(False)
    assert session.calls[-1] == ("keep_fresh", False)


def test_a_picture_that_cannot_be_used_is_one_sentence(predict_panel, viewer, session, monkeypatch):
    """What the session says is shown, and the picture before stays in hand."""
    told = []

    def refuse(*_, **__):
        raise ImageError("The picture has no pixels.")

    session.open_picture = refuse
    monkeypatch.setattr("napari_unet.widgets.album.show_error", told.append)
    odd = viewer.add_image(np.zeros((20, 30)), name="odd")
    assert not predict_panel.desk.take(odd)
    assert told == ["The picture has no pixels."]
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


def test_a_correction_that_no_disk_keeps_is_told_so(correct_panel, masks, session):
    """In a project that another window has open: strokes and what tools do are learnt, but end with the window."""
    session.state = replace(session.state, read_only="Another window has this project open.")
    masks.layer.paint((5, 70), 7)
    correct_panel.accept.click()
    not_saved = ", but not saved: this project is open for reading only"
    assert text_of(correct_panel, "last_action") == f"Correction taken{not_saved}"
    tools.delete(masks, (20, 20))
    assert text_of(correct_panel, "last_action") == f"Object 1 deleted{not_saved}"


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


def test_a_picture_that_was_removed_is_predicted_no_more(correct_panel, viewer, desk, session):
    """Learning would go on to refresh it; but not before the last of its layers is gone."""
    picture = desk.picture
    desk.take(viewer.add_image(desk.image.data, name="again"))
    viewer.layers.remove("picture")
    assert "leave_picture" not in session.names_called()
    viewer.layers.remove("again")
    assert ("leave_picture", picture.key) in session.calls


def test_a_picture_whose_masks_were_removed_is_predicted_no_more(desk, masks, viewer, session):
    """Nobody would see the masks, now and after learning; what is in them is kept first."""
    viewer.layers.remove(masks.layer)
    assert ("leave_picture", desk.picture.key) in session.calls
    assert "close_picture" not in session.names_called()
    assert session.names_called().index("keep_masks") < session.names_called().index("leave_picture")


def test_masks_that_were_removed_come_back_with_the_next_prediction(correct_panel, viewer, desk, session):
    """Removing the label layer loses nothing: what was in it is kept and shown again."""
    viewer.layers.remove("picture masks")
    assert "keep_masks" in session.names_called()
    assert not correct_panel.accept.isEnabled()
    desk.predict()
    assert np.array_equal(viewer.layers["picture masks"].data, cells())


def test_accept_keeps_the_object_in_work(viewer, masks, session, qtbot):
    """Like a stroke that still waits to be taken."""
    panel = CorrectPanel(viewer)
    qtbot.addWidget(panel)
    panel.tools["click"].click()
    panel.gestures.clicker.take("on", [[10.0, 60.0]], (0, 1))
    panel.accept.click()
    qtbot.waitUntil(lambda: len(session.edits) == 1)
    assert session.edits[0].tool == "click"
    assert masks.layer.data[10, 60] == 3
