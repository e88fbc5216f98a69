"""Pictures that nobody took: objects of many shapes, seen as by many microscopes, with labels that are right.

They widen what a model has seen beyond the pictures that may be used for training. Nothing in them imitates one
microscope closely; what counts is that shape, outline, inside, surroundings and faults of the picture vary, each on
its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.segmentation import find_boundaries

from napari_unet.core.corrections import Labels, Mask
from napari_unet.core.synthetic_looks import (
    FloatArray,
    Random,
    filled,
    outlined,
    phase,
    relief,
    single,
    smooth,
    solid,
    stuffed,
)

SIDE = 256
SMALLEST, LARGEST = 14.0, 44.0
"""Usual diameter of the objects of a picture, in pixels."""
SPECK = 30
"""Pixels that an object has at least."""
LOOKS: dict[str, Callable[[Random, Labels], FloatArray]] = {
    look.__name__: look for look in (filled, outlined, phase, relief, solid, stuffed)
}


@dataclass(frozen=True)
class Synthetic:
    """A made picture.

    Attributes
    ----------
    image : (C, Y, X) float32
        One channel or three, about 0..1.
    labels : (Y, X) int32
        Objects 1..N, background 0.
    look : str
        One of `LOOKS`.
    """

    image: FloatArray
    labels: Labels
    look: str


def synthetic_pictures(count: int, seed: int = 0, side: int = SIDE) -> Iterator[Synthetic]:
    """Make pictures, each of other objects and of another look; the same for the same seed.

    Parameters
    ----------
    count : int
    seed : int
    side : int
        Of the square pictures, in pixels.
    """
    shapes: list[Callable[[Random, int], Labels]] = [_scattered, _scattered, _rods, _tissue, _tissue, _piled]
    looks = ["filled", *LOOKS]
    for number in range(count):
        random = np.random.default_rng((seed, number))
        labels = shapes[int(random.integers(len(shapes)))](random, side)
        look = looks[int(random.integers(len(looks)))]
        image = LOOKS[look](random, labels)
        yield Synthetic(_taken(random, _colored(random, image, labels)), labels, look)


# --- shapes ------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """What objects of one picture have in common: long or round, smooth or lobed, straight or bent."""

    stretch: float
    lobes: float
    bend: float = 0.0
    are_piled: bool = False
    """They lie on each other."""
    along: FloatArray | None = None
    """Where they point to, in each pixel."""


def _scattered(random: Random, side: int) -> Labels:
    """Blobs, round or long, smooth or lobed; alone or in heaps."""
    return _placed(random, side, _Family(random.uniform(1, 2.2), random.uniform(0, 0.35)))


def _rods(random: Random, side: int) -> Labels:
    """Rods and filaments, straight or bent; each its own way, or side by side as in a colony."""
    along = random.uniform(0.5, 2) * smooth(random, side, side / 6) if random.random() < 0.5 else None
    stretch, bend = random.uniform(2.5, 7), float(random.choice([0.0, 0.6, 1.2]))
    return _placed(random, side, _Family(stretch, 0.05, bend, along=along))


def _piled(random: Random, side: int) -> Labels:
    """Blobs and grains that lie on each other, of very different sizes."""
    return _placed(random, side, _Family(random.uniform(1, 1.8), random.uniform(0, 0.25), are_piled=True))


def _placed(random: Random, side: int, family: _Family) -> Labels:
    """Objects of one family, put down one after the other where there is room, or on each other."""
    labels = np.zeros((side, side), np.int32)
    is_packed = family.along is not None
    diameter = math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST)))
    spread, crowd = random.uniform(0, 0.7 if family.are_piled else 0.4), random.uniform(0.05, 0.75)
    gap = int(random.choice([0, 0, 1, 2]))  # 0: they may touch
    heaps = random.uniform(0, side, (int(random.integers(1, 5)), 2)) if random.random() < 0.4 else None
    wanted, number = crowd * side * side, 0
    for _ in range(round((10 if is_packed else 3) * wanted / diameter**2) + 4):
        if heaps is None:
            middle = random.uniform(0, side, 2)
        else:
            middle = heaps[int(random.integers(len(heaps)))] + random.normal(0, side / (10 if is_packed else 7), 2)
        window, mask = _one(random, middle, diameter * math.exp(random.normal(0, spread)), family, side)
        seen = mask if family.are_piled else _free(labels[window], mask, gap)
        if seen.sum() < max(SPECK, (0.65 if is_packed else 0.8) * mask.sum()):
            continue
        number += 1
        labels[window][seen] = number
        if (labels > 0).sum() > wanted:
            break
    return _whole(labels) if family.are_piled else labels


def _free(there: Labels, mask: Mask, gap: int) -> Mask:
    """The largest part of a mask where nothing lies yet."""
    taken = ndimage.binary_dilation(there > 0, iterations=gap) if gap else there > 0
    parts, _ = ndimage.label(mask & ~taken)
    counts = np.bincount(parts.ravel(), minlength=1)
    counts[0] = 0
    largest: Mask = (parts == counts.argmax()) & (parts > 0)
    return largest


def _one(
    random: Random, middle: npt.NDArray[np.float64], diameter: float, family: _Family, side: int
) -> tuple[tuple[slice, slice], Mask]:
    """The mask of one object, and the window in which it lies."""
    stretch = family.stretch * math.exp(random.normal(0, 0.2))
    short, long = diameter / math.sqrt(stretch) / 2, diameter * math.sqrt(stretch) / 2
    reach = math.ceil(1.5 * long) + 1
    start = [max(0, int(m) - reach) for m in middle]
    stop = [min(side, int(m) + reach + 1) for m in middle]
    y, x = np.ogrid[start[0] : max(start[0], stop[0]), start[1] : max(start[1], stop[1])]
    angle = random.uniform(0, 2 * math.pi)
    if family.along is not None:
        inside = tuple(np.clip(middle, 0, side - 1).astype(int))
        angle = float(family.along[inside]) + random.normal(0, 0.1)
    u = (y - middle[0]) * math.cos(angle) + (x - middle[1]) * math.sin(angle)
    v = (x - middle[1]) * math.cos(angle) - (y - middle[0]) * math.sin(angle)
    v = v + family.bend * random.normal() * (u / long) ** 2 * short
    if stretch > 2.4:  # a rod has straight sides and round ends
        radius = np.hypot(np.maximum(np.abs(u) - (long - short), 0), v) / short
    else:
        radius = np.hypot(u / long, v / short)
    if family.lobes:
        turn = np.arctan2(v, u)
        for wave in range(2, 6):
            radius = radius * (1 + family.lobes * random.normal() / wave * np.cos(wave * turn + random.uniform(0, 6.3)))
    return (slice(start[0], max(start[0], stop[0])), slice(start[1], max(start[1], stop[1]))), radius < 1


def _tissue(random: Random, side: int) -> Labels:
    """Cells side by side, as in tissue: a Voronoi partition with crooked borders, some cells missing."""
    diameter = math.exp(random.uniform(math.log(SMALLEST * 1.3), math.log(LARGEST)))
    count = max(4, round(1.3 * (side / diameter) ** 2))
    points = random.uniform(-0.1 * side, 1.1 * side, (count, 2))
    for _ in range(int(random.integers(0, 3))):  # a step of Lloyd's makes the cells more alike
        spots = random.uniform(-0.1 * side, 1.1 * side, (8 * count, 2))
        nearest = cKDTree(points).query(spots)[1]
        found = np.maximum(np.bincount(nearest, minlength=count), 1)
        points = np.stack([np.bincount(nearest, spots[:, axis], count) / found for axis in (0, 1)], axis=1)
    bend = random.uniform(0, 0.35) * diameter
    y, x = np.mgrid[:side, :side].astype(np.float32)
    y, x = y + bend * smooth(random, side, diameter / 2), x + bend * smooth(random, side, diameter / 2)
    labels = (cKDTree(points).query(np.stack([y, x], -1).reshape(-1, 2))[1] + 1).reshape(side, side)
    if random.random() < 0.6:  # a gap between them
        wall = find_boundaries(labels, mode="thick")
        labels[
            ndimage.binary_dilation(wall, iterations=int(random.integers(1, 3))) if random.random() < 0.5 else wall
        ] = 0
    missing = random.random(count + 2) < random.choice([0.0, 0.0, 0.2, 0.5])
    missing[0] = False
    labels[missing[labels]] = 0
    return _whole(labels)


def _whole(labels: npt.NDArray[np.integer]) -> Labels:
    """The largest part of each object, numbered 1..N."""
    parts = np.zeros(labels.shape, np.int32)
    number = 0
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        part, _ = ndimage.label(labels[window] == label)
        sizes = np.bincount(part.ravel())
        sizes[0] = 0
        if sizes.max() >= SPECK:
            number += 1
            parts[window][part == sizes.argmax()] = number
    return parts


# --- the picture -------------------------------------------------------------


def _colored(random: Random, image: FloatArray, labels: Labels) -> FloatArray:
    """Grey; or stained, dark on light, between two colours; or one channel of several."""
    draw = random.random()
    low, high = np.percentile(image, (0.5, 99.8))
    image = np.clip((image - low) / max(float(high - low), 1e-3), 0, 1.2)
    if draw < 0.6:
        return image[None] if random.random() < 0.5 else 1 - image[None]
    side = len(labels)
    if draw < 0.85:
        paper = random.uniform((0.6, 0.4, 0.6), 1)[:, None, None]
        stain = paper * random.uniform((0.2, 0.1, 0.4), (0.8, 0.7, 0.95))[:, None, None]
        wash = 1 - random.uniform(0, 0.35) * np.abs(smooth(random, side, random.uniform(3, 20)))
        return single((paper + (stain - paper) * image) * wash)
    other = filled(random, _scattered(random, side)) * random.uniform(0, 0.4)  # another stain, of something else
    channels = np.stack([image, other, random.uniform(0, 0.5) * image])
    return channels[random.permutation(3)].astype(np.float32)


def _taken(random: Random, image: FloatArray) -> FloatArray:
    """What the microscope adds: specks, uneven light, blur and noise."""
    side = image.shape[-1]
    if random.random() < 0.4:
        specks = np.zeros((side, side), np.float32)
        where = random.integers(0, side, (int(random.integers(3, 40)), 2))
        specks[tuple(where.T)] = random.uniform(3, 30) * random.choice([-1, 1])
        image = image + ndimage.gaussian_filter(specks, random.uniform(0.6, 1.8))
    if random.random() < 0.2:  # not all of it is in focus
        soft = np.clip(0.5 + smooth(random, side, side / 5), 0, 1)
        image = image + soft * (ndimage.gaussian_filter(image, (0, 2, 2)) - image)
    light = 1 + random.uniform(0, 0.25) * smooth(random, side, side / 3)
    image = image * light
    blur = random.uniform(0, 1.3)
    image = ndimage.gaussian_filter(image, (0, blur, blur))
    grain = random.choice([0.0, 0.02, 0.05, 0.12])
    return single(image + random.normal(0, 1, image.shape) * grain * np.sqrt(np.clip(image, 0.1, None)))
