"""Some voxels from all over a picture, the same whatever array holds it."""

from __future__ import annotations

import itertools
import math

import numpy as np

from napari_unet.core.arrays import RawArray
from napari_unet.core.geometry import Box

SAMPLE_VOXELS = 2**20
SAMPLE_BLOCK = 128  # zarr chunks and TIFF tiles are multiples of it, so that a block lies in one
SAMPLE_BLOCKS = (16, 64)  # at least, at most


def sample_boxes(shape: tuple[int, ...], channels: int, whole: int) -> list[Box]:
    """The whole picture up to `whole` voxels, else blocks of 128 x 128 from all over it.

    Blocks are spread by the R-sequence (Roberts 2018, a generalised golden ratio), which fills any number of axes
    evenly without falling into step with their lengths, as evenly spaced planes and rows would.
    """
    if math.prod(shape) * channels <= whole:
        return [Box.whole(shape)]
    block = (1,) * (len(shape) - 2) + (SAMPLE_BLOCK,) * 2
    grid = [math.ceil(n / b) for n, b in zip(shape, block, strict=True)]
    few, many = SAMPLE_BLOCKS
    count = min(max(SAMPLE_VOXELS // (SAMPLE_BLOCK**2 * channels), few), many)
    ratio = 2.0
    for _ in range(50):  # fixed point of x ** (axes + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(shape) + 1))
    steps = [ratio ** -(axis + 1) for axis in range(len(shape))]
    cells = {tuple(int((0.5 + i * s) % 1 * g) for s, g in zip(steps, grid, strict=True)) for i in range(count)}
    corners = [tuple(c * b for c, b in zip(cell, block, strict=True)) for cell in sorted(cells)]
    return [Box(a, tuple(c + b for c, b in zip(a, block, strict=True))).clip(shape) for a in corners]


def thinned(parts: list[RawArray]) -> RawArray:
    """About a million voxels of them, (C, voxels)."""
    raw = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    # a step that does not divide a row, or each row would give the same columns
    width = parts[0].shape[-1]
    step = next(n for n in itertools.count(math.ceil(raw.size / SAMPLE_VOXELS)) if math.gcd(n, width) == 1)
    return raw[:, ::step]
