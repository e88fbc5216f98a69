"""A simulated annotator: looks at masks, and makes the correction that a person would make first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_unet.core.corrections import Edit, Labels, Mask
from napari_unet.core.diff import accepted_region, cut_object, delete_object, diff, free_id, join_objects
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import OverlapTable, match_objects

STROKE_SECONDS, ERASE_SECONDS, BETWEEN_SECONDS, CLICK_SECONDS = 1.4, 0.75, 1.5, 2.0
"""What a stroke of the brush and of the eraser, the pause before each correction, and a click take.

Strokes and pauses: measured on people who worked with RootPainter (Smith et al., New Phytologist 236, 2022).
"""
MATCH, GOOD = 0.5, 0.75
"""IoU from which an object is found, and from which a person leaves its outline alone."""
SMALLEST = 12
"""What is smaller is not worth a correction, in pixels."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the masks.

    Attributes
    ----------
    kind : {'missed', 'false', 'merged', 'split', 'outline'}
    area : int
        Pixels that are wrong by it.
    shown, true : tuple of int
        The masks and the true objects that it is about, the largest first.
    """

    kind: str
    area: int
    shown: tuple[int, ...]
    true: tuple[int, ...]


@dataclass(frozen=True)
class Act:
    """One correction that was made.

    Attributes
    ----------
    kind : str
        The fault that it mends, or 'right'.
    edit : Edit
    labels : (Y, X) int32
        The masks after it.
    seconds : float
        How long a person takes for it.
    """

    kind: str
    edit: Edit
    labels: Labels
    seconds: float


def correct(shown: Labels, truth: Labels, *, picture: str = "") -> Act:
    """Mend the fault that is the largest; if there is none, say that the whole picture is right.

    Parameters
    ----------
    shown, truth : (Y, X) int
        The masks as they are, and the right ones: seen by the annotator alone.
    picture : str
        Identity, for the edit.
    """
    for fault in sorted(faults(shown, truth), key=lambda fault: -fault.area):
        after, seconds = _mend(shown, truth, fault)
        edit = diff(shown, after, Box.whole(shown.shape), picture=picture, tool=_TOOLS[fault.kind])
        if edit is not None:
            return Act(fault.kind, edit, after, BETWEEN_SECONDS + seconds)
    right = accepted_region(shown, Box.whole(shown.shape), picture=picture)
    if right is None:
        raise ValueError("There is no picture to look at.")
    return Act("right", right, shown, BETWEEN_SECONDS + CLICK_SECONDS)


def faults(shown: Labels, truth: Labels) -> list[Fault]:
    """Everything that is wrong with masks.

    A mask that is mostly several whole true objects is *merged*; a true object that is mostly several whole masks is
    *split*; one that no mask matches is *missed*; a mask on no object is *false*; and where mask and object match, but
    not well, the *outline* is wrong.
    """
    table = match_objects(truth, shown)
    found = [*_several(table, "merged"), *_several(table, "split")]
    told = {number for fault in found for number in fault.true}
    sizes, best = _sizes(truth), dict[int, tuple[float, int]]()
    for a, b, iou in zip(table.ids_a.tolist(), table.ids_b.tolist(), table.iou.tolist(), strict=True):
        best[a] = max(best.get(a, (0.0, 0)), (iou, b))
    for number, size in sizes.items():
        iou, match = best.get(number, (0.0, 0))
        if number in told or size < SMALLEST or iou >= GOOD:
            continue
        kind, partner = ("outline", (match,)) if iou >= MATCH else ("missed", ())
        found.append(Fault(kind, round(size * (1 - iou)), partner, (number,)))
    on_objects = dict.fromkeys(_sizes(shown), 0)
    for b, common in zip(table.ids_b.tolist(), table.counts.tolist(), strict=True):
        on_objects[b] += common
    for number, size in _sizes(shown).items():
        if on_objects[number] < 0.2 * size and size >= SMALLEST:
            found.append(Fault("false", size, (number,), ()))
    return found


def _several(table: OverlapTable, kind: str) -> list[Fault]:
    """Masks that hold most of several true objects, or true objects that hold most of several masks."""
    if kind == "merged":
        inside, whole, areas, wholes = table.ids_a, table.ids_b, table.areas_a, table.areas_b
    else:
        inside, whole, areas, wholes = table.ids_b, table.ids_a, table.areas_b, table.areas_a
    is_in = (table.counts > 0.5 * areas) & (areas >= SMALLEST)
    found = []
    for number in np.unique(whole[is_in]).tolist():
        here = is_in & (whole == number)
        parts = sorted(zip(areas[here].tolist(), inside[here].tolist(), strict=True), reverse=True)
        if len(parts) > 1 and table.counts[here].sum() >= MATCH * wholes[here][0]:
            lost, members = sum(area for area, _ in parts[1:]), tuple(member for _, member in parts)
            shown, true = ((number,), members) if kind == "merged" else (members, (number,))
            found.append(Fault(kind, lost, shown, true))
    return found


_TOOLS = {"missed": "paint", "outline": "paint", "false": "delete", "merged": "cut", "split": "join"}


def _mend(shown: Labels, truth: Labels, fault: Fault) -> tuple[Labels, float]:
    """The masks after one fault was mended as far as one action of the hand does, and the seconds it took."""
    after = shown.copy()
    change = None
    if fault.kind == "false":
        change = delete_object(shown, _inside(shown == fault.shown[0]))
    elif fault.kind == "split":
        change = join_objects(shown, [_inside((shown == number) & (truth == fault.true[0])) for number in fault.shown])
    elif fault.kind == "merged":
        change = cut_object(np.where(shown == fault.shown[0], shown, 0), _line_between(truth, fault), free_id(shown))
    if change is None:
        return _paint(shown, truth, fault.true[-1])
    # the plane that was cut held the one object alone
    written = change.labels > 0 if fault.kind == "merged" else np.ones(change.labels.shape, bool)
    after[change.box.slices][written] = change.labels[written]
    return after, CLICK_SECONDS * max(1, len(fault.shown))


def _paint(shown: Labels, truth: Labels, number: int) -> tuple[Labels, float]:
    """Paint one true object: over the mask that matches it, after masks in its place were rubbed out."""
    after, mask = shown.copy(), truth == number
    numbers, common = np.unique(shown[mask & (shown > 0)], return_counts=True)
    match = 0
    for other, area in zip(numbers.tolist(), common.tolist(), strict=True):
        size = int((shown == other).sum())
        if area >= MATCH * (size + int(mask.sum()) - area):
            match = other
        if other == match or area > 0.5 * size:
            after[after == other] = 0
    painted = mask & (shown != match) if match else mask
    erased = (shown > 0) & (after == 0) & ~mask
    after[mask] = match or free_id(shown)
    brush = max(3.0, math.sqrt(mask.sum() / math.pi))
    strokes = math.ceil(painted.sum() / (2 * brush**2))
    return after, STROKE_SECONDS * strokes + ERASE_SECONDS * math.ceil(erased.sum() / (2 * brush**2))


def _line_between(truth: Labels, fault: Fault) -> list[tuple[float, float]]:
    """A short line across the waist between the two largest objects that were merged."""
    a, b = (np.array(ndimage.center_of_mass(truth == number)) for number in fault.true[:2])
    middle, along = (a + b) / 2, b - a
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
    return [tuple(middle - 2 * across), tuple(middle + 2 * across)]


def _inside(mask: Mask) -> tuple[int, ...]:
    """The pixel of a mask that is farthest from its rim."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(depth)), mask.shape))


def _sizes(labels: Labels) -> dict[int, int]:
    """The area of each object."""
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
