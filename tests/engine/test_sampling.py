"""Corrections to batches: which teach, what the network reads of them, and where crops lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ImageError, ModelError
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits, estimate_limits, normalize
from napari_unet.engine import sampling
from napari_unet.engine.augment import Augmentation
from napari_unet.engine.sampling import ExampleCache, draw_crops, example_of, network_input, split

OBJECTS = ModelCard(architecture={"in_channels": 1, "out_channels": 2})
STILL = Augmentation(scale=1.0, elastic=0.0, grey=0.0)


def blank(shape=(20, 24), image=None, **options) -> Correction:
    """A correction in which everything is trusted background."""
    image = np.zeros(shape, np.uint8) if image is None else image
    return Correction(image, np.zeros(shape, np.int32), np.ones(shape, bool), **options)


# --- the split --------------------------------------------------------------------------------


def test_every_fifth_correction_is_held_out():
    """Where corrections do not say on which side they are, every fifth is held out, and stays so as more come."""
    corrections = [blank() for _ in range(23)]
    for count in range(24):
        taught, held_out = split(corrections[:count])
        assert held_out == corrections[4:count:5]
        assert len(taught) + len(held_out) == count


def test_a_correction_that_knows_its_side_keeps_it():
    """What was said when a correction was made is never overruled by its place."""
    corrections = [blank(held_out=side) for side in (True, False, False, True, False)]
    taught, held_out = split(corrections)
    assert [id(c) for c in held_out] == [id(corrections[n]) for n in (0, 3)]
    assert [id(c) for c in taught] == [id(corrections[n]) for n in (1, 2, 4)]


def test_a_correction_without_trust_says_nothing():
    """One in which no voxel is trusted neither teaches nor scores, and moves no other one to the other side."""
    empty = Correction(np.zeros((4, 4)), np.zeros((4, 4), int), np.zeros((4, 4), bool))
    corrections = [empty, *[blank() for _ in range(4)]]
    assert split(corrections) == (corrections[1:4], corrections[4:])


# --- what the network reads -------------------------------------------------------------------


def test_nothing_is_learnt_where_there_is_no_picture():
    """There a mirror image is seen, of which nobody said anything; but for a correction that lies nowhere else."""
    image = spread(40, 40) + 2000
    image[:, :10] = 0
    trusted = example_of(blank(image.shape, image), OBJECTS).weight[0] > 0
    assert not trusted[:, :10].any()
    assert trusted[:, 10:].all()
    lost = Correction(image, np.zeros((40, 40), int), image == 0)
    assert (example_of(lost, OBJECTS).weight[0] > 0).sum() == 400


def spread(*shape):
    """Random grey values."""
    return np.random.default_rng(0).integers(10, 4000, shape).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_picture_is_repeated(channels):
    """A picture without channels is read by networks of one and of three."""
    x = network_input(blank(image=spread(20, 24)), channels)
    assert x.shape == (channels, 20, 24)
    assert (x == x[0]).all()


@pytest.mark.parametrize("count", [3, 4])
def test_a_colour_picture_keeps_its_hue_and_loses_its_alpha(count):
    """Red, green and blue share their limits; alpha is left out."""
    image = spread(20, 24, count)
    image[..., 1] //= 2
    rgb = np.moveaxis(image[..., :3], -1, 0)
    expected = normalize(rgb, estimate_limits(rgb, joint=True))
    assert np.array_equal(network_input(blank(image=image), 3), expected)


@pytest.mark.parametrize("channels_first", [False, True])
def test_channels_have_limits_of_their_own(channels_first):
    """Channels that are no colours are each normalised by themselves."""
    image = spread(3, 20, 24)
    image[1] //= 50
    x = network_input(blank(image=image, channels_first=channels_first), 3)
    assert np.array_equal(x, normalize(image, estimate_limits(image)))


def test_the_limits_of_the_whole_picture_count():
    """A correction that knows its picture's limits is normalised by them and not by what it shows itself."""
    image = np.full((20, 24), 300, np.uint16)
    assert (network_input(blank(image=image, limits=Limits((100.0,), (500.0,))), 1) == 0.5).all()


def test_too_many_channels_are_a_sentence():
    """A correction of more channels than the model reads says what to choose."""
    with pytest.raises(ImageError, match="Choose"):
        network_input(blank(image=spread(5, 20, 24), channels_first=True), 3)


def test_values_that_are_no_numbers_become_numbers():
    """NaN and infinite pixels reach the network as finite values."""
    image = spread(20, 24).astype(np.float32)
    image[::3, ::2], image[1, 1], image[2, 2] = np.nan, np.inf, -np.inf
    assert np.isfinite(network_input(blank(image=image), 1)).all()


@pytest.mark.parametrize(("outputs", "last"), [(1, 1), (2, 1), (4, 3)])
def test_a_class_that_the_model_does_not_know_is_a_sentence(outputs, last):
    """Ids beyond the model's outputs are refused; untrusted ones do not matter."""
    card = ModelCard(kind="classes", architecture={"in_channels": 1, "out_channels": outputs})
    for strange, good in ((last + 1, False), (last, True)):
        labels, trusted = np.full((6, 6), 99), np.zeros((6, 6), bool)
        labels[2, 2], trusted[2, 2] = strange, True
        case = Correction(np.zeros((6, 6)), labels, trusted)
        if good:
            assert example_of(case, card).targets.max() == last
        else:
            with pytest.raises(ModelError, match=f"class {strange}; this model knows the classes 0 to {last}"):
                example_of(case, card)


# --- crops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [(0, 0), (0, 20), (16, 0), (10, 12)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_every_crop_shows_something_trusted(where, scale):
    """A small trusted dab, at the rim or in a corner, is in each crop, whatever the scale."""
    trusted = np.zeros((20, 24), bool)
    trusted[where[0] : where[0] + 4, where[1] : where[1] + 4] = True
    case = Correction(np.zeros((20, 24)), np.zeros((20, 24), int), trusted, scale=scale)
    example = example_of(case, OBJECTS)
    random = torch.Generator().manual_seed(0)
    batch = draw_crops([example] * 30, [n % 2 == 0 for n in range(30)], 32, STILL, random)
    assert all(weight.any() for weight in batch.weight)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 1.7, 3.0])
def test_an_example_has_the_size_that_the_network_sees(correct, scale):
    """Picture, targets and trusted voxels are resized together; a single trusted voxel is not lost."""
    case = correct(0)
    trusted = np.zeros(case.labels.shape, bool)
    trusted[31, 47] = True
    example = example_of(replace(case, trusted=trusted, scale=scale), OBJECTS)
    size = tuple(round(n * scale) for n in trusted.shape)
    assert example.image.shape[1:] == example.targets.shape[1:] == example.weight.shape[1:] == size
    assert example.weight[0, int(31 * scale), int(47 * scale)] > 0
    whole = example_of(replace(case, trusted=np.ones_like(trusted), scale=scale), OBJECTS)
    inside = whole.targets[0] > 0
    assert float(whole.image[0][inside].mean()) > float(whole.image[0][~inside].mean()) + 0.5


def test_a_crop_is_around_what_is_asked_for():
    """However small an object is, a crop is around it if it shall be on one, else around background."""
    labels = np.zeros((200, 200), int)
    labels[100:103, 100:103] = 1
    example = example_of(Correction(np.zeros(labels.shape), labels, np.ones(labels.shape, bool)), OBJECTS)
    random = torch.Generator().manual_seed(0)
    for on_object, least, most in ((False, 0, 5), (True, 35, 50)):
        batch = draw_crops([example] * 50, [on_object] * 50, 16, STILL, random)
        assert least <= sum(bool(targets[0].any()) for targets in batch.targets) <= most


def test_a_batch_is_laid_out_for_convolutions(correct):
    """A batch of crops is channels last in memory."""
    example = example_of(correct(0), OBJECTS)
    random = torch.Generator().manual_seed(0)
    batch = draw_crops([example] * 3, [True] * 3, 32, STILL, random)
    assert batch.images.shape == batch.weight.shape == (3, 1, 32, 32)
    assert batch.targets.shape == (3, 2, 32, 32)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.to(torch.device("cpu")).images.shape == batch.images.shape


# --- the cache --------------------------------------------------------------------------------


def test_targets_are_built_once(correct):
    """The same correction gives the same example again; an equal one gives its own."""
    cache, case = ExampleCache(OBJECTS), correct(0)
    assert cache[case] is cache[case]
    assert cache[replace(case)] is not cache[case]


def test_the_cache_is_bounded(correct, monkeypatch):
    """Examples used longest ago are forgotten when there are too many bytes of them."""
    cases = [correct(seed) for seed in range(4)]
    size = example_of(cases[0], OBJECTS).nbytes
    monkeypatch.setattr(sampling, "LARGEST_CACHE", 2 * size)
    cache = ExampleCache(OBJECTS)
    first, second = cache[cases[0]], cache[cases[1]]
    assert cache[cases[0]] is first
    cache[cases[2]]
    assert cache[cases[0]] is first
    assert cache[cases[1]] is not second


def test_it_is_known_what_a_correction_holds(correct):
    """Objects, background, or both: of what is trusted."""
    cache, case = ExampleCache(OBJECTS), correct(0)
    objects, background = (replace(case, trusted=case.labels > 0), replace(case, trusted=case.labels == 0))
    held = [[cache.has(c, on_object=on) for on in (True, False)] for c in (case, objects, background)]
    assert held == [[True, True], [True, False], [False, True]]


def test_objects_are_counted_each_once_and_regions_without_any_as_one(correct):
    """Of a picture in two halves, each with its surroundings, an object counts in the half in which most of it lies."""
    labels = np.zeros((64, 64), np.int32)
    labels[4:12, 4:12], labels[4:12, 22:32], labels[40:48, 30:40] = 1, 2, 3  # the third lies mostly in the right half
    whole = Correction(np.zeros((64, 64)), labels, np.ones(labels.shape, bool))
    left, right = (replace(whole, own=Box((0, a), (64, a + 32))) for a in (0, 32))
    empty = replace(whole, labels=np.zeros_like(labels))
    cache = ExampleCache(OBJECTS)
    assert [cache.told([c]) for c in (whole, left, right, empty)] == [3, 2, 1, 1]
    assert cache.told([left, right, empty]) == 4
    assert cache.told([replace(whole, trusted=labels == 3)]) == 1


def test_of_classes_regions_are_counted(correct):
    """The numbers are classes there, not objects."""
    cache, case = ExampleCache(replace(OBJECTS, kind="classes")), correct(0)
    assert cache.told([case, case]) == 2


def test_the_cache_forgets_what_was_withdrawn(correct):
    """Corrections that are no longer there take no memory."""
    cache, cases = ExampleCache(OBJECTS), [correct(seed) for seed in range(3)]
    examples = [cache[case] for case in cases]
    cache.keep_only(cases[:1])
    assert cache[cases[0]] is examples[0]
    assert cache[cases[1]] is not examples[1]


def test_mirror_images_around_a_picture_are_not_untouched():
    """Outside a picture nothing is known, and nothing left to the teacher: it would say what it said of the inside."""
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20] = 1
    trusted = np.zeros(labels.shape, bool)
    trusted[5:25, 5:25] = True
    example = example_of(Correction(np.zeros((40, 40), np.uint8), labels, trusted), OBJECTS)
    batch = draw_crops([example], [True], 128, STILL, torch.Generator().manual_seed(0))
    known = batch.weight > 0
    assert not (known & batch.untouched).any()
    assert 350 < int(known.sum()) < 450
    assert 1500 < int((known | batch.untouched).sum()) < 1700
