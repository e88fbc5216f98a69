"""The model files of a project: numbered, never overwritten."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem
from napari_unet.store.records import MODEL_FILE, Contents, VersionRecord

KEPT = 10
MODEL_LIMIT = 2**32  # bytes
NAME_TRIES = 100


def serial_of(name: str) -> int:
    """The number in a model file's name."""
    return int(name.split(".")[0])


def model_names(folder: Path, files: FileSystem) -> list[str]:
    """Names of the model files in a folder, oldest first."""
    return sorted((name for name in files.names(folder) if MODEL_FILE.fullmatch(name)), key=serial_of)


def write_model(folder: Path, files: FileSystem, data: bytes) -> str:
    """Write a file with a number that no other has had; its name.

    Raises
    ------
    ProjectError
        If it cannot be written.
    """
    names = model_names(folder, files)
    serial = serial_of(names[-1]) if names else 0
    for _ in range(NAME_TRIES):
        serial += 1
        name = f"{serial:06d}.safetensors"
        if not MODEL_FILE.fullmatch(name):
            break
        try:
            files.write_new(folder / name, data)
        except ProjectError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
        else:
            return name
    raise ProjectError(f"No free name was found in {folder}. Save the project elsewhere.")


def with_version(contents: Contents, version: VersionRecord) -> Contents:
    """Contents with one version more, which is the current one; of the others the pinned and the newest ten stay."""
    versions = sorted((*contents.versions, version), key=lambda each: each.number)
    old = [each for each in versions if not each.pinned and each.number != version.number][:-KEPT]
    kept = tuple(each for each in versions if each not in old)
    return replace(contents, versions=kept, current=version.number)


def remove_old_models(folder: Path, files: FileSystem, kept: Collection[str]) -> None:
    """Delete files that are neither in `kept` nor among the newest ten."""
    for name in model_names(folder, files)[:-KEPT]:
        if name not in kept:
            with suppress(ProjectError):  # the new version is saved; an old file that stays does no harm
                files.remove(folder / name)
