"""Where to look next: the view flies to what is in doubt, in any picture that is open."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.guide import guide_of
from tests.widgets.conftest import predicted


@pytest.fixture
def said(desk):
    """What the desk tells the user."""
    sentences = []
    desk.acted.connect(sentences.append)
    return sentences


@pytest.fixture
def two(viewer, desk):
    """Two large pictures with predicted masks and no doubt anywhere; the first one is in hand."""
    viewer.layers.clear()
    for seed, name in enumerate(("first", "second")):
        viewer.add_image(np.random.default_rng(seed).random((400, 600), dtype=np.float32), name=name)
        desk.take(viewer.layers[name])
        desk.add_masks().paste(predicted(np.zeros((400, 600), np.int32), key=name))
        desk.masks.doubt[...] = 0
    desk.take(viewer.layers["first"])
    return desk


def test_without_a_prediction_nothing_is_known(viewer, desk, said):
    """The user is told what to do first; the view stays."""
    center = viewer.scene.camera.center
    assert not guide_of(viewer).go()
    assert said == ["Predict first: then the places in doubt are known."]
    assert viewer.scene.camera.center == center


def test_in_the_3d_view_there_is_nothing_to_correct(viewer, two, said):
    """The user is told so, and not sent to tools that refuse there."""
    two.masks.doubt[300:330, 500:530] = 255
    viewer.dims.ndisplay = 3
    assert not guide_of(viewer).go()
    assert said == ["Switch to the 2-D view to be shown where to look."]


def test_the_view_flies_to_what_is_in_doubt(viewer, two, said):
    """The place comes into the middle of the view, enlarged; the masks are at hand."""
    two.masks.doubt[300:330, 500:530] = 255
    before = viewer.scene.camera.zoom
    assert guide_of(viewer).go()
    assert np.allclose(viewer.scene.camera.center[-2:], (315, 515), atol=70)
    assert viewer.scene.camera.zoom > before
    assert viewer.layers.selection.active is two.masks.layer
    assert "in doubt" in said[-1].lower()


def test_the_next_place_is_another_one_until_all_were_seen(viewer, two):
    """Place after place, the most doubtful first, then from the beginning."""
    two.masks.doubt[40:80, 40:80] = 255
    two.masks.doubt[300:320, 500:520] = 255
    centers = []
    for _ in range(3):
        guide_of(viewer).go()
        centers.append(tuple(viewer.scene.camera.center[-2:]))
    assert centers[0][1] < 200 < centers[1][1]
    assert centers[2] == centers[0]


@pytest.mark.parametrize(("kind", "column"), [("objects", 240), ("classes", 515)])
def test_where_the_last_place_gave_no_object_the_next_one_holds_some(viewer, two, session, kind, column):
    """Who is shown debris first is shown objects that the model is sure of next; classes are no objects."""
    session.state = replace(session.state, kind=kind)
    two.masks.doubt[40:90, 40:90] = 255
    two.masks.doubt[300:330, 500:530] = 255
    two.masks.doubt[200:210, 240:250] = 255
    two.masks.layer.data[210:260, 220:280] = 1
    for _ in range(2):
        guide_of(viewer).go()
    assert viewer.scene.camera.center[-1] == pytest.approx(column, abs=70)


def test_it_goes_on_in_another_picture(viewer, two):
    """The most doubtful place of all pictures that are open; the picture it is in comes to the front."""
    second = viewer.layers["second"]
    two.all_masks[second].doubt[100:150, 100:150] = 255
    two.masks.doubt[300:310, 500:510] = 255
    guide_of(viewer).go()
    assert two.image is second
    assert second.visible
    assert not viewer.layers["first"].visible
    guide_of(viewer).go()
    assert two.image is viewer.layers["first"]
    assert viewer.layers["first masks"].visible


def test_a_picture_that_was_hidden_is_shown_as_near(viewer, two):
    """It was not drawn yet, so nothing is known of its view; the place is as large on the screen as any other."""
    second = viewer.layers["second"]
    zooms = []
    for image, masks in two.all_masks.items():
        masks.doubt[100:150, 100:150] = 255 if image is second else 250
    two.all_masks[second].layer.corner_pixels = np.zeros((2, 2), int)
    for _ in range(2):
        guide_of(viewer).go()
        zooms.append(viewer.scene.camera.zoom)
    assert two.image is viewer.layers["first"]
    assert np.isclose(*zooms)


def test_a_picture_without_masks_does_not_hide_the_place(viewer, two):
    """Also where the place is in the picture in hand."""
    viewer.add_image(np.ones((400, 600)), name="over")
    two.masks.doubt[300:310, 500:510] = 255
    guide_of(viewer).go()
    assert two.image is viewer.layers["first"]
    assert not viewer.layers["over"].visible


def test_what_the_user_set_is_in_doubt_no_more(viewer, two, said):
    """A place that is taught is left out; when nothing else is in doubt, that is said."""
    two.masks.doubt[300:330, 500:530] = 255
    two.picture.taught[300:330, 500:530] = 1
    assert not guide_of(viewer).go()
    assert said[-1].startswith("Nothing more is in doubt")


def test_a_stack_is_flown_through(viewer, desk):
    """The plane of the place is shown."""
    viewer.layers.clear()
    viewer.add_image(np.random.default_rng(0).random((5, 200, 300), dtype=np.float32), name="stack")
    desk.take(viewer.layers["stack"])
    desk.add_masks()
    desk.masks.doubt[3, 100:140, 200:240] = 255
    guide_of(viewer).go()
    assert viewer.dims.current_step[0] == 3


def test_the_button_and_the_key_do_it(viewer, two, qtbot):
    """The button in the Correct panel names its key."""
    panel = CorrectPanel(viewer)
    qtbot.addWidget(panel)
    two.masks.doubt[300:330, 500:530] = 255
    before = viewer.scene.camera.zoom
    assert "N" in panel.suggest.toolTip()
    panel.suggest.click()
    assert viewer.scene.camera.zoom > before
    assert desk_of(viewer) is two


def test_keys_act_on_what_lies_under_a_mouse_that_rests_while_the_view_flies(hand, session, qtbot):
    """N, then D or Y: the object that lies under the mouse now is meant, not the one that lay there before."""
    viewer = hand.viewer
    masks = desk_of(viewer).masks
    masks.doubt[30:50, 40:60] = 255
    spot = hand.pixel((10, 10))
    QTest.mouseMove(hand.canvas, spot)
    qtbot.waitUntil(lambda: np.allclose(viewer.cursor.position, (10, 10), atol=1))
    assert guide_of(viewer).go()
    pointed = viewer.cursor.position
    hand._move_pressed(spot, Qt.KeyboardModifier.NoModifier)
    assert np.allclose(viewer.cursor.position, pointed, atol=0.5)
    assert not np.allclose(pointed, (10, 10), atol=2)
