"""unet-live train: a model from labelled pictures."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from napari_unet.cli.program import DeviceOption, app, make_folder, pairs_of
from napari_unet.core.card import KINDS, ModelCard, check_name
from napari_unet.core.corrections import Correction, Mask
from napari_unet.core.errors import LabelsError, ModelError, about_file
from napari_unet.core.geometry import Box
from napari_unet.core.sizes import median_diameter
from napari_unet.store.pictures import read_labels, read_picture

PLACES = ("images", "labels", "output", "base", "also")
"""Options that say where something lies: a training goes on though it was moved, or is named by another path."""

CHANNELS = 24
"""Of a new network at full resolution."""

Pairs = list[tuple[Path, Path]]


def _read_set(pairs: Pairs, ignore: int | None) -> list[Correction]:
    """The labelled pictures of two folders."""
    named = tqdm(pairs, desc="Reading", unit="picture", disable=None)
    return [known for picture, truth in named for known in _read_pair(picture, truth, ignore)]


def _read_pair(image: Path, labels: Path, ignore: int | None) -> list[Correction]:
    """A labelled picture, or each plane of a stack, as one large correction: everything in it is trusted."""
    source, truth = read_picture(image), read_labels(labels)
    if source.shape != truth.shape:
        raise LabelsError(f"'{image.name}' is {source.shape} and its labels are {truth.shape}; they must be alike.")
    trusted: Mask = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    raw = source.read(Box.whole(source.shape))
    truth = np.where(trusted, truth, 0)
    lowest, highest = truth.min(initial=0), truth.max(initial=0)
    if lowest < 0 or highest > np.iinfo(np.int32).max:
        raise LabelsError(
            f"'{labels.name}' has labels from {lowest} to {highest}. Number them from 1 on, 0 for background; "
            "--ignore-label leaves one out."
        )
    truth, limits = truth.astype(np.int32), source.limits()
    return [
        Correction(raw[:, *lead], truth[lead], trusted[lead], limits, held_out=False, channels_first=True)
        for lead in np.ndindex(truth.shape[:-2])
    ]


@app.command()
def train(  # noqa: PLR0913 - each option of the command is one
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    labels: Annotated[Path, typer.Argument(help="Folder of labels of the same names; 0 is background.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    base: Annotated[str, typer.Option("--from", help="A model to start from.")] = "",
    minutes: Annotated[float | None, typer.Option(help="How long to train: 60, if nothing is said.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps to train instead.")] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)] = 0,
    ignore_label: Annotated[int | None, typer.Option(help="Label of pixels of which nothing is known.")] = None,
    kind: Annotated[str, typer.Option(help="objects or classes.")] = "objects",
    base_channels: Annotated[int | None, typer.Option(help="Of a new network, at full resolution: 24.", min=1)] = None,
    crops: Annotated[int, typer.Option(help="Crops in each step; more of them on a large GPU.", min=1)] = 8,
    diameter: Annotated[float | None, typer.Option(help="Size to which objects are brought, in pixels.")] = None,
    also: Annotated[list[Path] | None, typer.Option(help="Another set: a folder with images and labels in it.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Names to leave out, like 'field7_*'.")] = None,
    synthetic: Annotated[int, typer.Option(help="Pictures to make and learn from, too.", min=0)] = 0,
    rehearsal: Annotated[int, typer.Option(help="Pictures to keep beside the model, for later learning.", min=0)] = 0,
    clicks: Annotated[int, typer.Option(help="Steps in which its click head learns after that.", min=0)] = 0,
) -> None:
    """Train a model from folders of pictures and labels. Stopped, the same command goes on, though folders were moved.

    On several devices: torchrun --nproc-per-node N --no-python unet-live train ...; each step then sees N times as many
    crops.
    """
    options = dict(locals())
    from napari_unet.engine import fit as fitting  # torch: only when it is needed
    from napari_unet.engine.ranks import joined_ranks

    _check_training(output, minutes, steps, kind, diameter, clicks, synthetic)
    if base and base_channels is not None:
        raise ModelError(f"The network of '{base}' stays as it is. Leave out --base-channels, or --from.")
    make_folder(output.parent)
    if minutes is None and steps is None:
        minutes = 60.0
    folders = [(images, labels), *((folder / "images", folder / "labels") for folder in also or ())]
    pairs = [pairs_of(*folder, leave_out or ()) for folder in folders]
    read, made = [_read_set(known, ignore_label) for known in pairs], fitting.made_pictures(synthetic, seed)
    sets = [*read, *made]
    corrections = _checked([correction for known in sets for correction in known], kind)
    summary = _summary_of(corrections, seed)
    story = f"{summary}: {_command(options)}"
    card = _card_of(output.stem, kind, base_channels or CHANNELS, story, corrections, is_new=not base)
    seconds = minutes * 60 if minutes is not None else None
    with joined_ranks(device) as (ranks, own_device):
        model, student = fitting.new_student(card, base, own_device, seed, crops=crops, ranks=ranks)
        if diameter is not None:
            model.card = replace(model.card, diameter=diameter)
        _check_classes(base, model.net.settings["out_channels"], card.architecture["out_channels"])
        of = _identity_of(summary, pairs, options, model.card.parent)
        learnt = fitting.fit(model, student, fitting.balanced(sets), output, steps=steps, seconds=seconds, of=of)
        rows: list[Iterable[dict[str, Any]]] = [learnt]
        if clicks:
            seen = fitting.half_made(fitting.balanced(read), made)
            rows.append(fitting.fit_clicks(model, seen, output, steps=clicks, seed=seed, ranks=ranks, of=of))
        if not ranks.leads:
            deque(itertools.chain(*rows), maxlen=0)  # what it learns is in the weights of the leading process, too
            return
        _log(itertools.chain(*rows), output.with_suffix(".log.jsonl"))
    _write_rehearsal(output, read, rehearsal, seed, model.card, goes_on=Path(base) == output)
    fitting.forget_checkpoint(output)  # last: the same command goes on until all is written
    typer.echo(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB).")


def _write_rehearsal(
    output: Path, read: Sequence[Sequence[Correction]], count: int, seed: int, card: ModelCard, *, goes_on: bool
) -> None:
    """Keep some of what was learnt beside the model; what lies there of another one that had its name goes."""
    from napari_unet.engine import fit, rehearsal
    from napari_unet.nets.model import REHEARSAL

    beside = output.with_suffix(REHEARSAL)
    if count:
        kept = rehearsal.chosen(fit.kinds_of(read), count, seed)
        rehearsal.write(beside, fit.at_known_size(kept, card), seed)
    elif not goes_on:
        beside.unlink(missing_ok=True)


def _checked(corrections: list[Correction], kind: str) -> list[Correction]:
    """The same; refused if they say nothing, and doubted aloud if they number no objects."""
    if not any(c.trusted.any() for c in corrections):
        raise LabelsError("--ignore-label leaves out every pixel of all labels, so there is nothing to learn from.")
    if kind == "objects" and max(len(np.unique(c.labels[c.labels > 0])) for c in corrections) == 1:
        from scipy import ndimage  # takes a while to load, which nobody else waits for

        most = max(ndimage.label(c.labels > 0)[1] for c in corrections)
        if most > 1:
            typer.echo(
                f"These labels number no objects: no picture has more than one, of up to {most} pieces. "
                "Of masks (0 and 255) make labels first (skimage.measure.label), or train with --kind classes.",
                err=True,
            )
    return corrections


def _check_gaps(corrections: list[Correction]) -> None:
    """Refuse classes that are not numbered one after the other: the network would have an output for each number."""
    numbers = sorted({0}.union(*(np.unique(c.labels).tolist() for c in corrections)))
    if numbers != list(range(len(numbers))):
        named = ", ".join(map(str, [*numbers[:6], *(["..."] if len(numbers) > 7 else []), *numbers[6:][-1:]]))
        raise LabelsError(
            f"The labels are {named}. Number the classes 0, 1, 2 and so on; --ignore-label leaves one out."
        )


def _check_classes(base: str, known: int, wanted: int) -> None:
    """Refuse labels of more classes than the model has that the training starts from."""
    if known < wanted:
        raise ModelError(f"'{base}' knows {known} classes and the labels hold {wanted}. Start from another model.")


def _log(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write the rows of a training, and show how far it is."""
    start = time.monotonic()
    with tqdm(total=1000, desc="Training", unit="‰", disable=None) as bar:
        for row in rows:
            row["seconds"] = round(time.monotonic() - start, 1)
            with about_file(path), path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            bar.set_postfix(step=row.get("step", row.get("click_step")), loss=row["loss"])
            bar.update(round(1000 * row["progress"]) - bar.n)


def _check_training(
    output: Path,
    minutes: float | None,
    steps: int | None,
    kind: str,
    diameter: float | None,
    clicks: int,
    synthetic: int,
) -> None:
    """Refuse options that make no training, before anything is read."""
    check_name(output)
    if kind not in KINDS:
        raise ModelError(f"There is no kind '{kind}'. Choose objects or classes with --kind.")
    if diameter is not None and not 1 <= diameter < math.inf:
        raise ModelError(f"Objects cannot be brought to a diameter of {diameter:g} pixels. Give 1 or more.")
    if clicks and kind != "objects":
        raise ModelError("Clicks show objects, and this would be a model of classes. Leave out --clicks.")
    if synthetic and kind != "objects":
        raise ModelError("Made pictures show objects, and this would be a model of classes. Leave out --synthetic.")
    if minutes is not None and steps is not None:
        raise ModelError("The training ends after --minutes or after --steps. Give one of them.")
    if (minutes is not None and not 0 < minutes < math.inf) or (steps is not None and steps < (0 if clicks else 1)):
        raise ModelError("A training of no length teaches nothing. Give --minutes or --steps above 0.")


def _summary_of(corrections: list[Correction], seed: int) -> str:
    """What a model learns from, in a line."""
    objects = sum(len(np.unique(c.labels[c.labels > 0])) for c in corrections)
    return f"{len(corrections)} pictures, {objects} objects, seed {seed}, torch {version('torch')}"


def _command(options: Mapping[str, Any]) -> str:
    """The command with all its settings, but without places and names, which are nobody's business but the user's."""
    told = {name: value for name, value in options.items() if name not in (*PLACES, "leave_out") and value is not None}
    return " ".join(["unet-live train", *(f"--{name.replace('_', '-')} {value}" for name, value in told.items())])


def _identity_of(summary: str, pairs: Sequence[Pairs], options: Mapping[str, Any], parent: str | None) -> str:
    """What tells a training from another one: names of files, settings and the model begun from, not the folders."""
    names = [[(picture.name, truth.name) for picture, truth in known] for known in pairs]
    settings = {name: value for name, value in options.items() if name not in PLACES}
    told = json.dumps({"summary": summary, "names": names, "parent": parent, **settings}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _card_of(
    name: str, kind: str, base_channels: int, story: str, corrections: list[Correction], *, is_new: bool
) -> ModelCard:
    """The card of a model that learns from these pictures; one that goes on from another has the classes of that."""
    if kind == "classes" and is_new:
        _check_gaps(corrections)
    outputs = max(2, *(int(c.labels.max(initial=0)) + 1 for c in corrections)) if kind == "classes" else 2
    return ModelCard(
        name=name,
        kind=kind,
        architecture={"in_channels": 3, "out_channels": outputs, "base_channels": base_channels},
        classes=("background", *(f"class {n}" for n in range(1, outputs))) if kind == "classes" and is_new else (),
        diameter=ModelCard.diameter if kind == "classes" else _usual_diameter(corrections),
        trained_on=story,
    )


def _usual_diameter(corrections: list[Correction]) -> float:
    """The diameter of the objects of all pictures."""
    return round(median_diameter(*(c.labels for c in corrections)) or ModelCard.diameter, 1)
