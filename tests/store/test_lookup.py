"""Which project a picture belongs to."""

import os
import sys

import pytest

from napari_unet.store import lookup
from napari_unet.store.lookup import project_of
from napari_unet.store.places import default_folder
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord

KEY, OTHER = "a" * 64, "b" * 64
SHAPE = (30, 40)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """The user's data folder is one of the test's own."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def begin(tmp_path):
    """Function that begins a project that knows a picture, by default b.tif beside it; its folder."""

    def begin_project(folder, key=KEY, path=str(tmp_path / "b.tif"), age=0):
        with Project.create(tmp_path / folder) as project:
            project.add_picture(PictureRecord(key, "b", path, SHAPE))
        for part in ("project.json", "corrections"):
            os.utime(project.path / part, (1e9 - age, 1e9 - age))
        return project.path

    return begin_project


def test_a_project_is_found_from_each_of_its_pictures(tmp_path, begin):
    """Beside the picture, or in the user's data folder; the key counts, wherever the picture lay before."""
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) is None
    fallback = begin(default_folder(None).with_name("far.unetproj"), path="/gone/b.tif")
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) == fallback
    beside = begin("a.unetproj", path="")
    os.utime(beside / "project.json")
    assert project_of(tmp_path / "renamed.tif", KEY, SHAPE) == beside
    assert project_of(tmp_path / "c.tif", OTHER, SHAPE) is None


def test_the_own_project_goes_first_then_the_one_changed_last_then_the_path(tmp_path, begin):
    """A picture that was saved anew is known by its path, while no project knows its content."""
    by_path = begin("0.unetproj", key=OTHER)
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) == by_path
    assert project_of(tmp_path / "b.tif", KEY, (1, *SHAPE)) is None
    begin("1.unetproj", age=30)
    newer = begin("2.unetproj", age=10)
    begin("3.unetproj", age=20)
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) == newer
    own = begin("b.unetproj", key=OTHER, path="", age=40)
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) == own


def test_a_damaged_project_and_one_for_reading_only_are_left_out(tmp_path, begin, monkeypatch):
    """They keep nobody from opening a picture, nor from saving corrections."""
    good = begin("good.unetproj", age=50)
    (begin("damaged.unetproj") / "project.json").write_bytes(b"{" + KEY.encode())
    newer = begin("newer.unetproj") / "project.json"
    newer.write_text(newer.read_text().replace('"format": 1', '"format": 99').replace("U-Net", "V-Net"))
    (tmp_path / "file.unetproj").write_text("")
    locked = begin("locked.unetproj")
    monkeypatch.setattr(lookup, "can_write", lambda folder: folder != locked)
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) == good


def test_only_so_many_projects_are_looked_into(tmp_path, begin, monkeypatch):
    """A folder of hundreds of projects does not make a picture slow to open."""
    monkeypatch.setattr(lookup, "LOOKED_INTO", 3)
    begin("old.unetproj", age=9)
    for number in range(3):
        begin(f"{number}.unetproj", key=OTHER, path="")
    assert project_of(tmp_path / "b.tif", KEY, SHAPE) is None
