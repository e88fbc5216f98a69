"""Prediction: pictures of any size to labels, tile by tile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ImageError
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.holes import fill_holes
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects, settings_for
from napari_unet.core.intensity import FloatArray, fit_channels, normalize_with_holes
from napari_unet.core.tiles import Grid, Index, Tile, cover
from napari_unet.engine.forward import UnwantedError, while_wanted
from napari_unet.engine.network import Axes, Outputs, run_network
from napari_unet.nets.model import Model

MIRROR = 32
MIRRORS: tuple[Axes, ...] = ((), (-1,), (-2,), (-2, -1))
SMALL = 2**19
"""Pixels of the network up to which the objects of a picture are looked at four times, mirrored: fewer are missed and
joined (docs/models.md), and it still takes no longer than a picture of 2048 x 2048 looked at once."""


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
    closer : set of tile index
        Of which tiles the outputs are those of all mirrored looks.
    """

    source: ImageSource
    box: Box
    grid: Grid
    scale: float = 1.0
    outputs: dict[Index, Outputs] = field(default_factory=dict)
    version: int = -1
    closer: set[Index] = field(default_factory=set)


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
        If a 3-D model meets a picture without depth, or one whose planes are moments.
    """
    ndim, lead = model.net.ndim, len(source.shape) - model.net.ndim
    if lead < 0:
        raise ImageError("This model is 3-D and the picture has no depth. Choose a 2-D model.")
    if "T" in source.letters[lead:]:
        raise ImageError("This model is 3-D and the picture is a time series of planes. Choose a 2-D model.")
    start = box.start[:lead] if box else (0,) * lead
    whole = Box(start + (0,) * ndim, tuple(a + 1 for a in start) + source.shape[lead:])
    step = 2**model.net.depth

    def in_picture(pixels: int) -> int:
        # however small it is shown: around a picture there is no more to see than the picture itself, mirrored
        steps = math.ceil(min(pixels / scale, max(pixels, *whole.shape)) / step)
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
    queue = _Queue(plane.grid, look)
    total, start, run = len(queue), time.monotonic(), 0
    while queue:
        tile = queue.pop()
        if plane.version != model.version:  # new weights may take over between any two tiles
            plane.outputs.clear()
            plane.closer.clear()
            plane.version = model.version
        if tile.index not in plane.outputs:
            x = read_tile(model, plane, tile)
            try:
                with while_wanted(partial(queue.wants, tile)):
                    plane.outputs[tile.index] = outputs_of(model, plane, tile, x)
                run += 1
            except UnwantedError:  # the user has moved on to where there is more to do
                queue.push(tile)
            left = (time.monotonic() - start) / max(1, run) * len(queue)
            yield Progress("predict", "Predicting", total - len(queue), total, left)
            if tile.index not in plane.outputs:
                continue
        outputs = plane.outputs[tile.index] if keep_outputs else plane.outputs.pop(tile.index)
        built = _built(model, plane, tile, outputs, settings)
        yield replace(built, picture=picture, request=request, done=total - len(queue), total=total)


def look_closer(
    model: Model,
    plane: Plane,
    *,
    is_wanted: Callable[[], bool],
    settings: InstanceSettings | None = None,
    picture: str = "",
    request: int = 0,
) -> Iterator[Prediction | None]:
    """Look at the tiles of a small plane that was predicted from all sides, as `segment` does.

    Ends when other weights have taken over.

    Parameters
    ----------
    model, plane, settings, picture, request
        As for `predict`.
    is_wanted : callable
        Whether nothing else is to be done: else the work on a tile is broken off, and done again later.

    Yields
    ------
    Prediction
        When a tile is done.
    None
        When the work on one was broken off.
    """
    mirrors = mirrors_for(model, plane)
    tiles = [tile for tile in plane.grid.tiles() if tile.index in plane.outputs.keys() - plane.closer]
    while tiles and len(mirrors) > 1 and plane.version == model.version:
        tile = tiles[0]
        try:
            with while_wanted(is_wanted):
                outputs = outputs_of(model, plane, tile, read_tile(model, plane, tile), mirrors)
        except UnwantedError:
            yield None
            continue
        plane.outputs[tile.index] = outputs
        plane.closer.add(tile.index)
        del tiles[0]
        yield replace(_built(model, plane, tile, outputs, settings), picture=picture, request=request)


def mirrors_for(model: Model, plane: Plane) -> Sequence[Axes]:
    """How a plane is looked at while nobody waits: once if it is large."""
    is_small = math.prod(plane.box.shape) * plane.scale**2 <= SMALL
    return MIRRORS if is_small and model.card.kind == "objects" and model.net.ndim == 2 else MIRRORS[:1]


def _built(model: Model, plane: Plane, tile: Tile, outputs: Outputs, settings: InstanceSettings | None) -> Prediction:
    """The objects of a tile."""
    labels, doubt = labels_of(outputs, model.card.kind, settings_for(model.card, settings), plane.scale)
    return Prediction(
        picture="",
        window=tile.around,
        core=tile.core,
        labels=labels.reshape(tile.around.shape),
        kind=model.card.kind,
        doubt=doubt.reshape(tile.around.shape),
        version=plane.version,
    )


class _Queue:
    """Tiles that wait; the nearest to what is in view now comes first, or row by row."""

    def __init__(self, grid: Grid, look: Callable[[], Box] | None) -> None:
        self.grid, self.look = grid, look
        self._waits = np.ones(grid.counts, bool)
        self._view: Box | None = None
        self._away, self._is_met = np.zeros(grid.counts), np.ones(grid.counts, bool)

    def __len__(self) -> int:
        """How many wait."""
        return int(np.count_nonzero(self._waits))

    def pop(self) -> Tile:
        """The next tile; a view that moved since the last call is taken into account."""
        self._follow()
        near = self._waits & self._is_met
        order = np.where(near if near.any() else self._waits, self._away, np.inf)
        index = tuple(int(i) for i in np.unravel_index(order.argmin(), order.shape))
        self._waits[index] = False
        return self.grid.tile(index)

    def push(self, tile: Tile) -> None:
        """A tile has to wait again."""
        self._waits[tile.index] = True

    def wants(self, tile: Tile) -> bool:
        """Whether a tile that is being computed still comes first: it is in view, or nothing that waits is."""
        self._follow()
        return bool(self._is_met[tile.index]) or not (self._waits & self._is_met).any()

    def _follow(self) -> None:
        """Look where the view is now."""
        view = self.look() if self.look else None
        if view is not None and view != self._view:
            self._view = view
            self._away, self._is_met = self.grid.away(view)


def read_tile(model: Model, plane: Plane, tile: Tile) -> FloatArray:
    """What the network reads for a tile, (C, *window) float32 normalised, with NaN where there is no picture."""
    raw = plane.source.read_mirrored(tile.window)
    x = fit_channels(normalize_with_holes(raw, plane.source.limits()), model.card.in_channels)
    return x.reshape(len(x), *tile.window.shape[-model.net.ndim :])


def outputs_of(model: Model, plane: Plane, tile: Tile, x: FloatArray, mirrors: Sequence[Axes] = ((),)) -> Outputs:
    """The network's outputs in and around the core of a tile, (K, *around); nothing is found where x is NaN."""
    x, holes = fill_holes(x)
    outputs = run_network(model, x, plane.scale, mirrors=mirrors)
    if holes is not None:
        outputs[:, holes] = 0
        outputs[0, holes] = model.card.kind == "classes"
    # a copy: the rest of the window need not be kept
    return outputs[(slice(None), *tile.around.within(tile.window).slices[-model.net.ndim :])].copy()


def labels_of(
    outputs: Outputs, kind: str, settings: InstanceSettings, scale: float
) -> tuple[npt.NDArray[np.int32], Outputs]:
    """Labels and doubt from outputs, (K, *around) to twice (*around)."""
    values = outputs.astype(np.float32)
    if kind == "objects":
        half = min(max(settings.foreground, 1e-6), 1 - 1e-6)  # all or nothing is wanted, too
        doubt = np.minimum(values[0] / half, (1 - values[0]) / (1 - half))
        return build_objects(values[0], values[1], settings, scale), doubt.astype(np.float16)
    best = np.partition(values, -2, axis=0)[-2:]
    return values.argmax(0).astype(np.int32), (1 - (best[1] - best[0])).astype(np.float16)
