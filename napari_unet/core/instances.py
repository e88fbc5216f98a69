"""Network output to labels; the same object keeps its id from tile to tile and from refresh to refresh."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy
import skimage

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Labels, Mask
from napari_unet.core.metrics import areas, overlaps

SMOOTHING = 1.0
"""Standard deviation with which the distance is smoothed before its maxima are sought, in pixels of the network."""
DEPTH, DEPTH_OF_NONE, SMALL = 0.16, 0.36, 300.0
"""By how much a middle must stand out from the saddle to the next one: objects of `SMALL` pixels of the network or
more, and the smaller the nearer to the second figure; at the usual separation."""

STEPS = 64
"""Into which a distance of 1 is divided."""

SAME_OBJECT = 0.5
"""Share of the smaller one that two masks must have in common to be the same object."""


@dataclass(frozen=True)
class InstanceSettings:
    """How objects are built from the network's output; none needs a new prediction.

    A model may have learnt other thresholds than a half: `settings_for`.

    Attributes
    ----------
    foreground : float
        Probability above which a voxel belongs to an object, 0..1.
    separation : float
        0 keeps touching objects together, 1 splits at the slightest waist.
    min_area : int
        Smaller objects are dropped, in voxels of the network.
    fill_holes : bool
        Close holes inside objects; what lies between several objects is no hole.
    """

    foreground: float = 0.5
    separation: float = 0.5
    min_area: int = 40
    fill_holes: bool = True


def settings_for(card: ModelCard, wanted: InstanceSettings | None = None) -> InstanceSettings:
    """How objects are built from the outputs of a model.

    Parameters
    ----------
    card : ModelCard
        Of the model, with its own thresholds.
    wanted : InstanceSettings, optional
        What the user wants; a half of a threshold is the model's own one.
    """
    wanted = wanted or InstanceSettings()
    foreground, separation = _odds(wanted.foreground, card.foreground), _odds(wanted.separation, card.separation)
    return replace(wanted, foreground=foreground, separation=separation)


def _odds(wanted: float, own: float) -> float:
    """The threshold whose odds are the product of both: `own` for a half, and all or nothing as is wanted."""
    both, neither = wanted * own, (1 - wanted) * (1 - own)
    return both / (both + neither)


def build_objects(
    foreground: npt.NDArray[np.floating],
    distance: npt.NDArray[np.floating],
    settings: InstanceSettings,
    scale: float = 1.0,
) -> npt.NDArray[np.int32]:
    """Objects from the foreground's probability and the distance to the rim.

    Middles of objects are the maxima of the distance that stand out from the saddle to the next
    one; from them a watershed fills the foreground.

    Parameters
    ----------
    foreground, distance : ([Z,] Y, X) float
        Probability 0..1; 0 at the rim and 1 in the middle of an object.
    settings : InstanceSettings
    scale : float
        Size of the network's pixels, in pixels of these arrays: large objects may be rougher than small ones.

    Returns
    -------
    ([Z,] Y, X) int32
        Objects 1..N, background 0.
    """
    settings = replace(settings, min_area=round(settings.min_area / scale**foreground.ndim))
    mask = np.asarray(foreground) > settings.foreground
    parts = skimage.measure.label(mask, connectivity=1).astype(np.int32)
    if not mask.any() or settings.separation <= 0:
        return _tidy(parts, settings)
    height = scipy.ndimage.gaussian_filter(np.where(mask, distance, 0).astype(np.float32), SMOOTHING / scale)
    np.clip(height, 0, 1.5, out=height)
    steps = np.round(height * STEPS).astype(np.int16)
    seeds = skimage.measure.label(skimage.morphology.local_maxima(steps) & mask, connectivity=mask.ndim)
    tops = np.zeros(int(seeds.max()) + 1, np.int64)
    tops[seeds[seeds > 0]] = steps[seeds > 0]
    depth = STEPS * (1 - settings.separation) ** 2 / (1 - InstanceSettings.separation) ** 2
    labels = _join_slight(_basins(height, seeds, parts), tops, steps, depth, SMALL / scale**mask.ndim)
    # parts of the foreground without a middle (cut by the window, or flat) are objects too
    rest = mask & (labels == 0)
    labels[rest] = parts[rest] + labels.max()
    return _tidy(labels, settings)


def _basins(
    height: npt.NDArray[np.float32], seeds: npt.NDArray[np.integer], parts: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """What each seed reaches downhill within its part of the foreground, by a watershed; 0 in parts without a seed.

    A part with one seed is its basin as a whole: of objects that stand alone no pixel has to be sorted.
    """
    is_seed = seeds > 0
    seed, part = seeds[is_seed], parts[is_seed]
    only = np.zeros(int(parts.max()) + 1, np.int32)
    only[part] = seed
    is_shared = np.zeros(only.size, bool)
    is_shared[part[only[part] != seed]] = True
    basins, shared = only[parts], is_shared[parts]
    if shared.any():
        basins[shared] = skimage.segmentation.watershed(-height, np.where(shared, seeds, 0), mask=shared)[shared]
    return basins


def _join_slight(
    basins: npt.NDArray[np.int32], tops: npt.NDArray[np.int64], steps: npt.NDArray[np.int16], depth: float, small: float
) -> npt.NDArray[np.int32]:
    """Join basins of a watershed whose tops stand out too little from the saddle between them.

    The tops that are left are the h-maxima, at a third of the time of a reconstruction by dilation (which sorts every
    pixel), but for one thing: the smaller a basin, the more it must stand out. A network that knows its kind of
    picture makes deep saddles, even between small objects; one that has just met it breaks objects into pieces.

    Basins are 1..N, `tops` says how high each is; joined ones keep the number of the highest. `depth` is a distance of
    1 in the units of `steps`, `small` the size from which on no more is asked, in voxels.
    """
    one, two, lows = _saddles(basins, steps)
    is_slight = np.minimum(tops[one], tops[two]) - lows <= max(1, round(depth * DEPTH_OF_NONE))
    one, two, lows = one[is_slight], two[is_slight], lows[is_slight]
    highest, parent, sizes = tops.tolist(), list(range(len(tops))), np.bincount(basins.ravel()).tolist()

    def root(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = basin = parent[parent[basin]]
        return basin

    for pair in np.argsort(-lows, kind="stable").tolist():  # the highest saddle first
        high, low = sorted((root(int(one[pair])), root(int(two[pair]))), key=highest.__getitem__, reverse=True)
        lack = max(0.0, 1 - min(sizes[high], sizes[low]) / small)
        asked = max(1, round(depth * (DEPTH + lack * (DEPTH_OF_NONE - DEPTH))))
        if high != low and highest[low] - lows[pair] <= asked:
            parent[low] = high
            sizes[high] += sizes[low]
    return np.array([root(basin) for basin in range(len(tops))], np.int32)[basins]


def _saddles(
    basins: npt.NDArray[np.int32], steps: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The basins that touch, each pair once, and the highest point of the rim between them."""
    count, pairs, lows = int(basins.max()) + 1, [], []
    for axis in range(basins.ndim):
        here, there = (
            tuple(part if a == axis else slice(None) for a in range(basins.ndim))
            for part in (slice(None, -1), slice(1, None))
        )
        at = np.nonzero((basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0))
        both = np.sort(np.stack([basins[here][at], basins[there][at]]).astype(np.int64), axis=0)
        pairs.append(both[0] * count + both[1])
        lows.append(np.minimum(steps[here][at], steps[there][at]).astype(np.int64))
    pair, low = np.concatenate(pairs), np.concatenate(lows)
    order = np.lexsort((-low, pair))
    pair, low = pair[order], low[order]
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    return pair[first] // count, pair[first] % count, low[first]


def _tidy(labels: npt.NDArray[np.int32], settings: InstanceSettings) -> npt.NDArray[np.int32]:
    """Drop small objects, close holes, and number the rest 1..N."""
    keep = np.bincount(labels.ravel()) >= max(1, settings.min_area)
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    labels = numbers[labels]
    return _without_holes(labels) if settings.fill_holes and labels.any() else labels


def _without_holes(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Give background that one object encloses to that object; what the edge cuts may be open."""
    gaps, count = scipy.ndimage.label(labels == 0)
    is_open = np.zeros(count + 1, bool)
    is_open[0] = True
    for axis in range(labels.ndim):
        is_open[gaps.take((0, -1), axis=axis)] = True
    if is_open.all():
        return labels
    at = np.nonzero(~is_open[gaps])  # few voxels, and none at the edge
    gap, low, high = gaps[at], np.full(count + 1, np.iinfo(np.int32).max), np.zeros(count + 1, np.int64)
    for axis, step in itertools.product(range(labels.ndim), (-1, 1)):
        beside = labels[tuple(places + step * (a == axis) for a, places in enumerate(at))]
        is_object = beside > 0
        np.minimum.at(low, gap[is_object], beside[is_object])
        np.maximum.at(high, gap[is_object], beside[is_object])
    filled = labels.copy()
    filled[at] = np.where(low == high, high, 0)[gap]
    return filled


@dataclass(frozen=True)
class Laid:
    """A window of a picture after new objects were laid over it.

    Attributes
    ----------
    labels : (*window) int
        What the window holds now.
    joins : dict of int to int
        Objects outside the core that turned out to be part of another one: old id to the id to
        keep. Within the window that is done already.
    next_id : int
        First id that no object has.
    """

    labels: Labels
    joins: dict[int, int]
    next_id: int


def lay_over(existing: Labels, local: Labels, core: Mask, next_id: int, *, protected: Mask | None = None) -> Laid:
    """Lay the objects of a new window over what a picture holds there already.

    The core is replaced; an object that reaches out of it is written whole, but only over
    background. An object keeps the id (and so the colour) of the one that lay there: from tile to
    tile, so that an object on a seam is one, and from one prediction to the next.

    Parameters
    ----------
    existing : (*window) int
        Neighbours' fresh objects, older ones, the user's.
    local : (*window) int
        Objects 1..N of the new prediction.
    core : (*window) bool
        The part to replace; the rest belongs to the tiles beside it.
    next_id : int
        First id that no object of the picture has.
    protected : (*window) bool, optional
        Voxels that the user set: they stay as they are, and an object that the user has drawn or
        erased is not written again.
    """
    count = int(local.max(initial=0))
    area = np.bincount(local.ravel(), minlength=count + 1)
    settled, users = np.zeros(count + 1, bool), np.zeros(0, np.int64)
    if protected is not None and protected.any():
        settled = _settled_by_user(existing, local, protected, area)
        users = np.unique(existing[protected])
    in_core = np.bincount(local[core], minlength=count + 1) > 0
    ids = _adopt_ids(existing, local, area, ~settled & in_core, users)
    fresh = np.flatnonzero((ids == 0) & ~settled & in_core)
    fresh = fresh[fresh > 0]
    ids[fresh] = np.arange(next_id, next_id + len(fresh))

    new = ids[local]
    may_write = core | ((new > 0) & (existing == 0))
    if protected is not None:
        may_write &= ~protected
    labels = np.where(may_write, new, existing).astype(existing.dtype)
    joins, in_use = {}, set(ids.tolist())
    for old, keep in _covered_beside(existing, new, core, set(users.tolist())).items():
        part = (labels == old) & ~core
        if old in in_use:
            part &= new == keep  # one object was cut in two: the id goes on as the other half
        else:
            joins[old] = keep
        labels[part] = keep
    return Laid(labels, joins, next_id + len(fresh))


def _settled_by_user(existing: Labels, local: Labels, protected: Mask, area: npt.NDArray[np.intp]) -> Mask:
    """Which new objects the user has already drawn, or largely erased."""
    covered = np.bincount(local[protected], minlength=len(area))
    settled = covered >= SAME_OBJECT * np.maximum(area, 1)
    drawn = np.where(protected, existing, 0)
    ours, theirs, common = overlaps(local, drawn)
    drawn_ids, inverse = np.unique(drawn, return_inverse=True)
    drawn_area = np.bincount(inverse.ravel())[np.searchsorted(drawn_ids, theirs)]
    settled[ours[common >= SAME_OBJECT * drawn_area]] = True
    settled[0] = True
    return settled


def _adopt_ids(
    existing: Labels, local: Labels, area: npt.NDArray[np.intp], wanted: Mask, users: Labels
) -> npt.NDArray[np.int64]:
    """For each new object the id of the existing one that it mostly shares its voxels with, or 0."""
    ids = np.zeros(len(area), np.int64)
    ours, theirs, common = overlaps(local, existing)
    known, counts = areas(existing)
    smaller = np.minimum(area[ours], counts[np.searchsorted(known, theirs)])
    free = (common >= SAME_OBJECT * smaller) & wanted[ours] & ~np.isin(theirs, users)
    ours, theirs, common = ours[free], theirs[free], common[free]
    taken: set[int] = set()
    for pair in np.argsort(-common, kind="stable").tolist():
        mine, their = int(ours[pair]), int(theirs[pair])
        if not ids[mine] and their not in taken:
            ids[mine] = their
            taken.add(their)
    return ids


def _covered_beside(existing: Labels, new: Labels, core: Mask, users: set[int]) -> dict[int, int]:
    """Existing objects beside the core that are mostly covered by a new one with another id, and that id."""
    beside = np.where(core, 0, existing)
    ours, theirs, common = overlaps(np.where(core, 0, new), beside)
    known, counts = areas(beside)
    most = common > SAME_OBJECT * counts[np.searchsorted(known, theirs)]
    return {
        int(their): int(mine)
        for mine, their, mostly in zip(ours, theirs, most, strict=True)
        if mostly and mine != their and int(their) not in users
    }
