"""How the click head learns: from objects whose outlines are known, by clicking at its own mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.annotator import point_inside
from napari_unet.core.corrections import Correction
from napari_unet.core.geometry import Box
from napari_unet.core.metrics import overlap
from napari_unet.core.prompt_maps import Window, next_click, obeying, prompt_maps
from napari_unet.core.prompts import Prompts
from napari_unet.engine.adamw import AdamW
from napari_unet.engine.augment import Augmentation, change_greys, recolor, warp_grids
from napari_unet.engine.clicked_crop import ClickedCrop, clicked_crop
from napari_unet.engine.device import backend_for
from napari_unet.engine.ranks import ALONE, Ranks
from napari_unet.engine.student import LARGEST_GRADIENT, follow
from napari_unet.nets.click import SIDE, encode, new_head
from napari_unet.nets.losses import weighted_mean
from napari_unet.nets.model import Model
from napari_unet.nets.unet import UNet

CROP = 192
CROPS, OBJECTS = 4, 4
"""Crops a step, and objects of each."""
SMALLEST = 30
"""Of what is left of an object in a crop, in pixels."""
LEARNING_RATE, WEIGHT_DECAY, AVERAGING, WARMUP = 1e-3, 1e-4, 0.995, 50
PATIENCE = 8
"""Pictures that are looked at for one that has objects."""
LONGEST = 8
"""Clicks of one object, at most."""
OWN = 0.5
"""How often an object that the user clicked on is clicked on where the user did, and not by chance."""
AUGMENTATION = Augmentation(scale=2.0, elastic=4.0, grey=1.0, recolor=0.6, varied=True)

OWN_PIXELS = Window((0.0, 0.0), 1.0, SIDE)


@dataclass
class _Try:
    """One object that is being clicked on, in its window.

    Attributes
    ----------
    seen : (F, side, side) tensor
    truth, known : (side, side) bool
        The object, and where that is known.
    prompts : Prompts
        In pixels of the window.
    previous : (side, side) bool or None
    """

    seen: Tensor
    truth: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    prompts: Prompts
    previous: npt.NDArray[np.bool_] | None = None

    def shown(self) -> Tensor:
        """What the click head sees, (F + 4, side, side)."""
        maps = prompt_maps(self.prompts, OWN_PIXELS, self.previous)
        return torch.cat([self.seen, torch.from_numpy(maps).to(self.seen)])


class ClickStudent:
    """A click head that learns, and the running average of its weights.

    Parameters
    ----------
    model : Model
        Of objects; its network stays as it is. Its click head is copied, or a new one made.
    seed : int
    crops : int
        In each piece of work.
    train_norm : bool
        Let BatchNorm learn its statistics: only for large mixed sets.
    ranks : Ranks
        The processes that train the same head.
    """

    def __init__(
        self, model: Model, seed: int, *, crops: int = CROPS, train_norm: bool = True, ranks: Ranks = ALONE
    ) -> None:
        self.model, self.net, self.backend = model, model.net, backend_for(model.device)
        self.crops, self.train_norm = crops, train_norm
        known = model.copy().click
        self.head = (known or new_head(model.net, seed)).to(model.device)
        self.average = {name: value.detach().clone() for name, value in self.head.state_dict().items()}
        self.optimizer = AdamW(self.head.parameters(), WEIGHT_DECAY)
        self.ranks, self.seed = ranks, seed
        self.random = torch.Generator().manual_seed(ranks.own_seed(seed))
        self.numpy = np.random.default_rng(ranks.own_seed(seed))
        self.step = 0
        self._known: dict[int, tuple[Correction, ClickedCrop]] = {}
        self._losses: list[float] = []

    @property
    def learns(self) -> UNet:
        """The network that a checkpoint keeps."""
        return self.head

    def look_through(self, weights: Mapping[str, Tensor]) -> None:
        """See pictures through other weights of the network from now on."""
        if self.net is self.model.net:
            self.net = self.model.copy().net
        self.net.load_state_dict(dict(weights))

    def study(self, corrections: Sequence[Correction]) -> None:
        """One piece of work: gradients of the objects of some crops, clicked on as often as chance has it."""
        # a checkpoint keeps one source of chance
        self.numpy = np.random.default_rng(int(torch.randint(2**31, (), generator=self.random)))
        tries = self._tries(corrections)
        if not tries:
            return
        for _ in range(self._clicks() - 1):
            _click_again(tries, self._masks(self.head, tries))
        self.head.train()
        if not self.train_norm:
            self.head.freeze_norm()
        shown = torch.stack([t.shown() for t in tries])
        with self.backend.autocast():
            logits = self.head(shown)
        truth, known = (
            torch.from_numpy(np.stack(arrays)[:, None]).to(self.backend.device).float()
            for arrays in ([t.truth for t in tries], [t.known for t in tries])
        )
        loss = mask_loss(logits.float(), truth, known)
        loss.backward()
        self._losses.append(float(loss.detach()))

    def advance(self, learning_rate: float) -> float:
        """One step of the optimiser with the gradients so far; the loss, NaN if it was skipped."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.head.parameters()]
        told = torch.tensor([sum(self._losses), len(self._losses)], dtype=torch.float64)
        self.ranks.average([*gradients, told, *(self._statistics() if self.train_norm else ())])
        for weight, gradient in zip(self.head.parameters(), gradients, strict=True):
            weight.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.head.parameters(), LARGEST_GRADIENT)
        self._losses.clear()
        self.step += 1
        value = float(told[0] / told[1])
        healthy = math.isfinite(value) and math.isfinite(float(norm))
        if healthy:
            self.optimizer.step(learning_rate * min(1.0, self.step / WARMUP))
            follow(self.average, self.head, AVERAGING, self.step)
        self.optimizer.forget_gradients()
        return value if healthy else math.nan

    def _statistics(self) -> list[Tensor]:
        """What BatchNorm has seen: in several processes, each has seen other crops."""
        return [value for value in self.head.buffers() if value.is_floating_point()]

    # --- objects to click on -----------------------------------------------------

    def _tries(self, corrections: Sequence[Correction]) -> list[_Try]:
        """Objects of some crops, each with its first prompt."""
        crops, images = self._crops(corrections)
        if not crops:
            return []
        with torch.inference_mode(), self.backend.autocast():
            seen = encode(self.net, images.to(self.backend.device)).float()
        # windows reach over the edges of the crops
        seen = F.pad(seen, [SIDE // 2] * 4).clone()
        return [each for crop, view in zip(crops, seen, strict=True) for each in self._objects(crop, view)]

    def _crops(self, corrections: Sequence[Correction]) -> tuple[list[ClickedCrop], Tensor]:
        """Crops around objects, and how their pictures look, augmented; none if no objects are found."""
        wholes = [whole for _ in range(self.crops) if (whole := self._with_objects(corrections)) is not None]
        if not wholes:
            return [], torch.empty(0)
        strengths = AUGMENTATION.drawn(len(wholes), self.random)
        jitter = (torch.rand(len(wholes), 2, generator=self.random) - 0.5) * CROP / 2
        middles = torch.tensor([whole.example.place(self.random, on_object=True) for whole in wholes])
        grids = warp_grids(middles + jitter, CROP, strengths, self.random)
        crops = [whole.through(grid) for whole, grid in zip(wholes, grids, strict=True)]
        images = torch.stack([crop.example.image for crop in crops])
        images = recolor(change_greys(images, strengths, self.random), strengths, self.random)
        return crops, images.contiguous(memory_format=torch.channels_last)

    def _with_objects(self, corrections: Sequence[Correction]) -> ClickedCrop | None:
        """A correction in which there is something to click on. None if none is found."""
        for _ in range(PATIENCE):
            whole = self._whole(corrections[int(torch.randint(len(corrections), (), generator=self.random))])
            if len(whole.example.places[True]):
                return whole
        return None

    def _whole(self, correction: Correction) -> ClickedCrop:
        """Picture and objects of a correction; built once."""
        known = self._known.get(id(correction))
        if known is None:  # the correction is kept, so that its id is not given to another one
            known = self._known[id(correction)] = (correction, clicked_crop(correction, self.model.card))
        return known[1]

    def keep_only(self, corrections: Sequence[Correction]) -> None:
        """Forget what was withdrawn, or replaced by a newer one."""
        wanted = {id(correction) for correction in corrections}
        self._known = {key: known for key, known in self._known.items() if key in wanted}

    def _objects(self, crop: ClickedCrop, view: Tensor) -> list[_Try]:
        """Some objects of a crop in their windows."""
        labels, known = crop.labels, crop.known
        counts = np.bincount(np.where(known, labels, 0).ravel())
        found = np.flatnonzero(counts >= SMALLEST)
        found = self.numpy.permutation(found[found > 0])[:OBJECTS]
        own = {int(n): crop.clicks_on(int(n)) for n in found if crop.prompts and self.numpy.random() < OWN}
        labels, known = np.pad(labels, SIDE // 2), np.pad(known, SIDE // 2)
        return [self._begin(int(n), labels, known, view, own.get(int(n))) for n in found]

    def _begin(
        self,
        number: int,
        labels: npt.NDArray[np.int32],
        known: npt.NDArray[np.bool_],
        view: Tensor,
        own: Prompts | None,
    ) -> _Try:
        """The first prompt of an object, and the window around it; `own` is how the user clicked on it."""
        inside = np.argwhere((labels == number) & known)
        point = inside[self.numpy.integers(len(inside))]
        if own is not None:
            own = own.shift((SIDE // 2, SIDE // 2))
            point = np.rint(own.positive[0]).astype(int)
        drift = self.numpy.integers(-SIDE // 8, SIDE // 8 + 1, 2)
        start = np.clip(point - SIDE // 2 + drift, 0, np.array(labels.shape) - SIDE)
        cut = tuple(slice(a, a + SIDE) for a in start)
        part, trusted = labels[cut], known[cut]
        truth = part == number
        at = point - start
        if own is not None:  # the first click, or all of them
            own = own.shift(-start)
            own = own if self.numpy.random() < 0.5 else Prompts(own.positive[:1])
            return _Try(view[(slice(None), *cut)], truth, trusted, own)
        click = ((float(at[0]), float(at[1])),)
        kind = self.numpy.random()
        prompts, previous = Prompts(click), None
        if kind < 0.15:
            prompts = Prompts(click if kind < 0.05 else (), box=self._loose_box(truth))
        elif kind < 0.25:
            prompts = Prompts(self._scribble(truth, at))
        elif kind < 0.4:
            previous = self._wrong_mask(truth, part)
            found = next_click(previous, truth, trusted)
            if found is not None:
                prompts = Prompts().and_click(*found)
        return _Try(view[(slice(None), *cut)], truth, trusted, prompts, previous)

    def _loose_box(self, truth: npt.NDArray[np.bool_]) -> Box:
        """The box of an object as a hand draws it."""
        tight = Box.of_mask(truth) or Box.whole(truth.shape)
        slack = self.numpy.integers(-1, 4, 4)
        low = tuple(int(a - s) for a, s in zip(tight.start, slack[:2], strict=True))
        return Box(low, tuple(int(b + s) for b, s in zip(tight.stop, slack[2:], strict=True)))

    def _scribble(self, truth: npt.NDArray[np.bool_], at: npt.NDArray[np.intp]) -> tuple[tuple[float, float], ...]:
        """A straight line within an object, from a point of it to another one."""
        inside = np.argwhere(truth)
        end = inside[self.numpy.integers(len(inside))]
        line = np.rint(np.linspace(at, end, 12)).astype(int)
        return tuple((float(y), float(x)) for y, x in line if truth[y, x])

    def _wrong_mask(self, truth: npt.NDArray[np.bool_], part: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """A mask that is wrong as predictions are: merged with its neighbours, or cut in two."""
        if self.numpy.random() < 0.5:
            near = np.unique(part[(part > 0) & ~truth])
            chosen = near[self.numpy.random(len(near)) < 0.5]
            return truth | np.isin(part, chosen)
        inside = np.argwhere(truth)
        angle = self.numpy.uniform(0, 2 * math.pi)
        side = (inside - inside.mean(0)) @ np.array([math.sin(angle), math.cos(angle)]) > 0
        half = truth.copy()
        half[tuple(inside[side].T)] = False
        return half

    # --- clicking ----------------------------------------------------------------

    def _clicks(self) -> int:
        """How many clicks the objects of this step get: mostly one or two."""
        return int(min(self.numpy.geometric(0.45), LONGEST))

    def _masks(self, head: UNet, tries: Sequence[_Try]) -> npt.NDArray[np.bool_]:
        """The masks that a head gives, (N, side, side)."""
        head.eval()
        with torch.no_grad(), self.backend.autocast():
            logits = head(torch.stack([t.shown() for t in tries]))
        said = logits[:, 0].float().cpu().numpy()
        return np.stack([obeying(each, t.prompts, OWN_PIXELS) > 0 for each, t in zip(said, tries, strict=True)])

    # --- how good heads are --------------------------------------------------------

    def scores(self, heads: Sequence[UNet], correction: Correction) -> list[list[float]]:
        """How right heads are on some objects of a correction: overlap (0 to 1) after one click and after two.

        Returns
        -------
        list of list of float
            Of each head: the same objects in the same order; empty if the correction has no object.
        """
        whole = self._whole(correction)
        labels = np.where(whole.known, whole.labels, 0)
        counts = np.bincount(labels.ravel())
        numbers = [int(n) for n in np.flatnonzero(counts >= SMALLEST) if n][:OBJECTS]
        if not numbers:
            return [[] for _ in heads]
        image = whole.example.image[None]
        height, width = image.shape[-2:]
        factor = 2**self.net.depth
        image = F.pad(image, [0, -width % factor, 0, -height % factor], mode="replicate")
        with torch.inference_mode(), self.backend.autocast():
            seen = encode(self.net, image.contiguous(memory_format=torch.channels_last).to(self.backend.device))
        view = F.pad(seen[0, :, :height, :width].float(), [SIDE // 2] * 4)
        return [self._overlaps(head, whole, numbers, labels, view) for head in heads]

    def _overlaps(
        self, head: UNet, whole: ClickedCrop, numbers: Sequence[int], labels: npt.NDArray[np.int32], view: Tensor
    ) -> list[float]:
        """The overlaps of one head: a click where the user's was, else in the middle; then one in the largest error."""
        tries = []
        wide, trusted = np.pad(labels, SIDE // 2), np.pad(whole.known, SIDE // 2)
        for number in numbers:
            own = whole.clicks_on(number)
            y, x = point_inside(labels == number) if own is None else (round(c) for c in own.positive[0])
            cut = (slice(y, y + SIDE), slice(x, x + SIDE))
            middle = Prompts(((float(SIDE // 2), float(SIDE // 2)),))
            tries.append(_Try(view[(slice(None), *cut)], wide[cut] == number, trusted[cut], middle))
        overlaps = []
        for _ in range(2):
            masks = self._masks(head, tries)
            overlaps += [overlap(mask & t.known, t.truth & t.known) for mask, t in zip(masks, tries, strict=True)]
            _click_again(tries, masks)
        return overlaps


def _click_again(tries: Sequence[_Try], masks: npt.NDArray[np.bool_]) -> None:
    """Click into the largest error of each mask."""
    for each, said in zip(tries, masks, strict=True):
        found = next_click(said, each.truth, each.known)
        each.previous = said
        if found is not None:
            each.prompts = each.prompts.and_click(*found)


def mask_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy, and Dice of each object, where the truth is known; all (B, 1, Y, X)."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = torch.sigmoid(logits) * known
    both = (probability * truth).sum((1, 2, 3))
    either = (probability + truth * known).sum((1, 2, 3))
    return weighted_mean(entropy, known) + (1 - (2 * both + 1) / (either + 1)).mean()


def train_clicks(student: ClickStudent, corrections: Sequence[Correction], *, steps: int) -> Iterator[float]:
    """Teach a click head; the rate falls to zero along a cosine. Yields the loss of each step."""
    while student.step < steps:
        rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * student.step / steps))
        student.study(corrections)
        yield student.advance(rate)
