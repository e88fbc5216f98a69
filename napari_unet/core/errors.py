"""Every error that a user can see. Each message says what is, and what to do.

::

    UNetLiveError
    ├── ImageError        a picture cannot be used as it is
    ├── LabelsError       labels cannot be used as they are
    ├── ModelError        a model cannot be read, or does not fit the picture
    ├── DeviceError       a device is missing or ran out of memory
    └── ProjectError      a project folder cannot be read or written
        └── ReadOnlyError     another window holds the project
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType

STOPPED = 130
"""Exit code after Ctrl+C, as shells have it."""


class UNetLiveError(Exception):
    """Root of all errors that are meant to be read by a user."""


class ImageError(UNetLiveError):
    """A picture cannot be used as it is."""


class LabelsError(UNetLiveError):
    """Labels cannot be used as they are."""


class ModelError(UNetLiveError):
    """A model cannot be read, or does not fit the picture."""


class DeviceError(UNetLiveError):
    """A device is missing, or ran out of memory."""


class ProjectError(UNetLiveError):
    """A project folder cannot be read or written."""


class ReadOnlyError(ProjectError):
    """The project is open in another window, so nothing can be written here."""


def check_type(value: object, kind: type | UnionType, instead: str) -> None:
    """Refuse an argument of a Python call that is something else, before anything is done with it.

    Raises
    ------
    TypeError
        What to give `instead`, and what was given.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{instead} This is of type {type(value).__name__}.")


@contextmanager
def about_file(path: Path) -> Iterator[None]:
    """Let a failure of the system name the file that is meant; by itself it names a part of it, or nothing at all."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
