"""Random changes of crops that keep their labels true: one warp for shape, a few for grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.targets import Targets


@dataclass(frozen=True)
class Augmentation:
    """How strongly crops are changed.

    Attributes
    ----------
    scale : float
        Sizes are drawn from 1/scale to scale, evenly in their logarithm.
    elastic : float
        Standard deviation of the random displacements on a coarse grid, in pixels (the paper's
        10 px on a 3x3 grid are for crops of 512).
    grey : float
        Strength of the changes of brightness, contrast, gamma, noise and blur; 0 switches them off.
    recolor : float
        Probability that polarity is inverted, or that channels are mixed or made equal: for models
        that shall be at home on any stain.
    varied: bool
        Draw a strength for each crop: most are changed little, a few as strongly as all this says. Else a network
        sees hardly a picture as it will meet it.
    """

    scale: float = 1.25
    elastic: float = 3.0
    grey: float = 0.5
    recolor: float = 0.0
    varied: bool = False

    def drawn(self, random: torch.Generator) -> Augmentation:
        """What is done to one crop."""
        if not self.varied:
            return self
        share = float(torch.rand((), generator=random)) ** 2
        return Augmentation(self.scale**share, self.elastic * share, self.grey * share, self.recolor * share)


@dataclass(frozen=True)
class Example:
    """A region with its targets, as tensors on the CPU.

    Attributes
    ----------
    image : (C, Y, X) float32
        Normalised.
    targets : (K, Y, X) float32
    weight : (1, Y, X) float32
    """

    image: Tensor
    targets: Tensor
    weight: Tensor

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + self.targets.nbytes + self.weight.nbytes


def as_example(image: Tensor, targets: Targets) -> Example:
    """Targets of numpy beside their picture."""
    return Example(image, torch.from_numpy(targets.values), torch.from_numpy(targets.weight)[None])


def warp_grid(center: tuple[float, float], size: int, options: Augmentation, random: torch.Generator) -> Tensor:
    """Where each pixel of a crop comes from: a random rotation, flip, scale and bend around `center`.

    Parameters
    ----------
    center : (y, x)
        In pixels of the region.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    (size, size, 2) float32
        (x, y) in pixels of the region.

    References
    ----------
    Elastic deformation on a coarse grid with bicubic interpolation: Ronneberger et al. 2015.
    """
    draw = torch.rand(4, generator=random).tolist()
    angle = draw[0] * 2 * math.pi
    zoom = options.scale ** (2 * draw[1] - 1)
    flip = -1.0 if draw[2] < 0.5 else 1.0
    line = (torch.arange(size) - (size - 1) / 2) / zoom
    y, x = torch.meshgrid(line, line * flip, indexing="ij")
    sine, cosine = math.sin(angle), math.cos(angle)
    grid = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)
    if options.elastic:
        coarse = torch.randn(1, 2, 4, 4, generator=random) * options.elastic
        bend = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
        grid = grid + bend[0].movedim(0, -1)
    return grid + torch.tensor([center[1], center[0]])


def sample(example: Example, grid: Tensor) -> Example:
    """Read an example at the pixels of `grid`; mirrored outside, where nothing is trusted."""
    height, width = example.image.shape[-2:]
    size = torch.tensor([width, height])
    unit = ((grid + 0.5) * 2 / size - 1)[None]  # (1, S, S, 2), -1..1 over the whole region
    values = torch.cat([example.image, example.targets[1:]])[None]
    smooth = F.grid_sample(values, unit, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    exact = torch.cat([example.targets[:1], example.weight])[None]
    sharp = F.grid_sample(exact, unit, mode="nearest", padding_mode="zeros", align_corners=False)[0]
    channels = len(example.image)
    return Example(smooth[:channels], torch.cat([sharp[:1], smooth[channels:]]), sharp[1:])


def change_greys(image: Tensor, options: Augmentation, random: torch.Generator) -> Tensor:
    """Brightness, contrast, gamma, blur and noise, each at random; (C, Y, X) to (C, Y, X)."""
    if not options.grey:
        return image
    draw = torch.rand(8, generator=random).tolist()
    strength = options.grey
    image = image.clamp(0, 2) ** math.exp((draw[0] - 0.5) * strength * 1.2)
    image = image * math.exp((draw[1] - 0.5) * strength) + (draw[2] - 0.5) * 0.4 * strength
    if draw[3] < 0.25:
        width = 3 + 2 * int(draw[4] * 2)
        blurred = F.avg_pool2d(image[None], width, stride=1, padding=width // 2, count_include_pad=False)[0]
        image = torch.lerp(image, blurred, draw[5])
    if draw[6] < 0.5:
        noise = torch.randn(image.shape, generator=random)
        image = image + noise * (draw[7] ** 2 * 0.25 * strength)
    return image


def recolor(image: Tensor, options: Augmentation, random: torch.Generator) -> Tensor:
    """Invert, mix the channels, or make them equal, each at random; (C, Y, X) to (C, Y, X)."""
    draw = torch.rand(5, generator=random).tolist()
    if draw[0] >= options.recolor:
        return image
    if draw[1] < 0.5:
        image = 1 - image
    if len(image) > 1 and draw[2] < 0.5:
        image = image[torch.randperm(len(image), generator=random)]
    if len(image) > 1 and draw[3] < 0.4:
        share = torch.rand(len(image), 1, 1, generator=random)
        image = (image * share / share.sum()).sum(0, keepdim=True).expand_as(image)
    return image
