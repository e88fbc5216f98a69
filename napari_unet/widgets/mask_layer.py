"""MaskLayer: binds a picture to its label layer; predictions go in, what the user mends comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from app_model.types import KeyCode, KeyMod
from napari.utils.notifications import show_error, show_info
from psygnal import Signal

from napari_unet.core import diff
from napari_unet.core.corrections import Edit
from napari_unet.core.events import Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.instances import lay_over
from napari_unet.widgets.history import merged
from napari_unet.widgets.layers import is_beyond, known_labels, redraw, take_vertex_back, vertices_of
from napari_unet.widgets.trail import Trail

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.session.session import Picture, Session


_UNDO = KeyMod.CtrlCmd | KeyCode.KeyZ
_REDO = KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ
_DRAWS = ("paint", "erase", "fill", "polygon")
_BEYOND = "The picture has nothing here: move the sliders to where it is. The brush was put away."


class MaskLayer:
    """Binds a picture of the session to its label layer.

    Predictions are written in place, without an undo step, and never over a voxel that the user set.
    What the user paints is noticed when the stroke ends and becomes an edit when `settle` is called.

    Attributes
    ----------
    picture : Picture
    layer : Labels
        Its data is never exchanged by us: a label layer that is removed and made anew while painting crashes napari.
    doubt : (*shape) uint8
        0 where the network is sure, 255 where it might be either.
    trail : Trail
        What was taught here since the layer was opened, step by step.
    stale : list of Box
        Where the layer is to be drawn again.
    is_pressed : bool
        Whether the mouse button is down on the layer.
    take_back : callable
        Takes back what a tool has in work, before any step; False if it has nothing.
    kind : {'objects', 'classes'}
        What its labels are, those that the user sets too.
    is_numbering : bool
        Whether a brush stroke or a polygon that begins on background begins a new object.

    Signals
    -------
    stroked: the user painted; pasted: voxels changed under the layer, so it must be drawn again;
    taught(Box): `picture.taught` changed there; acted(str): a sentence about the last action.
    """

    stroked = Signal()
    pasted = Signal()
    taught = Signal(Box)
    acted = Signal(str)

    def __init__(self, session: Session, picture: Picture, layer: Labels) -> None:
        self.session = session
        self.picture = picture
        self.layer = layer
        self.baseline: npt.NDArray[np.int32] = np.array(layer.data, dtype=np.int32)
        picture.masks = self.baseline  # so that a project lays what it knows over what is seen
        self.kind = session.state.kind
        self.doubt = np.zeros(layer.data.shape, np.uint8)
        self.dirty: list[Box] = []
        self.stale: list[Box] = []
        self.is_pressed = False
        self.is_numbering = True
        self.trail = Trail(self)
        self.take_back: Callable[[], bool] = bool
        self._is_quiet = False
        self._next_id = diff.free_id(self.baseline)
        layer.selected_label = self._suggested = self._next_id
        self._events = (
            (layer.events.paint, self._on_paint),
            (layer.events.set_data, self._on_set_data),
            (layer.events.data, self._on_data),
        )
        for emitter, slot in self._events:
            emitter.connect(slot)
        layer.mouse_drag_callbacks.insert(0, self._watch_button)  # before napari draws
        # napari's own know no "yes, right", nor which way a change went
        layer.bind_key(_UNDO, lambda _: self.undo(), overwrite=True)
        layer.bind_key(_REDO, lambda _: self.redo(), overwrite=True)

    def reload(self) -> None:
        """Show what the session knows now: another project was opened, or labels are of another kind.

        Steps before cannot be undone any more.
        """
        self.kind = self.session.state.kind
        self.baseline = self.baseline.copy()  # the one before may be on its way to the disk
        self._show_known(known_labels(self.picture))
        self._suggest()

    def turn_to(self, picture: Picture) -> None:
        """Serve another picture of the same size from now on; the one before keeps its labels.

        Raises
        ------
        ImageError
            If what is known of it cannot be shown; then nothing changes.
        """
        known = known_labels(picture)
        self.picture, self.baseline = picture, self.baseline.copy()
        self.doubt[...] = 0
        self._show_known(known)
        self._suggest()

    def _show_known(self, known: npt.NDArray[np.int32]) -> None:
        self.dirty.clear()
        self.trail.forget()
        self.doubt[known != self.baseline] = 0
        self.baseline[...] = known
        if self.fits:
            self.layer.data[...] = known
        self.picture.masks = self.baseline
        self._next_id = diff.free_id(self.baseline)
        mode = self.layer.mode
        with self._quietly():
            # napari's public way to forget undo steps: they would bring back labels of the other project
            self.layer.editable = False
            self.layer.editable = True
            self.layer.mode = mode
        self.stale.append(Box.whole(self.baseline.shape))
        self.refresh(thumbnail=True)
        self.taught.emit(Box.whole(self.baseline.shape))

    def release(self) -> None:
        """Let go of the layer: it is an ordinary label layer from now on."""
        for emitter, slot in self._events:
            emitter.disconnect(slot)
        self.layer.mouse_drag_callbacks.remove(self._watch_button)
        self.layer.bind_key(_UNDO, None)
        self.layer.bind_key(_REDO, None)

    # --- predictions ---

    def paste(self, prediction: Prediction) -> None:
        """Write the core of a predicted tile; voxels that the user set, or is just painting, stay."""
        window = prediction.window
        if not self.fits or prediction.kind != self.kind:
            return
        data = self.layer.data[window.slices]
        mine = (self.picture.taught[window.slices] != 0) | (data != self.baseline[window.slices])
        core = np.zeros(window.shape, bool)
        core[prediction.core.within(window).slices] = True
        labels, write = prediction.labels, core & ~mine
        if prediction.kind == "objects":
            laid = lay_over(data, labels, core, self._next_id, protected=mine)
            labels, self._next_id, write = laid.labels.astype(np.int32), laid.next_id, ~mine
            for old, kept in laid.joins.items():
                self._rename(old, kept, window)
        data[write] = labels[write]
        self.baseline[window.slices][write] = labels[write]
        self.doubt[window.slices][core] = (np.nan_to_num(prediction.doubt[core].astype(np.float32)) * 255).astype(
            np.uint8
        )
        self._suggest()
        self.stale.append(window)
        self.pasted.emit()

    def _suggest(self) -> None:
        """A first brush stroke draws a new object, not more of number 1; a number that the user picked stays.

        Where labels are classes, the number of an object is none of them: the brush gets the first one.
        """
        is_ours = self.layer.selected_label == self._suggested
        number = self._next_id if is_ours and not self.trail.steps and not self.dirty else None
        if not self.has_objects:
            number = 1 if self.layer.selected_label >= len(self.session.state.classes) else None
        if number is not None and not self.is_pressed:
            with self._quietly():
                self.layer.selected_label = self._suggested = number

    def reserve(self, number: int) -> None:
        """A number that is in use, or what the user paints with: no object that is predicted from now on gets it."""
        self._next_id = max(self._next_id, number + 1)

    def _rename(self, old: int, kept: int, around: Box) -> None:
        """Give an object of an earlier tile the number of the one it turned out to be a part of."""
        place = diff.object_box(self.baseline, {old}, around)
        self.stale.append(place)
        box = place.slices
        free = (self.baseline[box] == old) & (self.layer.data[box] == old) & (self.picture.taught[box] == 0)
        self.layer.data[box][free] = kept
        self.baseline[box][free] = kept

    def refresh(self, *, thumbnail: bool = False) -> None:
        """Draw what was pasted since the last time."""
        boxes, self.stale = self.stale if self.fits else [], []
        with self._quietly():
            redraw(self.layer, boxes, thumbnail=thumbnail)

    def unhide(self) -> bool:
        """Let the layer be seen; whether it was hidden. To set `visible` in vain would end napari's mode."""
        if self.layer.visible:
            return False
        self.layer.visible = True
        return True

    @property
    def fits(self) -> bool:
        """Whether the layer still has the size of its picture (somebody may have set other data)."""
        return bool(self.layer.data.shape == self.baseline.shape)

    @property
    def next_id(self) -> int:
        """First number that no object of this picture has."""
        return self._next_id

    # --- what the user paints ---

    def settle(self, tool: str = "paint") -> int:
        """Make edits of the strokes since the last time; returns how many. A stroke that was undone gives none."""
        boxes, self.dirty = merged(self.dirty) if self.fits else [], []
        return sum(self.trail.keep_diff(box, tool) is not None for box in boxes)

    @property
    def has_objects(self) -> bool:
        """Whether each object has a number of its own; else a label is a class."""
        return self.kind == "objects"

    # --- what our tools do ---

    def apply(self, change: diff.Change | None, tool: str, sentence: str = "") -> bool:
        """Write a change as one undo step of napari and teach it at once; False if it changes nothing."""
        if change is None or not self.fits:
            return False
        self.settle()
        differs = np.nonzero(change.labels != self.layer.data[change.box.slices])
        if not differs[0].size:
            return False
        indices = tuple(i + start for i, start in zip(differs, change.box.start, strict=True))
        with self._quietly(), self.layer.block_history():
            self.layer.data_setitem(indices, change.labels[differs])
        self.trail.go_on([change.box])
        self.trail.keep_diff(change.box, tool, change.prompts)
        if sentence:
            self.acted.emit(sentence)
        return True

    def accept(self, edit: Edit | None, sentence: str = "") -> bool:
        """Teach labels that are right as they are; False if there is nothing to teach."""
        if edit is None or not self.fits:
            return False
        self.trail.keep_right(edit)
        if sentence:
            self.acted.emit(sentence)
        return True

    def undo(self) -> None:
        """Take back the last step, whether it changed labels or only said that they are right; first what is begun."""
        if not self.is_pressed and self.fits and not self.take_back() and not take_vertex_back(self.layer):
            self.settle()
            if not self.trail.take_back_right():
                with self._quietly():
                    self.layer.undo()
                self._compare(is_redo=False)

    def redo(self) -> None:
        """Do again what was undone last."""
        if not self.is_pressed and self.fits:
            self.settle()
            if not self.trail.do_right_again():
                with self._quietly():
                    self.layer.redo()
                self._compare(is_redo=True)

    def number_at(self, point: Sequence[int]) -> int:
        """The label at a voxel; 0 outside the picture."""
        return int(self.layer.data[tuple(point)]) if self.holds(point) else 0

    def holds(self, point: Sequence[int]) -> bool:
        """Whether a voxel lies in the picture."""
        return self.fits and all(0 <= c < n for c, n in zip(point, self.baseline.shape, strict=True))

    # --- what napari tells ---

    def _on_paint(self, event: Any) -> None:
        """A stroke, a fill, an erased or polygon-filled area ended: remember where."""
        if self._is_quiet or not self.fits:
            return
        self.reserve(int(self.layer.selected_label))
        self._take_in_hand([_box_of_atom(atom) for atom in event.value])

    def _on_set_data(self) -> None:
        """Somebody called napari's undo or redo, which tell nothing else; or only another plane is shown."""
        if not self._is_quiet and not self.is_pressed:
            self._compare()

    def _compare(self, *, is_redo: bool | None = None) -> None:
        """Book what napari's undo or redo did."""
        if self.fits and (lost := self.trail.compare(is_redo=is_redo)):
            self.dirty.extend(lost)
            self.stroked.emit()

    def _on_data(self) -> None:
        """Somebody set `layer.data`: what differs is taken as painted."""
        if self._is_quiet:
            return
        if not self.fits:
            show_error(
                f"{self.layer.name} now has the size {self.layer.data.shape}, its picture {self.baseline.shape}. "
                "Remove the layer and press Predict for a new one."
            )
            return
        if self.layer.data.dtype != np.int32:
            with self._quietly():  # there may be more objects than a smaller type has numbers
                self.layer.data = self.layer.data.astype(np.int32)
        differs = Box.of_mask(self.layer.data != self.baseline)
        self._take_in_hand([differs] if differs is not None else [])

    def _take_in_hand(self, boxes: list[Box]) -> None:
        """Labels were painted there: they are settled in a while."""
        self.trail.go_on(boxes)
        self.dirty.extend(boxes)
        self.stroked.emit()

    def _watch_button(self, layer: Labels, event: Any) -> Iterator[None]:
        """Know whether the button is down: a stroke is not settled while it is being drawn."""
        if str(layer.mode) in _DRAWS and is_beyond(layer, event):
            layer.mode = "pan_zoom"  # napari would fail, or draw in another slice
            show_info(_BEYOND)
            return
        self.is_pressed = True
        begins = str(layer.mode) == "paint" or (str(layer.mode) == "polygon" and not vertices_of(layer))
        if self.is_numbering and self.has_objects and begins:
            self._number_stroke([round(float(c)) for c in layer.world_to_data(event.position)])
        if str(layer.mode) in ("paint", "fill", "polygon"):
            self.reserve(int(self.layer.selected_label))
        yield
        while event.type == "mouse_move":
            yield
        self.is_pressed = False

    def _number_stroke(self, point: Sequence[int]) -> None:
        """A stroke that begins on background, away from the object it would add to, is a new object."""
        number, layer = int(self.layer.selected_label), self.layer
        if number == 0 or not self.holds(point) or self.number_at(point):
            return
        near = diff.at(point).grow((int(layer.brush_size),) * 2).clip(layer.data.shape)
        if number < self._next_id and not np.any(layer.data[near.slices] == number):
            layer.selected_label = self._next_id

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Our own changes are not the user's."""
        before, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = before


def _box_of_atom(atom: Any) -> Box:
    """Where one piece of a stroke lies: napari 0.8 and newer give slices, older ones (and `data_setitem`) indices."""
    if hasattr(atom, "slice_key"):
        return Box(tuple(int(s.start) for s in atom.slice_key), tuple(int(s.stop) for s in atom.slice_key))
    indices = [np.asarray(i) for i in atom[0]]
    return Box(tuple(int(i.min()) for i in indices), tuple(int(i.max()) + 1 for i in indices))
