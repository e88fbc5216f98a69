"""Objects and classes in one window: what belongs to one kind of label is not written among the other."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.widgets.carrier import carrier_of
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of


@pytest.fixture
def change_to(session, qtbot):
    """Function that has a model of another kind come, as the session tells it."""

    def turn():
        for picture in session.pictures.values():
            picture.masks = np.zeros(picture.source.shape, np.int32)
        session.restored.emit()

    def change(kind, masks):
        session.turn = turn
        state = replace(session.state, kind=kind, classes=("background", "class 1"))
        session.state = replace(state, can_click=kind == "objects")
        session.state_changed.emit(session.state)
        qtbot.waitUntil(lambda: masks.kind == kind)

    return change


def test_an_answer_that_comes_after_a_change_of_kind_is_dropped(masks, viewer, session, change_to, qtbot):
    """What was clicked is an object, whose number is no class; a click after the next change is answered."""
    gestures, clicker = gestures_of(viewer), clicker_of(viewer)
    gestures.start("click")
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], (0, 1))
    change_to("classes", masks)
    session.answer(1)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert not session.edits
    assert not masks.layer.data.any()
    change_to("objects", masks)
    session.answers = True
    gestures.start("click")
    clicker.take("on", [[10.0, 60.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    clicker.keep()
    assert [edit.kind for edit in session.edits] == ["objects"]


def test_an_object_in_work_is_kept_among_its_kind(masks, viewer, session, change_to, qtbot):
    """Its mask was there before the model changed: it is a correction of objects, that comes back with them."""
    gestures_of(viewer).start("click")
    clicker_of(viewer).take("on", [[10.0, 60.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker_of(viewer).is_waiting)
    change_to("classes", masks)
    assert [edit.kind for edit in session.edits] == ["objects"]


def test_nothing_is_carried_on_among_classes(viewer, session, change_to, qtbot):
    """It stops where it was when the model changed."""
    viewer.add_image(np.random.default_rng(0).random((5, 60, 80), dtype=np.float32), name="stack")
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    masks, clicker, carrier = desk.add_masks(), clicker_of(viewer), carrier_of(viewer)
    gestures_of(viewer).start("click")
    clicker.take("on", [[1.0, 30.0, 40.0]], (1, 2))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    session.answers = False
    carrier.go()
    change_to("classes", masks)
    session.answer(2)
    qtbot.waitUntil(lambda: not carrier.is_on)
    assert [edit.kind for edit in session.edits] == ["objects"]
