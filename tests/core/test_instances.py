"""Network output to objects, and objects that keep their ids."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label as connected
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from napari_unet.core import instances
from napari_unet.core.card import ModelCard
from napari_unet.core.geometry import Box
from napari_unet.core.instances import DEPTH, SMOOTHING, InstanceSettings, build_objects, lay_over, settings_for
from napari_unet.core.metrics import evaluate
from napari_unet.core.targets import rim_distance
from napari_unet.core.tiles import cover


def discs(shape, *circles):
    """Labels 1..N of discs (y, x, radius); later ones lie over earlier ones."""
    labels = np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    for number, (cy, cx, radius) in enumerate(circles, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


def objects(labels, **settings):
    """What a perfect network makes of labels."""
    return build_objects((labels > 0).astype(np.float32), rim_distance(labels), InstanceSettings(**settings))


def same(a, b):
    """Whether two labellings are equal up to their numbers."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs}) and (0, 0) in pairs


TOUCHING = discs((40, 60), (20, 20, 11), (20, 40, 11))


def test_touching_discs_are_split():
    """Two discs that touch come out as two objects, nearly as they were drawn."""
    assert evaluate(objects(TOUCHING), TOUCHING)["map"] > 0.9


def test_no_separation_joins_what_touches():
    """With separation 0 touching discs are one object."""
    assert objects(TOUCHING, separation=0).max() == 1


def test_more_separation_splits_at_a_slighter_waist():
    """A waist that the default leaves is split at separation 1."""
    foreground = discs((40, 60), (20, 25, 11), (20, 36, 11)) > 0
    distance = rim_distance(foreground.astype(int))
    found = [
        build_objects(foreground, distance, InstanceSettings(separation=separation)).max() for separation in (0, 0.5, 1)
    ]
    assert found[0] == found[1] == 1
    assert found[2] == 2


@pytest.mark.parametrize("half", [0.3, 0.5, 0.8])
def test_a_half_of_the_users_is_the_threshold_of_the_model(half):
    """More than it asks for more, all for all, and what a model says nothing of stays."""
    card, wanted = ModelCard(foreground=half, separation=half), InstanceSettings(min_area=7, fill_holes=False)
    built = settings_for(card, wanted)
    assert (built.foreground, built.separation) == pytest.approx((half, half))
    assert (built.min_area, built.fill_holes) == (7, False)
    for name in ("foreground", "separation"):
        found = [getattr(settings_for(card, replace(wanted, **{name: value})), name) for value in (0, 0.4, 0.6, 1)]
        assert found[0] == 0
        assert found[1] < half < found[2]
        assert found[3] == 1
    assert settings_for(ModelCard()) == InstanceSettings()


def test_two_equal_tops_are_no_two_objects():
    """A slight dip between two tops of the same height splits nothing."""
    distance = np.full((20, 40), 0.9)
    distance[:, :4] = distance[:, -4:] = 0.2
    distance[6:14, 8:16] = distance[6:14, 24:32] = 1.0
    assert build_objects(np.ones(distance.shape), distance, InstanceSettings()).max() == 1


def test_the_foreground_threshold_decides_how_far_objects_reach():
    """A higher threshold gives smaller objects."""
    labels = discs((60, 60), (30, 30, 22))
    probability = rim_distance(labels)
    areas = [(build_objects(probability, probability, InstanceSettings(f)) > 0).sum() for f in (0.2, 0.5, 0.8)]
    assert areas[0] > areas[1] > areas[2] > 0


@pytest.mark.parametrize("separation", [0, 0.5, 1])
def test_small_objects_are_dropped_and_the_others_numbered(separation):
    """Objects below the smallest area go, and the rest are numbered 1..N without a gap."""
    labels = discs((40, 60), (6, 6, 2), (20, 40, 9), (32, 8, 6))
    found = objects(labels, min_area=30, separation=separation)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert not found[6, 6]


def test_a_hole_inside_an_object_is_closed():
    """Background that one object encloses becomes part of it; switched off, it stays."""
    whole = discs((40, 40), (20, 20, 14))
    foreground = whole.astype(np.float32)
    foreground[15:18, 18:23] = 0
    closed = build_objects(foreground, rim_distance(whole), InstanceSettings())
    assert (closed == whole).all()
    assert not build_objects(foreground, rim_distance(whole), InstanceSettings(fill_holes=False))[16, 20]


def test_what_lies_between_objects_is_no_hole():
    """Background that several objects enclose together stays background."""
    ring = [(20, 20), (20, 40), (40, 20), (40, 40)]
    labels = discs((60, 60), *[(y, x, 11) for y, x in ring])
    found = objects(labels)
    assert found.max() == 4
    assert found[30, 30] == 0


def test_a_bay_at_the_edge_is_no_hole():
    """Background that an object encloses together with the window's edge may be open behind it."""
    labels = np.ones((30, 30), np.int32)
    labels[:6, 10:20] = 0
    assert not objects(labels)[:6, 10:20].any()


def test_foreground_without_a_middle_is_an_object():
    """Parts of the foreground where the network sees no middle are objects by their connection."""
    foreground = discs((30, 60), (15, 15, 8), (15, 45, 8)) > 0
    assert build_objects(foreground, np.zeros(foreground.shape), InstanceSettings()).max() == 2


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (3, 4, 5)])
def test_nothing_found_is_no_object(shape):
    """An empty foreground gives labels of 0 as int32."""
    found = build_objects(np.zeros(shape), np.zeros(shape), InstanceSettings())
    assert found.shape == shape
    assert found.dtype == np.int32
    assert not found.any()


def test_touching_balls_are_split():
    """In a volume touching balls come out as two objects."""
    z, y, x = np.indices((20, 20, 34))
    labels = np.zeros(z.shape, np.int32)
    for number, center in enumerate((9, 23), start=1):
        labels[(z - 10) ** 2 + (y - 10) ** 2 + (x - center) ** 2 <= 64] = number
    assert objects(labels).max() == 2


# --- lay_over ---------------------------------------------------------------------------------


def core(shape, *slices):
    """True in a part of a window."""
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


ALL = (slice(None), slice(None))
LEFT, RIGHT = (slice(None), slice(0, 30)), (slice(None), slice(30, 60))
SEAM = discs((40, 60), (20, 30, 10), (10, 8, 5), (30, 52, 5))


def test_an_object_on_a_seam_is_one():
    """Two tiles that both see an object on their seam give it one id, whole, and count on from the first's ids."""
    blank = np.zeros(SEAM.shape, np.int32)
    left = np.where(SEAM == 3, 0, SEAM)
    right = np.where(SEAM == 2, 0, SEAM)
    first = lay_over(blank, left, core(SEAM.shape, *LEFT), 1)
    second = lay_over(first.labels, right, core(SEAM.shape, *RIGHT), first.next_id)
    assert same(second.labels, SEAM)
    assert (second.joins, second.next_id) == ({}, 4)


def test_two_halves_are_joined_by_the_tile_that_sees_the_whole():
    """Objects of two earlier tiles that turn out to be one are joined, and the caller is told which."""
    halves = discs((40, 60), (20, 30, 10))
    halves[:, 30:][halves[:, 30:] > 0] = 2
    halves[20, 30] = 1
    laid = lay_over(halves, (halves > 0).astype(np.int32), core(halves.shape, slice(15, 25), slice(20, 40)), 3)
    assert len(np.unique(laid.labels)) == 2
    assert laid.joins in ({1: 2}, {2: 1})


def test_ids_are_stable_when_predictions_are_refreshed():
    """Objects that moved or grew a little keep their ids; a new one gets an id that nobody had."""
    before = discs((60, 60), (12, 12, 8), (40, 15, 6), (30, 45, 10))
    after = discs((60, 60), (31, 44, 11), (13, 12, 8), (41, 16, 7), (8, 40, 5))
    laid = lay_over(before * 10, after, core(before.shape, *ALL), 31)
    assert [laid.labels[p] for p in ((12, 12), (40, 15), (30, 45), (8, 40))] == [10, 20, 30, 31]
    assert laid.next_id == 32
    again = lay_over(laid.labels, after, core(before.shape, *ALL), 32)
    assert (again.labels == laid.labels).all()
    assert again.next_id == 32


def test_an_object_that_falls_apart_keeps_its_id_once():
    """Of two halves the larger one keeps the id, the other one gets a new one."""
    before = (TOUCHING > 0).astype(np.int32)
    split = TOUCHING.copy()
    split[:, 55:] = 0
    split[20:40, 40:] = 0
    laid = lay_over(before, split, core(before.shape, *ALL), 2)
    assert laid.labels[20, 15] == 1
    assert laid.labels[15, 40] == 2
    assert laid.joins == {}


@pytest.mark.parametrize("seam", [24, 27, 30, 33, 36])
@pytest.mark.parametrize("is_left_first", [True, False])
@pytest.mark.parametrize("now", [TOUCHING, discs((40, 60), (20, 18, 13), (20, 40, 9))])
def test_an_object_that_falls_apart_on_a_seam_is_two(now, seam, is_left_first):
    """Tiles that each see that an old object on their seam is two leave two, wherever the seam is, in either order."""
    labels, next_id = (now > 0).astype(np.int32), 2
    parts = [(slice(None), slice(0, seam)), (slice(None), slice(seam, 60))]
    for part in parts if is_left_first else parts[::-1]:
        laid = lay_over(labels, now, core(labels.shape, *part), next_id)
        labels, next_id = laid.labels, laid.next_id
        assert laid.joins == {}
    assert same(labels, now)


def test_what_is_gone_is_wiped_in_the_core_alone():
    """An old object that is not found again goes from the core; beside it, it belongs to another tile."""
    old = discs((40, 60), (20, 30, 10))
    laid = lay_over(old, np.zeros_like(old), core(old.shape, *LEFT), 2)
    assert not laid.labels[LEFT].any()
    assert (laid.labels[RIGHT] == old[RIGHT]).all()


def test_beside_the_core_only_background_is_written():
    """An object that reaches out of the core is written whole, but never over what lies there."""
    old = discs((40, 60), (20, 38, 6)) * 9
    new = discs((40, 60), (20, 24, 10))
    laid = lay_over(old, new, core(old.shape, *LEFT), 10)
    assert (laid.labels[RIGHT][old[RIGHT] > 0] == 9).all()
    assert (laid.labels[RIGHT][(old[RIGHT] == 0) & (new[RIGHT] > 0)] == 10).all()


def test_objects_beside_the_core_are_not_written():
    """What a tile sees beside its core, and nothing of it inside, is for the tile beside it to write."""
    laid = lay_over(np.zeros_like(SEAM), np.where(SEAM == 3, 1, 0), core(SEAM.shape, *LEFT), 1)
    assert not laid.labels.any()
    assert laid.next_id == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_users_voxels_never_change(seed):
    """Whatever is predicted, protected voxels stay as they are, and the user's objects take in nothing new."""
    random = np.random.default_rng(seed)
    old = discs((50, 50), *random.integers([0, 0, 3], [50, 50, 10], (8, 3)))
    new = discs((50, 50), *random.integers([0, 0, 3], [50, 50, 10], (8, 3)))
    user = np.isin(old, random.integers(0, 9, 3)) & (random.random(old.shape) < 0.9)
    laid = lay_over(old, new, core(old.shape, *ALL), 9, protected=user)
    assert (laid.labels[user] == old[user]).all()
    drawn = np.unique(old[user & (old > 0)])
    assert not np.isin(laid.labels[~user], drawn).any()
    assert not set(laid.joins) & set(drawn.tolist())


def test_what_the_user_drew_is_not_written_again():
    """A predicted object that the user has drawn already leaves no rim around the user's."""
    mine = discs((40, 40), (20, 20, 8)) * 5
    predicted = discs((40, 40), (20, 21, 11))
    laid = lay_over(mine, predicted, core(mine.shape, *ALL), 6, protected=mine > 0)
    assert (laid.labels == mine).all()


def test_what_the_user_erased_is_not_written_again():
    """A predicted object of which the user erased the larger part stays away."""
    predicted = discs((40, 40), (20, 20, 8))
    erased = core(predicted.shape, slice(10, 25), slice(0, 40))
    laid = lay_over(np.zeros_like(predicted), predicted, core(predicted.shape, *ALL), 1, protected=erased)
    assert not laid.labels.any()


def test_an_object_beside_the_users_is_written_around_it():
    """A prediction that the user's object only touches fills what is free."""
    mine = discs((40, 60), (20, 15, 8)) * 5
    predicted = discs((40, 60), (20, 30, 9))
    laid = lay_over(mine, predicted, core(mine.shape, *ALL), 6, protected=mine > 0)
    assert (laid.labels[(predicted > 0) & (mine == 0)] == 6).all()
    assert (laid.labels[mine > 0] == 5).all()


def scattered(random, shape, count, largest):
    """Discs with a gap of 2 between them."""
    circles = []
    for y, x, radius in random.integers([0, 0, 2], [*shape, largest], (count, 3)).tolist():
        if all((y - a) ** 2 + (x - b) ** 2 > (radius + r + 2) ** 2 for a, b, r in circles):
            circles.append((y, x, radius))
    return discs(shape, *circles)


@pytest.mark.parametrize("seed", range(12))
def test_tiles_laid_over_each_other_are_the_whole_picture(seed):
    """Tiles laid in any order give the objects of the whole picture, also those far larger than a tile."""
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(90, 200, 2).tolist())
    truth = scattered(random, shape, 60, 45)
    labels, next_id, joins = np.zeros(shape, np.int32), 1, []
    tiles = cover(Box.whole(shape), core=48, halo=32, mirror=0, step=16).tiles()
    random.shuffle(tiles)
    for tile in tiles:
        seen = truth[tile.around.slices]
        local = np.unique(seen, return_inverse=True)[1].reshape(seen.shape) + (0 if (seen == 0).any() else 1)
        inside = core(seen.shape, *tile.core.within(tile.around).slices)
        laid = lay_over(labels[tile.around.slices], local.astype(np.int32), inside, next_id)
        labels[tile.around.slices] = laid.labels
        next_id = laid.next_id
        joins += laid.joins.items()
    number = list(range(next_id))
    for old, keep in joins:
        a, b = number[old], number[keep]
        number = [b if n == a else n for n in number]
    assert same(np.array(number)[labels], truth)


def test_ids_are_given_out_once():
    """Over many tiles no id is given to two objects."""
    shape = (60, 60)
    truth = discs(shape, *[(y, x, 6) for y, x in itertools.product((8, 24, 40), (8, 24, 40))])
    labels, next_id = np.zeros(shape, np.int32), 1
    for part in (slice(0, 16), slice(16, 32), slice(32, 60)):
        laid = lay_over(labels, truth, core(shape, part, slice(None)), next_id)
        labels, next_id = laid.labels, laid.next_id
    assert same(labels, truth)
    assert next_id == 10


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("separation", [0.4, 0.5, 0.9])
def test_objects_are_the_basins_of_the_h_maxima(seed, separation, monkeypatch):
    """As many objects as the surface has h-maxima, found by a reconstruction: what stands out less is joined."""
    monkeypatch.setattr(instances, "SMALL", 1e-6)  # no basin is small
    random = np.random.default_rng(seed)
    surface = ndimage.gaussian_filter(random.random((120, 120)), 5)
    surface = ((surface - surface.min()) / np.ptp(surface)).astype(np.float32)
    settings = InstanceSettings(separation=separation, min_area=0)
    found = build_objects(np.ones_like(surface), surface, settings)
    steps = np.round(np.clip(ndimage.gaussian_filter(surface, SMOOTHING), 0, 1.5) * 64).astype(int)
    depth = max(1, round(64 * 4 * DEPTH * (1 - separation) ** 2))
    beside = ndimage.generate_binary_structure(2, 1)
    flat = reconstruction(np.maximum(steps - depth, 0), steps, footprint=beside)
    tops = connected(local_maxima(flat, connectivity=1), connectivity=1)
    assert found.max() > 3
    assert abs(int(found.max()) - int(tops.max())) <= 1  # the saddles of a watershed are those of its own lines


@pytest.mark.parametrize(("radius", "count"), [(7, 1), (14, 2)])
def test_the_smaller_a_part_the_more_it_must_stand_out(radius, count):
    """The same saddle parts two large halves, and leaves two small ones together."""
    rows, columns = np.mgrid[: 4 * radius, : 6 * radius].astype(np.float32)
    tops = [np.hypot(rows - 2 * radius, columns - c * radius) / radius for c in (2.1, 3.9)]
    surface = np.clip(1.3 - np.minimum(*tops), 0, 1)
    surface = np.where(surface > 0, 0.65 + 0.35 * surface, 0).astype(np.float32)
    assert build_objects((surface > 0).astype(np.float32), surface, InstanceSettings()).max() == count


@pytest.mark.parametrize("shape", [(80, 90), (12, 30, 30)])
def test_objects_that_stand_alone_are_what_a_watershed_of_everything_gives(shape, monkeypatch):
    """They are not sorted pixel by pixel, and come out the same: alone, in clusters, and without a middle."""
    random, found = np.random.default_rng(0), 0
    fields = [ndimage.gaussian_filter(random.random((2, *shape)), (0, *(sigma,) * len(shape))) for sigma in (1, 2, 4)]
    fields = [(field - field.min()) / np.ptp(field) for field in fields]
    each = [build_objects(*field, InstanceSettings(min_area=3)) for field in fields]

    def of_everything(height, seeds, parts):
        return watershed(-height, seeds, mask=parts > 0).astype(np.int32)

    monkeypatch.setattr(instances, "_basins", of_everything)
    for field, objects in zip(fields, each, strict=True):
        assert np.array_equal(objects, build_objects(*field, InstanceSettings(min_area=3)))
        found += objects.max()
    assert found > 15
