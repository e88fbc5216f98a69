"""The file `project.json` in its folder: read, replace, copy aside, make again from what else is there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from napari_unet.core.corrections import Edit
from napari_unet.store.files import FileSystem
from napari_unet.store.models import model_names, serial_of
from napari_unet.store.places import MANIFEST, MODELS
from napari_unet.store.records import JSON_LIMIT, Contents, PictureRecord, VersionRecord, dump, load


def read_manifest(folder: Path, files: FileSystem) -> tuple[Contents | None, list[str]]:
    """What `project.json` says, and what is wrong with it; None if there is none, or nothing of it can be read.

    Raises
    ------
    ProjectError
        If the disk cannot read it, a newer version wrote it, or it is nothing that we ever write.
    """
    if not os.path.lexists(folder / MANIFEST):
        return None, []
    return load(files.read(folder / MANIFEST, JSON_LIMIT))


def write_manifest(folder: Path, files: FileSystem, contents: Contents) -> None:
    """Replace `project.json`.

    Raises
    ------
    ProjectError
        If it cannot be written; the earlier one is then still there.
    """
    files.write_atomic(folder / MANIFEST, dump(contents))


def keep_damaged(folder: Path, files: FileSystem) -> str:
    """Copy a damaged `project.json` before it is replaced; the name of the copy."""
    return files.copy_aside(folder / MANIFEST, JSON_LIMIT).name


def rebuild(folder: Path, files: FileSystem, edits: Iterable[Edit]) -> Contents:
    """What corrections and models alone tell, when `project.json` is lost."""
    keys = dict.fromkeys(edit.picture for edit in edits)
    names = model_names(folder / MODELS, files)
    versions = tuple(VersionRecord(number=serial_of(name), file=name) for name in names)
    return Contents(
        pictures={key: PictureRecord(key, name=key[:12]) for key in keys},
        versions=versions,
        current=max((version.number for version in versions), default=0),
    )
