"""Guide: flies to the place where the next correction helps most."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.geometry import Box
from napari_unet.core.suggest import Doubtful, next_place
from napari_unet.widgets.desk import Desk, desk_of
from napari_unet.widgets.layers import covers, share_place, voxel_sides
from napari_unet.widgets.viewer_session import real

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.widgets.mask_layer import MaskLayer

_FILLS = 0.7  # of the view, by the place that is looked at
_FLAT = "Switch to the 2-D view to be shown where to look."
_NOWHERE = "Nothing more is in doubt. Predict again, or open another picture."
_NOT_YET = "Predict first: then the places in doubt are known."

_guides: weakref.WeakKeyDictionary[Any, Guide] = weakref.WeakKeyDictionary()


def guide_of(viewer: Any) -> Guide:
    """The guide of a viewer; made at the first call."""
    viewer = real(viewer)
    if viewer not in _guides:
        _guides[viewer] = Guide(desk_of(viewer))
    return _guides[viewer]


def bring_forward(desk: Desk, image: Image) -> bool:
    """Take a picture in hand and show it, with its masks; what lies over it is hidden. False if it cannot be used."""
    if not desk.take(image):
        return False
    masks, all_masks = desk.masks, desk.all_masks
    for other in desk.images():
        over = all_masks.get(other)
        if over is not None and over is not masks and share_place(other, image):
            over.layer.visible = False
        if other is not image and covers(other, image):
            other.visible = False
    image.visible = True
    if masks is not None:
        masks.layer.visible = True
    desk.viewer.layers.selection.active = image if masks is None else masks.layer
    desk.show_overlays()
    return True


class Guide:
    """Goes from one place in doubt to the next, through all pictures that are open.

    Places that were shown are not shown again before all others were.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._seen: weakref.WeakKeyDictionary[Image, list[Box]] = weakref.WeakKeyDictionary()

    def go(self) -> bool:
        """Fly to the next place; False, and a sentence, if there is none."""
        if self.desk.viewer.dims.ndisplay != 2:
            self.desk.acted.emit(_FLAT)
            return False
        self.desk.settle()
        known = {image: masks for image, masks in self.desk.all_masks.items() if masks.doubt.any()}
        if not known:
            self.desk.acted.emit(_NOT_YET)
            return False
        found = self._best(known)
        if found is None and self._seen:
            self._seen.clear()
            found = self._best(known)
        if found is None:
            self.desk.acted.emit(_NOWHERE)
            return False
        image, box = found
        self._seen.setdefault(image, []).append(box)
        bring_forward(self.desk, image)
        self._fly(known[image], box)
        self.desk.acted.emit("In doubt here. Mend it, then press View is right: that teaches, too.")
        return True

    def _best(self, known: dict[Image, MaskLayer]) -> tuple[Image, Box] | None:
        """The place with most to gain."""
        state = self.desk.session.state

        def doubtful(masks: MaskLayer) -> Doubtful:
            shown = masks.layer.data if state.kind == "objects" else None
            return Doubtful(masks.picture, masks.doubt, shown, masks.picture.measured or state.diameter)

        return next_place({image: doubtful(masks) for image, masks in known.items()}, dict(self._seen))

    def _fly(self, masks: MaskLayer, box: Box) -> None:
        """Put a place into the middle of the view."""
        viewer, layer = self.desk.viewer, masks.layer
        middle = layer.data_to_world([c - 0.5 for c in box.center])
        missing = viewer.dims.ndim - len(middle)
        shown = viewer.dims.displayed
        for axis, value in enumerate(middle, start=missing):
            if axis not in shown:
                viewer.dims.set_point(axis, value)
        # not by what is in view: a picture that was hidden until now has not been drawn yet
        room = viewer.canvas.viewbox_size(viewer.layers)
        sides = [box.shape[axis - missing] * voxel_sides(layer)[axis - missing] for axis in shown[-2:]]
        camera = viewer.scene.camera
        before, zoom = np.array(camera.center[-2:]), float(camera.zoom)
        camera.zoom = _FILLS * min(pixels / side for pixels, side in zip(room, sides, strict=True))
        center = [middle[axis - missing] if axis >= missing else 0.0 for axis in shown]
        camera.center = (0.0, *center)[-3:]
        # the mouse rests, and points at another place now; napari looks only when it moves, and keys go by that
        at, axes = np.array(viewer.cursor.position), list(shown[-2:])
        at[axes] = np.array(camera.center[-2:]) + (at[axes] - before) * zoom / camera.zoom
        viewer.cursor.position = tuple(at.tolist())
