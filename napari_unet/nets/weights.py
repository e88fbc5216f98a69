"""State dicts: as networks take them, and as files keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from napari_unet.nets.unet import UNet


def in_channels_last(net: UNet) -> UNet:
    """Lay the kernels out as convolutions read them fastest."""
    layout = torch.channels_last if net.ndim == 2 else torch.channels_last_3d
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    return net


def all_finite(state: Mapping[str, Tensor]) -> bool:
    """Whether every weight is a number."""
    return all(bool(torch.isfinite(value).all()) for value in state.values())


def as_stored(value: Tensor) -> Tensor:
    """A weight as a file keeps it: kernels in half precision, the few others as they are (a variance may not fit)."""
    value = value.detach().cpu()
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they will be read back from a file: so that what is scored is what is saved."""
    return {name: as_stored(value).to(value) for name, value in state.items()}


def net_of(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> UNet:
    """A network with these weights, copied.

    No memory is taken before every shape was compared: a file may say that it is of any size.
    """
    with torch.device("meta"):
        net = UNet(**settings)
    # counters stay whole numbers, everything else is float32
    copies = {k: v.to(torch.int64 if v.dtype == torch.int64 else torch.float32, copy=True) for k, v in state.items()}
    net.load_state_dict(copies, assign=True)
    return net
