"""ImageSource: a picture that is read box by box, whatever holds it."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_unet.core.arrays import ArrayLike, RawArray, axes_of, checked_levels, cut, looks_like_color, read_dtype
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.holes import is_framed
from napari_unet.core.intensity import Limits, estimate_limits
from napari_unet.core.sampled import SAMPLE_VOXELS, sample_boxes, thinned

MOST_AXES = 5  # without the channels
# a picture up to these sizes is read whole, for its identity (asked for while the user waits) and for its limits
WHOLE_FOR_KEY, WHOLE_FOR_LIMITS = 2**22, 2**24  # voxels


class ImageSource:
    """A picture: raw intensities, read when they are needed and only where they are needed.

    Make one with `of_array` or `of_named_axes`.

    Attributes
    ----------
    name : str
        What the user calls it.
    shape : tuple of int
        Every axis that a label layer of the picture has, so without channels: (Y, X), (Z, Y, X), (T, Z, Y, X) ...
    letters : str
        What each axis of `shape` is: 'T' time, 'Z', 'Y', 'X', 'Q' any other. Where nobody said it, as `axes_of` has it.
    channels : int
        Number of channels; 1 if the picture has no such axis.
    is_color : bool
        Whether the channels are red, green and blue (alpha is left out).
    is_inverted : bool
        Whether `limits` show dark as bright; `read` gives what is there.
    voxel_size : tuple of float
        Extent of a voxel along each axis of `shape`; only their ratios count.
    dtype : numpy.dtype
        Of what `read` gives: the picture's own, in the machine's byte order; bool is read as uint8.
    """

    def __init__(
        self,
        levels: Sequence[ArrayLike],
        *,
        axes: tuple[int, ...],
        channel_axis: int | None,
        picked: tuple[int, ...],
        is_color: bool,
        voxel_size: Sequence[float] | None,
        name: str,
    ) -> None:
        """Take checked arrays; see `of_array` and `of_named_axes` for everyday use."""
        self.name = name
        self.shape = tuple(int(levels[0].shape[axis]) for axis in axes)
        self.letters = axes_of(len(axes))
        self.channels = len(picked)
        self.is_color = is_color
        self.is_inverted = False
        self.voxel_size = _voxel_size(voxel_size, len(axes))
        self.dtype = read_dtype(np.dtype(levels[0].dtype))
        self._levels = tuple(levels)
        self._axes = axes
        self._channel_axis = channel_axis
        self._picked = picked
        self._known_limits: dict[tuple[tuple[int, ...], bool], Limits] = {}  # shared with every selection

    @classmethod
    def of_array(
        cls,
        data: ArrayLike | Sequence[ArrayLike],
        *,
        rgb: bool | None = None,
        channel_axis: int | None = None,
        voxel_size: Sequence[float] | None = None,
        name: str = "",
    ) -> Self:
        """Make a picture of an array, or of the levels of a pyramid.

        Parameters
        ----------
        data : array-like, or sequence of array-like
            Anything with a shape, a dtype and slicing. Of several levels the first is the picture, the smaller ones
            speed up `limits`.
        rgb : bool, optional
            Whether the last axis (or `channel_axis`) holds red, green, blue and perhaps alpha. None: it does if it
            is 3 or 4 long, the two before it are longer, and the voxels are uint8, uint16 or floats.
        channel_axis : int, optional
            The axis that holds channels; None: there is none, or it is the last of a colour picture.
        voxel_size : sequence of float, optional
            Extent of a voxel, for the last axes without channels; missing ones are 1.
        name : str

        Raises
        ------
        ImageError
            If there is nothing in it, it has too few or too many axes, or its voxels are no real numbers.
        """
        levels = checked_levels(data)
        shape = tuple(int(n) for n in levels[0].shape)
        if rgb is None:
            rgb = channel_axis is None and looks_like_color(shape, np.dtype(levels[0].dtype))
        if rgb and channel_axis is None:
            channel_axis = len(shape) - 1
        if channel_axis is not None:
            if not -len(shape) <= channel_axis < len(shape):
                raise ImageError(f"The picture has {len(shape)} axes, so there is no axis {channel_axis} for channels.")
            channel_axis %= len(shape)
        axes = tuple(axis for axis in range(len(shape)) if axis != channel_axis)
        return cls._of_axes(levels, axes, channel_axis, rgb=rgb, voxel_size=voxel_size, name=name)

    @classmethod
    def of_named_axes(
        cls,
        data: ArrayLike | Sequence[ArrayLike],
        axes: str,
        *,
        voxel_size: dict[str, float] | None = None,
        name: str = "",
    ) -> Self:
        """Make a picture of an array whose axes are known by name, as in OME files.

        Axes come out in the order (others, T, Z, Y, X). One that is 1 long and is neither Y nor X is dropped.

        Parameters
        ----------
        data : array-like, or sequence of array-like
            As in `of_array`.
        axes : str
            One letter for each axis: 'T' time, 'Z', 'Y', 'X', 'C' channel, 'S' colour; others are kept as they are.
        voxel_size : dict of str to float, optional
            By letter; missing ones are 1.
        name : str

        Raises
        ------
        ImageError
            As in `of_array`, and if Y or X is missing.
        """
        levels = checked_levels(data)
        shape = tuple(int(n) for n in levels[0].shape)
        axes = axes.upper()
        if len(axes) != len(shape) or axes.count("Y") != 1 or axes.count("X") != 1:
            raise ImageError(f"The axes '{axes}' of the picture do not fit its shape {shape}; save it as (C, Z, Y, X).")
        channel = axes.find("S") if "S" in axes else axes.find("C")
        rgb = channel >= 0 and axes[channel] == "S" and shape[channel] in (3, 4)
        kept = [a for a, letter in enumerate(axes) if a != channel and (shape[a] > 1 or letter in "YX")]
        kept.sort(key=lambda a: "TZYX".find(axes[a]))  # sorting is stable, and unknown letters (-1) come first
        sizes = [(voxel_size or {}).get(axes[a], 1.0) for a in kept]
        channel_axis = None if channel < 0 else channel
        picture = cls._of_axes(levels, tuple(kept), channel_axis, rgb=rgb, voxel_size=sizes, name=name)
        letters = "".join(axes[a] for a in kept)
        picture.letters = letters if set(letters) <= set("TZYX") else picture.letters
        return picture

    @classmethod
    def _of_axes(
        cls,
        levels: list[ArrayLike],
        axes: tuple[int, ...],
        channel_axis: int | None,
        *,
        rgb: bool,
        voxel_size: Sequence[float] | None,
        name: str,
    ) -> Self:
        """Check what no array may lack, and leave alpha out."""
        if not 2 <= len(axes) <= MOST_AXES:
            raise ImageError(
                f"The picture has {len(axes)} axes besides its channels; open one with 2 (Y, X) to {MOST_AXES}."
            )
        channels = 1 if channel_axis is None else int(levels[0].shape[channel_axis])
        if rgb and channels not in (3, 4):
            raise ImageError(f"A colour picture has 3 or 4 channels, but this one has {channels}; open it as gray.")
        return cls(
            levels,
            axes=axes,
            channel_axis=channel_axis,
            picked=tuple(range(3 if rgb else channels)),
            is_color=rgb,
            voxel_size=voxel_size,
            name=name,
        )

    def read(self, box: Box) -> RawArray:
        """Read a box; of a lazy array only what lies inside it.

        Parameters
        ----------
        box : Box
            In the axes of `shape`, inside the picture.

        Returns
        -------
        (C, *box.shape) `dtype`
            Raw intensities, a copy. Masked voxels are NaN, or 0 where there is no NaN.

        Raises
        ------
        ImageError
            If the box reaches outside, or the array behind the picture cannot be read.
        """
        return self._read_level(0, box)

    def read_mirrored(self, box: Box) -> RawArray:
        """Read a box that may reach outside: there the picture is mirrored at its rim.

        The rim itself is not repeated (numpy's 'reflect'), and the mirror images are mirrored again where the box
        reaches further than the picture is wide, so that a network has context everywhere (overlap-tile strategy,
        Ronneberger et al., MICCAI 2015).

        Parameters
        ----------
        box : Box
            In the axes of `shape`; not empty.

        Returns
        -------
        (C, *box.shape) `dtype`
        """
        where = [_mirrored(a, b, n) for a, b, n in zip(box.start, box.stop, self.shape, strict=True)]
        needed = Box(tuple(int(i.min()) for i in where), tuple(int(i.max()) + 1 for i in where))
        raw = self.read(needed)
        for axis, (index, first) in enumerate(zip(where, needed.start, strict=True), start=1):
            if not np.array_equal(index - first, np.arange(raw.shape[axis])):
                raw = raw.take(index - first, axis=axis)
        return raw

    def select(self, channels: Sequence[int]) -> ImageSource:
        """The same picture with some of its channels, in the order given.

        Raises
        ------
        ImageError
            If there is no such channel, or none is named.
        """
        try:
            picked = tuple(operator.index(c) for c in channels)
        except TypeError as error:
            raise ImageError(f"{channels!r} names no channels. Give their numbers from 0, like (0, 2).") from error
        if not picked or not all(0 <= c < self.channels for c in picked):
            wanted = ", ".join(map(str, picked)) or "none"
            raise ImageError(
                f"Channels {wanted} were asked for, but the picture has {self.channels}; "
                f"choose from 0 to {self.channels - 1}."
            )
        if picked == tuple(range(self.channels)):
            return self
        view = ImageSource(
            self._levels,
            axes=self._axes,
            channel_axis=self._channel_axis,
            picked=tuple(self._picked[c] for c in picked),
            is_color=False,
            voxel_size=self.voxel_size,
            name=self.name,
        )
        view.letters, view._known_limits, view.is_inverted = self.letters, self._known_limits, self.is_inverted
        return view

    def inverted(self) -> ImageSource:
        """The same picture with `limits` that show dark as bright, and bright as dark."""
        view = copy(self)
        view.is_inverted = not self.is_inverted
        return view

    def limits(self, channels: Sequence[int] | None = None) -> Limits:
        """Intensities that become 0 and 1, of the whole picture; estimated once, then known.

        A picture of up to 16 million voxels is read whole, a larger one in at most 64 blocks, so that the figures
        are the same whatever array holds it. Of a pyramid the smallest level of a million voxels or more is taken.

        Parameters
        ----------
        channels : sequence of int, optional
            Some channels alone, as in `select`.
        """
        if channels is not None:
            return self.select(channels).limits()
        known = self._known_limits.get((self._picked, self.is_color))
        if known is None:
            parts = self._parts(self._level_for_limits())
            known = estimate_limits(thinned(parts), joint=self.is_color, is_framed=is_framed(parts))
            self._known_limits[self._picked, self.is_color] = known
        return known.inverted() if self.is_inverted else known

    def key(self) -> str:
        """Give the identity of the picture: the same tomorrow, and for the same voxels in another file.

        Returns
        -------
        str
            SHA-256 over shape, type, channels and voxels (all up to 4 million, then those of at most 64 blocks), hex.
        """
        little_endian = self.dtype.newbyteorder("<")
        digest = hashlib.sha256(f"{self.shape} {little_endian.str} {self.channels} {self.is_color}".encode())
        for box in sample_boxes(self.shape, self.channels, WHOLE_FOR_KEY):
            digest.update(self.read(box).astype(little_endian, copy=False).tobytes())
        return digest.hexdigest()

    def _read_level(self, level: int, box: Box) -> RawArray:
        """Read a box of one level of the pyramid, (C, *box.shape)."""
        data = self._levels[level]
        shape = self._level_shape(level)
        if box.clip(shape) != box:
            raise ImageError(
                f"Voxels {box.start} to {box.stop} were asked for, but the picture is {shape}; open it again."
            )
        index = [slice(0, 1)] * len(data.shape)
        for axis, inside in zip(self._axes, box.slices, strict=True):
            index[axis] = inside
        first = min(self._picked)
        if self._channel_axis is not None:
            index[self._channel_axis] = slice(first, max(self._picked) + 1)
        raw = cut(data, tuple(index))
        if self._channel_axis is None:
            raw = raw[np.newaxis]  # (1, *data.shape)
            order = [0, *(axis + 1 for axis in self._axes)]
        else:
            order = [self._channel_axis, *self._axes]
        dropped = [axis for axis in range(raw.ndim) if axis not in order]
        raw = raw.transpose(order + dropped).reshape(-1, *box.shape)
        if self._picked != tuple(range(first, first + len(raw))):
            raw = raw[[c - first for c in self._picked]]
        return np.ascontiguousarray(raw)

    def _level_shape(self, level: int) -> tuple[int, ...]:
        """`shape` of one level of the pyramid."""
        return tuple(int(self._levels[level].shape[axis]) for axis in self._axes)

    def _level_for_limits(self) -> int:
        """The smallest level that is still large enough and has every channel, else the picture itself."""
        sizes = [math.prod(self._level_shape(level)) for level in range(len(self._levels))]
        enough = [
            level
            for level, size in enumerate(sizes)
            if size >= SAMPLE_VOXELS and self._all_channels(level) == self._all_channels(0)
        ]
        return min(enough, key=sizes.__getitem__, default=0)

    def _all_channels(self, level: int) -> int:
        """Channels that one level of the pyramid holds, picked or not."""
        return 1 if self._channel_axis is None else int(self._levels[level].shape[self._channel_axis])

    def _parts(self, level: int) -> list[RawArray]:
        """One level of the pyramid, or blocks from all over it, each (C, ..., Y, X)."""
        boxes = sample_boxes(self._level_shape(level), self.channels, WHOLE_FOR_LIMITS)
        return [self._read_level(level, box) for box in boxes]


def _voxel_size(given: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """One positive extent for each axis; 1 where nothing sensible is given."""
    sizes = [abs(float(size)) for size in (given if given is not None else ())][-axes:]
    sizes = [1.0] * (axes - len(sizes)) + sizes
    return tuple(size if math.isfinite(size) and size > 0 else 1.0 for size in sizes)


def _mirrored(start: int, stop: int, length: int) -> npt.NDArray[np.int64]:
    """The voxels of an axis of `length` that positions `start` to `stop` show, mirrored without repeating the rim."""
    period = max(2 * (length - 1), 1)
    position = np.arange(start, stop, dtype=np.int64) % period
    return np.minimum(position, period - position) if length > 1 else position
