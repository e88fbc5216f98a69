"""Whole pictures to labels, while nobody watches: tiles one after the other, joined where objects lie on a seam."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.arrays import channels_of
from napari_unet.core.errors import DeviceError, check_type
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import lay_over, settings_for
from napari_unet.core.tiles import Tile
from napari_unet.engine.device import backend_of, usable_cores
from napari_unet.engine.measure import as_seen_by
from napari_unet.engine.network import Outputs
from napari_unet.engine.pipeline import in_order
from napari_unet.engine.predict import Plane, labels_of, mirrors_for, outputs_of, plane_of, read_tile
from napari_unet.nets.model import A_MODEL, Model

SMALLEST_CORE = 64
NO_MEMORY = "Not enough memory on the device for this picture. Use --device cpu."
STRIP = 512
"""Rows of labels that are numbered at once."""


class Writable(Protocol):
    """What labels are read from and written to by slices: an array in memory, or one on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture."""
        ...

    def __getitem__(self, part: Any, /) -> Any:
        """A part, as an array."""
        ...

    def __setitem__(self, part: Any, value: Any, /) -> None:
        """Write a part."""
        ...


class Assembly:
    """Labels of tiles to those of a whole picture, of which never more than a part is held.

    Attributes
    ----------
    labels : (*shape) whole numbers
        An array, or anything on disk that is read and written by slices.
    """

    def __init__(self, labels: Writable) -> None:
        self.labels = labels
        self._next_id = 1
        self._joins: dict[int, int] = {}

    def add(self, prediction: Prediction) -> None:
        """Lay the objects of one tile over the picture; classes need no joining."""
        window, core = prediction.window, prediction.core
        if prediction.kind == "classes":
            self.labels[core.slices] = prediction.labels[core.within(window).slices]
            return
        inside = np.zeros(window.shape, bool)
        inside[core.within(window).slices] = True
        there = np.asarray(self.labels[window.slices]).astype(np.int32, copy=False)
        laid = lay_over(there, prediction.labels, inside, self._next_id)
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
        parts = list(_strips(self.labels.shape))
        for part in parts:
            present[final[self.labels[part]]] = True
        present[0] = False
        numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)[final]
        for part in parts:
            self.labels[part] = numbers[self.labels[part]]


def _strips(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Parts of an array that are as high as a chunk of labels, one after the other."""
    for lead in np.ndindex(*shape[:-2]):
        for top in range(0, shape[-2], STRIP):
            yield (*(slice(i, i + 1) for i in lead), slice(top, min(top + STRIP, shape[-2])), slice(0, shape[-1]))


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
    image : (Y, X) or (Y, X, C), or (Z, Y, X) with a 3-D model
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
    check_type(model, Model, A_MODEL)
    source = ImageSource.of_array(image, **channels_of(image, model.net.ndim))
    if channels is not None:
        source = source.select(channels)
    source, scale = as_seen_by(model, source, diameter)
    return segment_source(model, source, scale=scale)


def segment_source(
    model: Model,
    source: ImageSource,
    *,
    scale: float | None = None,
    labels: npt.NDArray[np.int32] | None = None,
    doubt: npt.NDArray[np.floating] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> npt.NDArray[np.int32]:
    """Labels of a lazily read picture, plane by plane; memory beside `labels` stays bounded.

    Parameters
    ----------
    model, source
        As for `segment`.
    scale : float, optional
        How much it is resized; None: it is measured, and seen inverted where that is better.
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
    if scale is None:
        source, scale = as_seen_by(model, source)
    labels = np.zeros(source.shape, np.int32) if labels is None else labels
    assembly, start = Assembly(labels), time.monotonic()
    lead = source.shape[: max(len(source.shape) - model.net.ndim, 0)]
    for number, index in enumerate(np.ndindex(*lead)):
        for event in _in_memory(model, source, Box(index, tuple(i + 1 for i in index)), scale):
            assembly.add(event)
            if doubt is not None:
                doubt[event.core.slices] = event.doubt[event.core.within(event.window).slices]
            if report is not None:
                report(_progress(event, number, math.prod(lead), start))
    if model.card.kind == "objects":
        assembly.finish()
    return labels


def predicted_tiles(model: Model, plane: Plane, tiles: Sequence[Tile]) -> Iterator[Prediction]:
    """Predict some tiles of a plane, in their order; they are read, run and built beside each other."""
    settings, kind, version = settings_for(model.card), model.card.kind, model.version
    plane.source.limits()  # once, before two threads ask for them
    count, mirrors = itertools.count(1), mirrors_for(model, plane)

    def built(tile: Tile, outputs: Outputs) -> Prediction:
        labels, doubt = labels_of(outputs, kind, settings, plane.scale)
        window = tile.around
        return Prediction(
            picture="",
            window=window,
            core=tile.core,
            labels=labels.reshape(window.shape),
            kind=kind,
            doubt=doubt.reshape(window.shape),
            version=version,
            done=next(count),
            total=len(tiles),
        )

    return in_order(
        tiles,
        lambda tile: read_tile(model, plane, tile),
        lambda tile, x: outputs_of(model, plane, tile, x, mirrors),
        built,
        hands=hands_for(model.device),
    )


def hands_for(device: torch.device) -> int:
    """Tiles whose objects are built at a time: on a processor the network needs the cores, beside a GPU they wait."""
    return 1 if device.type == "cpu" else max(1, usable_cores() // 2)


def _in_memory(model: Model, source: ImageSource, box: Box, scale: float) -> Iterator[Prediction]:
    """Predict a plane, with smaller tiles each time that the device runs out of memory."""
    core = backend_of(model).large_core
    while True:
        plane = plane_of(model, source, box, scale=scale, core=core)
        try:
            yield from predicted_tiles(model, plane, plane.grid.tiles())
            return
        except torch.OutOfMemoryError as error:
            if core <= SMALLEST_CORE:
                raise DeviceError(NO_MEMORY) from error
            core //= 2  # once more from the plane's first tile: objects keep their ids


def _progress(prediction: Prediction, plane: int, planes: int, start: float) -> Progress:
    """How far the whole picture is after a tile of one of its planes."""
    done, total = plane * prediction.total + prediction.done, planes * prediction.total
    left = (time.monotonic() - start) / done * (total - done)
    return Progress("predict", "Predicting", done, total, left)
