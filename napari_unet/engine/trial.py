"""Trial: new weights beside those in use, on what the user said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from napari_unet.core.corrections import Correction
from napari_unet.engine.evaluate import Score, outputs_on, score_of
from napari_unet.engine.sampling import split
from napari_unet.engine.thresholds import better_thresholds
from napari_unet.nets.model import Model

if TYPE_CHECKING:
    from torch import Tensor

SCORED_AT_MOST = 24
JURY = 8
"""Corrections that decide about new weights; where fewer are held out, some that were learnt decide with them: one
held-out place without objects would welcome weights that find none anywhere."""
ENOUGH = 30
"""Corrected objects from which on thresholds are sought; the first are the worst places, and lean to one side."""


class Trial:
    """Tries weights beside those in use, which are scored once.

    Parameters
    ----------
    model : Model
        With the weights and thresholds in use.

    Attributes
    ----------
    scored : list of Correction
        Those that decide.
    before, after : Score
        Of what is in use, and of the new weights.
    card : ModelCard
        With the thresholds with which the new weights were scored.
    """

    def __init__(self, model: Model) -> None:
        self._model, self.card = model, model.card
        self.scored: list[Correction] = []
        self.before, self.after = Score(), Score()
        self._known: dict[int, tuple[Correction, Score]] = {}  # the correction is kept, so that its id stays its own
        self._scores: list[Score] = []

    def run(
        self,
        state: Mapping[str, Tensor],
        corrections: Sequence[Correction],
        told: int,
        knew_it: bool,
        left: Callable[[], float],
    ) -> Iterator[None]:
        """Score other weights, with thresholds of their own where these do no harm; one `next()` is a piece of work.

        Parameters
        ----------
        state : state dict
        corrections : sequence of Correction
            All there are.
        told : int
            How many objects they tell of.
        knew_it : bool
            Whether the model knew what it sees before it learnt: then it has learnt with its thresholds, and they stay.
        left : callable
            The seconds that are left for it.
        """
        model, cards, tried = self._model, [self._model.card], list[list[Score]]()
        self.scored = _jury(*split(corrections))
        if model.card.kind == "objects" and told >= ENOUGH and not knew_it:
            card = yield from better_thresholds(model, state, corrections, left)
            cards = [card, *cards] if card != model.card else cards
        for correction in self.scored:
            if id(correction) not in self._known:
                outputs = outputs_on(model, model.net.state_dict(), correction)
                self._known[id(correction)] = correction, score_of(model.card, outputs, correction)
                yield
            outputs = outputs_on(model, state, correction)
            tried.append([score_of(card, outputs, correction) for card in cards])
            yield
        self._known = {id(c): self._known[id(c)] for c in self.scored}
        self.before = sum((self._known[id(c)][1] for c in self.scored), Score())
        sums = [sum(scores, Score()) for scores in zip(*tried, strict=True)]
        best = 0 if sums[0].mean >= self.before.mean else -1
        self.card, self.after, self._scores = cards[best], sums[best], [scores[best] for scores in tried]

    def take_over(self) -> None:
        """What was tried is in use from now on, and need not be scored again."""
        self._known = {id(c): (c, score) for c, score in zip(self.scored, self._scores, strict=True)}


def _jury(taught: Sequence[Correction], held_out: Sequence[Correction]) -> list[Correction]:
    """On what old and new weights are compared: the newest that were held out, and taught ones if those are few."""
    missing = min(max(0, JURY - len(held_out)), len(taught))
    return [*taught[len(taught) - missing :], *held_out[-SCORED_AT_MOST:]]
