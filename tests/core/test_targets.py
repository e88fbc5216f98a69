"""Labels and trust to what a network is trained on."""

import numpy as np
import pytest

from napari_unet.core.targets import RIM, border_weights, class_targets, object_targets, rim_distance


def disc(shape, center, radius):
    """True inside a disc (or ball)."""
    away = [a - c for a, c in zip(np.indices(shape), center, strict=True)]
    return sum(a * a for a in away) <= radius**2


def test_the_distance_is_1_in_the_middle_and_near_0_at_the_rim():
    """Inside a disc the distance falls evenly from 1 in its middle to less than a pixel's share at its rim."""
    labels = disc((41, 41), (20, 20), 15).astype(int)
    distance = rim_distance(labels)
    assert distance.dtype == np.float32
    assert distance[20, 20] == 1
    assert 0 < distance[20, 35] < 1 / 15
    assert (np.diff(distance[20, 20:36]) < 0).all()
    assert not distance[labels == 0].any()


@pytest.mark.parametrize("radius", [0, 1, 3, 12])
def test_every_object_reaches_1(radius):
    """Large and tiny objects alike are 1 somewhere inside."""
    assert rim_distance(disc((31, 31), (15, 15), radius).astype(int)).max() == 1


def test_touching_objects_are_kept_apart():
    """Where two objects touch, the distance falls to the rim's value on both sides."""
    labels = np.zeros((20, 40), int)
    labels[4:16, 4:20], labels[4:16, 20:36] = 1, 2
    distance = rim_distance(labels)
    assert (distance[6:14, 19:21] == distance[4, 8]).all()
    assert distance[10, 11] > 0.8


def test_the_edge_of_the_array_is_no_rim():
    """An object that the edge cuts goes on behind it: there the distance does not fall."""
    labels = np.zeros((20, 30), int)
    labels[:, :15] = 1
    distance = rim_distance(labels)
    assert (distance[:, 0] == 1).all()
    assert (distance[:, 14] < 0.1).all()


@pytest.mark.parametrize(("label", "expected"), [(0, 0), (7, 1)])
def test_an_array_of_one_value_has_no_rim(label, expected):
    """Background alone is 0 everywhere, one object that fills the array 1 everywhere."""
    assert (rim_distance(np.full((9, 12), label)) == expected).all()


def test_the_distance_in_a_volume():
    """In three dimensions the distance is 1 in the middle of a ball, too."""
    distance = rim_distance(disc((17, 17, 17), (8, 8, 8), 6).astype(int))
    assert distance[8, 8, 8] == 1
    assert distance[8, 8, 14] < 0.1


def border_weights_by_hand(labels, w0, sigma):
    """The paper's formula, voxel by voxel."""
    weight = np.zeros(labels.shape)
    objects = [np.argwhere(labels == n) for n in np.unique(labels[labels > 0])]
    for voxel in np.argwhere(labels == 0):
        near = sorted(np.sqrt(((o - voxel) ** 2).sum(1)).min() for o in objects)
        if len(near) > 1:
            weight[tuple(voxel)] = w0 * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
    return weight


def test_border_weights_are_the_papers():
    """They agree with the formula computed pixel by pixel, up to what is too far away to matter."""
    labels = np.zeros((26, 30), np.uint16)
    labels[3:12, 4:12], labels[3:12, 14:22], labels[15:24, 6:20] = 5, 9, 300
    expected = border_weights_by_hand(labels, 10.0, 3.0)
    assert expected.max() > 6
    assert np.abs(border_weights(labels, 10.0, 3.0) - expected).max() < 10 * np.exp(-4.5)


@pytest.mark.parametrize("labels", [np.zeros((8, 8), int), np.eye(8, dtype=int)])
def test_fewer_than_two_objects_have_no_border(labels):
    """Without a second object there is nothing to keep apart."""
    assert not border_weights(labels).any()


def test_huge_numbers_of_objects_cost_no_memory():
    """Objects may have any numbers, also ones in the billions."""
    labels = np.zeros((8, 12), np.int64)
    labels[:, :4], labels[:, 6:] = 2**31, 2**40
    assert border_weights(labels)[4, 5] > 1


def test_what_is_not_trusted_has_no_weight():
    """Only trusted voxels and the rim of trusted objects weigh anything."""
    labels = np.zeros((30, 30), int)
    labels[5:12, 5:12], labels[20:27, 20:27] = 1, 2
    targets = object_targets(labels, labels == 1)
    assert targets.values.shape == (2, 30, 30)
    assert (targets.weight[labels == 1] == 1).all()
    assert (targets.weight[8, 12 : 12 + RIM] == 1).all()
    assert not targets.weight[8, 12 + RIM :].any()
    assert not targets.weight[15:].any()


def test_a_rim_is_trusted_on_background_alone():
    """Another object beside a trusted one is not trusted with it."""
    labels = np.zeros((12, 20), int)
    labels[2:10, 2:10], labels[2:10, 10:18] = 1, 2
    weight = object_targets(labels, labels == 1).weight
    assert not weight[labels == 2].any()


def test_trusted_background_brings_no_rim():
    """A background stroke says nothing about the pixels beside it."""
    trusted = np.zeros((9, 9), bool)
    trusted[4, 4] = True
    assert object_targets(np.zeros((9, 9), int), trusted).weight.sum() == 1


def test_background_between_close_objects_counts_more():
    """The border weight adds to trusted background between objects, and to nothing that is not trusted."""
    labels = np.zeros((12, 21), int)
    labels[2:10, 1:10], labels[2:10, 12:20] = 1, 2
    trusted = np.ones(labels.shape, bool)
    trusted[:, 15:] = False
    weight = object_targets(labels, trusted, border_weight=10.0).weight
    assert weight[5, 10] > 5
    assert weight[5, 5] == 1
    assert not weight[trusted < (labels == 2)].any()
    assert weight[0, 20] == 0


def test_classes_are_trusted_where_they_were_painted():
    """Targets of classes are the ids, with no rim."""
    labels = np.array([[0, 1, 2], [2, 2, 2]])
    trusted = labels == 1
    targets = class_targets(labels, trusted)
    assert targets.values.tolist() == [labels.tolist()]
    assert targets.weight.tolist() == trusted.astype(float).tolist()
