"""Other ways to find an object from clicks, to compare with: a threshold, GrabCut, the random walker, dense masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.segmentation import random_walker

from napari_unet.core.corrections import Labels, Mask
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Point, Prompts

FIELD = 4.0
"""Side of the part of the picture that is looked at around the clicks, in diameters of an object as it was measured."""
SEED = 2
"""Radius of a click as a seed, in pixels."""
BETA = 130
"""Of the random walker: how hard it is to cross an edge (scikit-image's own value)."""
ROUNDS = 3
"""Of GrabCut."""


@dataclass(frozen=True)
class Scene:
    """What the other ways see of a picture.

    Attributes
    ----------
    grey : (Y, X) float64
        0 to 1.
    dense : (Y, X) int
        Objects as the model predicts them.
    diameter : float
        Of the objects, as it was measured, in pixels.
    """

    grey: npt.NDArray[np.float64]
    dense: Labels
    diameter: float

    def part(self, prompts: Prompts) -> Box:
        """The part of the picture that is looked at."""
        points = np.array([*prompts.positive, *prompts.negative])
        reach = round(FIELD / 2 * self.diameter)
        low, high = points.min(0).astype(int) - reach, points.max(0).astype(int) + reach + 1
        return Box(tuple(low.tolist()), tuple(high.tolist())).clip(self.grey.shape)


Way = Callable[[Scene, Prompts], Mask]


def _regions(labels: Labels, prompts: Prompts) -> Mask:
    """The regions that were clicked on, less those of clicks beside the object."""

    def at(points: tuple[Point, ...]) -> set[int]:
        return {int(labels[round(y), round(x)]) for y, x in points} - {0}

    mask: Mask = np.isin(labels, list(at(prompts.positive) - at(prompts.negative)))
    return mask


def otsu(scene: Scene, prompts: Prompts) -> Mask:
    """The region of Otsu's threshold (1979), on the side of it on which the first click lies."""
    above = scene.grey > threshold_otsu(scene.grey)
    y, x = (round(c) for c in prompts.positive[0])
    return _regions(label(above == above[y, x], connectivity=1), prompts)


def watershed(scene: Scene, prompts: Prompts) -> Mask:
    """The region of the dense prediction's watershed."""
    return _regions(scene.dense, prompts)


def walker(scene: Scene, prompts: Prompts) -> Mask:
    """The random walker (Grady 2006); clicks are seeds, and so is the rim of the part that is looked at."""
    box = scene.part(prompts)
    seeds = np.zeros(box.shape, np.int32)
    seeds[[0, -1]], seeds[:, [0, -1]] = 2, 2
    _draw(seeds, box, prompts, on=1, off=2)
    mask = np.zeros(scene.grey.shape, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of faster solvers
        mask[box.slices] = random_walker(scene.grey[box.slices], seeds, beta=BETA, mode="cg_j") == 1
    return _connected(mask, prompts)


def grabcut(scene: Scene, prompts: Prompts) -> Mask:
    """GrabCut (Rother 2004) of OpenCV; clicks are sure, the middle of the part that is looked at is likely object."""
    import cv2  # only where it is installed: see `ways`

    box = scene.part(prompts)
    seeds = np.full(box.shape, cv2.GC_PR_BGD, np.uint8)
    reach = round(scene.diameter / 2)
    for y, x in prompts.positive:
        near = Box.around((y, x), (2 * reach, 2 * reach)).clip(scene.grey.shape).within(box)
        seeds[near.clip(box.shape).slices] = cv2.GC_PR_FGD
    seeds[[0, -1]], seeds[:, [0, -1]] = cv2.GC_BGD, cv2.GC_BGD
    _draw(seeds, box, prompts, on=cv2.GC_FGD, off=cv2.GC_BGD)
    image = np.repeat((scene.grey[box.slices] * 255).astype(np.uint8)[..., None], 3, axis=2)
    back, front = np.zeros((1, 65)), np.zeros((1, 65))
    with suppress(cv2.error):  # too few pixels of one kind: the seeds are all it can say
        cv2.grabCut(image, seeds, (0, 0, 1, 1), back, front, ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros(scene.grey.shape, bool)
    mask[box.slices] = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    return _connected(mask, prompts)


def ways() -> dict[str, Way]:
    """The ways there are, by name; GrabCut only where OpenCV is installed."""
    found: dict[str, Way] = {"Otsu": otsu, "random walker": walker, "watershed": watershed}
    with suppress(ImportError):
        import cv2  # noqa: F401

        found["GrabCut"] = grabcut
    return found


def _draw(seeds: npt.NDArray[np.integer], box: Box, prompts: Prompts, *, on: int, off: int) -> None:
    """Draw the clicks."""
    y, x = np.ogrid[box.slices]
    for points, value in ((prompts.negative, off), (prompts.positive, on)):
        for row, column in points:
            seeds[(y - row) ** 2 + (x - column) ** 2 <= SEED**2] = value


def _connected(mask: Mask, prompts: Prompts) -> Mask:
    """The parts of a mask that were clicked on."""
    return _regions(label(mask, connectivity=1), Prompts(prompts.positive))
