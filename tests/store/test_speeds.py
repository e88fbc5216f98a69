"""The cache of measured speeds."""

import pytest

from napari_unet.core.speeds import Speed
from napari_unet.store import speeds as cache
from napari_unet.store.speeds import read_speeds, write_speeds

TABLE = [Speed("torch", "float32", 0.25), Speed("torch", "bfloat16", 0.125, 0.9999, 0.001)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """A cache of the test's own, on every system."""
    monkeypatch.setattr(cache, "_path", lambda: tmp_path / "cache" / "speeds.json")


def test_nothing_was_measured_yet():
    """Without a file there is no table."""
    assert read_speeds("here") == []


def test_what_was_measured_is_known():
    """Each table is kept beside the others."""
    write_speeds("here", TABLE)
    write_speeds("there", TABLE[:1])
    assert read_speeds("here") == TABLE
    assert read_speeds("there") == TABLE[:1]
    assert read_speeds("elsewhere") == []


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}", b'{"here": [{}]}', b"[" * 5000])
def test_a_damaged_cache_is_none(damage):
    """It is measured again, and written anew."""
    write_speeds("here", TABLE)
    cache._path().write_bytes(damage)
    assert read_speeds("here") == []
    write_speeds("here", TABLE)
    assert read_speeds("here") == TABLE


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path, monkeypatch):
    """Prediction goes on without it."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cache, "_path", lambda: tmp_path / "file" / "speeds.json")
    write_speeds("here", TABLE)
    assert read_speeds("here") == []


@pytest.mark.parametrize(("system", "part"), [("linux", "x"), ("darwin", "Caches"), ("win32", "y")])
def test_the_folder_is_the_systems(system, part, monkeypatch, tmp_path):
    """Each system has its own folder for caches."""
    monkeypatch.undo()
    monkeypatch.setattr(cache.sys, "platform", system)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "y"))
    assert part in cache._path().parts
    assert cache._path().name == "speeds.json"
