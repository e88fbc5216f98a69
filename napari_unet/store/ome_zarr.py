"""OME-Zarr folders: open pictures of any version, make labels of version 0.5."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from napari_unet.core.arrays import axes_of
from napari_unet.core.errors import ImageError, LabelsError
from napari_unet.core.image import ImageSource
from napari_unet.store.files import FileSystem

ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
LABEL_BLOCK = 512  # pixels along Y and X of a chunk of labels
OLD_AXES = "TCZYX"  # OME-Zarr 0.1 and 0.2 have no other order, and do not write it down


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in ZARR_FILES))


def open_zarr(path: Path, *, channel_axis: int | None = None) -> ImageSource:
    """Open a zarr array, or the first multiscale picture of an OME-Zarr folder (0.1 to 0.5).

    Parameters
    ----------
    path : Path
    channel_axis : int, optional
        The axis of the stored array that holds channels; None: what the folder says.

    Raises
    ------
    ImageError
        If there is no picture in it.
    """
    opened = zarr.open(path, mode="r")
    if isinstance(opened, zarr.Array):
        return ImageSource.of_array(opened, channel_axis=channel_axis, name=path.name)
    group = _group_with_picture(opened)
    multiscale = _ome(group)["multiscales"][0]
    levels = [_array(group, dataset["path"]) for dataset in multiscale["datasets"]]
    letters = "".join(_letter(axis) for axis in multiscale.get("axes", OLD_AXES))
    scale = _scale(multiscale, len(letters))
    if channel_axis is not None:
        scale = [size for a, size in enumerate(scale) if a != channel_axis % len(scale)]
        return ImageSource.of_array(levels, channel_axis=channel_axis, voxel_size=scale, name=path.name)
    by_letter = dict(zip(letters, scale, strict=True))
    return ImageSource.of_named_axes(levels, letters, voxel_size=by_letter, name=path.name)


def _ome(group: zarr.Group) -> dict[str, Any]:
    """The OME attributes of a group, of any version."""
    attributes: Any = group.attrs.asdict()
    ome: dict[str, Any] = attributes.get("ome", attributes)
    return ome


def _group_with_picture(group: zarr.Group) -> zarr.Group:
    """The group itself, or the first picture of a bioformats2raw folder."""
    if "multiscales" in _ome(group):
        return group
    if "plate" in _ome(group) or "well" in _ome(group):
        raise ImageError("this OME-Zarr is a plate of many pictures; give one of the fields inside it.")
    first = group.get("0")
    if isinstance(first, zarr.Group) and "multiscales" in _ome(first):
        return first
    raise ImageError("this zarr folder has no OME-Zarr picture in it; give one with 'multiscales', or a single array.")


def other_pictures(path: Path) -> list[str]:
    """Names of the pictures of a bioformats2raw folder that `open_zarr` leaves out: all but the first."""
    group = zarr.open(path, mode="r")
    if isinstance(group, zarr.Array) or "multiscales" in _ome(group):
        return []
    return sorted(
        (name for name, inside in group.groups() if "multiscales" in _ome(inside) and name != "0"), key=_order
    )


def _order(name: str) -> tuple[int, str]:
    """Numbers by their size, other names after them."""
    return (int(name), "") if name.isdecimal() else (sys.maxsize, name)


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    """One level of a picture."""
    array = group[path]
    if not isinstance(array, zarr.Array):
        raise ImageError(f"the level '{path}' of this OME-Zarr is no array; save the picture again.")
    return array


def _letter(axis: str | dict[str, str]) -> str:
    """One letter for an axis: its own name, or what its type says; Q for any other."""
    axis = {"name": axis} if isinstance(axis, str) else axis
    name = axis["name"].upper()
    return name if name in OLD_AXES else {"time": "T", "channel": "C"}.get(axis.get("type", ""), "Q")


def _scale(multiscale: dict[str, Any], axes: int) -> list[float]:
    """Extent of a voxel of the first level, for each axis."""
    scale = [1.0] * axes
    transforms = [multiscale["datasets"][0], multiscale]
    for transform in (t for holder in transforms for t in holder.get("coordinateTransformations", ())):
        if transform.get("type") == "scale" and len(transform.get("scale", ())) == axes:
            scale = [a * float(b) for a, b in zip(scale, transform["scale"], strict=True)]
    return scale


def create_label_zarr(
    path: Path,
    shape: Sequence[int],
    *,
    axes: str = "",
    voxel_size: Sequence[float] | None = None,
    dtype: npt.DTypeLike = np.uint32,
    resume: bool = False,
    name: str = "",
) -> zarr.Array[Any]:
    """Make an OME-Zarr 0.5 folder of labels to write blocks into; napari opens it as it is.

    Chunks are 512 x 512 pixels of one plane. Writers of different chunks do not disturb each other. A chunk that
    is all background is not stored, so a missing one does not mean that it was not done.

    Parameters
    ----------
    path : Path
        The folder, by custom ending in .ome.zarr.
    shape : sequence of int
        ([T,] [Z,] Y, X)
    axes : str
        One letter for each axis; by default as in `shape`.
    voxel_size : sequence of float, optional
        Extent of a voxel along each axis; 1 if it is not known.
    dtype : dtype
        Whole numbers.
    resume : bool
        Take the folder that is there and keep what it holds, if it has the same shape and type.
    name : str
        What viewers call it; by default the folder's name.

    Returns
    -------
    zarr.Array
        All 0 where nothing was written.

    Raises
    ------
    LabelsError
        If something is there already and is not to be resumed, or does not match.
    ProjectError
        If the folder cannot be made.
    """
    path, shape, dtype = Path(path), tuple(int(n) for n in shape), np.dtype(dtype)
    if path.exists():
        return _resumed(path, shape, dtype, resume=resume)
    FileSystem().make_folder(path.parent)
    axes = (axes or axes_of(len(shape))).lower()
    metadata = _label_metadata(name or path.name, axes, voxel_size or (1.0,) * len(shape))
    group = zarr.create_group(path, attributes={"ome": metadata})
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=(1,) * (len(shape) - 2) + tuple(min(n, LABEL_BLOCK) for n in shape[-2:]),
        fill_value=0,
        dimension_names=list(axes),
    )


def _label_metadata(name: str, axes: str, voxel_size: Sequence[float]) -> dict[str, Any]:
    """What OME-Zarr 0.5 wants to know of a label picture of one level."""
    kinds = {"t": "time", "z": "space", "y": "space", "x": "space"}
    transform = {"type": "scale", "scale": [float(size) for size in voxel_size]}
    multiscale = {
        "name": name,
        "axes": [{"name": letter, "type": kinds[letter]} if letter in kinds else {"name": letter} for letter in axes],
        "datasets": [{"path": "0", "coordinateTransformations": [transform]}],
    }
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {}}


def _resumed(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], *, resume: bool) -> zarr.Array[Any]:
    """The labels that an earlier run began."""
    if not resume:
        raise LabelsError(f"'{path}' is there already; remove it, or choose another name.")
    try:
        array = zarr.open_array(path / "0", mode="r+")
    except (OSError, ValueError, KeyError) as error:
        raise LabelsError(f"'{path}' does not hold labels to go on with; remove it, or choose another name.") from error
    if array.shape != shape or array.dtype != dtype:
        raise LabelsError(
            f"'{path}' holds {array.dtype} labels of {array.shape}, not {dtype} of {shape}; remove it to begin anew."
        )
    return array
