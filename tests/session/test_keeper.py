"""Keeper: nothing is lost while the disk fails, and what is shown of it is true."""

import errno
import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError
from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.picture import Picture
from napari_unet.session import disk
from napari_unet.session import keeper as module
from napari_unet.session.keeper import Keeper
from napari_unet.store.files import FileSystem
from napari_unet.store.project import Project

LONG = 20.0


class Watched(Keeper):
    """A keeper that notes what it says."""

    def __init__(self):
        self.kept, self.refused, self.seen = [], [], []
        super().__init__(
            lambda: self.seen.append((self.waiting, self.problem)),
            lambda draft: self.kept.append(draft.edits[0].time),
            self.refused.append,
        )

    def settle(self):
        """Wait for the disk."""
        assert self.flush(LONG)


@pytest.fixture
def keeper():
    """A keeper without a project, closed at the end."""
    new = Watched()
    yield new
    assert new.close(LONG) or new.waiting


@pytest.fixture
def picture(tmp_path):
    """A picture with a file."""
    data = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    source = ImageSource.of_array(data)
    path = tmp_path / "cells.tif"
    return Picture(
        source.key(), "cells", source, np.zeros((64, 64), np.int32), np.zeros((64, 64), np.uint8), path=str(path)
    )


@pytest.fixture
def full_disk(monkeypatch):
    """A switch: while it is set, there is no space on the disk."""
    is_full = threading.Event()
    write = FileSystem.write

    def step(self, fd, data):
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "full")
        return write(self, fd, data)

    monkeypatch.setattr(FileSystem, "write", step)
    return is_full


def edit_of(picture, number):
    """A correction."""
    box = Box((number, number), (number + 9, number + 9))
    return Edit(
        picture.key, box, np.full(box.shape, number + 1, np.int32), np.ones(box.shape, bool), time=float(number)
    )


def keep(keeper, picture, *numbers):
    """Hand in corrections."""
    for number in numbers:
        keeper.keep_edits([edit_of(picture, number)], picture, None)


def change(version):
    """A take-over."""
    return WeightsChanged(version, 0.5, 0.6, 1, version * 2)


def times_in(folder):
    """The corrections that a project holds."""
    with Project.open(folder, read_only=True) as project:
        assert project.problems == []
        return [edit.time for edit in project.edits()]


def test_a_project_begins_beside_the_picture_with_the_first_correction(keeper, picture, tmp_path):
    """Nothing is written before there is something to keep; then the picture and the model are known, too."""
    keeper.begin_model("tiny", 0)
    keeper.keep_masks(picture, np.ones((64, 64), np.int32), "objects")
    keeper.keep_points([TrainStep(1, 1, 0.5, 0.3)], 0)
    keeper.settle()
    assert not (tmp_path / "cells.unetproj").exists()
    keep(keeper, picture, 1)
    keeper.settle()
    assert keeper.project.path == tmp_path / "cells.unetproj"
    assert keeper.project.pictures[picture.key].name == "cells"
    assert keeper.project.model == "tiny"
    assert keeper.kept == [1.0]
    assert keeper.seen[-1] == (0, "")


def test_a_picture_with_masks_alone_finds_its_project(keeper, picture, tmp_path):
    """It was predicted while the project was open, and never corrected; one without a file is not noted."""
    keep(keeper, picture, 1)
    keeper.settle()
    for key, path in (("b" * 64, str(tmp_path / "other.tif")), ("c" * 64, "")):
        other = replace(picture, key=key, name="other", path=path)
        for number in (1, 2):
            keeper.keep_masks(other, np.full((64, 64), number, np.int32), "objects")
        keeper.settle()
        assert (other.key in keeper.project.pictures) == bool(path)
        assert (keeper.masks_of(other, "objects") == 2).all()
        assert keeper.find(other) == (keeper.project.path if path else None)


def test_works_of_two_sessions_are_never_mixed(picture):
    """A picture without a file begins a project of its own each time, beside earlier ones."""
    picture.path = ""
    first, second = Watched(), Watched()
    for each in (first, second):
        keep(each, picture, 1)
        each.settle()
    assert first.project.path != second.project.path
    assert second.read_only == ""
    for each in (first, second):
        assert each.close(LONG)


def test_a_full_disk_is_said_and_nothing_is_lost(keeper, picture, tmp_path, full_disk):
    """While nothing can be written the sentence stays; afterwards everything is there, in order."""
    keep(keeper, picture, 0)
    keeper.settle()
    full_disk.set()
    keep(keeper, picture, 1, 2)
    keeper.keep_version(b"weights", change(1), keeper.era)
    keeper.keep_points([change(1)], keeper.era)
    keeper.keep_masks(picture, np.full((64, 64), 4, np.int32), "objects")
    keeper.do(lambda: None)  # other work that succeeds says nothing about the disk
    keeper.settle()
    assert "the disk is full" in keeper.problem
    assert keeper.kept == [0.0]
    assert keeper.waiting == 5
    full_disk.clear()
    keeper.save()
    keeper.settle()
    assert (keeper.waiting, keeper.problem) == (0, "")
    assert keeper.kept == [0.0, 1.0, 2.0]
    assert times_in(tmp_path / "cells.unetproj") == [0.0, 1.0, 2.0]
    assert keeper.project.model_bytes(1) == b"weights"
    assert (keeper.masks_of(picture, "objects") == 4).all()
    assert len(keeper.history()) == 1


def test_a_disk_that_is_full_from_the_start_keeps_nothing_from_being_saved_later(keeper, picture, tmp_path, full_disk):
    """Even when no project could be begun, the corrections wait for one."""
    full_disk.set()
    keep(keeper, picture, 1, 2)
    keeper.settle()
    assert keeper.problem
    full_disk.clear()
    keep(keeper, picture, 3)
    keeper.settle()
    assert times_in(tmp_path / "cells.unetproj") == [1.0, 2.0, 3.0]


def test_corrections_without_a_project_go_into_the_one_that_is_opened(keeper, picture, tmp_path, full_disk):
    """Where no project could be begun, opening one elsewhere saves what waits."""
    full_disk.set()
    keep(keeper, picture, 1)
    keeper.settle()
    full_disk.clear()
    assert keeper.open(tmp_path / "elsewhere.unetproj")
    keeper.settle()
    assert times_in(tmp_path / "elsewhere.unetproj") == [1.0]


def test_what_failed_is_tried_again_by_itself(monkeypatch, picture, full_disk):
    """When space is free again nobody has to press anything."""
    monkeypatch.setattr(disk, "IDLE_AFTER", 0.01)
    keeper, is_saved = Watched(), threading.Event()
    keeper._on_kept = lambda draft: is_saved.set()
    full_disk.set()
    keep(keeper, picture, 1)
    assert keeper.flush(LONG)
    full_disk.clear()
    assert is_saved.wait(LONG)
    assert keeper.close(LONG)


def test_a_part_that_is_written_is_not_written_twice(keeper, picture, tmp_path, full_disk, monkeypatch):
    """A correction in two parts whose second part failed goes on with that part."""
    add, calls = Project.add_edit, []

    def fail_once(self, edit):
        calls.append(edit.held_out)
        if calls == [False, True]:
            raise ProjectError("full") from OSError(errno.ENOSPC, "full")
        return add(self, edit)

    monkeypatch.setattr(Project, "add_edit", fail_once)
    edit = edit_of(picture, 1)
    held_out = Edit(edit.picture, edit.box, edit.labels, edit.trusted, held_out=True, time=edit.time)
    keeper.keep_edits([edit, held_out], picture, None)
    keeper.settle()
    assert keeper.kept == []
    keeper.save()
    keeper.settle()
    assert calls == [False, True, True]
    assert keeper.kept == [1.0]


def test_what_cannot_be_written_at_all_does_not_stop_the_rest(keeper, picture, tmp_path):
    """A correction that makes no sense is said and left; the ones after it are saved."""
    broken = edit_of(picture, 1)
    broken = Edit(picture.key, broken.box, broken.labels[:3], broken.trusted, time=1.0)
    keeper.keep_edits([broken], picture, None)
    keep(keeper, picture, 2)
    keeper.use_version(7, 0)
    keeper.settle()
    keeper.use_version(7, 0)
    keep(keeper, picture, 3)
    keeper.settle()
    assert len(keeper.refused) == 2
    assert "Version 7" in keeper.refused[1]
    assert keeper.kept == [2.0, 3.0]
    assert keeper.problem == ""


def test_a_mistake_of_ours_is_said_and_tried_again(keeper, picture, monkeypatch):
    """Whatever a write raises, the corrections stay and the sentence says so."""
    monkeypatch.setattr(Project, "add_edit", lambda self, edit: [][0])
    keep(keeper, picture, 1)
    keeper.settle()
    assert keeper.problem.startswith("Saving failed (IndexError")
    monkeypatch.undo()
    keeper.save()
    keeper.settle()
    assert keeper.kept == [1.0]


def test_models_do_not_pile_up_while_nothing_can_be_written(keeper, picture, full_disk):
    """Hours of learning on a full disk do not fill the memory with models."""
    keep(keeper, picture, 1)
    keeper.settle()
    full_disk.set()
    for version in range(1, 2 * module.CHANGES_WAITING):
        keeper.keep_version(bytes(10), change(version), keeper.era)
    keeper.settle()
    assert keeper.waiting == module.CHANGES_WAITING
    full_disk.clear()


def test_a_project_that_is_read_only_takes_nothing_and_learns_all_the_same(keeper, picture, tmp_path):
    """A second window may correct and learn; it saves nothing, and says who holds the project."""
    with Project.create(tmp_path / "cells.unetproj") as other:
        keeper.open(other.path)
        assert keeper.read_only
        keep(keeper, picture, 1)
        keeper.keep_version(b"weights", change(1), keeper.era)
        keeper.settle()
        assert keeper.kept == [1.0]
        assert keeper.waiting == 0
        assert list(other.edits()) == []


def test_opening_the_project_that_is_open_changes_nothing(keeper, picture, tmp_path):
    """A project does not lock itself out; by whatever path it is named."""
    keep(keeper, picture, 1)
    keeper.settle()
    (tmp_path / "link").symlink_to(tmp_path)
    assert not keeper.open(tmp_path / "cells.unetproj")
    assert not keeper.open(tmp_path / "link" / "cells.unetproj")
    assert keeper.read_only == ""


def test_no_other_project_is_opened_while_something_is_not_saved(keeper, picture, tmp_path, full_disk):
    """The work of one project never ends up in another, and is not dropped."""
    keep(keeper, picture, 1)
    keeper.settle()
    full_disk.set()
    keep(keeper, picture, 2)
    keeper.settle()
    with pytest.raises(ProjectError, match="the disk is full"):
        keeper.open(tmp_path / "other.unetproj")
    full_disk.clear()
    keeper.save()
    assert keeper.open(tmp_path / "other.unetproj")
    assert times_in(tmp_path / "cells.unetproj") == [1.0, 2.0]
    with Project.open(tmp_path / "cells.unetproj") as free:
        assert not free.read_only


def test_what_was_learnt_in_one_project_is_not_written_into_another(keeper, tmp_path):
    """A take-over that comes late, after another project was opened, is not kept there."""
    keeper.open(tmp_path / "one.unetproj")
    era = keeper.era
    keeper.open(tmp_path / "two.unetproj")
    keeper.keep_version(b"weights", change(1), era)
    keeper.keep_points([change(1)], era)
    keeper.use_version(1, era)
    keeper.begin_model("late", era)
    keeper.settle()
    assert [v.number for v in keeper.versions()] == [0]
    assert (keeper.history(), keeper.project.model, keeper.refused) == ([], "", [])


def test_a_slow_disk_goes_on_after_closing_until_all_is_written(picture, tmp_path):
    """Closing keeps to its limit; the corrections are written all the same, and then the project is let go."""
    keeper, go = Watched(), threading.Event()
    keep(keeper, picture, 1)
    keeper.settle()
    keeper.do(lambda: go.wait(LONG))
    keep(keeper, picture, 2)
    assert not keeper.close(0.01)
    go.set()
    keeper._disk._thread.join(LONG)
    assert times_in(tmp_path / "cells.unetproj") == [1.0, 2.0]
    with Project.open(tmp_path / "cells.unetproj") as free:
        assert not free.read_only


def test_what_is_lost_at_the_end_is_in_the_log(picture, full_disk, caplog):
    """If the disk is full when the program ends, the log says what could not be saved."""
    keeper = Watched()
    full_disk.set()
    keep(keeper, picture, 1, 2)
    assert not keeper.close(LONG)
    assert "2 corrections could not be saved" in caplog.text


def test_the_curve_is_brought_back_whatever_it_holds(keeper, tmp_path):
    """Points of another version of the program are left out; a loss that was no number is none again."""
    keeper.open(tmp_path / "one.unetproj")
    keeper.project.append_curve([{"type": "Unknown"}, {"type": "TrainStep", "another": 1}, {"no": "type"}])
    rejected = TrainStep(3, 1, 1.0, float("nan"), kept=False, score=0.5, reason="worse")
    keeper.keep_points([rejected, change(2)], keeper.era)
    keeper.settle()
    step, weights = keeper.history()
    assert np.isnan(step.loss)
    assert (step.kept, step.reason, weights) == (False, "worse", change(2))


def test_a_project_is_opened_by_its_path_or_its_name(keeper, tmp_path, monkeypatch):
    """A string, from the folder the program is in, is as good as a path, also when another project is open."""
    monkeypatch.chdir(tmp_path)
    assert keeper.open("a.unetproj")
    assert keeper.open("b.unetproj")
    assert not keeper.open("b.unetproj")
    assert not keeper.open(tmp_path / "b.unetproj")
    assert keeper.project.path == tmp_path / "b.unetproj"
