"""Keeper: what a session keeps in its project, written in order by the disk's thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError, UNetLiveError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.core.picture import Picture
from napari_unet.session.disk import Disk
from napari_unet.session.failures import sentence_of
from napari_unet.session.ledger import Entry
from napari_unet.session.state import Version
from napari_unet.session.telling import tell
from napari_unet.store.files import folder_of
from napari_unet.store.lookup import project_of
from napari_unet.store.places import default_folder
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord, VersionRecord

Event = TrainStep | WeightsChanged
OPEN_WAIT = 2.0
"""Seconds that opening another project waits for the writes of the one before."""
CHANGES_WAITING = 20
"""Changes of the model, most of them whole files, that wait at most while nothing can be written."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Draft:
    """A correction on its way to the disk.

    Attributes
    ----------
    edits : list of Edit
        Its parts: what teaches, and what is held out.
    picture : Picture
    entry : Entry or None
        In the ledger; None for an undo.
    written : int
        How many parts are on disk.
    """

    edits: list[Edit]
    picture: Picture
    entry: Entry | None
    written: int = 0


class Keeper:
    """Keeps corrections, masks, versions and the curve of a session, and brings them back.

    What could not be written stays here, and is tried again with whatever comes next, and after a while.

    Parameters
    ----------
    on_change : callable
        Called when `waiting` or `problem` may have changed.
    on_kept : callable
        Called in the disk's thread with each correction that is on disk now: it may be learnt.
    on_refused : callable
        Called with the sentence of what failed for another reason than the disk.
    """

    def __init__(
        self,
        on_change: Callable[[], object],
        on_kept: Callable[[Draft], object],
        on_refused: Callable[[str], object],
    ) -> None:
        self.project: Project | None = None
        self.problem = ""
        self.era = 0  # counts the projects that were opened: what belongs to an earlier one is not kept any more
        self._on_change, self._on_kept, self._on_refused = on_change, on_kept, on_refused
        self._first: dict[str, Callable[[Project], object]] = {}  # what a project that begins is told
        self._begun: Path | None = None
        self._drafts: deque[Draft] = deque()
        self._changes: deque[Callable[[Project], object]] = deque()
        self._points: deque[dict[str, Any]] = deque()
        self._masks: dict[tuple[str, str], npt.NDArray[np.int32]] = {}  # of a picture and a kind
        self._told: set[str] = set()
        self._turn = threading.Lock()
        self._disk = Disk(lambda error: on_refused(sentence_of(error)), self._when_idle, self._finish)

    @property
    def read_only(self) -> str:
        """Why nothing can be saved, as a sentence; '' if it can."""
        return self.project.read_only_reason if self.project else ""

    @property
    def waiting(self) -> int:
        """Number of things that are not on disk yet."""
        return len(self._drafts) + len(self._changes) + len(self._points) + len(self._masks)

    def find(self, picture: Picture) -> Path | None:
        """The project that was begun for a picture, or that knows it, if there is one."""
        return project_of(Path(picture.path), picture.key, picture.source.shape) if picture.path else None

    def open(self, folder: Path | str) -> bool:
        """Open the project in a folder, or begin one there; False if it is the one that is open.

        Raises
        ------
        ProjectError
            If it is no project, cannot be read, or something of the one before is not saved yet.
        """
        folder = folder_of(folder)
        is_done = self._disk.flush(OPEN_WAIT)
        old = self.project
        if old is not None and _is_same(folder, old.path):
            return False
        # corrections that no project could be begun for go into this one
        if not is_done or (old is not None and self._drafts):
            raise ProjectError(
                f"The last corrections are not saved yet, so no other project is opened. "
                f"{self.problem or 'Try again in a moment.'}"
            )
        project = Project.open_or_create(folder)
        with self._turn:
            self.project, self.problem, self.era = project, "", self.era + 1
            for left in (self._changes, self._points, self._masks):
                left.clear()
        if old is not None:
            old.close()
        self.save()
        return True

    # --- bringing back -------------------------------------------------------

    def edits(self) -> Iterator[Edit]:
        """All edits of the project, in their order."""
        return self.project.edits() if self.project else iter(())

    def drafts(self) -> list[Draft]:
        """What is not on disk yet."""
        return list(self._drafts)

    def new_problems(self) -> list[str]:
        """What was found damaged in the project, each once."""
        found = [p for p in self.project.problems if p not in self._told] if self.project else []
        self._told.update(found)
        return found

    def masks_of(self, picture: Picture, kind: str) -> npt.NDArray[np.int32] | None:
        """The label layer of a kind, 'objects' or 'classes', that was kept for a picture; None if none was."""
        if (waiting := self._masks.get((picture.key, kind))) is not None:
            return waiting.copy()
        return self.project.load_masks(picture.key, picture.source.shape, kind) if self.project else None

    def record_of(self, picture: Picture) -> PictureRecord | None:
        """What the project says of a picture as a whole; None if it does not know it."""
        return self.project.pictures.get(picture.key) if self.project else None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the project."""
        return self.project.settings if self.project else {}

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

    def keep_edits(self, edits: list[Edit], picture: Picture, entry: Entry | None) -> None:
        """Write a correction; a project is begun for the first one."""
        self._drafts.append(Draft(edits, picture, entry))
        self.save()

    def keep_masks(self, picture: Picture, masks: npt.NDArray[np.int32], kind: str) -> None:
        """Write a copy of a label layer of a kind, if there is a project; that knows the picture from then on."""
        if picture.path and self.project is not None and picture.key not in self.project.pictures:
            self.keep_picture(picture)  # without a path it is not looked for: a camera shows thousands
        with self._turn:
            if self._may_write():
                self._masks[picture.key, kind] = masks
        self.save()

    def keep_picture(self, picture: Picture) -> None:
        """Note name and channels of a picture; without a project, that is noted when one begins."""
        name, channels = picture.name, picture.channels
        self._keep_change(
            lambda now: now.add_picture(replace(_record_in(now, picture), name=name, channels=channels)), self.era
        )

    def keep_version(self, data: bytes, change: WeightsChanged, era: int) -> None:
        """Write a version of the model, unless another project was opened since its training began."""
        record = VersionRecord(change.version, change.score_after, change.learnt, time.time())
        if len(self._changes) < CHANGES_WAITING:
            self._keep_change(lambda now: now.save_model(data, record), era)

    def keep_points(self, events: list[Event], era: int) -> None:
        """Add to the learning curve, unless another project was opened since the training began."""
        with self._turn:
            if self._may_write() and era == self.era:
                self._points.extend({"type": type(event).__name__, **asdict(event)} for event in events)
        self.save()

    def use_version(self, number: int, era: int) -> None:
        """Note which version is in use, unless another project was opened since it was chosen."""
        self._keep_change(lambda now: now.use_version(number), era)

    def begin_model(self, name: str, era: int) -> None:
        """Note that the project goes on from another model; one that is begun later starts with it."""
        self._keep_change(lambda now: now.begin_model(name), era, "model")

    def keep_settings(self, settings: dict[str, Any]) -> None:
        """Note how pictures are read and objects built, beside what else is kept; also for one that is begun later."""
        if self.project is None or self.settings != {**self.settings, **settings}:
            self._keep_change(lambda now: now.save_settings({**now.settings, **settings}), self.era, "settings")

    def _keep_change(self, change: Callable[[Project], object], era: int, first: str = "") -> None:
        """Write a change in turn, if the project may be written and is still the one; `first`: or if one is begun."""
        with self._turn:
            if first and era == self.era:
                self._first[first] = change
            if self._may_write() and era == self.era:
                self._changes.append(change)
        self.save()

    def _may_write(self) -> bool:
        """Whether there is a project, and not for reading only."""
        return self.project is not None and not self.project.read_only

    def save(self) -> None:
        """Write what waits, also what could not be written before."""
        if self.waiting:
            self._disk.submit(self._write)
        self._on_change()

    def do(self, work: Callable[[], None]) -> None:
        """Do other slow work (reading pictures) in the disk's thread, in turn."""
        self._disk.submit(work)

    def flush(self, timeout: float) -> bool:
        """Wait until everything handed in is done; whether it was in time."""
        return self._disk.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Write what waits, and let another window have the project; whether all was written in time.

        A disk that is slower goes on in its thread until all is written, and then lets the project go.
        """
        self._disk.submit(self._finish)
        return self._disk.close(timeout) and not self._drafts

    # --- in the disk's thread ------------------------------------------------

    def _when_idle(self) -> None:
        """Try again what failed, and show other machines that this window still runs."""
        if self.waiting:
            self._write()
        elif self.project is not None:
            self.project.refresh_lock()

    def _finish(self) -> None:
        """The last of all."""
        self._write()
        if self._drafts:
            _log.error("%d corrections could not be saved: %s", len(self._drafts), self.problem)
        if self.project is not None:
            self.project.close()

    def _write(self) -> None:
        """Write all that waits, corrections first."""
        kept: list[Draft] = []
        try:
            self._write_drafts(kept)
            if self.project is not None and not self.project.read_only:
                self._write_changes(self.project)
                self._write_points(self.project)
                self._write_masks(self.project)
        except Exception as error:  # noqa: BLE001  whatever it is, work goes on, and what was not written waits here
            is_known = isinstance(error, UNetLiveError)
            self.problem = str(error) if is_known else f"Saving failed ({type(error).__name__}: {error})."
        else:
            self.problem = ""
        self._on_change()
        for draft in kept:
            tell(self._on_kept, draft)

    def _write_drafts(self, kept: list[Draft]) -> None:
        """Write the corrections, in their order."""
        while self._drafts:
            draft = self._drafts[0]
            if self._attempt(partial(self._write_draft, draft)):
                kept.append(draft)
            self._drafts.popleft()

    def _write_draft(self, draft: Draft) -> None:
        """Write one correction; nothing if the project is for reading only, and it is learnt all the same."""
        project = self._begin(draft.picture)
        while draft.written < len(draft.edits):
            if not project.read_only:
                project.add_edit(draft.edits[draft.written])
            draft.written += 1

    def _begin(self, picture: Picture) -> Project:
        """The project, begun now if there is none, that knows this picture."""
        if self.project is None:
            if self._begun is None:  # else it was begun, and the disk refused a part of it
                self._begun = _unused(default_folder(Path(picture.path) if picture.path else None))
            project = Project.open_or_create(self._begun)
            with self._turn:
                self.project = project
                self._changes.extendleft(self._first.values())
        record = _record_in(self.project, picture)
        if self.project.pictures.get(picture.key) != record and not self.project.read_only:
            self.project.add_picture(record)
        return self.project

    def _write_changes(self, project: Project) -> None:
        """Write what became of the model, in order."""
        while self._changes:
            self._attempt(partial(self._changes[0], project))
            self._changes.popleft()

    def _write_points(self, project: Project) -> None:
        """Write the points of the curve."""
        if points := list(self._points):
            self._attempt(lambda: project.append_curve(points))
            for _ in points:
                self._points.popleft()

    def _write_masks(self, project: Project) -> None:
        """Write the label layers."""
        for (key, kind), masks in list(self._masks.items()):
            self._attempt(partial(project.save_masks, key, masks, kind))
            if self._masks.get((key, kind)) is masks:  # else newer ones have come
                del self._masks[key, kind]

    def _attempt(self, write: Callable[[], object]) -> bool:
        """Whether a write was done. What the disk refuses is raised and tried again; what cannot be done, only said."""
        try:
            write()
        except UNetLiveError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self._on_refused(str(error))
            return False
        return True


def _record_in(project: Project, picture: Picture) -> PictureRecord:
    """What a project says of a picture as a whole, or is to say of one that it does not know yet."""
    shape, seen = tuple(picture.source.shape), picture.seen or picture.measured
    new = PictureRecord(picture.key, picture.name, picture.path, shape, picture.channels, diameter=seen)
    known = project.pictures.get(picture.key, new)
    return known if picture.is_inverted is None else replace(known, is_inverted=picture.is_inverted)


def _is_same(folder: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    return folder.absolute() == other or (folder.exists() and other.exists() and folder.samefile(other))


def _unused(folder: Path) -> Path:
    """The folder, or the first of its numbered siblings that is not there: works of two sessions are never mixed."""
    names = (folder.with_name(f"{folder.stem}-{number}{folder.suffix}") for number in count(2))
    return folder if not folder.exists() else next(name for name in names if not name.exists())


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
