"""What the user taught a label layer, step by step, so that an undo can take it back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import HELD_OUT, TAUGHT, Edit, Labels, Mask
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts

STEPS = 100  # as many as napari keeps undo steps of a label layer
LARGEST = 256 << 20
"""Bytes of the steps that changed no label."""


@dataclass(frozen=True, eq=False)
class Step:
    """One edit, and how things were before it, as small as that can be told.

    Attributes
    ----------
    box : Box
        Of the edit.
    tool, right, prompts : str, float or None, Prompts or None
        Of the edit.
    drawn : Box
        Where the strokes or the tool went: labels that differ there were undone. Empty for "yes, right".
    place : Box
        The smallest one around the voxels whose label the edit changed; empty for "yes, right".
    changed : (*place) bool
    labels_before : (voxels,) int32
        Of those that are `changed`, in their order: all others have now the labels that they had.
    taught_before : (2, bytes) uint8
        Of the whole box, where it was taught and where it was held out, eight voxels a byte.
    trusted_bits : (bytes,) uint8
        Of the edit, eight voxels a byte.
    """

    box: Box
    tool: str
    right: float | None
    prompts: Prompts | None
    drawn: Box
    place: Box
    changed: Mask
    labels_before: npt.NDArray[np.int32]
    taught_before: npt.NDArray[np.uint8]
    trusted_bits: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, edit: Edit, changed: Mask, drawn: Box, baseline: Labels, taught: npt.NDArray[np.uint8]) -> Step:
        """What to remember of an edit; both arrays are of the whole picture, as they were before it.

        Parameters
        ----------
        edit : Edit
        changed : (*edit.box) bool
            Voxels whose label the edit changed; none for "yes, right".
        drawn : Box
        baseline : (whole picture) int32
        taught : (whole picture) uint8
        """
        box = edit.box
        nothing = (0,) * changed.ndim
        tight = Box.of_mask(changed) or Box(nothing, nothing)
        place, changed = tight.shift(box.start), changed[tight.slices].copy()
        return cls(
            box,
            edit.tool,
            edit.right,
            edit.prompts,
            drawn,
            place,
            changed,
            baseline[place.slices][changed].astype(np.int32),
            _taught_bits(taught, box),
            np.packbits(edit.trusted),
        )

    def edit(self, picture: str, labels: npt.NDArray[np.int32]) -> Edit:
        """The edit, made once more, with the labels of its box."""
        return Edit(picture, self.box, labels, self.trusted, self.tool, right=self.right, prompts=self.prompts)

    def take_again(self, taught: npt.NDArray[np.uint8]) -> None:
        """The step is done again: what is taught now is what was before. Its labels stay those that napari knows."""
        self.taught_before[...] = _taught_bits(taught, self.box)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return sum(a.nbytes for a in (self.changed, self.labels_before, self.taught_before, self.trusted_bits))

    @property
    def changes_labels(self) -> bool:
        """Whether a label differs after the edit."""
        return self.labels_before.size > 0

    @property
    def trusted(self) -> Mask:
        """(*box) bool: the voxels that the edit set."""
        return np.unpackbits(self.trusted_bits, count=math.prod(self.box.shape)).astype(bool).reshape(self.box.shape)

    def is_reverted(self, labels: Labels) -> bool:
        """Whether all that the step changed has the labels from before it."""
        return np.array_equal(labels[self.place.slices][self.changed], self.labels_before)

    def take_back(self, baseline: Labels) -> npt.NDArray[np.uint8]:
        """Put the labels of the whole picture back as they were before, in place; (*box) `taught` as it was."""
        baseline[self.place.slices][self.changed] = self.labels_before
        is_taught, is_held_out = (np.unpackbits(bits, count=math.prod(self.box.shape)) for bits in self.taught_before)
        return (is_taught * TAUGHT + is_held_out * HELD_OUT).astype(np.uint8).reshape(self.box.shape)


@dataclass(frozen=True, eq=False)
class Undone:
    """What one undo took back, so that a redo brings back exactly that.

    Attributes
    ----------
    steps : tuple of (Step, labels)
        Oldest first; with the labels, (voxels,) int32, that were `trusted` in it.
    rest : tuple of Step
        Taken anew, of strokes that had been taught together with the one that was undone.
    """

    steps: tuple[tuple[Step, npt.NDArray[np.int32]], ...]
    rest: tuple[Step, ...] = ()

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return sum(step.nbytes + labels.nbytes for step, labels in self.steps)

    @property
    def changes_labels(self) -> bool:
        """Whether napari had a part in it."""
        return any(step.changes_labels for step, _ in self.steps)

    def is_redone(self, labels: Labels) -> bool:
        """Whether all that the steps had changed is again as they had left it; `labels` are of the whole picture."""
        for step, after in self.steps:
            changed = np.zeros(step.box.shape, bool)
            changed[step.place.within(step.box).slices] = step.changed
            if not np.array_equal(labels[step.box.slices][changed], after[changed[step.trusted]]):
                return False
        return True


def _taught_bits(taught: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.uint8]:
    """(2, bytes): where a box was taught and where it was held out."""
    return np.stack([np.packbits(taught[box.slices] == side) for side in (TAUGHT, HELD_OUT)])


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a voxel."""
    return not a.intersect(b).is_empty


_Kept = TypeVar("_Kept", Step, Undone)


def newest(steps: Sequence[_Kept]) -> list[_Kept]:
    """Of the steps that change labels as many as napari can undo, and as many of the others as memory may hold.

    One that napari can undo but we forgot would be taken for a stroke of the user when it is undone: those go by their
    number alone, as in napari, which keeps as much of each.
    """
    kept, left, room = [], {True: STEPS, False: STEPS}, LARGEST
    for step in reversed(steps):
        changes = step.changes_labels
        left[changes] -= 1
        room -= 0 if changes else step.nbytes
        if left[changes] >= 0 and (changes or room >= 0 or step is steps[-1]):
            kept.append(step)
    return kept[::-1]


def taken_back_with(steps: Sequence[Step], index: int) -> list[int]:
    """The steps that must go when `steps[index]` is taken back, newest first.

    Later steps that lie over it rest on what it taught, so they go too (an object that was painted,
    then accepted, then undone, is no longer accepted).
    """
    gone = [index]
    for later in range(index + 1, len(steps)):
        if any(overlap(steps[later].box, steps[i].box) for i in gone):
            gone.append(later)
    return sorted(gone, reverse=True)


def merged(boxes: Sequence[Box]) -> list[Box]:
    """Boxes that overlap, directly or through others, as one; the rest as they are."""
    apart: list[Box] = []
    for box in boxes:
        joined, others = box, []
        for other in apart:
            if overlap(other, joined):
                joined = Box.union((joined, other))
            else:
                others.append(other)
        # the union may reach boxes that neither part reached
        apart = merged([*others, joined]) if len(others) < len(apart) else [*others, joined]
    return apart
