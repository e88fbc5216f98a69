"""Rehearsal: a few pictures of what the shipped model knows, so that it does not forget them while it learns others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Correction, Labels
from napari_unet.core.errors import ModelError
from napari_unet.core.intensity import Limits
from napari_unet.core.novelty import Familiar
from napari_unet.engine.sampling import network_input, resampled
from napari_unet.nets.model import DEFAULT, Model, rehearsal_beside

SIDE = 256
"""Largest side of a picture, in pixels of the network."""
ONE = 200.0
"""The byte for a normalised intensity of 1."""


def rehearsal_of(model: Model) -> Sequence[Correction]:
    """What a model must not forget: what lies beside its file; of versions of the shipped one what lies beside that."""
    path = _path_of(model)
    return read(path) if path is not None else ()


def familiar_to(model: Model) -> Familiar:
    """What looks familiar to a model: the pictures that it must not forget."""
    path = _path_of(model)
    return _familiar(path, model.card.in_channels) if path is not None else Familiar(())


def _path_of(model: Model) -> Path | None:
    """The file of what a model must not forget, if there is one."""
    path = model.rehearsal
    if path is None and model.card.name == DEFAULT:
        path = rehearsal_beside(DEFAULT)
    return path if path is not None and path.is_file() and model.card.kind == "objects" else None


@cache
def _familiar(path: Path, channels: int) -> Familiar:
    """The looks of the pictures of a file, to a network with so many channels."""
    return Familiar([network_input(correction, channels) for correction in read(path)])


@cache
def read(path: Path) -> tuple[Correction, ...]:
    """The pictures of a file, wholly trusted.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            count = len(file.files) // 2
            pairs = [(file[f"image{n}"], file[f"labels{n}"].astype(np.int32)) for n in range(count)]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path.name}' is damaged. Take it away, or install the package again.") from error
    return tuple(_wholly_trusted(image, labels) for image, labels in pairs)


def _wholly_trusted(image: npt.NDArray[np.uint8], labels: Labels) -> Correction:
    """A picture of the file as the training takes it."""
    limits = Limits((0.0,) * len(image), (ONE,) * len(image))
    return Correction(image, labels, np.ones(labels.shape, bool), limits, held_out=False, channels_first=True)


def write(path: Path, corrections: Sequence[Correction], seed: int = 0) -> None:
    """Write a part with objects of each picture, at the size at which the network sees it and with 8 bits a channel."""
    random, arrays = np.random.default_rng(seed), {}
    for number, known in enumerate(corrections):
        image, labels = resampled(known)
        middle = random.choice(np.argwhere(labels) if labels.any() else np.argwhere(labels == 0))  # something is there
        start = [max(0, min(int(m) - SIDE // 2, n - SIDE)) for m, n in zip(middle, labels.shape, strict=True)]
        cut = tuple(slice(a, a + SIDE) for a in start)
        arrays[f"image{number}"] = np.clip(np.rint(ONE * image[:, *cut]), 0, 255).astype(np.uint8)
        arrays[f"labels{number}"] = labels[cut].astype(np.uint16)
    np.savez_compressed(path, **arrays)


def chosen(kinds: Sequence[Sequence[Correction]], count: int, seed: int = 0) -> list[Correction]:
    """Some pictures of each kind, drawn by lot: of four times as many pictures, twice as many."""
    random = np.random.default_rng(seed)
    ranked: list[tuple[float, Correction]] = []
    for kind in kinds:
        order = random.permutation(len(kind))
        ranked += [((rank + 0.5) / len(kind) ** 0.5, kind[index]) for rank, index in enumerate(order)]
    return [correction for _, correction in sorted(ranked, key=lambda pair: pair[0])[:count]]
