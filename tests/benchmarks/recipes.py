"""Recipes of learning side by side: what each makes of corrections, in mean and spread over seeds.

    python tests/benchmarks/recipes.py IMAGES LABELS --change learning_rate=1e-3 --change warmup=1,augmentation.grey=1
    python tests/benchmarks/recipes.py IMAGES LABELS --same --change teacher=1 --change freeze=encoders
    python tests/benchmarks/recipes.py IMAGES LABELS --all --steps 960

The first row is the recipe in use; each --change is another one, with some of its fields changed. In a loop each recipe
gets corrections of the mistakes of its own model. With --same all learn, without rounds and gates, at the whole rate
and all of the way (`settled` and `share` change nothing), from the very corrections that a loop of the recipe in use
gathered, and are scored before, after a half, three quarters and all of their steps: less chance, and less of what is
asked of them. With --all they learn from all labels of those pictures: what could be had. Only in these two may parts
of the network be frozen. Budgets are steps, not seconds, so that a busy machine gives the same figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.core.corrections import Correction
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import evaluate, mean_scores
from napari_unet.core.sizes import median_diameter, usual_scale
from napari_unet.engine.fit import at_known_size
from napari_unet.engine.measure import measured_by
from napari_unet.engine.pool import Pool
from napari_unet.engine.rehearsal import rehearsal_of
from napari_unet.engine.sampling import split
from napari_unet.engine.segment import segment_source
from napari_unet.engine.simulate import Known, divided, simulate
from napari_unet.engine.student import FINE_TUNE, Recipe, Student
from napari_unet.nets.model import Model, load_model
from napari_unet.nets.weights import rounded
from napari_unet.store.pictures import find_pictures, read_labels, read_picture

Parts = tuple[Sequence[Known], Sequence[Known]]
FREEZE = "freeze"


def fields_of(text: str) -> dict[str, str]:
    """Names and values as in "learning_rate=1e-3,warmup=1"."""
    return dict(part.split("=") for part in text.split(",") if part)


def changed(recipe: Any, fields: dict[str, str]) -> Any:
    """A recipe with some fields changed; those of its augmentation are named "augmentation.scale"."""
    own = {name: value for name, value in fields.items() if "." not in name and name != FREEZE}
    deep = {name.partition(".")[2]: value for name, value in fields.items() if "." in name}
    values = {name: type(getattr(recipe, name))(float(value)) for name, value in own.items()}
    if deep:
        values["augmentation"] = changed(recipe.augmentation, deep)
    return replace(recipe, **values)


def read(images: Path, labels: Path) -> list[Known]:
    """The pictures of a folder whose truth has the same name."""
    truth = {path.stem: path for path in find_pictures([labels])}
    found = [path for path in find_pictures([images]) if path.stem in truth]
    return [Known(path.stem, read_picture(path), read_labels(truth[path.stem])) for path in found]


def named(model: Model) -> str:
    """Which score counts."""
    return "ap50" if model.card.kind == "objects" else "dice"


def curve(model: Model, parts: Parts, fields: dict[str, str], **budget: Any) -> list[float]:
    """The score after each round, with the recipe in use and what is changed of it."""
    recipe = changed(FINE_TUNE, fields)
    return [point.scores[named(model)] for point in simulate(model, *parts, recipe=recipe, **budget)]


def gathered(model: Model, parts: Parts, **budget: Any) -> list[Correction]:
    """The corrections of a loop of the recipe in use."""
    pool = Pool()
    for _ in simulate(model, parts[0], parts[1][:1], pool=pool, **budget):
        pass
    return split(list(pool))[0]


def everything(model: Model, pictures: Sequence[Known]) -> list[Correction]:
    """All labels of pictures, each picture at the true size of its objects."""
    whole = [
        Correction(
            known.source.read(Box.whole(known.truth.shape)),
            known.truth,
            np.ones(known.truth.shape, bool),
            known.source.limits(),
            channels_first=True,
        )
        for known in pictures
    ]
    return at_known_size(whole, model.card)


def usual(pictures: Sequence[Known]) -> float:
    """The usual size of the objects in pictures whose labels are known."""
    return float(np.median([size for known in pictures if (size := median_diameter(known.truth))]))


def learnt(
    model: Model,
    held_out: Sequence[Known],
    taught: list[Correction],
    fields: dict[str, str],
    *,
    steps: int,
    seed: int,
    expected: float | None = None,
) -> list[float]:
    """The scores on the way through so many steps on the same corrections, nothing learnt first."""
    recipe: Recipe = changed(FINE_TUNE, fields)
    student = Student(model, recipe, seed, rehearsal_of(model))
    for name, weights in student.net.named_parameters():
        weights.requires_grad_(not (FREEZE in fields and name.startswith(fields[FREEZE])))
    scores = [score(model, held_out, expected)]
    for _ in student.heed(model, taught):
        pass
    for step in range(1, steps + 1):
        for _ in range(recipe.batch):
            student.study(taught)
        student.advance(recipe.learning_rate)
        if step in (steps // 2, steps * 3 // 4, steps):
            model.replace_weights(rounded(student.average))
            scores.append(score(model, held_out, expected))
    return scores


def score(model: Model, held_out: Sequence[Known], expected: float | None) -> float:
    """Of pictures at the size that the model measures in them, perhaps where another one is expected."""
    masks = []
    for known in held_out:
        sight = measured_by(model, known.source, expected=expected)
        scale = usual_scale(sight.diameter, model.card.diameter)
        masks.append(segment_source(model, sight.of(known.source), scale=scale))
    return mean_scores([evaluate(m, known.truth) for m, known in zip(masks, held_out, strict=True)])[named(model)]


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--held-out", type=float, default=0.3)
    parser.add_argument("--change", action="append", default=[])
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--all", action="store_true")
    for name, value in {"rounds": 5, "corrections": 10, "steps": 192, "seeds": 2, "first-seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    parts = divided(read(options.images, options.labels), options.held_out)
    budget = {name: getattr(options, name) for name in ("rounds", "corrections", "steps")}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    taught: list[list[Correction]] = []
    if options.all:
        taught = [everything(load_model(options.model), parts[0])] * options.seeds
    elif options.same:
        taught = [gathered(load_model(options.model), parts, seed=s, **budget) for s in seeds]
    for text in ["", *options.change]:
        fields = fields_of(text)
        if taught:
            how = {"steps": options.steps, "expected": usual(parts[0]) if options.all else None}
            known = zip(taught, seeds, strict=True)
            runs = [learnt(load_model(options.model), parts[1], t, fields, seed=s, **how) for t, s in known]
        else:
            runs = [curve(load_model(options.model), parts, fields, seed=s, **budget) for s in seeds]
        means, spread = np.mean(runs, 0), np.std(runs, 0)
        shown = "  ".join(f"{mean:.3f} ± {s:.3f}" for mean, s in zip(means, spread, strict=True))
        print(f"{text or 'in use':<40} {shown}", flush=True)


if __name__ == "__main__":
    main()
