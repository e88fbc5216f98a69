"""The mean of the weights of models that come from each other, and BatchNorm's statistics measured anew.

    python tests/benchmarks/averaged.py MODEL [MODEL ...] -o FILE [--data FOLDER]

The card, and the click head, are those of the last model. With `--data` (the folder with index.csv in it) the network
sees crops of the pictures that the shipped model has learnt from, and made ones, as in a training, and keeps the mean
of the means and variances that it meets: those of a mean of weights are not the mean of theirs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_unet import load_model
from napari_unet.cli.program import pairs_of
from napari_unet.cli.train import _read_set
from napari_unet.engine.fit import at_known_size, balanced, made_pictures
from napari_unet.engine.student import FROM_PICTURES, Student
from napari_unet.nets.model import Model

SETS = ("dsb2018/train", "usiigaci_phase_2xbin", "colicoords_ecoli_bf")
LEFT_OUT = ("set*3", "set*7", "0000[126]")
MADE, BATCHES, SEED = 300, 150, 25


def mean_of(models: list[Model]) -> dict[str, Tensor]:
    """The mean of the weights of some networks; counts are those of the last."""
    states = [model.net.state_dict() for model in models]
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def measured_anew(model: Model, data: Path) -> dict[str, Tensor]:
    """The weights of a model with statistics of BatchNorm that belong to them."""
    pairs = [pairs_of(data / name / "images", data / name / "labels", LEFT_OUT) for name in SETS]
    sets = [*(_read_set(known, None) for known in pairs), *made_pictures(MADE, SEED)]
    student = Student(model, FROM_PICTURES, SEED)
    corrections = at_known_size(balanced(sets), model.card)
    for layer in student.net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all that it meets
    student.net.train()
    with torch.no_grad(), student.backend.autocast():
        for _ in range(BATCHES):
            student.net(student._batch(corrections).images)
    return student.net.state_dict()


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="The folder with index.csv in it.")
    options = parser.parse_args()
    models = [load_model(name, device="cpu") for name in options.models]
    model, story = models[-1], []
    if len(models) > 1:
        model.replace_weights(mean_of(models), version=0)
        story.append(f"the mean of the weights of {' and '.join(Path(name).stem for name in options.models)}")
    if options.data is not None:
        model.replace_weights(measured_anew(model, options.data), version=0)
        story.append("the statistics of BatchNorm measured anew")
    told = "; then ".join([model.card.trained_on, *story])
    model.card = replace(model.card, name=options.output.stem, trained_on=told)
    model.save(options.output)


if __name__ == "__main__":
    main()
