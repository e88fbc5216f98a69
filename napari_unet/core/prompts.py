"""Prompts: what the user clicked, boxed or scribbled to show one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box

Point = tuple[float, float]
SCRIBBLE = 24
"""Points of a scribble that are looked at, about."""


@dataclass(frozen=True)
class Prompts:
    """What was said of one object.

    Attributes
    ----------
    positive, negative : tuple of (y, x)
        Points on the object and beside it, in pixels of the picture; a scribble is many points.
    box : Box or None
        The object lies in it.
    """

    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    box: Box | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing says where the object is."""
        return not self.positive and self.box is None

    def shift(self, by: Sequence[int]) -> Prompts:
        """The same, moved by (y, x)."""
        positive, negative = (tuple((y + by[0], x + by[1]) for y, x in p) for p in (self.positive, self.negative))
        return Prompts(positive, negative, None if self.box is None else self.box.shift(by))

    def and_click(self, point: Point, on_object: bool) -> Prompts:
        """These and one more click, on the object or beside it."""
        click = ((float(point[0]), float(point[1])),)
        if on_object:
            return replace(self, positive=self.positive + click)
        return replace(self, negative=self.negative + click)


def box_between(path: Sequence[Point]) -> Box:
    """The pixels between the first and the last point of a drag."""
    ends = np.rint(np.array([path[0], path[-1]])).astype(int)
    return Box(tuple(ends.min(axis=0).tolist()), tuple((ends.max(axis=0) + 1).tolist()))


def thinned(path: Sequence[Point]) -> Sequence[Point]:
    """A scribble with few points."""
    return path[:: max(1, len(path) // SCRIBBLE)]


def array_of(points: Sequence[Point]) -> npt.NDArray[np.float64]:
    """Points as an array, (N, 2)."""
    return np.array(points, float).reshape(-1, 2)


def pixels_of(points: npt.NDArray[np.float64], shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], ...]:
    """The pixels in which points (N, 2) lie, as (y, x) that index an array of `shape`; those outside are left out."""
    pixels = np.floor(points + 0.5).astype(int)
    return tuple(pixels[((pixels >= 0) & (pixels < shape)).all(1)].T)


def points_in(points: Sequence[Point], shape: tuple[int, int]) -> tuple[Point, ...]:
    """Points as pairs of numbers; those outside of the picture are left out, whichever corner or middle pixels have."""
    try:
        known = np.atleast_2d(np.array(points, float))
    except (TypeError, ValueError):
        known = np.full((1, 2), np.nan)
    if known.size and (known.shape[1:] != (2,) or not np.isfinite(known).all()):
        raise ImageError(f"The points {_short(points)} are no list of (y, x). Give two numbers for each.")
    known, last = known.reshape(-1, 2), np.array(shape) - 1
    inside = known[((known > -1) & (known < last + 1)).all(1)]
    return tuple((y, x) for y, x in inside.clip(0, last).tolist())


def box_in(box: Box | Sequence[int], shape: tuple[int, int]) -> Box:
    """A box of a picture of `shape`, as far as it is inside; from whichever corner it was drawn."""
    try:
        y0, x0, y1, x1 = (*box.start, *box.stop) if isinstance(box, Box) else (int(v) for v in box)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"{_short(box)} is no box. Give its corners as (y0, x0, y1, x1), in pixels.") from error
    known = Box((min(y0, y1), min(x0, x1)), (max(y0, y1), max(x0, x1))).clip(shape)
    if known.is_empty:
        raise ImageError(f"There is nothing of the picture, {shape}, in the box {(y0, x0, y1, x1)}. Draw it anew.")
    return known


def prompts_in(prompts: Prompts, shape: tuple[int, int]) -> Prompts:
    """Prompts of a picture of `shape`, as far as they are inside.

    Raises
    ------
    ImageError
        If nothing of what shows the object is inside.
    """
    box = None if prompts.box is None else box_in(prompts.box, shape)
    inside = Prompts(points_in(prompts.positive, shape), points_in(prompts.negative, shape), box)
    if inside.is_empty and not prompts.is_empty:
        raise ImageError(f"All clicks are outside of the picture, {shape}. Click on an object in it.")
    return inside


def _short(value: object) -> str:
    """A wrong argument as it is named in a sentence."""
    said = repr(value)
    return said if len(said) < 60 else f"{said[:57]}..."
