"""An object carried on through a stack: until it ends, until it is stopped, and with its number."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.core.events import ObjectMask
from napari_unet.core.geometry import Box
from napari_unet.widgets import viewer_session
from napari_unet.widgets.carrier import carrier_of
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.shortcuts import register
from tests.widgets.conftest import Hand


@pytest.fixture
def masks(viewer, session):
    """The label layer of a stack of 5 slices, with an object kept in slice 1."""
    viewer.add_image(np.random.default_rng(0).random((5, 60, 80), dtype=np.float32), name="stack")
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    return desk.add_masks()


@pytest.fixture
def carrier(qtbot, viewer, masks):
    """What carries on, after an object was kept in slice 1."""
    gestures_of(viewer).start("click")
    clicker = clicker_of(viewer)
    clicker.take("on", [[1.0, 30.0, 40.0]], (1, 2))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    clicker.keep()
    return carrier_of(viewer)


def said(desk):
    """What is said from now on."""
    sentences = []
    desk.acted.connect(sentences.append)
    return sentences


def test_it_goes_to_the_last_slice_with_the_same_number(qtbot, carrier, masks, viewer, session):
    """Slices 2 to 4 get the object, the one before it does not; each slice is an undo step; the view follows."""
    told = said(carrier.desk)
    carrier.go()
    qtbot.waitUntil(lambda: not carrier.is_on)
    number = masks.layer.data[1, 30, 40]
    assert number > 0
    assert masks.layer.data[:, 30, 40].tolist() == [0, number, number, number, number]
    assert len(masks.trail.steps) == 4
    assert viewer.dims.current_step[0] == 4
    assert told[-1] == "The last slice is done, after 3 slices"
    masks.undo()
    assert masks.layer.data[4, 30, 40] == 0
    assert masks.layer.data[3, 30, 40] == number


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
def test_in_3d_it_does_not_set_off(carrier, viewer, session):
    """Slices cannot be followed there."""
    told = said(carrier.desk)
    viewer.dims.ndisplay = 3
    carrier.go()
    assert not carrier.is_on
    assert told[-1] == "Switch to the 2-D view to carry an object on."


def test_it_shows_the_next_slice_clicks_and_a_box_of_the_object(carrier, session):
    """The prompts are the mask shrunk to clicks, and a box around it."""
    session.answers = False
    carrier.go()
    _, lead, prompts, previous = session.clicks[-1]
    assert lead == (2,)
    assert np.hypot(*(np.array(prompts.positive[0]) - (30, 40))) < 3
    assert prompts.box.start < (25, 35)
    assert prompts.box.stop > (35, 45)
    assert previous is None


@pytest.mark.parametrize(("foreground", "moved"), [(0.1, 0), (0.9, 30)])
def test_it_stops_where_the_object_ends(qtbot, carrier, masks, session, foreground, moved):
    """The network sees nothing there, or the mask is somewhere else: nothing is written."""
    session.answers = False
    told = said(carrier.desk)
    carrier.go()
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 25:36, 35 + moved : 46 + moved] = True
    answer = ObjectMask("stack", Box((2, 0, 0), (3, 60, 80)), mask, foreground, request=len(session.clicks))
    session.object_found.emit(answer)
    qtbot.waitUntil(lambda: not carrier.is_on)
    assert not masks.layer.data[2:].any()
    assert "ends here, after 0 slices" in told[-1]


def test_the_same_key_or_another_slice_stops_it(qtbot, carrier, masks, session, viewer):
    """The user has the last word."""
    session.answers = False
    carrier.go()
    carrier.go()
    assert not carrier.is_on
    carrier.go()
    viewer.dims.set_current_step(0, 4)
    session.answer(len(session.clicks))
    qtbot.waitUntil(lambda: not carrier.is_on)
    assert not masks.layer.data[2:].any()


def test_a_click_meanwhile_stops_it(qtbot, carrier, session):
    """It takes the place of its question, which then gets no answer."""
    session.answers = False
    carrier.go()
    carrier.clicker.take("on", [[1.0, 10.0, 10.0]], (1, 2))
    session.answer(len(session.clicks))
    qtbot.waitUntil(lambda: not carrier.is_on)


def test_what_was_confirmed_there_stops_it(qtbot, carrier, masks):
    """It never writes over an object that the user confirmed."""
    masks.layer.data[3] = masks.baseline[3] = 7
    masks.picture.taught[3] = 1
    told = said(carrier.desk)
    carrier.go()
    qtbot.waitUntil(lambda: not carrier.is_on)
    assert (masks.layer.data[3] == 7).all()
    assert "yours already" in told[-1]


def test_without_an_object_or_a_stack_it_says_so(viewer, desk, session):
    """Sentences instead of silence."""
    told = said(desk)
    carrier_of(viewer).go()
    assert "no slices" in told[-1]


def test_an_object_that_was_undone_is_not_carried_on(carrier, masks):
    """What is not there any more has no next slice."""
    masks.undo()
    told = said(carrier.desk)
    carrier.go()
    assert not carrier.is_on
    assert "Keep an object first" in told[-1]


@pytest.mark.parametrize("moved", [0, 1])
def test_it_goes_along_the_slider_in_hand(qtbot, viewer, session, moved):
    """Time or z: as napari's arrow keys do, along the slider that is highlighted."""
    viewer.add_image(np.random.default_rng(0).random((3, 4, 60, 80), dtype=np.float32), name="film")
    desk, clicker = desk_of(viewer), clicker_of(viewer)
    desk.take(viewer.layers["film"])
    masks = desk.add_masks()
    gestures_of(viewer).start("click")
    clicker.take("on", [[0.0, 0.0, 30.0, 40.0]], (2, 3))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    viewer.dims.last_used = moved
    carrier_of(viewer).go()
    qtbot.waitUntil(lambda: not carrier_of(viewer).is_on)
    expected = np.zeros((3, 4), bool)
    expected[(slice(None), 0) if moved == 0 else (0, slice(None))] = True
    assert np.array_equal(masks.layer.data[:, :, 30, 40] > 0, expected)


def test_an_object_whose_mask_is_awaited_is_kept_first(qtbot, carrier, masks, session, viewer):
    """The key is pressed before the answer has come: the object is kept, then carried on."""
    session.answers = False
    clicker = clicker_of(viewer)
    viewer.dims.set_current_step(0, 1)
    clicker.take("on", [[1.0, 10.0, 60.0]], (1, 2))
    carrier.go()
    assert not carrier.is_on
    session.answers = True
    session.answer(len(session.clicks))
    qtbot.waitUntil(lambda: masks.layer.data[4, 10, 60] > 0)
    assert len(np.unique(masks.layer.data[1:, 10, 60])) == 1


def test_it_goes_on_in_no_other_project(carrier, masks, session):
    """A project is opened while it is on its way: what comes late is not written there."""
    session.answers = False
    told = said(carrier.desk)
    carrier.go()
    session.restored.emit()
    assert not carrier.is_on
    assert told[-1] == "Stopped after 0 slices"


def test_real_keys_and_buttons_carry_an_object_on(make_napari_viewer, session, qtbot):
    """A, a click in slice 1, Enter, G: the slices after it have the object, and the last one is shown."""
    viewer = make_napari_viewer(show=True)
    register()
    viewer_session.keep_session(viewer, session)
    viewer.add_image(np.random.default_rng(0).random((5, 60, 80), dtype=np.float32), name="stack")
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    masks = desk.add_masks()
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.reset_view()
    viewer.dims.set_current_step(0, 1)
    viewer.layers.selection.active = masks.layer
    hand = Hand(viewer)
    hand.point_at((30, 40))
    hand.press(Qt.Key.Key_A)
    QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.pixel((30, 40)))
    clicker = clicker_of(viewer)
    qtbot.waitUntil(lambda: clicker.is_at_work and not clicker.is_waiting)
    hand.press(Qt.Key.Key_Return)
    hand.press(Qt.Key.Key_G)
    qtbot.waitUntil(lambda: viewer.dims.current_step[0] == 4 and not carrier_of(viewer).is_on)
    shown = masks.layer.data[:, 30, 40]
    assert shown[1] > 0
    assert shown.tolist() == [0, *[shown[1]] * 4]
