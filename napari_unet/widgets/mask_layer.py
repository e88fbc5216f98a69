"""MaskLayer: binds a picture to its label layer; predictions go in, what the user mends comes out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from app_model.types import KeyCode, KeyMod
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_unet.core import diff
from napari_unet.core.events import Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.instances import lay_over
from napari_unet.core.prompts import Prompts
from napari_unet.widgets.history import Step, merged, newest, overlap, taken_back_with
from napari_unet.widgets.layers import known_labels, redraw

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.core.corrections import Edit, Mask
    from napari_unet.session.session import Picture, Session


_UNDO = KeyMod.CtrlCmd | KeyCode.KeyZ


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
    steps : list of Step
        What was taught here since the layer was opened, oldest first.
    stale : list of Box
        Where the layer is to be drawn again.
    is_pressed : bool
        Whether the mouse button is down on the layer.
    is_numbering : bool
        Whether a brush stroke that begins on background begins a new object.

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
        self.doubt = np.zeros(layer.data.shape, np.uint8)
        self.dirty: list[Box] = []
        self.stale: list[Box] = []
        self.steps: list[Step] = []
        self.is_pressed = False
        self.is_numbering = True
        self._undone: list[Box] = []
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
        layer.mouse_drag_callbacks.append(self._watch_button)
        layer.bind_key(_UNDO, lambda _: self.undo(), overwrite=True)  # napari's own knows no "yes, right"

    def reload(self) -> None:
        """Show what the session knows now (another project was opened); steps before cannot be undone any more."""
        self._show_known(known_labels(self.picture))

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
        self.steps.clear()
        self._undone.clear()
        self.doubt[known != self.baseline] = 0
        self.layer.data[...] = self.baseline[...] = known
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

    # --- predictions ---

    def paste(self, prediction: Prediction) -> None:
        """Write the core of a predicted tile; voxels that the user set, or is just painting, stay."""
        window = prediction.window
        if not self.fits:
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
        """A first brush stroke draws a new object, not more of number 1; a number that the user picked stays."""
        is_ours = self.layer.selected_label == self._suggested
        if is_ours and not self.steps and not self.dirty and not self.is_pressed:
            with self._quietly():
                self.layer.selected_label = self._suggested = self._next_id

    def _reserve(self) -> None:
        """What the user paints with belongs to no object that is predicted before the stroke is settled."""
        self._next_id = max(self._next_id, int(self.layer.selected_label) + 1)

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
        boxes, self.stale = self.stale, []
        with self._quietly():
            redraw(self.layer, boxes, thumbnail=thumbnail)

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
        boxes, self.dirty = merged(self.dirty), []
        return sum(self._keep_diff(box, tool) for box in boxes)

    def _keep_diff(self, box: Box, tool: str, prompts: Prompts | None = None) -> bool:
        edit = diff.diff(
            self.baseline, self.layer.data, box, picture=self.picture.key, tool=tool, whole_objects=self._has_objects
        )
        if edit is None:
            return False
        changed = np.zeros(edit.box.shape, bool)
        part = box.intersect(edit.box)
        changed[part.within(edit.box).slices] = self.layer.data[part.slices] != self.baseline[part.slices]
        self._keep(replace(edit, prompts=prompts), changed)
        return True

    def _keep(self, edit: Edit, changed: Mask) -> None:
        """Hand an edit to the session, and remember how things were."""
        cut = edit.box.slices
        edit = replace(edit, time=time.time())
        self.steps = newest([*self.steps, Step.of(edit, changed, self.baseline, self.picture.taught)])
        self.baseline[cut][changed] = self.layer.data[cut][changed]
        self._next_id = max(self._next_id, int(edit.labels.max(initial=0)) + 1)
        self.session.add_edit(edit)
        self.taught.emit(edit.box)

    @property
    def _has_objects(self) -> bool:
        return self.session.state.kind == "objects"

    # --- what our tools do ---

    def apply(self, change: diff.Change | None, tool: str, sentence: str = "") -> bool:
        """Write a change as one undo step of napari and teach it at once; False if it changes nothing."""
        if change is None:
            return False
        self.settle()
        differs = np.nonzero(change.labels != self.layer.data[change.box.slices])
        if not differs[0].size:
            return False
        indices = tuple(i + start for i, start in zip(differs, change.box.start, strict=True))
        with self._quietly(), self.layer.block_history():
            self.layer.data_setitem(indices, change.labels[differs])
        self._undone.clear()
        self._keep_diff(change.box, tool, change.prompts)
        if sentence:
            self.acted.emit(sentence)
        return True

    def accept(self, edit: Edit | None, sentence: str = "") -> bool:
        """Teach labels that are right as they are; False if there is nothing to teach."""
        if edit is None:
            return False
        self._keep(edit, np.zeros(edit.box.shape, bool))
        if sentence:
            self.acted.emit(sentence)
        return True

    def undo(self) -> None:
        """Take back the last step, whether it changed labels or only said that they are right."""
        if self.steps and not self.dirty and not self.steps[-1].changes_labels and not self._is_pair():
            self._take_back(len(self.steps) - 1)
            self.acted.emit("Undone")
        else:
            self.layer.undo()

    def _is_pair(self) -> bool:
        """Whether the last step only completes the one before: what was cleared is taught as nothing."""
        last = self.steps[-2:]
        return len(last) == 2 and last[0].changes_labels and all(step.tool == "nothing" for step in last)

    def number_at(self, point: Sequence[int]) -> int:
        """The label at a voxel; 0 outside the picture."""
        return int(self.layer.data[tuple(point)]) if self.holds(point) else 0

    def holds(self, point: Sequence[int]) -> bool:
        """Whether a voxel lies in the picture."""
        return all(0 <= c < n for c, n in zip(point, self.layer.data.shape, strict=True))

    # --- what napari tells ---

    def _on_paint(self, event: Any) -> None:
        """A stroke, a fill, an erased or polygon-filled area ended: remember where."""
        if self._is_quiet:
            return
        self._reserve()
        self._undone.clear()  # napari forgets what could be redone, too
        self.dirty.extend(_box_of_atom(atom) for atom in event.value)
        self.stroked.emit()

    def _on_set_data(self) -> None:
        """Undo and redo tell nothing else: compare the places known with what they should be."""
        if self._is_quiet or self.is_pressed:
            return
        data = self.layer.data
        self.dirty = [b for b in self.dirty if np.any(data[b.slices] != self.baseline[b.slices])]
        while (index := self._disturbed()) is not None:
            gone = self._take_back(index)
            for box in merged(gone):
                self._keep_diff(box, "paint")  # what is left of strokes that were kept together
            self.acted.emit("Undone")
        for box in [b for b in self._undone if not any(overlap(b, d) for d in self.dirty)]:
            if self._keep_diff(box, "paint"):
                self._undone.remove(box)
                self.acted.emit("Done again")

    def _disturbed(self) -> int | None:
        """The newest step that is no longer as it was left, other than by strokes that are still to be settled."""
        for index in range(len(self.steps) - 1, -1, -1):
            step = self.steps[index]
            if any(overlap(step.box, box) for box in self.dirty):
                continue
            if step.is_disturbed(self.baseline, self.layer.data):
                return index
        return None

    def _take_back(self, index: int) -> list[Box]:
        """Withdraw a step and those that rest on it; returns where labels had been changed by them."""
        places = []
        for i in taken_back_with(self.steps, index):
            step = self.steps.pop(i)
            taught = step.take_back(self.baseline)
            self.session.withdraw(self.picture.key, step.box, self.baseline[step.box.slices].copy(), taught)
            self.taught.emit(step.box)
            if step.changes_labels:
                places.append(step.box)
        self._undone.extend(places)
        return places

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
        self.dirty.append(Box.whole(self.baseline.shape))
        self.stroked.emit()

    def _watch_button(self, layer: Labels, event: Any) -> Iterator[None]:
        """Know whether the button is down: a stroke is not settled while it is being drawn."""
        self.is_pressed = True
        if self.is_numbering and self._has_objects and str(layer.mode) == "paint":
            self._number_stroke([round(float(c)) for c in layer.world_to_data(event.position)])
        if str(layer.mode) in ("paint", "fill", "polygon"):
            self._reserve()
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
