"""Settings: what the user chose of sizes and thresholds is there again tomorrow."""

from dataclasses import replace

import pytest

from napari_unet.core.instances import InstanceSettings
from napari_unet.store.project import Project
from tests.session.conftest import start


@pytest.fixture
def left(make_session, source, paint, tmp_path):
    """Function that leaves a project of one correction, with settings chosen before it or after it; its folder."""

    def leave(chosen, when, diameter=30.0):
        session, ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
        session.learn(False)
        for now in ("before", "after"):
            if now == when:
                session.rebuild(replace(session.settings, **chosen))
                session.use_diameter(diameter)
            if now == "before":
                session.add_edit(paint(picture, (60, 60)))
            assert session._keeper.flush(60)
        session.close(60)
        assert ear.of("failed") == []
        return session.state.project

    return leave


@pytest.mark.parametrize("when", ["before", "after"])
def test_sizes_and_thresholds_come_back(left, make_session, source, tmp_path, when):
    """Chosen before the project was begun, or after: who opens the picture tomorrow has them again."""
    left({"foreground": 0.7, "separation": 0.2}, when)
    session, ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    assert session.settings == InstanceSettings(foreground=0.7, separation=0.2)
    assert session.state.given == 30
    assert picture.scale == pytest.approx(session.state.diameter / 30)
    session.use_diameter(None)
    session.close(60)
    session, _ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    assert session.state.given is None
    assert session.settings.foreground == 0.7
    assert ear.of("failed") == []


def test_another_project_brings_its_own(left, make_session, tmp_path):
    """And one that is begun keeps those that hold."""
    first = left({"foreground": 0.7}, "after")
    session, _ear = make_session()
    session.rebuild(InstanceSettings(separation=0.9))
    session.open_project(tmp_path / "new.unetproj")
    assert session.settings == InstanceSettings(separation=0.9)
    session.open_project(first)
    assert (session.settings, session.state.given) == (InstanceSettings(foreground=0.7), 30)
    session.open_project(tmp_path / "new.unetproj")
    assert (session.settings, session.state.given) == (InstanceSettings(separation=0.9), None)


def test_what_else_a_project_keeps_stays(left, make_session):
    """Settings of another version of this program are kept beside ours."""
    folder = left({}, "before")
    with Project.open(folder) as project:
        project.save_settings({"of another version": [1, 2]})
    session, _ear = make_session()
    session.open_project(folder)
    session.use_diameter(44)
    session.close(60)
    with Project.open(folder) as project:
        assert (project.settings["of another version"], project.settings["diameter"]) == ([1, 2], 44)


def test_what_a_strangers_project_says_is_looked_at(make_session, tmp_path):
    """Values that a setting cannot have are said, and those that hold stay."""
    session, ear = make_session()
    for number, (name, value) in enumerate(
        [
            ("foreground", 7),
            ("separation", "much"),
            ("separation", True),
            ("min_area", 4.5),
            ("min_area", -1),
            ("fill_holes", 1),
            ("diameter", 0),
            ("diameter", [30]),
        ]
    ):
        folder = tmp_path / f"{number}.unetproj"
        with Project.create(folder) as project:
            project.save_settings({"foreground": 0.9, name: value})
        session.open_project(folder)
        assert f"{name} cannot be {value}" in ear.of("failed")[-1]
        assert (session.settings, session.state.given) == (InstanceSettings(), None)
    assert len(ear.of("failed")) == 8
