"""Corrections whose intensities nobody gave, as the model sees their pictures best: inverted, perhaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

from napari_unet.core.corrections import Correction
from napari_unet.core.events import Progress
from napari_unet.core.image import ImageSource
from napari_unet.core.intensity import estimate_limits
from napari_unet.engine.looks import ENOUGH
from napari_unet.engine.measure import measure
from napari_unet.engine.sampling import channels_of
from napari_unet.nets.model import Model

LOOKED_AT = 6
"""Pictures of which most decide for all: those of one experiment look alike, and a look takes a part of a second. In
each fewer objects are enough than where one picture decides alone."""


class Oriented(Sequence[Correction]):
    """Corrections; those without `limits` are seen inverted where `segment` would see most of their pictures so.

    Parameters
    ----------
    model : Model
    corrections : sequence of Correction
        May grow.
    """

    def __init__(self, model: Model, corrections: Sequence[Correction]) -> None:
        self._model, self._given = model, corrections
        self._is_inverted = False
        self._known: dict[int, tuple[Correction, Correction]] = {}  # the given one is kept: its id stays its own

    def look(self) -> Iterator[Progress]:
        """Look at some pictures, one piece of work at a time; whoever stops before the end has decided nothing."""
        unknown = {id(c.image): c for c in self._given if c.limits is None}
        found = []
        for correction in list(unknown.values())[:LOOKED_AT]:
            raw = channels_of(correction)
            source = ImageSource.of_array(raw, rgb=correction.is_color, channel_axis=0)
            given = self._model.card.diameter / correction.scale
            sight = yield from measure(self._model, source, given=given, many=ENOUGH)
            found.append(bool(sight.is_inverted))
        self._is_inverted = sum(found) > len(found) / 2

    def __len__(self) -> int:
        """Number of corrections."""
        return len(self._given)

    @overload
    def __getitem__(self, index: int) -> Correction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Correction]: ...
    def __getitem__(self, index: int | slice) -> Correction | Sequence[Correction]:
        """The corrections, oldest first."""
        given = self._given[index]
        return self._seen(given) if isinstance(given, Correction) else [self._seen(each) for each in given]

    def _seen(self, given: Correction) -> Correction:
        """A correction as the model sees it; the same object each time."""
        if not self._is_inverted or given.limits is not None:
            return given
        if id(given) not in self._known:
            limits = estimate_limits(channels_of(given), joint=given.is_color).inverted()
            self._known[id(given)] = given, replace(given, limits=limits)
        return self._known[id(given)][1]
