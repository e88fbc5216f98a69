"""unet-live predict: masks of files and folders."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from napari_unet.cli.program import DeviceOption, ModelOption, app, at_its_fastest, name_of
from napari_unet.core.errors import ImageError, UNetLiveError
from napari_unet.core.events import Progress
from napari_unet.store.ome_zarr import create_label_zarr, is_zarr
from napari_unet.store.pictures import find_pictures, read_picture, write_labels


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
    if loaded is not None:
        at_its_fastest(loaded)
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
        name = f"{name_of(path)}.ome.zarr" if is_zarr(path) else f"{name_of(path)}.tif"
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
    from napari_unet.engine.segment import segment_source

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
