"""How right a model is where the user's word is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.corrections import Correction, Labels, Mask
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.metrics import overlaps
from napari_unet.engine.network import run_network
from napari_unet.engine.sampling import network_input
from napari_unet.nets.model import Model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Sums over corrections; `mean` is what counts.

    Attributes
    ----------
    total : float
        Sum of the scores, each 0..1.
    count : int
    found : int
        Foreground voxels that were found, in all.
    """

    total: float = 0.0
    count: int = 0
    found: int = 0

    def __add__(self, other: Score) -> Score:
        """Both together."""
        return Score(self.total + other.total, self.count + other.count, self.found + other.found)

    @property
    def mean(self) -> float:
        """Mean score, 0..1; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def is_blank(self) -> bool:
        """Whether nothing at all was found."""
        return self.count > 0 and self.found == 0


def score_on(model: Model, state: Mapping[str, Tensor], correction: Correction) -> Score:
    """Score some weights on the trusted voxels of one correction.

    Parameters
    ----------
    model : Model
        Gives the network and what its output means.
    state : state dict
        The weights to try; those of `model` itself stay untouched.
    correction : Correction
    """
    x = network_input(correction, model.card.in_channels)
    outputs = run_network(model, x, correction.scale, state=state).astype(np.float32)
    if model.card.kind == "classes":
        predicted = outputs.argmax(0).astype(np.int32)
        score = class_agreement(predicted, correction.labels, correction.trusted)
    else:
        predicted = build_objects(outputs[0], outputs[1], InstanceSettings(), correction.scale)
        score = object_agreement(predicted, correction.labels, correction.trusted)
    return Score(score, 1, int((predicted > 0).sum()))


def object_agreement(predicted: Labels, labels: Labels, trusted: Mask) -> float:
    """Agreement of predicted objects with what the user set, 0..1.

    Mean over the trusted objects of their IoU with the predicted object that covers most of them,
    and, where background is trusted too, of the share of it that was left empty.

    Parameters
    ----------
    predicted, labels : (Y, X) int
    trusted : (Y, X) bool
    """
    known = np.where(trusted, labels, 0)
    ids, areas = np.unique(known[known > 0], return_counts=True)
    best = dict.fromkeys(ids.tolist(), 0.0)
    predicted_areas = np.bincount(predicted.ravel())
    area = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    for mine, their, common in zip(*(a.tolist() for a in overlaps(known, predicted)), strict=True):
        iou = common / (area[mine] + int(predicted_areas[their]) - common)
        best[mine] = max(best[mine], iou)
    parts = list(best.values())
    empty = trusted & (labels == 0)
    if empty.any():
        parts.append(float((predicted[empty] == 0).mean()))
    return float(np.mean(parts)) if parts else 1.0


def class_agreement(predicted: Labels, labels: Labels, trusted: Mask) -> float:
    """Mean Dice over the classes that are known in `labels`, on trusted voxels alone, 0..1."""
    mine, truth = predicted[trusted], labels[trusted]
    each = [
        2 * int(((mine == c) & (truth == c)).sum()) / int((mine == c).sum() + (truth == c).sum())
        for c in np.unique(truth)
    ]
    return float(np.mean(each)) if each else 1.0
