"""unet-live predict: masks of files and folders."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from napari_unet.cli.cluster import cluster, threads_of
from napari_unet.cli.large import LARGE, ONE_AT_A_TIME, SHARED, Plan, predict_large
from napari_unet.cli.program import (
    DeviceOption,
    ModelOption,
    Way,
    app,
    at_its_fastest,
    loaded_model,
    make_folder,
    model_in_way,
    name_of,
    sentence_and_code,
    way_of,
)
from napari_unet.core.card import whole_name
from napari_unet.core.errors import ImageError, UNetLiveError
from napari_unet.store.ome_zarr import is_zarr
from napari_unet.store.pictures import find_pictures, find_unread, read_picture, unread_in, write_labels


@app.command()
def predict(  # noqa: PLR0913 - each option of the command is one
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them: TIFF, PNG, JPEG, OME-Zarr.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the labels.")],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    channels: Annotated[str, typer.Option(help="Channels that the model reads, from 0: 0,2")] = "",
    diameter: Annotated[float | None, typer.Option(help="Diameter of the objects, in pixels.")] = None,
    workers: Annotated[int, typer.Option(help="Processes to work with on this computer, of one core each.", min=0)] = 0,
    scheduler: Annotated[str, typer.Option(help="Address of a dask scheduler whose workers do it.")] = "",
) -> None:
    """Write masks of pictures: NAME.tif for each, NAME.ome.zarr for an OME-Zarr or a picture of over 67 million pixels.

    What is there already is left out. A large picture goes on from where it was stopped. --workers and --scheduler
    need the extra 'cluster'.
    """
    chosen = _channels(channels)
    if diameter is not None and not diameter > 0:
        raise ImageError(f"A diameter of {diameter:g} pixels is none. Give one above 0.")
    tasks = _tasks(inputs, output)
    codes = _tell_unread(inputs)
    waiting = {path: target for path, target in tasks.items() if not target.exists() and not _as_zarr(target).exists()}
    if len(waiting) < len(tasks):
        left_out = f"{len(tasks) - len(waiting)} of {len(tasks)} pictures have masks in {output} already"
        typer.echo(f"{left_out}, and are left out. To make them anew, name another folder with -o.", err=True)
    if not waiting:
        raise typer.Exit(min(codes, default=0))
    make_folder(output)
    name = whole_name(model)
    at_its_fastest(loaded_model(name, device))
    wish = _Wish(name, device, way_of(loaded_model(name, device)), chosen, diameter)
    with cluster(scheduler, workers) as pool, tqdm(total=len(waiting), unit="picture", disable=None) as bar:
        for number, (path, predicted) in enumerate(_predicted(waiting, wish, pool, bar), start=1):
            try:
                if left_out := predicted():
                    bar.write(left_out, file=sys.stderr)
            except Exception as error:  # noqa: BLE001  one bad picture does not keep the others waiting
                sentence, code = sentence_and_code(error)
                codes.append(code)
                bar.write(sentence if str(path) in sentence else f"'{path}': {sentence}", file=sys.stderr)
            bar.n = number
            bar.refresh()
    if codes:
        raise typer.Exit(min(codes))


@dataclass(frozen=True)
class _Wish:
    """What is wanted of every picture: plain values, the same wherever they are sent."""

    name: str
    device: str
    way: Way
    channels: tuple[int, ...] | None
    diameter: float | None


def _predicted(waiting: dict[Path, Path], wish: _Wish, pool: Any, bar: Any) -> Iterator[tuple[Path, Callable[[], str]]]:
    """The pictures, and what to call for each: it is through when that returns, and what it gives is to be told.

    Where several processes work, small pictures are all begun at once, each by one of them; they share larger ones.
    """
    small = [path for path in waiting if _is_small(path)] if pool is not None else []
    begun = {
        path: pool.submit(predict_file, wish, path.absolute(), waiting[path].absolute(), threads_of(pool), pure=False)
        for path in small
    }
    for path, target in waiting.items():
        yield path, begun[path].result if path in begun else partial(_predict_one, wish, path, target, pool, bar)


def _is_small(path: Path) -> bool:
    """Whether a picture is one process's work; one that cannot be read is soon done."""
    try:
        return math.prod(read_picture(path).shape) <= SHARED
    except UNetLiveError:
        return True


def predict_file(wish: _Wish, path: Path, target: Path, threads: int) -> str:
    """Masks of one picture, in a process beside others; what of the file was left out."""
    import torch

    with ONE_AT_A_TIME:
        torch.set_num_threads(threads)
        return _predict_one(wish, path, target, None, tqdm(disable=True))


def _as_zarr(target: Path) -> Path:
    """Where the labels of a large picture go."""
    return target if target.suffix == ".zarr" else target.with_suffix(".ome.zarr")


def _tasks(inputs: list[Path], folder: Path) -> dict[Path, Path]:
    """Where the labels of each picture go; not into a folder that is read, where they would be pictures next time."""
    for path in inputs:
        if path.is_dir() and folder.is_dir() and path.samefile(folder):
            raise ImageError(f"The masks would lie among the pictures in '{path}'. Name another folder with -o.")
    tasks: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for path in find_pictures(inputs):
        name = f"{name_of(path)}.ome.zarr" if is_zarr(path) else f"{name_of(path)}.tif"
        tasks[path] = target = folder / name
        if target.exists() and path.exists() and target.samefile(path):
            raise ImageError(f"The masks of '{path}' would take its place. Name another folder with -o.")
        other = sources.setdefault(target, path)
        if other != path:
            raise ImageError(f"'{other}' and '{path}' would have the same masks '{name}'. Rename one, or leave it out.")
    return tasks


def _tell_unread(inputs: list[Path]) -> list[int]:
    """Say of the files that were named and are none that is read why not; an exit code for each."""
    codes = []
    for path in find_unread(inputs):
        try:
            read_picture(path)
        except UNetLiveError as error:
            sentence, code = sentence_and_code(error)
            typer.echo(sentence, err=True)
            codes.append(code)
    return codes


def _channels(text: str) -> tuple[int, ...] | None:
    """Channels from "0,2"; None for ''."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else None
    except ValueError as error:
        raise ImageError(f"'{text}' names no channels. Write their numbers from 0, like 0,2.") from error


def _predict_one(wish: _Wish, path: Path, target: Path, pool: Any, bar: Any) -> str:
    """Labels of one picture into one file; the sentence that says what of it was left out, if anything."""
    from napari_unet.engine.device import backend_of
    from napari_unet.engine.measure import as_seen_by
    from napari_unet.engine.segment import segment_source

    model, source = model_in_way(wish.name, wish.device, wish.way), read_picture(path)
    reading, scale = as_seen_by(model, source if wish.channels is None else source.select(wish.channels), wish.diameter)
    before = int(bar.n)

    def report(done: int, total: int) -> None:
        bar.n = round(before + done / total, 2)
        bar.set_description(path.name[:30])

    voxels = math.prod(source.shape)
    if voxels <= (LARGE if pool is None else SHARED) and target.suffix != ".zarr":
        labels = segment_source(
            model, reading, scale=scale, report=lambda progress: report(progress.done, progress.total)
        )
        write_labels(target, labels, source)
        return unread_in(path)
    folder = _as_zarr(target)
    plan = Plan(
        picture=str(path.absolute()),
        key=source.key(),
        model=wish.name,
        device=wish.device,
        way=wish.way,
        sha256=model.sha256(),
        channels=wish.channels,
        is_inverted=reading.is_inverted,
        scale=scale,
        core=backend_of(model).large_core,
        folder=str(folder.with_name(f".{folder.name}.blocks").absolute()),
    )
    predict_large(model, reading, plan, target if voxels <= LARGE else folder, pool=pool, report=report)
    return unread_in(path)
