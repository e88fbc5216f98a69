"""Thresholds of a model: how objects are built from what it gives, as the user's corrections show."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.engine.evaluate import Score, outputs_on, score_of
from napari_unet.engine.network import Outputs
from napari_unet.nets.model import Model

if TYPE_CHECKING:
    from torch import Tensor

BOUNDS = {"separation": (0.2, 0.8), "foreground": (0.3, 0.8)}
STEP = 0.1
"""By which each may move in a round: the next corrections show whether that was right."""
GAIN = 0.005
"""How much better others must score."""
SEEN = 24
"""Corrections on which they are tried, at most: the newest ones."""
HARDLY, SURELY = 0.3, 0.7
"""IoU up to which an object is not found, and from which it is: what counts is how many are, not how exactly."""
BACKGROUND = 0.25
"""How much background counts beside as many objects. Most of what is trusted of it are the rims of painted objects,
which are clear of smaller masks, whatever these are worth."""


def better_thresholds(
    model: Model, state: Mapping[str, Tensor], corrections: Sequence[Correction], left: Callable[[], float]
) -> Generator[None, None, ModelCard]:
    """Try each threshold a step lower and higher on corrections; one `next()` is one piece of work.

    Parameters
    ----------
    model : Model
        With the thresholds so far.
    state : state dict
        Of the weights that they are for.
    corrections : sequence of Correction
        All there are.
    left : callable
        The seconds that are left; when they are used up, the thresholds stay as they were.

    Returns
    -------
    ModelCard
        That of the model, with those that were found.
    """
    seen: list[tuple[Correction, Outputs]] = []
    for correction in corrections[-SEEN:]:
        seen.append((correction, outputs_on(model, state, correction)))
        yield
    first = yield from _score_of(model.card, seen)
    best, most = model.card, first
    for name, (lowest, highest) in BOUNDS.items():
        near = [round(getattr(best, name) + step, 3) for step in (-STEP, STEP)]
        changes: list[dict[str, Any]] = [{name: value} for value in near if lowest <= value <= highest]
        for card in [replace(best, **change) for change in changes]:
            if left() <= 0:
                return model.card
            score = yield from _score_of(card, seen)
            best, most = (card, score) if score > most else (best, most)
    return best if most > first + GAIN else model.card


def _score_of(card: ModelCard, seen: Sequence[tuple[Correction, Outputs]]) -> Generator[None, None, float]:
    """How many objects are found that are built with the thresholds of a card."""
    total = Score()
    for correction, outputs in seen:
        total += score_of(card, outputs, correction)
        yield
    found = np.clip((np.array(total.parts.get(1, [])) - HARDLY) / (SURELY - HARDLY), 0, 1)
    return Score({**total.parts, 1: found.tolist()}).weighted(BACKGROUND)
