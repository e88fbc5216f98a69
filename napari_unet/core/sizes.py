"""How large the objects of a picture are, and the scale at which a network knows them."""

from __future__ import annotations

import numpy as np

from napari_unet.core.corrections import Labels
from napari_unet.core.metrics import areas

SMALLEST_SCALE, LARGEST_SCALE = 0.3, 1.7
"""How far a picture is resized unasked: beyond it details are lost, or the work grows with nothing gained."""


def median_diameter(*labels: Labels, min_area: int = 4) -> float | None:
    """Median equivalent diameter of the objects in some planes, in pixels; None if there are none.

    Diameter of the disc with the object's area, 2 sqrt(area / pi).
    """
    counts = [areas(plane)[1] for plane in labels]
    sizes = np.concatenate(counts) if counts else np.zeros(0)
    sizes = sizes[sizes >= min_area]
    return float(np.median(2 * np.sqrt(sizes / np.pi))) if sizes.size else None


def usual_scale(diameter: float | None, known: float) -> float:
    """The scale at which a picture is shown to a network that knows objects of another size.

    Parameters
    ----------
    diameter : float or None
        Median diameter of the picture's objects, in pixels; None if it has none.
    known : float
        The diameter on the network's card.
    """
    return float(np.clip(known / diameter, SMALLEST_SCALE, LARGEST_SCALE)) if diameter else 1.0
