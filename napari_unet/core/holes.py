"""Holes: voxels that hold no picture, as around a stitched or registered one, or where a voxel is no number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_unet.core.arrays import RawArray

LEAST, MOST = 0.005, 0.5
"""Part of a picture that a black frame takes."""
FILLED = 0.85
"""Part of its bounding box that is not black in a framed picture; one that is turned by five degrees has as much."""
GAP = 0.1
"""How bright its darkest voxels are, as part of its brightest: a frame is not as dark as a dark background."""
VALUES = 32
"""Different intensities that there are at least: a drawn picture has fewer than one that a camera took."""
STRAY = 0.001
"""Part of a plane that may be black by chance."""
Mask = npt.NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)


def is_framed(parts: Sequence[RawArray]) -> bool:
    """Whether what is 0 in all channels is a frame, and no part of the picture.

    It is one where it holds corners of each plane, leaves about a rectangle free, and is much darker than all that
    lies in it. So a dark background with bright objects is none, nor is one of a picture that was drawn.

    Parameters
    ----------
    parts : sequence of (C, ..., Y, X)
        The whole picture, or blocks from all over it.
    """
    black = [is_black(part) for part in parts]
    share = sum(int(b.sum()) for b in black) / max(1, sum(b.size for b in black))
    if not LEAST <= share <= MOST or not all(_leaves_rectangle(plane) for b in black for plane in _planes(b)):
        return False
    gray = np.concatenate([part[:, ~b].mean(0, dtype=np.float64) for part, b in zip(parts, black, strict=True)])
    gray = gray[:: max(1, gray.size // 2**20)]  # a million of them tell as much
    darkest, brightest = np.percentile(gray, (1, 99.8))
    return bool(darkest > GAP * brightest and gray.min() > 0 and len(np.unique(gray)) >= VALUES)


def is_black(raw: RawArray) -> Mask:
    """Where all channels are 0, (C, ...) to (...)."""
    return np.asarray((raw == 0).all(axis=0))


def fill_holes(x: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], Mask | None]:
    """Fill what is NaN with what lies as far on the other side of the nearest rim.

    Where that is outside, the edge is taken; where it is a hole, too, the rim. A plane that is one hole becomes 0.

    Parameters
    ----------
    x : (C, ..., Y, X) float32

    Returns
    -------
    filled : (C, ..., Y, X) float32
        `x` itself if nothing is NaN.
    holes : (..., Y, X) bool or None
        Where all channels are NaN, but for single voxels and lines; None if nothing is NaN.
    """
    unknown = np.isnan(x)
    if not unknown.any():
        return x, None
    from scipy import ndimage  # takes a while to load, which napari's start need not wait for

    filled = x.copy()
    for plane, hole in zip(_planes(filled), _planes(unknown), strict=True):
        if hole.all():
            plane[...] = 0
        elif hole.any():
            nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
            last = np.array(hole.shape).reshape(2, 1, 1) - 1
            mirrored = np.clip(2 * nearest - np.indices(hole.shape), 0, last)
            plane[...] = plane[tuple(np.where(hole[tuple(mirrored)], nearest, mirrored))]
    return filled, wide_holes(np.asarray(unknown.all(axis=0)))


def wide_holes(holes: Mask) -> Mask:
    """What is a hole in each plane, but for single voxels and lines."""
    from scipy import ndimage

    wide = [ndimage.binary_opening(np.pad(hole, 1, mode="edge"), np.ones((3, 3))) for hole in _planes(holes)]
    return np.asarray(wide)[:, 1:-1, 1:-1].reshape(holes.shape)


def _planes(x: npt.NDArray[Value]) -> Iterator[npt.NDArray[Value]]:
    """A view of each plane, (Y, X); an axis that is not there is 1 long."""
    yield from x.reshape(-1, *(1, 1, *x.shape)[-2:])


def _leaves_rectangle(black: Mask) -> bool:
    """Whether a plane is black around its corners and about a rectangle is free; also if nothing or all of it is."""
    if black.all() or black.mean() < STRAY:
        return True
    from scipy import ndimage

    parts, _ = ndimage.label(black)
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    free = ~np.isin(parts, corners[corners > 0])
    y, x = ndimage.find_objects(free.astype(np.uint8))[0]
    return bool((black & free).mean() < STRAY and free.sum() >= FILLED * free[y, x].size)
