"""Project: what is saved is there tomorrow; what is damaged is named and costs nothing else."""

import errno
import itertools
import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError, ReadOnlyError
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits
from napari_unet.store import edits
from napari_unet.store.edits import encode, file_name, replay
from napari_unet.store.files import FileSystem
from napari_unet.store.models import KEPT
from napari_unet.store.npz import pack
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord, VersionRecord

EXAMPLES = 500 if os.environ.get("UNET_LIVE_LONG") else 12
PICTURE = PictureRecord("ab12", "plate 3", shape=(60, 60), channels=(1,), limits=Limits((0.0,), (1.0,)))


def fill(project, make_edit):
    """Something of everything."""
    project.begin_model("default")
    project.add_picture(PICTURE)
    for number in range(3):
        project.add_edit(make_edit(number, "ab12"))
    project.save_masks("ab12", np.arange(3600).reshape(60, 60))
    project.save_settings({"threshold": 0.5})
    project.append_curve([{"step": 1, "loss": float("nan")}])
    project.save_model(b"weights 1", VersionRecord(1, score=0.8, learnt=3))


def contents(folder):
    """All files of a project that are not there for the moment: name to bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "lock.json")
    }


def test_everything_is_there_tomorrow(project, make_edit, same):
    """After closing and opening again all is as it was saved."""
    fill(project, make_edit)
    project.close()
    with Project.open(project.path) as again:
        assert again.problems == []
        assert not again.read_only
        assert again.read_only_reason == ""
        assert again.pictures == {"ab12": PICTURE}
        assert all(same(a, make_edit(n, "ab12")) for n, a in enumerate(again.edits()))
        assert np.array_equal(again.load_masks("ab12"), np.arange(3600).reshape(60, 60))
        assert again.settings == {"threshold": 0.5}
        assert again.curve == [{"step": 1, "loss": None}]
        assert (again.model, again.current) == ("default", 1)
        assert again.versions == project.versions
        assert again.model_bytes(1) == b"weights 1"
        assert again.model_path(1) == project.path / "models" / "000001.safetensors"


def test_a_project_is_made_where_it_harms_nothing(tmp_path):
    """A new project takes a new or an empty folder, and no other."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    Project.create(tmp_path / "empty").close()
    Project.create(tmp_path / "deep" / "er").close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    (tmp_path / "file").touch()
    for name, words in (("empty", "already"), ("full", "other files"), ("file", "is a file")):
        with pytest.raises(ProjectError, match=words):
            Project.create(tmp_path / name)
    for name in ("none", "full", "file"):
        with pytest.raises(ProjectError, match="no project"):
            Project.open(tmp_path / name)
    with Project.open_or_create(tmp_path / "new") as new, pytest.raises(ProjectError, match="no identity"):
        new.load_masks("../x")
    with Project.open_or_create(str(tmp_path / "new")) as again:
        assert not again.read_only


def test_a_second_window_reads_and_writes_nothing(project, make_edit):
    """The second window sees everything, is told why it cannot write, and changes no file."""
    fill(project, make_edit)
    before = contents(project.path)
    with Project.open(project.path) as second:
        assert second.read_only
        assert second.read_only_reason.startswith("Another window has this project open (on ")
        assert len(list(second.edits())) == 3
        for write in (
            lambda: second.add_edit(make_edit(9)),
            lambda: second.add_picture(PICTURE),
            lambda: second.save_masks("ab12", np.zeros((2, 2), int)),
            lambda: second.save_settings({}),
            lambda: second.append_curve([{}]),
            lambda: second.save_model(b"", VersionRecord(2)),
            lambda: second.use_version(0),
            lambda: second.pin(1),
            lambda: second.begin_model("x"),
        ):
            with pytest.raises(ReadOnlyError, match="Another window has this project open"):
                write()
        second.refresh_lock()
    assert contents(project.path) == before
    project.save_settings({"still": "mine"})
    project.close()
    with Project.open(project.path) as third:
        assert not third.read_only


def test_reading_only_leaves_no_trace(project, make_edit):
    """A project that is opened for reading is not changed, not even where it is damaged."""
    fill(project, make_edit)
    project.close()
    (project.path / "project.json").write_bytes(b"{")
    edit = next((project.path / "corrections").iterdir())
    edit.write_bytes(edit.read_bytes()[:-1])
    before = {path: path.stat().st_mtime_ns for path in project.path.rglob("*")}
    for _ in range(2):
        with Project.open(project.path, read_only=True) as reader:
            assert len(list(reader.edits())) == 2
            assert len(list(reader.edits())) == 2
            assert len(reader.problems) == 3
    assert {path: path.stat().st_mtime_ns for path in project.path.rglob("*")} == before


def test_a_closed_project_says_so(project, make_edit):
    """Writing after closing is an error in words; closing twice is none."""
    project.close()
    project.close()
    with pytest.raises(ProjectError, match="was closed"):
        project.add_edit(make_edit(1))


# Corrections ---------------------------------------------------------------------------------------


def test_edits_keep_their_order_when_the_clock_goes_back(project, make_edit, monkeypatch):
    """An edit is never before an earlier one, even if the clock was set back between two days of work."""
    clock = [2_000_000_000 * 10**9]
    monkeypatch.setattr("time.time_ns", lambda: clock[0])
    project.add_edit(make_edit(0))
    clock[0] -= 10**18
    project.add_edit(make_edit(1))
    project.close()
    with Project.open(project.path) as again:
        clock[0] -= 10**17
        again.add_edit(make_edit(2))
        assert [edit.time for edit in again.edits()] == [0, 1, 2]


def test_a_file_from_the_far_future_blocks_nothing(project, make_edit):
    """A file whose name is centuries ahead is read, and later edits still have names."""
    data = encode(make_edit(0))
    (project.path / "corrections" / file_name(2**63 - 1, data)).write_bytes(data)
    project.close()
    with Project.open(project.path) as again:
        again.add_edit(make_edit(1))
        again.add_edit(make_edit(2))
        assert sorted(edit.time for edit in again.edits()) == [0, 1, 2]
        assert again.problems == []


def test_a_taken_name_is_passed_over(project, make_edit, monkeypatch):
    """Where another window wrote the same edit at the same moment, the next free name is taken."""
    monkeypatch.setattr("time.time_ns", lambda: 5)
    first = project.add_edit(make_edit(1))
    project._journal._stamp = 0
    second = project.add_edit(make_edit(1))
    assert first != second
    assert len(list(project.edits())) == 2


def test_a_large_edit_is_kept_whole(project, monkeypatch):
    """An edit that is too large for a file becomes several, and none is lost."""
    monkeypatch.setattr(edits, "SPLIT_VOXELS", 1000)
    labels = np.arange(4096, dtype=np.int32).reshape(64, 64)
    path = project.add_edit(Edit("p", Box.whole((64, 64)), labels, labels % 3 == 0))
    assert path.exists()
    assert len(list((project.path / "corrections").iterdir())) == 8
    assert np.array_equal(replay(project.edits(), (64, 64), "p")[0], np.where(labels % 3 == 0, labels, 0))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_correction_is_set_aside_and_named(project, make_edit, damage, same):
    """One damaged file costs one edit: it is named, kept as `*.damaged`, and all others follow."""
    paths = [project.add_edit(make_edit(number)) for number in range(3)]
    data = bytearray(paths[1].read_bytes())
    data[40] ^= 8
    new = {"cut": data[:-7], "flip": data, "empty": b"", "other": encode(make_edit(7))}[damage]
    paths[1].write_bytes(new)
    assert [edit.time for edit in project.edits()] == [0, 2]
    assert len(project.problems) == 1
    assert paths[1].name in project.problems[0]
    assert not paths[1].exists()
    assert paths[1].with_name(paths[1].name + ".damaged").read_bytes() == bytes(new)
    project.close()
    with Project.open(project.path) as again:
        assert [edit.time for edit in again.edits()] == [0, 2]
        assert again.problems == []


def test_a_correction_that_the_disk_cannot_read_today_is_left_in_place(project, make_edit, faulty):
    """A disk's fault is not the file's: it is named, not renamed, and read tomorrow."""
    for number in range(3):
        project.add_edit(make_edit(number))
    project.close()
    files = faulty()
    with Project.open(project.path, files=files) as again:
        files.fail_at = len(files.calls) + 2  # scan, then the first file
        assert [edit.time for edit in again.edits()] == [0, 2]
        assert "reports a fault" in again.problems[0]
        files.mend()
        assert [edit.time for edit in again.edits()] == [0, 1, 2]


def test_other_files_among_the_corrections_are_left_alone(project, make_edit):
    """A sync client's copy is named; what is no `.npz` is passed over; a newer version's correction stays as it is."""
    project.add_edit(make_edit(0))
    folder = project.path / "corrections"
    (folder / "copy (conflict).npz").write_bytes(b"x")
    (folder / "desktop.ini").write_bytes(b"x")
    newer = pack({"header": np.array(json.dumps({"format": 2}))})
    (folder / file_name(5, newer)).write_bytes(newer)
    assert [edit.time for edit in project.edits()] == [0]
    assert len(project.problems) == 2
    assert any("Update napari-unet-live" in problem for problem in project.problems)
    assert len(list(folder.iterdir())) == 4


def test_edits_from_many_threads_are_all_kept(project, make_edit):
    """Threads that save at the same time lose nothing."""
    numbers = range(40)
    threads = [
        threading.Thread(target=lambda part=part: [project.add_edit(make_edit(n)) for n in numbers[part::4]])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(edit.time for edit in project.edits()) == list(numbers)


# project.json --------------------------------------------------------------------------------------


def test_a_torn_manifest_is_made_again(project, make_edit):
    """When project.json cannot be read, corrections, masks and models are all still there, and it is kept aside."""
    fill(project, make_edit)
    project.close()
    (project.path / "project.json").write_bytes(b'{"pictures": [')
    with Project.open(project.path) as again:
        assert [edit.time for edit in again.edits()] == [0, 1, 2]
        assert list(again.pictures) == ["ab12"]
        assert [version.number for version in again.versions] == [1]
        assert again.current == 1
        assert again.model_bytes(1) == b"weights 1"
        assert again.load_masks("ab12", (60, 60)) is not None
        assert any("made again" in problem for problem in again.problems)
        assert any("'project.json.damaged'" in problem for problem in again.problems)
    assert (project.path / "project.json.damaged").read_bytes() == b'{"pictures": ['
    with Project.open(project.path) as third:
        assert third.problems == []
        assert list(third.pictures) == ["ab12"]


def test_a_lost_manifest_is_made_again(project, make_edit):
    """A folder without project.json is still a project, as long as there are corrections."""
    fill(project, make_edit)
    project.close()
    (project.path / "project.json").unlink()
    with Project.open(project.path) as again:
        assert len(list(again.edits())) == 3
        assert len(again.problems) == 1
    with Project.open(project.path) as third:
        assert third.problems == []


def test_a_project_whose_making_was_interrupted_opens(tmp_path):
    """Folders without anything in them are a new project, and nothing is wrong with it."""
    (tmp_path / "p" / "corrections").mkdir(parents=True)
    with Project.open_or_create(tmp_path / "p") as project:
        assert project.problems == []
        project.save_settings({"a": 1})


def test_a_manifest_changed_by_hand_is_read_and_named(project, make_edit):
    """What somebody changed in project.json is taken, and said; the file as it was found is kept."""
    fill(project, make_edit)
    project.close()
    path = project.path / "project.json"
    changed = path.read_text().replace("plate 3", "plate 4")
    path.write_text(changed)
    with Project.open(project.path) as again:
        assert again.pictures["ab12"].name == "plate 4"
        assert again.settings == {"threshold": 0.5}
        assert "changed by hand" in again.problems[0]
    assert (project.path / "project.json.damaged").read_text() == changed


@pytest.mark.parametrize("text", ['{"format": 99}', "[" * 200_000])
def test_a_newer_or_foreign_project_is_left_untouched(project, make_edit, text):
    """A newer project, or one that we never wrote, is refused, and no byte of its folder changes."""
    fill(project, make_edit)
    project.close()
    (project.path / "project.json").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in project.path.rglob("*")}
    with pytest.raises(ProjectError, match="newer version|nested deeper"):
        Project.open(project.path)
    with pytest.raises(ProjectError):
        Project.open_or_create(project.path)
    assert {path: path.stat().st_mtime_ns for path in project.path.rglob("*")} == before


def test_a_manifest_that_is_too_large_is_refused(project):
    """A project.json over the limit is not read into memory."""
    project.close()
    with (project.path / "project.json").open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ProjectError, match="more than 16777216 are not read"):
        Project.open(project.path)


def test_a_picture_beside_the_project_is_found_after_a_move(project):
    """The picture's path is kept relative to the project, so that both can be moved."""
    kept = project.add_picture(replace(PICTURE, path=str(project.path.parent / "cells.tif")))
    assert kept.path == "../cells.tif"
    assert project.picture_path("ab12") == project.path.parent / "cells.tif"
    assert project.picture_path("none") is None
    project.close()
    moved = project.path.parent / "elsewhere" / "cells.unetproj"
    moved.parent.mkdir()
    project.path.rename(moved)
    with Project.open(moved) as again:
        assert again.picture_path("ab12") == moved.parent / "cells.tif"


# Masks ---------------------------------------------------------------------------------------------


def test_masks_that_do_not_fit_are_left_out(project):
    """Damaged masks, and those of another shape, count as none, with a sentence."""
    assert project.load_masks("ab12") is None
    project.save_masks("ab12", np.ones((3, 4), np.uint16))
    found = project.load_masks("ab12", (3, 4))
    assert found.dtype == np.int32
    assert (found == 1).all()
    assert project.load_masks("ab12", (4, 3)) is None
    assert project.load_masks("ab12", (1, 1)) is None
    path = project.path / "masks" / "ab12.npz"
    path.write_bytes(path.read_bytes()[:-1])
    assert project.load_masks("ab12", (3, 4)) is None
    assert len(project.problems) == 3
    project.save_masks("ab12", np.ones((3, 4), bool))
    assert project.load_masks("ab12", (3, 4)).sum() == 12
    with pytest.raises(ProjectError, match="do not fit into int32"):
        project.save_masks("ab12", np.full((3, 4), 2**40))


# Models --------------------------------------------------------------------------------------------


def save(project, number, **kwargs):
    """Save a version whose bytes tell its number."""
    return project.save_model(b"weights %d" % number, VersionRecord(number, **kwargs))


def test_old_versions_go_but_never_the_pinned_or_the_current(project):
    """The current, the pinned and the newest ten others are kept, records and files alike."""
    save(project, 1, pinned=True)
    save(project, 2)
    project.pin(2)
    for number in range(3, 20):
        save(project, number)
    kept = [version.number for version in project.versions]
    assert kept == [1, 2, *range(19 - KEPT, 20)]
    files = {path.name for path in (project.path / "models").iterdir()}
    assert files == {version.file for version in project.versions}
    assert all(project.model_bytes(number) == b"weights %d" % number for number in kept)
    project.use_version(10)
    for number in (20, 21, 22):
        save(project, number)
    assert project.current == 22
    project.pin(2, False)
    save(project, 23)
    assert 2 not in [version.number for version in project.versions]


def test_the_version_in_use_is_checked(project):
    """Going back works to a kept version and to the beginning; others are refused in words."""
    save(project, 1)
    save(project, 2)
    project.use_version(1)
    assert project.current == 1
    project.use_version(0)
    assert project.current == 0
    for act in (project.use_version, project.model_bytes, project.model_path):
        with pytest.raises(ProjectError, match="Choose another version"):
            act(7)
    with pytest.raises(ProjectError, match="version 2 of the model already"):
        save(project, 2)


def test_a_version_without_a_file_has_none(project):
    """A damaged, a deleted and a linked model file are told apart from a good one."""
    save(project, 1)
    path = project.model_path(1)
    path.write_bytes(b"weights 2")
    with pytest.raises(ProjectError, match="is damaged"):
        project.model_bytes(1)
    path.unlink()
    with pytest.raises(ProjectError, match="is not there"):
        project.model_bytes(1)
    if os.name != "nt":
        path.symlink_to(__file__)
        with pytest.raises(ProjectError, match="is not there"):
            project.model_path(1)


def test_another_model_begins_anew_and_overwrites_nothing(project):
    """After a change of the model numbers start again; files of the earlier versions stay for a while."""
    save(project, 1)
    save(project, 2)
    project.begin_model("other")
    assert (project.model, project.versions, project.current) == ("other", (), 0)
    kept = project.save_model(b"new", VersionRecord(1))
    assert kept.file == "000003.safetensors"
    assert (project.path / "models" / "000001.safetensors").read_bytes() == b"weights 1"


def test_numbers_of_model_files_end_somewhere(project):
    """A stranger's file with the highest number blocks saving in words, and overwrites nothing."""
    (project.path / "models" / "999999999.safetensors").write_bytes(b"x")
    with pytest.raises(ProjectError, match="No free name"):
        save(project, 1)
    assert project.versions == ()


# Faults --------------------------------------------------------------------------------------------

WRITES = {
    "add_edit": lambda project, make_edit: project.add_edit(make_edit(7, "ab12")),
    "save_model": lambda project, make_edit: project.save_model(b"weights 2", VersionRecord(2)),
    "save_settings": lambda project, make_edit: project.save_settings({"threshold": 0.7}),
    "save_masks": lambda project, make_edit: project.save_masks("ab12", np.zeros((60, 60), int)),
}


def state(project):
    """What a project holds, to be compared."""
    masks = project.load_masks("ab12")
    return {
        "add_edit": [edit.time for edit in project.edits()],
        "save_model": (project.current, project.model_bytes(project.current)),
        "save_settings": project.settings,
        "save_masks": masks.sum(),
    }


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES, "short", "died"], ids=str)
@pytest.mark.parametrize("write", WRITES)
def test_a_fault_at_any_step_costs_nothing(tmp_path, make_edit, faulty, write, error):
    """For every n: if step n of a save fails, or is the last, all is as before or as wanted; and then saving works."""
    with Project.create(tmp_path / "begun") as begun:
        fill(begun, make_edit)
        before = state(begun)
    for number in itertools.count():
        files = faulty()
        project = Project.open(shutil.copytree(begun.path, tmp_path / str(number)), files=files)
        files.error, files.for_ever = (faulty.Died, True) if error == "died" else (error, False)
        files.fail_at = len(files.calls) + number
        try:
            WRITES[write](project, make_edit)
            was_saved = True
        except (ProjectError, faulty.Died):
            was_saved = False
        was_reached = len(files.calls) > files.fail_at
        files.mend()
        project.close()
        with Project.open(project.path) as again:
            after = state(again)
            assert again.problems == []
            assert {key: value for key, value in after.items() if key != write} == {
                key: value for key, value in before.items() if key != write
            }
            if was_saved:
                assert after[write] != before[write]
            if after[write] == before[write]:
                WRITES[write](again, make_edit)
            wanted = {
                "add_edit": [0, 1, 2, 7],
                "save_model": (2, b"weights 2"),
                "save_settings": {"threshold": 0.7},
                "save_masks": 0,
            }
            assert state(again)[write] == wanted[write]
        if not was_reached:
            break
    assert number >= 7


def test_a_failed_save_leaves_memory_as_it_was(project, faulty):
    """What could not be saved is not shown as if it were, and can be saved again."""
    project.close()
    files = faulty()
    with Project.open(project.path, files=files) as again:
        files.error, files.for_ever, files.fail_at = errno.ENOSPC, True, len(files.calls)
        for write in (
            lambda: again.save_settings({"a": 1}),
            lambda: save(again, 1),
            lambda: again.add_picture(PICTURE),
        ):
            with pytest.raises(ProjectError, match="disk is full"):
                write()
        assert (again.settings, again.versions, again.pictures) == ({}, (), {})
        files.mend()
        again.save_settings({"a": 1})
        save(again, 1)
        assert (again.settings, again.current) == ({"a": 1}, 1)


def test_opening_fails_in_words_or_works(project, make_edit, faulty):
    """For every n: if step n of opening fails once, there is an error in words, or the project with all its edits."""
    fill(project, make_edit)
    project.close()
    before = contents(project.path)
    for number in itertools.count():
        files = faulty(number)
        try:
            with Project.open(project.path, files=files) as again:
                files.mend()
                assert len(list(again.edits())) == 3
        except ProjectError as error:
            assert "could not be" in str(error)
        assert contents(project.path) == before
        if len(files.calls) <= number:
            break
    with Project.open(project.path) as again:
        assert not again.read_only


# Everything in any order ---------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Any sequence of saves, failed saves and reopenings, against a plain model of what was acknowledged."""

    folder = None
    make_edit = None
    faulty = None
    runs = itertools.count()

    @initialize()
    def begin(self):
        """A new project on a disk that can fail."""
        self.files = self.faulty()
        self.project = Project.create(self.folder / f"{next(self.runs)}.unetproj", files=self.files)
        self.edits, self.settings, self.pictures, self.models, self.current = [], {}, {}, {}, 0
        self.numbers = itertools.count(1)

    def attempt(self, write):
        """Whether a save was acknowledged."""
        try:
            write()
        except ProjectError:
            return False
        finally:
            self.files.mend()
        return True

    @rule(after=st.integers(0, 9), error=st.sampled_from([errno.ENOSPC, errno.EIO, "short"]))
    def break_the_disk(self, after, error):
        """One of the next steps fails."""
        self.files.error, self.files.fail_at = error, len(self.files.calls) + after

    @rule()
    def add_an_edit(self):
        """An edit that was not acknowledged may be there or not; it is asked for again until it is."""
        number = next(self.numbers)
        while not self.attempt(lambda: self.project.add_edit(self.make_edit(number))):
            pass
        self.edits.append(number)

    @rule(value=st.integers(0, 99))
    def save_settings(self, value):
        """Settings are the new ones if that was acknowledged, and the same in memory and on disk."""
        if self.attempt(lambda: self.project.save_settings({"value": value})):
            self.settings = {"value": value}

    @rule(key=st.sampled_from("abc"), value=st.integers(0, 99))
    def add_a_picture(self, key, value):
        """A picture is new, or replaced."""
        record = PictureRecord(key, name=str(value))
        if self.attempt(lambda: self.project.add_picture(record)):
            self.pictures[key] = record

    @rule()
    def save_a_model(self):
        """A version takes over only if that was acknowledged."""
        number = next(self.numbers)
        if self.attempt(lambda: save(self.project, number)):
            self.current = number
            self.models[number] = b"weights %d" % number

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def go_back(self, data):
        """Any kept version can be the current one."""
        number = data.draw(st.sampled_from([0, *(version.number for version in self.project.versions)]))
        if self.attempt(lambda: self.project.use_version(number)):
            self.current = number

    @rule()
    def reopen(self):
        """A day later."""
        self.files.mend()
        self.project.close()
        self.project = Project.open(self.project.path, files=self.files)
        # a change of project.json whose last step failed may have reached the disk
        self.settings, self.pictures = self.project.settings, self.project.pictures
        self.current = self.project.current

    @invariant()
    def all_that_was_acknowledged_is_there(self):
        """Nothing acknowledged is missing, nothing is damaged, and the current version can be read."""
        if not hasattr(self, "project"):
            return
        fail_at, self.files.fail_at = self.files.fail_at, None
        assert self.project.problems == []
        assert list(dict.fromkeys(int(edit.time) for edit in self.project.edits())) == self.edits
        assert (self.project.settings, self.project.pictures) == (self.settings, self.pictures)
        assert self.project.current == self.current
        if self.current:
            assert self.project.model_bytes(self.current) == b"weights %d" % self.current
        self.files.fail_at = fail_at

    def teardown(self):
        """Let the folder go."""
        if hasattr(self, "project"):
            self.project.close()


def test_any_order_of_saves_failures_and_reopenings(tmp_path, make_edit, faulty):
    """Whatever is done in whatever order on a disk that fails now and then, what was acknowledged is there."""
    AnyOrder.folder, AnyOrder.make_edit, AnyOrder.faulty = tmp_path, staticmethod(make_edit), faulty
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_default_disk_is_the_real_one(project):
    """Without another disk a project uses the file system."""
    assert type(project._files) is FileSystem
