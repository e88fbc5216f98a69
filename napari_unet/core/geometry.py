"""Box: where something is; what a drag of the mouse encloses, and lies on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Box:
    """A box of voxels: `start` is inside, `stop` is not; order ([T, Z,] Y, X).

    Attributes
    ----------
    start, stop : tuple of int
        First voxel, and one past the last voxel, of each axis. May reach outside the picture.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """The box that covers an array of `shape`."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @classmethod
    def around(cls, center: Sequence[float], shape: Sequence[int]) -> Self:
        """The box of `shape` voxels around `center`."""
        start = tuple(round(c) - n // 2 for c, n in zip(center, shape, strict=True))
        return cls(start, tuple(a + n for a, n in zip(start, shape, strict=True)))

    @classmethod
    def of_mask(cls, mask: npt.NDArray[np.bool_]) -> Self | None:
        """The smallest box that holds every true voxel of `mask`; None if there is none."""
        start, stop = [], []
        for axis in range(mask.ndim):
            others = tuple(a for a in range(mask.ndim) if a != axis)
            hit = np.flatnonzero(mask.any(axis=others))
            if not hit.size:
                return None
            start.append(int(hit[0]))
            stop.append(int(hit[-1]) + 1)
        return cls(tuple(start), tuple(stop))

    @classmethod
    def union(cls, boxes: Iterable[Box]) -> Self:
        """The smallest box that holds all `boxes` (at least one)."""
        boxes = list(boxes)
        start = tuple(min(c) for c in zip(*(b.start for b in boxes), strict=True))
        return cls(start, tuple(max(c) for c in zip(*(b.stop for b in boxes), strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def center(self) -> tuple[float, ...]:
        """The middle, in voxels."""
        return tuple((a + b) / 2 for a, b in zip(self.start, self.stop, strict=True))

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is inside."""
        return any(n <= 0 for n in self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut this box out of an array that starts at 0."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def intersect(self, other: Box) -> Box:
        """The voxels in both boxes; empty (never negative) if there are none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def clip(self, shape: Sequence[int]) -> Box:
        """The part inside an array of `shape`."""
        return self.intersect(Box.whole(shape))

    def grow(self, by: int | Sequence[int]) -> Box:
        """The box with `by` voxels more on each side (of the last axes, if `by` is shorter)."""
        each = (by,) * len(self.start) if isinstance(by, int) else tuple(by)
        each = (0,) * (len(self.start) - len(each)) + each
        start = tuple(a - n for a, n in zip(self.start, each, strict=True))
        return Box(start, tuple(b + n for b, n in zip(self.stop, each, strict=True)))

    def shift(self, by: Sequence[int]) -> Box:
        """The box moved by `by` voxels."""
        start = tuple(a + n for a, n in zip(self.start, by, strict=True))
        return Box(start, tuple(b + n for b, n in zip(self.stop, by, strict=True)))

    def within(self, outer: Box) -> Box:
        """The same voxels counted from the corner of `outer`."""
        return self.shift(tuple(-a for a in outer.start))


def rectangle(path: Sequence[Sequence[float]], axes: tuple[int, int]) -> Box:
    """The voxels between the first and the last point of a drag, in the plane of the two axes."""
    ends = np.round(np.array([path[0], path[-1]])).astype(int)
    low, high = ends.min(axis=0), ends.max(axis=0)
    for axis in range(ends.shape[1]):
        if axis not in axes:
            low[axis] = high[axis] = ends[0, axis]
    return Box(tuple(low.tolist()), tuple((high + 1).tolist()))


def dense(path: Sequence[Sequence[float]]) -> list[list[float]]:
    """Points along a drag, at most a voxel apart: quick hands leave gaps."""
    points = [list(path[0])]
    for a, b in itertools.pairwise(path):
        steps = max(1, int(np.ceil(np.abs(np.subtract(b, a)).max())))
        points.extend((np.array(a) + (np.array(b) - np.array(a)) * (i + 1) / steps).tolist() for i in range(steps))
    return points
