"""The learning curve of a model: a simulated annotator corrects, the model learns, both as in the app."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotator import Act, correct, faults, stroke
from napari_unet.core.corrections import Edit, Labels
from napari_unet.core.errors import ModelError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import lay_over
from napari_unet.core.metrics import class_agreement, class_scores, evaluate, mean_agreement, mean_scores
from napari_unet.core.picture import DRAWN_ENOUGH, Picture, usual_size
from napari_unet.core.sides import Sides
from napari_unet.core.sizes import usual_scale
from napari_unet.core.suggest import Doubtful, next_place, side_of_place
from napari_unet.engine.measure import Sight, measured_by
from napari_unet.engine.pool import Pool
from napari_unet.engine.segment import segment_source
from napari_unet.engine.student import FINE_TUNE, Recipe
from napari_unet.engine.train import Budget, Control, fine_tune
from napari_unet.nets.model import Model

WORST, LEFT_TO_RIGHT, SUGGESTED = ORDERS = "worst", "left-to-right", "suggested"
STROKES = 3
"""Over classes in a picture, before the annotator goes on to the next one."""
LONGEST_LOOK = 2000
"""Places that are looked at in a round, at most: where everything is right there is nothing to correct."""


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


def divided(known: Sequence[Known], share: float) -> tuple[list[Known], list[Known]]:
    """Pictures to correct, and pictures to score: spread over the list, the same for every seed.

    Parameters
    ----------
    known : sequence of Known
        Two or more.
    share : float
        Of those to score, 0..1; at least one is left for each part.
    """
    count = min(len(known) - 1, max(1, round(share * len(known))))
    scored = {round(i * len(known) / count) for i in range(count)}
    return [k for i, k in enumerate(known) if i not in scored], [k for i, k in enumerate(known) if i in scored]


def simulate(  # noqa: PLR0913 - each is one choice of an experiment
    model: Model,
    pictures: Sequence[Known],
    held_out: Sequence[Known],
    *,
    rounds: int = 10,
    corrections: int = 5,
    seconds: float | None = None,
    steps: int | None = None,
    order: str = WORST,
    anew: bool = False,
    seed: int = 0,
    recipe: Recipe | None = None,
    pool: Pool | None = None,
) -> Iterator[CurvePoint]:
    """Correct, learn and score, round by round.

    In each round the next picture is predicted and corrected, as far as the corrections reach; then the model learns
    from everything so far, and the held-out pictures are scored.

    Parameters
    ----------
    model : Model
        Changed in place. Where it finds two classes, objects are the foreground; other classes are the labels.
    pictures : sequence of Known
        For the annotator to correct.
    held_out : sequence of Known
        Only scored: their truth is seen by nobody.
    rounds, corrections : int
        Rounds, and corrections in each.
    seconds, steps : float, int, optional
        How long the model learns in each round, one of them; by default as long as a person takes for the corrections.
    order : {'worst', 'left-to-right', 'suggested'}
        Where the annotator looks: at whole pictures, the worst fault first; at one place after the other; or at the
        places that the model suggests, in any picture. Whatever is wrong there is corrected before the next place.
    anew : bool
        Begin a new training in each round, as the app does after a rest; else one training goes on.
    seed : int
    recipe : Recipe, optional
        By default `FINE_TUNE`.
    pool : Pool, optional
        Where the corrections gather, for whoever wants to see them; by default a new one.

    Yields
    ------
    CurvePoint
        The first one before any correction.

    Raises
    ------
    ModelError
        If the model is 3-D, or finds classes in an order other than the first.
    """
    if model.net.ndim != 2:
        raise ModelError("Only 2-D models can be simulated so far. Choose one with --model.")
    if model.card.kind == "classes" and order != WORST:
        raise ModelError("Strokes over classes are simulated in whole pictures alone. Leave out --order.")
    shuffled = [pictures[i] for i in np.random.default_rng(seed).permutation(len(pictures))]
    desk = _Desk(model, shuffled, order, pool)
    made, user, train = 0, 0.0, 0.0
    learning = Learning(model, desk.pool, steps, seed, recipe)
    yield CurvePoint(0, 0.0, 0.0, desk.score(held_out))
    for _ in range(rounds):
        right, acts = desk.correct(corrections)
        spent = sum(act.seconds for act in acts)
        budget = spent if seconds is None and steps is None else seconds
        before, start = model.version, time.monotonic()
        if desk.pool.can_teach:
            learning.go_on(budget)
        if anew:
            learning.rest()
        train += time.monotonic() - start
        made, user = made + len(acts), user + spent
        kinds = dict(Counter(act.kind for act in acts))
        yield CurvePoint(made, user, train, desk.score(held_out), right, kinds, model.version != before)


def teach(model: Model, pool: Pool, sides: Sides, picture: Picture, edit: Edit) -> None:
    """Take a correction as the app does: divide it, keep it, learn from it, and read the picture at its size."""
    parts = sides.divide(edit, picture.taught)
    for part in parts:
        part.apply(picture.truth, picture.taught)
    if model.card.kind == "objects":
        picture.note_sizes(edit)
        if picture.rescale(None, model.card.diameter):
            pool.rebuild({picture.key: picture})
    pool.take(picture, parts)


class Learning:
    """A training that goes on from round to round, as the one in the background of the app does.

    Parameters
    ----------
    model : Model
        Changed in place.
    pool : Pool
        Of corrections, which grows in between.
    steps : int, optional
        Of the optimiser, each time that it goes on.
    seed : int
    recipe : Recipe, optional
        By default `FINE_TUNE`.
    """

    def __init__(
        self, model: Model, pool: Pool, steps: int | None = None, seed: int = 0, recipe: Recipe | None = None
    ) -> None:
        self._model, self._pool, self._steps, self._seed = model, pool, steps, seed
        self._recipe = recipe or FINE_TUNE
        if steps is not None:  # the same rounds on any machine, however busy
            self._recipe = replace(self._recipe, round_seconds=math.inf)
        self._control, self._step = Control(), 0
        self._running: Iterator[TrainStep | WeightsChanged] | None = None

    def go_on(self, seconds: float | None = None) -> None:
        """Learn, and let the last round take over if it may; less long if there is nothing more to learn."""
        if self._running is None:
            self._step = 0
            self._running = fine_tune(
                self._model, self._pool, seed=self._seed, recipe=self._recipe, control=self._control
            )
        budget, begun = Budget(self._steps, seconds), self._step
        for event in self._running:
            if isinstance(event, WeightsChanged):
                continue
            self._step = event.step
            is_used_up = budget.used(self._step - begun) >= 1
            self._control.finish_round = is_used_up
            if is_used_up and event.kept is not None:
                self._control.finish_round = False
                return
        self.rest()

    def rest(self) -> None:
        """End the training; the next one begins with the model in use."""
        self._running = None


class _Desk:
    """What the annotator works at: the pictures in turn, and what was said of them so far."""

    def __init__(self, model: Model, known: Sequence[Known], order: str = WORST, pool: Pool | None = None) -> None:
        self.model, self.order, self.sides = model, order, Sides()
        self.pool = Pool() if pool is None else pool
        self.known = [self._as_told(picture) for picture in known]
        self._pictures: dict[int, Picture] = {}
        self._masks: dict[int, Labels] = {}
        self._doubt: dict[int, npt.NDArray[np.float16]] = {}
        self._places = self._in_turn() if order == WORST else self._from_place_to_place()

    def _as_told(self, known: Known) -> Known:
        """A picture with its truth as the model names it."""
        is_binary = self.model.card.kind == "classes" and len(self.model.card.classes) <= 2
        return replace(known, truth=(known.truth > 0).astype(np.int32)) if is_binary else known

    # --- correcting ----------------------------------------------------------

    def correct(self, count: int) -> tuple[float, list[Act]]:
        """Make some corrections; the share of objects that were right before in what was looked at, and the acts.

        Where there is no object, nothing was wrong.
        """
        acts: list[Act] = []
        right, objects = 0.0, 0
        fresh: set[int] = set()
        if self.order == SUGGESTED:
            fresh = set(range(len(self.known)))
            for index in fresh:
                self._predict(index)
        for _ in range(len(self.known) if self.order == WORST else LONGEST_LOOK):
            index, place = next(self._places)
            if index not in fresh:
                fresh.add(index)
                self._predict(index)
            share, number = self._right_in(index, place)
            right, objects = right + share * number, objects + number
            enough = min(count, len(acts) + STROKES) if self.model.card.kind == "classes" else count
            while len(acts) < enough and (act := self._act(index, place)) is not None:
                acts.append(self._take(index, act))
                if act.kind == "right":
                    break
            if len(acts) >= count:
                break
        return right / objects if objects else 1.0, acts

    def _in_turn(self) -> Iterator[tuple[int, Box | None]]:
        """Whole pictures, one after the other."""
        for index in itertools.cycle(range(len(self.known))):
            yield index, None

    def _from_place_to_place(self) -> Iterator[tuple[int, Box | None]]:
        """Places, from left to right or as suggested. One place is left when all in it is right."""
        seen: dict[int, list[Box]] = {}
        side = side_of_place(self.model.card.diameter)
        while True:
            if self.order == LEFT_TO_RIGHT:
                for index, known in enumerate(self.known):
                    height, width = known.truth.shape
                    for y, x in itertools.product(range(0, height, side), range(0, width, side)):
                        yield from self._until_right(index, Box((y, x), (y + side, x + side)).clip(known.truth.shape))
                continue
            place = next_place({index: self._doubtful(index) for index in self._pictures}, seen)
            if place is None:  # all was looked at: begin again
                seen.clear()
                yield from self._in_turn_once()
                continue
            index, box = place
            seen.setdefault(index, []).append(box)
            yield from self._until_right(index, box)

    def _in_turn_once(self) -> Iterator[tuple[int, Box | None]]:
        """Each picture once, as a whole."""
        for index in range(len(self.known)):
            yield index, None

    def _until_right(self, index: int, place: Box) -> Iterator[tuple[int, Box | None]]:
        """A place, again as long as something in it was to be mended and the corrections of a round were used up."""
        yield index, place
        while self._act(index, place) is not None:
            yield index, place

    def _doubtful(self, index: int) -> Doubtful:
        """A picture as the model sees it."""
        picture = self._pictures[index]
        return Doubtful(picture, self._doubt[index], self._masks[index], self.model.card.diameter / picture.scale)

    def _act(self, index: int, place: Box | None) -> Act | None:
        """The next correction in a picture, or in a place of it; None if nothing there is wrong."""
        known, shown = self.known[index], self._masks[index]
        if self.model.card.kind == "classes":
            return stroke(shown, known.truth, picture=known.name)
        act = correct(shown, known.truth, picture=known.name, place=place)
        return None if act.kind == "right" and place is not None else act

    def _right_in(self, index: int, place: Box | None) -> tuple[float, int]:
        """The share of true objects that are right in a place, and their number; of classes, the agreement."""
        shown, truth = self._masks[index], self.known[index].truth
        if self.model.card.kind == "classes":
            return mean_agreement(class_agreement(shown, truth, np.ones(truth.shape, bool))), 1
        numbers = np.unique(truth if place is None else truth[place.slices])
        numbers = numbers[numbers > 0]
        wrong = {number for fault in faults(shown, truth) for number in fault.true}
        return float(np.mean([n not in wrong for n in numbers.tolist()])) if numbers.size else 1.0, len(numbers)

    # --- predicting ----------------------------------------------------------

    def score(self, held_out: Sequence[Known]) -> dict[str, float]:
        """Mean scores of the model over pictures that nobody corrects, at the size that the app would read them."""
        told = [self._as_told(known) for known in held_out]
        seen = [(known, self._sight_of(known.source)) for known in told]
        masks = [self._segment(sight.of(known.source), sight.diameter) for known, sight in seen]
        pairs = [(found, known.truth) for found, known in zip(masks, told, strict=True)]
        by_class = self.model.card.kind == "classes"
        return mean_scores([evaluate(*pair) | (class_scores(*pair) if by_class else {}) for pair in pairs])

    def _sight_of(self, source: ImageSource, *, as_it_is: bool = False) -> Sight:
        """How a picture that was not corrected yet is seen best."""
        return measured_by(self.model, source, expected=usual_size(self._pictures.values()), as_it_is=as_it_is)

    def _segment(
        self, source: ImageSource, measured: float | None, doubt: npt.NDArray[np.float16] | None = None
    ) -> Labels:
        """The prediction for a picture whose objects were measured."""
        return segment_source(self.model, source, scale=usual_scale(measured, self.model.card.diameter), doubt=doubt)

    def _predict(self, index: int) -> None:
        """Bring the masks of a picture up to date as the app does: the prediction, around what the user set."""
        known = self.known[index]
        picture = self._pictures.get(index)
        if picture is None:
            shape = known.truth.shape
            truth, taught = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
            picture = self._pictures[index] = Picture(known.name, known.name, known.source, truth, taught)
            self._masks[index], self._doubt[index] = np.zeros(shape, np.int32), np.zeros(shape, np.float16)
        if len(picture.drawn) < DRAWN_ENOUGH:
            sight = self._sight_of(picture.reading, as_it_is=picture.is_inverted is not None)
            picture.note_sight(sight.diameter, sight.is_inverted)
        picture.rescale(None, self.model.card.diameter)
        labels = self._segment(picture.reading, picture.measured, self._doubt[index])
        before, whole = self._masks[index], np.ones(labels.shape, bool)
        if self.model.card.kind == "classes":
            self._masks[index] = np.where(picture.taught != 0, before, labels)
        else:
            first_free = int(before.max(initial=0)) + 1
            self._masks[index] = lay_over(before, labels, whole, first_free, protected=picture.taught != 0).labels

    def _take(self, index: int, act: Act) -> Act:
        """Take a correction as the app does: divide it, keep it, learn from it."""
        teach(self.model, self.pool, self.sides, self._pictures[index], act.edit)
        self._masks[index] = act.labels
        return act
