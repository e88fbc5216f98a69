"""A disk that fails at any step of anything a project does."""

import errno
import itertools
import shutil

import numpy as np
import pytest

from napari_unet.core.errors import ProjectError
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord

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
def test_a_fault_at_any_step_costs_nothing(tmp_path, make_edit, faulty, write, error, fill):
    """For every n: if step n of a save fails, or is the last, all is as before or as wanted; and then saving works."""
    with Project.create(tmp_path / "begun") as begun:
        fill(begun)
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


def test_a_failed_save_leaves_memory_as_it_was(project, faulty, picture):
    """What could not be saved is not shown as if it were, and can be saved again."""
    project.close()
    files = faulty()
    with Project.open(project.path, files=files) as again:
        files.error, files.for_ever, files.fail_at = errno.ENOSPC, True, len(files.calls)
        for write in (
            lambda: again.save_settings({"a": 1}),
            lambda: again.save_model(b"weights", VersionRecord(1)),
            lambda: again.add_picture(picture),
        ):
            with pytest.raises(ProjectError, match="disk is full"):
                write()
        assert (again.settings, again.versions, again.pictures) == ({}, (), {})
        files.mend()
        again.save_settings({"a": 1})
        again.save_model(b"weights", VersionRecord(1))
        assert (again.settings, again.current) == ({"a": 1}, 1)


def test_opening_fails_in_words_or_works(project, faulty, fill, contents):
    """For every n: if step n of opening fails once, there is an error in words, or the project with all its edits."""
    fill(project)
    project.close()
    before = contents(project.path)
    for number in itertools.count():
        files = faulty(number)
        told = "could not be"
        try:
            with Project.open(project.path, files=files) as again:
                files.mend()
                assert len(list(again.edits())) == 3
        except ProjectError as error:
            told = str(error)
        assert "could not be" in told
        assert contents(project.path) == before
        if len(files.calls) <= number:
            break
    with Project.open(project.path) as again:
        assert not again.read_only
