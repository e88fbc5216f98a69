"""What the user set under napari's preferences for U-Net Live; the defaults are those of `napari.yaml`."""

from __future__ import annotations

from dataclasses import dataclass

from napari.settings import get_plugin_settings, get_settings

PLUGIN = "napari-unet-live"


@dataclass(frozen=True)
class Preferences:
    """How a session starts.

    Attributes
    ----------
    device : {'auto', 'cpu', 'cuda', 'mps'}
    learn : bool
        Learn in the background from the first correction on.
    fresh : bool
        Predict by itself what the user moves to.
    show_taught : bool
    pause : int
        How long after the last stroke it is taken as a correction, in milliseconds.
    """

    device: str = "auto"
    learn: bool = True
    fresh: bool = True
    show_taught: bool = True
    pause: int = 800


def preferences() -> Preferences:
    """The user's settings; the defaults where napari does not know the plugin (in a script, without its manifest)."""
    path = get_settings().config_path
    if path is not None and not path.with_name(f"{PLUGIN}.yaml").exists():
        return Preferences()  # never set; to say so, napari reads all manifests again, a third of a second and more
    try:
        work = get_plugin_settings(PLUGIN).work
    except (KeyError, ValueError, AttributeError):
        return Preferences()
    return Preferences(work.device, work.learn, work.fresh, work.show_taught, work.pause)
