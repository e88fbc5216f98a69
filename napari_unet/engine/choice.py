"""Measure in which way a model predicts fastest on this computer, and take it."""

from __future__ import annotations

import platform
import statistics
import time
import zlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from napari_unet.core.corrections import Labels
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.intensity import FloatArray, fit_channels
from napari_unet.core.metrics import evaluate
from napari_unet.core.speeds import Speed, fastest
from napari_unet.engine.device import Backend, Form, backend_for, choose, kind_of, usable_cores
from napari_unet.engine.fit import made_pictures
from napari_unet.engine.network import run_network
from napari_unet.engine.rehearsal import rehearsal_of
from napari_unet.engine.sampling import resampled
from napari_unet.nets.model import Model

PICTURES = 30
"""Pictures that are predicted in each way, so many that one object more or less decides nothing; the time of the
first does not count."""


def ways_on(device: torch.device) -> list[Backend]:
    """How a device may be used, float32 in torch first."""
    usual = backend_for(device)
    exact = replace(usual, dtype=torch.float32, form="torch")
    forms: list[Form] = ["torch", "openvino"] if usual.form == "openvino" else ["torch"]
    quick = {"cuda": [torch.float16, torch.bfloat16], "mps": [torch.float16]}.get(device.type, [])
    types = [torch.float32, *dict.fromkeys([*quick, usual.dtype])]
    ways = [replace(usual, dtype=dtype, form=form) for form in forms for dtype in types]
    return [exact, *(way for way in dict.fromkeys(ways) if way != exact)]


def measure_speeds(model: Model) -> Generator[Backend, None, list[Speed]]:
    """Predict some pictures in each way; one `next()` predicts one of them in one way.

    Parameters
    ----------
    model : Model
        2-D.

    Yields
    ------
    Backend
        What was just measured.

    Returns
    -------
    list of Speed
        Torch in float32 first, which the others are compared with.
    """
    ways, pictures = ways_on(model.device), _pictures(model)
    speeds: list[Speed] = []
    wanted: list[Labels] = []
    for way in ways:
        seconds: list[float] = []
        masks: list[Labels] = []
        for picture, _ in pictures:
            start = time.perf_counter()
            outputs = run_network(model, picture, backend=way)
            seconds.append(time.perf_counter() - start)
            masks.append(_masks(outputs.astype(np.float32), model.card.kind))
            yield way
        wanted = wanted or masks
        same = np.mean([np.mean((a > 0) == (b > 0)) for a, b in zip(masks, wanted, strict=True)])
        change = _score(masks, pictures, model.card.kind) - _score(wanted, pictures, model.card.kind)
        speeds.append(Speed(way.form, way.number_type, statistics.median(seconds[1:]), float(same), float(change)))
    return speeds


def take_fastest(model: Model, speeds: Sequence[Speed]) -> Speed:
    """Models like this one predict in the fastest of the measured ways from now on; that way."""
    usual = backend_for(model.device)
    best = fastest(speeds, (usual.form, usual.number_type))
    take_way(model, best.form, best.number_type)
    return best


def take_way(model: Model, form: str, number_type: str) -> None:
    """Models like this one predict so from now on, as a `Speed` has it."""
    known: Form = "openvino" if form == "openvino" else "torch"
    choose(model, replace(backend_for(model.device), dtype=getattr(torch, number_type), form=known))


def measured_on(model: Model) -> str:
    """What a table of speeds counts for: this computer with these packages, and models of one kind (`kind_of`)."""
    packages = " ".join(f"{name} {_version(name)}" for name in ("torch", "openvino"))
    where = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else _processor()
    return f"{where}, {usable_cores()} cores; {packages}; {model.card.kind} {kind_of(model)}"


@lru_cache
def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    known = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))]
    return (
        f"{platform.machine()} {known[0]} {zlib.crc32(known[1].encode()):x}" if len(known) > 1 else platform.machine()
    )


def _version(name: str) -> str:
    """The version of a package, or 'none'."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _pictures(model: Model) -> list[tuple[FloatArray, Labels]]:
    """Pictures as the network reads them, and what is in them: such as the model has learnt from, else made ones."""
    own = rehearsal_of(model) or [one for look in made_pictures(PICTURES, seed=0) for one in look]
    known = [resampled(correction)[:2] for correction in own[:PICTURES]]
    return [(fit_channels(picture, model.card.in_channels), labels) for picture, labels in known]


def _masks(outputs: FloatArray, kind: str) -> Labels:
    """What a user would see."""
    if kind == "objects":
        return build_objects(outputs[0], outputs[1], InstanceSettings())
    labels: Labels = outputs.argmax(0).astype(np.int32)
    return labels


def _score(masks: Sequence[Labels], pictures: Sequence[tuple[FloatArray, Labels]], kind: str) -> float:
    """ap50 of the objects of all pictures together; 0 for classes, whose pixels say it all.

    Its mean over pictures would be decided by one object in a picture of three.
    """
    if kind != "objects":
        return 0.0
    return evaluate(_in_a_row(masks), _in_a_row([truth for _, truth in pictures]))["ap50"]


def _in_a_row(pictures: Sequence[Labels]) -> Labels:
    """The objects of several pictures as those of one."""
    row, last = [], 0
    for labels in pictures:
        row.append(np.where(labels > 0, labels + last, 0).ravel())
        last += int(labels.max(initial=0))
    return np.concatenate(row)[None]
