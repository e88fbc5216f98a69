"""How right a model is where the user's word is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.corrections import Correction
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.metrics import class_agreement, object_agreement
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
