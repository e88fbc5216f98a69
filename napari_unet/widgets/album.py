"""Album: which picture of the session each image layer of a viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    exchanged: somebody set `image.data`; `newly_exchanged` says of which layers.
    """

    exchanged = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pictures: dict[Image, Picture] = {}
        self._exchanged: set[Image] = set()

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
            picture = self._session.open_picture(image.name, source_of(image), path=path)
        except UNetLiveError as error:
            show_error(str(error))
            return False
        self._pictures[image] = picture
        image.events.data.connect(self._on_data)
        return True

    def leave_out(self, image: Image) -> Picture | None:
        """An image layer is gone: the picture that it showed, if it was taken in."""
        picture = self._pictures.pop(image, None)
        if picture is not None:
            image.events.data.disconnect(self._on_data)
        return picture

    def newly_exchanged(self) -> list[Image]:
        """The image layers whose data was set since the last time; nobody looked at it yet."""
        images, self._exchanged = self._exchanged, set()
        return [image for image in images if image in self._pictures]

    def _on_data(self, event: Any) -> None:
        self._exchanged.add(event.source)
        self.exchanged.emit()
