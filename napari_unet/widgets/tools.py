"""What our correction tools do to a label layer; each is one undo step. `gestures.py` knows when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_unet.core import diff
from napari_unet.core.corrections import Edit, Mask
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts
from napari_unet.widgets.mask_layer import MaskLayer

Voxel = Sequence[int]
Found = tuple[Box, Mask]
"""A mask in a plane, and where it lies."""


def delete(mask: MaskLayer, point: Voxel) -> bool:
    """Delete the object at a voxel; False if there is none."""
    number = mask.number_at(point)
    change = diff.delete_object(mask.layer.data, point) if number else None
    return mask.apply(change, "delete", f"Object {number} deleted")


def join(mask: MaskLayer, points: Sequence[Voxel]) -> bool:
    """Join the objects under `points` into the first; False if there are fewer than two."""
    numbers = list(dict.fromkeys(n for p in points if (n := mask.number_at(p))))
    if len(numbers) < 2:
        return False
    inside = [p for p in points if mask.holds(p)]
    others = ", ".join(str(n) for n in numbers[1:])
    return mask.apply(diff.join_objects(mask.layer.data, inside), "join", f"Object {others} joined to {numbers[0]}")


def cut(mask: MaskLayer, path: Sequence[Sequence[float]], axes: Sequence[int]) -> bool:
    """Cut the object under a line; `path` in voxels of all axes, drawn in the plane of the two `axes`."""
    at = [round(float(c)) for c in path[0]]
    if any(not 0 <= c < n for a, (c, n) in enumerate(zip(at, mask.layer.data.shape, strict=True)) if a not in axes):
        return False
    if not mask.fits:
        return False
    mask.settle()  # the new half needs a number that no stroke has
    plane = mask.layer.data[tuple(slice(None) if a in axes else c for a, c in enumerate(at))]
    change = diff.cut_object(plane, [tuple(float(p[a]) for a in sorted(axes)) for p in path], mask.next_id)
    if change is None:
        return False
    start, stop = list(at), [c + 1 for c in at]
    for axis, a, b in zip(sorted(axes), change.box.start, change.box.stop, strict=True):
        start[axis], stop[axis] = a, b
    box = Box(tuple(start), tuple(stop))
    return mask.apply(diff.Change(box, change.labels.reshape(box.shape)), "cut", "Object cut in two")


def accept_object(mask: MaskLayer, point: Voxel) -> bool:
    """Teach the object at a voxel as it is ("yes, right"); False if there is none."""
    number = mask.number_at(point)
    mask.settle()
    edit = diff.accepted_object(mask.layer.data, point, picture=mask.picture.key) if number else None
    return mask.accept(edit, f"Object {number} is right")


def accept_region(mask: MaskLayer, region: Box) -> bool:
    """Teach everything in a region as it is, background too; False if it lies outside the picture."""
    mask.settle()
    return mask.accept(diff.accepted_region(mask.layer.data, region, picture=mask.picture.key), "The region is right")


def clear_region(mask: MaskLayer, region: Box) -> bool:
    """Make a region background, and teach it as such; False if it lies outside the picture."""
    region = region.clip(mask.layer.data.shape)
    if region.is_empty:
        return False
    mask.settle()
    mask.apply(diff.clear_region(mask.layer.data, region, whole_objects=mask.has_objects), "nothing")
    # what was background already is taught as well
    labels, trusted = np.zeros(region.shape, np.int32), np.ones(region.shape, bool)
    return mask.accept(Edit(mask.picture.key, region, labels, trusted, "nothing"), "Nothing in the region")


def place(
    mask: MaskLayer,
    lead: tuple[int, ...],
    found: Found,
    *,
    prompts: Prompts | None = None,
    may_replace: bool = False,
    number: int = 0,
) -> int:
    """Write an object into a label layer, as one undo step, and teach it; its number, 0 if nothing is left of it.

    Parameters
    ----------
    mask : MaskLayer
    lead : tuple of int
        The plane: (time, z), as far as there are any.
    found : (Box, mask)
        In the plane.
    prompts : Prompts, optional
        What showed it: it teaches where this user clicks.
    may_replace : bool
        Whether it may be written over objects that the user confirmed.
    number : int
        The number it gets; 0: that of what it replaces, or a new one.
    """
    if not mask.fits:
        return 0
    mask.settle()
    box, inside = found
    taught = None if may_replace else mask.picture.taught[lead]
    placed = diff.place_object(mask.layer.data[lead], box, inside, mask.next_id, taught=taught, number=number)
    if placed is None:
        return 0
    change, number = placed
    whole = Box((*lead, *change.box.start), (*(i + 1 for i in lead), *change.box.stop))
    labels = change.labels.reshape(whole.shape)
    if not mask.apply(diff.Change(whole, labels, prompts), "click", f"Object {number} kept"):
        at = np.argwhere(labels == number)[0] + whole.start
        accept_object(mask, [int(c) for c in at])
    return number
