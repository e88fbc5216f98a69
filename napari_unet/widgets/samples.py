"""The sample pictures that come with the package, for File > Open Sample and for the first run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error

if TYPE_CHECKING:
    from napari.types import LayerData

FOLDER = Path(__file__).parents[1] / "samples"

# file's stem: name of its layer
SAMPLES = {"fluorescence": "Fluorescence", "histology": "Histology (H&E)", "brightfield": "Brightfield"}


def _read(stem: str) -> list[LayerData]:
    """One sample as layers for napari."""
    # not at the top of the file: File > Open Sample is listed at napari's start
    from skimage.io import imread

    pixels = imread(FOLDER / f"{stem}.tif")
    rgb = pixels.ndim == 3 and pixels.shape[-1] in (3, 4)
    return [(pixels, {"name": SAMPLES[stem], "rgb": rgb}, "image")]


def fluorescence() -> list[LayerData]:
    """Nuclei, stained, in fluorescence."""
    return _read("fluorescence")


def histology() -> list[LayerData]:
    """Tissue, stained with haematoxylin and eosin, in colour."""
    return _read("histology")


def brightfield() -> list[LayerData]:
    """Cells in transmitted light."""
    return _read("brightfield")


def open_sample(viewer: Any, stem: str) -> bool:
    """Open one sample in a viewer; says why and returns False if it cannot be read."""
    readers: dict[str, Callable[[], list[LayerData]]] = {
        "fluorescence": fluorescence,
        "histology": histology,
        "brightfield": brightfield,
    }
    try:
        layers = readers[stem]()
    except OSError as error:
        show_error(f"The sample is missing from this installation ({error}). Install napari-unet-live again.")
        return False
    for pixels, options, _ in layers:
        viewer.add_image(pixels, **options)
    return True
