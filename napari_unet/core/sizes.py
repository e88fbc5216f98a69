"""How large the objects of a picture are, and the scale at which a network knows them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Labels
from napari_unet.core.errors import ImageError
from napari_unet.core.metrics import areas

SAME_SCALE = 0.05
LIKE = 1.25
"""Objects that are larger or smaller by less than this are shown as they are: a network takes them all the same."""
SMALLEST_SCALE, LARGEST_SCALE = 0.3, 1.7
"""How far a picture is resized unasked: beyond it details are lost, or the work grows with nothing gained."""


def diameters(labels: Labels, min_area: int = 4) -> npt.NDArray[np.float64]:
    """Diameter of the disc with the area of each object, 2 sqrt(area / pi), in pixels; specks left out."""
    _, counts = areas(labels)
    return np.asarray(2 * np.sqrt(counts[counts >= min_area] / np.pi))


def median_diameter(*labels: Labels) -> float | None:
    """Median diameter of the objects in some planes, in pixels; None if there are none."""
    found = np.concatenate([diameters(plane) for plane in labels]) if labels else np.zeros(0)
    return float(np.median(found)) if found.size else None


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
