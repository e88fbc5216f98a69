"""How new the pictures of folders look to models: the median, the least and the most of each folder's pictures.

    python tests/benchmarks/novelty.py default left.safetensors -- kinds/*

Each folder holds images/ and labels/, as `kinds.py` makes them. A picture is looked at in the middle, at the true size
of its objects. Prints Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_unet.core.corrections import Correction
from napari_unet.core.geometry import Box
from napari_unet.engine.fit import at_known_size
from napari_unet.engine.rehearsal import SIDE, familiar_to
from napari_unet.engine.sampling import resampled
from napari_unet.nets.model import Model, load_model
from napari_unet.store.pictures import find_pictures, read_labels, read_picture

MOST = 16
"""Pictures of a folder, evenly spread over it."""


def novelties(model: Model, folder: Path) -> list[float]:
    """How new each of some pictures of a folder looks."""
    truth, familiar = {path.stem: path for path in find_pictures([folder / "labels"])}, familiar_to(model)
    found = [path for path in find_pictures([folder / "images"]) if path.stem in truth]
    told = []
    for path in found[:: -(-len(found) // MOST)]:
        source, labels = read_picture(path), read_labels(truth[path.stem])
        raw = source.read(Box.whole(source.shape))
        known = Correction(raw, labels, np.ones(labels.shape, bool), source.limits(), channels_first=True)
        image, _ = resampled(at_known_size([known], model.card)[0])
        image = np.repeat(image, model.card.in_channels // len(image), 0)
        start = [max(0, (n - SIDE) // 2) for n in image.shape[1:]]
        told.append(familiar.novelty(image[:, *(slice(a, a + SIDE) for a in start)]))
    return told


def main() -> None:
    """Measure, and print a table."""
    cut = sys.argv.index("--")
    names, folders = sys.argv[1:cut], [Path(name) for name in sys.argv[cut + 1 :]]
    models = [load_model(name, device="cpu") for name in names]
    print("| novelty: median (least to most) | pictures |" + "".join(f" {Path(name).stem} |" for name in names))
    print("| --- | --- |" + " --- |" * len(names))
    for folder in folders:
        told = [novelties(model, folder) for model in models]
        shown = "".join(f" {np.median(each):.2f} ({min(each):.1f} to {max(each):.1f}) |" for each in told)
        print(f"| {folder.name} | {len(told[0])} |{shown}", flush=True)


if __name__ == "__main__":
    main()
