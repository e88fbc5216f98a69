"""What tools draw: where it lies, over which picture, and how large it is."""

import numpy as np

from napari_unet.core.geometry import Box
from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.gestures import gestures_of
from tests.widgets.conftest import predicted


def test_the_clicks_are_seen_on_a_scaled_and_moved_picture(qtbot, viewer, session):
    """The layer of the clicks lies over the picture, whatever its scale and place."""
    picture = np.random.default_rng(0).random((3, 50, 40), dtype=np.float32)
    viewer.add_image(picture, name="moved", scale=(4, 0.5, 0.5), translate=(0, 100, 20))
    desk = desk_of(viewer)
    desk.take(viewer.layers["moved"])
    desk.add_masks().paste(predicted(np.zeros((1, 50, 40), np.int32), "moved", Box((0, 0, 0), (1, 50, 40))))
    gestures_of(viewer).start("click")
    layer = clicker_of(viewer).view.layer
    assert layer.data.shape == (50, 40)
    assert np.allclose(layer.scale, 0.5)
    assert np.allclose(layer.translate, (100, 20))


def test_what_is_drawn_lies_over_a_picture_that_was_moved_meanwhile(viewer, masks):
    """The tool was used before: taken in hand again, its layers lie where the picture lies now, turned as it is."""
    gestures = gestures_of(viewer)
    gestures.start("click")
    gestures.stop()
    picture = viewer.layers["picture"]
    picture.scale, picture.translate, picture.rotate = (2, 2), (5, 7), 30
    picture.affine = np.diag([0.1, 0.1, 1])
    gestures.start("click")
    at = masks.layer.data_to_world((10, 60))
    for layer in (clicker_of(viewer).view.layer, viewer.layers["U-Net Live pen"]):
        assert np.allclose(layer.data_to_world((10, 60)), at)


def test_a_hand_that_shakes_clicks_on_a_picture_of_tiny_pixels(hand, session, qtbot):
    """The size of the pixels may come from the picture's affine: one pixel of the screen is no box."""
    viewer = hand.viewer
    viewer.layers["picture"].affine = np.diag([0.05, 0.05, 1])
    viewer.reset_view()
    gestures_of(viewer).start("click")
    spot = desk_of(viewer).masks.layer.data_to_world((10, 60))
    hand.drag(spot, np.array(spot) + 1.5 / viewer.scene.camera.zoom)
    qtbot.waitUntil(lambda: clicker_of(viewer).is_at_work)
    assert session.clicks[-1][2].box is None


def test_what_tools_draw_lies_over_a_picture_that_came_later(viewer, masks):
    """The object in work and the clicks were hidden by the second picture: nothing was seen of them."""
    gestures_of(viewer).start("click")
    gestures_of(viewer).stop()
    desk = desk_of(viewer)
    desk.take(viewer.add_image(np.ones((60, 80)), name="second"))
    gestures_of(viewer).start("click")
    drawn = {clicker_of(viewer).view.layer, viewer.layers["U-Net Live pen"]}
    assert set(viewer.layers[-2:]) == drawn
    order = list(viewer.layers)
    gestures_of(viewer).stop()
    gestures_of(viewer).start("click")
    assert list(viewer.layers) == order


def test_what_tools_draw_on_comes_in_the_units_of_the_picture(viewer):
    """Else napari would warn, as soon as a picture in µm is predicted, that layers have different units."""
    viewer.layers.clear()
    viewer.add_image(np.random.default_rng(0).random((60, 80), dtype=np.float32), units=("um", "um"))
    came = []
    viewer.layers.events.inserted.connect(lambda event: came.append((event.value.name, str(event.value.units[-1]))))
    desk = desk_of(viewer)
    gestures_of(viewer)
    desk.take(viewer.layers[0])
    desk.add_masks()
    assert {name for name, _ in came} >= {"U-Net Live pen", "U-Net Live click"}
    assert {unit for _, unit in came} == {"micrometer"}


def test_what_tools_draw_on_does_not_keep_the_view_where_a_removed_picture_was(qtbot, viewer, masks):
    """It goes with the last masks, or lies over others: a picture that is opened then would be out of sight."""
    desk = desk_of(viewer)
    gestures_of(viewer)
    image = viewer.add_image(np.random.default_rng(1).random((60, 80), dtype=np.float32), translate=(900, 900))
    desk.take(image)
    gestures_of(viewer).start("click")
    for layer in (desk.add_masks().layer, image):
        viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: viewer.layers.extent.world.max() < 100)
    for name in ("picture masks", "picture"):
        viewer.layers.remove(name)
    qtbot.waitUntil(lambda: not viewer.layers)
    desk.take(viewer.add_image(np.ones((60, 80)), name="next"))
    desk.add_masks()
    assert {"U-Net Live pen", "U-Net Live click"} < {layer.name for layer in viewer.layers}
