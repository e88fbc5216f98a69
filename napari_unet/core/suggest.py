"""Where to look next: the places where the model is in doubt about more than an outline."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy

from napari_unet.core.corrections import Labels
from napari_unet.core.geometry import Box
from napari_unet.core.picture import Picture

OBJECTS_ACROSS, SMALLEST, LARGEST = 5, 64, 512
"""Side of a place, in diameters of its objects, and its limits in pixels."""
LOOKED_AT = 1 << 20
"""Pixels that are compared, at most; larger pictures are looked at in steps."""
OUTLINE = 5
"""Doubt narrower than this is the outline of an object, in pixels."""
SURE, HELD = 0.1, 0.1
"""Doubt below which an object is sure, and the share of a place that such objects fill at least."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Doubtful:
    """A picture as the model sees it.

    Attributes
    ----------
    picture : Picture
    doubt : ([T, Z,] Y, X)
        0 where the model is sure; uint8 up to 255, or a float up to 1.
    masks : (same shape) int or None
        The objects that are shown; None for classes.
    diameter : float
        Of its objects, in pixels.
    """

    picture: Picture
    doubt: npt.NDArray[np.generic]
    masks: Labels | None
    diameter: float


@dataclass(frozen=True)
class Suggestion:
    """A place where a correction helps.

    Attributes
    ----------
    box : Box
        In voxels of the picture; one plane of a stack.
    gain : float
        How much of it is in doubt, 0..1.
    """

    box: Box
    gain: float


def side_of_place(diameter: float) -> int:
    """Side of a place for objects of a diameter, in pixels."""
    return int(min(max(OBJECTS_ACROSS * diameter, SMALLEST), LARGEST))


def next_place(known: Mapping[Key, Doubtful], seen: Mapping[Key, Sequence[Box]]) -> tuple[Key, Box] | None:
    """The place with most to gain in several pictures.

    Where much that is no object looks like one, most doubt is there, and who follows it does nothing but erase; of
    that the model learns little. So wherever fewer objects were drawn than places seen, the next place holds some.

    Parameters
    ----------
    known : mapping to Doubtful
    seen : mapping to sequence of Box
        Places of each picture to leave out.

    Returns
    -------
    (key, Box) or None
        None if there is no doubt anywhere else.
    """
    drawn, places = sum(len(each.picture.drawn) for each in known.values()), sum(map(len, seen.values()))
    for is_short in (True, False) if places > drawn else (False,):
        best, gain = None, 0.0
        for key, each in known.items():
            masks, side = each.masks if is_short else None, side_of_place(each.diameter)
            offer = suggest(each.doubt, each.picture.taught, side, seen=seen.get(key, ()), masks=masks)
            if offer is not None and offer.gain > gain:
                best, gain = (key, offer.box), offer.gain
        if best is not None:
            return best
    return None


def suggest(
    doubt: npt.NDArray[np.generic],
    taught: Labels,
    side: int,
    *,
    seen: Iterable[Box] = (),
    masks: Labels | None = None,
) -> Suggestion | None:
    """The place with most doubt that nobody has looked at yet.

    Every outline is a little doubtful, so doubt counts only where it is wider than a line. What the user has set is
    in doubt no more.

    Parameters
    ----------
    doubt : ([T, Z,] Y, X)
        0 where the model is sure; uint8 up to 255, or a float up to 1.
    taught : (same shape) int
        0 where the user has said nothing.
    side : int
        Of the place, in pixels.
    seen : iterable of Box
        Places to leave out.
    masks : (same shape) int, optional
        Only a place that holds some of these objects of which the model is sure and nothing was said.

    Returns
    -------
    Suggestion or None
        None if there is no doubt anywhere else.
    """
    step = max(1, math.ceil(math.sqrt(doubt.size / LOOKED_AT)))
    coarse = (..., slice(None, None, step), slice(None, None, step))
    top = 255.0 if doubt.dtype == np.uint8 else 1.0
    wide = np.where(taught[coarse] == 0, doubt[coarse], 0).astype(np.float32) / np.float32(top)
    lead = (1,) * (wide.ndim - 2)
    wide = scipy.ndimage.minimum_filter(wide, (*lead, *(max(1, OUTLINE // step),) * 2))
    for box in seen:
        *planes, rows, columns = box.slices
        near = [slice(part.start // step, -(-part.stop // step)) for part in (rows, columns)]
        wide[(*planes, *near)] = 0
    window = (*lead, *(max(1, side // step),) * 2)
    mean = scipy.ndimage.uniform_filter(wide, window, mode="constant")
    if masks is not None:
        sure = (masks[coarse] > 0) & (doubt[coarse].astype(np.float32) < SURE * top) & (taught[coarse] == 0)
        mean[scipy.ndimage.uniform_filter(sure.astype(np.float32), window, mode="constant") < HELD] = 0
    best = np.unravel_index(int(np.argmax(mean)), mean.shape)
    if mean[best] <= 0:
        return None
    middle = [int(c) for c in best[:-2]] + [int(c) * step for c in best[-2:]]
    start, stop = list(middle), [c + 1 for c in middle]
    for axis in (-2, -1):
        start[axis] = min(max(0, middle[axis] - side // 2), max(0, doubt.shape[axis] - side))
        stop[axis] = min(start[axis] + side, doubt.shape[axis])
    return Suggestion(Box(tuple(start), tuple(stop)), float(mean[best]))
