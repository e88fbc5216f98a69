"""Losses that know only trusted voxels."""

import pytest
import torch

from napari_unet.nets.losses import class_loss, dice_loss, loss_for, teacher_loss, weighted_mean

KINDS = ["objects", "classes"]


def example(kind, *, size=32, seed=0):
    """Logits and targets of a batch of two crops: an object, and a second class inside it."""
    random = torch.Generator().manual_seed(seed)
    truth = torch.zeros(2, 1, size, size)
    truth[:, :, size // 4 : 3 * size // 4, size // 4 :] = 1
    if kind == "classes":
        truth[1, :, size // 2 :, size // 2 :] = 2
        return torch.randn(2, 3, size, size, generator=random), truth
    targets = torch.cat([truth, truth * torch.rand(truth.shape, generator=random)], 1)
    return torch.randn(2, 2, size, size, generator=random), targets


def gradient(kind, logits, targets, weight):
    """Loss, and its gradient by the logits."""
    logits = logits.clone().requires_grad_()
    loss = loss_for(kind, logits, targets, weight)
    loss.backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("kind", KINDS)
def test_untrusted_voxels_change_nothing(kind):
    """Other targets and other logits where nothing is trusted give exactly the same loss and gradient."""
    logits, targets = example(kind)
    random = torch.Generator().manual_seed(1)
    weight = (torch.rand(2, 1, 32, 32, generator=random) < 0.2).float() * 1.7
    loss, slope = gradient(kind, logits, targets, weight)
    unknown = (weight == 0).expand_as(targets)
    other = torch.where(unknown, 1 - targets.clamp(0, 1), targets)
    changed = torch.where((weight == 0).expand_as(logits), -3 * logits, logits)
    for new_logits, new_targets in ((logits, other), (changed, targets), (changed, other)):
        new_loss, new_slope = gradient(kind, new_logits, new_targets, weight)
        assert new_loss == loss
        assert torch.equal(new_slope, slope)
    assert not slope[(weight == 0).expand_as(slope)].any()
    assert slope[(weight > 0).expand_as(slope)].abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_painted_per_cent_teaches_like_the_whole(kind):
    """The gradient summed over a fair sample of 1 % is about that of all voxels, and so is the loss."""
    logits, targets = example(kind, size=1024)
    # of one value each, so that summing over voxels is comparable
    logits = torch.full_like(logits, 0.3)
    random = torch.Generator().manual_seed(2)
    few = (torch.rand(2, 1, 1024, 1024, generator=random) < 0.01).float()
    loss, slope = gradient(kind, logits, targets, torch.ones_like(few))
    loss_few, slope_few = gradient(kind, logits, targets, few)
    assert loss_few == pytest.approx(float(loss), rel=0.05)
    for channel in range(logits.shape[1]):
        total, total_few = slope[:, channel].sum(), slope_few[:, channel].sum()
        assert total_few == pytest.approx(float(total), abs=0.05 * float(slope.abs().sum()))
    assert slope_few.abs().sum() == pytest.approx(float(slope.abs().sum()), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_trusted_is_no_loss(kind):
    """Without any trusted voxel loss and gradient are 0, not NaN."""
    logits, targets = example(kind)
    loss, slope = gradient(kind, logits, targets, torch.zeros(2, 1, 32, 32))
    assert loss == 0
    assert not slope.any()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_stay_finite(kind):
    """Logits of a network that is very sure, rightly or wrongly, give finite losses and gradients."""
    logits, targets = example(kind)
    loss, slope = gradient(kind, logits.sign() * 1e4, targets, torch.ones(2, 1, 32, 32))
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_answer_costs_next_to_nothing(kind):
    """Logits that say what the targets say have a loss near 0, wrong ones a large one."""
    _, targets = example(kind)
    weight = torch.ones(2, 1, 32, 32)
    if kind == "objects":
        right = torch.cat([(targets[:, :1] - 0.5) * 40, targets[:, 1:]], 1)
    else:
        right = torch.nn.functional.one_hot(targets[:, 0].long(), 3).movedim(-1, 1) * 40.0
    assert loss_for(kind, right, targets, weight) < 1e-3
    assert loss_for(kind, -right, targets, weight) > 5


def test_weights_above_1_count_more():
    """A voxel of weight 3 counts like three voxels."""
    values = torch.tensor([[[1.0, 5.0]]])
    assert weighted_mean(values, torch.tensor([[[3.0, 1.0]]])) == 2


def test_dice_of_a_class_that_is_not_there_says_nothing():
    """A crop without the class costs no Dice, however the network answers."""
    probability = torch.full((1, 2, 8, 8), 0.9, requires_grad=True)
    truth = torch.zeros(1, 2, 8, 8)
    truth[:, 0] = 1
    dice_loss(probability, truth, torch.ones(1, 1, 8, 8)).backward()
    assert probability.grad[:, 0].any()
    assert not probability.grad[:, 1].any()


def test_dice_is_of_the_whole_batch():
    """A batch is scored as one picture: which crop an error lies in makes no difference."""
    truth = torch.zeros(2, 1, 8, 8)
    truth[0, :, :4] = 1
    wrong = truth.clone()
    wrong[0, :, 4:6] = 1
    elsewhere = truth.clone()
    elsewhere[1, :, 4:6] = 1
    weight = torch.ones(2, 1, 8, 8)
    assert dice_loss(wrong, truth, weight) == dice_loss(elsewhere, truth, weight) > 0


def test_one_logit_is_two_classes():
    """A single channel is the logit of class 1 against background: the loss is that of logits (0, it)."""
    logits, targets = example("objects", size=96)
    one, ids = logits[:, :1], targets[:, :1]
    two = torch.cat([torch.zeros_like(one), one], 1)
    weight = torch.ones(2, 1, 96, 96)
    assert class_loss(one, ids, weight) == class_loss(two, ids, weight)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(one, ids)
    dice = dice_loss(torch.softmax(two, 1), torch.cat([1 - ids, ids], 1), weight)
    assert class_loss(one, ids, weight) == pytest.approx(float(expected + dice), rel=1e-5)


def test_a_stroke_over_classes_counts_as_its_share():
    """Few voxels in a crop teach as many times less as they are fewer than enough, however many crops there are."""

    def loss(rows: int, crops: int = 1) -> float:
        logits = torch.tensor([0.3, -0.2, 0.1])[None, :, None, None].expand(crops, 3, 128, 128)
        weight = torch.zeros(crops, 1, 128, 128)
        weight[:, :, :rows, :100] = 1
        return float(class_loss(logits, torch.ones(crops, 1, 128, 128), weight))

    assert loss(50) == pytest.approx(5 * loss(10), rel=1e-3)
    assert loss(100) == pytest.approx(loss(50), rel=1e-3)
    assert loss(10, crops=4) == pytest.approx(loss(10), rel=1e-3)


def test_half_precision_logits_are_summed_in_full():
    """Logits in bfloat16 give a float32 loss close to that of the same numbers in float32."""
    logits, targets = example("objects")
    weight = torch.ones(2, 1, 32, 32)
    rough = loss_for("objects", logits.bfloat16(), targets, weight)
    assert rough.dtype == torch.float32
    assert rough == loss_for("objects", logits.bfloat16().float(), targets, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_followed_only_where_nothing_is_known(kind):
    """What it says of touched voxels counts nothing; to say the same as it costs no gradient."""
    said, _ = example(kind)
    untouched = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    untouched[..., :16] = True
    logits = said.clone().requires_grad_()
    teacher_loss(kind, logits, said, untouched).backward()
    assert logits.grad.abs().max() < 1e-6
    moved = torch.where(untouched, said, said + 3)
    assert teacher_loss(kind, moved, said, untouched) == teacher_loss(kind, said, said, untouched)
    assert teacher_loss(kind, said + torch.randn(said.shape), said, untouched) > teacher_loss(
        kind, said, said, untouched
    )
    assert teacher_loss(kind, said, said, torch.zeros_like(untouched)) == 0


def test_a_teacher_in_doubt_hardly_counts():
    """Where it might be either, nobody is held to it."""
    everywhere = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    said = torch.zeros(1, 2, 8, 8)
    said[..., :4] = 6
    logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
    teacher_loss("objects", logits, said, everywhere).backward()
    slopes = logits.grad[:, 0].abs()
    assert slopes[..., :4].min() > 1000 * slopes[..., 4:].max()
