"""Looks: what a network shows of a part of a picture from near and from afar, and how sure of it it is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from skimage.segmentation import clear_border

from napari_unet.core.events import Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import build_objects, settings_for
from napari_unet.core.intensity import fit_channels, normalize
from napari_unet.core.metrics import evaluate
from napari_unet.core.sizes import contrast_of_parts, diameters, usual_scale
from napari_unet.core.targets import rim_distance
from napari_unet.engine.network import Axes, resize, run_network
from napari_unet.nets.model import Model

SIDE = 512
"""Side of the part that is looked at, in pixels of the network."""
SPECK = 5.0
"""Whatever is smaller is no object, in pixels of the picture."""
AS_GOOD = 1.1
"""How much more the network may contradict itself from afar for a size seen there to be believed. Found on every eighth
of the nuclei, and the phase contrast and bacteria, among the training pictures (docs/models.md). The same for a size
that is expected (docs/experiments.md)."""
PARTED, SMALLER = 1.2, 1.2
"""Contrast of the rims between pieces from which on they are objects, of which the other look shows groups; and how
much smaller they are at least (docs/experiments.md)."""
MIRROR_IMAGE: Axes = (-2, -1)
ALIKE = 1.15
"""How much larger one size may be than another that says the same."""
SAME = 1.05
"""How much larger one scale may be than another that is as good as the same."""
ENOUGH = 8
"""Objects that tell a size; with fewer, other parts of the picture are looked at, too."""
NEARER = 1.4
"""How much nearer than the picture as it is groups are looked for."""
LOOKS = 2
"""At one scale and at those that it leads to, at most."""


@dataclass(frozen=True)
class _Part:
    """The first part of a picture that was looked at, at the size that the network saw.

    Attributes
    ----------
    box : Box
        Where it lies in the picture's plane.
    image : (Y, X) float32
        Mean of the channels.
    labels : (Y, X) int32
    """

    box: Box
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]

    def labels_at(self, other: _Part) -> npt.NDArray[np.int32]:
        """The labels at the pixels of another part; 0 outside of this one."""
        found = np.pad(self.labels, ((0, 1), (0, 1)))  # what lies outside is read from the last row or column
        places = []
        for axis, (size, own) in enumerate(zip(other.labels.shape, self.labels.shape, strict=True)):
            at = other.box.start[axis] + (np.arange(size) + 0.5) * other.box.shape[axis] / size
            index = np.floor((at - self.box.start[axis]) * own / self.box.shape[axis]).astype(int)
            places.append(np.where((index >= 0) & (index < own), index, own))
        return found[np.ix_(*places)]


@dataclass(frozen=True)
class Look:
    """What shows at one scale.

    Attributes
    ----------
    diameter : float
        In pixels of the picture.
    strife : float
        How much the two outputs of the network contradict each other, 0 and more: how far the distances to the rim
        are from those in the objects that are made of them. Large objects that are seen from too near fall into
        pieces whose middles are none.
    scale : float
    part : _Part, optional
    """

    diameter: float
    strife: float
    scale: float = 1.0
    part: _Part | None = None

    def shows_groups(self, nearer: Look) -> bool:
        """Whether what is smaller from nearer by is objects, of which this look shows groups."""
        if self.part is None or nearer.part is None or self.diameter < SMALLER * nearer.diameter:
            return False
        part = nearer.part
        return contrast_of_parts(part.image, part.labels, self.part.labels_at(part)) >= PARTED


class Looks:
    """Looks at one place of a picture, each scale at most once."""

    def __init__(self, model: Model, source: ImageSource, view: Box) -> None:
        self._model, self._source, self._view = model, source, view
        self._known: dict[float, Look | None] = {}

    def better(self, near: Look | None, far: Look | None) -> Look | None:
        """The look to go by where nothing else is known of the sizes; None if nothing shows."""
        if near is None or far is None:
            return near or far
        # what is larger than the objects that the model knows is seen whole from afar, and in pieces from near
        sees_more = far.diameter > self._model.card.diameter and far.strife <= AS_GOOD * near.strife
        return far if sees_more else near

    def ungrouped(self, look: Look, near: Look) -> Generator[Progress, None, Look]:
        """A look, or one from nearer by where it shows groups."""
        nearer = yield from self._at(NEARER * near.scale)
        return next((each for each in (nearer, near) if each and look.shows_groups(each)), look)

    def closely(self, scale: float, most: int = LOOKS) -> Generator[Progress, None, Look | None]:
        """Look at one scale, then at the one at which objects of the size found are as large as the model knows them.

        And so on until two looks agree: what is seen from too far or too near is seldom right at once. A model that
        knows what it sees needs no more than two.
        """
        best = None
        for _ in range(most):
            seen = yield from self._at(scale)
            if seen is None:
                break
            best, before = seen, scale
            scale = usual_scale(seen.diameter, self._model.card.diameter)
            if alike(scale, before, SAME):
                break
        return best

    def at_size(self, diameter: float, most: int = 1) -> Generator[Progress, None, Look | None]:
        """Look from where objects of a size are as large as the model knows them, and so on."""
        return (yield from self.closely(usual_scale(diameter, self._model.card.diameter), most))

    def inverted(self) -> Looks:
        """The same place of the inverted picture."""
        return Looks(self._model, self._source.inverted(), self._view)

    def steadiness(self, look: Look, many: int) -> Generator[Progress, None, float | None]:
        """How far the masks of a look and of one at the mirror image agree, 0..1; None of fewer than `many` objects.

        A few objects tell nothing: one that fills the picture is the same in the mirror.
        """
        part = look.part
        if part is None or part.labels.max(initial=0) < many:
            return None
        lead = self._view.start[:-2]
        box = Box((*lead, *part.box.start), (*(i + 1 for i in lead), *part.box.stop))
        mirrored, _, _ = _outputs_in(self._model, self._source, box, look.scale, mirrors=(MIRROR_IMAGE,))
        yield Progress("predict", "Measuring the objects", 0, 1)
        return evaluate(mirrored, part.labels)["ap50"]

    def _at(self, scale: float) -> Generator[Progress, None, Look | None]:
        """What shows at one scale; None if nothing does."""
        known = next((known for known in self._known if alike(scale, known, SAME)), scale)
        if known not in self._known:
            self._known[known] = yield from _look(self._model, self._source, self._view, known)
        return self._known[known]


def alike(one: float, other: float, most: float = ALIKE) -> bool:
    """Whether neither of two sizes, or scales, is much larger than the other."""
    return 1 / most < one / other < most


def _look(model: Model, source: ImageSource, view: Box, scale: float) -> Generator[Progress, None, Look | None]:
    """What shows at one scale, in as many parts of the plane as are needed; None if nothing does."""
    found: list[float] = []
    strife, area = 0.0, 0
    first: _Part | None = None
    for part in _parts(source.shape, view, round(SIDE / scale)):
        labels, distance, image = _outputs_in(model, source, part, scale)
        if first is None:
            first = _Part(Box(part.start[-2:], part.stop[-2:]), image, labels)
        inside = labels > 0
        strife += float(np.abs(distance - rim_distance(labels))[inside].sum())
        area += int(inside.sum())
        own = diameters(clear_border(labels)) / scale
        found += [float(d) for d in own if d > SPECK]
        yield Progress("predict", "Measuring the objects", 0, 1)
        if len(found) >= ENOUGH:
            break
    return Look(_usual(found), strife / area, scale, first) if found else None


def _parts(shape: tuple[int, ...], view: Box, side: int) -> list[Box]:
    """The middle of the view, then the quarters of the plane around it; those that are different."""
    lead, flat = len(shape) - 2, shape[-2:]
    middles = [view.center[lead:], *((flat[0] * y / 4, flat[1] * x / 4) for y in (1, 3) for x in (1, 3))]
    parts: dict[Box, None] = {}
    for middle in middles:
        start = [max(0, min(int(m - side / 2), n - side)) for m, n in zip(middle, flat, strict=True)]
        stop = [min(a + side, n) for a, n in zip(start, flat, strict=True)]
        parts[Box((*view.start[:lead], *start), (*(a + 1 for a in view.start[:lead]), *stop))] = None
    return list(parts)


def _outputs_in(
    model: Model, source: ImageSource, part: Box, scale: float, mirrors: Sequence[Axes] = ((),)
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The objects in one part of a picture, the distances to their rims, and the picture, in pixels of the network."""
    raw = source.read(part)
    x = fit_channels(normalize(raw, source.limits()), model.card.in_channels)
    x = x.reshape(len(x), *part.shape[-2:])
    outputs = run_network(model, x, scale, at_network_size=True, mirrors=mirrors).astype(np.float32)
    image = resize(torch.from_numpy(x.mean(0, keepdims=True))[None], outputs.shape[1:])[0, 0].numpy()
    return build_objects(outputs[0], outputs[1], settings_for(model.card)), outputs[1], image


def _usual(found: list[float]) -> float:
    """The median diameter of all but fragments: those below a third of the one that most of the foreground has."""
    ordered = np.sort(found)
    weight = np.cumsum(ordered**2)
    typical = ordered[np.searchsorted(weight, weight[-1] / 2)]
    return float(np.median(ordered[ordered >= typical / 3]))
