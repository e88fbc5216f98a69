"""Random changes of crops: labels stay true, and what is unknown stays unknown."""

import numpy as np
import pytest
import torch

from napari_unet.core.targets import object_targets, rim_distance
from napari_unet.engine.augment import Augmentation, Example, as_example, change_greys, recolor, sample, warp_grids

STILL = Augmentation(scale=1.0, elastic=0.0, grey=0.0)
WILD = Augmentation(scale=2.0, elastic=4.0, grey=1.0, recolor=1.0)


def random(seed=0):
    """Seeded random numbers."""
    return torch.Generator().manual_seed(seed)


def grid_of(center, size, options, random):
    """Where the pixels of one crop come from."""
    return warp_grids(torch.tensor([center], dtype=torch.float32), size, options.drawn(1, random), random)[0]


def crop_of(example, *how):
    """One crop."""
    return Example(sample([example], grid_of(*how)[None])[0][0], example.channels)


def changed(images, options, seed=0):
    """Pictures with other grey values and colours."""
    strengths = options.drawn(len(images), random(seed))
    return recolor(change_greys(images, strengths, random(seed)), strengths, random(seed))


@pytest.fixture
def example(draw) -> Example:
    """A picture that shows its own foreground and distance, so that image and targets can be compared."""
    _, labels = draw(3, shape=(80, 70), count=5)
    trusted = np.zeros(labels.shape, bool)
    trusted[:, :50] = True
    image = np.stack([labels > 0, rim_distance(labels)]).astype(np.float32)
    return as_example(torch.from_numpy(image), object_targets(labels, trusted))


def test_it_says_which_pixels_are_of_the_picture(example):
    """Those outside are mirror images, and nothing of them is known."""
    line = torch.arange(-10.0, 90.0)
    y, x = torch.meshgrid(line, line, indexing="ij")
    read, inside = sample([example], torch.stack([x, y], -1)[None])
    expected = (y >= 0) & (y < 80) & (x >= 0) & (x < 70)
    assert torch.equal(inside[0, 0], expected)
    assert torch.allclose(read[0, :, 10:90, 10:80], example.values, atol=1e-4)
    assert not read[0, -1][~expected].any()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("options", [STILL, WILD])
def test_the_targets_go_with_the_picture(example, options, seed):
    """After any warp the foreground lies where the picture shows it, and the distance is the picture's own."""
    crop = crop_of(example, (40, 35), 48, options, random(seed))
    assert (crop.image.shape, crop.targets.shape, crop.weight.shape) == ((2, 48, 48), (2, 48, 48), (1, 48, 48))
    inside = crop.weight[0] > 0
    shown = crop.image[0] > 0.5
    assert (shown[inside] == (crop.targets[0][inside] > 0)).float().mean() > 0.99
    assert torch.equal(crop.targets[1], crop.image[1])
    assert set(crop.targets[0].unique().tolist()) <= {0.0, 1.0}
    assert set(crop.weight.unique().tolist()) <= {0.0, 1.0}


def test_nothing_is_trusted_outside(example):
    """Where a crop reaches beyond its region the picture is mirrored and nothing is trusted."""
    crop = crop_of(example, (0, 0), 64, STILL, random())
    grid = grid_of((0, 0), 64, STILL, random())
    x, y = grid[..., 0], grid[..., 1]
    outside = (x < -0.5) | (y < -0.5) | (x > 69.5) | (y > 79.5)
    assert outside.any()
    assert not crop.weight[0][outside].any()
    assert crop.image[0][outside].any()


def test_a_crop_has_its_centre_in_its_middle_and_the_size_of_the_region():
    """Without changes of scale neighbouring pixels of a crop are neighbours in the region."""
    grid = grid_of((30, 50), 33, STILL, random())
    assert torch.allclose(grid[16, 16], torch.tensor([50.0, 30.0]), atol=1e-4)
    steps = (grid[1:] - grid[:-1]).norm(dim=-1)
    assert torch.allclose(steps, torch.ones_like(steps), atol=1e-3)


def test_sizes_are_drawn_on_both_sides_evenly():
    """Over many draws crops are enlarged as often as reduced, never beyond the greatest scale."""
    grids = [grid_of((0, 0), 2, Augmentation(2.0, 0.0), random(seed)) for seed in range(300)]
    steps = [(grid[0, 1] - grid[0, 0]).norm() for grid in grids]
    logs = torch.log2(torch.stack(steps))
    assert logs.abs().max() <= 1.001
    assert abs(logs.mean()) < 0.1
    assert logs.std() > 0.4


def test_flips_and_angles_are_all_drawn():
    """Crops are mirrored about as often as not, and turned by any angle."""
    flips, angles = [], []
    for seed in range(200):
        grid = grid_of((0, 0), 2, STILL, random(seed))
        right, down = grid[0, 1] - grid[0, 0], grid[1, 0] - grid[0, 0]
        flips.append(float(right[0] * down[1] - right[1] * down[0]) > 0)
        angles.append(float(torch.atan2(down[1], down[0])))
    assert 70 < sum(flips) < 130
    assert (np.histogram(angles, 8, (-np.pi, np.pi))[0] > 8).all()


def test_elastic_bends_by_a_few_pixels():
    """Without turning, pixels move about as far as the standard deviation says."""
    bent = torch.stack([grid_of((0, 0), 64, Augmentation(1.0, 5.0), random(s)) for s in range(20)])
    straight = torch.stack([grid_of((0, 0), 64, STILL, random(s)) for s in range(20)])
    assert 2 < (bent - straight).std() < 6


def test_the_same_seed_gives_the_same_crop(example):
    """A crop depends on the seed alone, another seed gives another one."""
    grids = [grid_of((40, 35), 32, WILD, random(seed)) for seed in (1, 1, 2)]
    assert torch.equal(grids[0], grids[1])
    assert not torch.equal(grids[0], grids[2])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_values_stay_sane(seed, channels):
    """However strongly brightness, contrast, blur and noise change, values stay finite and near 0 to 2."""
    images = torch.rand(5, channels, 32, 32, generator=random(seed)) * 2.5 - 0.5
    others = changed(images, WILD, seed)
    assert others.shape == images.shape
    assert others.dtype == torch.float32
    assert torch.isfinite(others).all()
    assert others.abs().max() < 8


def test_no_strength_changes_nothing():
    """With strength 0 grey values and colours stay as they are."""
    images = torch.rand(2, 3, 8, 8, generator=random())
    assert torch.equal(changed(images, STILL), images)


def test_colours_are_inverted_mixed_and_made_equal():
    """Over many draws each change of colours occurs, and sometimes none."""
    images = torch.tensor([0.1, 0.2, 0.4])[:, None, None].repeat(60, 1, 2, 2)
    colors = recolor(images, WILD.drawn(60, random()), random())[..., 0, 0]
    seen = {tuple(round(v, 3) for v in values) for values in colors.tolist()}
    assert (0.1, 0.2, 0.4) in seen
    assert (0.9, 0.8, 0.6) in seen
    assert any(sorted(values) == [0.1, 0.2, 0.4] and values != (0.1, 0.2, 0.4) for values in seen)
    assert any(len(set(values)) == 1 for values in seen)


def test_varied_strengths_are_mostly_small():
    """Each crop has its own strength between nothing and all; half of them a quarter of it or less."""
    full = Augmentation(scale=2.0, elastic=4.0, grey=1.0, recolor=0.6, varied=True)
    random = torch.Generator().manual_seed(0)
    drawn = full.drawn(400, random)
    shares = drawn.grey.numpy()
    assert 0 <= shares.min() < 0.02
    assert 0.95 < shares.max() <= 1
    assert 0.2 < np.median(shares) < 0.3
    assert np.allclose(drawn.scale, 2.0**shares)
    assert np.allclose(drawn.recolor, 0.6 * shares)
    assert np.allclose(drawn.elastic, 4 * shares)
    always = Augmentation().drawn(3, random)
    assert always.scale.tolist() == pytest.approx([1.25] * 3)
    assert always.grey.tolist() == [0.5] * 3


def test_crops_of_a_batch_are_changed_each_on_its_own():
    """Pictures that were alike are not, when all of a batch was changed at once; most keep their polarity."""
    images = torch.rand(1, 3, 24, 24, generator=random()).repeat(12, 1, 1, 1)
    others = changed(images, Augmentation(grey=1.0, recolor=0.4))
    assert len({round(float(each.sum()), 2) for each in others}) == 12
    alike = [
        float(torch.corrcoef(torch.stack([each.sum(0).ravel(), images[0].sum(0).ravel()]))[0, 1]) for each in others
    ]
    assert 6 <= sum(value > 0 for value in alike) <= 11


def test_a_crop_does_not_depend_on_those_beside_it(example):
    """Regions of other sizes in one batch are each read by their own grid."""
    small = Example(example.values[:, :40, :30], example.channels)
    grids = torch.stack([grid_of((40, 35), 32, STILL, random(1)), grid_of((20, 15), 32, STILL, random(2))])
    both = sample([example, small], grids)
    alone = sample([example], grids[:1]), sample([small], grids[1:])
    assert all(torch.equal(each, torch.cat(parts)) for each, parts in zip(both, zip(*alone, strict=True), strict=True))
