"""Clicks until an object is right: a simulated annotator who knows the truth, and how many clicks each way needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from napari_unet.core.annotator import point_inside
from napari_unet.core.click_mask import ClickMask
from napari_unet.core.corrections import Edit, Mask
from napari_unet.core.diff import place_object
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.metrics import overlap
from napari_unet.core.picture import Picture, usual_size
from napari_unet.core.prompt_maps import next_click
from napari_unet.core.prompts import Prompts
from napari_unet.core.sides import Sides
from napari_unet.core.sizes import usual_scale
from napari_unet.engine.click import ClickSegmenter
from napari_unet.engine.click_peers import Scene, ways
from napari_unet.engine.measure import measured_by
from napari_unet.engine.pool import Pool
from napari_unet.engine.segment import segment_source
from napari_unet.engine.simulate import Known, Learning, teach
from napari_unet.nets.model import Model

OURS = "U-Net Live"
SMALLEST = 20
"""Of an object that is clicked on, in pixels."""
COUNTS, GOALS = (1, 2, 3, 5, 10), (0.80, 0.85, 0.90)
"""Clicks after which the overlap is told, and overlaps to which clicks are counted."""
MOST = 20
"""Clicks on an object, at most."""
PATIENCE, GOOD, KEPT = 10, 0.85, 0.7
"""Clicks on an object, at most; the overlap that the annotator is content with; and the least one that is kept."""
USER_SECONDS = 6.0
"""What an object takes a person: three clicks of two seconds."""
A_TURN = 5
"""Objects of a picture that are kept before the next picture has its turn."""

Answer = Callable[[Prompts], Mask]


@dataclass
class Clicked:
    """What came of the clicks on some objects.

    Attributes
    ----------
    scores : list of list of float
        Overlap after each click; of each object.
    seconds : list of float
        From each click to its mask.
    """

    scores: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def facts(self, most: int) -> dict[str, float]:
        """Mean overlaps (iou@N), clicks to an overlap (noc@80 ...; `most` for an object that never has it), and times.

        Parameters
        ----------
        most : int
            Clicks on an object.
        """
        if not self.scores:
            return {"objects": 0}
        best = [np.maximum.accumulate(np.array(scores)) for scores in self.scores]
        facts: dict[str, float] = {"objects": len(best)}
        for count in COUNTS:
            facts[f"iou@{count}"] = round(float(np.mean([b[min(count, len(b)) - 1] for b in best])), 4)
        for goal in GOALS:
            needed = [int(np.argmax(b >= goal)) + 1 if b[-1] >= goal else most for b in best]
            facts[f"noc@{round(100 * goal)}"] = round(float(np.mean(needed)), 3)
        milliseconds = 1e3 * np.array(self.seconds)
        facts["ms"] = round(float(np.median(milliseconds)), 1)
        facts["ms_p95"] = round(float(np.percentile(milliseconds, 95)), 1)
        return facts


def click_until(
    answer: Answer, truth: Mask, most: int, goal: float = GOALS[-1]
) -> Iterator[tuple[Prompts, Mask, float, float]]:
    """Click on an object until its mask is right: first in its middle, then in the middle of the largest error.

    Parameters
    ----------
    answer : callable
        The mask that prompts show.
    truth : (Y, X) bool
    most : int
        Clicks, at most.
    goal : float
        Overlap with which it ends.

    Yields
    ------
    Prompts, (Y, X) bool, float, float
        After each click: all clicks so far, the mask, its overlap and the seconds it took.
    """
    y, x = point_inside(truth)
    prompts = Prompts().and_click((y, x), True)
    for _ in range(most):
        start = time.perf_counter()
        mask = answer(prompts)
        seconds = time.perf_counter() - start
        score = overlap(mask, truth)
        yield prompts, mask, score, seconds
        following = next_click(mask, truth)
        if score >= goal or following is None:
            return
        prompts = prompts.and_click(*following)


def objects_of(known: Known, count: int | None, seed: int) -> list[Mask]:
    """Some objects of a picture, drawn by lot; all of them, in the order of the lot, if no count is given."""
    numbers = np.random.default_rng(seed).permutation(np.unique(known.truth[known.truth > 0]))
    masks = (known.truth == number for number in numbers)
    return [mask for mask in masks if np.count_nonzero(mask) >= SMALLEST][:count]


class _Ours:
    """The model's own answers to clicks in a picture; the mask so far goes with each question."""

    def __init__(self, segmenter: ClickSegmenter, shape: tuple[int, ...]) -> None:
        self._segmenter, self._shape = segmenter, (shape[-2], shape[-1])
        self._before: ClickMask | None = None

    def __call__(self, prompts: Prompts) -> Mask:
        self._before = self._segmenter.answer(prompts, self._before)
        return self._before.over(self._shape)


def clicked(
    model: Model,
    pictures: Sequence[Known],
    *,
    objects: int = 6,
    most: int = MOST,
    seed: int = 0,
    expected: float | None = None,
    peers: bool = False,
) -> Iterator[dict[str, Clicked]]:
    """Click on objects of pictures; nothing is learnt.

    Parameters
    ----------
    model : Model
        With a click head.
    pictures : sequence of Known
    objects : int
        Of each picture, drawn by lot.
    most : int
        Clicks on an object.
    seed : int
    expected : float, optional
        Diameter of the objects that were kept in other pictures, in pixels.
    peers : bool
        The same objects by the ways of `click_peers`, too.

    Yields
    ------
    dict of str to Clicked
        By way, of one picture after the other.
    """
    segmenter = ClickSegmenter(model)
    for known in pictures:
        sight = measured_by(model, known.source, expected=expected)
        source, scale = sight.of(known.source), usual_scale(sight.diameter, model.card.diameter)
        segmenter.look_at(source, (), scale)
        found: dict[str, Clicked] = {OURS: Clicked()}
        others = ways() if peers else {}
        scene = _scene(model, known, source, scale) if peers else None
        for truth in objects_of(known, objects, seed):
            answers: dict[str, Answer] = {OURS: _Ours(segmenter, truth.shape)}
            if scene is not None:
                answers |= {name: partial(way, scene) for name, way in others.items()}
            for name, answer in answers.items():
                _note(found.setdefault(name, Clicked()), answer, truth, most)
        yield found


def _note(clicked: Clicked, answer: Answer, truth: Mask, most: int) -> None:
    """Click on one object, and note what came of it."""
    steps = list(click_until(answer, truth, most))
    clicked.scores.append([score for *_, score, _ in steps])
    clicked.seconds += [seconds for *_, seconds in steps]


def _scene(model: Model, known: Known, source: ImageSource, scale: float) -> Scene:
    """What the other ways see of a picture."""
    raw = known.source.read(Box.whole(known.source.shape)).reshape(-1, *known.truth.shape).mean(0, dtype=np.float64)
    finite = raw[np.isfinite(raw)]
    raw = np.where(np.isfinite(raw), raw, np.median(finite) if finite.size else 0.0)
    low, high = np.percentile(raw, (0.1, 99.9))
    grey = ((raw - low) / max(float(high - low), 1e-12)).clip(0, 1)
    return Scene(grey, segment_source(model, source, scale=scale), model.card.diameter / scale)


def together(parts: Sequence[dict[str, Clicked]]) -> dict[str, Clicked]:
    """What came of the clicks in all pictures."""
    whole: dict[str, Clicked] = {}
    for part in parts:
        for name, clicked in part.items():
            known = whole.setdefault(name, Clicked())
            known.scores += clicked.scores
            known.seconds += clicked.seconds
    return whole


@dataclass(frozen=True)
class ClickPoint:
    """What clicks are worth after some objects were kept.

    Attributes
    ----------
    kept : int
        Objects so far.
    facts : dict of str to float
        Of `Clicked.facts`, on held-out pictures.
    """

    kept: int
    facts: dict[str, float]


def simulate_clicks(  # noqa: PLR0913 - each is one choice of an experiment
    model: Model,
    pictures: Sequence[Known],
    held_out: Sequence[Known],
    *,
    rounds: int,
    kept: int,
    steps: int | None = None,
    seconds: float | None = None,
    objects: int = 6,
    most: int = MOST,
    seed: int = 0,
) -> Iterator[ClickPoint]:
    """Click on objects, keep them, learn from them; and see how many clicks others need then.

    Parameters
    ----------
    model : Model
        Changed in place.
    pictures, held_out : sequence of Known
        To keep objects in, and to count clicks in.
    rounds, kept : int
        Rounds of learning, and objects kept before each.
    steps, seconds : int, float
        How long it learns in each round; one of them; by default about as long as a person takes for the clicks.
    objects, most, seed : int
        As for `clicked`.

    Yields
    ------
    ClickPoint
        The first one before anything was kept.
    """
    desk, total = _ClickDesk(model, pictures, seed), 0
    if steps is None and seconds is None:
        seconds = USER_SECONDS * kept

    def facts() -> dict[str, float]:
        parts = list(clicked(model, held_out, objects=objects, most=most, seed=seed, expected=desk.usual))
        return together(parts)[OURS].facts(most)

    learning = Learning(model, desk.pool, steps, seed)
    yield ClickPoint(0, facts())
    for _ in range(rounds):
        total += desk.keep(kept)
        if desk.pool.can_teach:
            learning.go_on(seconds)
        yield ClickPoint(total, facts())


class _ClickDesk:
    """Pictures in which the annotator clicks on one object after the other, and keeps each."""

    def __init__(self, model: Model, known: Sequence[Known], seed: int) -> None:
        self.model, self.pool, self.sides = model, Pool(), Sides()
        self._segmenter = ClickSegmenter(model)
        self._pictures: dict[str, Picture] = {}
        order = [known[i] for i in np.random.default_rng(seed).permutation(len(known))]
        queues = [objects_of(each, None, seed) for each in order]
        # a few objects of each picture before the next: as a user does who goes through an experiment
        turns = range(0, max(map(len, queues), default=0), A_TURN)
        self._waiting = ((k, m) for a in turns for k, q in zip(order, queues, strict=True) for m in q[a : a + A_TURN])

    def keep(self, count: int) -> int:
        """Click on so many objects and keep them; how many there were."""
        made = 0
        for known, truth in self._waiting:
            made += self._keep(known, truth)
            if made == count:
                break
        return made

    def _keep(self, known: Known, truth: Mask) -> bool:
        """Click on an object until it is good, and teach what it is; dropped if it never is."""
        picture = self._picture(known)
        self._segmenter.look_at(picture.reading, (), picture.scale)
        *_, (prompts, mask, score, _) = click_until(_Ours(self._segmenter, truth.shape), truth, PATIENCE, GOOD)
        box = Box.of_mask(mask)
        if box is None or score < KEPT:
            return False
        number = int(picture.truth.max(initial=0)) + 1
        placed = place_object(picture.truth, box, mask[box.slices], number, taught=picture.taught)
        if placed is None:
            return False
        change, number = placed
        edit = Edit(picture.key, change.box, change.labels, change.labels == number, "click", prompts=prompts)
        teach(self.model, self.pool, self.sides, picture, edit)
        return True

    @property
    def usual(self) -> float | None:
        """The usual size of the objects that were kept, as other pictures of the project are read by it."""
        return usual_size(self._pictures.values())

    def _picture(self, known: Known) -> Picture:
        """A picture as the session knows it, read at the size of its objects."""
        picture = self._pictures.get(known.name)
        if picture is None:
            shape = known.truth.shape
            picture = Picture(
                known.name, known.name, known.source, np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
            )
            sight = measured_by(self.model, known.source, expected=self.usual)
            picture.note_sight(sight.diameter, sight.is_inverted)
            picture.rescale(None, self.model.card.diameter)
            self._pictures[known.name] = picture
        return picture
