"""Clicks until an object is right: the click head beside what is there without it, on the same objects.

    python tests/benchmarks/clicks.py IMAGES LABELS --every 4 --objects 6

The first click is in the middle of an object, each next one in the middle of the largest error. Beside it: the object
of the dense prediction under the first click, and the region of Otsu's threshold there. Of each picture the same number
of objects is drawn by lot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.measure import label as connected

from napari_unet.core.annotator import point_inside
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.prompts import Prompts, next_click
from napari_unet.core.sizes import usual_scale
from napari_unet.engine.click import ClickSegmenter
from napari_unet.engine.measure import measured_by
from napari_unet.engine.predict import segment_source
from napari_unet.nets.model import load_model
from napari_unet.store.pictures import find_pictures, read_labels, read_picture

Mask = npt.NDArray[np.bool_]
SMALLEST, GOOD = 20, 0.85


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def under(labels: npt.NDArray[np.integer], point: tuple[int, ...]) -> Mask:
    """The object at a point; nothing on background."""
    return (labels == labels[point]) & (labels > 0)


def otsu(source: ImageSource, point: tuple[int, ...]) -> Mask:
    """The region of a threshold, on the side of it on which the point lies."""
    grey = source.read(Box.whole(source.shape)).reshape(-1, *source.shape).mean(0)
    above = grey > threshold_otsu(grey)
    return under(connected(above == above[point]) * (above == above[point]), point)


def clicks(segmenter: ClickSegmenter, truth: Mask, most: int) -> tuple[list[float], list[float]]:
    """IoU and seconds after each click, until it is good; what is good stays so."""
    prompts, mask, scores, seconds = Prompts().and_click(point_inside(truth), True), None, [], []
    while len(scores) < most:
        start = time.perf_counter()
        mask = segmenter.answer(prompts, mask)
        seconds.append(time.perf_counter() - start)
        found = mask.over(truth.shape)
        scores.append(iou(found, truth))
        following = next_click(found, truth)
        if scores[-1] >= GOOD or following is None:
            break
        prompts = prompts.and_click(*following)
    return scores, seconds


def main() -> None:
    """Click, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", default="*", help="names of pictures, like 'set*3'")
    for name, value in {"every": 1, "objects": 6, "clicks": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    model, random = load_model(options.model), np.random.default_rng(0)
    truths = {path.stem: path for path in find_pictures([options.labels])}
    chosen = [path for path in find_pictures([options.images]) if path.match(options.only + path.suffix)]
    runs, seconds, dense, threshold = [], [], [], []
    for path in chosen[:: options.every]:
        source, truth = read_picture(path), read_labels(truths[path.stem])
        scale = usual_scale(measured_by(model, source), model.card.diameter)
        segmenter = ClickSegmenter(model)
        segmenter.look_at(source, (), scale)
        predicted = segment_source(model, source, diameter=model.card.diameter / scale)
        numbers = random.permutation(np.unique(truth[truth > 0]))[: options.objects]
        for mask in (truth == number for number in numbers):
            if mask.sum() < SMALLEST:
                continue
            scores, spent = clicks(segmenter, mask, options.clicks)
            runs.append(scores)
            seconds += spent
            middle = point_inside(mask)
            dense.append(iou(under(predicted, middle), mask))
            threshold.append(iou(otsu(source, middle), mask))
    print(f"{len(runs)} objects; IoU after one click: dense {np.mean(dense):.3f}, Otsu {np.mean(threshold):.3f}")
    for count in (1, 2, 3, 5, 10):
        print(f"IoU after {count} clicks, at most: {np.mean([max(scores[:count]) for scores in runs]):.3f}")
    needed = [len(scores) if scores[-1] >= GOOD else options.clicks for scores in runs]
    print(f"clicks to IoU {GOOD}, at most {options.clicks}: {np.mean(needed):.2f}")
    print(f"milliseconds a click: median {1e3 * np.median(seconds):.0f}, p95 {1e3 * np.percentile(seconds, 95):.0f}")


if __name__ == "__main__":
    main()
