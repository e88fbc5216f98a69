"""What a picture can be made of: arrays of any library, checked once, then read box by box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ImageError

RawArray = npt.NDArray[np.generic]
MOST_CHANNELS = 16
"""That a last axis is taken for, where nobody says what it is."""

KINDS = {
    "c": "complex numbers; open its magnitude (numpy.abs) instead",
    "O": "Python objects; convert it to numbers first, e.g. with .astype('float32')",
    "S": "text; convert it to numbers first",
    "U": "text; convert it to numbers first",
    "T": "text; convert it to numbers first",
    "V": "records of several fields; open one field of it",
    "M": "dates; convert it to numbers first",
    "m": "durations; convert it to numbers first",
}


class ArrayLike(Protocol):
    """What a picture can be made of: numpy, dask, zarr, HDF5, xarray and their like."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of a voxel."""

    def __getitem__(self, index: Any, /) -> Any:
        """Cut out a box, by slices."""


def checked_levels(data: ArrayLike | Sequence[ArrayLike]) -> list[ArrayLike]:
    """The levels of a pyramid, as they are given; of one array that array alone.

    Levels with another number of axes than the first are left out: all they could do is to speed things up.

    Raises
    ------
    ImageError
        If one is no array of real numbers, or the first is empty or has fewer than two axes.
    """
    levels = list(data) if isinstance(data, Sequence) else [data]
    if not levels:
        raise ImageError("The picture is an empty list; give an array, or the levels of a pyramid.")
    for level in levels:
        if not (hasattr(level, "shape") and hasattr(level, "dtype") and hasattr(level, "__getitem__")):
            raise ImageError(f"A picture cannot be made of a {type(level).__name__}; give an array of numbers.")
        _check_dtype(level.dtype)
    _check_shape(tuple(levels[0].shape))
    return [level for level in levels if len(level.shape) == len(levels[0].shape)]


def _check_dtype(dtype: Any) -> None:
    """Refuse what is no real number."""
    try:
        kind = np.dtype(dtype).kind
    except TypeError as error:
        raise ImageError(f"The picture's type {dtype} is unknown to numpy; convert it to a numpy array.") from error
    if kind not in "buif":
        problem = KINDS.get(kind, f"voxels of type {dtype}; convert it to numbers first")
        raise ImageError(f"The picture holds {problem}.")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what has no voxel or no plane."""
    if any(np.isnan(n) for n in shape):  # dask's way of saying that it does not know a length yet
        raise ImageError(f"The picture's shape {shape} is not known yet; call .compute_chunk_sizes() on it first.")
    if len(shape) < 2:
        axes = "1 axis" if len(shape) == 1 else "no axes"
        raise ImageError(f"The picture has {axes}; open one with at least 2 (Y, X).")
    if 0 in shape:
        raise ImageError(f"The picture is empty, its shape is {shape}; open one that has at least one pixel.")


def looks_like_color(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether the last axis is red, green, blue and perhaps alpha; in stacks, of the number types that colours have."""
    known = len(shape) == 3 or dtype.kind == "f" or dtype in (np.uint8, np.uint16)
    return known and len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shape[-1]


def last_channels_axis(shape: tuple[int, ...]) -> int | None:
    """The last axis, if it can only be channels that are no colour; else None.

    A picture that was saved as (Y, X, 1), or as (Y, X, 5), is no stack of planes that are so few pixels wide.
    """
    if len(shape) < 3:
        return None
    count, least = shape[-1], min(shape[-3:-1])
    is_few = count in (1, 2) and least > count
    return len(shape) - 1 if is_few or (4 < count <= MOST_CHANNELS and least >= 4 * count) else None


def channels_of(array: Any, ndim: int) -> dict[str, Any]:
    """Where the channels of a bare array are, as `ImageSource.of_array` takes it, for a model of `ndim` axes.

    Who reads planes takes (Y, X, 3 or 4) for a colour picture, also of a few rows, not for a stack of strips.
    """
    shape = tuple(getattr(array, "shape", ()))
    is_color = ndim == 2 and len(shape) == 3 and shape[-1] in (3, 4)
    return {"rgb": True} if is_color else {"channel_axis": last_channels_axis(shape)}


def axes_of(ndim: int) -> str:
    """The letters of the axes of a picture that does not say them: Z before (Y, X), T before it, Q before those."""
    return "TZYX"[-ndim:].rjust(ndim, "Q")


def read_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that voxels of `dtype` are read as: the nearest one that torch knows too."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def filled(array: RawArray) -> RawArray:
    """An array without its mask: masked voxels are NaN, or 0 where there is no NaN."""
    if isinstance(array, np.ma.MaskedArray):
        array = array.filled(np.nan if array.dtype.kind == "f" else 0)
    return np.asarray(array)


def cut(data: ArrayLike, index: tuple[slice, ...]) -> RawArray:
    """Cut a box out of whatever array.

    Parameters
    ----------
    data : array-like
    index : tuple of slice
        One with start and stop for each axis of `data`, inside it.

    Returns
    -------
    (*index) `read_dtype` of the array's
        A copy. Masked voxels are NaN, or 0 where there is no NaN.

    Raises
    ------
    ImageError
        If the array fails, or gives something else than what was asked for.
    """
    try:
        raw = np.array(filled(data[index]), dtype=read_dtype(np.dtype(data.dtype)))
    except Exception as error:  # an array of any library may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImageError(f"The picture cannot be read here ({reason}); open it again.") from error
    expected = tuple(i.stop - i.start for i in index)
    if raw.shape != expected:
        raise ImageError(f"The picture gave {raw.shape} voxels where {expected} were asked for; convert it to numpy.")
    return raw
