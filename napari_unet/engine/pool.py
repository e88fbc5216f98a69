"""What the user taught, as regions that `fine_tune` can learn from; it grows while the training runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import HELD_OUT, TAUGHT, Correction, Edit, Mask
from napari_unet.core.geometry import Box
from napari_unet.core.picture import Picture
from napari_unet.core.prompts import Prompts
from napari_unet.core.sides import region_of, squares_of

CONTEXT = 96
"""Pixels around a square that are learnt with it, so that no object is cut."""

SHARED = 4
"""Side of the blocks of squares that share what is read of a picture: their surroundings overlap, a voxel lies in those
of six. Blocks are no larger, for all of one is kept while any square of it stands as it was read."""

Square = tuple[int, ...]
Kept = tuple[str, str]  # a picture, and what its labels are
Place = tuple[Kept, Square, bool]


@dataclass(frozen=True)
class _Said:
    """What of a picture is on disk, and so may be learnt.

    A replay of its own: the main thread goes on writing into the arrays of the picture, which another
    thread would read half written. Memory is taken only where something was set.
    """

    truth: npt.NDArray[np.int32]
    taught: npt.NDArray[np.uint8]
    prompts: dict[Box, Prompts] = field(default_factory=dict)

    def note(self, edit: Edit) -> None:
        """Take an edit in."""
        edit.apply(self.truth, self.taught)
        if edit.prompts is not None:
            self.prompts[edit.box] = edit.prompts
        elif edit.taught is not None:  # taken back
            self.prompts.pop(edit.box, None)

    def prompts_in(self, region: Box) -> tuple[Prompts, ...]:
        """What showed objects of a region, in its pixels."""
        start = [-a for a in region.start[-2:]]
        return tuple(p.shift(start) for box, p in self.prompts.items() if not box.intersect(region).is_empty)


class Pool(Sequence[Correction]):
    """A correction for each square of a picture in which the user set something, and for each side of the split.

    Changed by one thread alone (in the app the disk's, by edits that it has written); read by any: a change makes a
    new dict, so that whoever goes through the old one is not disturbed.

    Attributes
    ----------
    kind : {'objects', 'classes', ''}
        Only what was set in labels of this kind is given to the training, and what was set in labels of which that is
        not known: the number of an object is no class. The rest waits here.
    """

    def __init__(self) -> None:
        self.kind = ""
        self._said: dict[Kept, _Said] = {}
        self._corrections: dict[Place, Correction] = {}

    def __len__(self) -> int:
        """Number of corrections."""
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Correction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Correction]: ...
    def __getitem__(self, index: int | slice) -> Correction | Sequence[Correction]:
        """The corrections as they are now, oldest first."""
        return list(self)[index]

    def __iter__(self) -> Iterator[Correction]:
        """The corrections as they are now, oldest first."""
        kinds = ("", self.kind)
        return (correction for ((_, kind), _, _), correction in self._corrections.items() if kind in kinds)

    @property
    def can_teach(self) -> bool:
        """Whether there is something to learn from, not only to score with."""
        return any(not correction.held_out for correction in self)

    def take(self, picture: Picture, edits: Iterable[Edit]) -> None:
        """Take edits in, in their order, and build anew what they change.

        Raises
        ------
        ImageError
            If the picture cannot be read there.
        """
        squares: dict[Kept, dict[Square, None]] = {}
        for edit in edits:
            kept = picture.key, edit.kind
            if kept not in self._said:
                # zeros, not zeros_like: the system gives these memory only when they are written to
                shape = picture.source.shape
                self._said[kept] = _Said(np.zeros(shape, np.int32), np.zeros(shape, np.uint8))
            self._said[kept].note(edit)
            near = edit.box.grow((CONTEXT, CONTEXT)).clip(self._said[kept].truth.shape)
            squares.setdefault(kept, {}).update(dict.fromkeys(squares_of(near)))
        for kept, changed in squares.items():
            self._build(picture, kept, changed)

    def read_back(self, picture: Picture, edits: Iterable[Edit]) -> None:
        """Begin a picture anew with all its edits."""
        self._said = {kept: said for kept, said in self._said.items() if kept[0] != picture.key}
        self._corrections = {place: c for place, c in self._corrections.items() if place[0][0] != picture.key}
        self.take(picture, edits)

    def rebuild(self, pictures: Mapping[str, Picture]) -> None:
        """Build all corrections anew: pictures are read with other channels, or at another size."""
        for kept in self._said:
            if kept[0] in pictures:
                squares = dict.fromkeys(square for of, square, _ in self._corrections if of == kept)
                self._build(pictures[kept[0]], kept, squares)

    def forget(self) -> None:
        """Begin anew."""
        self._said.clear()
        self._corrections = {}

    def _build(self, picture: Picture, kept: Kept, squares: Collection[Square]) -> None:
        """Build what squares teach, and what they hold out."""
        said, blocks = self._said[kept], dict[Square, list[Square]]()
        for square in squares:
            if said.taught[region_of(square).clip(said.taught.shape).slices].any():
                blocks.setdefault(_block_of(square), []).append(square)
        surroundings = {block: _read(picture, said, inside) for block, inside in blocks.items()}
        for square in squares:
            self._build_one(picture, kept, square, surroundings.get(_block_of(square)))

    def _build_one(self, picture: Picture, kept: Kept, square: Square, around: _Surroundings | None) -> None:
        """Build what one square teaches, and what it holds out."""
        said = self._said[kept]
        inner = said.taught[region_of(square).clip(said.taught.shape).slices]
        for side, held_out in ((TAUGHT, False), (HELD_OUT, True)):
            place = (kept, square, held_out)
            changed = dict(self._corrections)
            if around is not None and (inner == side).any():
                changed[place] = _correction(picture, said, square, side, around)
            else:
                changed.pop(place, None)
            self._corrections = changed


class Lesson(Sequence[Correction]):
    """A pool as one training sees it: as it is now, but never without anything that teaches.

    Everything may be undone while a piece of the training is about to draw from it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: list[Correction] = []

    def _now(self) -> list[Correction]:
        """The corrections; those of the last time if none of them teaches any more."""
        corrections = list(self._pool)
        if any(not correction.held_out for correction in corrections):
            self._known = corrections
        return self._known

    def __len__(self) -> int:
        """Number of corrections."""
        return len(self._now())

    @overload
    def __getitem__(self, index: int) -> Correction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Correction]: ...
    def __getitem__(self, index: int | slice) -> Correction | Sequence[Correction]:
        """The corrections, oldest first."""
        return self._now()[index]

    def __iter__(self) -> Iterator[Correction]:
        """The corrections, oldest first."""
        return iter(self._now())


@dataclass(frozen=True)
class _Surroundings:
    """What is known of squares that lie near each other, and around them; it is never changed.

    Attributes
    ----------
    box : Box
    image : (C, *box)
    labels : (*box) int32
    trusted : dict of int to (*box) bool
        By the side of the split.
    """

    box: Box
    image: npt.NDArray[np.generic]
    labels: npt.NDArray[np.int32]
    trusted: dict[int, Mask]


def _block_of(square: Square) -> Square:
    """The block in which a square lies."""
    return (*square[:-2], square[-2] // SHARED, square[-1] // SHARED)


def _read(picture: Picture, said: _Said, squares: Sequence[Square]) -> _Surroundings:
    """What is known now of squares of one plane, with their surroundings."""
    box = Box.union(map(region_of, squares)).grow((CONTEXT, CONTEXT)).clip(said.truth.shape)
    trusted = {side: said.taught[box.slices] == side for side in (TAUGHT, HELD_OUT)}
    return _Surroundings(box, picture.reading.read(box), said.truth[box.slices].copy(), trusted)


def _correction(picture: Picture, said: _Said, square: Square, side: int, around: _Surroundings) -> Correction:
    """A square with its surroundings, as far as it is on one side of the split."""
    inner = region_of(square).clip(said.truth.shape)
    region = inner.grow((CONTEXT, CONTEXT)).clip(said.truth.shape)
    flat, own, cut = region.shape[-2:], inner.within(region), region.within(around.box).slices
    return Correction(
        around.image[:, *cut].reshape(-1, *flat),
        around.labels[cut].reshape(flat),
        around.trusted[side][cut].reshape(flat),
        picture.reading.limits(),
        held_out=side == HELD_OUT,
        scale=picture.scale,
        channels_first=True,
        prompts=said.prompts_in(region),
        own=Box(own.start[-2:], own.stop[-2:]),
    )
