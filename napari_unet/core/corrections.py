"""Edit and Correction: what a user made right, and what a network can learn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import numpy.typing as npt

from napari_unet.core.arrays import filled
from napari_unet.core.errors import ImageError, LabelsError, check_type
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits, limits_from
from napari_unet.core.prompts import Prompts

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


# values of a picture's `taught` array
NOT_TAUGHT, TAUGHT, HELD_OUT = 0, 1, 2

MOST_RESIZED = 100
"""How far a picture may be resized: a model knows objects of tens of pixels, and none is smaller than one pixel."""


@dataclass(frozen=True)
class Edit:
    """One confirmed change of a label layer: what the user set, and where. Kept for ever.

    Attributes
    ----------
    picture : str
        Identity of the picture.
    box : Box
        Where `labels` and `trusted` lie in the picture.
    labels : (*box) int32
        The labels after the change.
    trusted : (*box) bool
        The voxels that the user set; the others are what the model said, and prove nothing.
    tool : str
        What the user did: 'paint', 'delete', 'join', 'cut', 'accept', 'region', 'nothing', 'click', 'undo'.
    held_out : bool
        Whether it scores the model instead of teaching it. Fixed when the edit is made.
    time : float
        Seconds since the epoch.
    taught : (*box) uint8 or None
        Of an 'undo' alone: what `taught` was before the edit that is undone.
    right : float or None
        How right the masks were there before the user touched them, 0..1; None if that is not known.
    prompts : Prompts or None
        Of a 'click' alone: what showed the object, in pixels of the plane (the last two axes of the picture).
    kind : {'objects', 'classes', ''}
        What the labels are: numbers of objects, or classes. '': that is not known.
    """

    picture: str
    box: Box
    labels: npt.NDArray[np.int32]
    trusted: Mask
    tool: str = "paint"
    held_out: bool = False
    time: float = 0.0
    taught: npt.NDArray[np.uint8] | None = None
    right: float | None = None
    prompts: Prompts | None = None
    kind: str = ""

    def apply(self, labels: Labels, taught: npt.NDArray[np.uint8]) -> None:
        """Write this edit into a picture's labels and its `taught` array, in place, where it is trusted.

        An edit that carries its own `taught` (an undo) puts that back; any other one teaches, or is held out.

        Parameters
        ----------
        labels : (whole picture) int
        taught : (whole picture) uint8
            0 where nothing is known, 1 where the user taught, 2 where the user's word is held out.
        """
        inside = self.box.clip(labels.shape)
        cut = inside.within(self.box).slices
        trusted = self.trusted[cut]
        labels[inside.slices][trusted] = self.labels[cut][trusted].astype(labels.dtype)
        state = HELD_OUT if self.held_out else TAUGHT
        taught[inside.slices][trusted] = state if self.taught is None else self.taught[cut][trusted]


@dataclass(frozen=True)
class Correction:
    """A region of a picture with what is known of it: what `fine_tune` learns from.

    Attributes
    ----------
    image : (Y, X) or (Y, X, 1 to 4) or (C, [Z,] Y, X)
        Raw intensities. Last axis 3 or 4 long: colour, unless `channels_first`; 1 or 2 long: channels, put first.
    labels : ([Z,] Y, X) int
        Objects 1..N and background 0, or class ids.
    trusted : ([Z,] Y, X) bool
        The voxels to learn from; the others are ignored, and so are those that are masked in any of these arrays.
    limits : Limits, or (low, high), or None
        Intensities of the whole picture that become 0 and 1, for all channels or one of each; None: estimated from
        `image`.
    held_out : bool or None
        True: only used to score. None: `fine_tune` holds every fifth one out.
    scale : float
        The picture is resized by this before the network sees it; above 0, at most 100.
    channels_first : bool
        `image` is (C, [Z,] Y, X) whatever its shape looks like.
    prompts : tuple of Prompts
        What showed some of the objects, in pixels of the region.
    own : Box or None
        The part that no other correction tells of; around it are its surroundings. None: all of it.
    """

    image: npt.NDArray[np.generic]
    labels: Labels
    trusted: Mask
    limits: Limits | None = None
    held_out: bool | None = None
    scale: float = field(default=1.0, kw_only=True)
    channels_first: bool = field(default=False, kw_only=True)
    prompts: tuple[Prompts, ...] = field(default=(), kw_only=True)
    own: Box | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse arrays that do not lie over each other, and what is no value of an attribute."""
        given = [np.asanyarray(each) for each in (self.image, self.labels, self.trusted)]  # lists are taken, too
        image, labels, trusted = map(filled, given)
        for name, array in (("image", image), ("labels", labels), ("trusted", trusted)):
            object.__setattr__(self, name, array)
        if labels.shape != trusted.shape:
            raise LabelsError(f"Labels are {labels.shape} and the trusted mask is {trusted.shape}; they must be alike.")
        if not np.issubdtype(labels.dtype, np.integer):
            raise LabelsError(f"Labels must be whole numbers, not {labels.dtype}.")
        if trusted.dtype != bool:
            raise LabelsError(f"The trusted mask must be of type bool, not {trusted.dtype}.")
        if labels.min(initial=0) < 0 and (labels[trusted] < 0).any():
            raise LabelsError("Labels have negative numbers; give 0 for background and objects from 1 on.")
        self._check_options(labels.shape)
        if image.dtype.kind not in "buif":
            raise ImageError(f"The image is of type {image.dtype}; give numbers.")
        self._lay(image, labels.shape)
        self._ignore_masked(given[0], given[1])
        if self.limits is not None:
            object.__setattr__(self, "limits", limits_from(self.limits, self._channels))

    @property
    def is_color(self) -> bool:
        """Whether the last axis of the image is red, green, blue and perhaps alpha."""
        shape = self.image.shape
        return not self.channels_first and shape[:-1] == self.labels.shape and shape[-1] in (3, 4)

    @property
    def _channels(self) -> int:
        """Of the image, without alpha."""
        if self.is_color:
            return 3
        return 1 if self.image.shape == self.labels.shape else len(self.image)

    def _check_options(self, shape: tuple[int, ...]) -> None:
        """Refuse a scale, an own part or prompts that are none."""
        check_type(self.scale, Real, "Give the scale as one number, like 0.5.")
        if not 0 < self.scale <= MOST_RESIZED:
            raise ImageError(
                f"A picture cannot be resized by {self.scale}. Give a scale above 0, and of {MOST_RESIZED} at most."
            )
        check_type(self.own, Box | None, "Give the own part as a Box, or leave it out.")
        own = self.own
        if own is not None and (len(own.start) != len(shape) or own.is_empty or own.clip(shape) != own):
            raise ImageError(f"The own part {own} is none of the labels, {shape}. Give a Box of their pixels.")
        some_prompts = "Give prompts as a tuple: (Prompts(...), ...)."
        check_type(self.prompts, tuple | list, some_prompts)
        for each in self.prompts:
            check_type(each, Prompts, some_prompts)
        check_type(self.held_out, bool | np.bool_ | None, "Give held_out as True or False, or leave it out.")

    def _ignore_masked(self, image: npt.NDArray[np.generic], labels: Labels) -> None:
        """Nothing is learnt from what is masked in the image or the labels."""
        for mask in (np.ma.getmaskarray(each) for each in (image, labels) if np.ma.is_masked(each)):
            if mask.shape != self.labels.shape:
                is_last = not self.channels_first and mask.shape[:-1] == self.labels.shape
                mask = np.any(mask, axis=-1 if is_last else 0)
            object.__setattr__(self, "trusted", self.trusted & np.logical_not(mask))

    def _lay(self, image: npt.NDArray[np.generic], under: tuple[int, ...]) -> None:
        """Refuse an image that does not lie under the labels; one or two channels that come last are put first."""
        shape = image.shape
        if under in ((shape[1:],) if self.channels_first else (shape, shape[1:])):
            return
        if self.channels_first or shape[:-1] != under:
            raise LabelsError(f"The image is {shape}, the labels are {under}; they must cover the same pixels.")
        if shape[-1] in (1, 2):
            object.__setattr__(self, "image", np.moveaxis(image, -1, 0))
        elif shape[-1] not in (3, 4):
            raise ImageError(f"The image is {shape}; its last axis is no colour. Give its channels first, (C, Y, X).")
