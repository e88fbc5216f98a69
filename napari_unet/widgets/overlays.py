"""What has been taught, as a thin rim, and what is in doubt, as soft heat: two switchable layers over a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap

from napari_unet.widgets.layers import OURS, MaskLayer, place_of

if TYPE_CHECKING:
    from napari.components import LayerList

_TAUGHT = (1.0, 0.83, 0.25, 1.0)
_HELD_OUT = (0.45, 0.85, 1.0, 1.0)  # held out to score the model: taught as well, but seen by nobody who learns
_HEAT = Colormap([[0, 0, 0, 0], [0.9, 0.25, 0.1, 0.55], [1.0, 0.85, 0.3, 0.9]], name="doubt", controls=[0.0, 0.5, 1.0])


def rim_layer(mask: MaskLayer) -> Labels:
    """The rim round what was taught in a picture; shows the session's own array, so nothing is copied."""
    colors = {None: np.zeros(4), 0: np.zeros(4), 1: np.array(_TAUGHT), 2: np.array(_HELD_OUT)}
    layer = Labels(
        mask.picture.taught,
        name=f"{mask.image.name} taught",
        colormap=DirectLabelColormap(color_dict=colors),
        opacity=0.9,
        metadata={OURS: "taught"},
        **place_of(mask.image),
    )
    layer.contour = 1
    layer.editable = False
    return layer


def heat_layer(mask: MaskLayer) -> Image:
    """The heat where the network is in doubt; shows `mask.doubt` itself."""
    return Image(
        mask.doubt,
        name=f"{mask.image.name} doubt",
        rgb=False,
        multiscale=False,
        colormap=_HEAT,
        contrast_limits=(0, 255),
        blending="translucent",
        opacity=0.6,
        metadata={OURS: "doubt"},
        **place_of(mask.image),
    )


def add_quietly(layers: LayerList, layer: Layer) -> None:
    """Add a layer on top; the user's active layer and selection stay as they are."""
    active, selected = layers.selection.active, set(layers.selection)
    layers.append(layer)
    layers.selection = selected
    layers.selection.active = active


def redraw(layer: Layer) -> None:
    """Draw a layer whose array was changed in place."""
    if layer.visible:
        layer.refresh(extent=False, thumbnail=False)
