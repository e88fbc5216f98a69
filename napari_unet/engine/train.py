"""Learning: from corrections in the background (`fine_tune`), and from whole pictures (`train`).

Both are iterators: one `next()` is one short piece of work, and whoever pulls decides when, how
fast and for how long. Both train a copy (`Student`); the model itself changes only between two
pieces, when the copy's averaged weights take over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.engine.adamw import AdamW
from napari_unet.engine.augment import Augmentation, Example
from napari_unet.engine.device import Backend, backend_for
from napari_unet.engine.evaluate import Score, score_on
from napari_unet.engine.sampling import ExampleCache, collate, draw_crop, split
from napari_unet.nets.losses import loss_for
from napari_unet.nets.model import Model, all_finite, rounded

SCORED_AT_MOST = 24
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Recipe:
    """How a student learns.

    Attributes
    ----------
    crop : int
        Side of the crops, in pixels.
    micro, batch : int
        Crops a piece of work, and pieces a step of the optimiser.
    learning_rate, weight_decay : float
        Of AdamW.
    averaging : float
        Share of the old averaged weights that each step keeps.
    round_steps, round_seconds : int, float
        Steps of the optimiser between two take-overs, and how long they may last.
    patience : int
        Rounds without anything new or better before the training rests.
    endurance : int
        Rounds in a row that may be refused before the student begins again from the model in use: what is quite
        new gets worse before it gets better.
    tolerance : float
        How much lower than the old score still counts as "not worse".
    train_norm : bool
        Let BatchNorm learn its statistics: only for large mixed sets.
    border_weight : float
        The paper's w0, for the background between close objects.
    augmentation : Augmentation
    """

    crop: int = 192
    micro: int = 1
    batch: int = 4
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    averaging: float = 0.9
    round_steps: int = 24
    round_seconds: float = 12.0
    patience: int = 6
    endurance: int = 4
    tolerance: float = 0.005
    train_norm: bool = False
    border_weight: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)


FINE_TUNE = Recipe()
FROM_PICTURES = Recipe(
    micro=8,
    batch=1,
    learning_rate=1e-3,
    averaging=0.998,
    train_norm=True,
    border_weight=2.0,
    augmentation=Augmentation(scale=1.5, elastic=4.0, grey=1.0, recolor=0.6),
)


class Student:
    """A copy of a model that learns, and the running average of its weights."""

    def __init__(self, model: Model, recipe: Recipe, seed: int) -> None:
        self.recipe, self.kind = recipe, model.card.kind
        self.backend: Backend = backend_for(model.device)
        self.net = model.copy().net
        self.average = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self.optimizer = AdamW(self.net.parameters(), recipe.weight_decay)
        self.random = torch.Generator().manual_seed(seed)
        self.examples = ExampleCache(model.card, recipe.border_weight)
        self.step, self.skipped = 0, 0
        self._losses: list[Tensor] = []

    def study(self, corrections: Sequence[Correction]) -> None:
        """One piece of work: gradients of a few crops."""
        recipe = self.recipe
        self.net.train()
        if not recipe.train_norm:
            self.net.freeze_norm()
        batch = collate([self._crop(corrections) for _ in range(recipe.micro)]).to(self.backend.device)
        with self.backend.autocast():
            logits = self.net(batch.images)
        loss = loss_for(self.kind, logits, batch.targets, batch.weight) / recipe.batch
        loss.backward()
        self._losses.append(loss.detach())

    def _crop(self, corrections: Sequence[Correction]) -> Example:
        """A crop around an object or around background, with the same chance; of any correction that has it.

        Else a few regions said to be empty would outweigh all objects, or the other way round.
        """
        on_object = bool(torch.rand((), generator=self.random) < 0.5)
        fitting = [c for c in corrections if self.examples.has(c, on_object=on_object)] or corrections
        index = int(torch.randint(len(fitting), (), generator=self.random))
        example = self.examples[fitting[index]]
        return draw_crop(example, self.recipe.crop, self.recipe.augmentation, self.random, on_object=on_object)

    def advance(self, learning_rate: float) -> float:
        """One step of the optimiser with the gradients so far; the loss, or NaN if it was skipped."""
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        loss = float(torch.stack(self._losses).sum())
        self._losses.clear()
        self.step += 1
        # one value that is no number would poison every parameter, and clipping does not help
        healthy = math.isfinite(loss) and math.isfinite(float(norm))
        if healthy:
            self.optimizer.step(learning_rate)
            self._follow()
        else:
            self.skipped += 1
        self.optimizer.forget_gradients()
        return loss if healthy else math.nan

    def _follow(self) -> None:
        """Move the average towards the weights; quickly at first."""
        keep = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.state().items()}
        return {**tensors, "step": torch.tensor(self.step), "random": self.random.get_state()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state()`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.net.load_state_dict(part("net."))
        self.average = {k: v.to(self.backend.device) for k, v in part("average.").items()}
        self.optimizer.restore(part("optimizer."))
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].cpu())


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
class _Budget:
    """How long to train: steps, seconds, or until nothing more is learnt."""

    steps: int | None
    seconds: float | None
    start: float = field(init=False)

    def __post_init__(self) -> None:
        """Time runs from now."""
        self.start = time.monotonic()

    def used(self, step: int) -> float:
        """Share of the budget that is used up; 0 for ever if there is none."""
        return max(_share(step, self.steps), _share(time.monotonic() - self.start, self.seconds))


def _share(used: float, budget: float | None) -> float:
    """`used / budget`; 0 without a budget, 1 of none at all."""
    if budget is None:
        return 0.0
    return used / budget if budget > 0 else 1.0


def fine_tune(
    model: Model,
    corrections: Sequence[Correction],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    recipe: Recipe = FINE_TUNE,
    control: Control | None = None,
) -> Iterator[TrainStep | WeightsChanged]:
    """Learn from corrections, round by round; the model is updated only if that makes it not worse.

    Parameters
    ----------
    model : Model
        Changed in place by `replace_weights` at the end of a round that is kept.
    corrections : sequence of Correction
        May grow while the training runs: new ones join at the next piece of work.
    steps, seconds : int, float, optional
        When to end. With neither, it ends after some rounds without anything new or better.
    seed : int
    recipe : Recipe
    control : Control, optional

    Yields
    ------
    TrainStep
        After each piece of work (about 0.1 s on two CPU cores).
    WeightsChanged
        When a round's weights have taken over.

    Raises
    ------
    ModelError
        If there is nothing to learn from, or the model is 3-D.
    """
    if model.net.ndim != 2:
        raise ModelError("Only 2-D models learn from corrections so far. Choose a 2-D model.")
    if not split(list(corrections))[0]:
        raise ModelError("There is no correction to learn from yet. Correct an object, then train.")
    return _rounds(model, corrections, _Budget(steps, seconds), seed, recipe, control or Control())


def _rounds(
    model: Model,
    corrections: Sequence[Correction],
    budget: _Budget,
    seed: int,
    recipe: Recipe,
    control: Control,
) -> Iterator[TrainStep | WeightsChanged]:
    """The training behind `fine_tune`, as one text from top to bottom."""
    student = Student(model, recipe, seed)
    patience, known, lost, refused = recipe.patience, list(corrections), 0.0, 0
    for number in count(1):
        last = TrainStep(student.step, number, 0.0, math.nan)
        begun = student.step
        for step in _one_round(student, corrections, number, budget, control):
            last = step
            yield step
        control.finish_round = False

        now = list(corrections)
        taught, held_out = split(now)
        if not taught:  # all of it was undone
            return
        student.examples.keep_only(now)
        before, after = Score(), Score()
        candidate = rounded(student.average)
        for correction in (held_out or taught)[-SCORED_AT_MOST:]:
            before += score_on(model, model.net.state_dict(), correction)
            after += score_on(model, candidate, correction)
            yield replace(last, progress=1.0)

        # many rounds, each a little worse, must not add up to more than one may be
        would_lose = max(0.0, lost + before.mean - after.mean)
        is_broken = 4 * student.skipped > student.step - begun or not all_finite(candidate)
        reason = _why_not(before, after, is_broken=is_broken, is_lower=would_lose > recipe.tolerance)
        if not reason:
            lost, refused = would_lose, 0
            model.replace_weights(candidate)
            yield replace(last, progress=1.0, kept=True, score=after.mean)
            yield WeightsChanged(model.version, before.mean, after.mean, len(held_out), len(taught))
        else:
            yield replace(last, progress=1.0, kept=False, score=after.mean, reason=reason)
            refused += 1
            if is_broken or refused > recipe.endurance:
                student, refused = _start_again(model, student), 0

        is_better = after.mean > before.mean + recipe.tolerance
        patience = recipe.patience if is_better or not _same(now, known) else patience - 1
        known = now
        bounded = budget.steps is not None or budget.seconds is not None
        if budget.used(student.step) >= 1 or (not bounded and patience <= 0):
            return


def _same(now: Sequence[Correction], known: Sequence[Correction]) -> bool:
    """Whether there is nothing new."""
    return len(now) == len(known) and all(a is b for a, b in zip(now, known, strict=True))


def _one_round(
    student: Student,
    corrections: Sequence[Correction],
    number: int,
    budget: _Budget,
    control: Control,
) -> Iterator[TrainStep]:
    """The steps of one round, one piece of work at a time."""
    recipe = student.recipe
    student.skipped, loss = 0, math.nan
    end = time.monotonic() + recipe.round_seconds
    for index in range(recipe.round_steps * recipe.batch):
        taught, _ = split(list(corrections))
        if not taught:
            return
        student.study(taught)
        skipped = False
        if index % recipe.batch == recipe.batch - 1:
            loss = student.advance(recipe.learning_rate)
            skipped = math.isnan(loss)
        done = (index + 1) / (recipe.round_steps * recipe.batch)
        yield TrainStep(student.step, number, min(done, 0.99), loss, skipped)
        ends = control.finish_round or time.monotonic() > end or budget.used(student.step) >= 1
        if ends and index % recipe.batch == recipe.batch - 1:
            return


def _why_not(before: Score, after: Score, *, is_broken: bool, is_lower: bool) -> str:
    """Why a round must not take over; '' if it may."""
    if is_broken:
        return "The training met values that are not numbers; the old weights stay."
    if after.is_blank and not before.is_blank:
        return "The new weights found nothing any more; the old ones stay."
    if is_lower:
        return f"The new weights scored {after.mean:.2f} instead of {before.mean:.2f}; the old ones stay."
    return ""


def _start_again(model: Model, failed: Student) -> Student:
    """A fresh student after a round that was not kept, with other crops and smaller steps."""
    recipe = replace(failed.recipe, learning_rate=failed.recipe.learning_rate / 2)
    student = Student(model, recipe, failed.step + 1)
    student.examples, student.step = failed.examples, failed.step
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

    The learning rate warms up over 100 steps and falls to zero along a cosine over the budget.

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
    budget = _Budget(steps, seconds and seconds * (1 - used))
    while (part := budget.used(student.step)) < 1:
        progress = used + (1 - used) * part if seconds else part
        for _ in range(recipe.batch):
            student.study(corrections)
        warmup = min(1.0, (student.step + 1) / 100)
        loss = student.advance(recipe.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * progress)))
        yield TrainStep(student.step, 1, progress, loss, math.isnan(loss))
