"""Project: what is kept on disk of a user's work."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError, ReadOnlyError
from napari_unet.store.edits import is_key
from napari_unet.store.files import FileSystem, folder_of
from napari_unet.store.journal import Journal
from napari_unet.store.lock import ProjectLock
from napari_unet.store.manifest import keep_damaged, read_manifest, rebuild, write_manifest
from napari_unet.store.masks import masks_file, read_masks, write_masks
from napari_unet.store.models import MODEL_LIMIT, remove_old_models, with_version, write_model
from napari_unet.store.places import CORRECTIONS, FOLDERS, MASKS, MODELS, check_inside, follow_hint, hint_of, is_project
from napari_unet.store.records import Contents, PictureRecord, Point, VersionRecord, plain, shorten


class Project:
    """One project folder: pictures' identities, corrections, models, masks and settings.

    Open one with `create`, `open` or `open_or_create`, and close it (or use it in `with`). Every method
    that writes returns when the data would outlive a power cut, and raises a ProjectError otherwise; what was
    saved before is then still there. Methods may be called from any thread.

    Attributes
    ----------
    path : Path
    read_only : bool
    read_only_reason : str
        Why nothing can be written, as a sentence; '' if it can.
    problems : list of str
        What was found damaged and set aside, as sentences.
    """

    def __init__(self, path: Path, files: FileSystem, lock: ProjectLock | None, reason: str) -> None:
        self.path = path
        self.read_only_reason = reason
        self.problems: list[str] = []
        self._files = files
        self._lock = lock
        self._turn = threading.RLock()
        self._is_closed = False
        self._contents = Contents()
        self._journal = Journal(path / CORRECTIONS, files, self._note, may_repair=not reason)

    # Opening and closing -----------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | str, *, files: FileSystem | None = None) -> Self:
        """Begin a project in a folder that is new or empty.

        Raises
        ------
        ProjectError
            If there is a project already, or anything else, or nothing can be written there.
        """
        folder, files = folder_of(path), files or FileSystem()
        if folder.exists() and not folder.is_dir():
            raise ProjectError(f"{folder} is a file, not a folder. Choose another name for the project.")
        if is_project(folder):
            raise ProjectError(f"There is a project in {folder} already. Open it, or choose another folder.")
        if any(not name.startswith(".") for name in files.names(folder)):
            raise ProjectError(f"The folder {folder} holds other files. Choose an empty or a new folder.")
        for name in FOLDERS:
            files.make_folder(folder / name)
        return cls.open(folder, files=files)

    @classmethod
    def open(cls, path: Path | str, *, read_only: bool = False, files: FileSystem | None = None) -> Self:
        """Open a project; for reading only if another window has it open (see `read_only_reason`).

        What is damaged is set aside and named in `problems`; all the rest is there.

        Raises
        ------
        ProjectError
            If it is no project, was written by a newer version, or cannot be read or trusted.
        """
        folder, files = folder_of(path), files or FileSystem()
        if not folder.is_dir() or not is_project(folder):
            raise ProjectError(f"There is no project in {folder}. Choose a folder that ends in .unetproj.")
        check_inside(folder)
        read_manifest(folder, files)  # a newer project is refused before anything is written into it
        lock = None if read_only else ProjectLock(folder, files)
        reason = lock.take() if lock else "The project was opened for reading only."
        project = cls(folder, files, lock, reason)
        try:
            project._begin()
        except BaseException:
            project.close()
            raise
        return project

    @classmethod
    def open_or_create(cls, path: Path | str, *, files: FileSystem | None = None) -> Self:
        """Open the project in a folder, or begin one there."""
        return cls.open(path, files=files) if is_project(folder_of(path)) else cls.create(path, files=files)

    def close(self) -> None:
        """Let another window write. Everything is saved already."""
        with self._turn:
            self._is_closed = True
            if self._lock:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh_lock(self) -> None:
        """Show windows on other machines that this one still runs. Call it about once a minute."""
        with self._turn:
            if self._lock and not self._is_closed:
                self._lock.refresh()

    # What is in it -----------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return bool(self.read_only_reason)

    @property
    def pictures(self) -> dict[str, PictureRecord]:
        """Pictures by key (a copy)."""
        return dict(self._contents.pictures)

    @property
    def versions(self) -> tuple[VersionRecord, ...]:
        """Versions of the model that are kept, by number."""
        return self._contents.versions

    @property
    def current(self) -> int:
        """Number of the version in use."""
        return self._contents.current

    @property
    def model(self) -> str:
        """Name of the model that the project began with."""
        return self._contents.model

    @property
    def settings(self) -> dict[str, Any]:
        """What `save_settings` was given (a copy)."""
        return dict(self._contents.settings)

    @property
    def curve(self) -> list[Point]:
        """Points of the learning curve, oldest first (a copy)."""
        return [dict(point) for point in self._contents.curve]

    def picture_path(self, key: str) -> Path | None:
        """Where a picture was last seen; None if unknown, or if looking there would leave this machine."""
        record = self._contents.pictures.get(key)
        return follow_hint(self.path, record.path) if record else None

    # Corrections -------------------------------------------------------------------------------

    def add_edit(self, edit: Edit) -> Path:
        """Keep an edit for ever.

        Returns
        -------
        Path
            Its file (the last of them, if it was too large for one).

        Raises
        ------
        ProjectError
            If it was not saved. Adding it again is harmless then, also if a part of it was.
        """
        with self._turn:
            self._check_writable()
            path = self._journal.add(edit)
            self.refresh_lock()
        return path

    def edits(self) -> Iterator[Edit]:
        """All edits, in the order they were made.

        A damaged file is named in `problems` and, if the project may be written, renamed to
        `NAME.damaged`; the others follow.
        """
        return iter(self._journal)

    # Pictures, masks, settings, curve ----------------------------------------------------------

    def add_picture(self, record: PictureRecord) -> PictureRecord:
        """Keep a picture's identity, or change what is known of it; the record as it is kept.

        A path near the project becomes relative to it, so that both can be moved together.

        Raises
        ------
        ProjectError
            If the key is no identity, or it cannot be saved.
        """
        _check_key(record.key)
        record = replace(record, path=hint_of(self.path, record.path))
        self._change(lambda now: replace(now, pictures={**now.pictures, record.key: record}))
        return record

    def save_masks(self, key: str, masks: npt.NDArray[np.integer], kind: str = "objects") -> None:
        """Keep the label layer of a picture, so that tomorrow starts with it.

        Parameters
        ----------
        key : str
        masks : ([T, Z,] Y, X) int
            Kept as int32.
        kind : {'objects', 'classes'}
            What they are masks of; each kind is kept.

        Raises
        ------
        ProjectError
            If it cannot be saved; the one saved before is then still there.
        """
        _check_key(key)
        with self._turn:
            self._check_writable()
            write_masks(self.path / MASKS / masks_file(key, kind), self._files, masks)
            self.refresh_lock()

    def load_masks(
        self, key: str, shape: Sequence[int] | None = None, kind: str = "objects"
    ) -> npt.NDArray[np.int32] | None:
        """Read the label layer of a picture, as it was saved with a model of a kind.

        Parameters
        ----------
        key : str
        shape : ([T, Z,] Y, X), optional
            Of the picture that is open. Without it only masks of up to 256 MB are read.

        Returns
        -------
        ([T, Z,] Y, X) int32, or None
            None if none was saved; or if it is damaged or has another shape, which `problems` then says.
        """
        _check_key(key)
        path = self.path / MASKS / masks_file(key, kind)
        if not os.path.lexists(path):
            return None
        try:
            return read_masks(path, self._files, shape)
        except ProjectError as error:
            self._note(f"Saved masks were left out: {error}")
            return None

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep settings: numbers, words, and lists or dicts of them. They replace the earlier ones."""
        kept = plain(settings)
        self._change(lambda now: replace(now, settings=kept))

    def append_curve(self, points: Iterable[Mapping[str, Any]]) -> None:
        """Add points to the learning curve; of a long one every second old point goes, and no score."""
        added = tuple(plain(point) for point in points)
        self._change(lambda now: replace(now, curve=shorten(now.curve + added)))

    # Models ------------------------------------------------------------------------------------

    def begin_model(self, name: str) -> None:
        """Start anew from another model: version 0 and no other. Files of earlier versions go when ten newer exist."""
        self._change(lambda now: replace(now, model=name, versions=(), current=0))

    def save_model(self, data: bytes, record: VersionRecord) -> VersionRecord:
        """Keep a version of the model and make it the current one.

        The current, the pinned and the newest ten others are kept; older files are deleted.

        Parameters
        ----------
        data : bytes
            The `.safetensors` file.
        record : VersionRecord
            Returned with its `file` and `sha256` filled in.

        Raises
        ------
        ProjectError
            If there is a version of this number, or it cannot be saved; the current one stays current.
        """
        with self._turn:
            self._check_writable()
            if any(version.number == record.number for version in self.versions):
                raise ProjectError(f"There is a version {record.number} of the model already. Give it another number.")
            file = write_model(self.path / MODELS, self._files, data)
            kept = replace(record, score=plain(record.score), file=file, sha256=hashlib.sha256(data).hexdigest())
            self._change(lambda now: with_version(now, kept))
            remove_old_models(self.path / MODELS, self._files, {version.file for version in self.versions})
        return kept

    def model_path(self, number: int) -> Path:
        """The file of a version.

        Raises
        ------
        ProjectError
            If none was kept, or it is a link.
        """
        file = self._version(number).file
        path = self.path / MODELS / (file or "none")
        if not file or path.is_symlink() or not path.is_file():
            raise ProjectError(f"The file of version {number} of the model is not there. Choose another version.")
        return path

    def model_bytes(self, number: int) -> bytes:
        """The file of a version, checked against its checksum.

        Raises
        ------
        ProjectError
            If none was kept, or it is damaged.
        """
        path = self.model_path(number)
        data = self._files.read(path, MODEL_LIMIT)
        expected = self._version(number).sha256
        if expected and hashlib.sha256(data).hexdigest() != expected:
            raise ProjectError(f"The model file '{path.name}' is damaged. Choose another version.")
        return data

    def use_version(self, number: int) -> None:
        """Make a version the current one; 0 is what the project began with.

        Raises
        ------
        ProjectError
            If it was not kept.
        """
        if number != 0:
            self._version(number)
        self._change(lambda now: replace(now, current=number))

    def pin(self, number: int, pinned: bool = True) -> None:
        """Keep a version for ever, or no longer."""
        versions = tuple(replace(v, pinned=pinned) if v.number == number else v for v in self.versions)
        self._change(lambda now: replace(now, versions=versions))

    # Inside ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Read what is there; a writer also clears up and repairs."""
        contents, self.problems = read_manifest(self.path, self._files)
        is_damaged, is_missing = bool(self.problems), contents is None
        if not self.read_only:
            for folder in (self.path, *(self.path / name for name in FOLDERS)):
                self._files.make_folder(folder)
                self._files.remove_leftovers(folder)
        self._contents = contents or rebuild(self.path, self._files, self.edits())
        if contents is None and self._contents != Contents():
            self._note("project.json was made again from the corrections and models; names and settings are lost.")
        if is_damaged and not self.read_only:
            self._note(f"The damaged file was kept as '{keep_damaged(self.path, self._files)}'.")
        if (is_damaged or is_missing) and not self.read_only:
            self._change(lambda now: now)

    def _version(self, number: int) -> VersionRecord:
        for version in self.versions:
            if version.number == number:
                return version
        raise ProjectError(f"Version {number} of the model is not in this project any more. Choose another version.")

    def _check_writable(self) -> None:
        if self._is_closed:
            raise ProjectError("This project was closed. Open it again to save into it.")
        if self.read_only:
            raise ReadOnlyError(f"{self.read_only_reason} Nothing was saved.")

    def _change(self, change: Callable[[Contents], Contents]) -> None:
        """Replace `project.json`; what is in memory changes only when that is done."""
        with self._turn:
            self._check_writable()
            contents = change(self._contents)
            write_manifest(self.path, self._files, contents)
            self._contents = contents
            self.refresh_lock()

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _check_key(key: str) -> None:
    if not is_key(key):
        raise ProjectError(f"'{key[:40]}' is no identity of a picture: small letters, digits, '-' and '_' alone.")
