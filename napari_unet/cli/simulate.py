"""unet-live simulate: a simulated annotator corrects or clicks, and the model learns."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from napari_unet.cli.program import (
    DeviceOption,
    JsonOption,
    ModelOption,
    app,
    check_output,
    make_folder,
    name_of,
    pairs_of,
)
from napari_unet.core.card import check_name
from napari_unet.core.curves import curves_svg
from napari_unet.core.errors import LabelsError, ModelError
from napari_unet.store.files import FileSystem
from napari_unet.store.pictures import read_labels, read_picture

if TYPE_CHECKING:
    from napari_unet.core.corrections import Labels
    from napari_unet.core.image import ImageSource
    from napari_unet.engine.simulate import Known
    from napari_unet.nets.model import Model


@app.command()
def simulate(  # noqa: PLR0913 - each option of the command is one
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    labels: Annotated[Path, typer.Argument(help="Folder of labels of the same names.")],
    model: ModelOption = "default",
    rounds: Annotated[int | None, typer.Option(help="Rounds of correcting and learning: 10, or 0 of clicks.")] = None,
    corrections: Annotated[int, typer.Option(help="Corrections in each round.", min=1)] = 5,
    seconds: Annotated[float | None, typer.Option(help="Learning in each round; else as long as correcting.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of learning in each round instead.", min=1)] = None,
    order: Annotated[str, typer.Option(help="Where to correct: worst, left-to-right or suggested.")] = "worst",
    anew: Annotated[bool, typer.Option("--anew", help="Begin a new training in each round, as after a rest.")] = False,
    held_out: Annotated[float, typer.Option(help="Share of the pictures that only score.", min=0.05, max=0.95)] = 0.5,
    seeds: Annotated[int, typer.Option(help="How often, with other orders of pictures.", min=1)] = 1,
    clicks: Annotated[bool, typer.Option("--clicks", help="Count clicks on objects, beside other ways.")] = False,
    objects: Annotated[int, typer.Option(help="Objects of each picture that are clicked on.", min=1)] = 6,
    only: Annotated[list[str] | None, typer.Option(help="Names of the pictures to take, like 'set*3'.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Keep what the last seed has learnt.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this SVG file.")] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """A simulated annotator corrects, the model learns: quality on held-out pictures against the user's effort."""
    from napari_unet.engine.simulate import Known, divided
    from napari_unet.nets.model import load_model

    pairs = pairs_of(images, labels, only=only or ["*"])
    _check_files(output, plot)
    rounds = rounds if rounds is not None else 0 if clicks else 10
    learns = rounds > 0 or not clicks
    _check(order, seconds, steps, len(pairs) if learns else 2, rounds if clicks else rounds - 1)
    known = [Known(name_of(a), *_read_pair(a, b)) for a, b in tqdm(pairs, desc="Reading", disable=None)]
    parts = divided(known, held_out) if learns else ([], known)
    budget: dict[str, Any] = {"seconds": seconds, "steps": steps}
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds if learns else 1):
        loaded = load_model(model, device=device)
        _check_labels(loaded, known, clicks=clicks)
        if clicks and not learns:
            runs = _ways(loaded, known, objects)
        elif clicks:
            size = {"rounds": rounds, "kept": corrections, "objects": objects}
            runs[f"seed {seed}"] = _clicks(loaded, parts, seed, quiet=as_json, **size, **budget)
        else:
            size = {"rounds": rounds, "corrections": corrections}
            how = {"order": order, "anew": anew, **size, **budget}
            runs[f"seed {seed}"] = _corrections(loaded, parts, seed, quiet=as_json, **how)
    if as_json:
        typer.echo(json.dumps(runs, indent=1))
    elif not learns:
        for name, rows in runs.items():
            typer.echo(f"{name:<14} {_told(rows[-1]['facts'])}")
    # last: what was found is told, whatever the disk does
    if output is not None:
        loaded.save(output)
    if plot is not None:
        drawn = _drawn(runs, loaded.card.kind, clicks=clicks, learns=learns)
        FileSystem().write_atomic(plot, drawn.encode())


def _read_pair(image: Path, labels: Path) -> tuple[ImageSource, Labels]:
    """A picture of one plane, and its labels."""
    source, truth = read_picture(image), read_labels(labels)
    if source.shape != truth.shape:
        raise LabelsError(f"'{image.name}' is {source.shape} and its labels are {truth.shape}; they must be alike.")
    if len(source.shape) != 2:
        raise LabelsError(f"'{image.name}' is a stack, {source.shape}. Save its planes as pictures of their own.")
    return source, truth


def _check_files(model: Path | None, plot: Path | None) -> None:
    """Refuse files that could not be written at the end."""
    if model is not None:
        check_name(model)
    if plot is not None:
        check_output(plot, "--plot")
    for file in (model, plot):
        if file is not None:
            make_folder(file.parent)


def _check_labels(model: Model, pictures: list[Known], *, clicks: bool) -> None:
    """Refuse labels of classes that the model lacks (where it knows one, all are of that), or without what to click."""
    from napari_unet.engine.clicking import SMALLEST, objects_of

    last = len(model.card.classes) - 1
    strange = [known for known in pictures if known.truth.max(initial=0) > last]
    if model.card.kind == "classes" and last > 1 and strange:
        raise ModelError(
            f"The labels of '{strange[0].name}' name class {strange[0].truth.max()}; this model knows the classes 0 to "
            f"{last}. Choose a model of more classes."
        )
    if clicks and not any(objects_of(known, 1, 0) for known in pictures):
        raise LabelsError(f"In these labels there is no object of {SMALLEST} pixels or more to click on.")


def _check(order: str, seconds: float | None, steps: int | None, pictures: int, rounds: int) -> None:
    """Refuse options that make no simulation."""
    from napari_unet.engine.simulate import ORDERS

    if order not in ORDERS:
        raise ModelError(f"There is no order '{order}'. Choose one of {', '.join(ORDERS)}.")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ModelError(f"In {seconds:g} seconds nothing is learnt. Give --seconds above 0.")
    if seconds is not None and steps is not None:
        raise ModelError("A round of learning ends after --seconds or after --steps. Give one of them.")
    if rounds < 0:
        raise ModelError("Nothing is learnt in no round. Give --rounds 1 or more; with --clicks, 0 only counts clicks.")
    if pictures < 2:
        raise LabelsError("One picture cannot be corrected and held out at once. Give two or more.")


def _told(facts: dict[str, float]) -> str:
    """Facts in one line."""
    return ", ".join(f"{key} {value:g}" for key, value in facts.items())


def _corrections(
    model: Model, parts: tuple[list[Known], list[Known]], seed: int, *, quiet: bool, rounds: int, **how: Any
) -> list[dict[str, Any]]:
    """The learning curve of one seed."""
    from napari_unet.engine.simulate import simulate as run_simulation

    shown = ("ap50", "map") if model.card.kind == "objects" else ("dice", "iou")
    curve, points = run_simulation(model, *parts, rounds=rounds, seed=seed, **how), []
    for point in tqdm(curve, total=rounds + 1, desc=f"Seed {seed}", unit="round", disable=None):
        points.append(asdict(point))
        if not quiet:
            done = ", ".join(f"{n} {kind}" for kind, n in point.acts.items())
            scores = ", ".join(f"{name} {point.scores[name]:.3f}" for name in shown)
            effort = f"{point.corrections:3d} corrections, {point.user_seconds / 60:5.1f} min"
            typer.echo(f"seed {seed}: {effort}: {scores}; {point.right:.0%} were right; {done}")
    return points


def _clicks(
    model: Model, parts: tuple[list[Known], list[Known]], seed: int, *, quiet: bool, rounds: int, **how: Any
) -> list[dict[str, Any]]:
    """How many clicks are needed while objects are kept and learnt from, of one seed."""
    from napari_unet.engine.clicking import simulate_clicks

    curve, points = simulate_clicks(model, *parts, rounds=rounds, seed=seed, **how), []
    for point in tqdm(curve, total=rounds + 1, desc=f"Seed {seed}", unit="round", disable=None):
        points.append(asdict(point))
        if not quiet:
            typer.echo(f"seed {seed}: {point.kept:3d} objects kept: {_told(point.facts)}")
    return points


def _ways(model: Model, known: list[Known], objects: int) -> dict[str, list[dict[str, Any]]]:
    """How many clicks each way needs: a row for each picture, and one of all."""
    from napari_unet.engine.clicking import MOST, clicked, together

    parts = list(tqdm(clicked(model, known, objects=objects, peers=True), total=len(known), disable=None))
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, whole in together(parts).items():
        each = [
            {"picture": k.name, "facts": p[name].facts(MOST)} for k, p in zip(known, parts, strict=True) if name in p
        ]
        rows[name] = [*each, {"picture": "all", "facts": whole.facts(MOST)}]
    return rows


def _drawn(runs: dict[str, list[dict[str, Any]]], kind: str, *, clicks: bool, learns: bool) -> str:
    """The curves as a picture."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, points in runs.items():
        if not clicks:
            shown = "ap50" if kind == "objects" else "dice"
            curves[name] = [(float(p["corrections"]), p["scores"][shown]) for p in points]
        elif learns:
            curves[name] = [(float(p["kept"]), p["facts"].get("iou@1", 0.0)) for p in points]
        else:
            facts = points[-1]["facts"]
            curves[name] = [(float(key[4:]), value) for key, value in facts.items() if key.startswith("iou@")]
    if not clicks:
        return curves_svg(curves, x="corrections", y=f"{shown} of held-out pictures")
    if learns:
        return curves_svg(curves, x="objects kept", y="overlap after one click")
    return curves_svg(curves, x="clicks", y="overlap (intersection over union)")
