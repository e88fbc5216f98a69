"""Keys of our tools, registered with napari so that users can change them under Preferences > Shortcuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Labels
from napari.settings import get_settings
from napari.utils.action_manager import action_manager
from napari.utils.shortcuts import default_shortcuts

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

# tool: (what it does, its key on a label layer); all of them are free there in napari 0.9
TOOLS: dict[str, tuple[str, str]] = {
    "click": ("Click an object to segment it", "A"),
    "onward": ("Carry the object that was kept last on to the next slices or frames", "G"),
    "delete": ("Delete the object under the cursor", "D"),
    "join": ("Join the object under the cursor to the next one you click", "J"),
    "cut": ("Cut an object by a line", "K"),
    "accept": ("Yes, right: the object under the cursor is right", "Y"),
    "region": ("Everything in a rectangle is right", "R"),
    "nothing": ("There is nothing in a rectangle", "Shift-R"),
    "suggest": ("Fly to the place where a correction helps most", "N"),
    "taught": ("Show what has been taught", "T"),
    "doubt": ("Show where the model is in doubt", "U"),
}

_registered: list[bool] = []


def on_activate(context: Any) -> None:
    """Called by napari before the first of our contributions is used."""
    del context
    register()


def register() -> None:
    """Register our actions with napari, once; a key that the user gave to something else is left alone."""
    if _registered:
        return
    _registered.append(True)
    chosen = get_settings().shortcuts.shortcuts
    taken = {
        str(key).upper()
        for name, keys in chosen.items()
        if list(keys) != list(default_shortcuts.get(name, []))
        for key in keys
    }
    for tool, (does, key) in TOOLS.items():
        name = action_name(tool)
        action_manager.register_action(name, _command(tool), f"U-Net Live: {does}", Labels)
        if name not in chosen and key.replace("-", "+").upper() not in taken:
            action_manager.bind_shortcut(name, key)


def action_name(tool: str) -> str:
    """Name of a tool's action in napari's preferences."""
    return f"napari_unet:{tool}"


def tip(widget: QWidget, tool: str, text: str) -> None:
    """Give a button a tooltip that names its key, and goes on naming it when the user changes it."""
    name = action_name(tool)
    chosen = get_settings().shortcuts.shortcuts
    keys = [str(key) for key in chosen.get(name, [TOOLS[tool][1].replace("-", "+")])]

    def show(keys: list[str]) -> None:
        widget.setToolTip(f"{text} ({' or '.join(keys)})" if keys else text)

    def changed(event: Any) -> None:
        if event.name == name:
            show([str(event.shortcut)] if event.shortcut else [])

    show(keys)
    action_manager.events.shortcut_changed.connect(changed)
    widget.destroyed.connect(lambda *_: action_manager.events.shortcut_changed.disconnect(changed))


def _command(tool: str) -> Callable[[Labels], None]:
    """What the key of a tool does on a label layer."""

    def act(layer: Labels) -> None:
        _act(tool, layer)

    act.__name__ = tool
    act.__doc__ = TOOLS[tool][0]
    return act


def _act(tool: str, layer: Labels) -> None:
    # not at the top of the file: napari calls on_activate before anything is open
    from napari_unet.widgets.carrier import carrier_of
    from napari_unet.widgets.desk import desk_of_layer
    from napari_unet.widgets.gestures import gestures_of
    from napari_unet.widgets.guide import guide_of

    desk = desk_of_layer(layer)
    if desk is None:
        napari.utils.notifications.show_info("This key acts on the masks of a picture that is open in U-Net Live.")
    elif tool == "taught":
        desk.show("taught", not desk.shows_taught)
    elif tool == "suggest":
        guide_of(desk.viewer).go()
    elif tool == "onward":
        carrier_of(desk.viewer).go()
    elif tool == "doubt":
        desk.show("doubt", not desk.shows_doubt)
    elif tool in ("delete", "join", "accept"):
        gestures_of(desk.viewer).at_cursor(tool, layer)
    else:
        gestures_of(desk.viewer).start(tool)
