"""Our correction tools on the canvas: which one is in hand, and what clicks and drags do with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.interactions import mouse_press_callbacks
from psygnal import Signal

from napari_unet.core.geometry import dense, rectangle
from napari_unet.widgets import tools
from napari_unet.widgets.clicker import LOADING, clicker_of
from napari_unet.widgets.desk import Desk, desk_of
from napari_unet.widgets.layers import (
    OURS,
    add_unlisted,
    is_in_view,
    lie_over,
    raise_unlisted,
    remove_unlisted,
    voxel_sides,
)
from napari_unet.widgets.mask_layer import MaskLayer
from napari_unet.widgets.viewer_session import listen, real

if TYPE_CHECKING:
    from napari_unet.session.state import SessionState

Point = list[float]

# what to do with each tool, for the line under the buttons
HINTS = {
    "click": "Click, or drag a box. Alt+drag: scribble. Ctrl+click: right as it is. Esc ends.",
    "delete": "Click an object to delete it. Esc ends.",
    "join": "Click two objects, or draw a line over them, to join them. Esc ends.",
    "cut": "Draw a line across an object to cut it. Esc ends.",
    "accept": "Click an object that is right. Esc ends.",
    "region": "Drag a rectangle in which everything is right. Esc ends.",
    "nothing": "Drag a rectangle in which there is nothing. Esc ends.",
}
_MISSED = {
    "delete": "There is no object here.",
    "join": "Two objects are needed: click one, then the other.",
    "cut": "The line must go right across one object.",
    "accept": "There is no object here.",
    "region": "The rectangle lies outside the picture.",
    "nothing": "The rectangle lies outside the picture.",
}
_DRAWN = {"cut": "path", "join": "path", "region": "rectangle", "nothing": "rectangle", "click": "rectangle"}
_STILL = 4  # pixels of the screen that the mouse may move in a click
_HIDDEN = "The masks were hidden. Look at them, and do it once more."
_FLAT = "Switch to the 2-D view to correct objects."
_OF_OBJECTS = ("delete", "join", "cut", "accept")
_NO_OBJECTS = "This model tells classes apart, and has no objects. Paint, or use Region and Nothing."
_PEN = "U-Net Live pen"

_gestures: weakref.WeakKeyDictionary[Any, Gestures] = weakref.WeakKeyDictionary()


def gestures_of(viewer: Any) -> Gestures:
    """The tools of a viewer; made at the first call."""
    viewer = real(viewer)
    if viewer not in _gestures:
        _gestures[viewer] = Gestures(desk_of(viewer))
    return _gestures[viewer]


class Gestures:
    """The tool in hand; '' if there is none.

    Signals
    -------
    changed(str): the tool in hand; said(str): a sentence for the line under the buttons.
    """

    changed = Signal(str)
    said = Signal(str)

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tool = ""
        self._masks: MaskLayer | None = None
        self._mode = "pan_zoom"
        self._first: tuple[int, ...] | None = None  # the object clicked first, when joining
        self._pen: Shapes | None = None
        self._is_awaited = False  # the click tool, by a model that is still being loaded
        self._doubled: list[Callable[..., object]] = []  # what double clicks do without a tool
        self.clicker = clicker_of(desk.viewer)
        desk.picture_changed.connect(self._on_picture)
        desk.viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        desk.viewer.canvas.grid.events.enabled.connect(self._share_grid)
        desk.tidied.connect(self._follow_masks)
        listen(desk.session.state_changed, desk, self._on_state)

    def start(self, tool: str, first: Sequence[int] | None = None) -> None:
        """Take a tool in hand, or put it away if it is there already. `first`: the first object of a join."""
        again = tool == self.tool and first is None
        if again and self._masks is not None and self.desk.viewer.layers.selection.active is not self._masks.layer:
            # another layer was chosen meanwhile, for its contrast, say: the tool works on, with what is in work
            self.desk.viewer.layers.selection.active = self._masks.layer
            self._lay_pen(self._masks.layer)  # the picture may have been moved meanwhile
            self.clicker.view.lay(self._masks)
            self.changed.emit(tool)
            return
        self.stop()
        self._is_awaited = False
        masks = self.desk.add_masks()
        if again or masks is None:
            return
        if reason := self._why_not(tool, masks):
            self._is_awaited = reason == LOADING
            self.changed.emit("")
            self.said.emit(reason)
            return
        layer = masks.layer
        self._masks, self._mode = masks, str(layer.mode)
        self._first = tuple(first) if first is not None else None
        if tool in _DRAWN:
            self._lay_pen(layer)
        self.desk.viewer.layers.selection.active = layer
        masks.unhide()
        layer.mode = "pan_zoom"
        layer.mouse_pan = False
        layer.cursor = "cross"
        layer.mouse_drag_callbacks.append(self._drag)
        # of two quick clicks the second one is a click, too, and no zoom
        layer.mouse_double_click_callbacks.append(mouse_press_callbacks)
        doubled = self.desk.viewer.mouse_double_click_callbacks
        self._doubled, doubled[:] = list(doubled), []
        layer.bind_key("Escape", lambda _: self.leave(), overwrite=True)
        layer.events.mode.connect(self._on_mode)
        if tool == "click":
            self.clicker.begin(masks)
        self.tool = tool
        self._share_grid()
        self.changed.emit(tool)
        self.said.emit("Click the object to join it to. Esc ends." if self._first else HINTS[tool])

    def _why_not(self, tool: str, masks: MaskLayer) -> str:
        """Why a tool cannot be used now; '' if it can. Of a class one number is everywhere: no tool takes it all."""
        if self.desk.viewer.dims.ndisplay != 2:
            return _FLAT
        if tool == "click":
            return self.clicker.why_not()
        return _NO_OBJECTS if tool in _OF_OBJECTS and not masks.has_objects else ""

    def leave(self) -> None:
        """Drop the object in work; put the tool away if there is none."""
        if not self.clicker.drop():
            self.stop()

    def stop(self) -> None:
        """Put the tool away; the layer is as it was before."""
        self.clicker.end()
        masks, self._masks = self._masks, None
        if masks is None:
            return
        layer = masks.layer
        layer.events.mode.disconnect(self._on_mode)
        layer.mouse_drag_callbacks.remove(self._drag)
        layer.mouse_double_click_callbacks.remove(mouse_press_callbacks)
        self.desk.viewer.mouse_double_click_callbacks[:0] = self._doubled
        layer.bind_key("Escape", None)
        layer.cursor = "standard"
        if str(layer.mode) == "pan_zoom":
            layer.mouse_pan = True
            layer.mode = self._mode
        self.tool, self._first = "", None
        self._share_grid()
        self.changed.emit("")
        self.said.emit("")

    def at_cursor(self, tool: str, layer: Labels) -> None:
        """What a key does: delete or accept the object under the cursor (else the selected one), or start a join."""
        masks = self.desk.masks
        if masks is None or masks.layer is not layer or self._says_unseen(masks):
            return
        if reason := self._why_not(tool, masks):
            self.said.emit(reason)
            return
        point = self._voxel(masks, layer.world_to_data(self.desk.viewer.cursor.position))
        self.clicker.keep_before(lambda: self._act_at(tool, masks, point))

    def _act_at(self, tool: str, masks: MaskLayer, point: tuple[int, ...]) -> None:
        """Use a tool on a voxel; a join begins there."""
        if tool == "join":
            self.start("join", point if masks.number_at(point) else None)
        elif not self._act_on(tool, masks, point):
            self.said.emit(_MISSED[tool])

    def accept_view(self) -> None:
        """Everything in view is right."""
        masks, dims = self.desk.masks, self.desk.viewer.dims
        if masks is None or self._says_unseen(masks):
            return
        if not is_in_view(masks.layer, dims):
            self.said.emit("Nothing of the picture is in view: move the sliders, or the picture, to where it is.")
        else:
            view = self.desk.view()
            self.clicker.keep_before(lambda: tools.accept_region(masks, view))

    def _says_unseen(self, masks: MaskLayer) -> bool:
        """Say why nothing is done to masks that nobody sees; hidden ones are shown."""
        if self.desk.viewer.dims.ndisplay != 2:
            self.said.emit(_FLAT)
        elif masks.unhide():
            self.said.emit(_HIDDEN)
        else:
            return False
        return True

    # --- the mouse ---

    def _drag(self, layer: Labels, event: Any) -> Iterator[None]:
        """One press, drag and release with the tool in hand."""
        masks, tool = self._masks, self.tool
        if masks is None or (event.button != 1 and tool != "click"):
            return
        if tool != "click" and self._says_unseen(masks):  # a click shows its object, whatever is hidden
            return
        self.desk.be_active()
        held, drawn = set(event.modifiers), _DRAWN.get(tool, "")
        if tool == "click":
            drawn = "" if event.button != 1 or held & {"Shift", "Control"} else "path" if "Alt" in held else drawn
        path = [[float(c) for c in layer.world_to_data(event.position)]]
        axes = self._axes(event.dims_displayed, layer)
        yield
        while event.type == "mouse_move":
            path.append([float(c) for c in layer.world_to_data(event.position)])
            if not (tool == "click" and self._is_still(path, axes)):
                self._draw_pen(drawn, path, axes)
            yield
        path.append([float(c) for c in layer.world_to_data(event.position)])
        if self._pen is not None and len(self._pen.data):
            self._pen.data = []
        if self._masks is not masks:
            return
        if tool == "click":
            self._click(path, axes, event.button, held)
        elif not self._finish(tool, masks, path, axes):
            self.said.emit(_MISSED[tool])

    def _click(self, path: list[Point], axes: tuple[int, int], button: int, held: set[str]) -> None:
        """What a press with the click tool in hand says: this object, not this, a box, a scribble, or "it is right"."""
        still = self._is_still(path, axes)
        if button == 1 and "Control" in held:
            gesture = "accept"
        elif button != 1 or "Shift" in held:
            gesture = "off" if still else ""  # a drag with the right button is napari's zoom
        else:
            gesture = "on" if still else "scribble" if "Alt" in held else "box"
        if gesture:
            self.clicker.take(gesture, dense(path) if gesture == "scribble" else path, axes)

    def _is_still(self, path: list[Point], axes: tuple[int, int]) -> bool:
        """Whether the mouse hardly moved."""
        way = np.ptp(np.array(path)[:, list(axes)], axis=0).max()
        layer = self._masks.layer if self._masks is not None else None
        pixel = float(voxel_sides(layer)[-1]) * float(self.desk.viewer.scene.camera.zoom) if layer is not None else 1.0
        return bool(way * pixel <= _STILL)

    def _finish(self, tool: str, masks: MaskLayer, path: list[Point], axes: tuple[int, int]) -> bool:
        if tool == "join":
            return self._join(masks, path)
        if tool == "cut":
            return tools.cut(masks, path, axes)
        if tool in ("region", "nothing"):
            region = rectangle(path, axes)
            act = tools.accept_region if tool == "region" else tools.clear_region
            return act(masks, region)
        return self._act_on(tool, masks, self._voxel(masks, path[-1]))

    @staticmethod
    def _act_on(tool: str, masks: MaskLayer, point: tuple[int, ...]) -> bool:
        act = tools.delete if tool == "delete" else tools.accept_object
        return act(masks, point)

    def _join(self, masks: MaskLayer, path: list[Point]) -> bool:
        """Join what the line went over; a click only picks the first or the second object."""
        under = [self._voxel(masks, p) for p in dense(path)]
        if self._first is not None:
            under.insert(0, self._first)
        if tools.join(masks, under):
            self._first = None
            return True
        here = next((p for p in under if masks.number_at(p)), None)
        self._first = here
        if here is None:
            return False
        self.said.emit(f"Object {masks.number_at(here)}: now click the one to join to it. Esc ends.")
        return True

    def _on_mode(self) -> None:
        """The user took a tool of napari instead."""
        if self._masks is not None and str(self._masks.layer.mode) != "pan_zoom":
            self.stop()

    def _on_state(self, state: SessionState) -> None:
        """The model that the click tool waited for is there."""
        if self._is_awaited and state.model:
            self.start("click")

    def _on_ndisplay(self) -> None:
        """In 3-D nothing can be pointed at: a tool is put away, and the object in work is kept."""
        if self.tool and self.desk.viewer.dims.ndisplay != 2:
            self.stop()
            self.said.emit(_FLAT)

    @staticmethod
    def _voxel(masks: MaskLayer, point: Sequence[float]) -> tuple[int, ...]:
        """The voxel at a point in data coordinates of the label layer (voxel centres are whole numbers)."""
        return tuple(int(np.round(c)) for c in point)[-masks.layer.data.ndim :]

    @staticmethod
    def _axes(displayed: Sequence[int], layer: Labels) -> tuple[int, int]:
        """The two axes of the layer that are on the screen."""
        first, second = sorted(int(axis) - max(0, max(displayed) + 1 - layer.ndim) for axis in displayed[-2:])
        return first, second

    # --- the drawn line ---

    def _draw_pen(self, shape: str, path: list[Point], axes: tuple[int, int]) -> None:
        """Show the line or rectangle being drawn. The layer for it is there while the tool is in hand."""
        if (
            not shape
            or self._masks is None
            or self._pen is None
            or axes != (self._masks.layer.ndim - 2, self._masks.layer.ndim - 1)
        ):
            return
        points = np.array(path)[:, list(axes)]
        if shape == "rectangle":
            (y0, x0), (y1, x1) = points[0], points[-1]
            points = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])
        width = 2 / (self.desk.viewer.scene.camera.zoom * float(voxel_sides(self._pen)[-1]))  # two pixels of the screen
        self._pen.data = []
        self._pen.add(points, shape_type=shape, edge_color="white", face_color="transparent", edge_width=width)

    def _lay_pen(self, layer: Labels) -> None:
        """Lay the pen over a label layer: one layer, that stays.

        It is there before a line is begun: a layer that comes during a drag takes the mouse away, and adding or
        removing one takes napari some 200 ms.
        """
        layers = self.desk.viewer.layers
        if self._pen is None or self._pen not in layers:
            self._pen = Shapes(ndim=2, name=_PEN, metadata={OURS: "pen"}, opacity=0.9)
            lie_over(self._pen, layer)
            add_unlisted(layers, self._pen)
            return
        lie_over(self._pen, layer)
        raise_unlisted(layers, self._pen)

    def _share_grid(self, *_: object) -> None:
        """In napari's grid a layer that is seen has a place of its own: those of tools have none without a tool.

        Elsewhere they stay seen, for the first drawing of one takes some 200 ms where there is no GPU.
        """
        is_seen = bool(self.tool) or not self.desk.viewer.canvas.grid.enabled
        for layer in (self._pen, self.clicker.view.layer):
            if layer is not None and layer.visible != is_seen:
                layer.visible = is_seen

    def _on_picture(self) -> None:
        """Another picture is in hand; when the first gets its label layer, pen and clicks are laid ready.

        Once alone: this is also told while a closing window removes all layers.
        """
        self.stop()
        if self._pen is None and self.desk.masks is not None:
            self._lay_pen(self.desk.masks.layer)
            self.clicker.view.lay(self.desk.masks)
            self._share_grid()

    def _follow_masks(self) -> None:
        """Layers were removed. Those of tools go with the last masks, or lie over others: napari shows their place."""
        masks = self.desk.masks or next(iter(self.desk.all_masks.values()), None)
        if masks is None:
            remove_unlisted(self.desk.viewer.layers)
            self._pen = None
        elif self._pen is not None and not self.tool:
            self._lay_pen(masks.layer)
            self.clicker.view.lay(masks)
