"""Click to segment: a region of a picture is read once by the network, then each click costs the click head alone."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.arrays import channels_of
from napari_unet.core.click_mask import ClickMask, clicked, mask_in, seen_mask, tight
from napari_unet.core.corrections import Mask
from napari_unet.core.errors import ImageError, ModelError, check_type
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.intensity import fit_channels, normalize
from napari_unet.core.prompt_maps import Window, obeying, prompt_maps
from napari_unet.core.prompts import Point, Prompts, array_of, box_in, pixels_of, points_in, prompts_in
from napari_unet.engine.device import backend_for
from napari_unet.engine.forward import forward_with_features
from napari_unet.engine.measure import as_seen_by
from napari_unet.engine.network import resize, scaled
from napari_unet.nets.click import SIDE, shown
from napari_unet.nets.model import A_MODEL, Model

REGION, STEP = 320, 96
"""Side of a region that is read at once, and distance between the middles of two, in pixels of the network."""
KEPT = 12
"""Regions that are remembered (6 MB each)."""
RIM = 2
"""A mask that comes so near to the edge of the window probably goes on behind it, in pixels of the network."""
TINY = 9.0
"""Diameter of a mask below which it is looked at from nearer by, in pixels of the network."""
SURELY, DOUBTFUL = 2.0, 0.6
"""Logit of what surely is the object (its opposite: surely not), and the share of it below which a mask is doubted."""
LOST, FOUND = 0.3, 0.85
"""Share below which it may be the inside of an object larger than the window, and the one that shows it from afar."""
NOTHING = np.float32(-20.0)
"""What is said of pixels outside the picture: the head was never told anything of them."""
NEAREST, FARTHEST = -1, 5
"""Times that a picture is halved for the window, at least and at most; only what is doubted is seen from nearer by, and
from farther away only where clicks lie so far apart."""


@dataclass(frozen=True)
class _Region:
    """A part of a picture as the click head is shown it.

    Attributes
    ----------
    seen : (1, F, h, w) tensor
    box : Box
        Where it lies in the picture's plane.
    """

    seen: Tensor
    box: Box

    @property
    def _ratios(self) -> npt.NDArray[np.float64]:
        """Pixels of the network for each of the picture, along (y, x)."""
        ratios: npt.NDArray[np.float64] = np.divide(self.seen.shape[-2:], self.box.shape)
        return ratios

    def _corner(self, window: Window) -> npt.NDArray[np.intp]:
        """The pixel of the region that is nearest to a window's corner."""
        corner: npt.NDArray[np.intp] = np.rint((np.array(window.start) - self.box.start) * self._ratios).astype(int)
        return corner

    def aligned(self, window: Window) -> Window:
        """A window moved by a part of a pixel, so that its pixels are the network's own.

        Between them features would have to be mixed, and mixed ones the click head has never seen.
        """
        y, x = (np.array(self.box.start) + self._corner(window) / self._ratios).tolist()
        return replace(window, start=(y, x))

    def read(self, window: Window) -> Tensor:
        """What the region shows in an aligned window, (1, F, side, side); 0 outside of it."""
        y, x = self._corner(window).tolist()
        height, width = self.seen.shape[-2:]
        pad = [max(0, -x), max(0, x + window.side - width), max(0, -y), max(0, y + window.side - height)]
        y, x = max(0, y), max(0, x)
        inside = self.seen[..., y : y + window.side - pad[2], x : x + window.side - pad[0]]
        return F.pad(inside, pad)[..., : window.side, : window.side]


@dataclass(frozen=True)
class _Look:
    """What the click head says of a window.

    Attributes
    ----------
    level : int
        How often the picture was halved for it.
    region : _Region
    window : Window
        A part of it, aligned.
    logits : (side, side) float32
    better : int
        The level from which the object would be seen better.
    sure : float
        How much of what may be the object surely is.
    """

    level: int
    region: _Region
    window: Window
    logits: npt.NDArray[np.float32]
    better: int
    sure: float


class ClickSegmenter:
    """Masks of single objects from clicks, boxes and scribbles.

    Parameters
    ----------
    model : Model
        Of 2-D objects, with a click head. When its weights change, what was read is read anew.

    Raises
    ------
    ModelError
        If the model has no click head.

    Examples
    --------
    >>> clicks = ClickSegmenter(load_model())
    >>> clicks.set_image(picture)
    >>> mask = clicks.segment([(120, 85)])
    """

    def __init__(self, model: Model) -> None:
        check_type(model, Model, A_MODEL)
        if model.click is None:
            raise ModelError("This model was not trained for clicks. Choose the Generalist, or a model made of it.")
        self.model, self._click = model, model.click
        self._regions: OrderedDict[tuple[int, ...], _Region] = OrderedDict()
        self._source: ImageSource | None = None
        self._lead: tuple[int, ...] = ()
        self._scale = 1.0

    # --- the picture -----------------------------------------------------------

    def set_image(
        self,
        image: npt.NDArray[np.generic],
        *,
        channels: Sequence[int] | None = None,
        diameter: float | None = None,
    ) -> None:
        """The picture that is clicked on. If it is refused there is none, so that no click goes to the one before.

        Parameters
        ----------
        image : (Y, X) or (Y, X, C)
        channels : sequence of int, optional
            Which channels the model reads; by default all of them.
        diameter : float, optional
            Diameter of its objects, in pixels. None: measured. Objects of other sizes are found all the same.

        Raises
        ------
        ImageError
            If the picture cannot be used as it is.
        """
        self._source = None
        source = ImageSource.of_array(image, **channels_of(image, 2))
        source = source if channels is None else source.select(channels)
        if len(source.shape) != 2:
            raise ImageError(f"This picture has {len(source.shape)} axes; clicks are on one plane of (Y, X).")
        source, scale = as_seen_by(self.model, source, diameter)
        self.look_at(source, (), scale)

    def look_at(self, source: ImageSource, lead: tuple[int, ...], scale: float) -> None:
        """The plane that is clicked on: of a picture, at `lead` (time, z), read at `scale`."""
        scale = max(scale, 1 / max(1, *source.shape[-2:]))  # all of it is a pixel of the network at least
        if (source, lead, scale) != (self._source, self._lead, self._scale):
            self._regions.clear()
        self._source, self._lead, self._scale = source, lead, scale

    @property
    def shape(self) -> tuple[int, int]:
        """Of the plane."""
        height, width = self._need_source().shape[-2:]
        return height, width

    # --- the mask --------------------------------------------------------------

    def segment(
        self,
        positive: Sequence[Point],
        negative: Sequence[Point] = (),
        box: Box | Sequence[int] | None = None,
        previous: Mask | None = None,
    ) -> Mask:
        """The mask of the object that some prompts show.

        Parameters
        ----------
        positive, negative : sequence of (y, x)
            Points on the object, and beside it, in pixels; a scribble is many points. Those outside of the picture
            show nothing.
        box : Box, or (y0, x0, y1, x1), optional
            Where the object is; drawn by hand, so the mask may reach over its edge.
        previous : (Y, X) bool, optional
            The mask so far, to be mended.

        Returns
        -------
        (Y, X) bool

        Raises
        ------
        ImageError
            If there is no picture yet, a point is no pair of numbers, the box lies outside of the picture, or the
            mask so far has another shape.
        """
        within = None if box is None else box_in(box, self.shape)
        prompts = Prompts(points_in(positive, self.shape), points_in(negative, self.shape), within)
        found = None if previous is None else mask_in(previous, self.shape)
        return self.answer(prompts, found).over(self.shape)

    def answer(self, prompts: Prompts, previous: ClickMask | None = None) -> ClickMask:
        """The mask that some prompts show, and where it lies.

        The window is as large as the object asks for: where the mask touches its edge, it is looked at once more
        from farther away, and what is very small from nearer by. So is what the head is unsure of, for the ground
        around a speck is easily taken with it; the surest look counts. Where no look is sure at all, a window in the
        middle of a large object may show nothing but its inside: then what is sure from farther away counts.
        """
        if prompts.is_empty and previous is None:
            return ClickMask(Box((0, 0), (1, 1)), np.zeros((1, 1), bool))
        prompts = prompts_in(prompts, self.shape)  # a hand may draw far over the edge
        look = self._look(prompts, previous, self._level(prompts, previous))
        tried = {look.level}
        while look.better not in tried and NEAREST <= look.better <= FARTHEST:
            look = self._look(prompts, previous, look.better)
            tried.add(look.level)
        if look.sure < DOUBTFUL and previous is None and prompts.box is None:
            look = self._doubted(look, prompts)
        found = self._in_picture(look.logits, look.window, prompts)
        return replace(found, foreground=self._foreground(look.region.read(look.window), look.logits > 0))

    def _doubted(self, look: _Look, prompts: Prompts) -> _Look:
        """The surest of a look and two from nearer by, as long as those show it whole; if none is, one from afar."""
        surest = look
        for level in (look.level - 1, look.level - 2):
            if not self._shows(prompts, None, level):
                break
            nearer = self._look(prompts, None, level)
            if nearer.better > level:
                break
            surest = max(surest, nearer, key=lambda each: each.sure)
        if surest.sure >= LOST:
            return surest
        afar = (self._look(prompts, None, level) for level in range(look.level + 1, FARTHEST + 1))
        return next((each for each in afar if each.sure >= FOUND and each.better == each.level), surest)

    def _shows(self, prompts: Prompts, previous: ClickMask | None, level: int) -> bool:
        """Whether the window of a level holds all that was clicked."""
        points = self._window(prompts, previous, level).seen(array_of(prompts.positive))
        return bool(((points > -0.5) & (points < SIDE - 0.5)).all())

    def _look(self, prompts: Prompts, previous: ClickMask | None, level: int) -> _Look:
        """What the click head says of the window of a level."""
        window = self._window(prompts, previous, level)
        region = self._region(window)
        window = region.aligned(window)
        logits = self._logits(region, window, prompts, previous)
        points = window.seen(array_of(prompts.positive))
        mask, surely, perhaps = (clicked(logits > least, points) for least in (0, SURELY, -SURELY))
        sure = surely.sum() / max(1, perhaps.sum())
        better = _better_level(mask, window, self.shape, level)
        if better < level and not self._shows(prompts, previous, better):
            better = level
        return _Look(level, region, window, logits, better, float(sure))

    def _level(self, prompts: Prompts, previous: ClickMask | None) -> int:
        """How often the picture is halved so that the object fits well into the window."""
        low, high = _extent(prompts, previous)
        extent = float((high - low).max()) * self._scale
        # up to half the window an object is at home, and clicks need some of its surroundings
        level = math.ceil(math.log2(extent / (0.6 * SIDE))) if extent else 0
        return max(level, 0)

    def _window(self, prompts: Prompts, previous: ClickMask | None, level: int) -> Window:
        """The window around what is known of the object."""
        low, high = _extent(prompts, previous)
        scale = self._scale / 2**level
        start = (low + high + 1) / 2 - SIDE / scale / 2
        return Window((float(start[0]), float(start[1])), scale, SIDE)

    def _logits(
        self, region: _Region, window: Window, prompts: Prompts, previous: ClickMask | None
    ) -> npt.NDArray[np.float32]:
        """What the click head says in a window, (side, side)."""
        backend = backend_for(self.model.device)
        before = None if previous is None else seen_mask(previous, window)
        maps = torch.from_numpy(prompt_maps(prompts, window, before)).to(backend.device)
        with torch.inference_mode(), backend.autocast():
            seen = region.read(window)
            logits = self._click(torch.cat([seen, maps[None].to(seen.dtype)], dim=1))
        values: npt.NDArray[np.float32] = torch.nan_to_num(logits[0, 0].float()).cpu().numpy()
        return np.where(window.inside(self.shape), obeying(values, prompts, window), NOTHING)

    def _foreground(self, seen: Tensor, mask: Mask) -> float:
        """How sure the network is, on the average over a mask, that there is something."""
        said = seen[0, self.model.net.settings["base_channels"]].float().cpu().numpy()
        return float(said[mask].mean()) if mask.any() else 0.0

    def _region(self, window: Window) -> _Region:
        """The part of the picture around a window, as the click head is shown it; read once."""
        step = STEP / window.scale
        middle = [a + window.side / window.scale / 2 for a in window.start]
        place = tuple(round(m / step) for m in middle)
        level = round(math.log2(self._scale / window.scale))
        key = (self.model.version, level, *place)
        region = self._regions.pop(key, None)
        if region is None:
            side = round(REGION / window.scale)
            region = self._encode(Box.around([p * step for p in place], (side, side)).clip(self.shape), window.scale)
        self._regions[key] = region  # the one used last stands last
        while len(self._regions) > KEPT:
            self._regions.popitem(last=False)
        return region

    def _encode(self, box: Box, scale: float) -> _Region:
        """Read a part of the picture with the network."""
        source, backend = self._need_source(), backend_for(self.model.device)
        lead = self._lead
        raw = source.read(Box((*lead, *box.start), (*(i + 1 for i in lead), *box.stop)))
        x = fit_channels(normalize(raw, source.limits()), self.model.card.in_channels)
        tensor = torch.from_numpy(np.ascontiguousarray(x.reshape(len(x), *box.shape)))[None].to(backend.device)
        shape = scaled(box.shape, scale)
        tensor = resize(tensor, shape) if shape != box.shape else tensor
        pad = [side for n in reversed(shape) for side in (0, -n % 2**self.model.net.depth)]
        tensor = F.pad(tensor, pad, mode="replicate").contiguous(memory_format=torch.channels_last)
        logits, features = forward_with_features(self.model, tensor)
        seen = shown(features, logits, tensor)
        return _Region(seen[..., : shape[0], : shape[1]].to(backend.dtype), box)

    def _in_picture(self, logits: npt.NDArray[np.float32], window: Window, prompts: Prompts) -> ClickMask:
        """What was found in a window, in the picture's own pixels; only the parts that were clicked on."""
        box = window.box(self.shape)
        y, x = (np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True))
        at = [window.seen(np.stack([v, v], 1))[:, axis] for axis, v in enumerate((y, x))]
        fine = ndimage.map_coordinates(logits, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
        mask = fine > 0
        on, beside = (array_of(points) - np.array(box.start) for points in (prompts.positive, prompts.negative))
        for points, said in ((on, True), (beside, False)):
            mask[pixels_of(points, mask.shape)] = said  # they may lie closer together than the network's pixels
        return tight(clicked(mask, on), box)

    def _need_source(self) -> ImageSource:
        if self._source is None:
            raise ImageError("There is no picture to click on yet. Call set_image first.")
        return self._source


def _extent(prompts: Prompts, previous: ClickMask | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lowest and the highest (y, x) of what shows the object."""
    points = [array_of(prompts.positive)]
    for box in (prompts.box, previous.box if previous is not None else None):
        if box is not None:
            points.append(np.array([box.start, np.array(box.stop) - 1], float))
    known = np.concatenate(points)
    return known.min(0), known.max(0)


def _better_level(mask: Mask, window: Window, shape: tuple[int, int], level: int) -> int:
    """From how far away the object should be looked at: farther if the mask goes on, nearer if it is tiny."""
    if not mask.any():
        return level
    low = np.array(window.start) > 0  # the picture goes on there
    high = np.array(window.start) + window.side / window.scale < np.array(shape)
    touches = (
        (low[0] and mask[:RIM].any())
        or (low[1] and mask[:, :RIM].any())
        or (high[0] and mask[-RIM:].any())
        or (high[1] and mask[:, -RIM:].any())
    )
    if touches:
        return level + 1
    return level - 1 if 2 * math.sqrt(mask.sum() / math.pi) < TINY else level
