"""What the user changed, and what our tools change: pure functions over label arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy
import skimage

from napari_unet.core.corrections import Edit, Labels, Mask
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import class_agreement, mean_agreement, object_agreement

if TYPE_CHECKING:
    from napari_unet.core.prompts import Prompts

Int32 = npt.NDArray[np.int32]

_LOOK_AROUND = 64  # voxels that a window grows by (doubled each time) while an object reaches its border


@dataclass(frozen=True)
class Change:
    """New labels for a part of a picture.

    Attributes
    ----------
    box : Box
        Where `labels` lie.
    labels : (*box) int32
    prompts : Prompts or None
        What showed the object that they are about, if clicks did.
    """

    box: Box
    labels: Int32
    prompts: Prompts | None = None


def diff(
    baseline: Labels, edited: Labels, box: Box, *, picture: str = "", tool: str = "paint", whole_objects: bool = True
) -> Edit | None:
    """What changed inside `box` from `baseline` to `edited`, as an edit.

    A mended object is the user's as a whole: every voxel of the objects that the change touched and that
    still exist is trusted with the changed voxels, also outside `box`. What is left of an object that was painted over
    is not: it may be as wrong as it was.

    Parameters
    ----------
    baseline, edited : (whole picture) int
        Labels before and after.
    box : Box
        Where to look.
    picture, tool : str
        Copied into the edit.
    whole_objects : bool
        False trusts the changed voxels alone (for classes, where one id is everywhere).

    Returns
    -------
    Edit or None
        None if nothing changed.
    """
    box = box.clip(edited.shape)
    changed = edited[box.slices] != baseline[box.slices]
    tight = Box.of_mask(changed)
    if tight is None:
        return None
    changed = changed[tight.slices]
    tight = tight.shift(box.start)
    touched: set[int] = set()
    if whole_objects:
        before, after = baseline[tight.slices][changed], edited[tight.slices][changed]
        # who rubs out a part of an object mends it, and so does who clicks a smaller one; who paints over a part, or
        # clears a place, says nothing of the rest
        mended = before if tool in ("cut", "join") else before[(after == 0) & (tool in ("paint", "click"))]
        touched = _ids(after) | _ids(mended)
    wide = object_box(edited, touched, tight)
    trusted = np.isin(edited[wide.slices], list(touched)) if touched else np.zeros(wide.shape, bool)
    trusted[tight.within(wide).slices] |= changed
    agreement = object_agreement if whole_objects else class_agreement
    right = mean_agreement(agreement(baseline[wide.slices], edited[wide.slices], trusted))
    return _edit(edited, wide, trusted, picture=picture, tool=tool, right=right)


def accepted_object(labels: Labels, point: Sequence[int], *, picture: str = "") -> Edit | None:
    """The object at `point` as an edit that changes nothing ("yes, right"); None on background."""
    found = int(labels[tuple(point)])
    if found == 0:
        return None
    box = object_box(labels, {found}, at(point))
    return _edit(labels, box, labels[box.slices] == found, picture=picture, tool="accept")


def accepted_region(labels: Labels, region: Box, *, picture: str = "") -> Edit | None:
    """Everything in `region` is right, background too; None if the region lies outside.

    The edit's box also holds the objects that cross the border, so that they are not cut there; only
    voxels inside `region` are trusted.
    """
    region = region.clip(labels.shape)
    if region.is_empty:
        return None
    wide = object_box(labels, _crossing(labels, region), region)
    trusted = np.zeros(wide.shape, bool)
    trusted[region.within(wide).slices] = True
    return _edit(labels, wide, trusted, picture=picture, tool="region")


def clear_region(labels: Labels, region: Box, *, whole_objects: bool = True) -> Change | None:
    """Make `region` background. Objects that lie mostly inside go as a whole; None if there are none.

    A cut-off rest of an object that was mostly inside would be wrong too, so it goes with it; not where
    labels are classes (`whole_objects` False), of which one number is everywhere.
    """
    region = region.clip(labels.shape)
    if region.is_empty or not (inside := _ids(labels[region.slices])):
        return None
    wide = object_box(labels, inside, region) if whole_objects else region
    after = labels[wide.slices].astype(np.int32)
    within = region.within(wide).slices
    for found in inside if whole_objects else ():
        if np.count_nonzero(after[within] == found) * 2 > np.count_nonzero(after == found):
            after[after == found] = 0
    after[within] = 0
    return Change(wide, after)


def delete_object(labels: Labels, point: Sequence[int]) -> Change | None:
    """Make the object at `point` background; None if there is none."""
    found = int(labels[tuple(point)])
    if found == 0:
        return None
    box = object_box(labels, {found}, at(point))
    after = labels[box.slices].astype(np.int32)
    after[after == found] = 0
    return Change(box, after)


def join_objects(labels: Labels, points: Iterable[Sequence[int]], *, gap: int = 2) -> Change | None:
    """Make the objects under `points` one, with the number of the first; None if fewer than two.

    Background between them that is at most 2 `gap` voxels wide is filled, so that the joined object is in one piece.
    """
    points = [tuple(int(c) for c in p) for p in points]
    ids = list(dict.fromkeys(int(labels[p]) for p in points if labels[p] != 0))
    if len(ids) < 2:
        return None
    box = object_box(labels, set(ids), Box.union(at(p) for p in points)).grow((gap + 1, gap + 1)).clip(labels.shape)
    after = labels[box.slices].astype(np.int32)
    joined = np.isin(after, ids)
    # only across the last two axes: objects of the planes beside this one are another matter
    ball = np.ones((1,) * (joined.ndim - 2) + (2 * gap + 1,) * 2, bool)
    closed = scipy.ndimage.binary_erosion(scipy.ndimage.binary_dilation(joined, ball), ball, border_value=1)
    after[closed & (after == 0)] = ids[0]
    after[joined] = ids[0]
    return Change(box, after)


def cut_object(plane: Labels, path: Sequence[Sequence[float]], free: int) -> Change | None:
    """Cut the object under a drawn line in two (or more); the largest part keeps the number.

    Parameters
    ----------
    plane : (Y, X) int
    path : sequence of (y, x)
        Points of the line, in voxels. A line that stops short is prolonged at both ends.
    free : int
        First number that is not in use; the other parts get it and the next ones.

    Returns
    -------
    Change or None
        None if no object lies under the line, or the line does not part it.
    """
    under = _under(plane, path)
    numbers, counts = np.unique(under[under != 0], return_counts=True)
    if not numbers.size:
        return None
    found = int(numbers[np.argmax(counts)])
    seed = next(at(p) for p in raster(path, plane.shape) if plane[p] == found)
    box = object_box(plane, {found}, seed)
    mask = plane[box.slices] == found
    local = np.asarray(path, float) - np.array(box.start)
    reach = float(sum(box.shape))
    for way in (local, _prolonged(local, reach)):
        parts = _parts(mask, way)
        if parts is not None:
            after = plane[box.slices].astype(np.int32)
            sizes = np.bincount(parts[mask])[1:]
            for rank, part in enumerate(np.argsort(-sizes, kind="stable")):
                after[mask & (parts == part + 1)] = found if rank == 0 else free + rank - 1
            return Change(box, after)
    return None


def place_object(
    labels: Labels, box: Box, mask: Mask, free: int, *, taught: npt.NDArray[np.uint8] | None = None, number: int = 0
) -> tuple[Change, int] | None:
    """Make one object of a mask; objects that lie mostly under it go as a whole.

    Parameters
    ----------
    labels : (whole picture) int
    box : Box
        Where `mask` lies, inside the picture.
    mask : (*box) bool
    free : int
        A number that is not in use.
    taught : (whole picture) uint8, optional
        Voxels of objects that the user set (not 0) stay as they are.
    number : int
        Of the object; 0: that of the largest one that goes, else `free`.

    Returns
    -------
    (Change, int) or None
        And the object's number; None if nothing of the mask is left.
    """
    under = _ids(labels[box.slices][mask])
    wide = object_box(labels, under, box)
    after = labels[wide.slices].astype(np.int32)
    fixed = np.zeros(wide.shape, bool) if taught is None else (taught[wide.slices] != 0) & (after != 0)
    inside = np.zeros(wide.shape, bool)
    inside[box.within(wide).slices] = mask
    inside &= ~fixed
    if not inside.any():
        return None
    covered = {n: np.count_nonzero(inside & (after == n)) for n in under}
    gone = {n: size for n, size in covered.items() if size * 2 > np.count_nonzero((after == n) & ~fixed)}
    after[np.isin(after, list(gone)) & ~fixed] = 0
    number = number or max(gone, key=gone.__getitem__, default=free)
    after[inside] = number
    return Change(wide, after), number


def object_box(labels: Labels, ids: set[int], around: Box) -> Box:
    """The smallest box that holds `around` and all voxels of `ids` connected to it, along the last two axes.

    Objects are looked for in a window that grows while they reach its border, so a large picture is never
    searched as a whole.
    """
    window, step = around.clip(labels.shape), _LOOK_AROUND
    if not ids:
        return window
    wanted = np.array(sorted(ids))
    while True:
        window = window.grow((step, step)).clip(labels.shape)
        hit = Box.of_mask(np.isin(labels[window.slices], wanted))
        if hit is None:
            return around.clip(labels.shape)
        found = hit.shift(window.start)
        if not _reaches_border(found, window, labels.shape):
            return Box.union((found, around.clip(labels.shape)))
        step *= 2


def free_id(labels: Labels) -> int:
    """The first number above all that are in use."""
    return int(labels.max(initial=0)) + 1


def raster(path: Sequence[Sequence[float]], shape: Sequence[int]) -> list[tuple[int, int]]:
    """The pixels (y, x) under a line through the points of `path`, inside `shape`, in order."""
    points = [(round(float(y)), round(float(x))) for y, x in path]
    pixels: dict[tuple[int, int], None] = {}
    for a, b in pairwise(points if len(points) > 1 else points * 2):
        rows, columns = skimage.draw.line(*a, *b)
        for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
            if 0 <= y < shape[0] and 0 <= x < shape[1]:
                pixels[y, x] = None
    return list(pixels)


def _under(plane: Labels, path: Sequence[Sequence[float]]) -> Labels:
    pixels = raster(path, plane.shape)
    return np.array([plane[p] for p in pixels], dtype=np.int64)


def _prolonged(path: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    """The line with `reach` voxels more at both ends, in the direction from its one end to the other."""
    along = path[-1] - path[0]
    along = along / max(float(np.hypot(*along)), 1e-6)
    return np.vstack([path[0] - along * reach, path, path[-1] + along * reach])


def _parts(mask: Mask, path: npt.NDArray[np.float64]) -> npt.NDArray[np.intp] | None:
    """Parts 1..N of `mask` on the sides of `path`, without a gap; None if there is only one."""
    walls = np.zeros(mask.shape, bool)
    for p in raster([tuple(q) for q in path], mask.shape):
        walls[p] = True
    # 4-connected parts: a line of pixels that touch at corners still parts them
    parts, count = scipy.ndimage.label(mask & ~walls)
    before = scipy.ndimage.label(mask)[1]
    if count <= before:
        return None
    nearest = scipy.ndimage.distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    filled: npt.NDArray[np.intp] = np.where(mask, parts[tuple(nearest)], 0)
    return filled


def _edit(labels: Labels, box: Box, trusted: Mask, *, picture: str, tool: str, right: float = 1.0) -> Edit:
    """The edit with a copy of `labels` in `box`; its time is set where it is kept."""
    return Edit(picture, box, labels[box.slices].astype(np.int32), trusted, tool, right=right)


def _ids(values: Labels) -> set[int]:
    return {int(v) for v in np.unique(values) if v != 0}


def at(point: Sequence[int]) -> Box:
    """The box of one voxel."""
    return Box(tuple(int(c) for c in point), tuple(int(c) + 1 for c in point))


def _crossing(labels: Labels, region: Box) -> set[int]:
    """Numbers of the objects on the border of `region` (in the last two axes)."""
    inside = labels[region.slices]
    sides = (inside[..., 0, :], inside[..., -1, :], inside[..., :, 0], inside[..., :, -1])
    return set().union(*(_ids(side) for side in sides))


def _reaches_border(found: Box, window: Box, shape: Sequence[int]) -> bool:
    """Whether `found` touches a side of `window` (last two axes) that is not a side of the picture."""
    axes = range(len(shape) - 2, len(shape))
    return any(
        (found.start[a] == window.start[a] and window.start[a] > 0)
        or (found.stop[a] == window.stop[a] and window.stop[a] < shape[a])
        for a in axes
    )
