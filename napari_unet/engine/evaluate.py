"""How right a model is where the user's word is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.geometry import Box
from napari_unet.core.instances import build_objects, settings_for
from napari_unet.core.intensity import FloatArray
from napari_unet.core.metrics import class_agreement, object_agreement
from napari_unet.core.tiles import cover
from napari_unet.engine.network import Outputs, resize, run_network, scaled
from napari_unet.engine.sampling import network_input
from napari_unet.nets.model import Model

if TYPE_CHECKING:
    from torch import Tensor

CORE = 512
"""Longest side of what is scored of a large picture at once, in pixels of the network."""


@dataclass(frozen=True)
class Score:
    """Scores over corrections; `mean` is what counts.

    Attributes
    ----------
    parts : dict of int to list of float
        Scores 0..1 by class: of the background (0) and of objects (1), or of each class.
    found : int
        Foreground voxels that were found, in all.
    """

    parts: dict[int, list[float]] = field(default_factory=dict)
    found: int = 0

    def __add__(self, other: Score) -> Score:
        """Both together."""
        known = self.parts.keys() | other.parts.keys()
        parts = {c: [*self.parts.get(c, ()), *other.parts.get(c, ())] for c in known}
        return Score(parts, self.found + other.found)

    @property
    def mean(self) -> float:
        """Mean of all, 0..1; 0 without any. Background counts at most as much as everything else together.

        Who corrects ten places that are empty and draws two objects has not said that nothing is there.
        """
        return self.weighted(1.0)

    def weighted(self, background: float) -> float:
        """The same where background counts so much."""
        things = [score for c, scores in self.parts.items() if c for score in scores]
        empty = self.parts.get(0, [])
        if not things or not empty:
            return float(np.mean(things or empty)) if things or empty else 0.0
        return float(
            np.average(
                [np.mean(things), np.mean(empty)], weights=[len(things), background * min(len(things), len(empty))]
            )
        )

    @property
    def is_blank(self) -> bool:
        """Whether nothing at all was found though something is there."""
        return self.found == 0 and any(self.parts)


def outputs_on(model: Model, state: Mapping[str, Tensor], correction: Correction) -> Outputs:
    """What some weights give for the picture of a correction, (K, *region) float16.

    Parameters
    ----------
    model : Model
        Gives the network and what its output means.
    state : state dict
        The weights to try; those of `model` itself stay untouched.
    correction : Correction
    """
    return _outputs_of(model, state, network_input(correction, model.card.in_channels), correction.scale)


def score_of(card: ModelCard, outputs: Outputs, correction: Correction) -> Score:
    """Score what is built from outputs as a card says on the trusted voxels of one correction."""
    values = outputs.astype(np.float32)
    if card.kind == "classes":
        predicted = values.argmax(0).astype(np.int32)
        parts = class_agreement(predicted, correction.labels, correction.trusted)
    else:
        predicted = build_objects(values[0], values[1], settings_for(card), correction.scale)
        parts = object_agreement(predicted, correction.labels, correction.trusted)
    return Score(parts, int((predicted > 0).sum()))


def _outputs_of(model: Model, state: Mapping[str, Tensor], x: FloatArray, scale: float) -> Outputs:
    """The network's outputs for a picture of any size, (K, *size): in tiles they are as in one piece, and take less."""
    size, step = x.shape[1:], 2**model.net.depth
    seen, halo = scaled(size, scale), math.ceil(model.net.reach / step) * step
    if math.prod(seen) <= (CORE + 2 * halo) ** model.net.ndim:  # as much as a tile with its halo
        return run_network(model, x, scale, state=state)
    if scale != 1:
        x = resize(torch.from_numpy(x)[None], seen)[0].numpy()
    outputs = np.zeros((model.net.settings["out_channels"], *seen), np.float16)
    for tile in cover(Box.whole(seen), core=CORE, halo=halo, mirror=0, step=step, ndim=model.net.ndim).tiles():
        part = run_network(model, x[:, *tile.window.slices], state=state)
        outputs[:, *tile.core.slices] = part[:, *tile.core.within(tile.window).slices]
    return resize(torch.from_numpy(outputs).float()[None], size)[0].half().numpy() if scale != 1 else outputs
