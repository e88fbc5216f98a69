"""Overlays: the rim of what was taught and the heat of what is in doubt, over the pictures of one viewer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_unet.widgets.layers import add_quietly, heat_layer, redraw, rim_layer

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_unet.core.geometry import Box
    from napari_unet.widgets.mask_layer import MaskLayer


class Overlays:
    """One layer for each picture and kind ('taught' or 'doubt'), made when it is wanted for the first time.

    Parameters
    ----------
    viewer : napari.Viewer
    again : callable
        Shows all of them again: asked for where the view turns to 3-D, and back.
    taught : bool
        Whether the rim is on to begin with.

    Attributes
    ----------
    on : dict of str to bool
        Which kinds are shown.
    """

    def __init__(self, viewer: Any, again: Callable[[], object], *, taught: bool) -> None:
        self._viewer = weakref.proxy(viewer)
        viewer.dims.events.ndisplay.connect(again)
        self.on = {"taught": taught, "doubt": False}
        self._layers: dict[tuple[str, str], Layer] = {}  # of a picture and a kind
        self._loose: list[Layer] = []

    def of(self, key: str) -> list[Layer]:
        """The overlays of a picture."""
        return [layer for place, layer in self._layers.items() if place[0] == key]

    def show(self, masks: MaskLayer, image: Image, *, is_behind: bool) -> None:
        """Show what is on over a picture, and hide what is off; all of it where the picture is behind another one.

        In 3-D napari draws no outlines: the rim would be a solid block that hides everything, and is hidden itself.
        """
        self.sweep()
        is_flat = self._viewer.dims.ndisplay == 2
        for kind, is_on in self.on.items():
            on = is_on and not is_behind and (is_flat or kind != "taught")
            layer = self._layers.get((masks.picture.key, kind))
            if layer is None and on:
                layer = rim_layer(masks.picture, image) if kind == "taught" else heat_layer(masks.doubt, image)
                self._layers[masks.picture.key, kind] = layer
                add_quietly(self._viewer.layers, layer)
            elif layer is not None and layer.visible != on:
                layer.visible = on

    def redraw(self, key: str, kind: str, boxes: Sequence[Box] = ()) -> None:
        """Draw an overlay again, at `boxes` or as a whole, if there is one."""
        if (key, kind) in self._layers:
            redraw(self._layers[key, kind], boxes)

    def let_go(self, key: str) -> None:
        """A picture is gone, or its masks: its overlays go with it, but not while napari removes layers (`sweep`)."""
        self._loose += self.of(key)
        self._layers = {place: layer for place, layer in self._layers.items() if place[0] != key}

    def sweep(self) -> None:
        """Remove what was let go."""
        loose, self._loose = self._loose, []
        for layer in loose:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def take_note(self) -> bool:
        """Whether the user took an overlay away by hand: its kind is not to come back by itself, and is off."""
        gone = [place for place, layer in self._layers.items() if layer not in self._viewer.layers]
        for place in gone:
            del self._layers[place]
            self.on[place[1]] = False
        return bool(gone)
