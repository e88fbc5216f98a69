"""A simulated annotator: looks at masks, and makes the correction that a person would make first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_unet.core.corrections import Edit, Labels, Mask
from napari_unet.core.diff import accepted_region, clear_region, cut_object, delete_object, diff, free_id, join_objects
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import OverlapTable, areas, class_agreement, match_objects, mean_agreement

STROKE_SECONDS, ERASE_SECONDS, BETWEEN_SECONDS, CLICK_SECONDS = 1.4, 0.75, 1.5, 2.0
"""What a stroke of the brush and of the eraser, the pause before each correction, and a click take.

Strokes and pauses: measured on people who worked with RootPainter (Smith et al., New Phytologist 236, 2022).
"""
MATCH, GOOD = 0.5, 0.75
"""IoU from which an object is found, and from which a person leaves its outline alone."""
SMALLEST = 12
"""What is smaller is not worth a correction, in pixels."""
WIDEST_BRUSH, LONGEST_STROKE = 8.0, 80
"""Radius of a brush and length of a stroke, in pixels."""
CLUTTER, MARGIN = 3, 4
"""False masks from which on one drag is made over them, and how far it stays away from objects, in pixels."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the masks.

    Attributes
    ----------
    kind : {'missed', 'false', 'merged', 'split', 'outline', 'clutter'}
    area : int
        Pixels that are wrong by it.
    shown, true : tuple of int
        The masks and the true objects that it is about, the largest first.
    box : Box or None
        Of 'clutter' alone: an empty part of the picture with several false masks, for one drag of the hand.
    """

    kind: str
    area: int
    shown: tuple[int, ...]
    true: tuple[int, ...]
    box: Box | None = None


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


def correct(shown: Labels, truth: Labels, *, picture: str = "", place: Box | None = None) -> Act:
    """Mend the worst fault; if there is none, say that everything is right.

    Several false masks that go away with one drag come first, then whatever is largest.

    Parameters
    ----------
    shown, truth : (Y, X) int
        The masks as they are, and the right ones: seen by the annotator alone.
    picture : str
        Identity, for the edit.
    place : Box, optional
        Where the annotator looks: only faults that lie in it are mended. By default the whole picture.
    """
    for fault in faults(shown, truth):
        if place is not None and not _lies_in(fault, shown, truth, place):
            continue
        after, seconds, tool = _mend(shown, truth, fault)
        if fault.box is not None:  # what was empty there already is right, too
            edit = accepted_region(after, fault.box, picture=picture)
        else:
            edit = diff(shown, after, Box.whole(shown.shape), picture=picture, tool=tool)
        if edit is not None:
            return Act(fault.kind, edit, after, BETWEEN_SECONDS + seconds)
    right = accepted_region(shown, place or Box.whole(shown.shape), picture=picture)
    if right is None:
        raise ValueError("There is no picture to look at.")
    return Act("right", right, shown, BETWEEN_SECONDS + CLICK_SECONDS)


def faults(shown: Labels, truth: Labels) -> list[Fault]:
    """Everything that is wrong with masks, in the order in which a person would mend it.

    A mask that is mostly several whole true objects is *merged*; a true object that is mostly several whole masks is
    *split*; one that no mask matches is *missed*; a mask on no object is *false*, and several in an empty place are
    *clutter*; and where mask and object match, but not well, the *outline* is wrong.
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
    false = _false(table, _sizes(shown))
    found += [Fault("false", size, (number,), ()) for number, size in false.items()]
    return [*_clutter(shown, truth, false), *sorted(found, key=lambda fault: -fault.area)]


def _lies_in(fault: Fault, shown: Labels, truth: Labels, place: Box) -> bool:
    """Whether the middle of a fault lies in a place."""
    if fault.box is not None:
        middle = fault.box.center
    else:
        where = np.isin(truth, fault.true) if fault.true else np.isin(shown, fault.shown)
        middle = scipy.ndimage.center_of_mass(where)
    return all(a <= c < b for a, c, b in zip(place.start, middle, place.stop, strict=True))


def _false(table: OverlapTable, shown: dict[int, int]) -> dict[int, int]:
    """Masks that lie on no object, and their sizes."""
    on_objects = dict.fromkeys(shown, 0)
    for number, common in zip(table.ids_b.tolist(), table.counts.tolist(), strict=True):
        on_objects[number] += common
    return {n: size for n, size in shown.items() if on_objects[n] < 0.2 * size and size >= SMALLEST}


def _clutter(shown: Labels, truth: Labels, false: dict[int, int]) -> list[Fault]:
    """The empty box with the most false masks: around the point that is farthest from all objects and is not right."""
    wrong = np.isin(shown, list(false))
    free = scipy.ndimage.distance_transform_cdt(np.pad(truth == 0, 1), metric="chessboard")[1:-1, 1:-1]
    side = int(free[wrong].max(initial=0)) - MARGIN
    if side < MARGIN:
        return []
    y, x = np.argwhere(wrong & (free == side + MARGIN))[0].tolist()
    box = Box((y, x), (y + 1, x + 1)).grow((side, side)).clip(truth.shape)
    inside = [n for n in np.unique(shown[box.slices]).tolist() if n in false]
    if len(inside) < CLUTTER:
        return []
    return [Fault("clutter", sum(false[n] for n in inside), tuple(inside), (), box)]


def _several(table: OverlapTable, kind: str) -> list[Fault]:
    """Masks that hold most of several true objects, or true objects that hold most of several masks."""
    if kind == "merged":
        inside, whole, sizes, wholes = table.ids_a, table.ids_b, table.areas_a, table.areas_b
    else:
        inside, whole, sizes, wholes = table.ids_b, table.ids_a, table.areas_b, table.areas_a
    is_in = (table.counts > 0.5 * sizes) & (sizes >= SMALLEST)
    found = []
    for number in np.unique(whole[is_in]).tolist():
        here = is_in & (whole == number)
        parts = sorted(zip(sizes[here].tolist(), inside[here].tolist(), strict=True), reverse=True)
        if len(parts) > 1 and table.counts[here].sum() >= MATCH * wholes[here][0]:
            lost, members = sum(area for area, _ in parts[1:]), tuple(member for _, member in parts)
            shown, true = ((number,), members) if kind == "merged" else (members, (number,))
            found.append(Fault(kind, lost, shown, true))
    return found


_TOOLS = {"false": "delete", "merged": "cut", "split": "join", "clutter": "nothing"}


def _mend(shown: Labels, truth: Labels, fault: Fault) -> tuple[Labels, float, str]:
    """The masks after one fault was mended as far as one action of the hand does, the seconds it took, and the tool."""
    after = shown.copy()
    change = None
    if fault.box is not None:
        change = clear_region(shown, fault.box)
    elif fault.kind == "false":
        change = delete_object(shown, point_inside(shown == fault.shown[0]))
    elif fault.kind == "split":
        change = join_objects(
            shown, [point_inside((shown == number) & (truth == fault.true[0])) for number in fault.shown]
        )
    elif fault.kind == "merged":
        change = cut_object(np.where(shown == fault.shown[0], shown, 0), cutting_line(truth, fault), free_id(shown))
    if change is not None:
        # the plane that was cut held the one object alone
        written = change.labels > 0 if fault.kind == "merged" else np.ones(change.labels.shape, bool)
        after[change.box.slices][written] = change.labels[written]
    if change is None or not all(_is_good(after, truth == number) for number in fault.true):
        return *_paint(shown, truth, fault.true[-1]), "paint"  # what a cut or a join would leave is wrong, too
    return after, CLICK_SECONDS * (len(fault.shown) if fault.kind == "split" else 1), _TOOLS[fault.kind]


def _is_good(shown: Labels, mask: Mask) -> bool:
    """Whether a true object has a mask whose outline a person would leave alone."""
    number = int(np.bincount(shown[mask]).argmax())
    both = int((shown[mask] == number).sum())
    return number != 0 and both >= GOOD * (int((shown == number).sum()) + int(mask.sum()) - both)


def _paint(shown: Labels, truth: Labels, number: int) -> tuple[Labels, float]:
    """Paint one true object: more of the mask that matches it, or a new one.

    Masks that lie mostly in it are rubbed out, unless they reach into other objects: those are another matter.
    """
    after, mask = shown.copy(), truth == number
    empty = truth == 0
    numbers, common = np.unique(shown[mask & (shown > 0)], return_counts=True)
    match = 0
    for other, area in zip(numbers.tolist(), common.tolist(), strict=True):
        size = int((shown == other).sum())
        if ((shown == other) & ~mask & ~empty).any():
            continue  # rubbed out in part, its rest would be taken for right
        is_match = area >= MATCH * (size + int(mask.sum()) - area)
        if is_match or area > 0.5 * size:
            after[after == other] = 0
        match = other if is_match else match
    painted = mask & (shown != match) if match else mask
    erased = (shown > 0) & (after == 0)
    after[mask] = match or free_id(shown)
    brush = max(3.0, math.sqrt(mask.sum() / math.pi))
    strokes = math.ceil(painted.sum() / (2 * brush**2))
    return after, STROKE_SECONDS * strokes + ERASE_SECONDS * math.ceil(erased.sum() / (2 * brush**2))


def stroke(shown: Labels, truth: Labels, *, picture: str = "") -> Act | None:
    """A stroke of the brush over the largest part that has the wrong class; None if there is hardly any.

    It is drawn in the middle of that part, straight on as long as it stays inside, and no wider than the part is.

    Parameters
    ----------
    shown, truth : (Y, X) int
        Class ids as they are, and the right ones.
    picture : str
        Identity, for the edit.
    """
    parts, count = scipy.ndimage.label(shown != truth)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    part = parts == 1 + int(np.argmax(sizes))
    kind = int(np.bincount(truth[part]).argmax())
    part &= truth == kind
    depth = scipy.ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    if depth.max() < 1.5:
        return None
    middle = np.array(np.unravel_index(int(np.argmax(depth)), part.shape))
    radius = float(min(max(0.6 * depth.max(), 1.0), WIDEST_BRUSH))
    turns = np.linspace(0, math.pi, 8, endpoint=False)
    ways = [_way(part, middle, np.array([math.sin(turn), math.cos(turn)])) for turn in turns]
    line = np.zeros(part.shape, bool)
    line[tuple(max(ways, key=len).T)] = True
    trusted = (scipy.ndimage.distance_transform_edt(~line) <= radius) & (truth == kind)
    box = Box.of_mask(trusted)
    if box is None:
        return None
    after = np.where(trusted, kind, shown).astype(np.int32)
    right = mean_agreement(class_agreement(shown[box.slices], after[box.slices], trusted[box.slices]))
    edit = Edit(picture, box, after[box.slices].copy(), trusted[box.slices].copy(), right=right)
    return Act("stroke", edit, after, BETWEEN_SECONDS + (STROKE_SECONDS if kind else ERASE_SECONDS))


def _way(part: Mask, middle: npt.NDArray[np.intp], along: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The pixels (N, 2) on a straight line through a pixel, as far as they are in a part."""
    steps = np.arange(-LONGEST_STROKE // 2, LONGEST_STROKE // 2 + 1)
    pixels = np.rint(middle + steps[:, None] * along).astype(int)
    pixels = pixels[((pixels >= 0) & (pixels < part.shape)).all(1)]
    runs, _ = scipy.ndimage.label(part[tuple(pixels.T)])
    here = int(np.argmin(np.abs(pixels - middle).sum(1)))
    return np.asarray(pixels[runs == runs[here]])


def cutting_line(truth: Labels, fault: Fault) -> list[tuple[float, float]]:
    """A short line across the waist between the two largest objects that were merged."""
    a, b = (np.array(scipy.ndimage.center_of_mass(truth == number)) for number in fault.true[:2])
    middle, along = (a + b) / 2, b - a
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
    return [tuple(middle - 2 * across), tuple(middle + 2 * across)]


def point_inside(mask: Mask) -> tuple[int, ...]:
    """The pixel of a mask that is farthest from its rim; of an empty one the first."""
    box = Box.of_mask(mask) or Box.whole(mask.shape)
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask[box.slices], 1))[1:-1, 1:-1]
    middle = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return tuple(int(i) + a for i, a in zip(middle, box.start, strict=True))


def _sizes(labels: Labels) -> dict[int, int]:
    """The area of each object."""
    numbers, counts = areas(labels)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
