"""Train a model from labelled pictures into a file, with checkpoints to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError
from napari_unet.core.sizes import median_diameter, usual_scale
from napari_unet.core.synthetic import SIDE, synthetic_pictures
from napari_unet.engine.checkpoint import resume, write_checkpoint
from napari_unet.engine.click_student import ClickStudent, train_clicks
from napari_unet.engine.ranks import ALONE, Ranks
from napari_unet.engine.student import FROM_PICTURES, Student
from napari_unet.engine.train import train
from napari_unet.nets.model import Model, load_model
from napari_unet.nets.weights import rounded

CHECKPOINT_EVERY = 60.0
"""Seconds between two checkpoints: what a stopped training loses at most, and on a slow computer no more."""
NETWORK, CLICKS = ".checkpoint", ".clicks.checkpoint"
"""What is between the name of a model and the end of a checkpoint's name."""
ROW_EVERY = 25
OFTEN = 8
"""How often a picture of a rare kind is drawn for each one of the largest kind, at most."""


def new_student(
    card: ModelCard, base: str, device: str, seed: int, *, crops: int | None = None, ranks: Ranks = ALONE
) -> tuple[Model, Student]:
    """A model to train from whole pictures, and its student.

    Parameters
    ----------
    card : ModelCard
        What the model will be.
    base : str
        A model to start from (its architecture and diameter count then), or ''.
    device : str
    seed : int
    crops : int, optional
        In each step; 8 by default. The learning rate grows with their root, as is right for Adam (Malladi et al. 2022,
        "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms").
    ranks : Ranks
        The processes that train it together.

    Raises
    ------
    ModelError
        If `base` finds something else than `card` says.
    """
    crops = crops or FROM_PICTURES.micro
    rate = FROM_PICTURES.learning_rate * math.sqrt(crops / FROM_PICTURES.micro)
    recipe = replace(FROM_PICTURES, micro=crops, learning_rate=rate)
    if not base:
        model = Model.create(card, seed=seed, device=device)
        return model, Student(model, recipe, seed, ranks=ranks)
    model = load_model(base, device=device)
    old = model.card
    if old.kind != card.kind:
        raise ModelError(f"'{base}' finds {old.kind}, not {card.kind}. Start from another model.")
    story = f"{old.trained_on}; then {card.trained_on}"
    card = replace(card, architecture=old.architecture, classes=old.classes, diameter=old.diameter, click=old.click)
    model.card = replace(card, trained_on=story, parent=model.sha256())
    # a network that knows something already is not shaken as hard as a new one
    gentle = replace(recipe, learning_rate=rate / 2)
    return model, Student(model, gentle, seed, ranks=ranks)


def made_pictures(count: int, seed: int) -> list[list[Correction]]:
    """Pictures of our own making, for a model to learn from: those of one look are a set."""
    whole = np.ones((SIDE, SIDE), bool)
    made: dict[str, list[Correction]] = {}
    for m in synthetic_pictures(count, seed):
        correction = Correction(m.image, m.labels, whole, held_out=False, channels_first=True)
        made.setdefault(m.look, []).append(correction)
    return list(made.values())


def at_known_size(corrections: Sequence[Correction], card: ModelCard) -> list[Correction]:
    """Whole pictures, read at the scale at which their objects are as large as a model of objects knows them.

    One that is in the list several times is one afterwards, too: what is learnt from is kept for each once.
    """
    if card.kind != "objects":
        return list(corrections)
    once = {id(c): c for c in corrections}
    sized = {n: replace(c, scale=usual_scale(median_diameter(c.labels), card.diameter)) for n, c in once.items()}
    return [sized[id(c)] for c in corrections]


def kinds_of(sets: Sequence[Sequence[Correction]]) -> list[list[Correction]]:
    """Pictures by kind: what a set holds of the same size, as pictures of one microscope are."""
    kinds: dict[tuple[int, ...], list[Correction]] = {}
    for number, known in enumerate(sets):
        for correction in known:
            kinds.setdefault((number, *correction.labels.shape), []).append(correction)
    return list(kinds.values())


def balanced(sets: Sequence[Sequence[Correction]]) -> list[Correction]:
    """One list to draw from, in which each kind counts alike; but no picture more than `OFTEN` times.

    Else a large set would be all that is learnt.
    """
    kinds = kinds_of(sets)
    largest = max(map(len, kinds))
    return [c for kind in kinds for c in kind * min(OFTEN, round(largest / len(kind)))]


def fit(
    model: Model,
    student: Student,
    corrections: Sequence[Correction],
    output: Path,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    of: str = "",
) -> Iterator[dict[str, Any]]:
    """Train and write `output`; rows of the log on the way. The checkpoint stays until `forget_checkpoint`.

    Pictures of objects are resized so that their objects are as large as the card says. A run that was stopped
    goes on from the checkpoint beside `output`.

    Parameters
    ----------
    model, student : Model, Student
        From `new_student`.
    corrections : sequence of Correction
        Whole labelled pictures.
    output : Path
        The `.safetensors` file.
    steps, seconds : int, float
        The budget, one of them.
    of : str
        What tells this training from another one, whose checkpoint is refused; by default what the card says.

    Yields
    ------
    dict
        step, progress, loss.
    """
    checkpoint, of = _checkpoint_of(output), of or model.card.trained_on
    used = resume(student, checkpoint, of)
    corrections = at_known_size(corrections, model.card)
    torch.backends.cudnn.benchmark = True  # crops are all of one size
    losses: list[float] = []
    due = time.monotonic() + CHECKPOINT_EVERY
    for event in train(student, corrections, steps=steps, seconds=seconds, used=used):
        if math.isfinite(event.loss):
            losses.append(event.loss)
        if student.ranks.leads and time.monotonic() >= due:
            write_checkpoint(student, checkpoint, event.progress, of)
            due = time.monotonic() + CHECKPOINT_EVERY
        if event.step % ROW_EVERY == 0 and losses:
            yield {"step": event.step, "progress": round(event.progress, 4), "loss": _mean(losses)}
            losses.clear()
    model.replace_weights(rounded(student.average))
    if student.ranks.leads:
        write_checkpoint(student, checkpoint, 1.0, of)
        model.save(output)
    yield {"step": student.step, "progress": 1.0, "loss": _mean(losses)}


def half_made(corrections: Sequence[Correction], sets: Sequence[Sequence[Correction]]) -> list[Correction]:
    """What a click head learns from: half of what it sees is made, so that it depends less on the kind of picture."""
    made = [correction for known in sets for correction in known]
    return [*corrections, *made * max(1, round(len(corrections) / max(1, len(made))))]


def fit_clicks(
    model: Model,
    corrections: Sequence[Correction],
    output: Path,
    *,
    steps: int,
    seed: int,
    ranks: Ranks = ALONE,
    of: str = "",
) -> Iterator[dict[str, Any]]:
    """Train the click head of a model and write `output`; the network stays as it is.

    A run that was stopped goes on from its checkpoint beside `output`, which stays until `forget_checkpoint`.

    Parameters
    ----------
    model : Model
    corrections : sequence of Correction
        Whole labelled pictures.
    output : Path
        The `.safetensors` file.
    steps, seed : int
    ranks : Ranks
        The processes that train it together.
    of : str
        As for `fit`.

    Yields
    ------
    dict
        click_step, progress, loss.
    """
    seen, of = at_known_size(corrections, model.card), of or model.card.trained_on
    student, losses, checkpoint = ClickStudent(model, seed, ranks=ranks), list[float](), _checkpoint_of(output, CLICKS)
    resume(student, checkpoint, of)
    due = time.monotonic() + CHECKPOINT_EVERY
    for loss in train_clicks(student, seen, steps=steps):
        step = student.step
        if math.isfinite(loss):
            losses.append(loss)
        if ranks.leads and time.monotonic() >= due:
            write_checkpoint(student, checkpoint, step / steps, of)
            due = time.monotonic() + CHECKPOINT_EVERY
        if (step % ROW_EVERY == 0 or step == steps) and losses:
            yield {"click_step": step, "progress": round(step / steps, 4), "loss": _mean(losses)}
            losses.clear()
    student.head.load_state_dict(rounded(student.average))
    model.replace_click(student.head)
    if ranks.leads:
        model.save(output)


def forget_checkpoint(output: Path) -> None:
    """The training is through: nothing is left to go on with."""
    for part in (NETWORK, CLICKS):
        _checkpoint_of(output, part).unlink(missing_ok=True)


def _checkpoint_of(output: Path, part: str = NETWORK) -> Path:
    """Where a training that was stopped goes on."""
    return output.with_suffix(f"{part}.safetensors")


def _mean(losses: list[float]) -> float | None:
    """The mean loss, rounded; None without any."""
    return round(sum(losses) / len(losses), 4) if losses else None
