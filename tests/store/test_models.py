"""Versions of the model and masks in a project: kept, bounded, checked."""

import os

import numpy as np
import pytest

from napari_unet.core.errors import ProjectError
from napari_unet.store import masks as masks_module
from napari_unet.store.models import KEPT
from napari_unet.store.npz import pack
from napari_unet.store.records import VersionRecord


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


def test_masks_beyond_what_a_file_can_hold_are_refused(project, monkeypatch):
    """What could not be read again is not saved, and a file without masks is none."""
    monkeypatch.setattr(masks_module, "PACKED_LIMIT", 100)
    with pytest.raises(ProjectError, match="Export them instead"):
        project.save_masks("ab12", np.ones((3, 4), int))
    (project.path / "masks" / "ab12.npz").write_bytes(pack({"labels": np.ones((3, 4), bool)}))
    assert project.load_masks("ab12", (3, 4)) is None
    assert "holds no masks" in project.problems[0]
