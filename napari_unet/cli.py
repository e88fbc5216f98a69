"""The headless commands: predict, train, evaluate, info."""

from __future__ import annotations

import json
import math
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from napari_unet.core.card import KINDS, ModelCard
from napari_unet.core.corrections import Correction, Mask
from napari_unet.core.curves import curves_svg
from napari_unet.core.errors import ImageError, LabelsError, ModelError, UNetLiveError
from napari_unet.core.events import Progress
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import evaluate as evaluate_labels
from napari_unet.core.metrics import mean_scores
from napari_unet.core.sizes import median_diameter
from napari_unet.store.ome_zarr import create_label_zarr, is_zarr
from napari_unet.store.pictures import find_pictures, read_labels, read_picture, write_labels

STOPPED = 130  # exit code after Ctrl+C

app = typer.Typer(
    help="U-Net Live: a U-Net that segments microscopy pictures and learns from corrected masks.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
ModelOption = Annotated[str, typer.Option("--model", help="A shipped name, a .safetensors or a .pth file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _name_of(path: Path) -> str:
    """The name that a picture and its labels share: the file's, or the OME-Zarr folder's, without its endings."""
    return path.stem.removesuffix(".ome")


def _pairs(images: Path, labels: Path, leave_out: Sequence[str] = ()) -> list[tuple[Path, Path]]:
    """Pictures and labels of the same name, ending apart; those with a name like one of `leave_out` apart."""
    known = {_name_of(path): path for path in find_pictures([labels])}
    pairs = [(path, known[_name_of(path)]) for path in find_pictures([images]) if _name_of(path) in known]
    pairs = [pair for pair in pairs if not any(fnmatchcase(_name_of(pair[0]), pattern) for pattern in leave_out)]
    if not pairs:
        raise LabelsError(
            f"No picture in '{images}' has labels of the same name in '{labels}'. Name them alike, endings apart."
        )
    return pairs


def _read_set(images: Path, labels: Path, ignore: int | None, leave_out: Sequence[str]) -> list[Correction]:
    """The labelled pictures of two folders."""
    pairs = tqdm(_pairs(images, labels, leave_out), desc="Reading", unit="picture", disable=None)
    return [_read_pair(picture, truth, ignore) for picture, truth in pairs]


def _read_pair(image: Path, labels: Path, ignore: int | None) -> Correction:
    """A labelled picture as one large correction: everything in it is trusted."""
    source, truth = read_picture(image), read_labels(labels)
    if source.shape != truth.shape:
        raise LabelsError(f"'{image.name}' is {source.shape} and its labels are {truth.shape}; they must be alike.")
    trusted: Mask = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    raw = source.read(Box.whole(source.shape))
    truth = np.where(trusted, truth, 0).astype(np.int32)
    return Correction(raw, truth, trusted, source.limits(), held_out=False, channels_first=True)


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them: TIFF, PNG, JPEG, OME-Zarr.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the labels.")],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    channels: Annotated[str, typer.Option(help="Channels that the model reads, from 0: 0,2")] = "",
    diameter: Annotated[float | None, typer.Option(help="Diameter of the objects, in pixels.")] = None,
) -> None:
    """Write masks of pictures: NAME.tif for each, NAME.ome.zarr for an OME-Zarr. What is there already is left out."""
    from napari_unet.nets.model import load_model  # torch: only when it is needed

    chosen = _channels(channels)
    if diameter is not None and not diameter > 0:
        raise ImageError(f"A diameter of {diameter:g} pixels is none. Give one above 0.")
    tasks = _tasks(inputs, output)
    waiting = {path: target for path, target in tasks.items() if not target.exists()}
    if len(waiting) < len(tasks):
        typer.echo(f"{len(tasks) - len(waiting)} of {len(tasks)} pictures have masks in {output} already.", err=True)
    loaded = load_model(model, device=device) if waiting else None
    failed = False
    with tqdm(total=len(waiting), unit="picture", disable=None) as bar:
        for number, (path, target) in enumerate(waiting.items(), start=1):
            try:
                _predict_one(loaded, path, target, chosen, diameter, bar)
            except UNetLiveError as error:  # one bad picture does not keep the others waiting
                failed = True
                sentence = str(error)
                bar.write(sentence if str(path) in sentence else f"'{path}': {sentence}", file=sys.stderr)
            bar.n = number
            bar.refresh()
    if failed:
        raise typer.Exit(2)


def _tasks(inputs: list[Path], folder: Path) -> dict[Path, Path]:
    """Where the labels of each picture go."""
    tasks: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for path in find_pictures(inputs):
        name = f"{_name_of(path)}.ome.zarr" if is_zarr(path) else f"{_name_of(path)}.tif"
        tasks[path] = target = folder / name
        if target.exists() and target.samefile(path):
            raise ImageError(f"The masks of '{path}' would take its place. Name another folder with -o.")
        other = sources.setdefault(target, path)
        if other != path:
            raise ImageError(f"'{other}' and '{path}' would have the same masks '{name}'. Rename one, or leave it out.")
    return tasks


def _channels(text: str) -> tuple[int, ...] | None:
    """Channels from "0,2"; None for ''."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else None
    except ValueError as error:
        raise ImageError(f"'{text}' names no channels. Write their numbers from 0, like 0,2.") from error


def _predict_one(
    model: Any, path: Path, target: Path, channels: tuple[int, ...] | None, diameter: float | None, bar: Any
) -> None:
    """Labels of one picture into one file."""
    from napari_unet.engine.predict import segment_source

    source = read_picture(path)
    reading = source if channels is None else source.select(channels)
    before = int(bar.n)

    def report(progress: Progress) -> None:
        bar.n = round(before + progress.done / progress.total, 2)
        bar.set_description(path.name[:30])

    labels = segment_source(model, reading, diameter=diameter, report=report)
    if target.suffix == ".tif":
        write_labels(target, labels, source)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    array = create_label_zarr(part, labels.shape, voxel_size=source.voxel_size)
    array[...] = labels.astype(array.dtype)
    part.replace(target)


@app.command()
def train(  # noqa: PLR0913 - each option of the command is one
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    labels: Annotated[Path, typer.Argument(help="Folder of labels of the same names; 0 is background.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    base: Annotated[str, typer.Option("--from", help="A model to start from.")] = "",
    minutes: Annotated[float | None, typer.Option(help="How long to train.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps to train instead.")] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    ignore_label: Annotated[int | None, typer.Option(help="Label of pixels of which nothing is known.")] = None,
    kind: Annotated[str, typer.Option(help="objects or classes.")] = "objects",
    base_channels: Annotated[int, typer.Option(help="Channels of the network at full resolution.")] = 24,
    diameter: Annotated[float | None, typer.Option(help="Size to which objects are brought, in pixels.")] = None,
    also: Annotated[list[Path] | None, typer.Option(help="Another set: a folder with images and labels in it.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Names to leave out, like 'field7_*'.")] = None,
    synthetic: Annotated[int, typer.Option(help="Pictures to make and learn from, too.", min=0)] = 0,
    rehearsal: Annotated[int, typer.Option(help="Pictures to keep beside the model, for later learning.", min=0)] = 0,
    clicks: Annotated[int, typer.Option(help="Steps in which its click head learns after that.", min=0)] = 0,
) -> None:
    """Train a model from folders of pictures and labels. Stopped, the same command goes on."""
    # torch: only when it is needed
    from napari_unet.engine.fit import at_known_size, balanced, fit, kinds_of, made_pictures, new_student
    from napari_unet.engine.rehearsal import chosen
    from napari_unet.engine.rehearsal import write as write_rehearsal

    _check_training(output, minutes, steps, kind, diameter, clicks)
    if minutes is None and steps is None:
        minutes = 60.0
    folders = [(images, labels), *((folder / "images", folder / "labels") for folder in also or ())]
    sets = [_read_set(*folder, ignore_label, leave_out or ()) for folder in folders]
    sets.append(made_pictures(synthetic, seed))
    corrections = [correction for known in sets for correction in known]
    card = _card_of(output.stem, kind, base_channels, seed, corrections)
    output.parent.mkdir(parents=True, exist_ok=True)
    seconds = minutes * 60 if minutes is not None else None
    log = output.with_suffix(".log.jsonl")
    bar = tqdm(total=1000, desc="Training", unit="‰", disable=None)
    start = time.monotonic()
    model, student = new_student(card, base, device, seed)
    if diameter is not None:
        model.card = replace(model.card, diameter=diameter)
    if model.net.settings["out_channels"] < card.architecture["out_channels"]:
        known, wanted = model.net.settings["out_channels"], card.architecture["out_channels"]
        raise ModelError(f"'{base}' knows {known} classes and the labels hold {wanted}. Start from another model.")
    for row in fit(model, student, balanced(sets), output, steps=steps, seconds=seconds, clicks=clicks):
        row["seconds"] = round(time.monotonic() - start, 1)
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        bar.set_postfix(step=row.get("step", row.get("click_step")), loss=row["loss"])
        bar.update(round(1000 * row["progress"]) - bar.n)
    bar.close()
    if rehearsal:
        kept = at_known_size(chosen(kinds_of(sets[:-1]), rehearsal, seed), model.card)
        write_rehearsal(output.with_suffix(".rehearsal.npz"), kept, seed)
    typer.echo(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB).")


def _check_training(
    output: Path, minutes: float | None, steps: int | None, kind: str, diameter: float | None, clicks: int
) -> None:
    """Refuse options that make no training, before anything is read."""
    if output.suffix.lower() != ".safetensors":
        raise ModelError(f"A model is a .safetensors file, and '{output}' is none. Name one with -o.")
    if kind not in KINDS:
        raise ModelError(f"There is no kind '{kind}'. Choose objects or classes with --kind.")
    if diameter is not None and not 1 <= diameter < math.inf:
        raise ModelError(f"Objects cannot be brought to a diameter of {diameter:g} pixels. Give 1 or more.")
    if clicks and kind != "objects":
        raise ModelError("Clicks show objects, and this would be a model of classes. Leave out --clicks.")
    if minutes is not None and steps is not None:
        raise ModelError("The training ends after --minutes or after --steps. Give one of them.")
    if (minutes is not None and not 0 < minutes < math.inf) or (steps is not None and steps < (0 if clicks else 1)):
        raise ModelError("A training of no length teaches nothing. Give --minutes or --steps above 0.")


def _card_of(name: str, kind: str, base_channels: int, seed: int, corrections: list[Correction]) -> ModelCard:
    """The card of a model that learns from these pictures."""
    objects = sum(len(np.unique(c.labels[c.labels > 0])) for c in corrections)
    outputs = max(2, *(int(c.labels.max(initial=0)) + 1 for c in corrections)) if kind == "classes" else 2
    command = shlex.join(["unet-live", *sys.argv[1:]])
    return ModelCard(
        name=name,
        kind=kind,
        architecture={"in_channels": 3, "out_channels": outputs, "base_channels": base_channels},
        classes=("background", *(f"class {n}" for n in range(1, outputs))) if kind == "classes" else (),
        diameter=round(median_diameter(*(c.labels for c in corrections)) or ModelCard.diameter, 1),
        trained_on=f"{len(corrections)} pictures, {objects} objects, seed {seed}, torch {version('torch')}: {command}",
    )


@app.command()
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="Labels to score: a file or a folder.")],
    truth: Annotated[Path, typer.Argument(help="The right labels: a file, or a folder of the same names.")],
    as_json: JsonOption = False,
) -> None:
    """Score labels against the truth: ap50, ap75, map, dice, iou, f1, pq; per picture and in the mean."""
    is_folder = predicted.is_dir() and not is_zarr(predicted)
    pairs = _pairs(predicted, truth) if is_folder else [(predicted, truth)]
    rows = {_name_of(a): evaluate_labels(read_labels(a), read_labels(b)) for a, b in tqdm(pairs, disable=None)}
    mean = mean_scores(list(rows.values()))
    if as_json:
        typer.echo(json.dumps({"pictures": rows, "mean": mean}, indent=1))
        return
    names = list(mean)
    width = max(len(name) for name in [*rows, "mean"])
    typer.echo(" " * width + "".join(f"{name:>7}" for name in names))
    for name, scores in [*rows.items(), ("mean", mean)]:
        typer.echo(f"{name:<{width}}" + "".join(f"{scores[key]:7.3f}" for key in names))


@app.command()
def simulate(  # noqa: PLR0913 - each option of the command is one
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    labels: Annotated[Path, typer.Argument(help="Folder of labels of the same names.")],
    model: ModelOption = "default",
    rounds: Annotated[int, typer.Option(help="Rounds of correcting and learning.", min=1)] = 10,
    corrections: Annotated[int, typer.Option(help="Corrections in each round.", min=1)] = 5,
    seconds: Annotated[float | None, typer.Option(help="Learning in each round; else as long as correcting.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of learning in each round instead.", min=1)] = None,
    order: Annotated[str, typer.Option(help="Where to correct: worst, left-to-right or suggested.")] = "worst",
    held_out: Annotated[float, typer.Option(help="Share of the pictures that only score.", min=0.05, max=0.95)] = 0.5,
    seeds: Annotated[int, typer.Option(help="How often, with other orders of pictures.", min=1)] = 1,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Keep what the last seed has learnt.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this SVG file.")] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """A simulated annotator corrects, the model learns: quality on held-out pictures against the user's effort."""
    from napari_unet.engine.simulate import ORDERS, CurvePoint, Known, divided
    from napari_unet.engine.simulate import simulate as run_simulation
    from napari_unet.nets.model import load_model

    if order not in ORDERS:
        raise ModelError(f"There is no order '{order}'. Choose one of {', '.join(ORDERS)}.")
    if seconds is not None and steps is not None:
        raise ModelError("A round of learning ends after --seconds or after --steps. Give one of them.")
    pairs = _pairs(images, labels)
    if len(pairs) < 2:
        raise LabelsError("One picture cannot be corrected and held out at once. Give two or more.")
    known = [Known(_name_of(a), read_picture(a), read_labels(b)) for a, b in tqdm(pairs, desc="Reading", disable=None)]
    parts = divided(known, held_out)
    runs: dict[int, list[CurvePoint]] = {}
    for seed in range(seeds):
        runs[seed] = []
        loaded = load_model(model, device=device)
        shown = ("ap50", "map") if loaded.card.kind == "objects" else ("dice", "iou")
        budget: dict[str, Any] = {"seconds": seconds, "steps": steps, "order": order, "seed": seed}
        curve = run_simulation(loaded, *parts, rounds=rounds, corrections=corrections, **budget)
        for point in tqdm(curve, total=rounds + 1, desc=f"Seed {seed}", unit="round", disable=None):
            runs[seed].append(point)
            if not as_json:
                done = ", ".join(f"{n} {kind}" for kind, n in point.acts.items())
                typer.echo(
                    f"seed {seed}: {point.corrections:3d} corrections, {point.user_seconds / 60:5.1f} min: "
                    + ", ".join(f"{name} {point.scores[name]:.3f}" for name in shown)
                    + "; "
                    f"{point.right:.0%} were right; {done}"
                )
    if output is not None:
        loaded.save(output)
    if plot is not None:
        curves = {f"seed {s}": [(float(p.corrections), p.scores[shown[0]]) for p in run] for s, run in runs.items()}
        plot.write_text(curves_svg(curves, x="corrections", y=f"{shown[0]} of held-out pictures"), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({f"seed {s}": [asdict(p) for p in run] for s, run in runs.items()}, indent=1))


@app.command()
def info(as_json: JsonOption = False) -> None:
    """Versions, devices and shipped models: what a bug report needs."""
    from napari_unet.engine.device import backend_for, device_names
    from napari_unet.nets.model import shipped_models

    packages = ("napari-unet-live", "torch", "napari", "numpy", "scikit-image", "zarr", "qtpy")
    facts = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "devices": {name: backend_for(name).line for name in device_names()},
        "chosen": backend_for("auto").line,
        "models": {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in shipped_models().items()},
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name:<9} {shown}")


def run(command: typer.Typer) -> None:
    """Run a command line; every failure is one sentence, exit code 2 for a user's mistake, 1 else."""
    try:
        code = command(standalone_mode=False) or 0
    except Exception as error:
        sentence, code = _sentence_and_code(error)
        typer.echo(sentence, err=True)
        raise SystemExit(code) from error
    if code == STOPPED:
        typer.echo("Stopped.", err=True)
    raise SystemExit(code)


def _sentence_and_code(error: Exception) -> tuple[str, int]:
    """What to say of a failure, and with which exit code."""
    if isinstance(error, UNetLiveError):
        return str(error), 2
    usage = getattr(error, "format_message", None)  # a mistake on the command line, found by click
    if usage is not None:
        return f"{' '.join(usage().split()).rstrip('.')}; add --help to see how the command is used.", 2
    if isinstance(error, OSError) and error.strerror:
        about = f" '{error.filename}'" if error.filename else ""
        return f"The system refused{about}: {error.strerror}.", 1
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return f"Something went wrong inside U-Net Live ({said}); report it with what 'unet-live info' says.", 1
