"""Clicker: the object in work. Clicks, a box or a scribble show it, its mask follows, and it is kept or dropped."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_unet.core import diff
from napari_unet.core.prompts import Prompts, box_between, thinned
from napari_unet.widgets import tools
from napari_unet.widgets.click_view import ClickView
from napari_unet.widgets.clicked import Kept, Late, Stage, flat, holds, within
from napari_unet.widgets.desk import Desk, desk_of
from napari_unet.widgets.layers import box_in_view
from napari_unet.widgets.tools import Found
from napari_unet.widgets.viewer_session import before_closing, listen, once, real

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.core.events import ObjectMask
    from napari_unet.core.prompts import Point
    from napari_unet.widgets.mask_layer import MaskLayer

HOVER_MS = 60
LAST_WAIT = 1.0
"""Seconds that a closing window waits at most for the answer to the last click; most come in a tenth of that."""
_LOOK_AGAIN = 0.01
REACH = 0.5  # how far from a mask a click still mends it, in diameters of the mask
LOADING = "The model is still being loaded. One moment."
_NO_HEAD = "This model was not trained for clicks. Choose the Generalist, or a model made of it, under Model."
_TURNED = "Clicks need the picture's own y and x axes on the screen. Roll the dimensions back."
_NOTHING = "Click an object first; then right-click what is not part of it."
_CONFIRMED = "All of this is yours already. Tick 'May replace' to change it."
_BESIDE = "This lies beside the picture. Draw it anew."
_EMPTY = "Nothing was found that way. Click or draw again."
_AGAIN = "Left: more of it. Right: not this. Enter keeps, Backspace takes back, Esc drops."

_clickers: weakref.WeakKeyDictionary[Any, Clicker] = weakref.WeakKeyDictionary()


def clicker_of(viewer: Any) -> Clicker:
    """The object in work of a viewer; made at the first call."""
    viewer = real(viewer)
    if viewer not in _clickers:
        _clickers[viewer] = Clicker(desk_of(viewer))
    return _clickers[viewer]


class Clicker:
    """The object in work in one viewer.

    Attributes
    ----------
    may_replace : bool
        Whether an object may be written over one that the user confirmed.
    last : Kept or None
        The object that was kept last.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.may_replace = False
        self.last: Kept | None = None
        self._masks: MaskLayer | None = None
        self._lead: tuple[int, ...] = ()
        self._stages: list[Stage] = []
        self._asked = self._hover_asked = 0
        self._hover: Found | None = None
        self._late: Late | None = None
        self._then: list[Callable[[], object]] = []  # what waits for the answer
        self._pointer: list[float] = []
        self.view = ClickView(desk.viewer)
        self._rest = once(desk, HOVER_MS, self._ask_hover)
        listen(desk.session.object_found, desk, self._on_found)
        desk.viewer.dims.events.current_step.connect(self._on_slider)
        before_closing(desk.viewer, self._finish)

    # --- the tool in hand ------------------------------------------------------

    def why_not(self) -> str:
        """Why there can be no clicks; '' if there can."""
        state = self.desk.session.state
        return "" if state.can_click else _NO_HEAD if state.model else LOADING

    def begin(self, masks: MaskLayer) -> None:
        """The tool is in hand: lay the layer that shows the object ready, and follow the mouse."""
        if self._late is not None and self._late.masks is not masks:
            self._then = []  # it was meant for another picture
        self._masks = masks
        self.view.lay(masks)
        masks.take_back = self.back
        masks.layer.mouse_move_callbacks.append(self._on_move)
        for key, act in self._keys.items():
            masks.layer.bind_key(key, lambda _, act=act: act(), overwrite=True)

    def end(self) -> None:
        """The tool is put away: an object in work is kept."""
        masks = self._masks
        if masks is None:
            return
        self._hand_over()
        self._rest.stop()
        masks.take_back = bool
        masks.layer.mouse_move_callbacks.remove(self._on_move)
        for key in self._keys:
            masks.layer.bind_key(key, None)

    def _hand_over(self) -> None:
        """The object in work is kept, at the latest when its mask has come; what was shown meanwhile follows then."""
        then, masks = self._then, self._masks
        if not self.is_waiting:
            self.keep()
        elif self._stages and masks is not None:
            self._late = Late(self._asked, masks, masks.kind, self._lead, self._stages[-1].prompts)
        self._reset()
        self._masks, self._then = None, then

    def _finish(self) -> None:
        """The window closes: the object in work is kept, as far as it is found in a short while."""
        end = time.monotonic() + LAST_WAIT
        while self.is_waiting and time.monotonic() < end:
            time.sleep(_LOOK_AGAIN)  # answers come through Qt's queue, which nobody empties any more
            QApplication.sendPostedEvents(None, QEvent.Type.MetaCall)
        self._late = None
        while self.is_waiting:
            self._stages.pop()
        self.keep()

    @property
    def _keys(self) -> dict[str, Callable[[], object]]:
        return {"Enter": self.keep, "Backspace": self.back}

    @property
    def is_at_work(self) -> bool:
        """Whether there is an object that is neither kept nor dropped."""
        return bool(self._stages)

    # --- what the user shows ---------------------------------------------------

    def take(self, gesture: str, path: Sequence[Sequence[float]], axes: tuple[int, int]) -> None:
        """A click, box or scribble.

        Parameters
        ----------
        gesture : {'on', 'off', 'box', 'scribble', 'accept'}
        path : sequence of points
            In voxels of all axes of the label layer.
        axes : (int, int)
            Those on the screen.
        """
        masks = self._masks
        if masks is None or not masks.fits:
            return
        if axes != (masks.layer.ndim - 2, masks.layer.ndim - 1):
            self.desk.acted.emit(_TURNED)
            return
        lead = tuple(round(c) for c in path[-1][:-2])
        points = within(masks, gesture, [(float(p[-2]), float(p[-1])) for p in path], lead)
        if not points:
            if gesture in ("box", "scribble"):
                self.desk.acted.emit(_BESIDE)
            return
        if gesture == "accept":
            if not tools.accept_object(masks, (*lead, *(round(c) for c in points[-1]))):
                self.desk.acted.emit("There is no object here.")
            return
        if lead != self._lead:
            self.after_answer(self.keep)
        self.after_answer(partial(self._show_more, gesture, points, lead))

    def after_answer(self, act: Callable[[], object]) -> None:
        """Do something now; or, while an answer is awaited, when it has come."""
        if self.is_waiting:
            self._then.append(act)
        else:
            act()

    @property
    def is_waiting(self) -> bool:
        """Whether the mask of the object in work is awaited, or of the one that was when the tool was put away."""
        return self._late is not None or (bool(self._stages) and self._stages[-1].found is None)

    def _show_more(self, gesture: str, points: list[Point], lead: tuple[int, ...]) -> None:
        """One more prompt, of the object in work or of a new one."""
        known = self._stages[-1].prompts if self._stages else Prompts()
        if gesture == "off":
            if not self._stages:
                self.desk.acted.emit(_NOTHING)
                return
            self._ask(known.and_click(points[-1], False), lead)
            return
        if gesture == "box" or not self._mends(points[0]):
            self.keep()
            known = Prompts()
        if gesture == "box":
            self._ask(Prompts(box=box_between(points)), lead)
            return
        chosen = points[-1:] if gesture == "on" else thinned(points)
        for point in chosen:
            known = known.and_click(point, True)
        self._ask(known, lead)

    def _mends(self, point: Point) -> bool:
        """Whether a click belongs to the object in work: on it or close to it, and on no other object."""
        found = self.found
        if found is None or self._masks is None:
            return bool(self._stages)
        box, mask = found
        inside = np.argwhere(mask) + box.start
        distance = float(np.hypot(*(inside - np.array(point)).T).min())
        if distance < 1:
            return True
        voxel = (*self._lead, *(round(c) for c in point))
        number = self._masks.number_at(voxel)
        if number and np.count_nonzero(self._labels_under() == number) * 2 < len(inside):
            return False
        return distance <= REACH * 2 * float(np.sqrt(len(inside) / np.pi))

    def _labels_under(self) -> Any:
        """The labels under the mask of the object in work."""
        if self.found is None or self._masks is None:
            return np.zeros(0, int)
        box, mask = self.found
        return self._masks.layer.data[(*self._lead, *box.slices)][mask]

    @property
    def found(self) -> Found | None:
        """The newest mask of the object in work."""
        return next((s.found for s in reversed(self._stages) if s.found is not None), None)

    def _ask(self, prompts: Prompts, lead: tuple[int, ...]) -> None:
        """Ask for the mask, and show a first guess until it is there."""
        if self._masks is None:
            return
        before = self.found
        self._lead = lead
        self._stages.append(Stage(prompts))
        self._asked = self.desk.session.click(self._masks.picture.key, lead, prompts, before)
        self._draw(guess=None if before is not None else self._guess(prompts))

    def _guess(self, prompts: Prompts) -> Found | None:
        """What the object might be: what hovering showed, or the predicted object."""
        if not prompts.positive or self._masks is None:
            return None
        point = tuple(round(c) for c in prompts.positive[-1])
        if self._hover is not None and holds(self._hover, point):
            return self._hover
        labels = self._masks.layer.data[self._lead]
        number = self._masks.number_at((*self._lead, *point))
        if not number:
            return None
        box = diff.object_box(labels, {number}, diff.at(point))
        return box, labels[box.slices] == number

    # --- keep, drop, take back -------------------------------------------------

    def keep(self) -> bool:
        """Write the object in work into the label layer, as one undo step; it teaches. False if there is none."""
        if not self._stages:
            return False
        if self.is_waiting:
            self.after_answer(self.keep)
            return True
        masks, found = self._masks, self.found
        shown = self._stages[-1].prompts
        is_kept = masks is not None and found is not None and self._place(masks, self._lead, found, shown)
        self._reset()
        return is_kept

    def _place(self, masks: MaskLayer, lead: tuple[int, ...], found: Found, prompts: Prompts) -> bool:
        """Write an object into a label layer; False if there is nothing of it."""
        if not found[1].any() or masks.picture.key not in self.desk.session.pictures:  # its layer was removed
            return False
        number = tools.place(masks, lead, found, prompts=prompts, may_replace=self.may_replace)
        if number:
            self.last = Kept(lead, *found, number)
        else:
            self.desk.acted.emit(_CONFIRMED)
        return bool(number)

    def keep_before(self, act: Callable[[], object]) -> None:
        """Keep the object in work, then do something to the labels: what is confirmed without it would shut it out."""
        if self._stages:
            self.after_answer(self.keep)
        self.after_answer(act)

    def drop(self) -> bool:
        """Forget the object in work; False if there is none."""
        had = self.is_at_work
        self._reset()
        if had:
            self.desk.acted.emit("Dropped")
        return had

    def back(self) -> bool:
        """Take the last click, box or scribble back; False if no object is in work."""
        was_at_work = self.is_at_work
        if self._then and isinstance(self._then[-1], partial):  # one that was not even asked for
            self._then.pop()
        elif was_at_work:
            self._stages.pop()
            self._asked, self._then = 0, []
            self._draw()
        if was_at_work:
            self.desk.acted.emit(_AGAIN if self._stages else "Taken back")
        return was_at_work

    def _reset(self) -> None:
        """No object is in work."""
        self._stages.clear()
        self._asked, self._hover_asked, self._hover, self._then = 0, 0, None, []
        self._draw()

    # --- answers ---------------------------------------------------------------

    def _on_found(self, answer: ObjectMask) -> None:
        """The mask of an object has come."""
        if self._late is not None and answer.request == self._late.request:
            late, self._late = self._late, None
            if late.is_meant_by(answer):
                self._on_late(late, flat(answer))
            else:
                self._then = []
            return
        if self._masks is None or answer.picture != self._masks.picture.key:
            return
        found = flat(answer)
        if answer.request == self._hover_asked and not self._stages:
            self._hover = found
            self._draw(guess=found)
        elif answer.request == self._asked and self.is_waiting:
            if found[1].any():
                self._stages[-1].found = found
            else:
                self._stages.pop()  # else it would go along with all that is shown next
            self._draw()
            self.desk.acted.emit(_AGAIN if found[1].any() else _EMPTY)
            self._go_on()

    def _go_on(self) -> None:
        """Do what waited, as far as no other answer is to come first."""
        then, self._then = self._then, []
        for act in then:
            self.after_answer(act)

    def _on_late(self, late: Late, found: Found) -> None:
        """Its mask has come: keep it; or take it in hand once more, where something was shown after it."""
        if not self._then or self._masks not in (None, late.masks) or not found[1].any():
            self._place(late.masks, late.lead, found, late.prompts)
            self._go_on()
            return
        is_away = self._masks is None
        self._masks, self._lead, self._stages = late.masks, late.lead, [Stage(late.prompts, found)]
        self._go_on()
        if is_away:
            self._hand_over()

    def _on_slider(self) -> None:
        """Another slice may be in view: what was shown belongs to the one before."""
        self._hover_asked, self._hover = 0, None
        self._draw()

    def _draw(self, guess: Found | None = None) -> None:
        """Show the object in work, or a guess, and the clicks, in their slice."""
        shown = self._stages[-1].prompts if self._stages else Prompts()
        found, value = (self.found, "mask") if guess is None else (guess, "guess")
        if self._masks is None or box_in_view(self._masks.layer, self.desk.viewer.dims).start[:-2] != self._lead:
            found, shown = None, Prompts()
        self.view.show(found, shown, value)

    # --- hovering --------------------------------------------------------------

    def _on_move(self, layer: Labels, event: Any) -> None:
        """The mouse moved with no button down: once it rests, show what a click would take."""
        self._pointer = [float(c) for c in layer.world_to_data(event.position)]
        self.desk.be_active()
        if not self._stages:
            self._rest.start()

    def _ask_hover(self) -> None:
        masks = self._masks
        if masks is None or self._stages or not self._pointer:
            return
        voxel = tuple(round(c) for c in self._pointer[-masks.layer.ndim :])
        point = (float(voxel[-2]), float(voxel[-1]))
        if not masks.holds(voxel):
            self._hover = None
            self._draw()
        elif self._hover is None or voxel[:-2] != self._lead or not holds(self._hover, voxel[-2:]):
            self._lead = voxel[:-2]
            self._hover_asked = self.desk.session.click(masks.picture.key, self._lead, Prompts((point,)), hover=True)
