"""Which number type, tile and threads a device works best with; what runs where, in words."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from napari_unet.nets.model import pick_device


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
    """

    device: torch.device
    dtype: torch.dtype
    core: int = 448
    large_core: int = 1024

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which networks run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def line(self) -> str:
        """What runs where: "CPU, 2 cores, bfloat16" or "CUDA: NVIDIA H200, bfloat16"."""
        number_type = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cuda":
            return f"CUDA: {torch.cuda.get_device_name(self.device)}, {number_type}"
        if self.device.type == "mps":
            return f"Apple GPU, {number_type}"
        cores = usable_cores()
        return f"CPU, {cores} core{'s' if cores > 1 else ''}, {number_type}"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def backend_for(device: str | torch.device = "auto") -> Backend:
    """The fastest exact-enough way to use a device, by name or as it is."""
    chosen = pick_device(device) if isinstance(device, str) else device
    number_type = _number_type(chosen.type)
    return Backend(chosen, number_type, 1024, 2048) if chosen.type == "cuda" else Backend(chosen, number_type)


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
