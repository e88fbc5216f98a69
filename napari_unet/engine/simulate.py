"""The learning curve of a model: a simulated annotator corrects, the model learns, both as in the app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_unet.core.annotator import Act, correct, faults
from napari_unet.core.corrections import Labels
from napari_unet.core.errors import ModelError
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import lay_over
from napari_unet.core.metrics import evaluate, mean_scores
from napari_unet.core.picture import DRAWN_ENOUGH, Picture, usual_size
from napari_unet.core.sides import Sides
from napari_unet.core.sizes import usual_scale
from napari_unet.engine.measure import measured_by
from napari_unet.engine.pool import Pool
from napari_unet.engine.predict import segment_source
from napari_unet.engine.train import fine_tune
from napari_unet.nets.model import Model


@dataclass(frozen=True)
class Known:
    """A picture whose right labels are known to the annotator, and to nobody else.

    Attributes
    ----------
    name : str
    source : ImageSource
        One plane.
    truth : (Y, X) int
    """

    name: str
    source: ImageSource
    truth: Labels


@dataclass(frozen=True)
class CurvePoint:
    """What the model is worth after some corrections.

    Attributes
    ----------
    corrections : int
        Made so far.
    user_seconds, train_seconds : float
        What they took a person, and what learning took, so far.
    scores : dict of str to float
        Mean of `evaluate` over the held-out pictures.
    right : float
        Share of the true objects that were right in the pictures of this round before anything was touched.
    acts : dict of str to int
        What was corrected in this round, by kind.
    took_over : bool
        Whether new weights took over in this round.
    """

    corrections: int
    user_seconds: float
    train_seconds: float
    scores: dict[str, float]
    right: float = 0.0
    acts: dict[str, int] = field(default_factory=dict)
    took_over: bool = False


def simulate(
    model: Model,
    pictures: Sequence[Known],
    held_out: Sequence[Known],
    *,
    rounds: int = 10,
    corrections: int = 5,
    seconds: float | None = None,
    seed: int = 0,
) -> Iterator[CurvePoint]:
    """Correct, learn and score, round by round.

    In each round the next picture is predicted and corrected, the largest fault first, as far as the corrections
    reach; then the model learns from everything so far, and the held-out pictures are scored.

    Parameters
    ----------
    model : Model
        Of objects; changed in place.
    pictures : sequence of Known
        For the annotator to correct.
    held_out : sequence of Known
        Only scored: their truth is seen by nobody.
    rounds, corrections : int
        Rounds, and corrections in each.
    seconds : float, optional
        How long the model learns in each round; by default as long as a person takes for the corrections.
    seed : int

    Yields
    ------
    CurvePoint
        The first one before any correction.

    Raises
    ------
    ModelError
        If the model finds classes: its masks have no objects to correct.
    """
    if model.card.kind != "objects" or model.net.ndim != 2:
        raise ModelError("Only 2-D models of objects can be simulated so far. Choose one with --model.")
    desk = _Desk(model, [pictures[i] for i in np.random.default_rng(seed).permutation(len(pictures))])
    made, user, train = 0, 0.0, 0.0
    yield CurvePoint(0, 0.0, 0.0, desk.score(held_out))
    for number in range(rounds):
        right, acts = desk.correct(corrections)
        spent = sum(act.seconds for act in acts)
        budget = seconds if seconds is not None else spent
        before = model.version
        if desk.pool.can_teach:
            for _ in fine_tune(model, desk.pool, seconds=budget, seed=seed + number):
                pass
            train += budget
        made, user = made + len(acts), user + spent
        kinds = dict(Counter(act.kind for act in acts))
        yield CurvePoint(made, user, train, desk.score(held_out), right, kinds, model.version != before)


class _Desk:
    """What the annotator works at: the pictures in turn, and what was said of them so far."""

    def __init__(self, model: Model, known: Sequence[Known]) -> None:
        self.model, self.known, self.pool, self.sides = model, known, Pool(), Sides()
        self._pictures: dict[int, Picture] = {}
        self._masks: dict[int, Labels] = {}
        self._next = 0

    def correct(self, count: int) -> tuple[float, list[Act]]:
        """Correct the next pictures; the share of objects that were right before, and what was done."""
        acts: list[Act] = []
        right, objects = 0, 0
        for _ in range(len(self.known)):
            index, self._next = self._next, (self._next + 1) % len(self.known)
            known, shown = self.known[index], self._predict(index)
            wrong = {number for fault in faults(shown, known.truth) for number in fault.true}
            numbers = np.unique(known.truth[known.truth > 0])
            right, objects = right + len(numbers) - len(wrong), objects + len(numbers)
            while len(acts) < count:
                acts.append(self._take(index, correct(self._masks[index], known.truth, picture=known.name)))
                if acts[-1].kind == "right":
                    break
            if len(acts) == count:
                break
        return right / max(1, objects), acts

    def score(self, held_out: Sequence[Known]) -> dict[str, float]:
        """Mean scores of the model over pictures that nobody corrects, at the size that the app would read them."""
        return mean_scores([evaluate(self._segment(known, self._measure(known)), known.truth) for known in held_out])

    def _measure(self, known: Known) -> float | None:
        """The size of the objects in a picture that was not corrected yet."""
        return measured_by(self.model, known.source, expected=usual_size(self._pictures.values()))

    def _segment(self, known: Known, measured: float | None) -> Labels:
        """The prediction for a picture whose objects were measured."""
        diameter = self.model.card.diameter
        return segment_source(self.model, known.source, diameter=diameter / usual_scale(measured, diameter))

    def _predict(self, index: int) -> Labels:
        """The masks of a picture as the app shows them: the prediction, around what the user set."""
        known = self.known[index]
        picture = self._pictures.get(index)
        if picture is None:
            shape = known.truth.shape
            truth, taught = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
            picture = self._pictures[index] = Picture(known.name, known.name, known.source, truth, taught)
            self._masks[index] = np.zeros(shape, np.int32)
        if len(picture.drawn) < DRAWN_ENOUGH:
            picture.measured = self._measure(known)
        picture.rescale(None, self.model.card.diameter)
        labels = self._segment(known, picture.measured)
        before, whole = self._masks[index], np.ones(labels.shape, bool)
        laid = lay_over(before, labels, whole, int(before.max(initial=0)) + 1, protected=picture.taught != 0)
        self._masks[index] = laid.labels
        return self._masks[index]

    def _take(self, index: int, act: Act) -> Act:
        """Take a correction as the app does: divide it, keep it, learn from it."""
        picture = self._pictures[index]
        parts = self.sides.divide(act.edit, picture.taught)
        for part in parts:
            part.apply(picture.truth, picture.taught)
        picture.note_sizes(act.edit)
        if picture.rescale(None, self.model.card.diameter):
            self.pool.rebuild({picture.key: picture})
        self.pool.take(picture, parts)
        self._masks[index] = act.labels
        return act
