"""Keeper: what a session keeps in its project, written in order by the disk's thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import UNetLiveError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.session.disk import Disk
from napari_unet.session.picture import Picture
from napari_unet.session.state import Version
from napari_unet.store.places import default_folder, is_project
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord, VersionRecord

Event = TrainStep | WeightsChanged


class Keeper:
    """Keeps corrections, masks, versions and the curve of a session, and brings them back.

    Parameters
    ----------
    on_state : callable
        Called with (number of writes that wait, sentence of the last failure or '').
    on_kept : callable
        Called in the disk's thread with each edit that is on disk now: it may be learnt.
    """

    def __init__(self, on_state: Callable[[int, str], None], on_kept: Callable[[Edit], None]) -> None:
        self.project: Project | None = None
        self._disk = Disk(on_state)
        self._on_kept = on_kept
        self._unkept: deque[tuple[Edit, Picture]] = deque()

    @property
    def read_only(self) -> str:
        """Why nothing can be saved, as a sentence; '' if it can."""
        return self.project.read_only_reason if self.project else ""

    def find(self, path: Path | None) -> Path | None:
        """The project that was begun for a picture, if there is one."""
        folder = default_folder(path)
        return folder if path is not None and is_project(folder) else None

    def open(self, folder: Path) -> list[str]:
        """Open the project in a folder, or begin one there; what was found damaged, as sentences."""
        project = Project.open_or_create(folder)
        self._disk.flush(2.0)
        if self.project is not None:
            self.project.close()
        self.project = project
        return list(project.problems)

    # --- bringing back -------------------------------------------------------

    def restore(self, picture: Picture) -> list[Edit]:
        """Bring back what the user said of a picture, and its masks; its edits, in order."""
        if self.project is None:
            return []
        edits = [e for e in self.project.edits() if e.picture == picture.key and len(e.box.start) == picture.truth.ndim]
        for edit in edits:
            edit.apply(picture.truth, picture.taught)
        picture.masks = self.project.load_masks(picture.key, picture.source.shape)
        if picture.masks is None and edits:
            picture.masks = np.zeros(picture.source.shape, np.int32)
        if picture.masks is not None:
            known = picture.taught != 0
            picture.masks[known] = picture.truth[known]
        return edits

    def versions(self) -> tuple[Version, ...]:
        """The versions of the model in the project."""
        records = self.project.versions if self.project else ()
        kept = tuple(Version(r.number, r.score, r.learnt) for r in records)
        return kept if any(v.number == 0 for v in kept) else (Version(0, None, 0), *kept)

    def history(self) -> list[Event]:
        """The learning curve of the project."""
        points = self.project.curve if self.project else []
        return [event for point in points if (event := _event_of(point)) is not None]

    # --- keeping -------------------------------------------------------------

    def keep_edit(self, edit: Edit, picture: Picture) -> None:
        """Write an edit; until that succeeds it is tried again with every later one."""
        self._unkept.append((edit, picture))
        self._disk.submit(self._write_edits)

    def retry(self) -> None:
        """Try again to write what could not be written."""
        if self._unkept:
            self._disk.submit(self._write_edits)

    def _write_edits(self) -> None:
        """Write the edits that are not on disk, in their order."""
        while self._unkept:
            edit, picture = self._unkept[0]
            project = self._begin(picture)
            if not project.read_only:
                project.add_edit(edit)
            self._unkept.popleft()
            self._on_kept(edit)

    def _begin(self, picture: Picture) -> Project:
        """The project, begun now if there is none, that knows this picture."""
        if self.project is None:
            self.project = Project.open_or_create(default_folder(Path(picture.path) if picture.path else None))
        if picture.key not in self.project.pictures and not self.project.read_only:
            shape = tuple(picture.source.shape)
            self.project.add_picture(PictureRecord(picture.key, picture.name, picture.path, shape, picture.channels))
        return self.project

    def keep_masks(self, picture: Picture, masks: npt.NDArray[np.int32]) -> None:
        """Write a copy of a label layer, if there is a project."""
        self._write(lambda project: project.save_masks(picture.key, masks))

    def keep_version(self, data: bytes, change: WeightsChanged, learnt: int) -> None:
        """Write a version of the model."""
        record = VersionRecord(change.version, change.score_after, learnt, time.time())
        self._write(lambda project: project.save_model(data, record))

    def keep_points(self, events: list[Event]) -> None:
        """Add to the learning curve."""
        points = [{"type": type(event).__name__, **asdict(event)} for event in events]
        self._write(lambda project: project.append_curve(points))

    def use_version(self, number: int) -> None:
        """Note which version is in use."""
        self._write(lambda project: project.use_version(number))

    def begin_model(self, name: str) -> None:
        """Note that the project goes on from another model."""
        self._write(lambda project: project.begin_model(name))

    def _write(self, write: Callable[[Project], Any]) -> None:
        """Do a write in turn, if there is a project that may be written."""

        def now() -> None:
            if self.project is not None and not self.project.read_only:
                write(self.project)

        self._disk.submit(now)

    def do(self, work: Callable[[], None]) -> None:
        """Do other slow work (reading pictures) in the disk's thread, in turn."""
        self._disk.submit(work)

    def flush(self, timeout: float) -> bool:
        """Wait until everything handed in is written; whether it was in time."""
        return self._disk.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Write what waits, and let another window have the project; whether all was written."""
        done = self._disk.close(timeout) and not self._unkept
        if self.project is not None:
            self.project.close()
        return done


def _event_of(point: dict[str, Any]) -> Event | None:
    """An event of the curve from what was kept; None for a kind that is not known."""
    values = dict(point)
    kinds: dict[str, type[TrainStep] | type[WeightsChanged]] = {
        "TrainStep": TrainStep,
        "WeightsChanged": WeightsChanged,
    }
    kind = kinds.get(str(values.pop("type", "")))
    if kind is None:
        return None
    try:
        event = kind(**values)
    except TypeError:  # a point of another version of this program
        return None
    return replace(event, loss=float("nan")) if isinstance(event, TrainStep) and event.loss is None else event


def sentence_of(error: BaseException) -> str:
    """What to tell the user about an error."""
    if isinstance(error, UNetLiveError):
        return str(error)
    return f"Something went wrong inside U-Net Live ({type(error).__name__}: {error}). Your corrections are kept."
