"""Picture: an open picture with what the user said of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit
from napari_unet.core.diff import free_id
from napari_unet.core.errors import ImageError, check_type
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import lay_over
from napari_unet.core.sizes import LIKE, diameters, scale_for, usual_scale

DRAWN_ENOUGH = 3
"""Objects that the user set from which on their size counts."""
OTHER = 1.75
"""How much larger or smaller they must be than the model saw: what is corrected is no fair sample of the objects."""
AS_MUCH = 10
"""Objects that the user set that count as much as what the model saw (docs/experiments.md)."""


@dataclass
class Picture:
    """A picture that is open in the session.

    Attributes
    ----------
    key : str
        Identity: SHA-256 over shape, type and sampled voxels, so that it is found again tomorrow.
    name : str
    source : ImageSource
        With all its channels.
    truth : (*shape) int32
        The labels the user set (where `taught` is not 0).
    taught : (*shape) uint8
        0 not taught, 1 taught, 2 held out. Written by the main thread alone.
    masks : (*shape) int32 or None
        The label layer as it is; before there is one, what it is to start with.
    channels : tuple of int or None
        The channels that the model reads; None: all.
    is_inverted : bool or None
        Whether the model sees it better with dark and bright exchanged; None before it was looked at so.
    measured : float or None
        Diameter of its objects, in pixels, by what the model saw and what the user drew; None before that.
    seen : float or None
        The same by what the model saw alone; None before the user drew enough.
    drawn : list of float
        Diameters of the objects that the user set.
    scale : float
        Size of the network's pixels, in pixels of the picture.
    view : Box or None
        What the user looks at.
    path : str
        Where it lies, if it is known.
    """

    key: str
    name: str
    source: ImageSource
    truth: npt.NDArray[np.int32]
    taught: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.int32] | None = None
    channels: tuple[int, ...] | None = None
    is_inverted: bool | None = None
    measured: float | None = None
    seen: float | None = None
    drawn: list[float] = field(default_factory=list)
    scale: float = 1.0
    view: Box | None = None
    path: str = ""
    _reading: tuple[object, ImageSource] | None = field(default=None, init=False, repr=False)

    @property
    def reading(self) -> ImageSource:
        """The picture as the model reads it, its channels and perhaps inverted; the same object while these stay."""
        way, known = (self.channels, bool(self.is_inverted)), self._reading
        if known is None or known[0] != way:
            reading = self.source if self.channels is None else self.source.select(self.channels)
            self._reading = known = (way, reading.inverted() if self.is_inverted else reading)
        return known[1]

    def check_view(self, view: Box) -> None:
        """Refuse what is no view of a plane of this picture; it may reach beyond the plane, and lie beside it.

        Raises
        ------
        ImageError
            If it has other axes than the picture, or its plane is not there.
        """
        check_type(view, Box, "Give the view as a Box.")
        shape, letters = self.source.shape, ", ".join(self.source.letters)
        if len(view.start) != len(shape):
            axes = f"{len(view.start)} axes" if len(view.start) > 1 else "1 axis"
            raise ImageError(f"The view has {axes}, and the picture {len(shape)}. Give a Box of all: ({letters}).")
        self.check_plane(view.start[:-2])

    def check_plane(self, lead: tuple[int, ...]) -> None:
        """Refuse a plane that the picture does not have: (time, z), as far as there are any."""
        planes, letters = self.source.shape[:-2], ", ".join(self.source.letters)
        if len(lead) != len(planes) or not all(0 <= i < n for i, n in zip(lead, planes, strict=True)):
            raise ImageError(
                f"There is no plane {lead} in the picture, which is {self.source.shape}, ({letters}). "
                "Count from 0 along each axis before the last two."
            )

    def lay_known(self, known: npt.NDArray[np.int32], kind: str) -> None:
        """Lay what a project knows over the masks that are there; where it knows of nothing they stay.

        Parameters
        ----------
        known : (*shape) int32
            The masks that the project kept; taken over, and what is taught is written into it.
        kind : {'objects', 'classes'}
            Objects that stay get numbers that no other has; of those that it knows mostly, nothing stays.
        """
        taught = self.taught != 0
        known[taught] = self.truth[taught]
        seen, self.masks = self.masks, known
        if seen is not None and seen.any():
            free = (known == 0) & ~taught
            if kind == "objects":
                laid = lay_over(known, seen, np.ones(known.shape, bool), free_id(known), protected=~free)
                known[free] = laid.labels[free]
            else:
                known[free] = seen[free]

    def use_channels(self, channels: tuple[int, ...] | None) -> None:
        """Have the model read these channels; whether it sees them better inverted is not known then."""
        self.channels, self.is_inverted = channels, None

    def note_sight(self, diameter: float | None, is_inverted: bool | None) -> bool:
        """Take over how the model sees the picture, inverted or not the first time alone; whether that changed."""
        self.measured, before = diameter, self.is_inverted
        self.is_inverted = is_inverted if before is None else before
        return bool(before) != bool(self.is_inverted)

    def note_sizes(self, edit: Edit) -> None:
        """The more objects the user set, the more their size counts, and the less what the model saw at first.

        The worst faults come first, the largest objects or the smallest, so a few tell little. What they tell is taken
        where it is clearly another size, so that a picture is not read anew after each correction. Classes have none.
        """
        if edit.kind == "classes":
            return
        self.drawn += diameters(np.where(edit.trusted, edit.labels, 0)).tolist()
        if len(self.drawn) < DRAWN_ENOUGH:
            return
        size = float(np.median(self.drawn))
        self.seen = self.seen or self.measured
        if self.seen is not None:
            share = len(self.drawn) / (len(self.drawn) + AS_MUCH) if is_other_size(size, self.seen) else 0.0
            size = self.seen ** (1 - share) * size**share
        if is_other_size(size, self.measured, LIKE):
            self.measured = size

    def forget_sizes(self) -> None:
        """Forget what was drawn: what the model saw holds again."""
        self.measured, self.seen = self.seen or self.measured, None
        self.drawn.clear()

    def rescale(self, given: float | None, known: float) -> bool:
        """Set the scale for objects of the diameter that the user gave, or that was measured; whether it changed.

        Parameters
        ----------
        given : float or None
        known : float
            The diameter that the model knows.
        """
        before = self.scale
        self.scale = scale_for(given, known) if given else usual_scale(self.measured, known)
        return self.scale != before


def usual_size(pictures: Iterable[Picture]) -> float | None:
    """The size that the objects which the user set tell in other pictures; None while they are too few.

    Each counts as the size of its picture, if enough of them were set there (`Picture.note_sizes`), else as its own.
    """
    sizes = [p.measured if p.measured and len(p.drawn) >= DRAWN_ENOUGH else d for p in pictures for d in p.drawn]
    return float(np.median(sizes)) if len(sizes) >= DRAWN_ENOUGH else None


def follow_sizes(pictures: Iterable[Picture], before: float | None) -> float | None:
    """Have pictures measured anew once the user's objects tell of another size than before; that size.

    Parameters
    ----------
    pictures : iterable of Picture
        All of a project; those with objects of the user's own stay as they are.
    before : float or None
        What this gave the last time.
    """
    pictures = list(pictures)
    usual = usual_size(pictures)
    if not is_other_size(usual, before):
        return before
    for picture in pictures:
        if len(picture.drawn) < DRAWN_ENOUGH:
            picture.measured = None
    return usual


def is_other_size(size: float | None, before: float | None, most: float = OTHER) -> bool:
    """Whether a size is clearly another one than before."""
    return size is not None and (before is None or not 1 / most < size / before < most)
