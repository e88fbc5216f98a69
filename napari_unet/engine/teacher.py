"""Teacher: a model as it was, which holds on to what the user says nothing of."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from napari_unet.core.corrections import Correction, Labels
from napari_unet.core.instances import build_objects, settings_for
from napari_unet.core.metrics import evaluate
from napari_unet.engine.looks import MIRROR_IMAGE, SIDE
from napari_unet.engine.network import Axes, run_network
from napari_unet.engine.sampling import as_seen
from napari_unet.nets.model import Model

ASKED = 12
"""Corrections on which it is asked twice, at most: the newest ones, and the first model the first ones."""
LEAST = 1 / 16
"""How much it counts at least: without it the foreground floods what nobody spoke of."""
KNOWN = 0.7
"""Trust in a model that had learnt nothing yet from which on it knew what it sees. What it gets wrong there are the
worst places, and what these say holds for no others (docs/experiments.md)."""


class Teacher:
    """A model as it was when a training began, or some corrections ago.

    Parameters
    ----------
    model : Model

    Attributes
    ----------
    net : UNet
    first : Model
        The model as it was before its first training.
    knew_it : bool
        Whether that one knew what it sees: what its trust says of the first `ASKED` corrections.
    start : UNet
        What the model stays near if so: the first one, unless it has strayed from that since.
    trust : float
        How much it counts, up to 1: the square of how far the objects that it finds are those of the mirror image. Who
        knows what it sees agrees with itself, also on the worst places; who does not would hold on to what is wrong
        (docs/experiments.md).
    """

    def __init__(self, model: Model) -> None:
        begun = model.copy()
        self.first = model.origin or begun
        self.start = begun.net if model.strayed else self.first.net
        self.net, self.trust, self.knew_it = begun.net, 1.0, False
        self._lesson: Sequence[Correction] = ()  # what there was when it became what it is

    @property
    def meets_news(self) -> bool:
        """Whether the first model does not know what it sees, as no fewer than `ASKED` corrections say."""
        return len(self._lesson) >= ASKED and not self.knew_it

    def heed(self, model: Model, corrections: Sequence[Correction], enough: int) -> Iterator[None]:
        """Become the model in use if `enough` corrections are new; one `next()` asks it once."""
        before = self._lesson
        if before and len({id(c) for c in corrections} - {id(c) for c in before}) < enough:
            return
        if before:
            self.net = model.copy().net
        self._lesson = corrections
        if model.card.kind != "objects":
            return
        self.trust = yield from _trust(model, corrections[-ASKED:])
        if len(before) < ASKED:  # few corrections tell little: the first one is asked again about more
            is_told = self.net is self.first.net and len(corrections) <= ASKED
            knew = self.trust if is_told else (yield from _trust(self.first, corrections[:ASKED]))
            self.knew_it = knew >= KNOWN


def _trust(model: Model, corrections: Sequence[Correction]) -> Generator[None, None, float]:
    """How well a model knows what it sees in corrections; one `next()` asks it once."""
    agreed, found = [0.0], [0]
    for correction in corrections:
        objects = _objects(model, correction, ())
        yield
        agreed.append(evaluate(_objects(model, correction, MIRROR_IMAGE), objects)["ap50"])
        found.append(int(objects.max(initial=0)))
        yield
    steady = np.average(agreed, weights=found) if any(found) else 0.0
    return max(LEAST, float(steady) ** 2)


def _objects(model: Model, correction: Correction, mirror: Axes) -> Labels:
    """What a model finds in the middle of the picture of a correction, seen in a mirror."""
    image = as_seen(correction, model.card)[0].numpy()
    start = [max(0, (size - SIDE) // 2) for size in image.shape[1:]]
    image = image[:, start[0] : start[0] + SIDE, start[1] : start[1] + SIDE]
    outputs = run_network(model, image, 1.0, at_network_size=True, mirrors=(mirror,)).astype(np.float32)
    return build_objects(outputs[0], outputs[1], settings_for(model.card))
