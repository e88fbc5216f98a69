"""LabelLayers: what is done to all label layers of a viewer: paste, draw, settle, keep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from psygnal import Signal

from napari_unet.core.errors import UNetLiveError
from napari_unet.widgets.layers import is_ours
from napari_unet.widgets.mask_layer import MaskLayer
from napari_unet.widgets.viewer_session import listen, once

if TYPE_CHECKING:
    from napari.layers import Layer
    from qtpy.QtCore import QObject

    from napari_unet.core.events import Prediction
    from napari_unet.session.session import Session, SessionState
    from napari_unet.widgets.overlays import Overlays

_DRAW_MS = 200  # at most five refreshes a second
_SHARE = 5  # ... and at most this share (1/5) of the time for drawing, on large pictures
_KEEP_MS = 3000
_TURN_MS = 150
_COPIED = 2048 * 2048
_NOT_SAVED = ", but not saved: this project is open for reading only"


class LabelLayers(dict[str, MaskLayer]):
    """The label layers of a viewer, each under the key of its picture.

    Parameters
    ----------
    session : Session
    overlays : Overlays
        Drawn with them.
    owner : QObject
        With it the timers end.
    pause : int
        After how many milliseconds without a stroke edits are made of them.

    Signals
    -------
    acted(str): a sentence about the last action; turning: labels are about to be of another kind, or
    of another project.
    """

    acted = Signal(str)
    turning = Signal()

    def __init__(self, session: Session, overlays: Overlays, owner: QObject, pause: int) -> None:
        super().__init__()
        self._session, self._overlays = session, overlays
        self._settle = once(owner, pause, self.settle)
        self._draw = once(owner, _DRAW_MS, self._draw_stale)
        self._keep = once(owner, _KEEP_MS, self.keep)
        self._kind = session.state.kind
        self._turn = once(owner, _TURN_MS, self._turn_round)
        listen(session.state_changed, owner, self._on_state)
        self._stale: set[str] = set()
        self._complete: set[str] = set()
        self._request = 0

    @property
    def is_pressed(self) -> bool:
        """Whether the mouse button is down on one of them."""
        return any(masks.is_pressed for masks in self.values())

    def layers_of(self, key: str) -> list[Layer]:
        """The label layer of a picture and what lies over it; nothing before it has one."""
        return [self[key].layer, *self._overlays.of(key)] if key in self else []

    def leave(self, active: Any) -> None:
        """Another layer is active: a button that was down before is let go there, and napari tells it to that one."""
        for masks in self.values():
            masks.is_pressed &= active is masks.layer or (active is not None and is_ours(active))

    def reload(self) -> None:
        """Another project was opened: show what it knows of the pictures."""
        for masks in self.values():
            try:
                masks.reload()
            except UNetLiveError as error:
                show_error(str(error))

    def _on_state(self, state: SessionState) -> None:
        if state.kind != self._kind and not self._turn.isActive():
            self._turn_round()

    def _turn_round(self) -> None:
        """Another model came, whose labels are classes, or objects again: each kind has its own corrections."""
        if self.is_pressed:
            self._turn.start()
            return
        self.close_off()
        self._kind = self._session.state.kind
        self._session.turn()

    def close_off(self) -> None:
        """Another project is about to come, or another kind of labels: what is in work belongs to the one before."""
        self.turning.emit()
        self.settle()
        self.keep()

    # --- predictions ---

    def paste(self, prediction: Prediction) -> None:
        """Lay a predicted tile into the label layer of its picture."""
        if prediction.request < self._request:
            return  # asked for before the newest question: late
        self._request = prediction.request
        if (masks := self.get(prediction.picture)) is not None:
            masks.paste(prediction)
            self._stale.add(prediction.picture)
            if prediction.done >= prediction.total:
                self._complete.add(prediction.picture)

    def draw_soon(self) -> None:
        """Draw, and keep, what was pasted."""
        if not self._draw.isActive():
            self._draw.start()
        self.keep_soon()

    def _draw_stale(self) -> None:
        """Draw what was pasted; on large pictures less often, so that the window stays free."""
        started = time.perf_counter()
        for key in self._stale & self.keys():
            self[key].refresh(thumbnail=key in self._complete)
            self._overlays.redraw(key, "doubt")
        self._stale.clear()
        self._complete.clear()
        spent = 1000 * (time.perf_counter() - started)
        self._draw.setInterval(max(_DRAW_MS, int(_SHARE * spent)))

    # --- corrections ---

    def settle(self) -> None:
        """Make edits of what was painted; later, while the button is down."""
        if self.is_pressed:
            self._settle.start()
            return
        self._settle.stop()
        for masks in self.values():
            if made := masks.settle():
                self.tell("Correction taken" if made == 1 else f"{made} corrections taken")

    def tell(self, sentence: str) -> None:
        """Say what became of a correction; in a project that is open for reading only none is kept."""
        self.acted.emit(sentence + _NOT_SAVED if self._session.state.read_only else sentence)

    def settle_soon(self) -> None:
        """Make edits of what was painted, a while after the last stroke."""
        self._settle.start()

    def finish(self) -> None:
        """The window closes: keep what was painted, also if a button seems to be down, and the newest masks."""
        for masks in self.values():
            masks.is_pressed = False
        self.settle()
        self.keep()

    # --- on disk ---

    def keep_soon(self) -> None:
        """Save them, a while after they changed."""
        if not self._keep.isActive():
            self._keep.start()

    def keep(self) -> None:
        """Save them; later, while the button is down."""
        if self.is_pressed:
            self._keep.start()
            return
        for key, masks in self.items():
            labels = masks.baseline
            # copying a large picture would hold the window up; a tile that is pasted while it is written is no
            # harm, for what the user set is kept elsewhere, and masks are kept again after each change
            kept = labels.copy() if labels.size <= _COPIED else labels
            self._session.keep_masks(key, kept)
