"""What napari reads of us: the manifest, the samples, the settings, the icons, the keys."""

import subprocess
import sys
from pathlib import Path

import pytest
from napari.settings import _clear_plugin_settings_cache, get_plugin_settings, get_settings
from napari.utils.action_manager import action_manager
from npe2 import PluginManifest
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QPushButton

from napari_unet.widgets import icons, preferences, samples, shortcuts
from napari_unet.widgets.viewer_session import real

MANIFEST = Path(samples.__file__).parents[1] / "napari.yaml"
FOLDER = Path(samples.__file__).parents[2] / "icons"


@pytest.fixture
def manifest():
    """Our manifest."""
    return PluginManifest.from_file(MANIFEST)


def test_every_command_of_the_manifest_is_there(manifest):
    """Each python_name leads to something that can be called."""
    manifest.validate_imports()
    assert manifest.name == "napari-unet-live"
    assert len(manifest.contributions.commands) == 8


@pytest.mark.parametrize("library", ["torch", "scipy.ndimage", "scipy.sparse", "skimage.segmentation"])
def test_the_docks_can_be_imported_without_what_takes_long_to_load(manifest, library):
    """Neither napari's start nor a dock that opens, with the session behind it, must wait for it."""
    modules = {command.python_name.split(":")[0] for command in manifest.contributions.commands}
    modules.add("napari_unet.session.session")
    code = f"import sys, {', '.join(sorted(modules))}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=MANIFEST.parents[1]).returncode == 0


@pytest.mark.parametrize("stem", samples.SAMPLES)
def test_the_samples_are_real_pictures_that_napari_shows(stem):
    """Each key of File > Open Sample gives one image layer."""
    ((pixels, options, kind),) = getattr(samples, stem)()
    assert kind == "image"
    assert min(pixels.shape[:2]) >= 256
    assert options["rgb"] == (pixels.ndim == 3)


def test_a_missing_sample_is_one_sentence(viewer, monkeypatch, tmp_path):
    """A broken installation says what to do."""
    told = []
    monkeypatch.setattr(samples, "FOLDER", tmp_path)
    monkeypatch.setattr(samples, "show_error", told.append)
    assert not samples.open_sample(viewer, "fluorescence")
    assert len(told) == 1
    assert "Install" in told[0]


def test_the_settings_have_the_defaults_of_the_manifest(manifest):
    """What is written in two places is the same."""
    properties = manifest.contributions.configurations["work"].properties
    assert {name: p.default for name, p in properties.items()} == vars(preferences.Preferences())


def test_what_the_user_set_in_napari_holds(manifest, npe2pm, plugin_settings, monkeypatch, tmp_path):
    """From the moment at which napari has it, and in its next start."""
    monkeypatch.setattr(get_settings(), "config_path", tmp_path / "settings.yaml")  # where the fixture has napari save
    npe2pm.register(manifest)
    assert preferences.preferences() == preferences.Preferences()
    get_plugin_settings(manifest.name).work.device = "cpu"
    assert preferences.preferences() == preferences.Preferences(device="cpu")
    _clear_plugin_settings_cache()
    assert preferences.preferences() == preferences.Preferences(device="cpu")


def test_napari_is_not_asked_for_what_was_never_set(monkeypatch):
    """It would read the manifest of every plugin again before our dock opens."""
    asked = []
    monkeypatch.setattr(preferences, "get_plugin_settings", asked.append)
    assert preferences.preferences() == preferences.Preferences()
    assert not asked


def test_without_the_manifest_the_defaults_hold(monkeypatch):
    """A script without the plugin registered gets the defaults."""

    def unknown(_):
        raise KeyError

    monkeypatch.setattr(get_settings(), "config_path", None)
    monkeypatch.setattr(preferences, "get_plugin_settings", unknown)
    assert preferences.preferences() == preferences.Preferences()


@pytest.mark.parametrize("drawing", sorted(path.stem for path in FOLDER.glob("*.svg")))
def test_every_drawing_is_painted(qapp, drawing):
    """It is a valid SVG in the theme's colour, and paler when switched off."""
    painted = icons.icon(drawing)
    assert "currentColor" in (FOLDER / f"{drawing}.svg").read_text(encoding="utf-8")
    image = painted.pixmap(QSize(24, 24)).toImage()
    assert any(image.pixelColor(x, y).alpha() > 100 for x in range(24) for y in range(24))


def test_icons_follow_the_theme(qtbot):
    """Dark to light: the icon is painted anew in the other colour."""
    button = QPushButton()
    qtbot.addWidget(button)
    settings = get_settings().appearance
    icons.give_icon(button, "delete")
    before = button.icon().cacheKey()
    settings.theme = "light"
    assert button.icon().cacheKey() != before
    settings.theme = "dark"


def test_the_keys_are_registered_and_a_users_own_key_is_left_alone(monkeypatch):
    """A key that the user gave to another action is not taken; the action is there all the same."""
    shortcuts.register()
    bound = []
    chosen = get_settings().shortcuts.shortcuts
    monkeypatch.setattr(shortcuts, "_registered", [])
    monkeypatch.setattr(action_manager, "bind_shortcut", lambda name, key: bound.append((name, key)))
    monkeypatch.setitem(chosen, "napari:new_label", ["D"])
    shortcuts.register()
    assert ("napari_unet:cut", "K") in bound
    assert "napari_unet:delete" not in dict(bound)


def test_the_real_viewer_stands_behind_the_proxy():
    """Anything that is no proxy is itself."""
    thing = object()
    assert real(thing) is thing
