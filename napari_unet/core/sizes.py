"""How large the objects of a picture are, and the scale at which a network knows them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy
import skimage

from napari_unet.core.corrections import Labels
from napari_unet.core.errors import ImageError
from napari_unet.core.metrics import areas

SAME_SCALE = 0.05
LIKE = 1.25
"""Objects that are larger or smaller by less than this are shown as they are: a network takes them all the same."""
SMALLEST_SCALE, LARGEST_SCALE = 0.2, 1.7
"""How far a picture is resized unasked: beyond it details are lost, or the work grows with nothing gained."""

FEWEST, FILLED = 8, 0.6
"""Parts that tell whether they are objects, and the share of the wholes that they fill at least."""
CLEAR, MARGIN = 5, 0.12
"""Pixels of rim and of inside that a part needs, and how far it stays away from the rims of the wholes (diameters)."""


def diameters(labels: Labels, min_area: int = 4) -> npt.NDArray[np.float64]:
    """Diameter of the disc with the area of each object, 2 sqrt(area / pi), in pixels; specks left out."""
    _, counts = areas(labels)
    return np.asarray(2 * np.sqrt(counts[counts >= min_area] / np.pi))


def median_diameter(*labels: Labels) -> float | None:
    """Median diameter of the objects in some planes, in pixels; None if there are none."""
    found = np.concatenate([diameters(plane) for plane in labels]) if labels else np.zeros(0)
    return float(np.median(found)) if found.size else None


def contrast_of_parts(image: npt.NDArray[np.floating], parts: Labels, wholes: Labels) -> float:
    """How consistently the rims between parts of objects are darker, or brighter, than their insides.

    Cells of a colony are parted by rims that are all alike; a nucleus that was cut into pieces is as bright between
    them as in them, or now darker and now brighter.

    Parameters
    ----------
    image : (Y, X) float
    parts, wholes : (Y, X) int
        Objects in the same place, as they were found from near and from afar.

    Returns
    -------
    float
        Mean of the differences between inside and rim, in their standard deviations, 0 and more; 0 if the parts
        are fewer than `FEWEST`, or fill less than `FILLED` of the wholes.
    """
    rims = skimage.segmentation.find_boundaries(parts, mode="thick")
    margin = max(1, round(MARGIN * (median_diameter(parts) or 0)))
    edges = skimage.segmentation.find_boundaries(wholes, mode="thick")
    within = (wholes > 0) & ~scipy.ndimage.binary_dilation(edges, iterations=margin)
    if not within.any() or np.count_nonzero(parts[within]) < FILLED * np.count_nonzero(within):
        return 0.0
    inside = within & ~scipy.ndimage.binary_dilation(rims)
    levels, is_clear = [], np.ones(int(parts.max()) + 1, bool)
    for place in (within & rims, inside):
        count = np.bincount(parts[place], minlength=is_clear.size)
        levels.append(np.bincount(parts[place], image[place], is_clear.size) / np.maximum(count, 1))
        is_clear &= count >= CLEAR
    is_clear[0] = False
    differences = (levels[1] - levels[0])[is_clear]
    if differences.size < FEWEST:
        return 0.0
    return float(abs(differences.mean()) / max(float(differences.std()), 1e-6))


def scale_for(diameter: float, known: float) -> float:
    """The scale at which objects of a diameter that somebody gave are as large as those that a network knows.

    Parameters
    ----------
    diameter : float
        Of the objects in the picture, in pixels.
    known : float
        The diameter on the network's card.

    Raises
    ------
    ImageError
        If it is no diameter.
    """
    if not isinstance(diameter, int | float | np.number) or not 1 <= diameter < math.inf:
        raise ImageError(f"Objects cannot be {diameter} pixels wide. Give a diameter of 1 or more, or none.")
    scale = known / diameter
    return 1.0 if abs(scale - 1) < SAME_SCALE else scale


def usual_scale(diameter: float | None, known: float) -> float:
    """The scale for objects whose diameter was measured: 1 if nothing was, or they have about the known size."""
    scale = known / diameter if diameter else 1.0
    return 1.0 if 1 / LIKE < scale < LIKE else min(max(scale, SMALLEST_SCALE), LARGEST_SCALE)
