"""Picture: an open picture with what the user said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.sizes import scale_for, usual_scale


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
        Masks restored from the project, for the label layer to start with.
    channels : tuple of int or None
        The channels that the model reads; None: all.
    measured : float or None
        Diameter of its objects, in pixels, as the model saw it at first; None before that.
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
    measured: float | None = None
    scale: float = 1.0
    view: Box | None = None
    path: str = ""

    @property
    def reading(self) -> ImageSource:
        """The picture with the channels that the model reads."""
        return self.source if self.channels is None else self.source.select(self.channels)

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
