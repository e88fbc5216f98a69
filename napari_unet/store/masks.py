"""The label layer of a picture as it was last seen: one file, replaced each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem
from napari_unet.store.npz import pack, unpack, whole_numbers

SHAPELESS_LIMIT = 2**28  # bytes, unpacked, while nobody says how large the picture is
PACKED_LIMIT = 2**31 - 1  # bytes; beyond it the format of the file changes


def masks_file(key: str, kind: str) -> str:
    """Name of the file with the masks of a picture: those of objects, or of classes."""
    return f"{key}.npz" if kind == "objects" else f"{key}.{kind}.npz"


def write_masks(path: Path, files: FileSystem, masks: npt.NDArray[Any]) -> None:
    """Write whole numbers of any shape as int32.

    Raises
    ------
    ProjectError
        If they do not fit into int32, are too large, or cannot be written.
    """
    data = pack({"labels": whole_numbers(masks)})
    if len(data) > PACKED_LIMIT:
        raise ProjectError("The masks of this picture are too large to be kept in the project. Export them instead.")
    files.write_atomic(path, data)


def read_masks(path: Path, files: FileSystem, shape: Sequence[int] | None) -> npt.NDArray[np.int32]:
    """Read what `write_masks` wrote.

    Parameters
    ----------
    path : Path
    files : FileSystem
    shape : sequence of int or None
        Of the picture that is open; it also bounds what the file may unpack to.

    Raises
    ------
    ProjectError
        If it cannot be read, is damaged, or has another shape.
    """
    limit = SHAPELESS_LIMIT if shape is None else 4 * int(np.prod(tuple(shape), dtype=np.int64)) + 1024
    # noise is packed to a little more than it was
    arrays = unpack(files.read(path, limit + limit // 1000 + 2**20), ("labels",), limit, path.name)
    masks = arrays.get("labels")
    if masks is None or masks.dtype != np.int32:
        raise ProjectError(f"'{path.name}' holds no masks.")
    if shape is not None and masks.shape != tuple(shape):
        raise ProjectError(f"'{path.name}' has the shape {masks.shape} and the picture {tuple(shape)}.")
    return masks
