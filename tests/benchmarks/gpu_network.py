"""The network on a CUDA device against milesial's way, and against what the chip multiplies; parts of `gpu.py`."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from speed import in_turns, milesial, operations, their_network
from torch import nn

from napari_unet import load_model
from napari_unet.core.card import ModelCard
from napari_unet.engine.choice import ways_on
from napari_unet.engine.cuda import ShortNet
from napari_unet.engine.forward import forward
from napari_unet.engine.network import run_network
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.model import Model

CONVOLUTIONS = re.compile(
    "conv|gemm|xmma|cutlass|implicit|cudnn|nvjet|fprop|dgrad|wgrad|sm80|sm90|wgmma", re.IGNORECASE
)
OTHERS = re.compile("elementwise|pool|Memcpy|Memset|fill|copy_device", re.IGNORECASE)


@dataclass
class Bench:
    """What every part is given.

    Attributes
    ----------
    device : str
    small : bool
        Tiny sizes, to see that it runs.
    folder : Path or None
        milesial's checkout.
    end : float
        When it should be over, of `time.perf_counter`.
    facts : dict
        What was measured, by part.
    """

    device: str
    small: bool
    folder: Path | None
    end: float
    facts: dict = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.perf_counter()

    def side(self, pixels: int) -> int:
        """A side, or a tiny one."""
        return min(pixels, 96) if self.small else pixels

    def wait(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def timed(self, thing: Callable[[], object], rounds: int = 10) -> float:
        """Median seconds until the device is done, after two runs."""
        times = []
        for number in range((1 if self.small else rounds) + 2):
            self.wait()
            start = time.perf_counter()
            thing()
            self.wait()
            times += [time.perf_counter() - start] if number > 1 else []
        return statistics.median(times)


def rates(bench: Bench) -> dict:
    """Operations a second of a large matrix product, and bytes a second of a copy."""
    side, facts = 256 if bench.small else 8192, {}
    kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "tf32": torch.float32}
    for name, dtype in kinds.items():
        a, b = (torch.rand(side, side, device=bench.device).to(dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        seconds = bench.timed(lambda a=a, b=b: a @ b)
        torch.backends.cuda.matmul.allow_tf32 = False
        facts[name] = 2 * side**3 / seconds
    x = torch.zeros(2**12 if bench.small else 2**30, dtype=torch.uint8, device=bench.device)
    y = torch.empty_like(x)
    facts["copy, read and written, bytes/s"] = 2 * x.numel() / bench.timed(lambda: y.copy_(x))
    return facts


def seed_model(device: str) -> Model:
    """The seed's network of 31 million weights."""
    architecture = {"in_channels": 3, "out_channels": 2, "base_channels": 64}
    card = ModelCard("seed", kind="classes", classes=("background", "object"), architecture=architecture)
    return Model.create(card, seed=0, device=device)


def without_tf32(thing: Callable[..., object]) -> Callable[..., object]:
    """The same with float32 that is multiplied as such."""

    def run(*arguments: object) -> object:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return thing(*arguments)

    return run


def seed_network(bench: Bench) -> dict:
    """Picture to mask, and the network alone, in each way, against milesial's."""
    side = bench.side(512)
    picture = (np.random.default_rng(0).random((side, side, 3)) * 255).astype(np.uint8)
    base = seed_model("cpu")
    state = {key: value.clone() for key, value in base.net.state_dict().items()}
    theirs = milesial(state, bench.folder, bench.device)
    net = their_network(state, bench.folder).to(bench.device)
    x = torch.from_numpy(np.moveaxis(picture, -1, 0).astype(np.float32) / 255)[None].to(bench.device)

    def alone() -> None:
        with torch.no_grad():
            net(x)

    whole = {"milesial": lambda: theirs(picture), "milesial, no TF32": lambda: without_tf32(theirs)(picture)}
    network: dict[str, Callable[[], object]] = {"milesial": alone, "milesial, no TF32": without_tf32(alone)}
    for way in ways_on(torch.device(bench.device)):
        model = seed_model(bench.device)

        def mask(m: Model = model, w: object = way) -> np.ndarray:
            outputs = run_network(m, np.moveaxis(picture, -1, 0).astype(np.float32) / 255, backend=w)
            return outputs[1] > outputs[0]

        whole[f"ours, {way.form}, {way.number_type}"] = mask
        network[f"ours, {way.form}, {way.number_type}"] = lambda m=model, w=way: forward(m, x, backend=w)
    exact = np.asarray(whole["milesial, no TF32"]())
    same = {name: float(np.mean(np.asarray(thing()) == exact)) for name, thing in whole.items()}
    for _ in range(1 if bench.small else 8):
        for thing in (*whole.values(), *network.values()):
            thing()
    seconds = in_turns(whole, 2 if bench.small else 30)
    lone = {name: bench.timed(thing, 20) for name, thing in network.items()}
    rows = {
        name: {
            "ms": 1e3 * seconds[name],
            "network alone, ms": 1e3 * lone[name],
            "times milesial": seconds["milesial"] / seconds[name],
            "times, network alone": lone["milesial"] / lone[name],
            "times, network alone, no TF32": lone["milesial, no TF32"] / lone[name],
            "pixels as exact": same[name],
        }
        for name in whole
    }
    work = operations(base.net, 64) * (side / 64) ** 2
    return {"GFLOP": work / 1e9, **rows}


def kernels(thing: Callable[[], object]) -> dict[str, float]:
    """Seconds on the device of each kernel."""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        thing()
        torch.cuda.synchronize()
    found: dict[str, float] = {}
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spent = event.time_range.elapsed_us() * 1e-6
            found[event.name] = found.get(event.name, 0.0) + spent
    return found


def shares(bench: Bench) -> dict:
    """How much of the matrix rate the convolutions reach, by kernel, of a batch of tiles."""
    if bench.device == "cpu":
        return {}
    facts: dict = {}
    rate = bench.facts.get("rates", {}).get("bfloat16") or rates(bench)["bfloat16"]
    for name, model, batch in (("seed", seed_model("cuda"), 8), ("shipped", load_model(device="cuda"), 8)):
        channels = model.net.settings["in_channels"]
        work = operations(model.net.cpu(), 64) * (1024 / 64) ** 2 * batch
        net = fold_norm(model.net.cuda())
        x = torch.rand(batch, channels, 1024, 1024, device="cuda").to(memory_format=torch.channels_last)
        short = ShortNet(net, torch.bfloat16)
        with torch.inference_mode():
            laid = short.laid_out(x)
            plain = Plain(net)
            for kind, run in (("autocast", partial(plain, x)), ("short", partial(short, laid))):
                whole = bench.timed(run, 5)
                parts = kernels(run)
                ours = {k: v for k, v in parts.items() if CONVOLUTIONS.search(k) and not OTHERS.search(k)}
                top = sorted(parts.items(), key=lambda part: -part[1])[:12]
                facts[f"{name}, {kind}"] = {
                    "TFLOP": work / 1e12,
                    "ms": 1e3 * whole,
                    "ms in convolutions": 1e3 * sum(ours.values()),
                    "ms in all kernels": 1e3 * sum(parts.values()),
                    "share of the matrix rate, convolutions": work / max(sum(ours.values()), 1e-9) / rate,
                    "share of the matrix rate, all": work / whole / rate,
                    "top": {key[:110]: round(1e3 * spent, 3) for key, spent in top},
                }
    return facts


class Plain:
    """A folded network as torch runs it by itself."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return self.net(x)
