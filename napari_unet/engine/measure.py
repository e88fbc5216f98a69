"""How large the objects of a picture are, as a model itself sees them."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from skimage.segmentation import clear_border

from napari_unet.core.events import Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.intensity import fit_channels, normalize
from napari_unet.core.sizes import diameters, usual_scale
from napari_unet.engine.network import run_network
from napari_unet.nets.model import Model

SIDE = 512
"""Side of the part that is looked at, in pixels of the network."""
FIRST_SCALES = (1.0, 0.5)
SPECK = 5.0
"""Whatever is smaller is no object, in pixels of the picture."""
BELIEVED = 2.0
"""How much larger or smaller than expected a size may be."""
ENOUGH = 8
"""Objects that tell a size; with fewer, other parts of the picture are looked at, too."""


def measure(
    model: Model, source: ImageSource, view: Box | None = None, *, expected: float | None = None
) -> Generator[Progress, None, float | None]:
    """Find the diameter that most of a picture's foreground has; one `next()` looks at one part of it.

    The picture is looked at as it is (or, where that shows nothing, from farther away), then once more at the
    scale at which objects of the size found are as large as those the model was trained on. Where a size is
    expected, it is looked at as that asks for: a model that has just learnt a kind of object knows it at that scale
    alone, and takes much else for objects, so that a quite other size is not believed.

    Parameters
    ----------
    model : Model
        If it is not one of 2-D objects, nothing is measured.
    source : ImageSource
    view : Box, optional
        The plane, and the place in it, to look at first; by default the middle of the first plane.
    expected : float, optional
        Diameter of the objects that the user set in other pictures.

    Returns
    -------
    float or None
        In pixels of the picture; None if there is nothing to see.
    """
    if model.card.kind != "objects" or model.net.ndim != 2:
        return None
    view = view or Box((0,) * len(source.shape), (*(1 for _ in source.shape[:-2]), *source.shape[-2:]))
    scale, found, known = 1.0, None, model.card.diameter
    if expected is not None:
        found = yield from _diameter_at(model, source, view, usual_scale(expected, known))
        return found if found is not None and 1 / BELIEVED < found / expected < BELIEVED else expected
    for scale in FIRST_SCALES:
        found = yield from _diameter_at(model, source, view, scale)
        if found is not None:
            break
    better = usual_scale(found, known)
    if found is not None and better != scale:
        found = (yield from _diameter_at(model, source, view, better)) or found
    return found


def measured_by(model: Model, source: ImageSource, *, expected: float | None = None) -> float | None:
    """What `measure` finds in the first plane of a picture, at once."""
    looking = measure(model, source, expected=expected)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            found: float | None = end.value
            return found


def _diameter_at(model: Model, source: ImageSource, view: Box, scale: float) -> Generator[Progress, None, float | None]:
    """The diameter as it shows at one scale, from as many parts of the plane as are needed."""
    found: list[float] = []
    for part in _parts(source.shape, view, round(SIDE / scale)):
        found += _diameters_in(model, source, part, scale)
        yield Progress("predict", "Measuring the objects", 0, 1)
        if len(found) >= ENOUGH:
            break
    return _usual(found)


def _parts(shape: tuple[int, ...], view: Box, side: int) -> list[Box]:
    """The middle of the view, then the quarters of the plane around it; those that are different."""
    lead, flat = len(shape) - 2, shape[-2:]
    middles = [view.center[lead:], *((flat[0] * y / 4, flat[1] * x / 4) for y in (1, 3) for x in (1, 3))]
    parts: dict[Box, None] = {}
    for middle in middles:
        start = [max(0, min(int(m - side / 2), n - side)) for m, n in zip(middle, flat, strict=True)]
        stop = [min(a + side, n) for a, n in zip(start, flat, strict=True)]
        parts[Box((*view.start[:lead], *start), (*(a + 1 for a in view.start[:lead]), *stop))] = None
    return list(parts)


def _diameters_in(model: Model, source: ImageSource, part: Box, scale: float) -> list[float]:
    """Diameters of the objects in one part of a picture, in its pixels; those that its edge cuts left out."""
    raw = source.read(part)
    x = fit_channels(normalize(raw, source.limits()), model.card.in_channels)
    outputs = run_network(model, x.reshape(len(x), *part.shape[-2:]), scale, at_network_size=True).astype(np.float32)
    labels = build_objects(outputs[0], outputs[1], InstanceSettings())
    found = diameters(clear_border(labels)) / scale
    return [float(d) for d in found if d > SPECK]


def _usual(found: list[float]) -> float | None:
    """The median diameter of all but fragments: those below a third of the one that most of the foreground has."""
    if not found:
        return None
    ordered = np.sort(found)
    weight = np.cumsum(ordered**2)
    typical = ordered[np.searchsorted(weight, weight[-1] / 2)]
    return float(np.median(ordered[ordered >= typical / 3]))
