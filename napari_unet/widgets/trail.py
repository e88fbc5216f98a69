"""Trail: what the user taught one label layer, step by step; what undo takes back, and redo brings back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet.core import diff
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.widgets.history import Step, Undone, merged, newest, overlap, taken_back_with

if TYPE_CHECKING:
    from napari.layers import Labels
    from psygnal import SignalInstance

    from napari_unet.core.prompts import Prompts
    from napari_unet.session.session import Picture, Session

_Taken = tuple[Step, npt.NDArray[np.int32]]


class Masks(Protocol):
    """What a trail needs of the label layer it belongs to; `MaskLayer` tells what each is."""

    session: Session
    picture: Picture
    layer: Labels
    baseline: npt.NDArray[np.int32]
    dirty: list[Box]
    stale: list[Box]
    kind: str

    @property
    def has_objects(self) -> bool:
        """Whether each object has a number of its own."""

    @property
    def pasted(self) -> SignalInstance:
        """Voxels changed under the layer."""

    @property
    def taught(self) -> SignalInstance:
        """What is taught changed in a box."""

    @property
    def acted(self) -> SignalInstance:
        """A sentence about the last action."""

    def reserve(self, number: int) -> None:
        """A number is in use."""


class Trail:
    """The steps of one label layer.

    Labels belong to napari, which undoes and redoes them without a word: what it did is seen where the layer differs
    from its baseline. "Yes, right" changes no label, so napari knows nothing of it.

    Attributes
    ----------
    steps : list of Step
        What was taught since the layer was opened, oldest first.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.steps: list[Step] = []
        self._undone: list[Undone] = []  # what can be done again, newest last
        self._known: list[Box] = []  # all places that napari's undo and redo may change

    def forget(self) -> None:
        """Nothing can be undone or done again any more."""
        self.steps.clear()
        self._undone.clear()
        self._known.clear()

    def go_on(self, boxes: Sequence[Box]) -> None:
        """Labels were changed there: what was undone before cannot be done again, for napari forgets it, too."""
        self._undone.clear()
        self._known = merged([*self._known, *boxes])

    # --- steps ---

    def keep_diff(self, box: Box, tool: str, prompts: Prompts | None = None) -> Step | None:
        """Teach what the user changed in a place; None if nothing differs there."""
        masks, labels = self._masks, self._masks.layer.data
        edit = diff.diff(
            masks.baseline, labels, box, picture=masks.picture.key, tool=tool, whole_objects=masks.has_objects
        )
        if edit is None:
            return None
        edit = replace(edit, prompts=prompts)
        changed = np.zeros(edit.box.shape, bool)
        part = box.intersect(edit.box)
        changed[part.within(edit.box).slices] = labels[part.slices] != masks.baseline[part.slices]
        step = Step.of(edit, changed, box, masks.baseline, masks.picture.taught)
        masks.baseline[edit.box.slices][changed] = labels[edit.box.slices][changed]
        self._keep(edit, step)
        return step

    def keep_right(self, edit: Edit) -> None:
        """Teach labels that are right as they are."""
        masks, nothing = self._masks, (0,) * len(edit.box.start)
        unchanged = np.zeros(edit.box.shape, bool)
        self._keep(edit, Step.of(edit, unchanged, Box(nothing, nothing), masks.baseline, masks.picture.taught))

    def _keep(self, edit: Edit, step: Step) -> None:
        """Hand an edit to the session, and remember the step."""
        self.steps = newest([*self.steps, step])
        self._masks.reserve(int(edit.labels.max(initial=0)))
        self._masks.session.add_edit(replace(edit, time=time.time(), kind=self._masks.kind))
        self._masks.taught.emit(edit.box)

    # --- "yes, right", which napari knows nothing of ---

    def take_back_right(self) -> bool:
        """Take back the last step, if it only said that labels are right."""
        if not self.steps or self.steps[-1].changes_labels or self._is_pair():
            return False
        self._remember(self._take_back(len(self.steps) - 1), [])
        self._masks.acted.emit("Undone")
        return True

    def do_right_again(self) -> bool:
        """Do again what was undone last, if it only said that labels are right."""
        if not self._undone or self._undone[-1].changes_labels:
            return False
        self._do_again(self._undone[-1])
        return True

    def _is_pair(self) -> bool:
        """Whether the last step only completes the one before: what was cleared is taught as nothing."""
        last = self.steps[-2:]
        return len(last) == 2 and last[0].changes_labels and all(step.tool == "nothing" for step in last)

    # --- what napari's undo and redo did ---

    def compare(self, *, is_redo: bool | None) -> list[Box]:
        """Book what napari's undo or redo did; None: nobody knows which, or whether there was one at all.

        Returns
        -------
        list of Box
            Where strokes came back that were undone before they were taught.
        """
        masks = self._masks
        masks.dirty = [b for b in masks.dirty if np.any(masks.layer.data[b.slices] != masks.baseline[b.slices])]
        places = [box for box in self._known if self._differing(box)]
        again = next((undone for undone in reversed(self._undone) if undone.changes_labels), None)
        if is_redo is None:
            is_redo = bool(places) and not self._is_last_reverted()
        if again is not None and is_redo and again.is_redone(masks.layer.data):
            self._do_again(again)
        elif places:
            self._find_undone()
        return [box for place in places if (box := self._differing(place))]

    def _is_last_reverted(self) -> bool:
        """Whether it must have been an undo; who deletes what was just made sees the same after undo and redo."""
        last = next((step for step in reversed(self.steps) if step.changes_labels), None)
        return last is not None and last.is_reverted(self._masks.layer.data)

    def _differing(self, place: Box) -> Box | None:
        """Where labels of a place are not as we know them, other than by strokes that are still to be settled."""
        differs = self._masks.layer.data[place.slices] != self._masks.baseline[place.slices]
        for box in self._masks.dirty:
            if overlap(box, place):
                differs[box.intersect(place).within(place).slices] = False
        tight = Box.of_mask(differs)
        return None if tight is None else tight.shift(place.start)

    def _find_undone(self) -> None:
        """Take back the steps whose labels napari undid; what is left of strokes taught with them is taught anew."""
        gone: list[_Taken] = []
        rest: list[Step] = []
        while (index := self._disturbed()) is not None:
            taken = self._take_back(index)
            gone += [(step, labels) for step, labels in taken if step not in rest]
            rest = [step for step in rest if step in self.steps]
            for box in merged([step.drawn for step, _ in taken if step.changes_labels]):
                if (left := self.keep_diff(box, "paint")) is not None:
                    rest.append(left)
            self._masks.acted.emit("Undone")
        if gone:
            self._remember(gone, rest)

    def _disturbed(self) -> int | None:
        """The newest step where labels are no longer as we know them."""
        for index in range(len(self.steps) - 1, -1, -1):
            step = self.steps[index]
            if step.changes_labels and self._differing(step.drawn):
                return index
        return None

    def _take_back(self, index: int) -> list[_Taken]:
        """Withdraw a step and those that rest on it; newest first, each with the labels that it taught."""
        masks, taken = self._masks, []
        for i in taken_back_with(self.steps, index):
            step = self.steps.pop(i)
            cut = step.box.slices
            taken.append((step, masks.baseline[cut][step.trusted]))
            taught = step.take_back(masks.baseline)
            masks.session.withdraw(masks.picture.key, step.box, masks.baseline[cut].copy(), taught)
            masks.taught.emit(step.box)
        return taken

    def _remember(self, taken: Sequence[_Taken], rest: Sequence[Step]) -> None:
        """What an undo took back can be done again."""
        self._undone = newest([*self._undone, Undone(tuple(reversed(taken)), tuple(rest))])

    def _do_again(self, undone: Undone) -> None:
        """Teach once more what an undo took back, as it was, whatever was predicted there meanwhile."""
        masks = self._masks
        self._undone.remove(undone)
        for step in undone.rest:
            if step in self.steps:
                self._take_back(self.steps.index(step))
        for step, labels in undone.steps:
            cut, trusted = step.box.slices, step.trusted
            step.take_again(masks.picture.taught)
            masks.layer.data[cut][trusted] = masks.baseline[cut][trusted] = labels
            self._keep(step.edit(masks.picture.key, masks.baseline[cut].copy()), step)
            masks.stale.append(step.box)
        masks.pasted.emit()
        masks.acted.emit("Done again")
