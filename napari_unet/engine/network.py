"""The network on one window: normalised pixels to probabilities, whatever the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.intensity import FloatArray
from napari_unet.engine.cuda import SIDES
from napari_unet.engine.device import Backend, backend_for
from napari_unet.engine.forward import forward
from napari_unet.nets.losses import against_background
from napari_unet.nets.model import Model

Outputs = npt.NDArray[np.float16]
Axes = tuple[int, ...]


def run_network(
    model: Model,
    x: FloatArray,
    scale: float = 1.0,
    *,
    state: Mapping[str, Tensor] | None = None,
    backend: Backend | None = None,
    at_network_size: bool = False,
    mirrors: Sequence[Axes] = ((),),
) -> Outputs:
    """Outputs of the network for one window, at the window's own size.

    Parameters
    ----------
    model : Model
    x : (C, [Z,] Y, X) float32
        Normalised.
    scale : float
        The window is resized by this before the network, and the outputs back.
    state : state dict, optional
        Other weights to try; those of the model stay untouched. Any state, an empty one too, runs in torch.
    backend : Backend, optional
        Another way to run the network than the one chosen, to try it.
    at_network_size : bool
        Leave the outputs at the size that the network saw.
    mirrors : sequence of axes
        Along which the window is mirrored for each look at it; () is as it is. Of several looks, the mean.

    Returns
    -------
    (K, [Z,] Y, X) float16
        Objects: probability of foreground, distance. Classes: their probabilities.
    """
    tensor = _to_device(torch.from_numpy(np.ascontiguousarray(x))[None], model.device)  # (1, C, Y, X)
    size = tensor.shape[2:]
    if scale != 1:
        tensor = resize(tensor, scaled(tuple(size), scale))
    inner = tensor.shape[2:]
    step = max(2**model.net.depth, SIDES if model.device.type == "cuda" else 1)
    pad = [side for n in reversed(inner) for side in (0, -n % step)]
    tensor = F.pad(tensor, pad, mode="replicate") if any(pad) else tensor
    if model.net.ndim == 2:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if state is None:
        logits = _looks(model, tensor, mirrors, backend)
    else:
        with torch.inference_mode(), backend_for(model.device).autocast():
            # functional_call: other weights are tried without any moment at which the model holds them
            logits = torch.func.functional_call(model.net, dict(state), (tensor,)).float()
    logits = logits[(slice(None), slice(None), *(slice(0, n) for n in inner))]  # (1, K, Y, X)
    outputs = _probabilities(logits, model.card.kind)
    if scale != 1 and not at_network_size:
        outputs = resize(outputs, tuple(size))
    return _to_processor(outputs[0].half()).numpy()


def _to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a CUDA device fetches it while this goes on, which asks for memory that stays in place."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def _to_processor(x: Tensor) -> Tensor:
    """A tensor on the processor; from a CUDA device into memory that stays in place, several times as fast."""
    if x.device.type != "cuda":
        return x.cpu()
    target = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    target.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return target


def _looks(model: Model, x: Tensor, mirrors: Sequence[Axes], backend: Backend | None) -> Tensor:
    """The mean of the logits over mirror images of (1, C, [Z,] Y, X), mirrored back."""
    looks = [_mirrored(forward(model, _mirrored(x, axes), backend=backend), axes) for axes in mirrors]
    return looks[0] if len(looks) == 1 else torch.stack(looks).mean(0)


def _mirrored(x: Tensor, axes: Axes) -> Tensor:
    """A mirror image, which lies in memory as a window does."""
    return x.flip(axes).contiguous(memory_format=torch.channels_last) if axes else x


def scaled(shape: tuple[int, ...], scale: float) -> tuple[int, ...]:
    """The size of a region as the network sees it."""
    return tuple(max(1, round(n * scale)) for n in shape)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Linear interpolation, smoothed where it shrinks; (B, C, [Z,] Y, X)."""
    if x.ndim == 5:
        return F.interpolate(x, size, mode="trilinear", align_corners=False)
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def _probabilities(logits: Tensor, kind: str) -> Tensor:
    """What the outputs mean: (B, K, ...) logits to probabilities (and distance)."""
    if kind == "objects":
        outputs = torch.cat([torch.sigmoid(logits[:, :1]), logits[:, 1:].clamp(-1, 2)], dim=1)
    else:
        outputs = torch.softmax(against_background(logits), dim=1)
    return torch.nan_to_num(outputs)  # weights that went wrong find nothing
