"""Album: which picture of the session each image layer of a viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_unet.core.errors import UNetLiveError
from napari_unet.widgets.layers import path_of, source_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.session.session import Picture, Session


class Album:
    """The image layers that were taken in hand once; layers with the same content show the same picture.

    Signals
    -------
    exchanged: somebody set `image.data`, or may have changed it in place; `newly_exchanged` says of which layers.
    """

    exchanged = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pictures: dict[Image, Picture] = {}
        self._exchanged: set[Image] = set()
        self._redrawn: set[Image] = set()
        self._contents: dict[Image, str] = {}  # of pictures that are watched for changes in place: what they held

    def __contains__(self, image: object) -> bool:
        """Whether an image layer was taken in."""
        return image in self._pictures

    def of(self, image: Image | None) -> Picture | None:
        """The picture that an image layer shows; None if it was not taken in."""
        return self._pictures.get(image) if image is not None else None

    def images_of(self, key: str) -> list[Image]:
        """The image layers that show a picture."""
        return [image for image, picture in self._pictures.items() if picture.key == key]

    def take_in(self, image: Image) -> bool:
        """Let the session open what an image layer shows; says why and returns False if it cannot be used."""
        # what was put in the place of a file's content has no file
        path = path_of(image) if self.leave_out(image) is None else None
        try:
            source = source_of(image)
            picture = self._session.open_picture(image.name, source, path=path)
        except UNetLiveError as error:
            show_error(str(error))
            return False
        self._pictures[image] = picture
        image.events.data.connect(self._on_data)
        # a stack is drawn anew at each move of a slider, and what lies on disk is slow to read
        if image.ndim == 2 and isinstance(image.data, np.ndarray):
            self._contents[image] = source.key()
            image.events.set_data.connect(self._on_redrawn)
        return True

    def leave_out(self, image: Image) -> Picture | None:
        """An image layer is gone: the picture that it showed, if it was taken in."""
        picture = self._pictures.pop(image, None)
        if picture is not None:
            image.events.data.disconnect(self._on_data)
            if self._contents.pop(image, None) is not None:
                image.events.set_data.disconnect(self._on_redrawn)
        return picture

    def newly_exchanged(self) -> list[Image]:
        """The image layers whose data was set, or changed in place, since the last time; nobody looked at it yet."""
        images, self._exchanged = self._exchanged, set()
        redrawn, self._redrawn = self._redrawn - images, set()
        changed = [image for image in redrawn if image in self._contents and self._is_other(image)]
        return [image for image in images if image in self._pictures] + changed

    def _is_other(self, image: Image) -> bool:
        """Whether a picture holds other content than when it was taken in."""
        try:
            return source_of(image).key() != self._contents[image]
        except UNetLiveError:  # said when it is taken in
            return True

    def _on_data(self, event: Any) -> None:
        self._exchanged.add(event.source)
        self.exchanged.emit()

    def _on_redrawn(self, event: Any) -> None:
        """`layer.refresh()` tells of pixels that were changed in place, which nothing else does."""
        self._redrawn.add(event.source)
        self.exchanged.emit()
