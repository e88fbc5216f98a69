"""How a model sees a picture best: how large its objects are, and whether dark and bright are to be exchanged."""

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
from napari_unet.core.instances import InstanceSettings, build_objects
from napari_unet.core.intensity import fit_channels, normalize
from napari_unet.core.metrics import evaluate
from napari_unet.core.sizes import contrast_of_parts, diameters, scale_for, usual_scale
from napari_unet.core.targets import rim_distance
from napari_unet.engine.network import Axes, resize, run_network
from napari_unet.nets.model import Model

SIDE = 512
"""Side of the part that is looked at, in pixels of the network."""
AS_IT_IS, FROM_AFAR = 1.0, 0.5
"""Scales at which a picture is looked at first."""
SPECK = 5.0
"""Whatever is smaller is no object, in pixels of the picture."""
BELIEVED = 2.0
"""How much larger or smaller than expected a size may be."""
AS_GOOD = 1.1
"""How much more the network may contradict itself from afar for a size seen there to be believed. Found on every eighth
of the nuclei, and the phase contrast and bacteria, among the training pictures (docs/models.md). The same for a size
that is expected (docs/experiments.md)."""
MUCH = 1.5
"""The same for a size that is expected where what else shows is far from it: a network that does not know a kind yet
contradicts itself as much from anywhere, one that does two to three times as much where it sees pieces."""
PARTED, SMALLER = 1.2, 1.2
"""Contrast of the rims between pieces from which on they are objects, of which the other look shows groups; and how
much smaller they are at least (docs/experiments.md)."""
NEARER, IN_DOUBT = 1.4, 0.1
"""How much nearer than the picture as it is groups are looked for, and the strife from which on they are: a network
that knows what it sees contradicts itself less."""
STEADY, STEADIER = 0.9, 0.03
"""Agreement of the masks of a picture and of its mirror image (ap50) from which on a picture is seen well as it is; and
how much more they must agree where it is inverted (docs/experiments.md)."""
MIRROR_IMAGE: Axes = (-2, -1)
MANY = 20
"""Objects whose agreement in the mirror tells something; with fewer, some kinds were seen worse."""
ALIKE = 1.15
"""How much larger one size may be than another that says the same."""
LOOKS, LOOKS_EXPECTED = 2, 3
"""At one scale and at those that it leads to, at most; and where a size is expected."""
SAME = 1.05
"""How much larger one scale may be than another that is as good as the same."""
PLANES = (1 / 2, 1 / 4, 3 / 4, 0.0, 1.0)
"""Where in a stack planes are looked at, one after the other until something shows; along each axis."""
ENOUGH = 8
"""Objects that tell a size; with fewer, other parts of the picture are looked at, too."""


@dataclass(frozen=True)
class Sight:
    """How a model sees a picture best.

    Attributes
    ----------
    diameter : float or None
        Of most of the foreground's objects, in pixels of the picture; None if there is nothing to see.
    is_inverted : bool or None
        Whether the picture is better seen with dark and bright exchanged; None: it was not looked at so.
    """

    diameter: float | None = None
    is_inverted: bool | None = None

    def of(self, source: ImageSource) -> ImageSource:
        """A picture as it is seen best."""
        return source if self.is_inverted in (None, source.is_inverted) else source.inverted()


def measure(
    model: Model,
    source: ImageSource,
    view: Box | None = None,
    *,
    expected: float | None = None,
    given: float | None = None,
    as_it_is: bool = False,
    many: int = MANY,
) -> Generator[Progress, None, Sight]:
    """Find out how a model sees a picture best; one `next()` looks at one part of it.

    The picture is looked at as it is and from farther away, each time once more at the scale at which objects of the
    size found are as large as those the model was trained on. Objects that are larger than those are measured from
    afar, unless the network contradicts itself more there, or may see groups of them: where it is in doubt, it looks
    from nearer by, too, and smaller pieces whose rims part them well are the objects. Where another size is expected,
    or the two looks disagree, it is looked at as the expected one asks for, too: a model that has just learnt a
    kind of object knows it at that scale. What shows there is believed if it is of about that size and nothing else
    is, unless the network contradicts itself much more. If what else shows is of about that size, too, it must show
    there alone, and the network may not contradict itself more: whoever corrects the largest objects first has not
    said that all are as large.

    A network that knows what it sees finds the same in a mirror image. Where it does not, the picture is looked at
    inverted, too (or as it is, if what was learnt last was inverted); so it is seen if the masks agree better then, and
    the network contradicts itself less. Where nothing shows, they must agree as well as where nobody doubts.

    Parameters
    ----------
    model : Model
        If it is not one of 2-D objects, nothing is measured.
    source : ImageSource
    view : Box, optional
        The plane, and the place in it, to look at first; by default the middle of the plane in the middle, and where
        nothing shows there, of other planes: the first ones of a stack are often empty.
    expected : float, optional
        Diameter of the objects that the user set in other pictures.
    given : float, optional
        Diameter of the objects in this one, so that it is not looked for.
    as_it_is : bool
        Do not look at it inverted.
    many : int
        So many objects must show for it to be seen inverted.

    Returns
    -------
    Sight
    """
    if model.card.kind != "objects" or model.net.ndim != 2:
        return Sight(given, model.card.is_inverted or None)
    if not as_it_is and source.is_inverted != model.card.is_inverted:
        source = source.inverted()
    places = [_Looks(model, source, place) for place in ([view] if view else _planes(source.shape))]
    plain, looks = yield from _first_of(places, expected, given)
    size = given or (plain.diameter if plain else expected)
    if as_it_is:
        return Sight(size)
    steadiness = (yield from looks.steadiness(plain, many)) if plain else 0.0
    if steadiness is None or steadiness >= STEADY:
        return Sight(size, source.is_inverted)
    places = [each.inverted() for each in ([looks] if plain else places)]
    inverted, looks = yield from _first_of(places, expected, given)
    if inverted and (plain is None or inverted.strife < plain.strife):
        steadier = (yield from looks.steadiness(inverted, many)) or 0.0
        if steadier > (steadiness + STEADIER if plain else STEADY):
            return Sight(given or inverted.diameter, not source.is_inverted)
    return Sight(size, source.is_inverted if plain else None)


def measured_by(
    model: Model,
    source: ImageSource,
    *,
    expected: float | None = None,
    given: float | None = None,
    as_it_is: bool = False,
) -> Sight:
    """What `measure` finds in a picture, at once."""
    looking = measure(model, source, expected=expected, given=given, as_it_is=as_it_is)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            found: Sight = end.value
            return found


def as_seen_by(model: Model, source: ImageSource, diameter: float | None = None) -> tuple[ImageSource, float]:
    """A picture as a model sees it best, and how much it is resized: to objects of `diameter`, or as measured."""
    known = model.card.diameter
    scale = None if diameter is None else scale_for(diameter, known)
    sight = measured_by(model, source, given=diameter)
    return sight.of(source), scale or usual_scale(sight.diameter, known)


def _first_of(
    places: Sequence[_Looks], expected: float | None, given: float | None
) -> Generator[Progress, None, tuple[_Look | None, _Looks]]:
    """What shows at the first place where something does, and the looks there."""
    for looks in places:
        if given is not None:
            found = yield from looks.at_size(given)
        else:
            found = yield from _best(looks, expected)
        if found:
            break
    return found, looks


def _best(looks: _Looks, expected: float | None) -> Generator[Progress, None, _Look | None]:
    """The look that tells the size of what shows at a place; None if nothing does, or none of the size expected."""
    near = yield from looks.closely(AS_IT_IS)
    far = yield from looks.closely(FROM_AFAR)
    free = looks.better(near, far)
    if free and near and near.strife >= IN_DOUBT:
        free = yield from looks.ungrouped(free, near)
    agree = near and far and _alike(near.diameter, far.diameter)
    if expected is None or (free and agree and _alike(free.diameter, expected, BELIEVED)):
        return free
    own = yield from looks.at_size(expected, LOOKS_EXPECTED)
    if own is None or not _alike(own.diameter, expected, BELIEVED):
        return free
    return own if free is None or _preferred(own, free, expected, (near, far)) else free


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
class _Look:
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

    def shows_groups(self, nearer: _Look) -> bool:
        """Whether what is smaller from nearer by is objects, of which this look shows groups."""
        if self.part is None or nearer.part is None or self.diameter < SMALLER * nearer.diameter:
            return False
        part = nearer.part
        return contrast_of_parts(part.image, part.labels, self.part.labels_at(part)) >= PARTED


def _preferred(own: _Look, free: _Look, expected: float, others: Sequence[_Look | None]) -> bool:
    """Whether what shows at the scale of the expected size, and is about of it, is believed and not what else shows."""
    if not _alike(free.diameter, expected, BELIEVED):
        return own.strife <= MUCH * free.strife
    is_news = not any(look and _alike(own.diameter, look.diameter) for look in others)
    return is_news and own.strife <= AS_GOOD * free.strife


class _Looks:
    """Looks at one place of a picture, each scale at most once."""

    def __init__(self, model: Model, source: ImageSource, view: Box) -> None:
        self._model, self._source, self._view = model, source, view
        self._known: dict[float, _Look | None] = {}

    def better(self, near: _Look | None, far: _Look | None) -> _Look | None:
        """The look to go by where nothing else is known of the sizes; None if nothing shows."""
        if near is None or far is None:
            return near or far
        # what is larger than the objects that the model knows is seen whole from afar, and in pieces from near
        sees_more = far.diameter > self._model.card.diameter and far.strife <= AS_GOOD * near.strife
        return far if sees_more else near

    def ungrouped(self, look: _Look, near: _Look) -> Generator[Progress, None, _Look]:
        """A look, or one from nearer by where it shows groups."""
        nearer = yield from self._at(NEARER * near.scale)
        return next((each for each in (nearer, near) if each and look.shows_groups(each)), look)

    def closely(self, scale: float, most: int = LOOKS) -> Generator[Progress, None, _Look | None]:
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
            if _alike(scale, before, SAME):
                break
        return best

    def at_size(self, diameter: float, most: int = 1) -> Generator[Progress, None, _Look | None]:
        """Look from where objects of a size are as large as the model knows them, and so on."""
        return (yield from self.closely(usual_scale(diameter, self._model.card.diameter), most))

    def inverted(self) -> _Looks:
        """The same place of the inverted picture."""
        return _Looks(self._model, self._source.inverted(), self._view)

    def steadiness(self, look: _Look, many: int) -> Generator[Progress, None, float | None]:
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

    def _at(self, scale: float) -> Generator[Progress, None, _Look | None]:
        """What shows at one scale; None if nothing does."""
        known = next((known for known in self._known if _alike(scale, known, SAME)), scale)
        if known not in self._known:
            self._known[known] = yield from _look(self._model, self._source, self._view, known)
        return self._known[known]


def _planes(shape: tuple[int, ...]) -> list[Box]:
    """Some planes of a stack from all over it, those that are different; of one plane that alone."""
    lead, flat = shape[:-2], shape[-2:]
    corners = dict.fromkeys(tuple(min(int(n * part), n - 1) for n in lead) for part in PLANES)
    return [Box((*corner, 0, 0), (*(i + 1 for i in corner), *flat)) for corner in corners]


def _alike(one: float, other: float, most: float = ALIKE) -> bool:
    """Whether neither of two sizes, or scales, is much larger than the other."""
    return 1 / most < one / other < most


def _look(model: Model, source: ImageSource, view: Box, scale: float) -> Generator[Progress, None, _Look | None]:
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
    return _Look(_usual(found), strife / area, scale, first) if found else None


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
    return build_objects(outputs[0], outputs[1], InstanceSettings()), outputs[1], image


def _usual(found: list[float]) -> float:
    """The median diameter of all but fragments: those below a third of the one that most of the foreground has."""
    ordered = np.sort(found)
    weight = np.cumsum(ordered**2)
    typical = ordered[np.searchsorted(weight, weight[-1] / 2)]
    return float(np.median(ordered[ordered >= typical / 3]))
