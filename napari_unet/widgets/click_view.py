"""ClickView: the layer that shows the object in work, what hovering would take, and the clicks."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.geometry import Box
from napari_unet.widgets.layers import SHOWN, add_unlisted, click_layer, lie_over, raise_unlisted, redraw, voxel_sides

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.core.prompts import Point, Prompts
    from napari_unet.widgets.mask_layer import MaskLayer
    from napari_unet.widgets.tools import Found

DOT = 4.0  # radius of a click, in pixels of the screen


class ClickView:
    """One layer over the picture in hand; it stays, and is hidden while the click tool is put away.

    Attributes
    ----------
    layer : Labels or None
        None before it was wanted for the first time.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.proxy(viewer)
        self.layer: Labels | None = None
        self._under: Labels | None = None
        self._drawn: list[Box] = []

    def lay(self, masks: MaskLayer) -> None:
        """Lay the layer over a label layer: before the first click, for adding a layer takes napari a while."""
        layers = self._viewer.layers
        if self.layer is None or self.layer not in layers:
            self.layer, self._under = click_layer(), None
            lie_over(self.layer, masks.layer)  # before it is there: napari warns of layers in other units
            add_unlisted(layers, self.layer)
        if self._under is not masks.layer:
            self.layer.data = np.zeros(masks.baseline.shape[-2:], np.uint8)
            self._under, self._drawn = masks.layer, []
        lie_over(self.layer, masks.layer)
        raise_unlisted(layers, self.layer)

    def show(self, found: Found | None, prompts: Prompts, value: str) -> None:
        """Show a mask as a 'guess' or as the 'mask', and the clicks over it; what was shown before goes."""
        layer, old = self.layer, self._drawn
        if layer is None:
            return
        for box in old:
            layer.data[box.slices] = 0
        self._drawn = []
        if found is not None:
            layer.data[found[0].slices][found[1]] = SHOWN[value]
            self._drawn.append(found[0])
        for points, name in ((prompts.positive, "on"), (prompts.negative, "off")):
            for point in points:
                self._dot(layer, point, SHOWN[name])
        if old or self._drawn:
            redraw(layer, [*old, *self._drawn])

    def _dot(self, layer: Labels, point: Point, value: int) -> None:
        """A click, as large as it is seen well."""
        radius = max(0.6, DOT / (self._viewer.scene.camera.zoom * float(voxel_sides(layer)[-1])))
        around = int(np.ceil(radius))
        box = Box(tuple(round(c) - around for c in point), tuple(round(c) + around + 1 for c in point))
        box = box.clip(layer.data.shape)
        y, x = np.ogrid[box.slices]
        layer.data[box.slices][(y - point[0]) ** 2 + (x - point[1]) ** 2 <= radius**2] = value
        self._drawn.append(box)
