"""The mask of one object: where it lies, and what of it was clicked on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_unet.core.corrections import Mask
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.prompt_maps import Window
from napari_unet.core.prompts import pixels_of


@dataclass(frozen=True)
class ClickMask:
    """The mask of one object.

    Attributes
    ----------
    box : Box
        Where `mask` lies in the plane.
    mask : (*box) bool
    foreground : float
        How sure the network is, click or no click, that there is something.
    """

    box: Box
    mask: Mask
    foreground: float = 0.0

    def over(self, shape: tuple[int, int]) -> Mask:
        """The mask in a whole plane."""
        whole = np.zeros(shape, bool)
        whole[self.box.slices] = self.mask
        return whole


def mask_in(mask: Mask, shape: tuple[int, int]) -> ClickMask | None:
    """A mask of a picture of `shape`, and where it lies; None if it is empty."""
    inside = np.asarray(mask) > 0
    if inside.shape != shape:
        raise ImageError(f"The mask so far is {inside.shape} and the picture {shape}; they must be alike.")
    where = Box.of_mask(inside)
    return None if where is None else ClickMask(where, inside[where.slices])


def seen_mask(mask: ClickMask, window: Window) -> Mask:
    """A mask of the picture as a window shows it."""
    line = (np.arange(window.side) + 0.5) / window.scale
    rows, columns = (
        np.floor(line + start - low).astype(int) for start, low in zip(window.start, mask.box.start, strict=True)
    )
    height, width = mask.mask.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    seen: Mask = mask.mask[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))] & inside
    return seen


def clicked(mask: Mask, points: npt.NDArray[np.float64]) -> Mask:
    """The parts of a mask that were clicked on at `points` (N, 2); the largest one if none was."""
    labels, count = scipy.ndimage.label(mask)
    if count < 2:
        return mask
    hit = np.unique(labels[pixels_of(points, mask.shape)])
    hit = hit[hit > 0]
    if not hit.size:
        hit = np.array([np.bincount(labels.ravel())[1:].argmax() + 1])
    chosen: Mask = np.isin(labels, hit)
    return chosen


def tight(mask: Mask, box: Box) -> ClickMask:
    """A mask with no more room around it than it needs."""
    found = Box.of_mask(mask)
    if found is None:
        return ClickMask(Box(box.start, tuple(a + 1 for a in box.start)), np.zeros((1, 1), bool))
    return ClickMask(found.shift(box.start), mask[found.slices])
