"""What a black frame costs: ap50 of pictures cut smaller, as large as before but black there, and turned.

    python tests/benchmarks/framed.py FOLDER [FOLDER ...] [--pictures 8]

Each folder holds `images` and `labels`, as `kinds.py` makes them. Stitched pictures, and such that were moved onto each
other, have such frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.io import imread

from napari_unet import load_model, segment
from napari_unet.core.metrics import evaluate

PART, DEGREES = 0.15, 3


def main() -> None:
    """Print a row for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=8, help="Of each folder, the first ones.")
    options = parser.parse_args()
    model, rows = load_model(), []

    def score(image: np.ndarray, truth: np.ndarray) -> float:
        return evaluate(segment(model, image), truth)["ap50"]

    print("kind: whole, cut, framed, turned")
    for folder in options.folders:
        scores = []
        for path in sorted((folder / "images").iterdir())[: options.pictures]:
            image, truth = imread(path), imread(folder / "labels" / path.name)
            image = image[..., :3] if image.ndim == 3 else image
            side = int(PART * len(image))
            inside = np.s_[side:, :-side]
            framed, left = np.zeros_like(image), np.zeros_like(truth)
            framed[inside], left[inside] = image[inside], truth[inside]
            turned = [ndimage.rotate(each, DEGREES, order=0) for each in (image, truth)]
            scores.append(
                [score(image, truth), score(image[inside], truth[inside]), score(framed, left), score(*turned)]
            )
        rows.append(np.mean(scores, 0))
        print(f"{folder.name}: {', '.join(f'{value:.3f}' for value in rows[-1])}", flush=True)
    print(f"mean: {', '.join(f'{value:.3f}' for value in np.mean(rows, 0))}")


if __name__ == "__main__":
    main()
