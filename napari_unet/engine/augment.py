"""Random changes of crops that keep their labels true: one warp for shape, a few for grey values.

All of a batch is changed at once, on the device on which the examples are: on a graphics card a batch costs little more
than a crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.targets import Targets


@dataclass(frozen=True)
class Strengths:
    """How strongly each crop of a batch is changed: as in `Augmentation`, each (B,) float32 on the CPU."""

    scale: Tensor
    elastic: Tensor
    grey: Tensor
    recolor: Tensor


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

    def drawn(self, count: int, random: torch.Generator) -> Strengths:
        """What is done to each of `count` crops."""
        share = torch.rand(count, generator=random) ** 2 if self.varied else torch.ones(count)
        return Strengths(self.scale**share, self.elastic * share, self.grey * share, self.recolor * share)


@dataclass(frozen=True)
class Example:
    """A region with its targets, on one device.

    Attributes
    ----------
    values : (C + K + 1, Y, X) float32
        The normalised picture; the targets after the first one; the first target; the weight. Between pixels of the
        last two nothing is interpolated: they are classes, numbers, known or not.
    channels : int
        C, of the picture.
    """

    values: Tensor
    channels: int

    @property
    def image(self) -> Tensor:
        """(C, Y, X)."""
        return self.values[: self.channels]

    @property
    def targets(self) -> Tensor:
        """(K, Y, X)."""
        return torch.cat([self.values[-2:-1], self.values[self.channels : -2]])

    @property
    def weight(self) -> Tensor:
        """(1, Y, X)."""
        return self.values[-1:]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.values.nbytes

    @cached_property
    def places(self) -> dict[bool, Tensor]:
        """Known pixels (N,), counted row by row: those of objects, and those of the background; on the CPU."""
        truth, weight = self.values[-2:].flatten(1).cpu()
        return {on: torch.nonzero((weight > 0) & ((truth > 0) == on))[:, 0].int() for on in (True, False)}

    def place(self, random: torch.Generator, *, on_object: bool) -> tuple[float, float]:
        """A random pixel (y, x) of which something is known, on an object or of the background, if there is any."""
        places = self.places[on_object] if len(self.places[on_object]) else self.places[not on_object]
        y, x = divmod(int(places[torch.randint(len(places), (), generator=random)]), self.values.shape[-1])
        return float(y), float(x)

    def to(self, device: torch.device) -> Example:
        """The same on another device."""
        if self.values.device == device:
            return self
        moved = Example(self.values.to(device), self.channels)
        moved.__dict__["places"] = self.places  # found where it is cheap
        return moved


def as_example(image: Tensor, targets: Targets) -> Example:
    """Targets of numpy beside their picture."""
    first, rest = torch.from_numpy(targets.values).split([1, len(targets.values) - 1])
    return Example(torch.cat([image, rest, first, torch.from_numpy(targets.weight)[None]]), len(image))


def warp_grids(centers: Tensor, size: int, strengths: Strengths, random: torch.Generator) -> Tensor:
    """Where each pixel of some crops comes from: a random rotation, flip, scale and bend around each centre.

    Parameters
    ----------
    centers : (B, 2) float32
        (y, x) in pixels of each crop's region; on the device on which the grids shall be.
    size : int
        Side of the crops, in pixels.
    strengths : Strengths
    random : Generator
        Of the CPU.

    Returns
    -------
    (B, size, size, 2) float32
        (x, y) in pixels of the region.

    References
    ----------
    Elastic deformation on a coarse grid with bicubic interpolation: Ronneberger et al. 2015.
    """
    device, count = centers.device, len(centers)
    draw = torch.rand(count, 3, generator=random)
    coarse = torch.randn(count, 2, 4, 4, generator=random) * strengths.elastic.reshape(-1, 1, 1, 1)
    angle, flip = draw[:, 0] * 2 * math.pi, torch.where(draw[:, 2] < 0.5, -1.0, 1.0)
    step = strengths.scale ** (1 - 2 * draw[:, 1])  # pixels of the region for one of the crop
    sine, cosine = angle.sin() * step, angle.cos() * step
    # (x, y) of the region from (x, y) of the crop
    turn = torch.stack([cosine * flip, -sine, sine * flip, cosine], 1).reshape(count, 2, 2).to(device)
    line = torch.arange(size, device=device) - (size - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    grids = (torch.stack([x, y], -1).reshape(1, -1, 2) @ turn.mT).reshape(count, size, size, 2)
    if bool(strengths.elastic.any()):
        between = _bicubic(coarse.shape[-1], size).to(device)
        grids = grids + (between @ coarse.to(device) @ between.mT).movedim(1, -1)
    return grids + centers.flip(1)[:, None, None]


def sample(examples: Sequence[Example], grids: Tensor) -> tuple[Tensor, Tensor]:
    """Read each example at the pixels of its grid (B, S, S, 2); mirrored outside, where nothing is trusted.

    Returns
    -------
    (B, C + K + 1, S, S) float32
        As `Example.values`.
    (B, 1, S, S) bool
        Which pixels are of the examples.
    """
    sizes = torch.tensor([example.values.shape[-2:] for example in examples]).flip(1)
    # parts of the examples, -1..1 over the whole of each
    units = (grids + 0.5) * (2 / sizes).reshape(-1, 1, 1, 2).to(grids.device) - 1
    read = grids.new_empty(len(examples), len(examples[0].values), *grids.shape[1:3])
    for example, unit, values in zip(examples, units[:, None], read[:, None], strict=True):
        even, exact = example.values[None].split([len(example.values) - 2, 2], 1)
        values[:, :-2] = F.grid_sample(even, unit, "bilinear", padding_mode="reflection", align_corners=False)
        values[:, -2:] = F.grid_sample(exact, unit, "nearest", padding_mode="zeros", align_corners=False)
    return read, (units.abs() <= 1).all(-1)[:, None]


def change_greys(images: Tensor, strengths: Strengths, random: torch.Generator) -> Tensor:
    """Brightness, contrast, gamma, blur and noise, each at random; (B, C, Y, X) to (B, C, Y, X)."""
    strength = strengths.grey
    if not bool(strength.any()):
        return images
    draw = torch.rand(len(images), 8, generator=random)

    def each(value: Tensor) -> Tensor:
        return value.reshape(-1, 1, 1, 1).to(images.device)

    images = images.clamp(0, 2) ** each(torch.exp((draw[:, 0] - 0.5) * strength * 1.2))
    images = images * each(torch.exp((draw[:, 1] - 0.5) * strength)) + each((draw[:, 2] - 0.5) * 0.4 * strength)
    for width, chosen in ((3, draw[:, 4] < 0.5), (5, draw[:, 4] >= 0.5)):
        blurry = torch.nonzero((draw[:, 3] < 0.25) & chosen & (strength > 0))[:, 0]
        if len(blurry):
            where = blurry.to(images.device)
            sharp = images[where]
            blurred = F.avg_pool2d(sharp, width, stride=1, padding=width // 2, count_include_pad=False)
            images[where] = torch.lerp(sharp, blurred, each(draw[blurry, 5]))
    noisy = torch.nonzero(draw[:, 6] < 0.5)[:, 0]
    if len(noisy):
        amount = each(draw[noisy, 7] ** 2 * 0.25 * strength[noisy])
        where = noisy.to(images.device)
        noise = torch.randn((len(noisy), *images.shape[1:]), generator=_there(random, images), device=images.device)
        images[where] += noise * amount
    return images


def _there(random: torch.Generator, values: Tensor) -> torch.Generator:
    """A generator on the device of some values, whose numbers follow from `random`."""
    if values.device.type == "cpu":
        return random
    seed = int(torch.randint(1 << 62, (), generator=random))
    return torch.Generator(values.device).manual_seed(seed)


@lru_cache(maxsize=8)
def _bicubic(few: int, many: int) -> Tensor:
    """Weights (many, few) of bicubic interpolation along one axis, both ends included."""
    known = torch.eye(few)[None, None]
    return F.interpolate(known, (many, few), mode="bicubic", align_corners=True)[0, 0]


def recolor(images: Tensor, strengths: Strengths, random: torch.Generator) -> Tensor:
    """Invert, mix the channels, or make them equal, each at random; (B, C, Y, X) to (B, C, Y, X)."""
    count, channels = images.shape[:2]
    draw, order, share = torch.rand(count, 4, generator=random), *torch.rand(2, count, channels, generator=random)
    chosen = draw[:, 0] < strengths.recolor
    if not bool(chosen.any()):
        return images
    mixing = torch.eye(channels).repeat(count, 1, 1)  # new channels from old ones
    permuted, equal = (chosen & (draw[:, n] < part) & (channels > 1) for n, part in ((2, 0.5), (3, 0.4)))
    mixing[permuted] = torch.eye(channels)[order[permuted].argsort(1)]
    mixing[equal] = (share / share.sum(1, keepdim=True))[equal, None].expand(-1, channels, -1)
    sign = torch.where(chosen & (draw[:, 1] < 0.5), -1.0, 1.0)  # 1 - image is image * -1 + 1; each row sums to 1
    mixing, offset = mixing * sign.reshape(-1, 1, 1), ((1 - sign) / 2).reshape(-1, 1, 1)
    mixed = torch.baddbmm(offset.to(images), mixing.to(images), images.flatten(2))
    return mixed.reshape(images.shape)
