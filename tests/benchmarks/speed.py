"""How fast the network predicts and learns: ours in each form, others' code beside it, and what the chip could do.

    python tests/benchmarks/speed.py [--milesial FOLDER] [--rootpainter FOLDER] [--json FILE]

The folders are checkouts of github.com/milesial/Pytorch-UNet and github.com/Abe404/root_painter, which run as they are;
without them a network of the same layers, run in the same way, stands for the first. Where bioimageio.core is installed
(0.11 wants pydantic before 2.14), its own runner is a row, too. Everything takes turns for a few
rounds in this process, so that a busy computer is busy for all; medians. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.io import imread
from torch import nn
from torch.nn import functional as F

import napari_unet
from napari_unet import load_model, segment
from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.instances import build_objects
from napari_unet.core.synthetic import synthetic_pictures
from napari_unet.engine import predict as predicting
from napari_unet.engine.bioimageio import write_package
from napari_unet.engine.choice import ways_on
from napari_unet.engine.device import choose
from napari_unet.engine.network import run_network
from napari_unet.engine.student import FROM_PICTURES, Student
from napari_unet.nets.model import Model
from napari_unet.nets.unet import UNet

ROUNDS = 7
SEED_SIDE = 512
LARGE_SIDE = 2048


def in_turns(things: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    for thing in things.values():
        thing()  # warm
    times: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            start = time.perf_counter()
            thing()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def operations(net: nn.Module, side: int) -> float:
    """Floating-point operations of the convolutions for a picture of `side` squared."""
    total = 0.0

    def count(module, inputs, output):
        nonlocal total
        kernel = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.weight.numel() / 4
        pixels = output[0].numel() if isinstance(module, nn.Conv2d) else output[0, 0].numel()
        total += 2 * kernel * pixels

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        net(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    a, b = torch.rand(4096, 4096).to(dtype), torch.rand(4096, 4096).to(dtype)
    with torch.inference_mode():
        seconds = in_turns({"product": lambda: a @ b}, 5)["product"]
    return 2 * 4096**3 / seconds


def their_network(state: dict[str, torch.Tensor], folder: Path | None) -> nn.Module:
    """The network of milesial with our weights; one of ours of the same layers, run as theirs, without their code."""
    net: nn.Module = UNet(3, 2)
    if folder is not None:
        sys.path.insert(0, str(folder))
        from unet import UNet as TheirUNet

        net = TheirUNet(3, 2)
        wanted = list(net.state_dict())
        state = dict(zip(wanted, in_their_order(state, net), strict=True))
    net.load_state_dict(state)
    return net.eval()


def milesial(
    state: dict[str, torch.Tensor], folder: Path | None, device: str = "cpu"
) -> Callable[[np.ndarray], np.ndarray]:
    """A picture to a mask as milesial's `predict.py` does it: float32, one eager pass over the whole picture."""
    net = their_network(state, folder).to(device)

    def predict(picture: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.moveaxis(picture, -1, 0) / 255.0).unsqueeze(0).to(device=device, dtype=torch.float32)
        with torch.no_grad():
            output = F.interpolate(net(x).cpu(), picture.shape[:2], mode="bilinear")
        return output.argmax(dim=1)[0].numpy()

    return predict


def in_their_order(state: dict[str, torch.Tensor], net: nn.Module) -> list[torch.Tensor]:
    """Our weights in the order of their layers: each decoder's way up comes before its convolutions."""
    parts = [key.split(".")[0] for key in state]
    groups: list[str] = []
    for level in range(5):
        groups.append(f"encoders.{level}.")
    for level in range(4):
        groups += [f"ups.{level}.", f"decoders.{level}."]
    groups.append("head.")
    assert set(parts) == {"encoders", "ups", "decoders", "head"}
    ordered = [value for group in groups for key, value in state.items() if key.startswith(group)]
    assert [v.shape for v in ordered] == [v.shape for v in net.state_dict().values()]
    return ordered


def rootpainter(folder: Path) -> Callable[[], object]:
    """Their network on one of their tiles: 572 in, 500 out."""
    sys.path.insert(0, str(folder / "trainer" / "src"))
    from unet import UNetGNRes

    net = UNetGNRes().eval()
    x = torch.rand(1, 3, 572, 572)

    def run() -> object:
        with torch.no_grad():
            return net(x)

    return run


def bioimageio(model: Model) -> Callable[[np.ndarray], object] | None:
    """A picture to logits by bioimage.io's own runner, from our package; None where it is not installed."""
    try:
        from bioimageio.core import create_prediction_pipeline
        from bioimageio.core.digest_spec import create_sample_for_model
        from bioimageio.spec import load_model_description
    except ImportError:
        return None
    path = Path(tempfile.mkdtemp()) / "model.zip"
    write_package(model, path)
    description = load_model_description(path)
    pipeline = create_prediction_pipeline(description, weight_format="torchscript")

    def run(picture: np.ndarray) -> object:
        x = np.moveaxis(picture, -1, 0)[None].astype(np.float32)
        return pipeline.predict_sample_without_blocking(create_sample_for_model(description, inputs={"picture": x}))

    return run


def seed_network(args: argparse.Namespace, facts: dict) -> None:
    """The seed's network of 31 million weights on 512 x 512 pixels: ours in each form against milesial's way."""
    torch.manual_seed(0)
    card = ModelCard(
        "seed",
        kind="classes",
        classes=("background", "object"),
        architecture={"in_channels": 3, "out_channels": 2, "base_channels": 64},
    )
    model = Model.create(card, seed=0, device="cpu")
    picture = (np.random.default_rng(0).random((SEED_SIDE, SEED_SIDE, 3)) * 255).astype(np.uint8)
    x = np.moveaxis(picture, -1, 0).astype(np.float32) / 255
    state = {key: value.clone() for key, value in model.net.state_dict().items()}
    theirs = milesial(state, args.milesial)
    things: dict[str, Callable[[], object]] = {"milesial's way": lambda: theirs(picture)}
    masks = {"milesial's way": theirs(picture)}
    for way in ways_on(torch.device("cpu")):
        name = f"ours, {way.form}, {way.number_type}"
        model_of_way = Model.create(card, seed=0, device="cpu")  # each form is made once, as in use
        things[name] = lambda m=model_of_way, w=way: run_network(m, x, backend=w)
        masks[name] = run_network(model_of_way, x, backend=way).argmax(0)
    if (package := bioimageio(model)) is not None:
        things["our package in bioimageio.core, TorchScript, float32"] = lambda: package(picture)
    if args.rootpainter is not None:
        sys.modules.pop("unet", None)
        things["RootPainter's network, 572 to 500"] = rootpainter(args.rootpainter)
    seconds = in_turns(things, 5)
    work = operations(model.net, SEED_SIDE)
    print(f"\n## The seed's network, {SEED_SIDE} x {SEED_SIDE}: {work / 1e9:.0f} GFLOP\n")
    print("| what | seconds | times as fast as the first | of the rate of a matrix product | pixels as the first |")
    print("| --- | --- | --- | --- | --- |")
    rates = {"float32": matrix_rate(torch.float32), "bfloat16": matrix_rate(torch.bfloat16)}
    for name, each in seconds.items():
        kind = "bfloat16" if name.endswith("bfloat16") else "float32"
        share = "" if "RootPainter" in name else f"{work / each / rates[kind]:.0%}"
        same = f"{np.mean(masks[name] == masks[next(iter(masks))]):.2%}" if name in masks else ""
        print(f"| {name} | {each:.3f} | {seconds[next(iter(seconds))] / each:.1f} | {share} | {same} |", flush=True)
    print("\n" + "; ".join(f"a matrix product in {kind}: {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items()))
    facts["seed"] = {"seconds": seconds, "gflop": work / 1e9, "gflops": {k: r / 1e9 for k, r in rates.items()}}


def shipped_model(facts: dict) -> None:
    """The shipped model in each form: a picture of 2048 x 2048, grey and colour, to labels; the share of instances."""
    tile = imread(Path(napari_unet.__file__).parent / "samples" / "fluorescence.tif")
    times = [-(-LARGE_SIDE // n) for n in tile.shape]
    grey = np.tile(tile, times)[:LARGE_SIDE, :LARGE_SIDE].copy()
    pictures = {"grey": grey, "colour": np.stack([grey, grey // 2, grey // 3], -1)}
    print(f"\n## The shipped model, {LARGE_SIDE} x {LARGE_SIDE}, picture to labels\n")
    print("| what | seconds | of which instances |")
    print("| --- | --- | --- |")
    spent = [0.0]

    def timed(*arguments):
        start = time.perf_counter()
        labels = build_objects(*arguments)
        spent[0] += time.perf_counter() - start
        return labels

    predicting.build_objects = timed
    facts["shipped"] = {}
    for way in ways_on(torch.device("cpu")):
        model = load_model(device="cpu")
        choose(model, way)
        for kind, picture in pictures.items():
            spent[0] = 0.0
            name, rounds = f"{way.form}, {way.number_type}, {kind}", 3
            seconds = in_turns({"it": lambda m=model, p=picture: segment(m, p)}, rounds)["it"]
            share = spent[0] / (rounds + 1) / seconds
            print(f"| {name} | {seconds:.2f} | {share:.0%} |", flush=True)
            facts["shipped"][name] = {"seconds": seconds, "instances": share}
    predicting.build_objects = build_objects


def learning(facts: dict) -> None:
    """Steps a second of training from pictures, and how much of a step the crops cost that are made beside it."""
    made = synthetic_pictures(40, seed=0)
    corrections = [Correction(m.image, m.labels, np.ones(m.labels.shape, bool), channels_first=True) for m in made]
    model = load_model(device="cpu")
    student = Student(model, FROM_PICTURES, 0)

    draw, batch = student._batch, student._batch(corrections)

    def step(crops: Callable[[object], object]) -> None:
        student._batch = crops
        student.study(corrections)
        student.advance(1e-4)

    ways = {"the whole step": draw, "no crops to make": lambda _: batch}
    seconds = in_turns({name: lambda crops=crops: step(crops) for name, crops in ways.items()}, 20)
    print("\n## Training, 8 crops of 192 x 192 a step\n")
    print("| what | seconds a step | of it the network |")
    print("| --- | --- | --- |")
    for name, each in seconds.items():
        print(f"| {name} | {each:.3f} | {seconds['no crops to make'] / each:.0%} |", flush=True)
    facts["training"] = seconds


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milesial", type=Path)
    parser.add_argument("--rootpainter", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts: dict = {}
    seed_network(args, facts)
    shipped_model(facts)
    learning(facts)
    if args.json is not None:
        args.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
