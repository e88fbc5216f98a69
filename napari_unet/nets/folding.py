"""Fold BatchNorm into the convolutions before it: the same network with half as many layers, for prediction alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_unet.nets.unet import DoubleConv, UNet


def fold_norm(net: UNet, dtype: torch.dtype = torch.float32) -> UNet:
    """A network that gives what `net` gives in evaluation mode, without its BatchNorm.

    With its statistics fixed, BatchNorm multiplies and adds a number for each channel, and so does the convolution
    before it (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", equation 14).

    Parameters
    ----------
    net : UNet
        Stays as it is.
    dtype : torch.dtype
        Number type of the new weights.

    Returns
    -------
    UNet
        With `norm="none"`, in evaluation mode and without gradients; `net` itself if it has another normalisation.
    """
    if net.settings["norm"] != "batch":
        return net
    with torch.device("meta"):
        folded = UNet(**{**net.settings, "norm": "none"})
    state = {name: value for name, value in net.state_dict().items() if name.startswith(("ups.", "head."))}
    for name, module in net.named_modules():
        if isinstance(module, DoubleConv):
            state |= {f"{name}.{key}": value for key, value in _folded(module).items()}
    folded.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return folded.eval().requires_grad_(False)


def _folded(block: DoubleConv) -> dict[str, Tensor]:
    """The weights of one block without normalisation: its convolutions stand at 0 and 2 then, not at 0 and 3."""
    weights: dict[str, Tensor] = {}
    layers = list(block)
    for place, (convolution, norm) in enumerate(zip(layers[::3], layers[1::3], strict=True)):
        if not isinstance(convolution, nn.Conv2d | nn.Conv3d) or not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            raise TypeError("a block of another network")
        if norm.running_mean is None or norm.running_var is None:
            raise TypeError("a normalisation without statistics")
        gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)  # (channels,)
        kernel = convolution.weight.detach()
        weights[f"{2 * place}.weight"] = kernel * gain.reshape(-1, *(1,) * (kernel.ndim - 1))
        weights[f"{2 * place}.bias"] = norm.bias.detach() - norm.running_mean * gain
    return weights
