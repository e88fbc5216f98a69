"""Sides: which words of the user teach the model, and which are held out to score it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy

from napari_unet.core.corrections import HELD_OUT, NOT_TAUGHT, Edit, Labels, Mask
from napari_unet.core.geometry import Box

SQUARE = 128
"""Side of the squares into which pictures are divided, in pixels."""
HELD_OUT_EVERY = 5

Square = tuple[str, tuple[int, ...]]
Cut = tuple[slice, ...]


class Sides:
    """Divides what the user sets into what teaches and what is held out; no voxel ever changes sides.

    Every fifth square in which something is set is held out, whatever is set in it later. An object
    goes as a whole with the square of its middle, so that a held-out object is never learnt by way of
    the part of it that reaches into another square; background goes with the square it lies in. A voxel
    that is set again stays where it was. Used by the main thread alone.
    """

    def __init__(self) -> None:
        self._sides: dict[Square, bool] = {}

    def divide(self, edit: Edit, taught: Labels) -> list[Edit]:
        """The part of an edit that teaches and the part that is held out; none if nothing in it is trusted.

        Parameters
        ----------
        edit : Edit
            What it says of its side does not count.
        taught : (whole picture) uint8
            As it is before the edit.
        """
        held = _in_box(taught, edit.box) == HELD_OUT
        for square, cut, fresh in _fresh(edit, taught):
            held[cut][fresh] = self._side_of(square)
        masks = {False: edit.trusted & ~held, True: edit.trusted & held}
        return [replace(edit, trusted=mask, held_out=side) for side, mask in masks.items() if mask.any()]

    def remember(self, edit: Edit, taught: Labels) -> None:
        """Take the sides of squares from an edit that was read back, before it is applied to `taught`."""
        if edit.taught is None:
            for square, _, _ in _fresh(edit, taught):
                self._sides.setdefault(square, edit.held_out)

    def forget(self) -> None:
        """Begin anew."""
        self._sides.clear()

    def _side_of(self, square: Square) -> bool:
        """Whether what is set in a square is held out; decided when it is met for the first time."""
        return self._sides.setdefault(square, len(self._sides) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)


def squares_of(box: Box) -> list[tuple[int, ...]]:
    """The squares that a box meets: indices along the leading axes, and of squares along the last two."""
    lead = len(box.start) - 2
    axes = [range(a, b) for a, b in zip(box.start[:lead], box.stop[:lead], strict=True)]
    axes += [range(a // SQUARE, -(-b // SQUARE)) for a, b in zip(box.start[lead:], box.stop[lead:], strict=True)]
    return list(itertools.product(*axes))


def region_of(square: tuple[int, ...]) -> Box:
    """Where a square lies; its rim may reach outside the picture."""
    lead = len(square) - 2
    start = square[:lead] + tuple(i * SQUARE for i in square[lead:])
    return Box(start, tuple(i + 1 for i in square[:lead]) + tuple(i + SQUARE for i in start[lead:]))


def _fresh(edit: Edit, taught: Labels) -> Iterator[tuple[Square, Cut, Mask]]:
    """The voxels that are set for the first time, by the square they go with.

    Yields
    ------
    square, cut, mask
        `mask` lies at `cut` in the edit's box.
    """
    fresh = edit.trusted & (_in_box(taught, edit.box) == NOT_TAUGHT)
    objects = np.where(fresh & (edit.labels > 0), edit.labels, 0)
    if objects.max(initial=0) > objects.size:  # large numbers would make a long list
        known, index = np.unique(objects, return_inverse=True)
        objects = index.reshape(objects.shape) + int(known[0] != 0)
    for number, cut in enumerate(scipy.ndimage.find_objects(objects), start=1):
        if cut is not None:
            place = Box(tuple(s.start for s in cut), tuple(s.stop for s in cut)).shift(edit.box.start)
            middle = tuple(int(c) for c in place.center)
            yield (edit.picture, _square_at(middle)), cut, objects[cut] == number
    background = fresh & (objects == 0)
    for square in squares_of(edit.box):
        cut = region_of(square).intersect(edit.box).within(edit.box).slices
        if background[cut].any():
            yield (edit.picture, square), cut, background[cut]


def _square_at(voxel: tuple[int, ...]) -> tuple[int, ...]:
    """The square in which a voxel lies."""
    return voxel[:-2] + tuple(c // SQUARE for c in voxel[-2:])


def _in_box(values: Labels, box: Box) -> Labels:
    """The values in a box that may reach outside; 0 there."""
    inside = box.clip(values.shape)
    cut = np.zeros(box.shape, values.dtype)
    cut[inside.within(box).slices] = values[inside.slices]
    return cut
