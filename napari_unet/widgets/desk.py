"""What lies on the desk of one viewer: its pictures with their label layers, shared by all its docks."""

from __future__ import annotations

import time
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_warning
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_unet.core.errors import UNetLiveError
from napari_unet.core.geometry import Box
from napari_unet.widgets.album import Album
from napari_unet.widgets.label_layers import LabelLayers
from napari_unet.widgets.layers import (
    add_quietly,
    box_in_view,
    covers,
    is_ours,
    label_layer,
    place_after,
    raise_over,
    rename_after,
    turn_to,
    warm_brush,
)
from napari_unet.widgets.mask_layer import MaskLayer
from napari_unet.widgets.overlays import Overlays
from napari_unet.widgets.preferences import preferences
from napari_unet.widgets.viewer_session import before_closing, follow, listen, once, real, session_of
from napari_unet.widgets.watch import Watch

if TYPE_CHECKING:
    from napari_unet.session.session import Picture, Session

_LOOK_MS = 150
_ACTIVE_MS = 500

_desks: weakref.WeakKeyDictionary[Any, Desk] = weakref.WeakKeyDictionary()
_of_layer: weakref.WeakKeyDictionary[Labels, Desk] = weakref.WeakKeyDictionary()


def desk_of(viewer: Any) -> Desk:
    """The desk of a viewer; made at the first call."""
    viewer = real(viewer)
    if viewer not in _desks:
        _desks[viewer] = Desk(viewer)
    return _desks[viewer]


def desk_of_layer(layer: Labels) -> Desk | None:
    """The desk that a label layer of ours lies on; None for anybody else's layer."""
    return _of_layer.get(layer)


class Desk(QObject):
    """Carries news between the session and the layers of one viewer.

    Attributes
    ----------
    session, album : Session, Album
    image : Image or None
        The picture in hand.
    follows : bool
        "Keep the view fresh": tiles of a view the user moves to are predicted by themselves.
    shows_taught, shows_doubt : bool
        Which overlays are on.

    Signals
    -------
    picture_changed: another picture is in hand, or it got its label layer; pictures_changed: the list of pictures;
    acted(str): a sentence about the last action; overlays_changed; tidied: layers were removed.
    """

    picture_changed = Signal()
    pictures_changed = Signal()
    overlays_changed = Signal()
    tidied = Signal()
    acted = Signal(str)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self.session: Session = session_of(viewer)
        self.image: Image | None = None
        chosen = preferences()
        self.keep_fresh(chosen.fresh)
        self.album = Album(self.session)
        self._anew = once(self, _LOOK_MS, self._take_anew)
        self.album.exchanged.connect(self._on_exchanged)
        self._overlays = Overlays(viewer, self.show_overlays, taught=chosen.show_taught)
        self._masks = LabelLayers(self.session, self._overlays, self, chosen.pause)
        self._masks.acted.connect(self.acted.emit)
        self._masks.turning.connect(self.picture_changed.emit)  # tools are put away
        self._pick = once(self, 0, self._take_inserted)
        self._tidy = once(self, 0, self._tidy_up)
        self._look = once(self, _LOOK_MS, self._look_at_view)
        self._active_until = 0.0
        listen(self.session.prediction_ready, self, self._masks.paste)
        listen(self.session.failed, self, show_warning)
        follow(self.session.restored, self, self._masks.reload)
        self._watch = Watch(self.images())
        self._watch.changed.connect(self._on_changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.scene.camera.events.center.connect(self._on_moved)
        viewer.scene.camera.events.zoom.connect(self._on_moved)
        viewer.dims.events.current_step.connect(self._on_moved)
        before_closing(viewer, self._masks.finish)

    # --- pictures ---

    @property
    def viewer(self) -> Any:
        """The viewer, while it lives."""
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("The viewer of this desk is gone.")
        return viewer

    def images(self) -> list[Image]:
        """The image layers that are pictures, in the order of the layer list."""
        return [layer for layer in self.viewer.layers if isinstance(layer, Image) and not is_ours(layer)]

    @property
    def masks(self) -> MaskLayer | None:
        """The label layer of the picture in hand; None before it has one."""
        picture = self.picture
        return self._masks.get(picture.key) if picture is not None else None

    @property
    def all_masks(self) -> dict[Image, MaskLayer]:
        """The label layers of all pictures that have one, each with the first image layer that shows it."""
        shown = {key: self.album.images_of(key) for key in self._masks}
        return {shown[key][0]: masks for key, masks in self._masks.items() if shown[key]}

    @property
    def picture(self) -> Picture | None:
        """The picture in hand, as the session knows it."""
        return self.album.of(self.image)

    def take(self, image: Image | None) -> bool:
        """Take a picture in hand; says why and returns False if it cannot be used."""
        self._take_anew()
        if image is not None and image not in self.album:
            self.settle()  # a picture may bring its project, and the label layers show what that knows
            if not self.album.take_in(image):
                return False
        if image is not self.image:
            self.image = image
            picture = self.picture
            if picture is not None and (picture.masks is not None or picture.taught.any()):
                self.add_masks()
            if image is not None and picture is not None and self.masks is not None:
                self.show_overlays()
                # the picture may have come back, or be another layer with the same content, and lie over them
                raise_over(self.viewer.layers, image, [self.masks.layer, *self._overlays.of(picture.key)])
            self.picture_changed.emit()
        return True

    def _on_exchanged(self) -> None:
        if not self._anew.isActive():
            self._anew.start()

    def _take_anew(self) -> None:
        """Look at pictures whose data was set: other content is another picture."""
        if self._masks.is_pressed:
            self._anew.start()
            return
        for image in self.album.newly_exchanged():
            old, is_in_hand = self.album.of(image), image is self.image
            self.settle()
            is_usable = self.album.take_in(image)
            if old is None or self.album.of(image) is old:
                continue
            if is_in_hand:
                self.image = None
                self.picture_changed.emit()  # tools are put away, and keep what they have in work
            had_masks = old.key in self._masks
            if not self.album.images_of(old.key):
                self._turn(old, self.album.of(image))
            if is_in_hand and is_usable and self.take(image) and had_masks:
                self.add_masks()

    def _turn(self, old: Picture, new: Picture | None) -> None:
        """No image layer shows the `old` picture any more: its label layer, if it has one, is for the `new` one."""
        masks = self._masks.get(old.key)
        self._overlays.let_go(old.key)
        self._overlays.sweep()
        self.session.leave_picture(old.key)
        if masks is not None and new is not None and new.key not in self._masks:
            if masks.fits and masks.baseline.shape == new.truth.shape:
                self.session.keep_masks(old.key, masks.baseline)
                masks.turn_to(new)
                self._masks[new.key] = self._masks.pop(old.key)
                self.show_overlays()
            else:
                if self.viewer.layers.selection.active is masks.layer:
                    self.viewer.layers.selection.active = self.album.images_of(new.key)[0]
                self.viewer.layers.remove(masks.layer)
        if not old.taught.any() and (masks is None or masks.picture is new):
            self.session.close_picture(old.key)  # a camera shows many, of which nothing is to be kept

    def add_masks(self) -> MaskLayer | None:
        """The label layer of the picture in hand, added to the viewer if it is not there yet."""
        image, picture = self.image, self.picture
        if image is None or picture is None or picture.key in self._masks:
            return self.masks
        layers = self.viewer.layers
        try:
            layer = label_layer(picture, image)
        except UNetLiveError as error:
            show_error(str(error))
            return None
        if layers.selection.active in (image, None):
            layers.append(layer)  # becomes active: the brush is at hand
            if hasattr(self.viewer, "window"):
                warm_brush(layer, self.viewer)
        else:
            add_quietly(layers, layer)
        masks = MaskLayer(self.session, picture, layer)
        self._masks[picture.key] = masks
        _of_layer[layer] = self
        masks.stroked.connect(self._on_stroke)
        masks.pasted.connect(self._masks.draw_soon)
        masks.taught.connect(partial(self._on_taught, masks))
        masks.acted.connect(self._masks.tell)
        self.show_overlays()
        self.picture_changed.emit()
        return masks

    def open_project(self, path: Path) -> bool:
        """Open a project folder, or begin one there; says why and returns False if that fails."""
        self._masks.close_off()
        try:
            self.session.open_project(path)
        except UNetLiveError as error:
            show_error(str(error))
            return False
        image, self.image = self.image, None
        return self.take(image)  # anew: with the masks that the project knows

    # --- predicting ---

    def predict(self) -> None:
        """Predict the picture in hand, what is in view first."""
        self._take_anew()
        masks = self.add_masks()
        if masks is not None:
            self.settle()
            masks.unhide()
            turn_to(masks.layer, self.viewer.dims)
            self.session.predict(masks.picture.key, self.view())

    def view(self) -> Box:
        """The part of the picture in hand that is in view, in voxels; one plane of a stack."""
        masks = self.masks
        if masks is None:
            raise RuntimeError("There is no picture in hand.")
        return box_in_view(masks.layer, self.viewer.dims)

    def keep_fresh(self, on: bool) -> None:
        """Predict by itself what the user moves to, and all again when the model has learnt; or not."""
        self.follows = on
        self.session.keep_fresh(on)

    def _look_at_view(self) -> None:
        if self.masks is not None and self.follows:
            self.session.look_at(self.masks.picture.key, self.view())

    def _on_moved(self) -> None:
        self.be_active()
        if not self._look.isActive():
            self._look.start()

    # --- correcting ---

    def settle(self) -> None:
        """Make edits of what was painted (called by itself after the last stroke)."""
        self._masks.settle()

    def _on_stroke(self) -> None:
        self.be_active()
        self._masks.settle_soon()

    def _on_taught(self, masks: MaskLayer, box: Box) -> None:
        """Draw the rim of what has been taught."""
        self._overlays.redraw(masks.picture.key, "taught", [box])
        self._masks.keep_soon()

    def be_active(self) -> None:
        """Tell the session, twice a second at most, that the user is at work."""
        now = time.monotonic() * 1000
        if now >= self._active_until:
            self._active_until = now + _ACTIVE_MS
            self.session.user_is_active()

    # --- overlays ---

    @property
    def shows_taught(self) -> bool:
        """Whether the rim of what was taught is on."""
        return self._overlays.on["taught"]

    @property
    def shows_doubt(self) -> bool:
        """Whether the heat of what is in doubt is on."""
        return self._overlays.on["doubt"]

    def show(self, kind: str, on: bool) -> None:
        """Switch an overlay, 'taught' or 'doubt', on or off."""
        self._overlays.on[kind] = on
        self.show_overlays()
        self.overlays_changed.emit()

    def show_overlays(self) -> None:
        """Show those that are on, over the pictures that are seen."""
        for image, masks in self.all_masks.items():
            self._overlays.show(masks, image, is_behind=masks is not self.masks and not masks.layer.visible)

    # --- what napari tells ---

    def _on_inserted(self, event: Any) -> None:
        if isinstance(event.value, Image) and not is_ours(event.value):
            self._watch.begin(event.value)
            self.pictures_changed.emit()
            self._pick.start(0 if self.image is None else _LOOK_MS)  # once napari has the layer, or several, in place

    def _on_changed(self, image: Image, before: str) -> None:
        """A picture has another name, or lies elsewhere in the world: it is listed so, and its layers follow."""
        if (picture := self.album.of(image)) is not None:
            layers = self._masks.layers_of(picture.key)
            rename_after(layers, before, image.name)
            if self.album.images_of(picture.key)[0] is image:
                place_after(layers, image)
                self.session.rename_picture(picture.key, image.name)
        self.pictures_changed.emit()

    def take_newest(self) -> None:
        """With no picture in hand, the newest one is."""
        if self.image is None and self._viewer() is not None and (images := self.images()):
            self.take(images[-1])

    def _take_inserted(self) -> None:
        """A picture that was opened, so it is active, and hides the one in hand, is what the user sees: take it."""
        self.take_newest()
        newest = None if self._viewer() is None or self.image is None else self.viewer.layers.selection.active
        if newest is not None and newest in self.images() and covers(newest, self.image):
            self.take(newest)

    def _on_removed(self, event: Any) -> None:
        """A layer is gone (all of them, when the window closes): keep what it holds, delete nothing."""
        layer = event.value
        self._watch.end(layer)
        picture = self.album.leave_out(layer)
        for key, masks in list(self._masks.items()):
            if layer is masks.layer:
                masks.settle()
                masks.release()
                self.session.keep_masks(key, masks.baseline)
                self.session.leave_picture(key)  # nobody would see what is predicted
                del self._masks[key]
                self._overlays.let_go(key)
        if picture is not None:
            if not self.album.images_of(picture.key):  # its label layer stays: it is what the user wanted
                self._overlays.let_go(picture.key)
                self.session.leave_picture(picture.key)
            if self.image is layer:
                self.image = None
                self._pick.start(0)
            self.pictures_changed.emit()
        self._tidy.start()
        self.picture_changed.emit()

    def _tidy_up(self) -> None:
        """Once napari is through with what it removes."""
        if self._viewer() is not None:
            self._overlays.sweep()
            self.tidied.emit()
            if self._overlays.take_note():
                self.show_overlays()
                self.overlays_changed.emit()

    def _on_active(self, event: Any) -> None:
        """The picture in hand follows the active layer."""
        self._masks.leave(event.value)
        picture = self.album.of(event.value)
        if picture is not None and picture.key in self._masks:
            self.take(event.value)
            return
        for image, masks in self.all_masks.items():
            if masks.layer is event.value and masks is not self.masks:
                self.take(image)
