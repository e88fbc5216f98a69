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

from napari_unet.core.corrections import Labels

Random = np.random.Generator
FloatArray = npt.NDArray[np.float32]

SIDE = 256
SMALLEST, LARGEST = 14.0, 44.0
"""Usual diameter of the objects of a picture, in pixels."""


@dataclass(frozen=True)
class Synthetic:
    """A made picture.

    Attributes
    ----------
    image : (C, Y, X) float32
        One channel or three, about 0..1.
    labels : (Y, X) int32
        Objects 1..N, background 0.
    """

    image: FloatArray
    labels: Labels


def synthetic_pictures(count: int, seed: int = 0, side: int = SIDE) -> Iterator[Synthetic]:
    """Make pictures, each of other objects and of another look; the same for the same seed.

    Parameters
    ----------
    count : int
    seed : int
    side : int
        Of the square pictures, in pixels.
    """
    shapes: list[Callable[[Random, int], Labels]] = [_scattered, _scattered, _rods, _tissue]
    looks = [_filled, _filled, _outlined, _phase, _relief]
    for number in range(count):
        random = np.random.default_rng((seed, number))
        labels = shapes[int(random.integers(len(shapes)))](random, side)
        image = looks[int(random.integers(len(looks)))](random, labels)
        yield Synthetic(_taken(random, _colored(random, image, labels)), labels)


# --- shapes ------------------------------------------------------------------


def _scattered(random: Random, side: int) -> Labels:
    """Blobs, round or long, smooth or lobed; alone or in heaps."""
    return _placed(random, side, stretch=random.uniform(1, 2.2), lobes=random.uniform(0, 0.35), bend=0.0)


def _rods(random: Random, side: int) -> Labels:
    """Rods and filaments, straight or bent."""
    return _placed(random, side, stretch=random.uniform(2.5, 7), lobes=0.05, bend=random.choice([0.0, 0.6, 1.2]))


def _placed(random: Random, side: int, *, stretch: float, lobes: float, bend: float) -> Labels:
    """Objects of one family, put down one after the other where there is room."""
    labels = np.zeros((side, side), np.int32)
    diameter = math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST)))
    spread, crowd = random.uniform(0, 0.4), random.uniform(0.05, 0.75)
    gap = random.choice([0, 0, 1, 2])  # 0: they may touch
    heaps = random.uniform(0, side, (int(random.integers(1, 5)), 2)) if random.random() < 0.4 else None
    wanted, number = crowd * side * side, 0
    for _ in range(round(3 * wanted / diameter**2) + 4):
        if heaps is None:
            middle = random.uniform(0, side, 2)
        else:
            middle = heaps[int(random.integers(len(heaps)))] + random.normal(0, side / 7, 2)
        own = diameter * math.exp(random.normal(0, spread))
        window, mask = _one(random, middle, own, stretch * math.exp(random.normal(0, 0.2)), lobes, bend, side)
        area = int(mask.sum())
        if area < 30:
            continue
        there = labels[window]
        taken = ndimage.binary_dilation(there > 0, iterations=int(gap)) if gap else there > 0
        free = mask & ~taken
        if free.sum() < 0.8 * area:
            continue
        part, _ = ndimage.label(free)
        number += 1
        there[part == np.bincount(part[free]).argmax()] = number
        if (labels > 0).sum() > wanted:
            break
    return labels


def _one(
    random: Random,
    middle: npt.NDArray[np.float64],
    diameter: float,
    stretch: float,
    lobes: float,
    bend: float,
    side: int,
) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
    """The mask of one object, and the window in which it lies."""
    short, long = diameter / math.sqrt(stretch) / 2, diameter * math.sqrt(stretch) / 2
    reach = math.ceil(1.5 * long) + 1
    start = [max(0, int(m) - reach) for m in middle]
    stop = [min(side, int(m) + reach + 1) for m in middle]
    y, x = np.ogrid[start[0] : max(start[0], stop[0]), start[1] : max(start[1], stop[1])]
    angle = random.uniform(0, 2 * math.pi)
    u = (y - middle[0]) * math.cos(angle) + (x - middle[1]) * math.sin(angle)
    v = (x - middle[1]) * math.cos(angle) - (y - middle[0]) * math.sin(angle)
    v = v + bend * random.normal() * (u / long) ** 2 * short
    if stretch > 2.4:  # a rod has straight sides and round ends
        radius = np.hypot(np.maximum(np.abs(u) - (long - short), 0), v) / short
    else:
        radius = np.hypot(u / long, v / short)
    if lobes:
        turn = np.arctan2(v, u)
        for wave in range(2, 6):
            radius = radius * (1 + lobes * random.normal() / wave * np.cos(wave * turn + random.uniform(0, 6.3)))
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
    y, x = y + bend * _smooth(random, side, diameter / 2), x + bend * _smooth(random, side, diameter / 2)
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
        if sizes.max() >= 30:
            number += 1
            parts[window][part == sizes.argmax()] = number
    return parts


# --- looks -------------------------------------------------------------------


def _filled(random: Random, labels: Labels) -> FloatArray:
    """Bright objects: flat, domed or hollow, each with its own brightness, some hardly brighter than the background."""
    depth = _depth(labels)
    profile = random.choice(3)
    if profile == 0:
        inside = np.minimum(depth * random.uniform(2, 8), 1)
    elif profile == 1:
        inside = 0.3 + 0.7 * np.sqrt(depth)
    else:  # rings
        inside = 1 - random.uniform(0.4, 0.95) * np.clip(depth * 1.5 - 0.2, 0, 1)
    own = _each(random, labels, random.uniform(0, 0.5))
    grain = 1 + random.uniform(0, 0.5) * _smooth(random, len(labels), random.uniform(1, 5))
    return _single(np.where(labels > 0, inside * own * grain, _ground(random, labels)))


def _outlined(random: Random, labels: Labels) -> FloatArray:
    """Lines where objects end, and little else: membranes, as electron or fluorescence microscopes show them."""
    wall = find_boundaries(labels, mode="thick") if random.random() < 0.5 else find_boundaries(labels, mode="inner")
    line = ndimage.gaussian_filter(wall.astype(np.float32), random.uniform(0.4, 1.2))
    broken = np.clip(1 + random.uniform(0, 0.8) * _smooth(random, len(labels), 8), 0.1, None)
    inside = np.where(labels > 0, random.uniform(0, 0.3) * _each(random, labels, 0.4), _ground(random, labels) * 0.5)
    clutter = random.uniform(0, 0.25) * _smooth(random, len(labels), random.uniform(0.8, 3))
    lines = line / max(float(line.max()), 1e-3) * broken
    return _single(lines + inside + clutter + _organelles(random, labels))


def _phase(random: Random, labels: Labels) -> FloatArray:
    """Phase contrast: a bright halo around objects hardly greyer than the background, a dark rim, texture inside."""
    away = ndimage.distance_transform_edt(labels == 0)
    depth, within = _depth(labels), ndimage.distance_transform_edt(labels > 0)
    side = len(labels)
    width = random.uniform(1.5, 5)
    patchy = np.clip(1 + random.uniform(0.2, 0.9) * _smooth(random, side, 12), 0, None)
    halo = random.uniform(0.2, 1.0) * np.exp(-away / width) * (labels == 0) * patchy
    rim = random.uniform(0, 0.5) * np.exp(-within / random.uniform(1, 3)) * (labels > 0)
    body = random.uniform(-0.35, 0.35) * np.sqrt(depth) * _each(random, labels, 0.4)
    grain = random.uniform(0.05, 0.35) * _smooth(random, side, random.uniform(0.8, 3)) * (labels > 0)
    if random.random() < 0.3:  # some have rounded up, and shine
        body = body + 0.9 * depth * (_each(random, labels, 1.0) > 1.8)
    ground = 0.05 * _smooth(random, side, random.uniform(1, 6))
    return _single(0.5 + halo - rim + body + grain + ground + _organelles(random, labels))


def _relief(random: Random, labels: Labels) -> FloatArray:
    """Light from one side, as in differential interference contrast, or a mere change of texture."""
    side = len(labels)
    height = ndimage.gaussian_filter(np.sqrt(_depth(labels)), random.uniform(0.7, 2))
    height = height + random.uniform(0, 0.3) * _smooth(random, side, random.uniform(1.5, 4)) * (labels > 0)
    angle = random.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * ndimage.sobel(height, 0) + math.sin(angle) * ndimage.sobel(height, 1)
    body = random.uniform(-0.3, 0.3) * (labels > 0)
    return _single(0.5 + slope * random.uniform(0.2, 0.6) + body + 0.06 * _smooth(random, side, 2))


def _depth(labels: Labels) -> FloatArray:
    """Distance to the object's rim, as a share of the greatest one in the picture's usual object."""
    inside = (labels > 0) & ~find_boundaries(labels, mode="inner")
    distance = ndimage.distance_transform_edt(inside)
    usual = np.percentile(distance[inside], 95) if inside.any() else 1.0
    return _single(np.clip(distance / max(float(usual), 1.0), 0, 1))


def _each(random: Random, labels: Labels, spread: float) -> FloatArray:
    """A factor of its own for each object."""
    factors = np.exp(random.normal(0, spread, int(labels.max(initial=0)) + 1))
    return factors.astype(np.float32)[labels]


def _smooth(random: Random, side: int, size: float) -> FloatArray:
    """Noise with a grain of some pixels; mean 0, standard deviation 1."""
    step = max(1, int(size / 2))  # coarse grains need no fine drawing
    coarse = random.normal(size=(side // step + 2,) * 2)
    noise = ndimage.gaussian_filter(coarse, size / step, mode="wrap")
    if step > 1:
        noise = ndimage.zoom(noise, step, order=1)
    noise = noise[:side, :side]
    return _single((noise - noise.mean()) / (noise.std() + 1e-6))


def _ground(random: Random, labels: Labels) -> FloatArray:
    """What lies around objects: nothing, haze, or texture."""
    side = len(labels)
    haze = random.uniform(0, 0.25) * np.exp(-ndimage.distance_transform_edt(labels == 0) / random.uniform(3, 15))
    texture = random.choice([0.0, 0.02, 0.12]) * _smooth(random, side, random.uniform(1, 12))
    return _single(random.uniform(0, 0.3) + haze + texture)


def _organelles(random: Random, labels: Labels) -> FloatArray:
    """Something in the middle of objects (a nucleus, say), darker or brighter; often nothing."""
    if random.random() < 0.5:
        return np.zeros(labels.shape, np.float32)
    core = _depth(labels) > random.uniform(0.35, 0.7)
    tone = random.uniform(-0.5, 0.5) * _each(random, labels, 0.3)
    return _single(ndimage.gaussian_filter(np.where(core, tone, 0).astype(np.float32), 1.0))


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
        wash = 1 - random.uniform(0, 0.35) * np.abs(_smooth(random, side, random.uniform(3, 20)))
        return _single((paper + (stain - paper) * image) * wash)
    other = _filled(random, _scattered(random, side)) * random.uniform(0, 0.4)  # another stain, of something else
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
    light = 1 + random.uniform(0, 0.25) * _smooth(random, side, side / 3)
    image = image * light
    blur = random.uniform(0, 1.3)
    image = ndimage.gaussian_filter(image, (0, blur, blur))
    grain = random.choice([0.0, 0.02, 0.05, 0.12])
    return _single(image + random.normal(0, 1, image.shape) * grain * np.sqrt(np.clip(image, 0.1, None)))


def _single(values: npt.ArrayLike) -> FloatArray:
    """Values in single precision."""
    return np.asarray(values, np.float32)
