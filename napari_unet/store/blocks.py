"""The blocks of a large picture that are predicted already: one file each, so that nothing is done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem
from napari_unet.store.npz import pack, unpack, whole_numbers

PLAN = "plan.json"
LARGEST_PLAN = 1 << 20


class Blocks:
    """A folder of labels of blocks. Each file is whole or not there; whoever writes one again writes the same.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._files = folder, FileSystem()

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Keep the blocks that were made by the same plan, and none that were made by another one.

        Raises
        ------
        ProjectError
            If the folder cannot be made.
        """
        text = json.dumps(plan, sort_keys=True).encode()
        if self.folder.exists() and self._plan() != text:
            shutil.rmtree(self.folder)
        self._files.make_folder(self.folder)
        self._files.write_atomic(self.folder / PLAN, text)

    def has(self, number: int) -> bool:
        """Whether a block is there."""
        return self._path(number).is_file()

    def write(self, number: int, labels: npt.NDArray[np.int32]) -> None:
        """Keep the labels of a block."""
        self._files.write_atomic(self._path(number), pack({"labels": whole_numbers(labels)}))

    def read(self, number: int, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
        """The labels of a block.

        Raises
        ------
        ProjectError
            If the file is damaged.
        """
        path, size = self._path(number), 4 * int(np.prod(shape)) + 1024
        labels = unpack(self._files.read(path, size + 2**20), ("labels",), size, path.name).get("labels")
        if labels is None or labels.shape != shape or labels.dtype != np.int32:
            raise ProjectError(f"'{path}' is not the block it should be. Delete it and begin again.")
        return labels

    def _path(self, number: int) -> Path:
        """The file of a block."""
        return self.folder / f"{number}.npz"

    def _plan(self) -> bytes:
        """By what the blocks that are there were made."""
        try:
            return self._files.read(self.folder / PLAN, LARGEST_PLAN)
        except ProjectError:
            return b""
