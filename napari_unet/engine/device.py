"""How a device is used best: number type, form of the network, tiles and threads; what runs where, in words."""

from __future__ import annotations

import os
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from napari_unet.nets.model import Model, pick_device

Form = Literal["torch", "openvino"]


@dataclass(frozen=True)
class Backend:
    """How a device is used.

    Attributes
    ----------
    device : torch.device
    dtype : torch.dtype
        Number type of convolutions.
    core, large_core : int
        Side of what a tile writes, in pixels: while somebody watches (a few tenths of a second on
        two CPU cores), and while nobody does (less is spent on halos).
    form : {'torch', 'openvino'}
        What predicts; torch trains in any case.
    """

    device: torch.device
    dtype: torch.dtype
    core: int = 448
    large_core: int = 1024
    form: Form = "torch"

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which networks run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def line(self) -> str:
        """What runs where: "CPU, 2 cores, bfloat16" or "CUDA: NVIDIA H200, bfloat16"."""
        number_type = self.number_type
        if self.device.type == "cuda":
            return f"CUDA: {torch.cuda.get_device_name(self.device)}, {number_type}"
        if self.device.type == "mps":
            return f"Apple GPU, {number_type}"
        cores = usable_cores()
        form = ", OpenVINO" if self.form == "openvino" else ""
        return f"CPU, {cores} core{'s' if cores > 1 else ''}, {number_type}{form}"

    @property
    def number_type(self) -> str:
        """The name of the number type: "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def backend_for(device: str | torch.device = "auto") -> Backend:
    """How to use a device, by name or as it is, as long as nothing was measured on it."""
    chosen = pick_device(device) if isinstance(device, str) else device
    number_type = _number_type(chosen.type)
    if chosen.type == "cuda":
        # to build the objects takes longer than the network: a tile in view is soon built, others beside each other
        return Backend(chosen, number_type, 512, 1024)
    form: Form = "openvino" if chosen.type == "cpu" and has_openvino() else "torch"
    return Backend(chosen, number_type, form=form)


_chosen: dict[str, Backend] = {}


def backend_of(model: Model) -> Backend:
    """How a model predicts here: as it was measured to be fastest, or as is usual for its device."""
    return _chosen.get(kind_of(model)) or backend_for(model.device)


def choose(model: Model, backend: Backend) -> None:
    """Models like this one predict so from now on."""
    _chosen[kind_of(model)] = backend


def kind_of(model: Model) -> str:
    """What models have in common that are as fast, and as exact, as each other.

    The device, the layers of the network, and what it was trained on; what corrections make of a model is still of
    its kind.
    """
    settings = {**model.net.settings, "dropout": 0.0}
    layers = " ".join(f"{name}={settings[name]}" for name in sorted(settings))
    return f"{model.device} {layers} training={zlib.crc32(model.card.trained_on.encode()):x}"


def has_openvino() -> bool:
    """Whether the extra `openvino` is installed."""
    return find_spec("openvino") is not None


@lru_cache
def _number_type(kind: str) -> torch.dtype:
    """The fastest number type whose masks are the same."""
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if kind == "cpu" and _multiplies_bfloat16() else torch.float32


def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32.

    Asked of the system and not timed: a busy computer would decide otherwise from start to start.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # no Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def device_names() -> list[str]:
    """The names that `pick_device` takes on this computer, 'auto' apart."""
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
