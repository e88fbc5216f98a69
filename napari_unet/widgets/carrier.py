"""Carrier: takes the object that was kept last through a stack or through time, slice by slice, until it ends."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.geometry import Box
from napari_unet.core.metrics import overlap
from napari_unet.core.prompt_maps import prompts_of
from napari_unet.widgets import tools
from napari_unet.widgets.clicked import Kept, flat
from napari_unet.widgets.clicker import Clicker, clicker_of
from napari_unet.widgets.desk import Desk, desk_of
from napari_unet.widgets.viewer_session import follow, listen, real

if TYPE_CHECKING:
    from napari_unet.core.events import ObjectMask
    from napari_unet.widgets.mask_layer import MaskLayer

OVERLAP = 0.3  # of an object with itself in the next slice, at least (intersection over union)
FOREGROUND = 0.25  # how sure the network must be at least that there still is something
_FLAT = "Switch to the 2-D view to carry an object on."
_NO_STACK = "This picture has no slices or frames to carry an object on to."
_NOTHING = "Keep an object first; then it is carried on from slice to slice."

_carriers: weakref.WeakKeyDictionary[Any, Carrier] = weakref.WeakKeyDictionary()


def carrier_of(viewer: Any) -> Carrier:
    """What carries objects on in a viewer; made at the first call."""
    viewer = real(viewer)
    if viewer not in _carriers:
        _carriers[viewer] = Carrier(desk_of(viewer), clicker_of(viewer))
    return _carriers[viewer]


class Carrier:
    """Carries an object on, with its number; each slice is one undo step.

    Attributes
    ----------
    is_on : bool
        Whether it is on its way.
    """

    def __init__(self, desk: Desk, clicker: Clicker) -> None:
        self.desk, self.clicker = desk, clicker
        self.is_on = False
        self._masks: MaskLayer | None = None
        self._at: Kept | None = None
        self._asked = self._slices = self._axis = 0
        listen(desk.session.object_found, desk, self._on_found)
        follow(desk.session.restored, desk, self._on_restored)

    def go(self) -> None:
        """Set off with the object that was kept last; or stop, if it is on its way."""
        if self.is_on:
            self.stop("Stopped")
            return
        masks = self.desk.masks
        reason = self.clicker.why_not()
        if masks is None or reason:
            self.desk.acted.emit(reason or _NOTHING)
            return
        if self.clicker.is_waiting:
            self.clicker.after_answer(self.go)
            return
        self.clicker.keep()
        kept = self.clicker.last
        if masks.layer.ndim < 3:
            self.desk.acted.emit(_NO_STACK)
        elif self.desk.viewer.dims.ndisplay != 2:
            self.desk.acted.emit(_FLAT)
        elif kept is None or not _is_there(masks, kept):
            self.desk.acted.emit(_NOTHING)
        else:
            self._masks, self._at, self._slices, self.is_on = masks, kept, 0, True
            self._axis = self._way(masks)
            self._show(masks, kept.lead)
            self._next()

    def stop(self, sentence: str) -> None:
        """Stop where it is."""
        if self.is_on:
            self.is_on, self._asked = False, 0
            count = f"{self._slices} slice" + ("" if self._slices == 1 else "s")
            self.desk.acted.emit(f"{sentence} after {count}")

    def _on_restored(self) -> None:
        """Another project was opened: the object is of the one before."""
        self.stop("Stopped")

    def _next(self) -> None:
        """Ask for the object in the next slice."""
        masks, at = self._masks, self._at
        if masks is None or at is None:
            return
        lead = self._following(at)
        if lead[self._axis] >= masks.layer.data.shape[self._axis]:
            self.stop("The last slice is done,")
            return
        self._asked = self.desk.session.click(masks.picture.key, lead, prompts_of(at.mask, at.box))
        self.desk.acted.emit(f"Object {at.number} is carried on: slice {lead[self._axis]}. The same key stops.")

    def _following(self, at: Kept) -> tuple[int, ...]:
        """The next slice or frame."""
        return tuple(place + (axis == self._axis) for axis, place in enumerate(at.lead))

    def _way(self, masks: MaskLayer) -> int:
        """The axis to go along: that of the slider in hand, as for napari's arrow keys, if it has slices."""
        dims, shape = self.desk.viewer.dims, masks.layer.data.shape[:-2]
        moved = int(dims.last_used) - (dims.ndim - masks.layer.ndim)
        several = [axis for axis, size in enumerate(shape) if size > 1] or [len(shape) - 1]
        return moved if moved in several else several[-1]

    def _on_found(self, answer: ObjectMask) -> None:
        """The object in the next slice has come."""
        masks, at = self._masks, self._at
        if not self.is_on or masks is None or at is None:
            return
        is_other = self.desk.masks is not masks or answer.picture != masks.picture.key
        if is_other or not masks.has_objects or masks.is_pressed or self.clicker.is_at_work:
            self.stop("Stopped")  # also when a click took the place of the question: then no answer comes
            return
        if answer.request != self._asked:
            return
        if self.desk.view().start[:-2] != at.lead:
            self.stop("Another slice is in view: stopped")
            return
        found = flat(answer)
        if answer.foreground < FOREGROUND or _overlap((at.box, at.mask), found) < OVERLAP:
            self.stop(f"Object {at.number} ends here,")
            return
        lead = self._following(at)
        number = tools.place(masks, lead, found, may_replace=self.clicker.may_replace, number=at.number)
        if not number:
            self.stop("What comes next is yours already: stopped")
            return
        self._at = self.clicker.last = Kept(lead, *found, number)
        self._slices += 1
        self._show(masks, lead)
        self._next()

    def _show(self, masks: MaskLayer, lead: tuple[int, ...]) -> None:
        """Turn to a slice."""
        viewer, layer = self.desk.viewer, masks.layer
        here = layer.data_to_world((*lead, 0, 0))
        missing = viewer.dims.ndim - len(here)
        for axis in range(len(lead)):
            viewer.dims.set_point(axis + missing, float(here[axis]))


def _is_there(masks: MaskLayer, kept: Kept) -> bool:
    """Whether an object that was kept still is in the layer: it may have been undone, or be of another picture."""
    if len(kept.lead) + 2 != masks.layer.ndim or not masks.holds((*kept.lead, *(b - 1 for b in kept.box.stop))):
        return False
    under = masks.layer.data[(*kept.lead, *kept.box.slices)][kept.mask]
    return bool(np.count_nonzero(under == kept.number) * 2 > len(under))


def _overlap(a: tools.Found, b: tools.Found) -> float:
    """How much two masks of a plane overlap."""
    box = Box.union((a[0], b[0]))
    both = np.zeros((2, *box.shape), bool)
    for plane, (where, mask) in zip(both, (a, b), strict=True):
        plane[where.within(box).slices] = mask
    return overlap(both[0], both[1])
