"""What the user taught, as regions that `fine_tune` can learn from; it grows while the training runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from napari_unet.core.corrections import HELD_OUT, TAUGHT, Correction
from napari_unet.core.geometry import Box
from napari_unet.session.picture import Picture

CELL = 128
"""Side of the squares into which pictures are divided, in pixels; each is on one side of the split for ever."""
CONTEXT = 96
HELD_OUT_EVERY = 5

Cell = tuple[str, tuple[int, ...]]


class Pool(Sequence[Correction]):
    """A correction for each square of a picture in which the user set something.

    The squares decide which words of the user teach and which are held out to score: every fifth
    new square is held out, whatever is set in it later. So a held-out object is never learnt by way
    of another correction beside it.
    """

    def __init__(self) -> None:
        self._sides: dict[Cell, bool] = {}
        self._corrections: dict[Cell, Correction] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of squares with corrections."""
        return len(self._corrections)

    @overload
    def __getitem__(self, index: int) -> Correction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Correction]: ...
    def __getitem__(self, index: int | slice) -> Correction | Sequence[Correction]:
        """The corrections as they are now, oldest first."""
        return list(self)[index]

    def __iter__(self) -> Iterator[Correction]:
        """The corrections as they are now, oldest first."""
        with self._lock:
            return iter(list(self._corrections.values()))

    def side_of(self, key: str, box: Box) -> bool:
        """Whether what is set in `box` is held out; decided when its square is met for the first time."""
        cell = _cell(key, box)
        if cell not in self._sides:
            number = len(self._sides)
            self._sides[cell] = number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        return self._sides[cell]

    def remember_side(self, key: str, box: Box, held_out: bool) -> None:
        """Take the side of a square from an edit that was read back."""
        self._sides.setdefault(_cell(key, box), held_out)

    def update(self, picture: Picture, box: Box) -> None:
        """Build the corrections anew that what was set in `box` changes. Reads the picture: not in the main thread."""
        home = _cell(picture.key, box)
        with self._lock:
            near = [cell for cell in self._corrections if cell[0] == picture.key and _meets(cell, picture, box)]
        for cell in {home, *near}:
            correction = _build(picture, cell, self._sides.get(cell, False))
            with self._lock:
                if correction is None:
                    self._corrections.pop(cell, None)
                else:
                    self._corrections[cell] = correction

    def rebuild(self, pictures: Mapping[str, Picture]) -> None:
        """Build all corrections anew: pictures are read with other channels, or at another size."""
        with self._lock:
            cells = list(self._corrections)
        for cell in cells:
            picture = pictures.get(cell[0])
            if picture is not None:
                self.update(picture, _region(cell, picture))

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._corrections.clear()
            self._sides.clear()


def _cell(key: str, box: Box) -> Cell:
    """The square in which the middle of a box lies."""
    lead = len(box.start) - 2
    return key, tuple(int(c) for c in box.center[:lead]) + tuple(int(c) // CELL for c in box.center[lead:])


def _region(cell: Cell, picture: Picture) -> Box:
    """A square of a picture with its surroundings."""
    index = cell[1]
    lead = len(index) - 2
    start = index[:lead] + tuple(i * CELL for i in index[lead:])
    stop = tuple(i + 1 for i in index[:lead]) + tuple((i + 1) * CELL for i in index[lead:])
    return Box(start, stop).grow((CONTEXT, CONTEXT)).clip(picture.source.shape)


def _meets(cell: Cell, picture: Picture, box: Box) -> bool:
    """Whether the region of a square meets a box."""
    return not _region(cell, picture).intersect(box).is_empty


def _build(picture: Picture, cell: Cell, held_out: bool) -> Correction | None:
    """The correction of one square; None if nothing is set there (any more)."""
    region = _region(cell, picture)
    trusted = picture.taught[region.slices] == (HELD_OUT if held_out else TAUGHT)
    if not trusted.any():
        return None
    flat = region.shape[-2:]
    source = picture.reading
    image = source.read(region)
    return Correction(
        image.reshape(len(image), *flat),
        picture.truth[region.slices].reshape(flat).copy(),
        trusted.reshape(flat),
        source.limits(),
        held_out=held_out,
        scale=picture.scale,
        channels_first=True,
    )
