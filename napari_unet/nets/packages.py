"""The weights in a package of bioimage.io: a zip archive, its folder, or the .yaml in it. Nothing in it is run."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from napari_unet.core.errors import ModelError

OURS = "model.safetensors"
"""The model as we keep it, in the packages that we write."""
DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml")
STATE_DICTS = (".pth", ".pt", ".pytorch")

Stamp = tuple[tuple[str, int, int], ...]
"""Names, times and sizes of files."""


def is_package(path: Path) -> bool:
    """Whether a path names a package."""
    if path.is_dir():
        return any((path / name).is_file() for name in DESCRIPTIONS)
    return path.is_file() and (path.suffix.lower() == ".zip" or path.name in DESCRIPTIONS)


def stamp_of(path: Path) -> Stamp:
    """What tells a file, or those of a package, from another one of the same name."""
    folder = path.parent if path.suffix == ".yaml" else path
    files = sorted(file for file in (folder.iterdir() if folder.is_dir() else [path]) if file.is_file())
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def weights_in(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of a package that may be weights of ours, the model as we keep it first.

    Raises
    ------
    ModelError
        If the package is damaged.
    """
    root: Path | zipfile.Path = path if path.is_dir() else path.parent
    try:
        if path.is_file() and path.suffix.lower() == ".zip":
            root = zipfile.Path(path)
        files = sorted((file for file in root.iterdir() if file.is_file()), key=lambda file: file.name)
        likely = [file for file in files if file.name == OURS]
        for file in likely or [file for file in files if file.name.endswith(STATE_DICTS)]:
            yield file.name, file.read_bytes()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"'{path.name}' is damaged, or no package of bioimage.io.") from error
