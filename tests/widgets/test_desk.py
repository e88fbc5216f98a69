"""What happens to masks and overlays when pictures are duplicated, exchanged, removed and renamed."""

import numpy as np

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
