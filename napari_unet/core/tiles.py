"""Tile: what is written at once, and the wider window that is read for it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet.core.geometry import Box

Index = tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """One piece of a picture.

    Attributes
    ----------
    index : tuple of int
        Place in the grid of tiles.
    core : Box
        The part to write; the cores of a grid cover the picture once.
    around : Box
        The core and so much beside it that objects on its seams are seen; inside the picture.
    window : Box
        What the network reads: the core and its halo. Reaches a little way outside the picture,
        where the picture is mirrored.
    """

    index: Index
    core: Box
    around: Box
    window: Box


@dataclass(frozen=True)
class Grid:
    """Tiles that cover a plane (or volume) of a picture.

    With a halo as wide as the network sees, a tile's core comes out as if the whole picture had
    been predicted in one piece: there is no seam, and nothing to blend.

    Attributes
    ----------
    plane : Box
        What is covered: the last axes whole, the leading ones of length 1.
    core : tuple of int
        Size of the cores along the last axes, each a multiple of the network's coarsest step, so
        that every tile meets the same grid of pooled voxels.
    halo : int
        Voxels read beyond the core on each side.
    mirror : int
        Voxels read beyond the picture's edge, at most.
    """

    plane: Box
    core: tuple[int, ...]
    halo: int
    mirror: int

    @property
    def counts(self) -> Index:
        """Number of tiles along each of the last axes."""
        shape = self.plane.shape[-len(self.core) :]
        return tuple(math.ceil(n / c) for n, c in zip(shape, self.core, strict=True))

    def tile(self, index: Index) -> Tile:
        """The tile at a place of the grid."""
        lead = len(self.plane.start) - len(self.core)
        offset = self.plane.start[lead:]
        start = tuple(o + i * c for o, i, c in zip(offset, index, self.core, strict=True))
        lead_start, lead_stop = self.plane.start[:lead], self.plane.stop[:lead]
        stop = tuple(a + c for a, c in zip(start, self.core, strict=True))
        full = Box(lead_start + start, lead_stop + stop)
        each = (1,) * len(self.core)
        inside = self.plane.grow([n * self.mirror for n in each])
        return Tile(
            index,
            core=full.intersect(self.plane),
            around=full.grow([n * (self.halo // 2) for n in each]).intersect(self.plane),
            window=full.grow([n * self.halo for n in each]).intersect(inside),
        )

    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        return [self.tile(index) for index in itertools.product(*map(range, self.counts))]

    def away(self, view: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """How far from the middle of `view` the middles of all tiles are, in voxels, and which tiles it meets.

        Returns
        -------
        (*counts) float, (*counts) bool
        """
        lead = len(self.plane.start) - len(self.core)
        is_here = not _lead(self.plane, lead).intersect(_lead(view, lead)).is_empty
        squares, meets = np.zeros(self.counts), np.full(self.counts, is_here)
        for axis, (count, side) in enumerate(zip(self.counts, self.core, strict=True)):
            low, high = view.start[lead + axis], view.stop[lead + axis]
            start = self.plane.start[lead + axis] + side * np.arange(count)
            stop = np.minimum(start + side, self.plane.stop[lead + axis])
            along = [-1 if a == axis else 1 for a in range(len(self.core))]
            squares += (((start + stop - low - high) / 2) ** 2).reshape(along)
            meets &= ((start < high) & (stop > low)).reshape(along)
        return np.sqrt(squares), meets


def _lead(box: Box, lead: int) -> Box:
    """The first axes of a box."""
    return Box(box.start[:lead], box.stop[:lead])


def cover(plane: Box, *, core: int, halo: int, mirror: int, step: int, ndim: int = 2) -> Grid:
    """A grid of tiles for a plane: as few and as equal as `core` allows.

    Parameters
    ----------
    plane : Box
    core : int
        Longest side of a core, in voxels.
    halo, mirror : int
        Multiples of `step`.
    step : int
        The network's coarsest step, 2**depth.
    ndim : int
        How many of the last axes are cut into tiles.
    """
    longest = max(step, core // step * step)
    sides = []
    for length in plane.shape[-ndim:]:
        pieces = math.ceil(length / longest)
        sides.append(max(step, math.ceil(length / pieces / step) * step))
    return Grid(plane, tuple(sides), halo, mirror)
