"""Album: which picture of the session each image layer of a viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.widgets.layers import path_of, source_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.session.session import Picture, Session


class Album:
    """The image layers that were taken in hand once; layers with the same content show the same picture."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pictures: dict[Image, Picture] = {}

    def __contains__(self, image: object) -> bool:
        """Whether an image layer was taken in."""
        return image in self._pictures

    def of(self, image: Image | None) -> Picture | None:
        """The picture that an image layer shows; None if it was not taken in."""
        return self._pictures.get(image) if image is not None else None

    def images_of(self, key: str) -> list[Image]:
        """The image layers that show a picture."""
        return [image for image, picture in self._pictures.items() if picture.key == key]

    def take_in(self, image: Image) -> None:
        """Let the session open what an image layer shows.

        Raises
        ------
        UNetLiveError
            If it cannot be used.
        """
        self._pictures[image] = self._session.open_picture(image.name, source_of(image), path=path_of(image))

    def leave_out(self, image: Image) -> Picture | None:
        """An image layer is gone: the picture that it showed, if it was taken in."""
        return self._pictures.pop(image, None)
