"""What a CUDA device makes of it: the network against milesial's way and the chip, first masks, clicks and rounds.

    python tests/benchmarks/gpu.py [--milesial FOLDER] [--json FILE] [--budget SECONDS] [--only PART ...] [--smoke]

Of each part the facts are written when it ends, and what goes wrong in one is printed and does not end the others.
`--smoke` goes through it on the processor with tiny sizes, to see that it runs. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gpu_network import Bench, rates, seed_network, shares
from scipy import ndimage
from skimage.io import imread

import napari_unet
from napari_unet import load_model, segment
from napari_unet.core.corrections import Correction
from napari_unet.core.events import Prediction, WeightsChanged
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.synthetic import synthetic_pictures
from napari_unet.engine import predict as predicting
from napari_unet.engine import segment as segmenting
from napari_unet.engine.choice import measure_speeds, take_fastest
from napari_unet.engine.click import ClickSegmenter
from napari_unet.engine.device import backend_for, choose, usable_cores
from napari_unet.engine.fit import made_pictures
from napari_unet.engine.network import run_network
from napari_unet.engine.student import FROM_PICTURES, Student
from napari_unet.engine.train import fine_tune


def picture_of(side: int) -> np.ndarray:
    """A grey picture of so many pixels, of the sample that is shipped."""
    tile = imread(Path(napari_unet.__file__).parent / "samples" / "fluorescence.tif")
    return np.tile(tile, [-(-side // n) for n in tile.shape])[:side, :side].copy()


def start_up(bench: Bench) -> dict:
    """The first mask in a new process, and of a second model when CUDA has started."""
    picture, facts = picture_of(bench.side(1024)), {}
    for name in ("first model of the process", "second model", "third model"):
        start = time.perf_counter()
        model = load_model(device=bench.device)
        loaded = time.perf_counter()
        labels = segment(model, picture)
        first = time.perf_counter()
        segment(model, picture)
        again = time.perf_counter()
        facts[name] = {"load": loaded - start, "first mask": first - loaded, "again": again - first}
        facts[name]["objects"] = int(labels.max())
    start = time.perf_counter()
    plane = predicting.plane_of(model, ImageSource.of_array(picture), core=backend_for(model.device).core)
    plane.source.limits()
    next(event for event in predicting.predict(model, plane) if isinstance(event, Prediction))
    facts["one tile in view, size known"] = time.perf_counter() - start
    return facts


def agreement(bench: Bench) -> dict:
    """Masks of each number type against float32's, as the app measures them."""
    model = load_model(device=bench.device)
    measuring = measure_speeds(model)
    while True:
        try:
            next(measuring)
        except StopIteration as end:
            speeds = end.value
            break
    rows = {f"{s.form}, {s.number_type}": {**s.__dict__, "is alike": s.is_alike} for s in speeds}
    return {**rows, "taken": take_fastest(model, speeds).number_type}


def shipped(bench: Bench) -> dict:
    """Pictures to labels, in seconds, with the share of the instances, and in how much memory."""
    facts, spent = {}, [0.0]

    def timed(*arguments: object) -> object:
        start = time.perf_counter()
        labels = build_objects(*arguments)
        spent[0] += time.perf_counter() - start
        return labels

    model = load_model(device=bench.device)
    usual = backend_for(model.device)
    grey = picture_of(bench.side(2048))
    pictures = {
        "1024 grey": picture_of(bench.side(1024)),
        "2048 grey": grey,
        "2048 colour": np.stack([grey, grey // 2, grey // 3], -1),
    }
    pictures["4096 grey"] = picture_of(bench.side(4096))
    predicting.build_objects = timed
    usual_hands = segmenting.hands_for
    several = usable_cores() // 2
    for hands, core in ((several, 1024), (several, 512), (several, 2048), (1, 1024)):
        segmenting.hands_for = lambda _, hands=hands: max(1, hands)
        choose(model, replace(usual, large_core=core))
        for name, picture in pictures.items():
            if name.startswith("4096") and hands == 1:  # it takes long, and says no more
                continue
            for _ in range(0 if name.startswith("4096") else 2):
                segment(model, picture)
            spent[0], start = 0.0, time.perf_counter()
            segment(model, picture)
            seconds = time.perf_counter() - start
            fact = {"seconds": seconds, "instances, all threads": spent[0], "peak GB": peak(bench)}
            facts[f"{name}, tiles of {core}, {hands} at a time"] = fact
    segmenting.hands_for = usual_hands
    predicting.build_objects = build_objects
    choose(model, usual)
    return facts


def large(bench: Bench) -> dict:
    """Very large pictures, as long as there is time."""
    facts, model, expected = {}, load_model(device=bench.device), 0.0
    for side in (8192, 16384):
        if bench.left < expected + 3:
            break
        picture = picture_of(bench.side(side))
        if bench.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        segment(model, picture)
        seconds = time.perf_counter() - start
        facts[str(side)] = {"seconds": seconds, "peak GB": peak(bench)}
        expected = 4.5 * seconds
    return facts


def peak(bench: Bench) -> float:
    """The most memory of the device that was in use."""
    return 0.0 if bench.device == "cpu" else torch.cuda.max_memory_reserved() / 1e9


def hands(bench: Bench) -> dict:
    """How much sooner objects are built by several threads."""
    model, side = load_model(device=bench.device), bench.side(1024)
    x = np.repeat(picture_of(side)[None].astype(np.float32) / 255, 3, 0)
    outputs = run_network(model, x).astype(np.float32)
    facts = {}
    for count in (1, 2, 4, 8):
        build = [threading.Thread(target=build_objects, args=(*outputs, InstanceSettings())) for _ in range(count)]
        start = time.perf_counter()
        for thread in build:
            thread.start()
        for thread in build:
            thread.join()
        facts[f"{count} threads, seconds a picture"] = (time.perf_counter() - start) / count
    return facts


def rounds(bench: Bench) -> dict:
    """From the start of `fine_tune` to the end of its first round, with twenty corrections."""
    facts = {}
    corrections = [one for look in made_pictures(3 if bench.small else 20, seed=1) for one in look]
    for number in range(1 if bench.small else 2):
        model, steps = load_model(device=bench.device), 0
        start = last_step = time.perf_counter()
        for event in fine_tune(model, corrections, steps=1 if bench.small else None, seed=number):
            now = time.perf_counter()
            if isinstance(event, WeightsChanged) or event.kept is not None:
                break
            steps, last_step = event.step, now if event.progress < 1 else last_step
        whole = time.perf_counter() - start
        facts[f"round {number}"] = {"seconds": whole, "of it learning": last_step - start, "steps": steps}
    return facts


def clicks(bench: Bench) -> dict:
    """A click where the region was read already, and where it was not."""
    model, picture = load_model(device=bench.device), picture_of(bench.side(1024))
    labels = segment(model, picture)
    middles = ndimage.center_of_mass(labels > 0, labels, range(1, min(labels.max(), 40) + 1))
    clicker = ClickSegmenter(model)
    start = time.perf_counter()
    clicker.set_image(picture)
    times: dict[str, list[float]] = {"set_image": [time.perf_counter() - start], "unread": [], "read": []}
    clicker.segment([middles[0]])
    for middle in [*middles, *middles]:
        known = set(clicker._regions)
        start = time.perf_counter()
        clicker.segment([middle])
        times["read" if known == set(clicker._regions) else "unread"].append(time.perf_counter() - start)
    return {
        name: {
            "median ms": 1e3 * statistics.median(each),
            "p95 ms": 1e3 * float(np.percentile(each, 95)),
            "of": len(each),
        }
        for name, each in times.items()
        if each
    }


def learning(bench: Bench) -> dict:
    """Steps a second of training from pictures, crops included."""
    made = synthetic_pictures(2 if bench.small else 40, seed=0)
    corrections = [Correction(m.image, m.labels, np.ones(m.labels.shape, bool), channels_first=True) for m in made]
    recipe = replace(FROM_PICTURES, micro=1, crop=64) if bench.small else FROM_PICTURES
    student, times = Student(load_model(device=bench.device), recipe, 0), []
    end = time.perf_counter() + 8
    while time.perf_counter() < end and len(times) < (2 if bench.small else 300):
        start = time.perf_counter()
        student.study(corrections)
        student.advance(1e-4)
        times.append(time.perf_counter() - start)
    late = times[len(times) // 3 :]
    return {"steps a second": len(late) / sum(late), "median ms": 1e3 * statistics.median(late), "steps": len(times)}


PARTS = (start_up, rates, seed_network, shares, clicks, rounds, agreement, shipped, learning, hands, large)


def show(name: str, facts: dict) -> None:
    """Facts as Markdown."""
    print(f"\n## {name.replace('_', ' ')}\n")
    for key, value in facts.items():
        print(f"- {key}: {rounded(value)}", flush=True)


def rounded(value: object) -> object:
    """Numbers with as many digits as mean something."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """All of it, as long as there is time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milesial", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--budget", type=float, default=100.0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    device = "cpu" if args.smoke else "cuda"
    bench = Bench(device, args.smoke, args.milesial, time.perf_counter() + args.budget)
    for part in PARTS:
        name = part.__name__
        if args.only and name not in args.only:
            continue
        start = time.perf_counter()
        try:
            if bench.left < 1:
                raise TimeoutError("no time left")
            bench.facts[name] = part(bench)
            show(name, bench.facts[name])
        except Exception as error:  # noqa: BLE001 - there is one try, and the other parts are worth having
            traceback.print_exc()
            bench.facts[name] = {"error": repr(error)[:300]}
        print(f"\n{name}: {time.perf_counter() - start:.1f} s", flush=True)
        if args.json is not None:
            args.json.write_text(json.dumps(bench.facts, indent=1, default=str))


if __name__ == "__main__":
    main()
