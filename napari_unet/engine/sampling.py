"""Corrections to batches of crops; which corrections teach and which only score."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.segmentation import relabel_sequential
from torch import Tensor

from napari_unet.core.arrays import RawArray
from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction, Labels, Mask
from napari_unet.core.errors import ModelError
from napari_unet.core.holes import fill_holes
from napari_unet.core.intensity import FloatArray, estimate_limits, fit_channels, normalize_with_holes
from napari_unet.core.targets import Targets, class_targets, object_targets
from napari_unet.engine.augment import (
    Augmentation,
    Example,
    as_example,
    change_greys,
    recolor,
    sample,
    warp_grids,
)
from napari_unet.engine.network import resize, scaled

CPU = torch.device("cpu")
HELD_OUT_EVERY = 5
LARGEST_CACHE = 2 << 30
"""Bytes of examples that are kept."""


@dataclass(frozen=True)
class Batch:
    """Crops with their targets.

    Attributes
    ----------
    images : (B, C, Y, X) float32
    targets : (B, K, Y, X) float32
    weight : (B, 1, Y, X) float32
    untouched : (B, 1, Y, X) bool
        What is of the picture, and nothing is known of it. Outside there are mirror images, perhaps of what is known.
    """

    images: Tensor
    targets: Tensor
    weight: Tensor
    untouched: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        parts = (self.images, self.targets, self.weight, self.untouched)
        return Batch(*(part.to(device) for part in parts))


def split(corrections: Sequence[Correction]) -> tuple[list[Correction], list[Correction]]:
    """Those to learn from, and those held out to score.

    Where a correction does not say on which side it is, every fifth one is held out: decided by its
    place in the list alone, so it is never drawn again. One without a trusted voxel says nothing.
    """
    taught: list[Correction] = []
    held_out: list[Correction] = []
    for index, correction in enumerate(corrections):
        side = correction.held_out
        if side is None:
            side = index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        if np.any(correction.trusted):
            (held_out if side else taught).append(correction)
    return taught, held_out


def channels_of(correction: Correction) -> RawArray:
    """The picture of a correction, (C, [Z,] Y, X), without alpha."""
    raw = correction.image
    if correction.is_color:
        return np.moveaxis(raw[..., :3], -1, 0)
    return raw[None] if raw.shape == correction.labels.shape else raw


def network_input(correction: Correction, channels: int) -> FloatArray:
    """The normalised picture of a correction, (C, [Z,] Y, X) float32."""
    return _picture_and_trusted(correction, channels)[0]


def _picture_and_trusted(correction: Correction, channels: int) -> tuple[FloatArray, Mask]:
    """The normalised picture of a correction, (C, [Z,] Y, X), and what is trusted of it, ([Z,] Y, X).

    Where there is no picture its mirror image is seen, of which nobody said anything.
    """
    raw, trusted = channels_of(correction), np.asarray(correction.trusted)
    limits = correction.limits or estimate_limits(raw, joint=correction.is_color)
    image, holes = fill_holes(normalize_with_holes(raw, limits))
    if holes is not None and (trusted & ~holes).any():
        trusted = trusted & ~holes
    return fit_channels(image, channels), trusted


def example_of(correction: Correction, card: ModelCard, border_weight: float = 0.0) -> Example:
    """Picture and targets of a correction as a network with this card sees them: at its scale."""
    image, labels, trusted = as_seen(correction, card)
    if card.kind == "objects":
        targets = object_targets(labels, trusted, border_weight=border_weight)
    else:
        named = labels[trusted]
        last = max(int(card.architecture.get("out_channels", 2)), 2) - 1
        strange = named[named > last]
        if strange.size:
            raise ModelError(
                f"The labels name class {strange[0]}; this model knows the classes 0 to {last}. "
                "Paint it over with one of these, or choose a model of more classes."
            )
        targets = class_targets(np.where(trusted, labels, 0), trusted)
    return as_example(image, targets)


def shapes_of(correction: Correction, card: ModelCard) -> Example:
    """Picture and objects of a correction as a click head sees them; the target is the objects' numbers."""
    image, labels, trusted = as_seen(correction, card)
    numbers = relabel_sequential(np.where(trusted, labels, 0))[0]
    weight = object_targets(labels, trusted).weight
    return as_example(image, Targets(numbers[None].astype(np.float32), weight))


def as_seen(correction: Correction, card: ModelCard) -> tuple[Tensor, Labels, Mask]:
    """Picture, labels and trusted mask of a correction at the scale at which a network sees them."""
    labels = np.asarray(correction.labels)
    picture, trusted = _picture_and_trusted(correction, card.in_channels)
    image = torch.from_numpy(picture)
    if correction.scale == 1:
        return image, labels, trusted
    shape = scaled(labels.shape, correction.scale)
    return resize(image[None], shape)[0], *_resample(labels, trusted, shape)


def resampled(correction: Correction) -> tuple[FloatArray, Labels, Mask]:
    """Picture, labels and trusted mask at the size at which the network sees them: normalised (C, Y, X), and (Y, X)."""
    labels = np.asarray(correction.labels)
    image, trusted = _picture_and_trusted(correction, len(correction.image))
    shape = scaled(labels.shape, correction.scale)
    seen = resize(torch.from_numpy(image)[None], shape)[0].numpy()
    return seen, *_resample(labels, trusted, shape)


def _resample(labels: Labels, trusted: Mask, shape: tuple[int, ...]) -> tuple[Labels, Mask]:
    """Labels and the trusted mask at another size; no trusted voxel is lost, however small it gets."""
    ratios = list(zip(shape, labels.shape, strict=True))
    nearest = np.ix_(*(((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ratios))
    new_labels, new_trusted = labels[nearest], trusted[nearest]
    said = np.nonzero(trusted)
    place = tuple(i * n // m for i, (n, m) in zip(said, ratios, strict=True))
    is_lost = ~new_trusted[place]
    place = tuple(i[is_lost] for i in place)
    new_labels[place], new_trusted[place] = labels[trusted][is_lost], True
    return new_labels, new_trusted


@dataclass(frozen=True)
class _Held:
    """What a correction holds that is trusted: an object, background, its own objects."""

    any_object: bool
    any_background: bool
    objects: int

    @classmethod
    def by(cls, correction: Correction) -> _Held:
        """Of one correction. An object on the edge of its own part counts where most of it lies, or twice."""
        said = np.where(correction.trusted, correction.labels, 0)
        cut = ... if correction.own is None else correction.own.slices
        numbers, counts = np.unique(said[said > 0], return_counts=True)
        inside = dict(zip(*np.unique(said[cut], return_counts=True), strict=True))
        own = sum(2 * inside.get(number, 0) >= count for number, count in zip(numbers, counts, strict=True))
        return cls(bool(numbers.size), bool((correction.trusted & (correction.labels == 0)).any()), int(own))


class ExampleCache:
    """Examples of the corrections used last: targets are built once, not at each draw.

    Parameters
    ----------
    card : ModelCard
        Of the network that will see them.
    border_weight : float
        The paper's w0.
    device : torch.device
        Where they are kept.
    """

    def __init__(self, card: ModelCard, border_weight: float = 0.0, *, device: torch.device = CPU) -> None:
        self.card, self.border_weight, self.device = card, border_weight, device
        self._largest = _largest_cache(device)
        self._known: OrderedDict[int, tuple[Correction, Example]] = OrderedDict()
        self._holds: dict[int, tuple[Correction, _Held]] = {}
        self._bytes = 0

    def __getitem__(self, correction: Correction) -> Example:
        """The example of a correction."""
        known = self._known.get(id(correction))
        if known is None:  # the correction is kept with its example, so that its id is not given to another one
            known = (correction, example_of(correction, self.card, self.border_weight).to(self.device))
            self._known[id(correction)] = known
            self._bytes += known[1].nbytes
        self._known.move_to_end(id(correction))
        while self._bytes > self._largest and len(self._known) > 1:
            self._forget(next(iter(self._known)))
        return known[1]

    def has(self, correction: Correction, *, on_object: bool) -> bool:
        """Whether a correction holds trusted objects, or trusted background."""
        held = self._held(correction)
        return held.any_object if on_object else held.any_background

    def told(self, corrections: Sequence[Correction]) -> int:
        """How much corrections tell: their objects, each once, and one a region without any; of classes, regions.

        Whoever corrects one picture to its end has said as much as who corrects here and there.
        """
        is_of_objects = self.card.kind == "objects"
        return sum(max(1, self._held(c).objects if is_of_objects else 1) for c in corrections)

    def _held(self, correction: Correction) -> _Held:
        """What a correction holds; found once."""
        known = self._holds.get(id(correction))
        if known is None:
            known = self._holds[id(correction)] = (correction, _Held.by(correction))
        return known[1]

    def keep_only(self, corrections: Sequence[Correction]) -> None:
        """Forget what was withdrawn, or replaced by a newer one."""
        wanted = {id(correction) for correction in corrections}
        for key in self._known.keys() - wanted:
            self._forget(key)
        self._holds = {key: known for key, known in self._holds.items() if key in wanted}

    def _forget(self, key: int) -> None:
        """Drop one example."""
        self._bytes -= self._known.pop(key)[1].nbytes


def _largest_cache(device: torch.device) -> int:
    """Bytes of examples that are kept: a graphics card may give a fourth of what it has."""
    if device.type != "cuda":
        return LARGEST_CACHE
    return max(LARGEST_CACHE, torch.cuda.get_device_properties(device).total_memory // 4)


def draw_crops(
    examples: Sequence[Example],
    on_objects: Sequence[bool],
    size: int,
    options: Augmentation,
    random: torch.Generator,
) -> Batch:
    """Augmented crops, each around a random trusted voxel of its example.

    Parameters
    ----------
    examples : sequence of Example
        On one device, of as many channels and targets; where the crops will be, too.
    on_objects : sequence of bool
        Whether each crop shall be around a voxel of an object, or of background, if there is any.
    size : int
        Side of the crops, in pixels.
    options : Augmentation
    random : Generator
        Of the CPU.
    """
    strengths = options.drawn(len(examples), random)
    jitter = (torch.rand(len(examples), 2, generator=random) - 0.5) * size / 2
    middles = [each.place(random, on_object=on) for each, on in zip(examples, on_objects, strict=True)]
    centers = (torch.tensor(middles) + jitter).to(examples[0].values.device)
    grids = warp_grids(centers, size, strengths, random)
    read, is_inside = sample(examples, grids)
    values, weight = read[:, :-1], read[:, -1:]
    channels = examples[0].channels
    images = recolor(change_greys(values[:, :channels], strengths, random), strengths, random)
    targets = torch.cat([values[:, -1:], values[:, channels:-1]], 1)
    untouched = (weight == 0) & is_inside
    # channels last in memory, as convolutions like it
    return Batch(images.contiguous(memory_format=torch.channels_last), targets, weight, untouched)
