"""Picture and label files: TIFF, PNG, JPEG and OME-Zarr, for the command line and the project.

A large file is opened, not read: an `ImageSource` reads the boxes that are asked for.
"""

from __future__ import annotations

import io
import logging
import math
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr
from PIL import Image, ImageSequence

from napari_unet.core.arrays import axes_of, last_channels_axis
from napari_unet.core.errors import ImageError, LabelsError, UNetLiveError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.store.files import FileSystem
from napari_unet.store.ome_zarr import create_label_zarr, is_zarr, open_zarr, other_pictures

__all__ = [
    "create_label_zarr",
    "find_pictures",
    "find_unread",
    "read_labels",
    "read_picture",
    "unread_in",
    "write_labels",
]

TIFF_ENDINGS = (".tif", ".tiff")
PICTURE_ENDINGS = (*TIFF_ENDINGS, ".png", ".jpg", ".jpeg")
READABLE = "TIFF, PNG, JPEG or OME-Zarr"

LARGE = 2**28  # bytes: a larger TIFF is read tile by tile
LARGEST_PART = 2**26  # bytes of a tile or strip that is still quick to unpack for a few of its voxels
LABEL_TYPES = (np.uint16, np.uint32)
LARGEST_SIZE = 4e9  # of a pixel, and 1 by it the least: a TIFF holds it as a fraction of two numbers of 32 bits
# how pictures are read that PIL would give as numbers of a palette, as inks, or with alpha beside gray
COLOUR_MODES = {"P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
GRAY_STEPS = {2: 85, 4: 17}  # by which Pillow multiplies the numbers of a gray PNG of so many bits

Labels = npt.NDArray[np.integer]

# what tifffile says about damaged files would otherwise be printed beside our own sentence
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Collect the picture files among files and in folders.

    A folder gives the pictures that lie directly in it; an OME-Zarr folder is one picture. Files with an ending that
    is not read are skipped (`find_unread` tells those that were named), and hidden ones in folders.

    Returns
    -------
    list of Path
        Sorted, each once, however it is spelled; at least one.

    Raises
    ------
    ImageError
        If a path does not exist, or there is no picture at all.
    """
    found: dict[str, Path] = {}
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise ImageError(f"There is no file or folder '{path}'; check its name.")
        # macOS puts ._a.tif beside a.tif
        inside = [path] if _is_one(path) else [p for p in path.iterdir() if not p.name.startswith(".")]
        for picture in filter(_is_picture, inside):
            found.setdefault(os.path.abspath(picture), picture)  # however it is spelled; a link is one of its own
    if not found:
        names = ", ".join(f"'{path}'" for path in paths) or "what was named"
        raise ImageError(f"There is no picture in {names}; give {READABLE} files, or a folder of them.")
    return sorted(found.values())


def find_unread(paths: Iterable[Path]) -> list[Path]:
    """The files among some paths, not in folders, that `find_pictures` skips: none that is read."""
    return sorted({path for path in map(Path, paths) if _is_one(path) and not _is_picture(path)})


def read_picture(path: Path, *, channel_axis: int | None = None) -> ImageSource:
    """Open a picture file.

    Parameters
    ----------
    path : Path
        TIFF (OME, ImageJ or plain), PNG, JPEG, or an OME-Zarr folder (0.1 to 0.5).
    channel_axis : int, optional
        The axis of the stored array that holds channels; None: what the file says, else a guess for colour.

    Raises
    ------
    ImageError
        If it is no picture, or none that can be segmented; the sentence names the file.
    """
    path = Path(path)
    with _naming(path):
        if is_zarr(path):
            return open_zarr(path, channel_axis=channel_axis)
        if path.is_symlink() and not path.exists():
            raise ImageError("it is a link to a file that is not there; mend the link, or delete it.")
        if not path.is_file():
            raise ImageError(f"there is no such file, or it is a folder without {READABLE}; check its name.")
        if path.suffix.lower() in TIFF_ENDINGS:
            return _read_tiff(path, channel_axis)
        if path.suffix.lower() not in PICTURE_ENDINGS:
            raise ImageError(f"the ending '{path.suffix}' is not read; save the picture as {READABLE}.")
        return _read_plain(path, channel_axis)


def unread_in(path: Path) -> str:
    """The sentence that says that a file holds more pictures than the first, which alone is read; '' if it does not.

    Smaller copies of the first one (a pyramid, a thumbnail) are no other pictures.
    """
    try:
        if is_zarr(path):
            others = other_pictures(path)
            advice = f"Give each by its own folder, like '{path / others[0]}'." if others else ""
        else:
            others = _other_series(path) if path.suffix.lower() in TIFF_ENDINGS else []
            advice = "Save each in a file of its own."
    except Exception:  # noqa: BLE001  whoever reads the picture says what is wrong with it
        return ""
    return f"'{path}' holds {len(others) + 1} pictures, and only the first is read. {advice}" if others else ""


def read_labels(path: Path) -> Labels:
    """Read a whole label file: objects 1..N and background 0, or class ids.

    Returns
    -------
    ([T,] [Z,] Y, X) int
        In the file's own type; floats that are whole numbers become int64, bool becomes uint8.

    Raises
    ------
    LabelsError
        If it is a colour picture, has channels, or holds fractions.
    ImageError
        If it is no picture at all.
    """
    source = read_picture(path)
    if source.is_color:
        raise LabelsError(f"'{path}' is a colour picture; save its labels as one channel of whole numbers.")
    if source.channels > 1:
        raise LabelsError(f"'{path}' has {source.channels} channels; save its labels as one channel of whole numbers.")
    values: npt.NDArray[Any] = source.read(Box.whole(source.shape))[0]
    if not np.issubdtype(values.dtype, np.floating):
        step = _gray_step(Path(path))
        return values if step == 1 else values // step
    if not (np.isfinite(values).all() and (values == np.round(values)).all() and np.abs(values).max() < 2**53):
        raise LabelsError(f"'{path}' holds numbers that are not whole; save its labels as whole numbers.")
    return values.astype(np.int64)


def write_labels(path: Path, labels: Labels, like: ImageSource | None = None) -> None:
    """Write labels as TIFF: zlib, the smallest type that holds them, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in .tif or .tiff; replaced if it is there, its folder is made if it is not.
    labels : ([T,] [Z,] Y, X) int
    like : ImageSource, optional
        The picture that they belong to: its axes and voxel size are written along.

    Raises
    ------
    LabelsError
        If they are no labels, do not cover the picture, or are negative or above 2**32 - 1.
    ProjectError
        If the file cannot be written.
    """
    path = Path(path)
    _check_labels(labels, like)
    kind = next(t for t in LABEL_TYPES if labels.max() <= np.iinfo(t).max)
    is_known = like is not None and all(1 / LARGEST_SIZE <= size <= LARGEST_SIZE for size in like.voxel_size[-2:])
    voxel_size = like.voxel_size if like is not None and is_known else (1.0,) * labels.ndim
    axes = axes_of(labels.ndim) if like is None else like.letters
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        labels.astype(kind),
        bigtiff=labels.nbytes >= 2**32 - 2**25,
        compression="zlib",
        photometric="minisblack",  # otherwise 3 planes are taken for red, green and blue
        resolution=(1 / voxel_size[-1], 1 / voxel_size[-2]),
        resolutionunit="NONE",
        metadata={"axes": axes, "spacing": voxel_size[-3] if labels.ndim > 2 else 1.0},
    )
    files = FileSystem()
    files.make_folder(path.parent)
    files.write_atomic(path, buffer.getvalue())


# --- what is a picture ---------------------------------------------------------------------------


def _is_one(path: Path) -> bool:
    """Whether a path is no folder of pictures."""
    return is_zarr(path) or not path.is_dir()


def _is_picture(path: Path) -> bool:
    """Whether a file's ending, or a folder's content, is one that is read; that a link leads nowhere is said then."""
    is_file = path.is_file() or not path.exists()
    return is_zarr(path) or (is_file and path.suffix.lower() in PICTURE_ENDINGS)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before whatever is wrong with it."""
    try:
        yield
    except UNetLiveError as error:
        text = str(error)
        raise ImageError(f"'{path}': {text[0].lower()}{text[1:]}") from error
    except Exception as error:  # readers of damaged files raise anything: struct.error, KeyError, zlib.error ...
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise ImageError(f"'{path}' cannot be read as a picture ({reason}); save it again as {READABLE}.") from error


# --- TIFF, PNG, JPEG -----------------------------------------------------------------------------


def _read_tiff(path: Path, channel_axis: int | None) -> ImageSource:
    """Open the first series of a TIFF; pages that were written one by one, and are alike, are one stack."""
    options = _options_for(path)
    with tifffile.TiffFile(path, **options) as tif:
        if not tif.series:
            raise ImageError("the TIFF has no picture in it; save it again.")
        series = tif.series[0]
        axes, shape, scale = series.axes, series.shape, _tiff_voxel_size(tif)
        levels = _lazy_levels(path, series, options) or [_unpacked(path, series)]
    if channel_axis is not None:
        sizes = [scale.get(letter, 1.0) for a, letter in enumerate(axes) if a != channel_axis % len(axes)]
        return ImageSource.of_array(levels, channel_axis=channel_axis, voxel_size=sizes, name=path.name)
    # tifffile calls an axis Q or I that the file says nothing of: (Y, X, 3) then is a stack by name alone
    last = last_channels_axis(shape)
    if set(axes) <= set("QIYX") and len(shape) == 3 and (shape[-1] in (3, 4) or last):
        return ImageSource.of_array(levels, channel_axis=last, name=path.name)
    return ImageSource.of_named_axes(levels, axes, voxel_size=scale, name=path.name)


def _options_for(path: Path) -> dict[str, Any]:
    """How tifffile is to read a TIFF: each page that it wrote by itself is a series to it, and the others were lost."""
    with tifffile.TiffFile(path) as tif:
        each = {(series.axes, series.shape, series.dtype) for series in tif.series}
        return {"is_shaped": False} if tif.is_shaped and len(tif.series) > 1 and len(each) == 1 else {}


def _other_series(path: Path) -> list[str]:
    """Names of the pictures of a TIFF after its first: other images of an OME file, pages of other sizes."""
    with tifffile.TiffFile(path, **_options_for(path)) as tif:
        return [series.name for series in tif.series[1:] if not series.keyframe.is_reduced]


def _lazy_levels(path: Path, series: tifffile.TiffPageSeries, options: dict[str, Any]) -> list[Any]:
    """The levels of a large TIFF as arrays that read what is asked for; none if it is better read at once."""
    if series.nbytes < LARGE:
        return []
    if series.dataoffset is not None and not options:
        return [tifffile.memmap(path, series=0, mode="r")]
    part = math.prod(series.keyframe.chunks) * series.dtype.itemsize
    if part > LARGEST_PART:
        return []  # one tile or strip holds it all, and would be unpacked again for each box
    store = tifffile.imread(path, series=0, aszarr=True, **options)
    opened = zarr.open(store, mode="r")
    levels = [opened] if isinstance(opened, zarr.Array) else [opened[str(n)] for n in range(len(series.levels))]
    weakref.finalize(levels[0], store.close)  # the file stays open for as long as the picture can be read
    return levels


def _unpacked(path: Path, series: tifffile.TiffPageSeries) -> npt.NDArray[Any]:
    """Read a whole series; what tifffile cannot unpack by itself (LZW, JPEG) is left to Pillow's libtiff."""
    try:
        return np.asarray(series.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        with Image.open(path, formats=("TIFF",)) as image:
            data = np.stack([np.asarray(plane) for plane in ImageSequence.Iterator(image)])
        if data.size != math.prod(series.shape) or data.dtype.newbyteorder("=") != series.dtype.newbyteorder("="):
            raise ImageError(
                "its compression needs another package; install it with 'pip install imagecodecs'."
            ) from error
        return data.reshape(series.shape)


def _tiff_voxel_size(tif: tifffile.TiffFile) -> dict[str, float]:
    """Extent of a voxel by axis, as OME or ImageJ metadata say; empty if they do not."""
    if tif.is_ome and tif.ome_metadata:
        images = tifffile.xml2dict(tif.ome_metadata).get("OME", {}).get("Image", {})
        first = images[0] if isinstance(images, list) else images
        pixels = first.get("Pixels", {})
        sizes = {axis: pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"}
        return {axis: float(size) for axis, size in sizes.items() if isinstance(size, int | float)}
    described = tif.imagej_metadata or (tif.shaped_metadata or ({},))[0]
    sizes = {"Z": described.get("spacing")}
    for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
        pixels_per_unit = tif.pages.first.tags.valueof(tag)
        if "spacing" in described and pixels_per_unit and pixels_per_unit[0]:
            sizes[axis] = pixels_per_unit[1] / pixels_per_unit[0]
    return {axis: float(size) for axis, size in sizes.items() if isinstance(size, int | float)}


def _read_plain(path: Path, channel_axis: int | None) -> ImageSource:
    """Read a PNG or JPEG, whatever its ending says; no other format, some of which start programs."""
    with Image.open(path, formats=("PNG", "JPEG")) as image:
        converted = COLOUR_MODES.get(image.mode)
        data = np.asarray(image.convert(converted) if converted else image)
    color = data.ndim == 3 and channel_axis is None
    return ImageSource.of_array(data, rgb=color, channel_axis=channel_axis, name=path.name)


# --- labels --------------------------------------------------------------------------------------


def _gray_step(path: Path) -> int:
    """How many grays of a picture that was read make one number of its file: more than 1 in PNGs of few bits."""
    if not path.is_file():
        return 1
    with path.open("rb") as file:
        head = file.read(26)  # the size of a number is the byte before the last, and 0 at the end is gray
    is_gray = head.startswith(PNG_HEAD) and head[25] == 0
    return GRAY_STEPS.get(head[24], 1) if is_gray else 1


def _check_labels(labels: Labels, like: ImageSource | None) -> None:
    """Refuse what cannot be written as labels of a picture."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise LabelsError(f"Labels must be whole numbers, not {labels.dtype}; convert them first.")
    if labels.ndim < 2 or not labels.size:
        raise LabelsError(f"Labels of shape {labels.shape} cannot be saved; they need at least one pixel (Y, X).")
    if labels.min() < 0 or labels.max() > np.iinfo(LABEL_TYPES[-1]).max:
        low, high = labels.min(), labels.max()
        raise LabelsError(f"Labels from {low} to {high} cannot be saved; number the objects 1 to {2**32 - 1} anew.")
    if like is not None and like.shape != labels.shape:
        raise LabelsError(f"The labels are {labels.shape} and the picture is {like.shape}; they must be alike.")
