"""Prediction: pictures of any size to labels, tile by tile."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.errors import DeviceError, ImageError
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects, lay_over
from napari_unet.core.intensity import FloatArray, fit_channels, normalize
from napari_unet.core.tiles import Grid, Index, Tile, cover
from napari_unet.engine.device import backend_for
from napari_unet.nets.model import Model

MIRROR = 32
SAME_SCALE = 0.05
Outputs = npt.NDArray[np.float16]


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
    model: Model, source: ImageSource, box: Box | None = None, *, diameter: float | None = None, core: int = 448
) -> Plane:
    """Cut a plane of a picture into tiles that suit a model.

    Parameters
    ----------
    model : Model
    source : ImageSource
    box : Box, optional
        Any part of the plane; by default the first plane (or the volume, for a 3-D model).
    diameter : float, optional
        Diameter of the objects in this picture, in pixels: it is resized so that they are as large
        as those that the model was trained on. None leaves it as it is.
    core : int
        Longest side of what a tile writes, in pixels of the network.

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
    scale = model.card.diameter / diameter if diameter else 1.0
    if abs(scale - 1) < SAME_SCALE:
        scale = 1.0
    step = 2**model.net.depth

    def in_picture(pixels: int) -> int:
        steps = math.ceil(pixels / scale / step)
        return int(step * max(1, steps))

    halo, mirror = in_picture(model.net.reach), in_picture(MIRROR)
    return Plane(
        source, whole, cover(whole, core=round(core / scale), halo=halo, mirror=mirror, step=step, ndim=ndim), scale
    )


def run_network(
    model: Model, x: FloatArray, scale: float = 1.0, *, state: Mapping[str, Tensor] | None = None
) -> Outputs:
    """Outputs of the network for one window, at the window's own size.

    Parameters
    ----------
    model : Model
    x : (C, [Z,] Y, X) float32
        Normalised.
    scale : float
        The window is resized by this before the network, and the outputs back.
    state : state dict, optional
        Other weights to try; those of the model stay untouched.

    Returns
    -------
    (K, [Z,] Y, X) float16
        Objects: probability of foreground, distance. Classes: their probabilities.
    """
    backend = backend_for(model.device)
    tensor = torch.from_numpy(np.ascontiguousarray(x))[None].to(backend.device)  # (1, C, Y, X)
    size = tensor.shape[2:]
    if scale != 1:
        tensor = _resize(tensor, tuple(max(1, round(n * scale)) for n in size))
    inner = tensor.shape[2:]
    step = 2**model.net.depth
    pad = [side for n in reversed(inner) for side in (0, -n % step)]
    tensor = F.pad(tensor, pad, mode="replicate") if any(pad) else tensor
    if model.net.ndim == 2:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), backend.autocast():
        # functional_call: other weights are tried without any moment at which the model holds them
        logits = torch.func.functional_call(model.net, dict(state or {}), (tensor,)).float()
    logits = logits[(..., *(slice(0, n) for n in inner))]  # (1, K, Y, X)
    outputs = _probabilities(logits, model.card.kind)
    if scale != 1:
        outputs = _resize(outputs, tuple(size))
    return outputs[0].half().cpu().numpy()


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Linear interpolation, smoothed where it shrinks; (B, C, [Z,] Y, X)."""
    if x.ndim == 5:
        return F.interpolate(x, size, mode="trilinear", align_corners=False)
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def _probabilities(logits: Tensor, kind: str) -> Tensor:
    """What the outputs mean: (B, K, ...) logits to probabilities (and distance)."""
    if kind == "objects":
        return torch.cat([torch.sigmoid(logits[:, :1]), logits[:, 1:]], dim=1)
    if logits.shape[1] == 1:  # one class and its absence
        inside = torch.sigmoid(logits)
        return torch.cat([1 - inside, inside], dim=1)
    return torch.softmax(logits, dim=1)


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
    if plane.version != model.version:
        plane.outputs.clear()
        plane.version = model.version
    queue = _Queue(plane.grid, look)
    total, start, run = len(queue), time.monotonic(), 0
    while queue:
        tile = queue.pop()
        if tile.index not in plane.outputs:
            plane.outputs[tile.index] = _outputs(model, plane, tile)
            run += 1
            left = (time.monotonic() - start) / run * len(queue)
            yield Progress("predict", "Predicting", total - len(queue), total, left)
        outputs = plane.outputs[tile.index] if keep_outputs else plane.outputs.pop(tile.index)
        labels, doubt = _build(outputs, model.card.kind, settings)
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


def _build(outputs: Outputs, kind: str, settings: InstanceSettings) -> tuple[npt.NDArray[np.int32], Outputs]:
    """Labels and doubt from outputs, (K, *around) to twice (*around)."""
    values = outputs.astype(np.float32)
    if kind == "objects":
        doubt = 1 - np.abs(2 * values[0] - 1)
        return build_objects(values[0], values[1], settings), doubt.astype(np.float16)
    best = np.partition(values, -2, axis=0)[-2:]
    return values.argmax(0).astype(np.int32), (1 - (best[1] - best[0])).astype(np.float16)


class Assembly:
    """Predictions of tiles to the labels of a whole picture.

    Attributes
    ----------
    labels : (*shape) int32
        Any array that can be read and written by slices.
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
        self._joins |= laid.joins
        self._next_id = laid.next_id

    def numbers(self) -> npt.NDArray[np.int32]:
        """The final id of each id given so far: joined ones alike."""
        final = np.arange(self._next_id, dtype=np.int32)
        for old in self._joins:
            seen, new = {old}, self._joins[old]
            while new in self._joins and new not in seen:
                seen.add(new)
                new = self._joins[new]
            final[old] = new
        return final

    def finish(self) -> npt.NDArray[np.int32]:
        """Join what belongs together and number the objects 1..N, in place; for whole arrays in memory."""
        joined = self.numbers()[self.labels]
        present, numbered = np.unique(joined, return_inverse=True)
        shift = 0 if present.size and present[0] == 0 else 1
        self.labels[...] = numbered.reshape(joined.shape) + shift
        return self.labels


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
        Diameter of the objects, in pixels; the picture is resized to what the model was trained on.

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
    report: Callable[[Progress], None] | None = None,
) -> npt.NDArray[np.int32]:
    """Labels of a lazily read picture, plane by plane; memory beside `labels` stays bounded.

    Parameters
    ----------
    model, source, diameter
        As for `segment`.
    labels : (*shape) int32, optional
        Where to write them.
    report : callable, optional
        Called with the progress.
    """
    labels = np.zeros(source.shape, np.int32) if labels is None else labels
    lead = max(len(source.shape) - model.net.ndim, 0)
    backend = backend_for(model.device)
    for index in np.ndindex(*source.shape[:lead]):
        box = Box(index, tuple(i + 1 for i in index)) if index else None
        plane = plane_of(model, source, box, diameter=diameter, core=backend.large_core)
        assembly = Assembly(labels[tuple(slice(i, i + 1) for i in index)] if index else labels)
        _assemble(model, plane, assembly, index, report)
        if model.card.kind == "objects":
            assembly.finish()
    return labels


def _assemble(
    model: Model, plane: Plane, assembly: Assembly, index: tuple[int, ...], report: Callable[[Progress], None] | None
) -> None:
    """Predict one plane into an assembly that starts at this plane."""
    try:
        for event in predict(model, plane, keep_outputs=False):
            if isinstance(event, Prediction):
                assembly.add(_moved(event, index))
            elif report is not None:
                report(event)
    except torch.OutOfMemoryError as error:
        raise DeviceError("Not enough memory on the device for this picture. Use --device cpu.") from error


def _moved(event: Prediction, index: tuple[int, ...]) -> Prediction:
    """The same prediction counted from its plane."""
    if not index:
        return event
    back = tuple(-i for i in index) + (0,) * (len(event.window.start) - len(index))
    return Prediction(
        event.picture, event.window.shift(back), event.core.shift(back), event.labels, event.kind, event.doubt
    )
