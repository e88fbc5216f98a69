"""Where a project goes when the user has not said so, and what may be in a folder that is one."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path, PureWindowsPath

from napari_unet.core.errors import ProjectError
from napari_unet.store.edits import DEVICE_NAMES
from napari_unet.store.lock import HOLDER, LOCK

SUFFIX = ".unetproj"
MANIFEST = "project.json"
CORRECTIONS, MODELS, MASKS = "corrections", "models", "masks"
FOLDERS = (CORRECTIONS, MODELS, MASKS)


def default_folder(picture_path: Path | None) -> Path:
    """The project folder for a picture: beside it where that is possible.

    Parameters
    ----------
    picture_path : Path or None
        File or folder of the picture; None if it has none (a sample, a computed layer).

    Returns
    -------
    Path
        `NAME.unetproj` beside the picture if one is there or can be made there; else in the folder that
        the system has for a user's data. Not made yet. The same picture always gives the same folder.
    """
    if picture_path is None:
        return _data_folder() / f"untitled{SUFFIX}"
    picture = _outside_zarr(Path(os.path.abspath(picture_path)))
    name = picture.name.removesuffix(picture.suffix).removesuffix(".ome") or "untitled"
    beside = picture.parent / f"{name}{SUFFIX}"
    if can_write(beside if beside.is_dir() else picture.parent):
        return beside
    # pictures of one name lie in many folders: the folder's own name keeps them apart
    where = hashlib.sha256(str(picture.parent).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return _data_folder() / f"{name}-{where}{SUFFIX}"


def where_projects_lie(picture_path: Path) -> tuple[Path, Path]:
    """The folders in which the projects of a picture and of its neighbours may be: beside it, and the user's own."""
    return _outside_zarr(Path(os.path.abspath(picture_path))).parent, _data_folder()


def is_project(path: Path) -> bool:
    """Whether a folder is a project, be it a damaged one."""
    return os.path.lexists(path / MANIFEST) or (path / CORRECTIONS).is_dir()


def check_inside(folder: Path) -> None:
    """Refuse a project whose parts are links: what is written there would land elsewhere.

    Raises
    ------
    ProjectError
        If a part of the project is a link or a junction.
    """
    for name in (*FOLDERS, MANIFEST, LOCK, HOLDER):
        part = folder / name
        if os.path.lexists(part) and os.path.realpath(part) != os.path.join(os.path.realpath(folder), name):
            raise ProjectError(f"'{name}' in {folder} is a link to somewhere else. Put the real one there to open it.")


def hint_of(folder: Path, path: str) -> str:
    """How a project keeps a picture's path: relative, if it lies near enough that both would be moved together."""
    if not path or not Path(path).is_absolute() or folder.parent not in Path(path).parents:
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def follow_hint(folder: Path, hint: str) -> Path | None:
    """The path that `hint_of` kept; None for one that would lead off this machine.

    A project may come from a stranger: merely looking at an address or a network name can give the
    user's password away on Windows, and a device can block.
    """
    parts = hint.lower().replace("\\", "/").split("/")
    is_device = any(DEVICE_NAMES.fullmatch(part.split(".")[0].strip()) for part in parts)
    is_foreign = bool(PureWindowsPath(hint).drive) and os.name != "nt"
    if not hint or parts[:2] == ["", ""] or is_device or is_foreign or "\0" in hint or "://" in hint:
        return None
    return Path(os.path.normpath(folder / hint))


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    # asking for the permission is not enough on network shares and on Windows; a nameless file tells
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _outside_zarr(picture: Path) -> Path:
    """The outermost `.zarr` folder around a path, if there is one: a project has no place inside it."""
    around = [parent for parent in (picture, *picture.parents) if parent.suffix == ".zarr"]
    return around[-1] if around else picture


def _data_folder() -> Path:
    """The system's folder for a user's data, and ours in it."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "unet-live" / "projects"
