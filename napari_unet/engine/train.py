"""Learning: from corrections in the background (`fine_tune`), and from whole pictures (`train`).

Both are iterators: one `next()` is one short piece of work, and whoever pulls decides when, how
fast and for how long. Both train a copy (`Student`); the model itself changes only between two
pieces, when the copy's averaged weights take over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from numbers import Integral, Real
from typing import TYPE_CHECKING

import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError, check_type
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.engine.click_rounds import ClickRounds
from napari_unet.engine.evaluate import Score
from napari_unet.engine.oriented import Oriented
from napari_unet.engine.rehearsal import rehearsal_of
from napari_unet.engine.sampling import split
from napari_unet.engine.student import FINE_TUNE, Recipe, Student
from napari_unet.engine.teacher import Teacher
from napari_unet.engine.trial import Trial
from napari_unet.nets.model import A_MODEL, Model
from napari_unet.nets.weights import all_finite, rounded

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = 2**31
RESERVE = 5.0
"""Seconds of a budget that are kept for judging the first round, at most; after it, as many as that took."""

LOOKING = 0.25
"""Share of a budget that may be spent on finding out how the model sees the pictures best."""

NOT_FOUND = "The new weights find hardly anything of what was corrected so far; the old ones stay."
SCARCELY = 0.05
"""Score of objects below which not worse is not enough for a model that has something to lose: where nothing is found,
nothing can get worse, and what was drawn may be anything."""
SOME_CORRECTIONS = "Give corrections: [Correction(image, labels, trusted), ...]."
NO_OBJECTS = "Only background was corrected so far; the old weights stay. Draw an object, or click one."


@dataclass
class Control:
    """What may be asked of a running `fine_tune` from outside.

    Attributes
    ----------
    finish_round : bool
        End the round now, and let it take over if it may.
    """

    finish_round: bool = False


@dataclass
class Budget:
    """How long to train: steps, seconds, or until nothing more is learnt.

    Attributes
    ----------
    steps, seconds : int, float or None
    reserve : float
        Seconds of them that are kept for what follows the last step.
    """

    steps: int | None
    seconds: float | None
    reserve: float = 0.0
    start: float = field(init=False)

    def __post_init__(self) -> None:
        """Time runs from now."""
        self.start = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether there is none."""
        return self.steps is None and self.seconds is None

    @property
    def is_of_steps(self) -> bool:
        """Whether no clock ends it."""
        return self.steps is not None and self.seconds is None

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds until the time is up; for ever if no clock ends it."""
        return math.inf if self.seconds is None else self.seconds - self.elapsed

    def used(self, step: int) -> float:
        """Share of the budget that is used up; 0 for ever if there is none."""
        return max(_share(step, self.steps), _share(self.elapsed + self.reserve, self.seconds))


def _share(used: float, budget: float | None) -> float:
    """`used / budget`; 0 without a budget, 1 of none at all."""
    if budget is None:
        return 0.0
    return used / budget if budget > 0 else 1.0


def fine_tune(
    model: Model,
    corrections: Iterable[Correction],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    control: Control | None = None,
) -> Iterator[TrainStep | WeightsChanged]:
    """Learn from corrections, round by round; the model is updated only if that makes it not worse.

    Parameters
    ----------
    model : Model
        Changed in place by `replace_weights` at the end of a round that is kept.
    corrections : iterable of Correction
        A sequence may grow while the training runs: new ones join at the next piece of work.
    steps, seconds : int, float, optional
        When to end; 0 of either: nothing is learnt. Seconds count from this call, and new weights are judged within
        them, too; only one step and what judges it may take a little longer. With neither, it ends after some rounds
        without anything new or better. With `steps` alone, rounds end by them too, so that a seed gives the same
        weights however busy the computer is.
    seed : int
    recipe : Recipe, optional
        By default `FINE_TUNE`.
    control : Control, optional

    Yields
    ------
    TrainStep
        After each piece of work: about 0.1 s on two CPU cores, longer where a region of 1000 x 1000 and more is scored.
    WeightsChanged
        When a round's weights have taken over.

    Raises
    ------
    ModelError
        If there is nothing to learn from, the model or a correction is 3-D, or the seed, steps or seconds are none.
    TypeError
        If an argument is of another kind.
    """
    check_type(model, Model, A_MODEL)
    check_type(corrections, Iterable, SOME_CORRECTIONS)
    corrections = corrections if isinstance(corrections, Sequence) else list(corrections)
    for correction in corrections:
        check_type(correction, Correction, SOME_CORRECTIONS)
    for budget in (steps, seconds):
        check_type(budget, Real | None, "Give steps and seconds as numbers, or leave them out.")
        if budget is not None and not budget >= 0:
            raise ModelError(f"Nothing can be learnt in {budget} steps or seconds. Give a number above 0.")
    check_type(seed, Integral, f"Give a whole number from 0 to {SEEDS - 1} as the seed.")
    if model.net.ndim != 2:
        raise ModelError("Only 2-D models learn from corrections so far. Choose a 2-D model.")
    if any(correction.labels.ndim != 2 for correction in corrections):
        raise ModelError("A 2-D model learns from planes. Give each slice of a stack as a correction of its own.")
    if not 0 <= seed < SEEDS:
        raise ModelError(f"{seed} is no seed. Give a whole number from 0 to {SEEDS - 1}.")
    if not split(list(corrections))[0]:
        raise ModelError("There is no correction to learn from yet. Correct an object, then train.")
    if 0 in (steps, seconds):
        return iter(())
    recipe = recipe or FINE_TUNE
    if model.device.type == "cuda":  # a step is no longer there than a piece of work is elsewhere
        recipe = replace(recipe, micro=recipe.micro * recipe.batch, batch=1)
    seed = int(seed)  # torch takes none of numpy
    # the clock runs from here: to look at a model and its rehearsal takes a part of a second
    limit = Budget(steps, seconds, 0.0 if seconds is None else min(RESERVE, seconds / 4))
    with _gradients():
        student = Student(model, recipe, seed, rehearsal_of(model))
        heads = ClickRounds(model, seed, student.rehearsal) if model.click is not None else None
    return _in_pieces(_rounds(model, Oriented(model, corrections), limit, student, control or Control(), heads))


@contextmanager
def _gradients() -> Iterator[None]:
    """Have torch keep what gradients are computed from, whatever the caller has told it."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def _in_pieces(rounds: Iterator[TrainStep | WeightsChanged]) -> Iterator[TrainStep | WeightsChanged]:
    """Go through rounds; between two pieces of work torch is as the caller has set it."""
    while True:
        with _gradients():
            event = next(rounds, None)
        if event is None:
            return
        yield event


def _rounds(
    model: Model,
    corrections: Oriented,
    budget: Budget,
    student: Student,
    control: Control,
    heads: ClickRounds | None,
) -> Iterator[TrainStep | WeightsChanged]:
    """The training behind `fine_tune`, as one text from top to bottom."""
    recipe, trial = student.recipe, Trial(model)
    yield from _looked_at(corrections, budget)
    patience, known, refused = float(recipe.patience), list(corrections), 0.0
    for number in count(1):
        begun, last = student.step, TrainStep(student.step, number, 0.0, math.nan)
        for step in _one_round(model, student, corrections, number, budget, control):
            last = step
            yield step
        control.finish_round, learnt, now = False, budget.elapsed, list(corrections)
        part = (student.step - begun) / recipe.round_steps  # of a round: a slow computer, or a user, ends it early
        taught, held_out = split(now)
        if not taught:  # all of it was undone
            return
        student.examples.keep_only([*now, *student.rehearsal])
        told = student.examples.told(now)
        candidate = rounded(student.offered(told))
        for _ in trial.run(candidate, now, told, student.teacher.knew_it, budget.left):
            yield replace(last, progress=1.0)
        before, after = trial.before, trial.after

        # many rounds, each a little worse, must not add up to more than one may be; nor many trainings
        would_lose = max(0.0, model.lost + before.mean - after.mean)
        is_broken = 4 * student.skipped > student.step - begun or not all_finite(candidate)
        reason = "" if _shows_objects(student, now) else NO_OBJECTS
        reason = reason or _why_not(student, before, after, is_broken=is_broken, lost=would_lose)
        seen = model.net.state_dict() if reason else candidate
        for _ in heads.round(seen, taught, trial.scored, budget.left) if heads else ():
            yield replace(last, progress=1.0)
        won = heads.won if heads else {}
        if not reason:
            model.lost, refused = would_lose, 0.0
            trial.take_over()
            _take_over(model, {**candidate, **won}, trial.card, taught, student.teacher)
            yield replace(last, progress=1.0, kept=True, score=after.mean)
            yield WeightsChanged(model.version, before.mean, after.mean, len(held_out), len(taught))
        else:
            model.replace_weights(won, version=model.version)  # the masks stay as they are
            yield replace(last, progress=1.0, kept=False, score=after.mean, reason=reason)
            refused += part if reason != NOT_FOUND else 0.0  # what is hard takes a while
            if is_broken or refused > recipe.endurance:
                student, refused = _start_again(model, student), 0.0

        is_better = after.mean > before.mean + recipe.tolerance
        patience = recipe.patience if is_better or not _same(now, known) else patience - part
        known, budget.reserve = now, budget.elapsed - learnt
        if budget.used(student.step) >= 1 or (budget.is_open and patience <= 0):
            return


def _looked_at(corrections: Oriented, budget: Budget) -> Iterator[TrainStep]:
    """Find out how the model sees the pictures best, unless that takes too much of the budget."""
    for _ in corrections.look():
        yield TrainStep(0, 1, 0.0, math.nan)
        if budget.used(0) > LOOKING:
            return


def _take_over(
    model: Model, weights: Mapping[str, Tensor], card: ModelCard, taught: Sequence[Correction], teacher: Teacher
) -> None:
    """Have a model use new weights with their thresholds, and see pictures as most of those that taught them."""
    model.replace_weights(weights)
    inverted = [c.limits is not None and c.limits.low[0] > c.limits.high[0] for c in taught]
    parent = card.parent if model.origin else teacher.first.sha256()
    model.card = replace(card, is_inverted=sum(inverted) > len(inverted) / 2, parent=parent)
    model.origin, model.strayed = teacher.first, model.strayed or teacher.meets_news


def _same(now: Sequence[Correction], known: Sequence[Correction]) -> bool:
    """Whether there is nothing new."""
    return len(now) == len(known) and all(a is b for a, b in zip(now, known, strict=True))


def _one_round(
    model: Model,
    student: Student,
    corrections: Sequence[Correction],
    number: int,
    budget: Budget,
    control: Control,
) -> Iterator[TrainStep]:
    """The steps of one round, one piece of work at a time."""
    recipe = student.recipe
    student.skipped, loss = 0, math.nan
    for _ in student.heed(model, list(corrections)):
        yield TrainStep(student.step, number, 0.0, loss)
    # who counts steps gets the same rounds on any machine, however busy
    end = math.inf if budget.is_of_steps else time.monotonic() + recipe.round_seconds
    for index in range(recipe.round_steps * recipe.batch):
        now = list(corrections)
        taught, _ = split(now)
        if not taught:
            return
        student.prepare(taught)
        yield TrainStep(student.step, number, min(index / (recipe.round_steps * recipe.batch), 0.99), loss)
        student.learn()
        skipped = False
        if index % recipe.batch == recipe.batch - 1:
            loss = student.advance(student.rate(student.examples.told(now)))
            skipped = math.isnan(loss)
        done = (index + 1) / (recipe.round_steps * recipe.batch)
        yield TrainStep(student.step, number, min(done, 0.99), loss, skipped)
        ends = control.finish_round or time.monotonic() > end or budget.used(student.step) >= 1
        if ends and index % recipe.batch == recipe.batch - 1:
            return


def _shows_objects(student: Student, corrections: Sequence[Correction]) -> bool:
    """Whether there is an object among the corrections: a model told of background alone soon finds nothing at all."""
    return student.kind != "objects" or any(student.examples.has(c, on_object=True) for c in corrections)


def _why_not(student: Student, before: Score, after: Score, *, is_broken: bool, lost: float) -> str:
    """Why a round must not take over; '' if it may."""
    if is_broken:
        return "The training met values that are not numbers; the old weights stay."
    if after.is_blank and not before.is_blank:
        return "The new weights found nothing any more; the old ones stay."
    found, least, tolerance = after.weighted(0.0), before.weighted(0.0), student.recipe.tolerance
    if student.rehearsal and found < SCARCELY and found <= least + tolerance:
        return NOT_FOUND
    if lost > tolerance:
        return f"The new weights scored {after.mean:.2f} instead of {before.mean:.2f}; the old ones stay."
    return ""


def _start_again(model: Model, failed: Student) -> Student:
    """A fresh student after a round that was not kept, with other crops and smaller steps."""
    recipe = replace(failed.recipe, learning_rate=failed.recipe.learning_rate / 2)
    student = Student(model, recipe, (failed.seed + failed.step + 1) % SEEDS, failed.rehearsal)
    student.go_on_from(failed)
    return student


def train(
    student: Student,
    corrections: Sequence[Correction],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    used: float = 0.0,
) -> Iterator[TrainStep]:
    """Learn from whole labelled pictures; the caller takes `student.average` at the end.

    The learning rate falls to zero along a cosine over the budget.

    Parameters
    ----------
    student : Student
        Fresh, or restored to go on.
    corrections : sequence of Correction
    steps, seconds : int, float
        The whole budget; one of them.
    used : float
        Share of `seconds` that an earlier run has used up already.

    Yields
    ------
    TrainStep
        After each step of the optimiser; `progress` is the share of the budget used up.
    """
    recipe = student.recipe
    budget = Budget(steps, seconds and seconds * (1 - used))
    while (part := student.ranks.agreed(budget.used(student.step))) < 1:
        progress = used + (1 - used) * part if seconds else part
        for _ in range(recipe.batch):
            student.study(corrections)
        loss = student.advance(recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress)))
        yield TrainStep(student.step, 1, progress, loss, math.isnan(loss))
