"""How a model sees a picture best: how large its objects are, and whether dark and bright are to be exchanged."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from napari_unet.core.events import Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.sizes import scale_for, usual_scale
from napari_unet.engine.looks import AS_GOOD, Look, Looks, alike
from napari_unet.nets.model import Model

AS_IT_IS, FROM_AFAR = 1.0, 0.5
"""Scales at which a picture is looked at first."""
BELIEVED = 2.0
"""How much larger or smaller than expected a size may be."""
MUCH = 1.5
"""How much more the network may contradict itself at the size that is expected, for that to be believed where what else
shows is far from it: a network that does not know a kind yet contradicts itself as much from anywhere, one that does
two to three times as much where it sees pieces."""
STEADY, STEADIER = 0.9, 0.03
"""Agreement of the masks of a picture and of its mirror image (ap50) from which on a picture is seen well as it is; and
how much more they must agree where it is inverted (docs/experiments.md)."""
MANY = 20
"""Objects whose agreement in the mirror tells something; with fewer, some kinds were seen worse."""
PLANES = (1 / 2, 1 / 4, 3 / 4, 0.0, 1.0)
"""Where in a stack planes are looked at, one after the other until something shows; along each axis."""
IN_DOUBT = 0.1
"""Strife from which on groups are looked for: a network that knows what it sees contradicts itself less."""
LOOKS_EXPECTED = 3
"""Looks at what is expected, and at what it leads to, at most."""


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
    places = [Looks(model, source, place) for place in ([view] if view else _planes(source.shape))]
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
    places: Sequence[Looks], expected: float | None, given: float | None
) -> Generator[Progress, None, tuple[Look | None, Looks]]:
    """What shows at the first place where something does, and the looks there."""
    for looks in places:
        if given is not None:
            found = yield from looks.at_size(given)
        else:
            found = yield from _best(looks, expected)
        if found:
            break
    return found, looks


def _best(looks: Looks, expected: float | None) -> Generator[Progress, None, Look | None]:
    """The look that tells the size of what shows at a place; None if nothing does, or none of the size expected."""
    near = yield from looks.closely(AS_IT_IS)
    far = yield from looks.closely(FROM_AFAR)
    free = looks.better(near, far)
    if free and near and near.strife >= IN_DOUBT:
        free = yield from looks.ungrouped(free, near)
    agree = near and far and alike(near.diameter, far.diameter)
    if expected is None or (free and agree and alike(free.diameter, expected, BELIEVED)):
        return free
    own = yield from looks.at_size(expected, LOOKS_EXPECTED)
    if own is None or not alike(own.diameter, expected, BELIEVED):
        return free
    return own if free is None or _preferred(own, free, expected, (near, far)) else free


def _preferred(own: Look, free: Look, expected: float, others: Sequence[Look | None]) -> bool:
    """Whether what shows at the scale of the expected size, and is about of it, is believed and not what else shows."""
    if not alike(free.diameter, expected, BELIEVED):
        return own.strife <= MUCH * free.strife
    is_news = not any(look and alike(own.diameter, look.diameter) for look in others)
    return is_news and own.strife <= AS_GOOD * free.strife


def _planes(shape: tuple[int, ...]) -> list[Box]:
    """Some planes of a stack from all over it, those that are different; of one plane that alone."""
    lead, flat = shape[:-2], shape[-2:]
    corners = dict.fromkeys(tuple(min(int(n * part), n - 1) for n in lead) for part in PLANES)
    return [Box((*corner, 0, 0), (*(i + 1 for i in corner), *flat)) for corner in corners]
