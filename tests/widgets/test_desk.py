"""What happens to masks and overlays when pictures are duplicated, exchanged, removed and renamed."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtTest import QTest

from napari_unet.core.geometry import Box
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.predict_panel import PredictPanel
from tests.widgets.conftest import cells


def names(viewer):
    """The layers of a viewer, the lowest first, without those that tools draw on."""
    return [layer.name for layer in viewer.layers if not layer.name.startswith("U-Net Live")]


def test_a_duplicated_picture_has_the_same_masks(viewer, desk, masks, session):
    """One label layer serves both, above both; what is taught over one is taught over the other."""
    again = viewer.add_image(viewer.layers["picture"].data.copy(), name="picture copy")
    assert desk.take(again)
    desk.predict()
    assert desk.masks is masks
    assert names(viewer) == ["picture", "picture copy", "picture masks", "picture taught"]
    viewer.layers.selection.active = viewer.layers["picture"]
    assert desk.image is viewer.layers["picture"]
    viewer.layers.selection.active = masks.layer
    assert desk.image is viewer.layers["picture"]
    masks.layer.paint((5, 70), 7)
    desk.settle()
    viewer.layers.remove("picture")
    desk.take(again)
    assert desk.masks is masks
    assert masks.layer.data[5, 70] == 7
    assert np.array_equal(masks.layer.data[20:50], cells()[20:50])
    assert [edit.picture for edit in session.edits] == ["picture"]


def other(shape=(60, 80)):
    """A picture that is not the one of the viewer."""
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def test_other_data_is_another_picture(viewer, desk, masks, session):
    """What was painted is settled for the picture before; unconfirmed masks go, and predictions are of the new one."""
    layer = masks.layer
    layer.paint((5, 70), 7)
    viewer.layers["picture"].data = other()
    desk.predict()
    assert [edit.picture for edit in session.edits] == ["picture"]
    assert session.pictures["picture"].masks[5, 70] == 7
    assert desk.picture.key == "picture 2"
    assert desk.picture.source.read(Box((0, 0), (60, 80)))[0, 0, 0] == other()[0, 0]
    assert session.calls[-1][:2] == ("predict", "picture 2")
    assert names(viewer) == ["picture", "picture masks", "picture taught"]
    assert viewer.layers["picture masks"] is layer
    assert not layer.data.any()
    assert not viewer.layers["picture taught"].data.any()
    layer.undo()
    assert not layer.data.any()
    layer.paint((5, 70), 7)
    desk.settle()
    assert [edit.picture for edit in session.edits] == ["picture", "picture 2"]


def test_the_data_before_brings_back_what_was_confirmed(viewer, desk, masks, qtbot):
    """Without another press of a button."""
    image, before = viewer.layers["picture"], viewer.layers["picture"].data
    masks.layer.paint((5, 70), 7)
    image.data = other()
    qtbot.waitUntil(lambda: desk.picture.key == "picture 2")
    image.data = before
    qtbot.waitUntil(lambda: desk.picture.key == "picture")
    assert masks.layer.data[5, 70] == 7


def test_data_of_another_size_gets_a_label_layer_of_that_size(viewer, desk, masks, qtbot):
    """The brush stays at hand."""
    viewer.layers.selection.active = masks.layer
    viewer.layers["picture"].data = other((30, 40))
    qtbot.waitUntil(lambda: viewer.layers["picture masks"].data.shape == (30, 40))
    assert viewer.layers.selection.active is viewer.layers["picture masks"]
    assert names(viewer) == ["picture", "picture masks", "picture taught"]


def test_pixels_that_were_changed_in_place_are_another_picture(viewer, desk, masks, session, qtbot):
    """Noticed when the layer is drawn anew; to draw it for another reason changes nothing."""
    image, before = viewer.layers["picture"], desk.picture
    for _ in range(3):
        image.refresh()
    qtbot.wait(400)
    assert desk.picture is before
    assert session.names_called().count("open_picture") == 1
    image.data[...] = other()
    image.refresh()
    qtbot.waitUntil(lambda: desk.picture is not None and desk.picture is not before)
    assert not masks.layer.data.any()
    assert masks.picture is desk.picture


def test_data_is_looked_at_once_however_often_it_is_set(viewer, desk, session, qtbot):
    """A camera sets it many times a second; pictures of which nothing was said are forgotten."""
    for seed in range(5):
        viewer.layers["picture"].data = np.random.default_rng(seed).random((60, 80))
    viewer.layers["picture"].data = other()
    qtbot.waitUntil(lambda: desk.picture.key == "picture 2")
    assert session.names_called().count("open_picture") == 2
    assert ("close_picture", "picture") in session.calls


def test_the_same_data_changes_nothing(viewer, desk, masks, qtbot):
    """It is the same picture, with the masks that it has."""
    viewer.layers["picture"].data = viewer.layers["picture"].data.copy()
    desk.predict()
    assert desk.masks is masks
    assert np.array_equal(masks.layer.data, cells())


def test_data_that_cannot_be_used_is_refused_and_the_masks_stay(viewer, desk, masks, monkeypatch):
    """One sentence, and no picture is in hand."""
    told = []
    monkeypatch.setattr("napari_unet.widgets.album.show_error", told.append)
    viewer.layers["picture"].data = np.zeros((1, 1, 1, 1, 60, 80))
    desk.predict()
    assert len(told) == 1
    assert desk.image is None
    assert np.array_equal(masks.layer.data, cells())


def test_an_object_asked_for_in_the_data_before_is_not_written_into_the_new_masks(viewer, desk, session, qtbot):
    """Its answer comes late."""
    gestures = gestures_of(viewer)
    gestures.start("click")
    session.answers = False
    gestures.clicker.take("on", [[20.0, 20.0]], (0, 1))
    viewer.layers["picture"].data = other()
    qtbot.waitUntil(lambda: desk.picture.key == "picture 2")
    session.answer(1)
    qtbot.waitUntil(lambda: not gestures.clicker.is_waiting)
    assert not desk.masks.layer.data.any()
    assert session.edits == []


def test_masks_stay_without_their_picture_and_are_its_masks_when_it_comes_back(viewer, desk, masks, session, qtbot):
    """The rim goes with the picture; nothing is there twice, and what was painted meanwhile is taught."""
    data = viewer.layers["picture"].data
    viewer.layers.remove("picture")
    qtbot.waitUntil(lambda: names(viewer) == ["picture masks"])
    assert desk.masks is None
    masks.layer.paint((5, 70), 7)
    desk.settle()
    again = viewer.add_image(data.copy(), name="picture")
    qtbot.waitUntil(lambda: desk.image is again)
    desk.predict()
    assert desk.masks is masks
    assert names(viewer) == ["picture", "picture masks", "picture taught"]
    assert masks.layer.data[5, 70] == 7
    assert [edit.picture for edit in session.edits] == ["picture"]


def test_masks_that_are_removed_take_what_lies_over_them_along(viewer, desk, masks, qtbot):
    """Both come back with the next prediction, and the heat is that of the new masks."""
    desk.show("doubt", True)
    viewer.layers.remove("picture masks")
    qtbot.waitUntil(lambda: names(viewer) == ["picture"])
    desk.predict()
    assert names(viewer) == ["picture", "picture masks", "picture taught", "picture doubt"]
    assert viewer.layers["picture doubt"].data is desk.masks.doubt


def test_an_overlay_taken_away_by_hand_is_off(viewer, desk, masks, qtbot):
    """It does not come back by itself, over no picture."""
    viewer.layers.remove("picture taught")
    qtbot.waitUntil(lambda: not desk.shows_taught)
    viewer.add_image(other(), name="second")
    desk.take(viewer.layers["second"])
    desk.add_masks()
    assert "second taught" not in viewer.layers


@pytest.mark.parametrize("is_at_once", [True, False])
def test_an_overlay_that_goes_with_its_picture_is_not_off(viewer, desk, masks, qtbot, is_at_once):
    """After all layers were removed the next picture has its rim, whether it comes at once or later."""
    viewer.layers.clear()
    if not is_at_once:
        QTest.qWait(10)
    desk.take(viewer.add_image(other(), name="again"))
    desk.predict()
    QTest.qWait(10)
    assert names(viewer) == ["again", "again masks", "again taught"]
    assert desk.shows_taught


def test_layers_follow_the_name_of_their_picture(viewer, desk, masks, qtbot):
    """The list under Picture, the masks and the rim; not a layer that has a name of the user's own."""
    panel = PredictPanel(viewer)
    qtbot.addWidget(panel)
    viewer.add_image(other(), name="second")
    viewer.layers["picture"].name = "cells"
    viewer.layers["second"].name = "third"
    assert names(viewer) == ["cells", "cells masks", "cells taught", "third"]
    assert [panel.image.itemText(i) for i in range(2)] == ["cells", "third"]
    assert panel.image.currentText() == "cells"
    masks.layer.name = "mine"
    viewer.layers["cells"].name = "third"
    assert names(viewer) == ["third [1]", "mine", "third [1] taught", "third"]
    assert panel.image.currentText() == "third [1]"


def test_a_picture_that_is_no_longer_in_the_viewer_is_not_followed(viewer, desk, masks):
    """Its masks keep their name."""
    image = viewer.layers["picture"]
    viewer.layers.remove(image)
    image.name = "elsewhere"
    assert masks.layer.name == "picture masks"


def test_a_viewer_that_is_gone_before_a_new_picture_is_looked_at_does_no_harm(viewer, desk, qtbot, monkeypatch):
    """The window closes at once after a picture was opened: the picture is not taken, and nothing fails."""
    picture = desk.image
    viewer.add_image(other(), name="late")
    monkeypatch.setattr(desk, "_viewer", lambda: None)
    desk._take_inserted()
    assert desk.image is picture
    monkeypatch.undo()
    desk._take_inserted()
    assert desk.image is viewer.layers["late"]


def test_masks_follow_a_picture_that_is_moved(viewer, desk, masks):
    """Who gives the size of a pixel once the masks are there finds them over the picture still, overlays too."""
    image = viewer.layers["picture"]
    desk.show("doubt", True)
    image.scale, image.translate = (0.5, 0.25), (10, -20)
    image.rotate, image.units = 30, ("um", "um")
    for name in ("picture masks", "picture taught", "picture doubt"):
        layer = viewer.layers[name]
        assert np.allclose(layer.data_to_world((7, 9)), image.data_to_world((7, 9)))
        assert layer.units == image.units
    viewer.layers.remove(image)
    image.scale = (1, 1)
    assert np.allclose(viewer.layers["picture masks"].scale, (0.5, 0.25))  # a picture that is gone moves nothing


def test_a_second_layer_of_a_picture_moves_no_masks(viewer, desk, masks):
    """They lie over the first one."""
    again = viewer.add_image(viewer.layers["picture"].data.copy(), name="picture copy")
    assert desk.take(again)
    desk.predict()
    again.translate = (50, 50)
    assert np.allclose(masks.layer.translate, 0)


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
def test_the_rim_is_not_shown_in_3d(viewer, session):
    """There napari draws no outlines: all that was taught was a solid block over the masks."""
    viewer.layers.clear()
    stack = viewer.add_image(np.random.default_rng(0).random((4, 60, 80), dtype=np.float32), name="stack")
    desk = desk_of(viewer)
    desk.take(stack)
    desk.add_masks()
    rim = viewer.layers["stack taught"]
    for ndisplay, is_seen in ((3, False), (2, True)):
        viewer.dims.ndisplay = ndisplay
        assert rim.visible == is_seen
        assert desk.shows_taught


def test_an_object_in_work_is_kept_in_its_project(viewer, desk, masks, session, qtbot):
    """Another project is opened by hand: what was clicked before is a correction of the one before."""
    gestures_of(viewer).start("click")
    clicker = clicker_of(viewer)
    clicker.take("on", [[10.0, 60.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    kept = []
    session.open_project = lambda path: kept.append(len(session.edits))
    assert desk.open_project(Path("/a/other.unetproj"))
    assert kept == [1]
    assert not clicker.is_at_work
