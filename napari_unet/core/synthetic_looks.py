"""How made objects look: what a microscope of some kind would show of them, without the faults of the picture."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import find_boundaries

from napari_unet.core.corrections import Labels
from napari_unet.core.targets import rim_distance

Random = np.random.Generator
FloatArray = npt.NDArray[np.float32]


def filled(random: Random, labels: Labels) -> FloatArray:
    """Bright objects: flat, domed or hollow, each with its own brightness, some hardly brighter than the background."""
    deep = depth(labels)
    profile = random.choice(3)
    if profile == 0:
        inside = np.minimum(deep * random.uniform(2, 8), 1)
    elif profile == 1:
        inside = 0.3 + 0.7 * np.sqrt(deep)
    else:  # rings
        inside = 1 - random.uniform(0.4, 0.95) * np.clip(deep * 1.5 - 0.2, 0, 1)
    own = each(random, labels, random.uniform(0, 0.5))
    grain = 1 + random.uniform(0, 0.5) * smooth(random, len(labels), random.uniform(1, 5))
    return single(np.where(labels > 0, inside * own * grain, ground(random, labels)))


def outlined(random: Random, labels: Labels) -> FloatArray:
    """Lines where objects end, and little else: membranes, as electron or fluorescence microscopes show them."""
    wall = find_boundaries(labels, mode="thick") if random.random() < 0.5 else find_boundaries(labels, mode="inner")
    line = ndimage.gaussian_filter(wall.astype(np.float32), random.uniform(0.4, 1.2))
    broken = np.clip(1 + random.uniform(0, 0.8) * smooth(random, len(labels), 8), 0.1, None)
    inside = np.where(labels > 0, random.uniform(0, 0.3) * each(random, labels, 0.4), ground(random, labels) * 0.5)
    clutter = random.uniform(0, 0.25) * smooth(random, len(labels), random.uniform(0.8, 3))
    lines = line / max(float(line.max()), 1e-3) * broken
    return single(lines + inside + clutter + organelles(random, labels))


def phase(random: Random, labels: Labels) -> FloatArray:
    """Phase contrast: a bright halo around objects hardly greyer than the background, a dark rim, texture inside."""
    away = ndimage.distance_transform_edt(labels == 0)
    deep, within = depth(labels), ndimage.distance_transform_edt(labels > 0)
    side = len(labels)
    width = random.uniform(1.5, 5)
    patchy = np.clip(1 + random.uniform(0.2, 0.9) * smooth(random, side, 12), 0, None)
    halo = random.uniform(0.2, 1.0) * np.exp(-away / width) * (labels == 0) * patchy
    rim = random.uniform(0, 0.5) * np.exp(-within / random.uniform(1, 3)) * (labels > 0)
    body = random.uniform(-0.35, 0.35) * np.sqrt(deep) * each(random, labels, 0.4)
    grain = random.uniform(0.05, 0.35) * smooth(random, side, random.uniform(0.8, 3)) * (labels > 0)
    if random.random() < 0.3:  # some have rounded up, and shine
        body = body + 0.9 * deep * (each(random, labels, 1.0) > 1.8)
    ground = 0.05 * smooth(random, side, random.uniform(1, 6))
    return single(0.5 + halo - rim + body + grain + ground + organelles(random, labels))


def relief(random: Random, labels: Labels) -> FloatArray:
    """Light from one side, as in differential interference contrast, or a mere change of texture."""
    side = len(labels)
    height = ndimage.gaussian_filter(np.sqrt(depth(labels)), random.uniform(0.7, 2))
    height = height + random.uniform(0, 0.3) * smooth(random, side, random.uniform(1.5, 4)) * (labels > 0)
    angle = random.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * ndimage.sobel(height, 0) + math.sin(angle) * ndimage.sobel(height, 1)
    body = random.uniform(-0.3, 0.3) * (labels > 0)
    return single(0.5 + slope * random.uniform(0.2, 0.6) + body + 0.06 * smooth(random, side, 2))


def depth(labels: Labels) -> FloatArray:
    """Distance to the object's rim, as a share of the greatest one in the picture's usual object."""
    inside = (labels > 0) & ~find_boundaries(labels, mode="inner")
    distance = ndimage.distance_transform_edt(inside)
    usual = np.percentile(distance[inside], 95) if inside.any() else 1.0
    return single(np.clip(distance / max(float(usual), 1.0), 0, 1))


def each(random: Random, labels: Labels, spread: float) -> FloatArray:
    """A factor of its own for each object."""
    factors = np.exp(random.normal(0, spread, int(labels.max(initial=0)) + 1))
    return factors.astype(np.float32)[labels]


def smooth(random: Random, side: int, size: float) -> FloatArray:
    """Noise with a grain of some pixels; mean 0, standard deviation 1."""
    step = max(1, int(size / 2))  # coarse grains need no fine drawing
    coarse = random.normal(size=(side // step + 2,) * 2)
    noise = ndimage.gaussian_filter(coarse, size / step, mode="wrap")
    if step > 1:
        noise = ndimage.zoom(noise, step, order=1)
    noise = noise[:side, :side]
    return single((noise - noise.mean()) / (noise.std() + 1e-6))


def ground(random: Random, labels: Labels) -> FloatArray:
    """What lies around objects: nothing, haze, texture, or clutter."""
    side = len(labels)
    haze = random.uniform(0, 0.25) * np.exp(-ndimage.distance_transform_edt(labels == 0) / random.uniform(3, 15))
    texture = random.choice([0.0, 0.02, 0.12]) * smooth(random, side, random.uniform(1, 12))
    clutter = random.uniform(0.1, 0.6) * _clutter(random, side) if random.random() < 0.4 else 0.0
    return single(random.uniform(0, 0.3) + haze + texture + clutter)


def organelles(random: Random, labels: Labels) -> FloatArray:
    """Something in the middle of objects (a nucleus, say), darker or brighter; often nothing."""
    if random.random() < 0.5:
        return np.zeros(labels.shape, np.float32)
    core = depth(labels) > random.uniform(0.35, 0.7)
    tone = random.uniform(-0.5, 0.5) * each(random, labels, 0.3)
    return single(ndimage.gaussian_filter(np.where(core, tone, 0).astype(np.float32), 1.0))


def solid(random: Random, labels: Labels) -> FloatArray:
    """Bodies with a surface, as of grains: domed or flat, lit from a side, edges bright or dark."""
    side, own = len(labels), rim_distance(labels)
    within = ndimage.distance_transform_edt((labels > 0) & ~find_boundaries(labels, mode="inner"))
    dome = np.sqrt(np.clip(1 - (1 - own) ** 2, 0, 1)) if random.random() < 0.6 else np.minimum(own * 4, 1)
    rough = smooth(random, side, random.uniform(0.7, 4))
    height = ndimage.gaussian_filter(dome + random.uniform(0, 0.15) * rough, random.uniform(0.5, 1.5))
    angle = random.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * ndimage.sobel(height, 0) + math.sin(angle) * ndimage.sobel(height, 1)
    edge = random.uniform(-0.6, 0.6) * np.exp(-within / random.uniform(0.7, 3))
    tone = random.uniform(0.25, 0.9) * each(random, labels, random.uniform(0, 0.35))
    grain = 1 + random.uniform(0, 0.3) * rough
    body = tone * grain * (random.uniform(0.3, 1) + random.uniform(0, 0.5) * dome) + edge
    body = body + random.uniform(0, 0.25) * slope
    away = ndimage.distance_transform_edt(labels == 0)
    shade = 1 - random.uniform(0, 0.6) * np.exp(-away / random.uniform(1, 8))
    return single(np.where(labels > 0, body, ground(random, labels) * shade))


def stuffed(random: Random, labels: Labels) -> FloatArray:
    """Cut cells, full of things: walls of uneven width, and inside grain, vesicles and larger bodies with rims."""
    side = len(labels)
    border = find_boundaries(labels, mode="thick") | ((labels == 0) if random.random() < 0.5 else False)
    away = ndimage.distance_transform_edt(~border)
    width = random.uniform(0.3, 2.2) * np.clip(1 + random.uniform(0, 0.6) * smooth(random, side, 12), 0.1, None)
    wall = np.clip(width + 1 - away, 0, 1) * np.clip(1 - random.uniform(0, 0.5) * smooth(random, side, 6), 0.2, 1.2)
    inside = 0.25 * random.uniform(0, 1) * each(random, labels, 0.5) + random.uniform(0.02, 0.2) * smooth(
        random, side, random.uniform(0.7, 2.5)
    )
    rings = bodies(random, side, random.uniform(2, 5), int(random.integers(0, 250)))
    large = bodies(random, side, random.uniform(7, 20), int(random.integers(0, 14)))
    inside = inside + random.uniform(0, 0.5) * _ringed(random, rings) + random.uniform(0, 0.7) * _ringed(random, large)
    return single(np.where(labels > 0, np.maximum(inside, wall), wall * random.uniform(0.5, 1) + 0.1 * inside))


def bodies(random: Random, side: int, diameter: float, count: int) -> Labels:
    """Small round things here and there, which are no objects: numbered, one over the other."""
    found = np.zeros((side, side), np.int32)
    reach = math.ceil(2 * diameter)
    for number in range(1, count + 1):
        y, x = (int(v) for v in random.integers(0, side, 2))
        long, short = diameter / 2 * math.exp(random.normal(0, 0.25)), diameter / 2 * math.exp(random.normal(0, 0.25))
        window = (slice(max(0, y - reach), y + reach), slice(max(0, x - reach), x + reach))
        rows, columns = np.ogrid[window[0].start : min(side, y + reach), window[1].start : min(side, x + reach)]
        angle = random.uniform(0, math.pi)
        u = (rows - y) * math.cos(angle) + (columns - x) * math.sin(angle)
        v = (columns - x) * math.cos(angle) - (rows - y) * math.sin(angle)
        found[window][np.hypot(u / long, v / short) < 1] = number
    return found


def _ringed(random: Random, things: Labels) -> FloatArray:
    """Small things with a rim, an inside of some tone, and a pattern within."""
    rim = ndimage.gaussian_filter(find_boundaries(things, mode="inner").astype(np.float32), 0.6)
    inside = (things > 0) * random.uniform(-0.3, 0.8) * each(random, things, 0.4)
    pattern = 1 + random.uniform(0, 0.8) * smooth(random, len(things), random.uniform(0.8, 2))
    return single(random.uniform(0, 1.5) * rim + inside * pattern)


def _clutter(random: Random, side: int) -> FloatArray:
    """What a background may be full of: a rough surface, fibres, things out of focus, a mesh; about 0..1."""
    kind = int(random.integers(4))
    if kind == 0:
        sizes = random.uniform(0.8, 14, 3)
        what = sum(random.uniform(0.2, 1) * smooth(random, side, size) for size in sizes)
    elif kind == 1:
        paths = np.zeros((side, side), np.float32)
        for _ in range(int(random.integers(5, 60))):
            turn = random.uniform(0, 2 * math.pi) + np.cumsum(random.normal(0, 0.08, side))
            line = random.uniform(0, side, 2)[:, None] + np.cumsum(np.stack([np.sin(turn), np.cos(turn)]), 1)
            y, x = line[:, ((line >= 0) & (line < side)).all(0)].astype(int)
            paths[y, x] = random.uniform(0.3, 1)
        what = ndimage.gaussian_filter(paths, random.uniform(0.5, 2))
    elif kind == 2:
        things = bodies(random, side, random.uniform(10, 40), int(random.integers(5, 40)))
        what = ndimage.gaussian_filter((things > 0) * each(random, things, 0.5), random.uniform(2, 7))
    else:
        what = np.abs(smooth(random, side, random.uniform(2, 10)))
        what = np.exp(-what / random.uniform(0.1, 0.5))
    what = single(what)
    return single((what - what.min()) / max(float(what.max() - what.min()), 1e-3))


def single(values: npt.ArrayLike) -> FloatArray:
    """Values in single precision."""
    return np.asarray(values, np.float32)
