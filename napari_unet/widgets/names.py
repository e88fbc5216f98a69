"""Names: tells when the user renames a picture."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from napari.layers import Image


class Names:
    """The names that image layers had.

    Parameters
    ----------
    images : iterable of Image
        To begin with.

    Signals
    -------
    changed(image, before): an image layer has another name than `before`.
    """

    changed = Signal(object, str)

    def __init__(self, images: Iterable[Image]) -> None:
        self._names: weakref.WeakKeyDictionary[Image, str] = weakref.WeakKeyDictionary()
        for image in images:
            self.watch(image)

    def watch(self, image: Image) -> None:
        """An image layer came."""
        self._names[image] = image.name
        image.events.name.connect(self._on_name)

    def leave(self, layer: Any) -> None:
        """A layer is gone; if it was watched, it is no more."""
        if self._names.pop(layer, None) is not None:
            layer.events.name.disconnect(self._on_name)

    def _on_name(self, event: Any) -> None:
        image = event.source
        before, self._names[image] = self._names[image], image.name
        self.changed.emit(image, before)
