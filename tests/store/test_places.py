"""Where a project goes by itself, and which paths in it are followed."""

import os
import sys
from pathlib import Path

import pytest

from napari_unet.core.errors import ProjectError
from napari_unet.store import places
from napari_unet.store.places import check_inside, default_folder, follow_hint, hint_of, is_project


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("cells.tif", "cells.unetproj"),
        ("cells.ome.tiff", "cells.unetproj"),
        ("plate.well.png", "plate.well.unetproj"),
        ("noending", "noending.unetproj"),
        ("a.ome.zarr", "a.unetproj"),
        ("a.ome.zarr/0/1", "a.unetproj"),
    ],
)
def test_a_project_lies_beside_its_picture(tmp_path, picture, name):
    """The folder has the picture's name, and never lies inside a zarr."""
    assert default_folder(tmp_path / picture) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


def test_pictures_in_folders_that_cannot_be_written_have_projects_at_home(tmp_path, monkeypatch):
    """Where nothing can be written, a picture has a folder at home, and its namesake has another."""
    monkeypatch.setattr(places, "can_write", lambda folder: False)
    monkeypatch.setattr(places, "_data_folder", lambda: tmp_path / "data")
    first, second = (default_folder(tmp_path / folder / "cells.tif") for folder in ("a", "b"))
    assert first.parent == second.parent == tmp_path / "data"
    assert first.name.startswith("cells-")
    assert first.suffix == ".unetproj"
    assert first != second
    assert first == default_folder(tmp_path / "a" / "cells.tif")
    assert default_folder(None) == tmp_path / "data" / "untitled.unetproj"


def test_a_folder_that_is_missing_cannot_be_written(tmp_path):
    """A picture of a folder that is not there gets a project at home."""
    assert tmp_path not in default_folder(tmp_path / "gone" / "cells.tif").parents


@pytest.mark.parametrize(
    ("platform", "variable", "wanted"),
    [
        ("linux", "XDG_DATA_HOME", "X/unet-live/projects"),
        ("linux", None, "H/.local/share/unet-live/projects"),
        ("win32", "APPDATA", "X/unet-live/projects"),
        ("win32", None, "H/AppData/Roaming/unet-live/projects"),
        ("darwin", None, "H/Library/Application Support/unet-live/projects"),
    ],
)
def test_each_system_has_its_own_folder_for_data(monkeypatch, platform, variable, wanted):
    """Data goes where the system's other programs put theirs."""
    for name in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "X")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("H"))
    assert default_folder(None).parent == Path(wanted)


def test_a_path_near_the_project_moves_with_it(tmp_path):
    """A picture beside the project is kept as a relative path and found from there; one elsewhere as it is."""
    folder = tmp_path / "cells.unetproj"
    near, far = str(tmp_path / "sub" / "a.tif"), str(tmp_path.parent / "other" / "b.tif")
    assert hint_of(folder, near) == "../sub/a.tif"
    assert hint_of(folder, far) == far
    assert hint_of(folder, "") == ""
    assert follow_hint(folder, "../sub/a.tif") == Path(near)
    assert follow_hint(folder, far) == Path(far)
    assert follow_hint(tmp_path / "moved" / "x.unetproj", "../sub/a.tif") == tmp_path / "moved" / "sub" / "a.tif"


@pytest.mark.parametrize(
    "hint",
    [
        "",
        "//server/share/a.tif",
        "\\\\server\\share\\a.tif",
        "\\/server/x",
        "http://x/a.tif",
        "a\0b",
        "con",
        "../Aux.tif",
        "x/nul .png",
    ],
)
def test_a_path_off_this_machine_is_not_followed(tmp_path, hint):
    """An address, a network name, a device or a broken path in a stranger's project leads nowhere."""
    assert follow_hint(tmp_path, hint) is None


@pytest.mark.skipif(os.name == "nt", reason="a Windows path is good on Windows")
def test_a_path_of_windows_is_not_followed_elsewhere(tmp_path):
    """A drive letter means nothing on this system."""
    assert follow_hint(tmp_path, "C:\\data\\a.tif") is None


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("name", ["corrections", "models", "masks", "project.json", "lock", "lock.json"])
def test_a_part_that_is_a_link_is_refused(tmp_path, name):
    """A project whose parts lie elsewhere is not opened; a project that is reached by a link is."""
    real, inside = tmp_path / "real", tmp_path / "project"
    real.mkdir()
    inside.mkdir()
    check_inside(inside)
    (tmp_path / "alias").symlink_to(inside)
    check_inside(tmp_path / "alias")
    (inside / name).symlink_to(real / "anything")
    for folder in (inside, tmp_path / "alias"):
        with pytest.raises(ProjectError, match="a link to somewhere else"):
            check_inside(folder)


def test_a_project_is_known_by_what_is_in_it(tmp_path):
    """A folder with corrections is a project even when `project.json` is lost; an empty one is none."""
    assert not is_project(tmp_path)
    (tmp_path / "corrections").mkdir()
    assert is_project(tmp_path)
