"""What a network sees of prompts, what it says of them, and which prompts a person would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_unet.core.annotator import point_inside
from napari_unet.core.corrections import Mask
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Point, Prompts, array_of

MAPS = 4
"""What `prompt_maps` draws: clicks on the object, clicks beside it, the box, the mask so far."""
RADIUS = 3.0
"""Of a click, in pixels of the maps."""
SURE, REACH = 5.0, 5.0
"""What a logit is at a click at least, towards what the click says; and how far that reaches, in pixels of the maps."""


@dataclass(frozen=True)
class Window:
    """The square part of a picture that the click head sees.

    Attributes
    ----------
    start : (y, x) float
        Its corner, in pixels of the picture (the corner of pixel 0 is at 0).
    scale : float
        Size of the picture's pixels, in pixels of the maps.
    side : int
        In pixels of the maps.
    """

    start: Point
    scale: float
    side: int

    def seen(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where pixels (N, 2) of the picture lie in the window, in its own pixels."""
        inside: npt.NDArray[np.float64] = (points + 0.5 - np.array(self.start)) * self.scale - 0.5
        return inside

    def inside(self, shape: tuple[int, int]) -> Mask:
        """Which of its own pixels lie in a picture of `shape`."""
        line = (np.arange(self.side) + 0.5) / self.scale
        rows, columns = ((line + a >= 0) & (line + a < n) for a, n in zip(self.start, shape, strict=True))
        inside: Mask = rows[:, None] & columns[None]
        return inside

    def box(self, shape: tuple[int, int]) -> Box:
        """The pixels of a picture of `shape` that it covers."""
        low = np.floor(self.start).astype(int)
        high = np.ceil(np.array(self.start) + self.side / self.scale).astype(int)
        return Box(tuple(low.tolist()), tuple(high.tolist())).clip(shape)


def prompt_maps(prompts: Prompts, window: Window, previous: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float32]:
    """What a network sees of prompts.

    Parameters
    ----------
    prompts : Prompts
    window : Window
    previous : (side, side) bool or None
        The mask so far, as the window shows it.

    Returns
    -------
    (4, side, side) float32
        0 or 1: discs around clicks on the object, and beside it; the box; the mask so far.
    """
    maps = np.zeros((MAPS, window.side, window.side), np.float32)
    y, x = np.ogrid[: window.side, : window.side]
    for channel, points in enumerate((prompts.positive, prompts.negative)):
        for row, column in window.seen(array_of(points)):
            maps[channel][(y - row) ** 2 + (x - column) ** 2 <= RADIUS**2] = 1
    if prompts.box is not None:
        low, high = window.seen(np.array([prompts.box.start, np.array(prompts.box.stop) - 1], float))
        maps[2][(y >= low[0] - 0.5) & (y <= high[0] + 0.5) & (x >= low[1] - 0.5) & (x <= high[1] + 0.5)] = 1
    if previous is not None:
        maps[3] = previous
    return maps


def obeying(logits: npt.NDArray[np.float32], prompts: Prompts, window: Window) -> npt.NDArray[np.float32]:
    """What a network says of a window, mended around clicks that it did not follow.

    Parameters
    ----------
    logits : (side, side) float32
        Above 0 where the object is.
    prompts : Prompts
    window : Window

    Returns
    -------
    (side, side) float32
        At each click `SURE` says what it says; the change fades with the distance (to a third within `REACH`), so
        pixels that were nearly taken go along with it. All clicks hold at once, however close to each other they lie.
    """
    signs = {
        (round(row), round(column)): sign
        for points, sign in ((prompts.positive, 1.0), (prompts.negative, -1.0))
        for row, column in window.seen(array_of(points)).tolist()
        if 0 <= round(row) < window.side and 0 <= round(column) < window.side
    }
    at, sign = np.array(list(signs), int).reshape(-1, 2), np.array(list(signs.values()))
    said = sign * logits[tuple(at.T)]  # above 0 where the network follows
    missing, near = np.maximum(SURE - said, 0), np.exp(-scipy.spatial.distance.cdist(at, at) / REACH)
    moved, push = missing > 0, np.zeros(len(at))
    while moved.any():
        push[moved] = np.linalg.solve(near[np.ix_(moved, moved)], (sign * missing)[moved])
        broken = ~moved & (said + sign * (near @ push) <= 0)  # followed before its neighbours were mended
        if not broken.any():
            break
        moved |= broken
    for (row, column), by in zip(at[moved].tolist(), push[moved].tolist(), strict=True):
        y, x = np.ogrid[-row : window.side - row, -column : window.side - column]
        logits = logits + np.float32(by) * np.exp(-np.hypot(y, x) / REACH).astype(np.float32)
    return logits


def next_click(mask: Mask, truth: Mask, known: Mask | None = None) -> tuple[tuple[int, int], bool] | None:
    """Where a person who knows the truth would click next: in the middle of the largest error.

    Parameters
    ----------
    mask, truth : (Y, X) bool
        The mask so far, and the right one.
    known : (Y, X) bool, optional
        Where the truth is known; everywhere by default.

    Returns
    -------
    ((y, x), bool) or None
        The pixel, and whether it lies on the object; None if nothing is wrong.
    """
    wrong = mask != truth if known is None else (mask != truth) & known
    best: tuple[int, int, bool] | None = None
    parts: npt.NDArray[np.int32] | None = None
    for on_object in (True, False):
        labels, count = scipy.ndimage.label(wrong & (truth == on_object))
        if not count:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        if best is None or sizes.max() > best[0]:
            best, parts = (int(sizes.max()), int(sizes.argmax()) + 1, on_object), labels
    if best is None or parts is None:
        return None
    y, x = point_inside(parts == best[1])
    return (y, x), best[2]


def prompts_of(mask: Mask, box: Box, *, most: int = 3) -> Prompts:
    """Clicks deep inside an object, and a box a little larger than it: what to show of it in the next slice.

    Parameters
    ----------
    mask : (*box) bool
        Not empty.
    box : Box
        Where it lies in the plane.
    most : int
        Clicks, at most; only a long object gets more than one.
    """
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    inside = np.argwhere(depth >= 0.6 * depth.max())
    chosen = [np.array(point_inside(mask))]
    while len(chosen) < most:
        far = np.min([np.hypot(*(inside - point).T) for point in chosen], axis=0)
        if far.max() < 2 * depth.max():
            break
        chosen.append(inside[far.argmax()])
    points = tuple((float(y), float(x)) for y, x in np.array(chosen) + box.start)
    slack = 1 + round(float(depth.max()) / 4)
    return Prompts(points, box=box.grow(slack))
