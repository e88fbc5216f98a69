"""What is known of an object that is clicked: in work, kept, or still awaited when the tool is put away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts, box_between
from napari_unet.widgets.history import overlap
from napari_unet.widgets.tools import Found

if TYPE_CHECKING:
    from napari_unet.core.corrections import Mask
    from napari_unet.core.events import ObjectMask
    from napari_unet.core.prompts import Point
    from napari_unet.widgets.mask_layer import MaskLayer


@dataclass
class Stage:
    """What was said of the object so far, and the mask that came of it.

    Attributes
    ----------
    prompts : Prompts
    found : (Box, mask) or None
        None while the answer is awaited.
    """

    prompts: Prompts
    found: Found | None = None


@dataclass(frozen=True)
class Kept:
    """The object that was kept last.

    Attributes
    ----------
    lead : tuple of int
        Its plane: (time, z), as far as there are any.
    box, mask : Box, (*box) bool
        In the plane.
    number : int
    """

    lead: tuple[int, ...]
    box: Box
    mask: Mask
    number: int


@dataclass(frozen=True)
class Late:
    """The object that was in work when the tool was put away; its mask is still awaited."""

    request: int
    masks: MaskLayer
    kind: str
    lead: tuple[int, ...]
    prompts: Prompts

    def is_meant_by(self, answer: ObjectMask) -> bool:
        """Whether an answer is of what was clicked: data may be exchanged meanwhile, and labels be of another kind."""
        return self.masks.picture.key == answer.picture and self.masks.kind == self.kind


def flat(answer: ObjectMask) -> Found:
    """An answer in its plane."""
    box = Box(answer.box.start[-2:], answer.box.stop[-2:])
    return box, answer.mask.reshape(box.shape)


def holds(found: Found, point: Sequence[int]) -> bool:
    """Whether a pixel of the plane lies in a mask."""
    box, mask = found
    inside = [c - a for c, a in zip(point, box.start, strict=True)]
    return all(0 <= c < n for c, n in zip(inside, mask.shape, strict=True)) and bool(mask[tuple(inside)])


def within(masks: MaskLayer, gesture: str, points: list[Point], lead: tuple[int, ...]) -> list[Point]:
    """What of a gesture lies in the picture: of a box all or nothing, of a click where it ended."""
    if gesture == "box":
        is_seen = overlap(box_between(points), Box.whole(masks.baseline.shape[-2:])) and masks.holds((*lead, 0, 0))
        return points if is_seen else []
    shown = points if gesture == "scribble" else points[-1:]
    return [p for p in shown if masks.holds((*lead, *(round(c) for c in p)))]
