"""Student: a copy of a model that learns, and the recipe by which it does."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_unet.core.corrections import Correction
from napari_unet.engine.adamw import AdamW
from napari_unet.engine.augment import Augmentation
from napari_unet.engine.device import Backend, backend_for
from napari_unet.engine.ranks import ALONE, Ranks
from napari_unet.engine.recorded import RecordedStep
from napari_unet.engine.sampling import Batch, ExampleCache, draw_crops
from napari_unet.engine.teacher import Teacher
from napari_unet.nets.losses import loss_for, teacher_loss
from napari_unet.nets.model import Model
from napari_unet.nets.unet import UNet

LARGEST_GRADIENT = 1.0
LEAST = 0.25
"""Share of the rate with which the first corrections are learnt."""


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
    warmup : int
        Steps in which the rate rises: the first ones know little of how steep the way is.
    averaging : float
        Share of the old averaged weights that each step keeps.
    round_steps, round_seconds : int, float
        Steps of the optimiser between two take-overs, and how long they may last.
    patience : int
        Rounds without anything new or better before the training rests; whole ones, or as many steps.
    endurance : int
        Rounds in a row, or as many steps, that may be refused before the student begins again from the model in use:
        what is quite new gets worse before it gets better.
    tolerance : float
        How much lower than the old score still counts as "not worse".
    rehearse_every : int
        Every so many pieces are of what the model knew before, so that it does not forget that.
    teacher : float
        How much voxels of which the user said nothing should stay as the teacher has them, beside what the user said:
        so much if it knows what it sees, else less (`Teacher.trust`).
    new_teacher : int
        Corrections after which the model in use becomes the teacher. A first one held on to for ever keeps what was
        wrong; one that follows every take-over teaches the mistakes of one round in the next ones.
    settled : int
        Corrected objects from which on the rate is whole. Fewer are learnt by heart, so a model that has something to
        lose takes smaller steps: with half as many half as large ones, and never less than a `LEAST` part.
    share : float
        How much of the way from the teacher's weights to the learnt ones a model that has something to lose goes at
        least; the more is corrected the farther, and all of it from half of `settled` on. The first corrections are the
        worst places of their pictures: all of the way is too far for the others.
    known_share : float
        How much of that a model goes that knew what it sees (`Teacher.knew_it`), and from the weights that it first
        had: more is no gain to it.
    train_norm : bool
        Let BatchNorm learn its statistics: only for large mixed sets.
    border_weight : float
        The paper's w0, for the background between close objects.
    augmentation : Augmentation
    """

    crop: int = 192
    micro: int = 1
    batch: int = 2
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    warmup: int = 20
    averaging: float = 0.98
    round_steps: int = 48
    round_seconds: float = 12.0
    patience: int = 6
    endurance: int = 4
    tolerance: float = 0.005
    rehearse_every: int = 4
    teacher: float = 0.0
    new_teacher: int = 8
    settled: int = 40
    share: float = 0.5
    known_share: float = 0.5
    train_norm: bool = False
    border_weight: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)


FINE_TUNE = Recipe(teacher=4.0)
"""How a model learns from corrections. Few are made, and strokes lie in the middle of things: what they say nothing of
stays as it was until they do (docs/experiments.md)."""
FROM_PICTURES = Recipe(
    micro=8,
    batch=1,
    learning_rate=1e-3,
    warmup=100,
    averaging=0.998,
    train_norm=True,
    border_weight=2.0,
    augmentation=Augmentation(scale=1.5, elastic=4.0, grey=1.0, recolor=0.6, varied=True),
)


class Student:
    """A copy of a model that learns, and the running average of its weights.

    Parameters
    ----------
    model : Model
    recipe : Recipe
    seed : int
    rehearsal : sequence of Correction
        What the model knew before, to be learnt again in between.
    ranks : Ranks
        The processes that train the same model.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        seed: int,
        rehearsal: Sequence[Correction] = (),
        *,
        ranks: Ranks = ALONE,
    ) -> None:
        self.recipe, self.kind, self.rehearsal = recipe, model.card.kind, rehearsal
        self.backend: Backend = backend_for(model.device)
        self.net, self.teacher = model.copy().net, Teacher(model)
        self.average = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self.optimizer = AdamW(self.net.parameters(), recipe.weight_decay)
        self.ranks, self.seed = ranks, seed
        self.random = torch.Generator().manual_seed(ranks.own_seed(seed))
        is_cuda = self.backend.device.type == "cuda"  # Apple's GPU does not know all that crops are made with
        device = self.backend.device if is_cuda else torch.device("cpu")
        self.examples = ExampleCache(model.card, recipe.border_weight, device=device)
        self._told = _Told()
        self.step, self.skipped = 0, 0
        self._pieces = 0
        self._prepared: tuple[Batch, Tensor | None, float]
        self._recorded: tuple[UNet, RecordedStep] | None = None
        self._begun = 0  # steps when this student began
        self._losses: list[Tensor] = []

    def heed(self, model: Model, corrections: Sequence[Correction]) -> Iterator[None]:
        """Have the teacher follow the model in use, one piece of work at a time."""
        return self.teacher.heed(model, corrections, self.recipe.new_teacher) if self.recipe.teacher else iter(())

    def study(self, corrections: Sequence[Correction]) -> None:
        """Gradients of a few crops, now and then of what was known before."""
        self.prepare(corrections)
        self.learn()

    def prepare(self, corrections: Sequence[Correction]) -> None:
        """The first half of `study`, a piece of work of its own: the crops, and what the teacher says of them."""
        recipe = self.recipe
        self._pieces += 1
        if self.rehearsal and self._pieces % recipe.rehearse_every == 0:
            corrections = self.rehearsal
        batch = self._batch(corrections).to(self.backend.device)
        said, strength = None, 0.0
        if recipe.teacher and corrections is not self.rehearsal:
            strength = recipe.teacher * self.teacher.trust
            said = None if self._is_recorded else self._said(batch.images)
        self._prepared = batch, said, strength

    def learn(self) -> None:
        """The second half of `study`: gradients of the crops that were prepared."""
        batch, said, strength = self._prepared
        self.net.train()
        if not self.recipe.train_norm:
            self.net.freeze_norm()
        if self._is_recorded:
            given = (batch.images, batch.targets, batch.weight, batch.untouched)
            loss = self._step_of(self.teacher.net)(*given, torch.full((), strength, device=self.backend.device))
        else:
            loss = self._gradients(batch, said, strength)
        self._losses.append(loss)

    def _said(self, images: Tensor) -> Tensor:
        """What the teacher says of crops."""
        with torch.no_grad(), self.backend.autocast():
            said: Tensor = self.teacher.net(images)
            return said

    def _gradients(self, batch: Batch, said: Tensor | None, strength: float | Tensor) -> Tensor:
        """Compute gradients; the loss."""
        with self.backend.autocast():
            logits = self.net(batch.images)
        loss = loss_for(self.kind, logits, batch.targets, batch.weight)
        if said is not None:
            loss = loss + strength * teacher_loss(self.kind, logits, said, batch.untouched)
        (loss / self.recipe.batch).backward()
        return loss.detach() / self.recipe.batch

    @property
    def _is_recorded(self) -> bool:
        """Whether a step is told to the device as one: on a graphics card, where each has a piece of its own."""
        return self.backend.device.type == "cuda" and self.recipe.batch == 1

    def _step_of(self, teacher: UNet) -> RecordedStep:
        """The step with a teacher: what is recorded knows where its weights lie."""
        if self._recorded is None or self._recorded[0] is not teacher:

            def compute(*given: Tensor) -> Tensor:
                *parts, strength = given
                batch = Batch(*parts)
                return self._gradients(batch, self._said(batch.images) if self.recipe.teacher else None, strength)

            self._recorded = teacher, RecordedStep(self.net, compute)
        return self._recorded[1]

    def _batch(self, corrections: Sequence[Correction]) -> Batch:
        """Crops of one piece of work, each around an object or around background, with the same chance.

        Of any correction that has it, else a few regions said to be empty would outweigh all objects, or the other way
        round.
        """
        on_objects = (torch.rand(self.recipe.micro, generator=self.random) < 0.5).tolist()
        fitting = {on: self._fitting(corrections, on_object=on) for on in set(on_objects)}
        chosen = [fitting[on][int(torch.randint(len(fitting[on]), (), generator=self.random))] for on in on_objects]
        examples = [self.examples[correction] for correction in chosen]
        return draw_crops(examples, on_objects, self.recipe.crop, self.recipe.augmentation, self.random)

    def _fitting(self, corrections: Sequence[Correction], *, on_object: bool) -> Sequence[Correction]:
        """Those that hold objects, or background; all if none does."""
        return [c for c in corrections if self.examples.has(c, on_object=on_object)] or corrections

    def advance(self, learning_rate: float) -> float:
        """One step of the optimiser with the gradients so far; the loss, or NaN if it was skipped.

        On a graphics card the loss is that of some steps before: nobody waits for the card.
        """
        self.ranks.average([p.grad for p in self.net.parameters() if p.grad is not None])
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        total = torch.stack(self._losses).sum()
        self.ranks.average([total, *self._statistics()])
        self._losses.clear()
        self.step += 1
        # one value that is no number would poison every parameter, and clipping does not help
        healthy = torch.isfinite(total) & torch.isfinite(norm)
        rate = learning_rate * min(1.0, (self.step - self._begun) / self.recipe.warmup)
        self.optimizer.step(rate, healthy)
        follow(self.average, self.net, self.recipe.averaging, self.step)
        self.optimizer.forget_gradients()
        loss = self._told.after(torch.where(healthy, total, math.nan))
        self.skipped += math.isnan(loss)
        return loss

    def rate(self, count: int) -> float:
        """The learning rate with so many corrections."""
        return self._part(count, LEAST) * self.recipe.learning_rate

    def offered(self, count: int) -> dict[str, Tensor]:
        """The weights that may take over, with so many corrections."""
        share, start = self._part(2 * count, self.recipe.share), self.teacher.net
        if self.teacher.knew_it:
            share, start = share * self.recipe.known_share, self.teacher.start
        return {
            name: torch.lerp(old, self.average[name], share) if old.is_floating_point() else self.average[name]
            for name, old in start.state_dict().items()
        }

    def _part(self, count: int, least: float) -> float:
        """How much of something so many corrections are worth: all of it to a model that has nothing to lose."""
        return min(1.0, max(least, count / self.recipe.settled)) if self.rehearsal else 1.0

    def _statistics(self) -> list[Tensor]:
        """What BatchNorm has seen: in several processes, each has seen other crops."""
        return [value for value in self.net.buffers() if value.is_floating_point()] if self.recipe.train_norm else []

    def go_on_from(self, other: Student) -> None:
        """Count on from another student, and take over the examples that it has built."""
        self.examples, self.teacher = other.examples, other.teacher
        self.step, self._begun = other.step, other.step

    @property
    def learns(self) -> UNet:
        """The network that a checkpoint keeps."""
        return self.net


class _Told:
    """Numbers that a device computes, told without waiting for it: on a graphics card those of some steps before."""

    LATE = 4

    def __init__(self) -> None:
        self._coming: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def after(self, value: Tensor) -> float:
        """`value` itself; on a graphics card the one of `LATE` calls before, and in the first ones the very first."""
        if value.device.type != "cuda":
            return float(value)
        event = torch.cuda.Event()
        self._coming.append((value.to("cpu", non_blocking=True), event))
        event.record()
        known, event = self._coming[0] if len(self._coming) <= self.LATE else self._coming.popleft()
        event.synchronize()
        return float(known)


def follow(average: dict[str, Tensor], net: UNet, averaging: float, step: int) -> None:
    """Move the average of a network's weights towards them; quickly in the first steps."""
    keep, state = min(averaging, (1 + step) / (10 + step)), net.state_dict()
    moving = [name for name, value in state.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in moving], [state[name] for name in moving], 1 - keep)
    for name in state.keys() - moving:
        average[name].copy_(state[name])
