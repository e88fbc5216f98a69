"""Journal: all edits of a project, each in a file of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError
from napari_unet.store.edits import RECORD_LIMIT, NewerFormatError, decode, encode, file_name, split, stamp_of
from napari_unet.store.files import FileSystem

NAME_TRIES = 100
FAR_FUTURE = 2**62  # nanoseconds: the year 2116


class Journal:
    """Writes edits into a folder, and reads them in the order they were made.

    Parameters
    ----------
    folder : Path
    files : FileSystem
    note : callable
        Is told what was found damaged, as a sentence.
    may_repair : bool
        Whether a damaged file may be renamed.
    """

    def __init__(self, folder: Path, files: FileSystem, note: Callable[[str], None], may_repair: bool) -> None:
        self._folder = folder
        self._files = files
        self._note = note
        self._may_repair = may_repair
        stamps = [stamp_of(name) or 0 for name in files.names(folder)]
        # a file from a clock that was far ahead must not push all later ones out of the range of names
        self._stamp = max((stamp for stamp in stamps if stamp < FAR_FUTURE), default=0)

    def add(self, edit: Edit) -> Path:
        """Write an edit; its file, or the last of them if it was too large for one.

        Raises
        ------
        ProjectError
            If it was not saved.
        """
        return [self._write(encode(part)) for part in split(edit)][-1]

    def __iter__(self) -> Iterator[Edit]:
        for name in self._files.names(self._folder):
            if not name.endswith(".npz"):
                continue
            if stamp_of(name) is None:
                self._note(f"'{name}' is not named as corrections are, so it was left out. Remove or rename it.")
                continue
            edit = self._read(self._folder / name)
            if edit is not None:
                yield edit

    def _write(self, data: bytes) -> Path:
        for _ in range(NAME_TRIES):
            # never before an earlier one, even if the clock was set back
            self._stamp = max(time.time_ns(), self._stamp + 1)
            path = self._folder / file_name(self._stamp, data)
            try:
                self._files.write_new(path, data)
            except ProjectError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise
            else:
                return path
        raise ProjectError(f"No free name was found in {self._folder}. Save the project elsewhere.")

    def _read(self, path: Path) -> Edit | None:
        try:
            data = self._files.read(path, RECORD_LIMIT)
            if file_name(stamp_of(path.name) or 0, data) != path.name:
                raise ProjectError(f"'{path.name}' is damaged: its bytes are not those that were saved.")
            return decode(data, path.name)
        except NewerFormatError as error:
            self._note(str(error))
        except ProjectError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # another window has just set it aside
                self._leave_out(path, error)
        return None

    def _leave_out(self, path: Path, error: ProjectError) -> None:
        self._note(f"A correction was left out: {error}")
        # what the disk cannot read now it may read tomorrow; only bytes that are wrong are set aside
        if self._may_repair and not isinstance(error.__cause__, OSError):
            with suppress(ProjectError):  # it is named already, and does no harm where it is
                self._files.set_aside(path)
