"""Watch: tells when the user renames a picture, or moves it in the world."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from napari.layers import Image

_WATCHED = ("name", "scale", "translate", "rotate", "shear", "affine", "units")


class Watch:
    """The image layers that are pictures, and the names that they had.

    Parameters
    ----------
    images : iterable of Image
        To begin with.

    Signals
    -------
    changed(image, before): an image layer had the name `before`; it has another one, lies elsewhere, or its pixels have
    another size.
    """

    changed = Signal(object, str)

    def __init__(self, images: Iterable[Image]) -> None:
        self._names: weakref.WeakKeyDictionary[Image, str] = weakref.WeakKeyDictionary()
        for image in images:
            self.begin(image)

    def begin(self, image: Image) -> None:
        """An image layer came."""
        self._names[image] = image.name
        for name in _WATCHED:
            image.events[name].connect(self._on_event)

    def end(self, layer: Any) -> None:
        """A layer is gone; if it was watched, it is no more."""
        if self._names.pop(layer, None) is not None:
            for name in _WATCHED:
                layer.events[name].disconnect(self._on_event)

    def _on_event(self, event: Any) -> None:
        image = event.source
        before, self._names[image] = self._names[image], image.name
        self.changed.emit(image, before)
