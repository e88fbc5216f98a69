"""unet-live evaluate: labels against the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from napari_unet.cli.program import JsonOption, app, name_of, pairs_of, tell_unread
from napari_unet.core.corrections import Labels
from napari_unet.core.errors import LabelsError
from napari_unet.core.metrics import evaluate as evaluate_labels
from napari_unet.core.metrics import mean_scores
from napari_unet.store.ome_zarr import is_zarr
from napari_unet.store.pictures import read_labels, read_picture


@app.command()
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="Labels to score: a file or a folder.")],
    truth: Annotated[Path, typer.Argument(help="The right labels: a file, or a folder of the same names.")],
    as_json: JsonOption = False,
) -> None:
    """Score labels against the truth: ap50, ap75, map, dice, iou, f1, pq; per picture and in the mean."""
    has_folder = any(path.is_dir() and not is_zarr(path) for path in (predicted, truth))
    pairs = pairs_of(predicted, truth) if has_folder else [(predicted, truth)]
    if not has_folder:
        tell_unread(pairs)
    rows = {name_of(a): _scores(a, b) for a, b in tqdm(pairs, disable=None)}
    mean = mean_scores(list(rows.values()))
    if as_json:
        typer.echo(json.dumps({"pictures": rows, "mean": mean}, indent=1))
        return
    names = list(mean)
    width = max(len(name) for name in [*rows, "mean"])
    typer.echo(" " * width + "".join(f"{name:>7}" for name in names))
    for name, scores in [*rows.items(), ("mean", mean)]:
        typer.echo(f"{name:<{width}}" + "".join(f"{scores[key]:7.3f}" for key in names))


def _scores(predicted: Path, truth: Path) -> dict[str, float]:
    """The scores of one picture."""
    found, right = read_labels(predicted), read_labels(truth)
    before = max(map(_axes_before_space, (predicted, truth))) if found.ndim > 2 else 0
    try:
        return evaluate_labels(_apart(found, before), _apart(right, before))
    except LabelsError as error:
        raise LabelsError(f"'{predicted}': {error}") from error


def _axes_before_space(path: Path) -> int:
    """How many axes of labels are none of space, but moments of a time series and the like."""
    return len(read_picture(path).letters.rstrip("ZYX"))


def _apart(labels: Labels, axes: int) -> Labels:
    """Labels in which the objects of each moment are objects of their own, whether their ids go on or begin anew."""
    moments = labels.shape[:axes]
    if math.prod(moments) == 1:
        return labels
    number = np.arange(math.prod(moments)).reshape(*moments, *(1,) * (labels.ndim - axes))
    labels = labels.astype(np.int64)
    return np.where(labels > 0, labels + number * (labels.max() + 1), labels)
