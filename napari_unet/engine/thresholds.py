"""Thresholds of a model: how objects are built from what it gives, as the user's corrections show."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.engine.evaluate import Score, outputs_on, score_of
from napari_unet.engine.network import Outputs
from napari_unet.nets.model import Model

if TYPE_CHECKING:
    from torch import Tensor

TRIED = {"separation": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), "foreground": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}
GAIN = 0.005
"""How much better others must score."""
SEEN = 24
"""Corrections on which they are tried, at most: the newest ones."""
BACKGROUND = 0.25
"""How much background counts beside as many objects. Most of what is trusted of it are the rims of painted objects,
which are clear of smaller masks, whatever these are worth."""


class Thresholds:
    """Finds the thresholds with which some weights agree best with the user.

    Parameters
    ----------
    card : ModelCard
        With those so far.

    Attributes
    ----------
    card : ModelCard
        The same, with those that were found.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def find(
        self, model: Model, state: Mapping[str, Tensor], corrections: Sequence[Correction], left: Callable[[], float]
    ) -> Iterator[None]:
        """Try one threshold after the other on corrections; one `next()` is one piece of work.

        Parameters
        ----------
        model : Model
        state : state dict
            Of the weights.
        corrections : sequence of Correction
            All there are.
        left : callable
            The seconds that are left; when they are used up, the thresholds stay as they were.
        """
        seen: list[tuple[Correction, Outputs]] = []
        for correction in corrections[-SEEN:]:
            seen.append((correction, outputs_on(model, state, correction)))
            yield
        first = yield from _score_of(self.card, seen)
        best, most = self.card, first
        for name, values in TRIED.items():
            changes: list[dict[str, Any]] = [{name: value} for value in values if value != getattr(best, name)]
            for card in [replace(best, **change) for change in changes]:
                if left() <= 0:
                    return
                score = yield from _score_of(card, seen)
                best, most = (card, score) if score > most else (best, most)
        if most > first + GAIN:
            self.card = best


def _score_of(card: ModelCard, seen: Sequence[tuple[Correction, Outputs]]) -> Generator[None, None, float]:
    """How right the objects are that are built with the thresholds of a card."""
    total = Score()
    for correction, outputs in seen:
        total += score_of(card, outputs, correction)
        yield
    return total.weighted(BACKGROUND)
