"""The object in work: what clicks, boxes and scribbles do to it, and what is left of it in the label layer."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.core.events import ObjectMask
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts
from napari_unet.session.session import SessionState
from napari_unet.widgets import tools
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.gestures import gestures_of
from tests.widgets.conftest import cells

PLANE = (0, 1)


@pytest.fixture
def clicker(viewer, masks):
    """The click tool in hand, over two predicted cells; what waits for the answer is told when it is there."""
    gestures_of(viewer).start("click")
    return clicker_of(viewer)


def show(qtbot, clicker, gesture, *points):
    """One click, box or scribble, and the answer to it."""
    clicker.take(gesture, [list(map(float, p)) for p in points], PLANE)
    qtbot.waitUntil(lambda: not clicker.is_waiting)


def test_a_click_is_one_question_and_enter_one_undo_step(qtbot, clicker, masks, session):
    """Click, keep: a new object with a number of its own, one edit; undo takes all of it back."""
    show(qtbot, clicker, "on", (10, 60))
    assert clicker.is_at_work
    assert np.array_equal(masks.layer.data, cells())
    assert clicker.keep()
    assert masks.layer.data[10, 60] == 3
    assert [edit.tool for edit in session.edits] == ["click"]
    assert session.edits[0].prompts == Prompts(((10.0, 60.0),))
    assert masks.picture.taught[10, 60]
    masks.undo()
    assert np.array_equal(masks.layer.data, cells())
    assert not masks.picture.taught.any()
    masks.layer.redo()
    assert masks.layer.data[10, 60] == 3
    assert masks.picture.taught[10, 60]


def test_more_clicks_mend_the_object_in_work(qtbot, clicker, masks, session):
    """A second click beside it is shown with the first one and with the mask so far; "not this" takes away."""
    show(qtbot, clicker, "on", (10, 60))
    show(qtbot, clicker, "on", (10, 68))
    show(qtbot, clicker, "off", (10, 70))
    prompts = session.clicks[-1][2]
    assert prompts.positive == ((10, 60), (10, 68))
    assert prompts.negative == ((10, 70),)
    box, mask = session.clicks[-1][3]
    assert mask[tuple(np.array((10, 64)) - box.start)]
    clicker.keep()
    assert masks.layer.data[10, 62] == 3
    assert masks.layer.data[10, 69] == 0
    assert not clicker.is_at_work


def test_the_first_click_on_another_object_keeps_the_one_in_work(qtbot, clicker, masks):
    """No Enter is needed from object to object."""
    show(qtbot, clicker, "on", (10, 60))
    show(qtbot, clicker, "on", (40, 50))
    assert masks.layer.data[10, 60] == 3
    assert len(masks.trail.steps) == 1
    clicker.keep()
    assert len(masks.trail.steps) == 2


def test_what_an_object_replaces_gives_it_its_number(qtbot, clicker, masks):
    """The predicted cell 1 is clicked: the mask is cell 1 now, and nothing is left of the old one."""
    show(qtbot, clicker, "on", (22, 22))
    clicker.keep()
    assert masks.layer.data[22, 22] == 1
    assert masks.layer.data[13, 17] == 0
    assert cells()[13, 17] == 1


def test_a_box_and_a_scribble_are_prompts(qtbot, clicker, session):
    """A box is shown as a box, a scribble as many clicks."""
    show(qtbot, clicker, "box", (5, 50), (17, 66))
    assert session.clicks[-1][2].box == Box((5, 50), (18, 67))
    assert not session.clicks[-1][2].positive
    clicker.drop()
    show(qtbot, clicker, "scribble", *[(30, 10 + x) for x in range(60)])
    assert 10 < len(session.clicks[-1][2].positive) <= 48


def test_backspace_takes_the_last_click_back(qtbot, clicker, masks):
    """The mask before it is there at once; of the first click nothing is left."""
    show(qtbot, clicker, "on", (10, 60))
    before = clicker.view.layer.data.copy()
    show(qtbot, clicker, "on", (10, 68))
    clicker.back()
    assert np.array_equal(clicker.view.layer.data, before)
    clicker.back()
    assert not clicker.view.layer.data.any()
    assert not clicker.is_at_work
    assert np.array_equal(masks.layer.data, cells())


def test_clicks_faster_than_the_answers_lose_nothing(qtbot, clicker, masks, session):
    """Objects are clicked while the mask of the first one is still awaited: each is kept."""
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    clicker.take("on", [[50.0, 20.0]], PLANE)
    clicker.keep()
    assert len(session.clicks) == 1
    session.answer(1)
    qtbot.waitUntil(lambda: len(session.clicks) == 2)
    assert masks.layer.data[10, 60] == 3
    session.answer(2)
    qtbot.waitUntil(lambda: not clicker.is_at_work)
    assert masks.layer.data[50, 20] == 4


def test_backspace_faster_than_the_answers_takes_the_last_click_back_alone(qtbot, clicker, masks, session):
    """Two objects were clicked, and no mask has come yet: the first one stays in work."""
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    clicker.take("on", [[50.0, 20.0]], PLANE)
    assert clicker.back()
    session.answer(1)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    box, mask = clicker.found
    assert mask[10 - box.start[0], 60 - box.start[1]]
    assert clicker.back()
    assert not clicker.is_at_work
    assert np.array_equal(masks.layer.data, cells())


def test_an_object_that_was_confirmed_is_never_written_over(qtbot, clicker, masks, viewer):
    """Unless the switch allows it."""
    clicker.take("accept", [[20.0, 20.0]], PLANE)
    assert masks.picture.taught[20, 20]
    show(qtbot, clicker, "on", (22, 27))
    clicker.keep()
    assert np.array_equal(masks.layer.data == 1, cells() == 1)
    assert masks.layer.data[22, 30] == 3
    clicker.may_replace = True
    show(qtbot, clicker, "on", (20, 20))
    clicker.keep()
    assert np.count_nonzero(masks.layer.data == 1) < np.count_nonzero(cells() == 1)


def test_a_mask_that_is_all_confirmed_already_is_said_to_be(qtbot, clicker, masks, desk):
    """Nothing is written, and a sentence tells of the switch."""
    masks.picture.taught[...] = 1
    masks.layer.data[...] = 1
    said = []
    desk.acted.connect(said.append)
    show(qtbot, clicker, "on", (20, 20))
    assert not clicker.keep()
    assert "May replace" in said[-1]


def test_hovering_shows_what_a_click_would_take(qtbot, clicker, masks, session, viewer):
    """The mouse rests: the mask is asked for and shown; the click then shows it at once."""
    clicker._pointer = [10.0, 60.0]
    clicker._ask_hover()
    qtbot.waitUntil(lambda: clicker._hover is not None)
    assert session.hovers == [1]
    assert clicker.view.layer.data[10, 62] == 1
    session.answers = False
    clicker.take("on", [[10.0, 61.0]], PLANE)
    assert clicker.view.layer.data[10, 55] == 1
    assert clicker.view.layer.data[10, 61] == 3


def test_before_the_answer_the_predicted_object_is_shown(clicker, session):
    """A first guess: what the dense masks have under the cursor."""
    session.answers = False
    clicker.take("on", [[40.0, 50.0]], PLANE)
    assert np.count_nonzero(clicker.view.layer.data) == np.count_nonzero(cells() == 2)


def test_a_model_without_a_click_head_says_so(viewer, masks, session):
    """The tool is not taken in hand, and the sentence tells which model to choose."""
    session.state = SessionState(model="Other", can_click=False)
    said, gestures = [], gestures_of(viewer)
    gestures.said.connect(said.append)
    gestures.start("click")
    assert gestures.tool == ""
    assert "Generalist" in said[-1]


def test_putting_the_tool_away_keeps_the_object_in_work(qtbot, clicker, masks, viewer):
    """Nothing that was clicked is lost, and no click is shown any more."""
    show(qtbot, clicker, "on", (10, 60))
    gestures_of(viewer).stop()
    assert masks.layer.data[10, 60] == 3
    assert not clicker.view.layer.data.any()
    assert not masks.layer.mouse_move_callbacks


def test_putting_the_tool_away_waits_for_the_object_in_work(qtbot, clicker, masks, viewer, session):
    """The mask comes after the tool is gone: it is kept all the same, and nothing else is."""
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    gestures_of(viewer).stop()
    assert not clicker.is_at_work
    assert masks.layer.data[10, 60] == 0
    session.answer(1)
    qtbot.waitUntil(lambda: masks.layer.data[10, 60] == 3)
    assert not clicker.is_at_work
    assert [edit.tool for edit in session.edits] == ["click"]


def test_a_click_that_waits_when_the_tool_is_put_away_is_not_lost(qtbot, clicker, masks, viewer, session):
    """Two objects were clicked faster than the answers, then the tool was put away: both are kept."""
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    clicker.take("on", [[50.0, 10.0]], PLANE)
    gestures_of(viewer).stop()
    session.answer(1)
    qtbot.waitUntil(lambda: len(session.clicks) == 2)
    assert masks.layer.data[10, 60] == 3
    session.answer(2)
    qtbot.waitUntil(lambda: masks.layer.data[50, 10] == 4)
    assert not clicker.is_at_work
    assert not clicker.view.layer.data.any()


def test_a_click_with_the_tool_in_hand_again_waits_for_the_mask_before(qtbot, clicker, masks, viewer, session):
    """Else its question would take the place of the one before, and that object would be lost."""
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    gestures_of(viewer).stop()
    gestures_of(viewer).start("click")
    clicker.take("on", [[50.0, 10.0]], PLANE)
    assert len(session.clicks) == 1
    session.answer(1)
    qtbot.waitUntil(lambda: len(session.clicks) == 2)
    assert masks.layer.data[10, 60] == 3
    session.answer(2)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert clicker.is_at_work


def test_an_object_that_was_right_teaches_though_nothing_changes(masks):
    """Keeping a mask that is the predicted one says that it is right."""
    box = Box((0, 0), cells().shape)
    assert tools.place(masks, (), (box, cells() == 2)) == 2
    assert np.array_equal(masks.picture.taught != 0, cells() == 2)


@pytest.mark.parametrize(
    ("gesture", "path"), [("box", [(-60, -60), (-20, -20)]), ("scribble", [(-50, -40), (-50, 60)])]
)
def test_what_is_drawn_beside_the_picture_is_dropped(qtbot, clicker, masks, desk, session, gesture, path):
    """One sentence, no question; the next click begins an object, with its own prompts alone."""
    said = []
    desk.acted.connect(said.append)
    clicker.take(gesture, path, PLANE)
    assert [sentence for sentence in said if "beside the picture" in sentence] == said
    assert len(said) == 1
    assert not session.clicks
    assert not clicker.is_at_work
    show(qtbot, clicker, "on", (10, 60))
    assert session.clicks[-1][2] == Prompts(((10.0, 60.0),))


def test_of_a_scribble_over_the_edge_counts_what_is_inside(qtbot, clicker, session):
    """The points beside the picture are no clicks."""
    show(qtbot, clicker, "scribble", *[(30, x) for x in range(-20, 20)])
    assert all(x >= 0 for _, x in session.clicks[-1][2].positive)


def test_where_nothing_was_found_the_next_click_begins_an_object(qtbot, clicker, masks, desk, session):
    """An answer that failed takes its prompt with it: a first one all, a later one leaves the mask before it."""
    said, nothing = [], np.zeros((60, 80), bool)
    desk.acted.connect(said.append)
    session.answers = False
    clicker.take("box", [[5.0, 5.0], [15.0, 15.0]], PLANE)
    session.tell_mask(1, nothing)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert not clicker.is_at_work
    assert "Nothing was found" in said[-1]
    clicker.take("on", [[10.0, 60.0]], PLANE)
    assert session.clicks[-1][2] == Prompts(((10.0, 60.0),))
    session.answer(2)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    clicker.take("on", [[10.0, 68.0]], PLANE)
    session.tell_mask(3, nothing)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    clicker.take("on", [[10.0, 64.0]], PLANE)
    assert session.clicks[-1][2].positive == ((10.0, 60.0), (10.0, 64.0))


@pytest.mark.parametrize("is_found", [True, False])
def test_a_picture_that_is_removed_takes_the_object_in_work_with_it(qtbot, clicker, viewer, session, is_found):
    """Found already or still awaited: the session knows the picture no more, so nothing is taught in it."""
    session.leave_picture = lambda key: session.pictures.pop(key, None)
    session.answers = False
    clicker.take("on", [[10.0, 60.0]], PLANE)
    answer = ObjectMask("picture", Box((5, 55), (15, 65)), np.ones((10, 10), bool), 0.9, request=1)
    if is_found:
        session.object_found.emit(answer)
        qtbot.waitUntil(lambda: not clicker.is_waiting)
    viewer.layers.remove(viewer.layers["picture"])
    session.object_found.emit(answer)
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert not clicker.is_at_work
    assert not session.edits


def test_turned_axes_are_refused(clicker, desk, session):
    """Clicks are on the picture's own plane."""
    said = []
    desk.acted.connect(said.append)
    clicker.take("on", [[3.0, 10.0, 10.0]], (0, 2))
    assert "axes" in said[-1]
    assert not session.clicks


def test_clicks_in_a_stack_ask_for_the_slice(qtbot, viewer, session):
    """The plane of the question is the slice that was clicked in; the object is shown and written there alone."""
    from napari_unet.widgets.desk import desk_of

    viewer.add_image(np.random.default_rng(0).random((4, 60, 80), dtype=np.float32), name="stack")
    desk = desk_of(viewer)
    desk.take(viewer.layers["stack"])
    masks = desk.add_masks()
    gestures_of(viewer).start("click")
    clicker = clicker_of(viewer)
    viewer.dims.set_point(0, 2)
    clicker.take("on", [[2.0, 30.0, 40.0]], (1, 2))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    assert clicker.view.layer.data[30, 40]
    viewer.dims.set_point(0, 3)
    assert not clicker.view.layer.data.any()  # it is no object of this slice
    viewer.dims.set_point(0, 2)
    assert clicker.view.layer.data[30, 40]
    clicker.keep()
    assert session.clicks[-1][1] == (2,)
    assert masks.layer.data[2, 30, 40] > 0
    assert not masks.layer.data[[0, 1, 3]].any()


def test_real_keys_and_buttons(hand, session, qtbot):
    """A, click, right click, Backspace, Enter, and Ctrl+Z, Ctrl+Shift+Z after it: the way a user works."""
    viewer = hand.viewer
    masks, gestures = viewer.layers["picture masks"], gestures_of(viewer)
    viewer.layers.selection.active = masks
    hand.point_at((10, 60))
    hand.press(Qt.Key.Key_A)
    assert gestures.tool == "click"
    clicker = clicker_of(viewer)
    hand.drag((10, 60))
    qtbot.waitUntil(lambda: clicker.is_at_work and not clicker.is_waiting)
    QTest.mouseClick(hand.canvas, Qt.MouseButton.RightButton, pos=hand.pixel((14, 62)))
    qtbot.waitUntil(lambda: len(clicker._stages) == 2 and not clicker.is_waiting)
    assert clicker._stages[-1].prompts.negative
    hand.press(Qt.Key.Key_Backspace)
    assert len(clicker._stages) == 1
    QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, hand.pixel((14, 62)))
    qtbot.waitUntil(lambda: len(clicker._stages) == 2 and not clicker.is_waiting)
    assert clicker._stages[-1].prompts.negative
    hand.press(Qt.Key.Key_Return)
    assert not clicker.is_at_work
    assert masks.data[10, 60] == 3
    QTest.keyClick(hand.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.array_equal(masks.data, cells())
    QTest.keyClick(hand.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert masks.data[10, 60] == 3


def test_real_drags_are_boxes_and_scribbles(hand, session, qtbot):
    """A drag draws a box; with Alt it scribbles; Ctrl+click says that a predicted object is right."""
    gestures = gestures_of(hand.viewer)
    gestures.start("click")
    clicker = clicker_of(hand.viewer)
    hand.drag((4, 54), (16, 70))
    qtbot.waitUntil(lambda: clicker.is_at_work and not clicker.is_waiting)
    box = session.clicks[-1][2].box
    assert np.allclose((*box.start, *box.stop), (4, 54, 17, 71), atol=1)
    hand.press(Qt.Key.Key_Escape)
    assert not clicker.is_at_work
    assert gestures.tool == "click"
    hand.drag((50, 10), (50, 30), modifier=Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: clicker.is_at_work and not clicker.is_waiting)
    assert len(session.clicks[-1][2].positive) > 5
    hand.press(Qt.Key.Key_Escape)
    QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, hand.pixel((40, 50)))
    assert np.array_equal(desk_masks(hand).picture.taught != 0, cells() == 2)
    hand.press(Qt.Key.Key_Escape)
    assert gestures.tool == ""
    assert not len(hand.viewer.layers["U-Net Live pen"].data)


def desk_masks(hand):
    """The label layer in hand."""
    return gestures_of(hand.viewer).desk.masks
