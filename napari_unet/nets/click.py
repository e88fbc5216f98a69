"""The click head: a small U-Net that reads what the large one makes of a picture, and prompts; it gives one object.

The picture is read once by the large network, which costs most; each click costs the small one alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.core.prompt_maps import MAPS
from napari_unet.nets.unet import UNet

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 96
"""Side of the window that it sees, in pixels of the network: four times the usual object."""
BASE_CHANNELS, DEPTH = 16, 3


def new_head(net: UNet, seed: int = 0) -> UNet:
    """A click head with random weights for a network of objects."""
    seen = net.settings["base_channels"] + net.settings["out_channels"] + net.settings["in_channels"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(seen + MAPS, 1, base_channels=BASE_CHANNELS, depth=DEPTH)


def encode(net: UNet, x: Tensor) -> Tensor:
    """What the click head is shown of a picture.

    Parameters
    ----------
    net : UNet
        Of objects.
    x : (B, C, Y, X)
        Normalised; sides that `2**net.depth` divides.

    Returns
    -------
    (B, F + 2 + C, Y, X)
        Features of the last decoder, probability of foreground, distance to the rim, and the picture itself.
    """
    features = net.features(x)
    return shown(features, net.head(features), x)


def shown(features: Tensor, logits: Tensor, x: Tensor) -> Tensor:
    """As `encode`, from what the network has given already."""
    return torch.cat([features, torch.sigmoid(logits[:, :1]), logits[:, 1:].clamp(-1, 2), x], dim=1)
