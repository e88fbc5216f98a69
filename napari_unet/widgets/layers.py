"""napari's layers for a picture: where they come from, how they are made, and how they are drawn again.

With `mask_layer.py` the only file that reads and writes napari layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QListView

from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.widgets.history import merged

if TYPE_CHECKING:
    from napari.components import Dims, LayerList

    from napari_unet.session.session import Picture

OURS = "napari-unet-live"  # key in `layer.metadata` of the layers we made
_OPACITY = 0.5
_TAUGHT = (1.0, 0.83, 0.25, 1.0)
_HELD_OUT = (0.45, 0.85, 1.0, 1.0)  # held out to score the model: taught as well, but seen by nobody who learns
_HEAT = Colormap([[0, 0, 0, 0], [0.9, 0.25, 0.1, 0.55], [1.0, 0.85, 0.3, 0.9]], name="doubt", controls=[0.0, 0.5, 1.0])
SHOWN = {"guess": 1, "mask": 2, "on": 3, "off": 4}
"""Values of the layer that shows an object in work: what a click would take, its mask, clicks on it and beside it."""
_SHOWN_AS = {
    "guess": (1.0, 1.0, 1.0, 0.35),
    "mask": (0.2, 0.85, 1.0, 0.75),
    "on": (0.25, 0.95, 0.35, 1.0),
    "off": (1.0, 0.3, 0.25, 1.0),
}
_WITH_THUMBNAIL = 1024 * 1024  # pixels of a plane, up to which its thumbnail is made anew, too
_SEE_THROUGH = ("additive", "minimum", "multiplicative")
_LARGE = 512 * 512  # pixels of a plane, from which on only what changed is drawn


def is_ours(layer: Any) -> bool:
    """Whether we made this layer (a mask, a rim, a heat map), so that it is no picture to predict."""
    return OURS in layer.metadata


def channel_axis_of(image: Image | Labels) -> int | None:
    """Axis of the channels of a picture that is no colour picture, by the name of the axis; None if there is none."""
    if isinstance(image, Labels) or image.rgb:
        return None
    names = [str(name).lower() for name in image.axis_labels]
    return next((axis for axis, name in enumerate(names) if name in {"c", "ch", "channel", "channels"}), None)


def source_of(image: Image) -> ImageSource:
    """The picture of an image layer, read lazily at its full resolution.

    Raises
    ------
    ImageError
        If it cannot be used as it is (see `ImageSource.of_array`), or if its channels are not in front: napari lines
        layers up by their last axes, so masks, which have no channels, would follow another slider.
    """
    data = list(image.data) if image.multiscale else image.data
    axis = channel_axis_of(image)
    if axis:
        raise ImageError(
            f"The channels of {image.name} are its axis {axis + 1} of {image.ndim}. "
            "Put the channels first, or split them (Layer > Split Stack)."
        )
    scale = [float(s) for a, s in enumerate(image.scale) if a != axis]
    return ImageSource.of_array(data, rgb=image.rgb, channel_axis=axis, voxel_size=tuple(scale), name=image.name)


def path_of(image: Image) -> Path | None:
    """The file an image layer was read from, if napari knows."""
    path = image.source.path
    return Path(path) if path else None


def place_of(image: Image | Labels) -> dict[str, Any]:
    """Where a layer lies in the world, as arguments for a layer over it (without its channel axis)."""
    axis = channel_axis_of(image)
    names = [n for a, n in enumerate(image.axis_labels) if a != axis]
    units = [u for a, u in enumerate(image.units) if a != axis]
    place: dict[str, Any] = {"axis_labels": names, "units": units}
    if axis is None:
        kept = ("scale", "translate", "rotate", "shear")
        return place | {name: getattr(image, name) for name in kept} | {"affine": image.affine.affine_matrix}
    for name, matrix in (("affine", image.affine.affine_matrix), ("rotate", image.rotate)):
        place[name] = np.delete(np.delete(matrix, axis, 0), axis, 1)
    pairs = np.array(np.triu_indices(image.ndim, 1))  # of axes: napari has one number for each
    place["shear"] = np.asarray(image.shear)[(pairs != axis).all(axis=0)]
    return place | {"scale": np.delete(image.scale, axis), "translate": np.delete(image.translate, axis)}


def known_labels(picture: Picture) -> npt.NDArray[np.int32]:
    """What is known of a picture: its saved masks, and over them what the user set.

    Raises
    ------
    ImageError
        If the saved masks have another size than the picture.
    """
    masks = picture.masks
    if masks is not None and masks.shape != picture.truth.shape:
        raise ImageError(f"The masks saved for {picture.name} have another size than the picture; they are not shown.")
    data = np.zeros(picture.truth.shape, np.int32) if masks is None else masks.astype(np.int32)
    known = picture.taught != 0
    data[known] = picture.truth[known]
    return data


def label_layer(picture: Picture, image: Image) -> Labels:
    """The label layer of a picture, with what is known of it; the caller adds it to the viewer."""
    data = known_labels(picture)
    layer = Labels(data, name=f"{image.name} masks", opacity=_OPACITY, metadata={OURS: "masks"}, **place_of(image))
    layer.brush_size = 6
    return layer


def warm_brush(layer: Labels, viewer: Any) -> None:
    """Have the brush's circle drawn once, now: its first drawing takes some 200 ms where there is no GPU.

    A new layer is drawn for the first time anyway; else the first stroke would wait.
    """
    # napari 0.9 puts a dark square behind the circle, and leaves it there when the circle goes
    if (circle := getattr(viewer.canvas.overlays, "_brush_circle", None)) is not None:
        circle.box = False

    def put_away() -> None:
        if layer.mode == "paint":
            layer.mode = "pan_zoom"

    layer.mode = "paint"
    QTimer.singleShot(0, put_away)


def vertices_of(layer: Labels) -> list[list[float]]:
    """The vertices of the polygon that is being drawn on a label layer; the last one follows the mouse."""
    drawn = layer._overlays["polygon"]
    return list(drawn.points) if drawn.enabled else []


def take_vertex_back(layer: Labels) -> bool:
    """Take back the last vertex of an open polygon, or a stroke round an object; False if neither is being drawn."""
    stroke, points = layer._overlays["brush_stroke"], vertices_of(layer)
    if stroke.active:
        stroke.abort(layer)
    elif points:
        layer._overlays["polygon"].points = points[:-2] + points[-1:] if len(points) > 2 else []
    else:
        return False
    return True


def rim_layer(picture: Picture, image: Image) -> Labels:
    """The rim round what was taught in a picture; shows the session's own array, so nothing is copied."""
    colors = {None: np.zeros(4), 0: np.zeros(4), 1: np.array(_TAUGHT), 2: np.array(_HELD_OUT)}
    layer = Labels(
        picture.taught,
        name=f"{image.name} taught",
        colormap=DirectLabelColormap(color_dict=colors),
        opacity=0.9,
        metadata={OURS: "taught"},
        **place_of(image),
    )
    layer.contour = 1
    layer.editable = False
    return layer


def heat_layer(doubt: npt.NDArray[np.uint8], image: Image) -> Image:
    """The heat where the network is in doubt; shows the array itself, 0 (sure) to 255."""
    return Image(
        doubt,
        name=f"{image.name} doubt",
        rgb=False,
        multiscale=False,
        colormap=_HEAT,
        contrast_limits=(0, 255),
        blending="translucent",
        opacity=0.6,
        metadata={OURS: "doubt"},
        **place_of(image),
    )


def click_layer() -> Labels:
    """Shows the object that is being clicked on; an array of `SHOWN` values is laid into it."""
    colors = {None: np.zeros(4), 0: np.zeros(4)} | {SHOWN[name]: np.array(color) for name, color in _SHOWN_AS.items()}
    return Labels(
        np.zeros((1, 1), np.uint8),
        name="U-Net Live click",
        colormap=DirectLabelColormap(color_dict=colors),
        opacity=0.75,
        metadata={OURS: "click"},
    )


def lie_over(layer: Layer, under: Labels) -> None:
    """Have a flat layer lie where the plane of a label layer lies that is in view."""
    place = place_of(under)
    flat = {name: place[name][-2:] for name in ("scale", "translate", "units")}
    flat |= {"rotate": place["rotate"][-2:, -2:], "shear": place["shear"][-1:], "affine": place["affine"][-3:, -3:]}
    for name, value in flat.items():
        if np.any(np.asarray(getattr(layer, name)) != np.asarray(value)):
            setattr(layer, name, value)


def voxel_sides(layer: Layer) -> npt.NDArray[np.float64]:
    """(ndim,): how long a voxel is in the world along each axis of a layer, whatever gives it its size."""
    origin, ends = np.zeros(layer.ndim), np.eye(layer.ndim)
    return np.array(
        [np.linalg.norm(np.subtract(layer.data_to_world(end), layer.data_to_world(origin))) for end in ends]
    )


def box_in_view(layer: Labels, dims: Dims) -> Box:
    """The part of a layer that is in view, in voxels; one plane of a stack. What is nearest, if none of it is."""
    start, stop = [], []
    for (low, high), size in zip(_sides_in_view(layer, dims), layer.data.shape, strict=True):
        low = min(max(low, 0), size - 1)
        start.append(low)
        stop.append(min(max(high, low + 1), size))
    return Box(tuple(start), tuple(stop))


def is_in_view(layer: Labels, dims: Dims) -> bool:
    """Whether anything of a layer is on the screen: sliders go beyond a stack that is smaller than another one."""
    sides = zip(_sides_in_view(layer, dims), layer.data.shape, strict=True)
    return all(low < size and high > 0 for (low, high), size in sides)


def turn_to(layer: Labels, dims: Dims) -> None:
    """Turn the sliders to the nearest slice that a layer has, where they are beyond its ends."""
    missing, nearest = dims.ndim - layer.ndim, layer.data_to_world(box_in_view(layer, dims).start)
    for axis, (low, _) in enumerate(_sides_in_view(layer, dims)):
        if axis + missing not in dims.displayed and not 0 <= low < layer.data.shape[axis]:
            dims.set_point(axis + missing, float(nearest[axis]))


def _sides_in_view(layer: Labels, dims: Dims) -> list[tuple[int, int]]:
    """From where to where the view goes along each axis of a layer; it may lie beyond its ends."""
    missing = dims.ndim - layer.ndim
    at = np.round(layer.world_to_data(dims.point[missing:])).astype(int)
    corners = layer.corner_pixels
    return [
        (int(corners[0, axis]), int(corners[1, axis]) + 1)
        if axis + missing in dims.displayed
        else (int(at[axis]), int(at[axis]) + 1)
        for axis in range(layer.ndim)
    ]


def is_beyond(layer: Labels, event: Any) -> bool:
    """Whether the mouse is in a slice or frame that a stack does not have: other layers may have more."""
    missing = len(event.position) - layer.ndim
    at = np.round(layer.world_to_data(event.position)).astype(int)
    return any(
        not 0 <= at[axis] < size
        for axis, size in enumerate(layer.data.shape)
        if axis + missing not in event.dims_displayed
    )


def add_quietly(layers: LayerList, layer: Layer) -> None:
    """Add a layer on top; the user's active layer and selection stay as they are."""
    active, selected = layers.selection.active, set(layers.selection)
    layers.append(layer)
    layers.selection = selected
    layers.selection.active = active


def place_after(layers: Iterable[Layer], image: Image) -> None:
    """Lay the layers of a picture over it, wherever it lies now."""
    place = place_of(image)
    for layer in layers:
        for name in place.keys() - {"axis_labels"}:
            setattr(layer, name, place[name])


def rename_after(layers: Iterable[Layer], before: str, now: str) -> None:
    """Have layers of ours follow the name of their picture, where they still have the one that we gave them."""
    for layer in layers:
        if layer.name == f"{before} {layer.metadata[OURS]}":
            layer.name = f"{now} {layer.metadata[OURS]}"


def raise_over(layers: LayerList, image: Image, over: Sequence[Layer]) -> None:
    """Bring the layers that belong over a picture, the lowest first, above it, where it hides them."""
    for layer in reversed(over):
        if layers.index(layer) < layers.index(image):
            layers.move(layers.index(layer), layers.index(image) + 1)


def share_place(a: Layer, b: Layer) -> bool:
    """Whether two layers lie on the same place of the world, as far as their last two axes go."""
    ends, others = a.extent.world[:, -2:], b.extent.world[:, -2:]
    return bool((ends[0] < others[1]).all() and (others[0] < ends[1]).all())


def covers(other: Image, image: Image) -> bool:
    """Whether a layer that lies higher would hide this one: channels that are added up hide nothing."""
    return other.blending not in _SEE_THROUGH and share_place(other, image)


def add_unlisted(layers: LayerList, layer: Layer) -> None:
    """Add a layer that a tool draws on, quietly; napari's layer list leaves it out, for there is nothing to choose.

    It is not taken away with its tool, but with the last masks: to add a layer and to remove it again takes napari
    half a second.
    """

    def hand_on(event: Any) -> None:
        if event.value is layer:  # napari selects the neighbour of a layer that was deleted
            layers.selection.active = next((other for other in layers[::-1] if _is_listed(other)), None)

    add_quietly(layers, layer)
    layers.selection.events.active.connect(hand_on)
    for view in [view for window in QApplication.topLevelWidgets() for view in window.findChildren(QListView)]:
        model = view.model()
        for row in range(model.rowCount() if model is not None else 0):
            if model is not None and model.index(row, 0).data(Qt.ItemDataRole.UserRole) is layer:
                view.setRowHidden(row, True)


def raise_unlisted(layers: LayerList, layer: Layer) -> None:
    """Bring a layer that a tool draws on above all that napari lists: pictures that came later would hide it."""
    if any(_is_listed(other) for other in layers[layers.index(layer) + 1 :]):
        layers.move(layers.index(layer), len(layers))


def remove_unlisted(layers: LayerList) -> None:
    """Remove the layers that tools draw on."""
    for layer in [layer for layer in layers if not _is_listed(layer)]:
        layers.remove(layer)


def _is_listed(layer: Layer) -> bool:
    """Whether napari's layer list shows a layer."""
    return layer.metadata.get(OURS) not in ("pen", "click")


def redraw(layer: Layer, boxes: Sequence[Box] = (), *, thumbnail: bool = False) -> None:
    """Draw a layer whose array was changed in place, at `boxes` or as a whole.

    napari draws a whole plane anew: 13 ms at 1024 x 1024, 50 ms at 2048 x 2048, 900 ms at 8192 x 8192. So on
    large planes only what changed is drawn, as after a stroke of the brush.
    """
    if not layer.visible:
        return
    pixels = np.prod(layer.data.shape[-2:])
    thumbnail = thumbnail and bool(pixels <= _WITH_THUMBNAIL)
    if isinstance(layer, Labels) and pixels > _LARGE and boxes and not thumbnail:
        # the way is not public, so another napari may have no such way: then the whole plane is drawn
        with suppress(AttributeError, TypeError):
            for box in merged(boxes):
                _redraw_part(layer, box)
            return
    layer.refresh(extent=False, thumbnail=thumbnail)


def _redraw_part(layer: Labels, box: Box) -> None:
    """Draw a part of the plane that is shown; nothing if the box lies in another plane."""
    shown = layer._slice_input.displayed
    at = layer.world_to_data(layer._slice_input.world_slice.point) if len(shown) < layer.ndim else None
    for axis in set(range(layer.ndim)) - set(shown):
        if at is not None and not box.start[axis] <= round(float(at[axis])) < box.stop[axis]:
            return
    part = tuple(box.grow((1, 1)).clip(layer.data.shape).slices[axis] for axis in shown)
    pixels = layer._raw_to_displayed(layer._slice.image.raw, data_slice=part)
    layer._slice.image.view[part] = pixels
    layer.events.labels_update(data=pixels, offset=[side.start for side in part])
