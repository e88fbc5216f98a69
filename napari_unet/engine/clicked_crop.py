"""A piece of a picture with its objects, and how a user clicked on some of them; what the click head learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.prompts import Point, Prompts, array_of
from napari_unet.engine.augment import Example, sample
from napari_unet.engine.sampling import shapes_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClickedCrop:
    """Picture and objects of a correction, or of a crop of it.

    Attributes
    ----------
    example : Example
        Its target is the numbers of the objects.
    prompts : tuple of Prompts
        How some of the objects were clicked on, in pixels of the example.
    """

    example: Example
    prompts: tuple[Prompts, ...] = ()

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The numbers of the objects, (Y, X)."""
        return self.example.values[-2].numpy().astype(np.int32)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Where they are known, (Y, X)."""
        known: npt.NDArray[np.bool_] = self.example.weight[0].numpy() > 0
        return known

    def clicks_on(self, number: int) -> Prompts | None:
        """How an object was clicked on: the newest prompts whose first click is on it."""
        labels = self.labels
        for prompts in reversed(self.prompts):
            y, x = (round(c) for c in prompts.positive[0])
            if 0 <= y < len(labels) and 0 <= x < labels.shape[1] and labels[y, x] == number:
                return prompts
        return None

    def through(self, grid: Tensor) -> ClickedCrop:
        """The crop whose pixels are read at `grid`, one of those that `augment.warp_grids` gives."""
        crop = Example(sample([self.example], grid[None])[0][0], self.example.channels)
        return ClickedCrop(crop, _with_a_click(_through(grid, each) for each in self.prompts))


def clicked_crop(correction: Correction, card: ModelCard) -> ClickedCrop:
    """A whole correction as a network with this card sees it: at its scale."""
    example = shapes_of(correction, card)
    ratio = np.divide(example.image.shape[-2:], np.shape(correction.labels)[-2:])
    return ClickedCrop(example, _with_a_click(_resized(each, ratio) for each in correction.prompts))


def _resized(prompts: Prompts, ratio: npt.NDArray[np.float64]) -> Prompts:
    """Clicks in a picture that was resized by `ratio` (y, x)."""
    positive, negative = (
        tuple((float(y), float(x)) for y, x in (array_of(points) + 0.5) * ratio - 0.5)
        for points in (prompts.positive, prompts.negative)
    )
    return Prompts(positive, negative)


def _through(grid: Tensor, prompts: Prompts) -> Prompts:
    """Clicks as a crop shows them that reads its pixels at `grid`; those outside of it are gone."""
    places = grid.numpy()[..., ::-1]
    apart = float(np.hypot(*(places[1, 0] - places[0, 0])))

    def seen(points: Sequence[Point]) -> Iterator[Point]:
        for point in points:
            distance = np.hypot(*np.moveaxis(places - np.array(point), -1, 0))
            y, x = np.unravel_index(distance.argmin(), distance.shape)
            if distance[y, x] <= apart:
                yield float(y), float(x)

    return Prompts(tuple(seen(prompts.positive)), tuple(seen(prompts.negative)))


def _with_a_click(prompts: Iterable[Prompts]) -> tuple[Prompts, ...]:
    """Those that have a click on their object."""
    return tuple(each for each in prompts if each.positive)
