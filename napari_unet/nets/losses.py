"""Losses over trusted voxels alone, normalised over them.

An untrusted voxel has weight 0 and neither adds to a sum nor to what the sum is divided by: one
painted per cent gives the same gradient as a whole picture of which it is a fair sample. A stroke of
the brush is no fair sample, for it lies over a mistake: so of classes a few voxels count less than many.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DISTANCE_WEIGHT = 2.0
ENOUGH_OF_CLASSES = 5000
"""Trusted voxels of classes in a crop that count in full; fewer of them count as their share."""
EPSILON = 1e-6


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` where `weight` says so; 0 if nothing is trusted. Any shapes that broadcast."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(EPSILON)


def dice_loss(probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice over trusted voxels, of the whole batch in one.

    One sum over the batch: a crop of background alone then costs what it adds, not all or nothing.

    Parameters
    ----------
    probability, truth : (B, K, ...) in 0..1
    weight : (B, 1, ...)

    References
    ----------
    Milletari et al., "V-Net", arXiv 1606.04797.
    """
    trusted = (weight > 0).float()
    over = [0, *range(2, probability.ndim)]
    both = (probability * truth * trusted).sum(over)
    either = ((probability + truth) * trusted).sum(over)
    present = (truth * trusted).sum(over) > 0
    dice = (2 * both + 1) / (either + 1)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def against_background(logits: Tensor) -> Tensor:
    """Two logits where there is one: a sigmoid is the soft-max of a logit and 0. (B, K, ...) to (B, 2 or K, ...)."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def object_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and Dice of the foreground, and the error of the distance.

    Parameters
    ----------
    logits : (B, 2, ...)
        Foreground logit, distance.
    targets : (B, 2, ...)
        Foreground 0..1, distance 0..1.
    weight : (B, 1, ...)
        0 where nothing is known.
    """
    truth, distance = targets[:, :1], targets[:, 1:]
    entropy = F.binary_cross_entropy_with_logits(logits[:, :1], truth, reduction="none")
    error = F.smooth_l1_loss(logits[:, 1:], distance, beta=0.1, reduction="none")
    return (
        weighted_mean(entropy, weight)
        + dice_loss(torch.sigmoid(logits[:, :1]), truth, weight)
        + DISTANCE_WEIGHT * weighted_mean(error, weight)
    )


def class_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and Dice of exclusive classes, less of them where little is trusted.

    Parameters
    ----------
    logits : (B, K, ...)
        With K = 1, of class 1 against class 0.
    targets : (B, 1, ...)
        Class ids.
    weight : (B, 1, ...)
    """
    logits = against_background(logits)
    ids = targets[:, 0].long()
    entropy = F.cross_entropy(logits, ids, reduction="none")[:, None]
    truth = F.one_hot(ids, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    share = ((weight > 0).sum() / (ENOUGH_OF_CLASSES * len(weight))).clamp(max=1)
    return share * (weighted_mean(entropy, weight) + dice_loss(torch.softmax(logits, 1), truth, weight))


def loss_for(kind: str, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """The loss of a model of `objects` or of `classes`, in float32."""
    compute = object_loss if kind == "objects" else class_loss
    return compute(logits.float(), targets, weight)


def teacher_loss(kind: str, logits: Tensor, said: Tensor, untouched: Tensor) -> Tensor:
    """How far a network has moved from what another one said, where nothing else is known.

    What the other one is sure of counts most. A user corrects few objects and says next to nothing of the ground
    between the others; without this the foreground floods it.

    Parameters
    ----------
    kind : {'objects', 'classes'}
    logits, said : (B, K, ...)
        Of the network that learns, and of its teacher.
    untouched : (B, 1, ...) bool
    """
    logits, said = logits.float(), said.float()
    if kind == "classes":
        logits, said = against_background(logits), against_background(said)
        wanted = torch.softmax(said, 1)
        entropy = -(wanted * torch.log_softmax(logits, 1)).sum(1, keepdim=True)
        return weighted_mean(entropy, untouched * wanted.amax(1, keepdim=True))
    wanted = torch.sigmoid(said[:, :1])
    weight = untouched * (2 * wanted - 1).abs()
    entropy = F.binary_cross_entropy_with_logits(logits[:, :1], wanted, reduction="none")
    error = F.smooth_l1_loss(logits[:, 1:], said[:, 1:], beta=0.1, reduction="none")
    return weighted_mean(entropy, weight) + DISTANCE_WEIGHT * weighted_mean(error, weight)
