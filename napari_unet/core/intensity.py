"""Raw intensities to network input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_unet.core import holes
from napari_unet.core.errors import ImageError

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
LOWEST, HIGHEST = -0.5, 2.0
"""What is further away than that is clipped, so that one hot pixel cannot drown the rest."""
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """Intensities that become 0 and 1, one of each a channel.

    Estimated once a picture, so that neighbouring tiles agree.

    Attributes
    ----------
    low, high : tuple of float
        In the picture's own units. Where `low` is the higher one, the picture is seen inverted.
    is_framed : bool
        Whether what is 0 in all channels is no part of the picture.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    is_framed: bool = False

    def select(self, channels: tuple[int, ...]) -> Limits:
        """The limits of some channels."""
        return replace(self, low=tuple(self.low[c] for c in channels), high=tuple(self.high[c] for c in channels))

    def inverted(self) -> Limits:
        """Dark becomes bright, and bright dark."""
        return replace(self, low=self.high, high=self.low)


def limits_from(given: object, channels: int) -> Limits:
    """Limits from what a user gives: (low, high), each one number, or one of each channel.

    Parameters
    ----------
    given : Limits, or pair of float or of sequence of float
    channels : int
        That the picture has; one number counts for all of them.

    Raises
    ------
    ImageError
        If they are no such pair, or of another number of channels.
    """
    pair = (given.low, given.high) if isinstance(given, Limits) else given
    try:
        low, high = (np.array(each, np.float64).ravel() for each in pair)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ImageError(f"The limits {given!r} are no pair. Give (low, high), like (0, 255).") from error
    if not {low.size, high.size} <= {1, channels}:
        known = max(low.size, high.size)
        raise ImageError(
            f"The limits are of {known} channels and the picture has {channels}. Give (low, high), one of each channel."
        )
    low, high = np.broadcast_to(low, channels), np.broadcast_to(high, channels)
    # estimated ones of a constant channel of huge numbers may be no span
    if given is pair and not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ImageError(f"The limits {given!r} are no span. Give the lower one first, like (0, 255).")
    return Limits(tuple(low.tolist()), tuple(high.tolist()), isinstance(given, Limits) and given.is_framed)


def estimate_limits(sample: npt.NDArray[np.generic], *, joint: bool = False, is_framed: bool | None = None) -> Limits:
    """Percentiles 1 and 99.8 of each channel, of finite values alone.

    Parameters
    ----------
    sample : (C, ...)
        Some voxels of the picture.
    joint : bool
        One pair of limits for all channels (colour pictures: keeps their hue).
    is_framed : bool, optional
        Whether what is 0 in all channels is left out; None: as `sample`, which has its axes (Y, X) then, looks.

    Returns
    -------
    Limits
        Of a constant channel `high` is `low + 1`, so that it becomes 0 everywhere.
    """
    if is_framed is None:
        is_framed = sample.ndim > 2 and holes.is_framed([sample])
    values = np.asarray(sample).reshape(len(sample), -1)
    values = (values[:, ~holes.is_black(values)] if is_framed else values).astype(np.float64)
    groups = [values.ravel()] * len(values) if joint else list(values)
    low, high = [], []
    for group in groups:
        finite = group[np.isfinite(group)]
        a, b = 2 * np.percentile(finite / 2, (LOW_PERCENTILE, HIGH_PERCENTILE)) if finite.size else (0.0, 1.0)
        if not b > a and finite.size:
            # nearly everything has one value: a few bright objects still are a picture
            a, b = float(finite.min()), float(finite.max())
        low.append(float(a))
        high.append(float(b) if b > a else float(a) + 1.0)
    return Limits(tuple(low), tuple(high), is_framed)


def normalize(raw: npt.NDArray[np.generic], limits: Limits) -> FloatArray:
    """Scale intensities so that the limits become 0 and 1; holes are filled (`fill_holes`).

    Parameters
    ----------
    raw : (C, ...)
    limits : Limits
        As many as there are channels.

    Returns
    -------
    (C, ...) float32
        Clipped to `LOWEST` .. `HIGHEST`; 1 less that where the limits are inverted.
    """
    return holes.fill_holes(normalize_with_holes(raw, limits))[0]


def normalize_with_holes(raw: npt.NDArray[np.generic], limits: Limits) -> FloatArray:
    """`normalize`, but holes are NaN."""
    shape = (-1,) + (1,) * (raw.ndim - 1)
    # all of it halved: the difference of two of the largest numbers is none
    ends = np.asarray(limits.low, np.float64) / 2, np.asarray(limits.high, np.float64) / 2
    low, high = (end.reshape(shape) for end in (np.minimum(*ends), np.maximum(*ends)))
    span = high - low
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: FloatArray = ((raw.astype(np.float64) / 2 - low) / span).astype(np.float32)
    np.clip(scaled, LOWEST, HIGHEST, out=scaled)
    if limits.is_framed:
        scaled[:, holes.is_black(raw)] = np.nan
    is_inverted = ends[0] > ends[1]
    if is_inverted.any():  # after what is far away was clipped, as crops to learn from are inverted
        scaled[is_inverted] = 1 - scaled[is_inverted]
    return scaled


def fit_channels(x: FloatArray, wanted: int) -> FloatArray:
    """Give a picture the number of channels that a model reads.

    One channel is repeated; two are taken as the first two of three. Anything else is the user's
    choice to make.

    Parameters
    ----------
    x : (C, ...) float32
    wanted : int

    Raises
    ------
    ImageError
        If the picture has more channels than the model reads, or fewer but more than one.
    """
    have = len(x)
    if have == wanted:
        return x
    if have == 1:
        return np.repeat(x, wanted, axis=0)
    if have == 2 and wanted == 3:
        return np.concatenate([x, 0 * x[:1]])  # a hole stays one
    if have == 3 and wanted == 1:
        return np.asarray(x.mean(axis=0, keepdims=True), np.float32)
    raise ImageError(
        f"This picture has {have} channels; the model reads {wanted}. "
        f"Choose {' or '.join(map(str, sorted({1, wanted})))} of them under Channels (--channels in the command line, "
        "channels= in Python)."
    )
