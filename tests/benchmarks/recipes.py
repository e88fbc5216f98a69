"""Recipes of learning side by side: what each makes of the same corrections, in mean and spread over seeds.

    python tests/benchmarks/recipes.py IMAGES LABELS --change learning_rate=1e-3 --change warmup=1,averaging=0.97

The first row is the recipe in use; each --change is another one, with some of its fields changed. Budgets are steps,
not seconds, so that a busy machine gives the same figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_unet.engine.simulate import Known, divided, simulate
from napari_unet.engine.student import FINE_TUNE, Recipe
from napari_unet.nets.model import load_model
from napari_unet.store.pictures import find_pictures, read_labels, read_picture


def changed(recipe: Recipe, text: str) -> Recipe:
    """A recipe with fields as in "learning_rate=1e-3,warmup=1"."""
    fields = dict(part.split("=") for part in text.split(",") if part)
    return replace(recipe, **{name: type(getattr(recipe, name))(float(value)) for name, value in fields.items()})


def read(images: Path, labels: Path) -> list[Known]:
    """The pictures of a folder whose truth has the same name."""
    truth = {path.stem: path for path in find_pictures([labels])}
    found = [path for path in find_pictures([images]) if path.stem in truth]
    return [Known(path.stem, read_picture(path), read_labels(truth[path.stem])) for path in found]


def curve(model: str, parts: tuple[Sequence[Known], Sequence[Known]], text: str, **budget: int) -> list[float]:
    """The score after each round, with the recipe in use and what `text` changes of it."""
    loaded = load_model(model)
    recipe = changed(FINE_TUNE, text)
    name = "ap50" if loaded.card.kind == "objects" else "dice"
    return [point.scores[name] for point in simulate(loaded, *parts, recipe=recipe, **budget)]


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--held-out", type=float, default=0.3)
    parser.add_argument("--change", action="append", default=[])
    for name, value in {"rounds": 5, "corrections": 10, "steps": 96, "seeds": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    parts = divided(read(options.images, options.labels), options.held_out)
    budget = {name: getattr(options, name) for name in ("rounds", "corrections", "steps")}
    for text in ["", *options.change]:
        runs = [curve(options.model, parts, text, seed=seed, **budget) for seed in range(options.seeds)]
        means, spread = np.mean(runs, 0), np.std(runs, 0)
        shown = "  ".join(f"{mean:.3f} ± {s:.3f}" for mean, s in zip(means, spread, strict=True))
        print(f"{text or 'in use':<40} {shown}", flush=True)


if __name__ == "__main__":
    main()
