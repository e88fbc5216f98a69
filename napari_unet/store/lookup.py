"""Which project a picture belongs to: its own, or the one of another picture that was open at the same time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem
from napari_unet.store.places import (
    CORRECTIONS,
    MANIFEST,
    SUFFIX,
    can_write,
    default_folder,
    follow_hint,
    is_project,
    where_projects_lie,
)
from napari_unet.store.records import JSON_LIMIT, PictureRecord, load

LOOKED_INTO = 50
"""Projects that are looked into, the newest first: a picture is opened at once, also among hundreds of projects."""


def project_of(picture: Path, key: str, shape: Sequence[int]) -> Path | None:
    """The folder of the project that knows a picture; None if there is none.

    Its own goes first, `NAME.unetproj`; then, of those beside it and in the user's data folder, the one changed last
    that knows its key; then the one that knows a picture of the same path and shape.

    Parameters
    ----------
    picture : Path
    key : str
        Its identity.
    shape : ([T, Z,] Y, X)
    """
    own = default_folder(picture)
    if is_project(own):
        return own
    picture, by_path = Path(os.path.abspath(picture)), None
    for folder in _newest(where_projects_lie(picture)):
        records = _records(folder, (key, picture.name))
        if not records or not can_write(folder):  # one for reading only would take no corrections
            continue
        if key in records:
            return folder
        is_there = (r.shape == tuple(shape) and follow_hint(folder, r.path) == picture for r in records.values())
        by_path = by_path or (folder if any(is_there) else None)
    return by_path


def _newest(places: Sequence[Path]) -> list[Path]:
    """The projects in some folders, the one changed last first."""
    changed: dict[Path, int] = {}
    for place in places:
        with suppress(OSError):
            for folder in place.glob(f"*{SUFFIX}"):
                with suppress(OSError):
                    parts = (folder / MANIFEST, folder / CORRECTIONS)
                    changed[folder] = max(part.stat().st_mtime_ns for part in parts)
    return sorted(changed, key=changed.__getitem__, reverse=True)[:LOOKED_INTO]


def _records(folder: Path, words: Sequence[str]) -> dict[str, PictureRecord]:
    """The pictures that a project knows; none if it holds none of the words, or cannot be read."""
    with suppress(ProjectError):  # damaged, or of a newer version
        data = FileSystem().read(folder / MANIFEST, JSON_LIMIT)
        if any(json.dumps(word)[1:-1].encode() in data for word in words):  # else it need not be understood
            contents, _ = load(data)
            return contents.pictures if contents else {}
    return {}
