"""Prediction: pictures of any size to labels, tile by tile."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.errors import DeviceError, ImageError
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects, lay_over
from napari_unet.core.intensity import fit_channels, normalize
from napari_unet.core.sizes import scale_for, usual_scale
from napari_unet.core.tiles import Grid, Index, Tile, cover
from napari_unet.engine.device import backend_for
from napari_unet.engine.measure import measured_by
from napari_unet.engine.network import Outputs, run_network
from napari_unet.nets.model import Model

MIRROR = 32
SMALLEST_CORE = 64


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
            plane.outputs[tile.index] = _outputs(model, plane, tile)
            run += 1
            left = (time.monotonic() - start) / run * len(queue)
            yield Progress("predict", "Predicting", total - len(queue), total, left)
        outputs = plane.outputs[tile.index] if keep_outputs else plane.outputs.pop(tile.index)
        labels, doubt = _build(outputs, model.card.kind, settings, plane.scale)
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


def _outputs(model: Model, plane: Plane, tile: Tile) -> Outputs:
    """The network's outputs in and around the core of a tile, (K, *around)."""
    ndim = model.net.ndim
    raw = plane.source.read_mirrored(tile.window)
    x = fit_channels(normalize(raw, plane.source.limits()), model.card.in_channels)
    outputs = run_network(model, x.reshape(len(x), *tile.window.shape[-ndim:]), plane.scale)
    # a copy: the rest of the window need not be kept
    return outputs[(slice(None), *tile.around.within(tile.window).slices[-ndim:])].copy()


def _build(
    outputs: Outputs, kind: str, settings: InstanceSettings, scale: float
) -> tuple[npt.NDArray[np.int32], Outputs]:
    """Labels and doubt from outputs, (K, *around) to twice (*around)."""
    values = outputs.astype(np.float32)
    if kind == "objects":
        doubt = 1 - np.abs(2 * values[0] - 1)
        return build_objects(values[0], values[1], settings, scale), doubt.astype(np.float16)
    best = np.partition(values, -2, axis=0)[-2:]
    return values.argmax(0).astype(np.int32), (1 - (best[1] - best[0])).astype(np.float16)


class Assembly:
    """Predictions of tiles to the labels of a whole picture.

    Attributes
    ----------
    labels : (*shape) int32
    """

    def __init__(self, labels: npt.NDArray[np.int32]) -> None:
        self.labels = labels
        self._next_id = 1
        self._joins: dict[int, int] = {}

    def add(self, prediction: Prediction) -> None:
        """Lay the objects of one tile over the picture."""
        window, core = prediction.window, prediction.core
        if prediction.kind == "classes":
            self.labels[core.slices] = prediction.labels[core.within(window).slices]
            return
        inside = np.zeros(window.shape, bool)
        inside[core.within(window).slices] = True
        laid = lay_over(self.labels[window.slices], prediction.labels, inside, self._next_id)
        self.labels[window.slices] = laid.labels
        self._next_id = laid.next_id
        for old, keep in laid.joins.items():
            old, keep = self._final(old), self._final(keep)
            if old != keep:
                self._joins[old] = keep

    def _final(self, number: int) -> int:
        """The id that an object ends up with."""
        while number in self._joins:
            number = self._joins[number]
        return number

    def finish(self) -> None:
        """Join what belongs together and number the objects 1..N, in place."""
        final = np.array([self._final(number) for number in range(self._next_id)])
        present = np.zeros(self._next_id, bool)
        for plane in self.labels:  # one after the other: a picture may fill half of the memory
            present[final[plane]] = True
        present[0] = False
        numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)[final]
        for plane in self.labels:
            plane[...] = numbers[plane]


def segment(
    model: Model,
    image: npt.NDArray[np.generic],
    *,
    channels: Sequence[int] | None = None,
    diameter: float | None = None,
) -> npt.NDArray[np.int32]:
    """Labels of a picture.

    Parameters
    ----------
    model : Model
    image : (Y, X) or (Y, X, 3 or 4), or (Z, Y, X) with a 3-D model
        A stack is taken plane by plane by a 2-D model.
    channels : sequence of int, optional
        Which channels the model reads; by default all of them.
    diameter : float, optional
        Diameter of the objects, in pixels: the picture is resized to what the model was trained on. None: measured.

    Returns
    -------
    (Y, X) or (Z, Y, X) int32
        Objects 1..N, or class ids for a model of classes; background 0.

    Raises
    ------
    ImageError
        If the picture cannot be used as it is.
    """
    source = ImageSource.of_array(image)
    if channels is not None:
        source = source.select(tuple(channels))
    return segment_source(model, source, diameter=diameter)


def segment_source(
    model: Model,
    source: ImageSource,
    *,
    diameter: float | None = None,
    labels: npt.NDArray[np.int32] | None = None,
    doubt: npt.NDArray[np.floating] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> npt.NDArray[np.int32]:
    """Labels of a lazily read picture, plane by plane; memory beside `labels` stays bounded.

    Parameters
    ----------
    model, source, diameter
        As for `segment`.
    labels : (*shape) int32, optional
        Where to write them; zeros.
    doubt : (*shape) float, optional
        Where to write how much in doubt the model is, 0..1.
    report : callable, optional
        Called with the progress.

    Raises
    ------
    DeviceError
        If not even small tiles fit into the device's memory.
    """
    labels = np.zeros(source.shape, np.int32) if labels is None else labels
    assembly, start, scale = Assembly(labels), time.monotonic(), _scale_of(model, source, diameter)
    lead = source.shape[: max(len(source.shape) - model.net.ndim, 0)]
    for number, index in enumerate(np.ndindex(*lead)):
        for event in _in_memory(model, source, Box(index, tuple(i + 1 for i in index)), scale):
            if isinstance(event, Prediction):
                assembly.add(event)
                if doubt is not None:
                    doubt[event.core.slices] = event.doubt[event.core.within(event.window).slices]
            elif report is not None:
                report(_of_all(event, number, math.prod(lead), start))
    if model.card.kind == "objects":
        assembly.finish()
    return labels


def _scale_of(model: Model, source: ImageSource, diameter: float | None) -> float:
    """How much a picture is resized for a model: to objects of the diameter given, or of the one that is measured."""
    if diameter is not None:
        return scale_for(diameter, model.card.diameter)
    return usual_scale(measured_by(model, source), model.card.diameter)


def _in_memory(model: Model, source: ImageSource, box: Box, scale: float) -> Iterator[Progress | Prediction]:
    """Predict a plane, with smaller tiles each time that the device runs out of memory."""
    core = backend_for(model.device).large_core
    while True:
        plane = plane_of(model, source, box, scale=scale, core=core)
        try:
            yield from predict(model, plane, keep_outputs=False)
            return
        except torch.OutOfMemoryError as error:
            if core <= SMALLEST_CORE:
                raise DeviceError("Not enough memory on the device for this picture. Use --device cpu.") from error
            core //= 2  # once more from the plane's first tile: objects keep their ids


def _of_all(event: Progress, plane: int, planes: int, start: float) -> Progress:
    """Progress in one plane to progress in all of them."""
    done, total = plane * event.total + event.done, planes * event.total
    return replace(event, done=done, total=total, seconds_left=(time.monotonic() - start) / done * (total - done))
