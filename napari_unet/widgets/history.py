"""What the user taught a label layer, step by step, so that an undo can take it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit, Labels, Mask
from napari_unet.core.geometry import Box

STEPS = 100  # as many as napari keeps undo steps of a label layer


@dataclass(frozen=True)
class Step:
    """One edit, and how things were before it.

    Attributes
    ----------
    edit : Edit
    changed : (*edit.box) bool
        Voxels whose label the edit changed; none for "yes, right".
    labels_before : (*edit.box) int32
    taught_before : (*edit.box) uint8
    """

    edit: Edit
    changed: Mask
    labels_before: npt.NDArray[np.int32]
    taught_before: npt.NDArray[np.uint8]

    @cached_property
    def changes_labels(self) -> bool:
        """Whether a label differs after the edit."""
        return bool(self.changed.any())

    def is_disturbed(self, baseline: Labels, labels: Labels) -> bool:
        """Whether a voxel that this step changed is no longer as the step left it."""
        cut = self.edit.box.slices
        return bool(np.any((labels[cut] != baseline[cut]) & self.changed))


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a voxel."""
    return not a.intersect(b).is_empty


def newest(steps: Sequence[Step]) -> list[Step]:
    """Of the steps that change labels as many as napari can undo, and as many of the others.

    One that napari can undo but we forgot would be taken for a stroke of the user when it is undone.
    """
    kept, left = [], {True: STEPS, False: STEPS}
    for step in reversed(steps):
        left[step.changes_labels] -= 1
        if left[step.changes_labels] >= 0:
            kept.append(step)
    return kept[::-1]


def taken_back_with(steps: Sequence[Step], index: int) -> list[int]:
    """The steps that must go when `steps[index]` is taken back, newest first.

    Later steps that lie over it rest on what it taught, so they go too (an object that was painted,
    then accepted, then undone, is no longer accepted).
    """
    gone = [index]
    for later in range(index + 1, len(steps)):
        if any(overlap(steps[later].edit.box, steps[i].edit.box) for i in gone):
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
