"""The speeds measured on this computer, in the user's cache: lost, they are measured again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from napari_unet.core.errors import ProjectError
from napari_unet.core.speeds import Speed, speeds_from_json, speeds_to_json
from napari_unet.store.files import FileSystem

LARGEST = 1 << 20
"""Bytes that are read; more are none of ours."""


def read_speeds(measured_on: str) -> list[Speed]:
    """What was measured on one kind of model; nothing if that never was, or cannot be read any more."""
    return _read().get(measured_on, [])


def write_speeds(measured_on: str, speeds: list[Speed]) -> None:
    """Keep what was measured. A cache that cannot be written is one that is not there."""
    try:
        files = FileSystem()
        files.make_folder(_path().parent)
        files.write_atomic(_path(), speeds_to_json({**_read(), measured_on: speeds}).encode())
    except ProjectError:
        return


def _read() -> dict[str, list[Speed]]:
    """All tables."""
    try:
        return speeds_from_json(FileSystem().read(_path(), LARGEST).decode("utf-8", "replace"))
    except (ProjectError, ValueError):
        return {}


def _path() -> Path:
    """The file in the folder that the system has for caches."""
    home = Path.home()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folder / "unet-live" / "speeds.json"
