"""The click head's part in `fine_tune`: it learns from the same corrections, and takes over if it is not worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.corrections import Correction
from napari_unet.engine.click_student import ClickStudent
from napari_unet.nets.model import CLICK, Model
from napari_unet.nets.weights import all_finite, rounded

if TYPE_CHECKING:
    from torch import Tensor

STEPS, PIECES = 8, 4
"""Steps of the optimiser in a round, and pieces of work in each."""
LEARNING_RATE = 3e-4


class ClickRounds:
    """A click head that learns while the network it reads learns, too.

    Parameters
    ----------
    model : Model
        With a click head.
    seed : int
    rehearsal : sequence of Correction
        What must not be forgotten: all pieces of a step but the first are of it, for a few objects are soon learnt by
        heart, and clicks on others suffer (docs/experiments.md).

    Attributes
    ----------
    won : dict of str to Tensor
        After a round: the head's new weights, as `Model.replace_weights` takes them; empty if the old ones stay.
    """

    def __init__(self, model: Model, seed: int, rehearsal: Sequence[Correction]) -> None:
        self.model, self.rehearsal = model, rehearsal
        self.student = ClickStudent(model, seed, crops=1, train_norm=False)
        self.won: dict[str, Tensor] = {}

    def round(
        self,
        weights: Mapping[str, Tensor],
        taught: Sequence[Correction],
        jury: Sequence[Correction],
        seconds_left: Callable[[], float] = lambda: math.inf,
    ) -> Iterator[None]:
        """Learn from corrections and compare, one piece of work at a time.

        Parameters
        ----------
        weights : state dict
            Of the network that is in use when the round ends.
        taught, jury : sequence of Correction
            To learn from, and to compare the old head and the new one on.
        seconds_left : callable
            Until it should be through; no step is begun after which there would be no time to compare.
        """
        student, self.won = self.student, {}
        old = self.model.click
        if old is None:
            return
        student.look_through(weights)
        student.keep_only([*taught, *jury, *self.rehearsal])
        first = student.step
        yield from self._learn(taught, len(jury), seconds_left)
        if student.step == first:
            return
        candidate = rounded(student.average)
        if not all_finite(candidate):
            return
        new = self.model.copy().click
        if new is None:
            return
        new.load_state_dict(candidate)
        before, after = list[float](), list[float]()
        for correction in jury:
            for all_scores, scores in zip((before, after), student.scores((old, new), correction), strict=True):
                all_scores += scores
            yield
        if before and np.mean(after) >= np.mean(before):
            self.won = {CLICK + name: value for name, value in candidate.items()}

    def _learn(self, taught: Sequence[Correction], judges: int, seconds_left: Callable[[], float]) -> Iterator[None]:
        """The steps of a round, one piece of work at a time."""
        student, lasts = self.student, 0.0
        for _ in range(STEPS):
            begun = seconds_left()
            if begun <= lasts * (PIECES + judges):
                return
            for piece in range(PIECES):
                student.study(self.rehearsal if self.rehearsal and piece else taught)
                yield
            student.advance(LEARNING_RATE)
            lasts = (begun - seconds_left()) / PIECES  # NaN where no clock ends it, and nothing is as long as that
