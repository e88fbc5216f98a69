"""Rehearsal: a few pictures of what the shipped model knows, so that it does not forget them while it learns others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.segmentation import relabel_sequential

from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError, about_file
from napari_unet.core.intensity import Limits
from napari_unet.engine.sampling import resampled
from napari_unet.nets.model import DEFAULT, Model, rehearsal_beside
from napari_unet.nets.packages import Stamp, stamp_of

SIDE = 256
"""Largest side of a picture, in pixels of the network."""
ONE = 200.0
"""The byte for a normalised intensity of 1."""


def rehearsal_of(model: Model) -> Sequence[Correction]:
    """What a model must not forget: what lies beside its file; of versions of the shipped one what lies beside that."""
    path = model.rehearsal
    if path is None and model.card.name == DEFAULT:
        path = rehearsal_beside(DEFAULT)
    return read(path) if path is not None and path.is_file() and model.card.kind == "objects" else ()


def read(path: Path) -> tuple[Correction, ...]:
    """The pictures of a file; read once, and again when the file is another one.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    return _read(path, stamp_of(path))


@lru_cache(maxsize=4)
def _read(path: Path, stamp: Stamp) -> tuple[Correction, ...]:
    """The pictures of a file of this stamp."""
    try:
        with np.load(path, allow_pickle=False) as file:
            count = sum(name.startswith("image") for name in file.files)
            return tuple(_correction_of(file, number) for number in range(count))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path.name}' is damaged. Take it away, or install the package again.") from error


def _correction_of(file: Mapping[str, npt.NDArray[np.generic]], number: int) -> Correction:
    """A picture of the file as the training takes it; all of it is trusted unless the file says otherwise."""
    image, labels = file[f"image{number}"], file[f"labels{number}"].astype(np.int32)
    limits = Limits((0.0,) * len(image), (ONE,) * len(image))
    part = f"trusted{number}"
    trusted = file[part].astype(bool) if part in file else np.ones(labels.shape, bool)
    return Correction(image, labels, trusted, limits, held_out=False, channels_first=True)


def write(path: Path, corrections: Sequence[Correction], seed: int = 0) -> None:
    """Write a part with objects of each picture, at the size at which the network sees it and with 8 bits a channel.

    A picture of which nothing is known is left out.
    """
    random, arrays = np.random.default_rng(seed), {}
    for number, known in enumerate(c for c in corrections if c.trusted.any()):
        image, labels, trusted = resampled(known)
        labels = np.where(trusted, labels, 0)
        middle = random.choice(np.argwhere(labels if labels.any() else trusted))  # something is there
        start = [max(0, min(int(m) - SIDE // 2, n - SIDE)) for m, n in zip(middle, labels.shape, strict=True)]
        cut = tuple(slice(a, a + SIDE) for a in start)
        arrays[f"image{number}"] = np.clip(np.rint(ONE * image[:, *cut]), 0, 255).astype(np.uint8)
        # numbered anew, for those of a large picture do not fit into 16 bits
        arrays[f"labels{number}"] = relabel_sequential(labels[cut])[0].astype(np.uint16)
        if not trusted[cut].all():
            arrays[f"trusted{number}"] = trusted[cut]
    part = path.with_suffix(".part")
    with about_file(path):
        try:
            with part.open("wb") as file:
                np.savez_compressed(file, **arrays)
            part.replace(path)  # a torn file never takes the place of a whole one
        finally:
            part.unlink(missing_ok=True)


def chosen(kinds: Sequence[Sequence[Correction]], count: int, seed: int = 0) -> list[Correction]:
    """Some pictures of each kind, drawn by lot: of four times as many pictures, twice as many."""
    random = np.random.default_rng(seed)
    ranked: list[tuple[float, Correction]] = []
    for kind in kinds:
        order = random.permutation(len(kind))
        ranked += [((rank + 0.5) / len(kind) ** 0.5, kind[index]) for rank, index in enumerate(order)]
    return [correction for _, correction in sorted(ranked, key=lambda pair: pair[0])[:count]]
