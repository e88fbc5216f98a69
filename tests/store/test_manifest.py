"""A lost or damaged project.json costs names at most; one that is not ours is left untouched."""

import pytest

from napari_unet.core.errors import ProjectError
from napari_unet.store.project import Project


def test_a_torn_manifest_is_made_again(project, fill):
    """When project.json cannot be read, corrections, masks and models are all still there, and it is kept aside."""
    fill(project)
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


def test_a_lost_manifest_is_made_again(project, fill):
    """A folder without project.json is still a project, as long as there are corrections."""
    fill(project)
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


def test_a_manifest_changed_by_hand_is_read_and_named(project, fill):
    """What somebody changed in project.json is taken, and said; the file as it was found is kept."""
    fill(project)
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
def test_a_newer_or_foreign_project_is_left_untouched(project, text, fill):
    """A newer project, or one that we never wrote, is refused, and no byte of its folder changes."""
    fill(project)
    project.close()
    (project.path / "project.json").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in project.path.rglob("*")}
    with pytest.raises(ProjectError, match=r"newer version|nested deeper"):
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
