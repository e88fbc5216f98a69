"""Novelty: whether a picture looks like any of those that a model has learnt from, by brightness and contrast alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from napari_unet.core.intensity import FloatArray

NEW = 2.0
"""Novelty above which a picture is of a kind of its own: at the median of a kind that is known it is 0.3 to 1.1, and of
one that is not 3.2 to 7.6 (docs/learning.md)."""
KNOWN_ENOUGH = 8
"""Pictures without which nobody can say what is usual among them."""
SCALES = 4
HALF, FAINT = 0.5, 0.005
"""A difference in brightness that counts like a contrast 2.7 times as strong, and a contrast as good as none."""


def look_of(image: FloatArray) -> FloatArray:
    """What a picture looks like: brightness and, at each of some scales, contrast.

    Parameters
    ----------
    image : (C, Y, X) float32
        Normalised, at the size at which a network sees it.

    Returns
    -------
    (C * (SCALES + 2),) float32
        Of each channel: the mean, and logarithms of the standard deviation of what is lost from one scale to the next
        one (pixels in groups of 2 x 2, four times), and of what is left.
    """
    brightness, variances = image.mean((1, 2)), [image.var((1, 2))]
    for _ in range(SCALES):
        image = _halved(_halved(image, 1), 2)
        variances.append(image.var((1, 2)))
    lost = [np.maximum(a - b, 0) for a, b in itertools.pairwise(variances)]
    contrast = np.sqrt(np.stack([*lost, variances[-1]]))
    return np.concatenate([brightness / HALF, np.log(contrast + FAINT).ravel()]).astype(np.float32)


def _halved(image: FloatArray, axis: int) -> FloatArray:
    """Means of each two neighbours along an axis; an odd last one is left out, a single one stays."""
    count = image.shape[axis] // 2
    if count == 0:
        return image
    first, second = (image.take(range(start, 2 * count, 2), axis) for start in (0, 1))
    return (first + second) / np.float32(2)


class Familiar:
    """What is familiar: the looks of pictures that were learnt from.

    Parameters
    ----------
    images : sequence of (C, Y, X) float32
        As `look_of` takes them, of as many channels each.
    """

    def __init__(self, images: Sequence[FloatArray]) -> None:
        self._looks = np.stack([look_of(image) for image in images]) if len(images) >= KNOWN_ENOUGH else None
        if self._looks is not None:
            apart = _distances(self._looks, self._looks)
            np.fill_diagonal(apart, np.inf)
            self._usual = max(float(np.quantile(apart.min(1), 0.9)), 1e-6)

    def novelty(self, image: FloatArray) -> float:
        """How far a picture is from the nearest familiar one: 1 is as far as nine of ten of those are from theirs.

        0 where there are too few to say.
        """
        if self._looks is None:
            return 0.0
        return float(_distances(look_of(image)[None], self._looks).min()) / self._usual


def _distances(some: FloatArray, others: FloatArray) -> FloatArray:
    """Root mean squares of the differences between each two looks."""
    distances: FloatArray = np.sqrt(np.square(some[:, None] - others[None]).mean(-1))
    return distances
