"""Prediction: pictures of any size to labels, tile by tile."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ImageError
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.intensity import FloatArray, fit_channels, normalize
from napari_unet.core.tiles import Grid, Index, Tile, cover
from napari_unet.engine.network import Axes, Outputs, run_network
from napari_unet.nets.model import Model

MIRROR = 32


@dataclass
class Plane:
    """A plane (or volume) of a picture being predicted, and the network's outputs for it so far.

    Keeping a plane between requests lets thresholds act at once, and keeps tiles that are still
    fresh from being computed again.

    Attributes
    ----------
    source : ImageSource
    box : Box
        What is predicted: the last axes whole, leading ones of length 1.
    grid : Grid
    scale : float
        Size of the network's pixels: the picture is resized by this before the network.
    outputs : dict of tile index to (K, *around) float16
        Foreground probability and distance, or the probabilities of the classes.
    version : int
        Version of the weights that made the outputs.
    """

    source: ImageSource
    box: Box
    grid: Grid
    scale: float = 1.0
    outputs: dict[Index, Outputs] = field(default_factory=dict)
    version: int = -1


def plane_of(
    model: Model, source: ImageSource, box: Box | None = None, *, scale: float = 1.0, core: int = 448
) -> Plane:
    """Cut a plane of a picture into tiles that suit a model.

    Parameters
    ----------
    model : Model
    source : ImageSource
    box : Box, optional
        Any part of the plane; by default the first plane (or the volume, for a 3-D model).
    scale : float
        The picture is resized by this before the network sees it.
    core : int
        Longest side of what a tile writes, in pixels of the picture and of the network; in a volume, less: as
        many voxels.

    Raises
    ------
    ImageError
        If a 3-D model meets a picture without depth.
    """
    ndim, lead = model.net.ndim, len(source.shape) - model.net.ndim
    if lead < 0:
        raise ImageError("This model is 3-D and the picture has no depth. Choose a 2-D model.")
    start = box.start[:lead] if box else (0,) * lead
    whole = Box(start + (0,) * ndim, tuple(a + 1 for a in start) + source.shape[lead:])
    step = 2**model.net.depth

    def in_picture(pixels: int) -> int:
        steps = math.ceil(pixels / scale / step)
        return int(step * max(1, steps))

    halo, mirror, side = in_picture(model.net.reach), in_picture(MIRROR), round(core ** (2 / ndim) / max(scale, 1))
    return Plane(source, whole, cover(whole, core=side, halo=halo, mirror=mirror, step=step, ndim=ndim), scale)


def predict(
    model: Model,
    plane: Plane,
    *,
    settings: InstanceSettings | None = None,
    look: Callable[[], Box] | None = None,
    picture: str = "",
    request: int = 0,
    keep_outputs: bool = True,
) -> Iterator[Progress | Prediction]:
    """Predict a plane of a picture; each `next()` runs the network, or builds objects, for one tile.

    Parameters
    ----------
    model : Model
    plane : Plane
        Outputs that are there already, of these weights, are not computed again.
    settings : InstanceSettings, optional
    look : callable, optional
        Gives the box in view now: tiles in it come first. Without it: row by row.
    picture, request : str, int
        Passed on in the events.
    keep_outputs : bool
        Keep the network's outputs in `plane`, for thresholds to act on; else they are dropped as
        soon as they are used, and memory does not grow with the picture.

    Yields
    ------
    Progress
        After the network has run for a tile.
    Prediction
        When a tile's objects are built.
    """
    settings = settings or InstanceSettings()
    queue = _Queue(plane.grid, look)
    total, start, run = len(queue), time.monotonic(), 0
    while queue:
        tile = queue.pop()
        if plane.version != model.version:  # new weights may take over between any two tiles
            plane.outputs.clear()
            plane.version = model.version
        if tile.index not in plane.outputs:
            plane.outputs[tile.index] = outputs_of(model, plane, tile, read_tile(model, plane, tile))
            run += 1
            left = (time.monotonic() - start) / run * len(queue)
            yield Progress("predict", "Predicting", total - len(queue), total, left)
        outputs = plane.outputs[tile.index] if keep_outputs else plane.outputs.pop(tile.index)
        labels, doubt = labels_of(outputs, model.card.kind, settings, plane.scale)
        yield Prediction(
            picture=picture,
            window=tile.around,
            core=tile.core,
            labels=labels.reshape(tile.around.shape),
            kind=model.card.kind,
            doubt=doubt.reshape(tile.around.shape),
            request=request,
            version=plane.version,
            done=total - len(queue),
            total=total,
        )


class _Queue:
    """Tiles that wait; the nearest to what is in view now comes first, or row by row."""

    def __init__(self, grid: Grid, look: Callable[[], Box] | None) -> None:
        self.grid, self.look = grid, look
        self._view = look() if look else None
        self._heap = [(self._rank(tile.index), tile.index) for tile in grid.tiles()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._heap)

    def pop(self) -> Tile:
        """The next tile; a view that moved since the last call is taken into account."""
        view = self.look() if self.look else None
        if view != self._view:
            self._view = view
            self._heap = [(self._rank(index), index) for _, index in self._heap]
            heapq.heapify(self._heap)
        return self.grid.tile(heapq.heappop(self._heap)[1])

    def _rank(self, index: Index) -> tuple[bool, float]:
        """Smaller is sooner."""
        return self.grid.rank(index, self._view) if self._view is not None else (False, 0.0)


def read_tile(model: Model, plane: Plane, tile: Tile) -> FloatArray:
    """What the network reads for a tile, (C, *window) float32 normalised."""
    raw = plane.source.read_mirrored(tile.window)
    x = fit_channels(normalize(raw, plane.source.limits()), model.card.in_channels)
    return x.reshape(len(x), *tile.window.shape[-model.net.ndim :])


def outputs_of(model: Model, plane: Plane, tile: Tile, x: FloatArray, mirrors: Sequence[Axes] = ((),)) -> Outputs:
    """The network's outputs in and around the core of a tile, (K, *around)."""
    outputs = run_network(model, x, plane.scale, mirrors=mirrors)
    # a copy: the rest of the window need not be kept
    return outputs[(slice(None), *tile.around.within(tile.window).slices[-model.net.ndim :])].copy()


def labels_of(
    outputs: Outputs, kind: str, settings: InstanceSettings, scale: float
) -> tuple[npt.NDArray[np.int32], Outputs]:
    """Labels and doubt from outputs, (K, *around) to twice (*around)."""
    values = outputs.astype(np.float32)
    if kind == "objects":
        doubt = 1 - np.abs(2 * values[0] - 1)
        return build_objects(values[0], values[1], settings, scale), doubt.astype(np.float16)
    best = np.partition(values, -2, axis=0)[-2:]
    return values.argmax(0).astype(np.int32), (1 - (best[1] - best[0])).astype(np.float16)
