"""Disks that fail, stop or take notes; edits to put on them."""

import errno
from pathlib import Path

import numpy as np
import pytest

import napari_unet
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits
from napari_unet.store.files import FileSystem
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord, VersionRecord

STEPS = (
    "create", "write", "permit", "sync", "close", "replace", "link", "unlink", "mkdir", "scan", "sync_folder",
    "open_plain", "lock",
)  # fmt: skip


class Died(BaseException):
    """The process is gone: nothing after this moment happens."""


class FaultyFiles(FileSystem):
    """A real disk whose n-th step fails.

    Attributes
    ----------
    fail_at : int or None
        Number of the step that fails, from 0; None: none does.
    for_ever : bool
        All later steps fail too.
    error : int or type
        The errno to raise; 'short' writes half the bytes and finds the disk full at the next try; Died ends it all.
    calls : list of str
        Steps so far.
    """

    def __init__(self, fail_at=None, error=errno.EIO, for_ever=False):
        self.fail_at, self.error, self.for_ever = fail_at, error, for_ever
        self.calls = []
        self.is_full = False

    def turn(self, name):
        """Note a step; whether it is to fail."""
        self.calls.append(name)
        number = len(self.calls) - 1
        return self.fail_at is not None and (number == self.fail_at or (self.for_ever and number > self.fail_at))

    def mend(self):
        """The disk works again."""
        self.fail_at, self.is_full = None, False


def _faulty(name):
    real = getattr(FileSystem, name)

    def step(self, *args):
        fails = self.turn(name)
        if name == "write" and self.error == "short":
            if self.is_full:
                raise OSError(errno.ENOSPC, "full")
            if fails:
                self.is_full = True
                return real(self, args[0], args[1][: max(1, len(args[1]) // 2)])
        elif fails and self.error is Died:
            raise Died
        elif fails and self.error != "short":
            if name == "close":
                real(self, *args)  # as the system does: the descriptor is gone, the data may be
            raise OSError(self.error, errno.errorcode[self.error])
        return real(self, *args)

    return step


for _name in STEPS:
    setattr(FaultyFiles, _name, _faulty(_name))


@pytest.fixture(autouse=True)
def children_find_the_package(monkeypatch):
    """Python processes that a test starts, in whatever folder, import the package that is tested."""
    monkeypatch.setenv("PYTHONPATH", str(Path(napari_unet.__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def faulty():
    """A class of disks whose n-th step fails; `faulty.Died` is the end of the process."""
    FaultyFiles.Died = Died
    return FaultyFiles


@pytest.fixture
def project(tmp_path):
    """A new project, closed at the end."""
    with Project.create(tmp_path / "cells.unetproj") as new:
        yield new


@pytest.fixture
def make_edit():
    """Function of a number to an edit: always the same one for a number."""

    def make(number, picture="p", **kwargs):
        rng = np.random.default_rng(number)
        start = rng.integers(0, 40, 2).tolist()
        shape = rng.integers(1, 20, 2).tolist()
        box = Box(tuple(start), (start[0] + shape[0], start[1] + shape[1]))
        labels = rng.integers(0, 9, shape, dtype=np.int32)
        return Edit(picture, box, labels, rng.random(shape) < 0.7, time=float(number), **kwargs)

    return make


@pytest.fixture
def fill(make_edit, picture):
    """Function that puts something of everything into a project."""

    def put(project):
        project.begin_model("default")
        project.add_picture(picture)
        for number in range(3):
            project.add_edit(make_edit(number, "ab12"))
        project.save_masks("ab12", np.arange(3600).reshape(60, 60))
        project.save_settings({"threshold": 0.5})
        project.append_curve([{"step": 1, "loss": float("nan")}])
        project.save_model(b"weights 1", VersionRecord(1, score=0.8, learnt=3))

    return put


@pytest.fixture
def picture():
    """A picture's record."""
    return PictureRecord("ab12", "plate 3", shape=(60, 60), channels=(1,), limits=Limits((0.0,), (1.0,)))


@pytest.fixture
def contents():
    """Function of a project folder to its lasting files: name to bytes."""

    def read(folder):
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("lock", "lock.json")
        }

    return read


@pytest.fixture
def same():
    """Function that tells whether two edits are equal in every field."""

    def compare(a, b):
        arrays = [(a.labels, b.labels), (a.trusted, b.trusted)]
        if (a.taught is None) != (b.taught is None):
            return False
        if a.taught is not None:
            arrays.append((a.taught, b.taught))
        facts = ("picture", "box", "tool", "held_out", "time")
        return all(getattr(a, f) == getattr(b, f) for f in facts) and all(
            x.dtype == y.dtype and np.array_equal(x, y) for x, y in arrays
        )

    return compare
