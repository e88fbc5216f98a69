"""Project: what is saved is there tomorrow, in one window that writes and others that read."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.errors import ProjectError, ReadOnlyError
from napari_unet.store.files import FileSystem
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord


def test_everything_is_there_tomorrow(project, make_edit, same, fill, picture):
    """After closing and opening again all is as it was saved."""
    fill(project)
    project.close()
    with Project.open(project.path) as again:
        assert again.problems == []
        assert not again.read_only
        assert again.read_only_reason == ""
        assert again.pictures == {"ab12": picture}
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


def test_a_second_window_reads_and_writes_nothing(project, make_edit, fill, contents, picture):
    """The second window sees everything, is told why it cannot write, and changes no file."""
    fill(project)
    before = contents(project.path)
    with Project.open(project.path) as second:
        assert second.read_only
        assert second.read_only_reason.startswith("Another window has this project open (on ")
        assert len(list(second.edits())) == 3
        for write in (
            lambda: second.add_edit(make_edit(9)),
            lambda: second.add_picture(picture),
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


def test_reading_only_leaves_no_trace(project, fill):
    """A project that is opened for reading is not changed, not even where it is damaged."""
    fill(project)
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


def test_a_picture_beside_the_project_is_found_after_a_move(project, picture):
    """The picture's path is kept relative to the project, so that both can be moved."""
    kept = project.add_picture(replace(picture, path=str(project.path.parent / "cells.tif")))
    assert kept.path == "../cells.tif"
    assert project.picture_path("ab12") == project.path.parent / "cells.tif"
    assert project.picture_path("none") is None
    project.close()
    moved = project.path.parent / "elsewhere" / "cells.unetproj"
    moved.parent.mkdir()
    project.path.rename(moved)
    with Project.open(moved) as again:
        assert again.picture_path("ab12") == moved.parent / "cells.tif"


def test_the_default_disk_is_the_real_one(project):
    """Without another disk a project uses the file system."""
    assert type(project._files) is FileSystem
