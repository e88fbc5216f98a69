"""Our icons, painted in the colour of napari's theme, and repainted when the theme changes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.settings import get_settings
from napari.utils.theme import get_theme
from psygnal import Signal
from qtpy.QtCore import QByteArray, QObject, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer

if TYPE_CHECKING:
    from qtpy.QtWidgets import QAbstractButton, QWidget

_SIZES = (16, 20, 24, 32, 48)
_OFF = 0.3  # opacity on a button that is switched off
_THEME = "theme_of_viewer"  # property of a panel
_CONTRAST = 4.5
_MIDDLE = 0.18  # luminance of a ground from which on black stands out more than white


class _Viewers:
    """Tells that a viewer got a theme of its own: `viewer.theme = "light"` changes none of napari's settings."""

    painted = Signal()


_viewers = _Viewers()


@cache
def _folder() -> Path:
    """Where the drawings lie: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "icons"
    return inside if inside.is_dir() else package.parent / "icons"


def theme_color(part: str = "icon", owner: QObject | None = None) -> QColor:
    """A colour of napari's theme: 'icon', 'text', 'current', 'warning', 'error', 'background', 'foreground' ...

    Parameters
    ----------
    part : str
    owner : QObject, optional
        The widget to be painted: in a panel it has the theme of the panel's viewer, else that of napari's settings.
    """
    name = None
    while owner is not None and name is None:
        name, owner = owner.property(_THEME), owner.parent()
    theme = get_theme(name or get_settings().appearance.theme)
    return QColor(getattr(theme, part).as_hex())


def readable(color: QColor, ground: QColor) -> QColor:
    """A colour, mixed with white or black until text in it can be read on a ground (a contrast of 4.5, WCAG 2.2)."""
    on = _luminance(ground)
    end = np.full(3, 1.0 if on < _MIDDLE else 0.0)
    for share in np.linspace(0, 1, 21):
        mixed = QColor.fromRgbF(*((1 - share) * np.array(color.getRgbF()[:3]) + share * end).tolist())
        low, high = sorted((on, _luminance(mixed)))
        if (high + 0.05) / (low + 0.05) >= _CONTRAST:
            break
    return mixed


def _luminance(color: QColor) -> float:
    """Relative luminance, 0..1."""
    parts = np.array(color.getRgbF()[:3])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def follow_theme(panel: QWidget, viewer: Any) -> None:
    """Paint a panel, and all in it, in the theme of its viewer."""
    _watches[panel] = _ThemeWatch(panel, viewer)
    if viewer.theme != get_settings().appearance.theme:
        _viewers.painted.emit()


class _ThemeWatch:
    """Has a panel know the theme of its viewer; holds neither of the two."""

    def __init__(self, panel: QWidget, viewer: Any) -> None:
        self._panel = weakref.ref(panel)
        panel.setProperty(_THEME, viewer.theme)
        viewer.events.theme.connect(self._on_theme)  # by a weak reference, as for every method

    def _on_theme(self, event: Any) -> None:
        panel = self._panel()
        if panel is not None:
            with suppress(RuntimeError):  # of a dock that was closed the Python half may live on
                panel.setProperty(_THEME, event.value)
            _viewers.painted.emit()


_watches: weakref.WeakKeyDictionary[QObject, _ThemeWatch] = weakref.WeakKeyDictionary()


def icon(name: str, color: QColor | None = None) -> QIcon:
    """The drawing `icons/NAME.svg` in a colour (the theme's colour of icons unless told)."""
    return _painted(name, (color or theme_color()).name())


@cache
def _painted(name: str, color: str) -> QIcon:
    """A drawing in a colour; kept, for painting it takes some 20 ms and buttons change their icons while one works."""
    svg = (_folder() / f"{name}.svg").read_text(encoding="utf-8")
    renderer = QSvgRenderer(QByteArray(svg.replace("currentColor", color).encode()))
    painted = QIcon()
    for size in _SIZES:
        painted.addPixmap(_paint(renderer, size, 1.0), QIcon.Mode.Normal)
        painted.addPixmap(_paint(renderer, size, _OFF), QIcon.Mode.Disabled)
    return painted


def _paint(renderer: QSvgRenderer, size: int, opacity: float) -> QPixmap:
    pixmap = QPixmap(QSize(size, size))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setOpacity(opacity)
    renderer.render(painter, QRectF(0, 0, size, size))
    painter.end()
    return pixmap


def give_icon(button: QAbstractButton, name: str) -> None:
    """Put an icon on a button, in the theme's colour for as long as the button lives."""
    button.setProperty("drawing", name)
    if button.property("follows_theme") is None:
        button.setProperty("follows_theme", True)
        on_theme(button, lambda: button.setIcon(icon(str(button.property("drawing")), theme_color(owner=button))))
    button.setIcon(icon(name, theme_color(owner=button)))


def on_theme(owner: QObject, repaint: Callable[[], object]) -> None:
    """Call `repaint` whenever the theme changes, of napari or of a viewer, while `owner` lives."""
    emitter = get_settings().appearance.events.theme

    def changed(_: object = None) -> None:
        repaint()

    def leave(*_: object) -> None:
        emitter.disconnect(changed)
        _viewers.painted.disconnect(changed, missing_ok=True)

    emitter.connect(changed)
    _viewers.painted.connect(changed)
    owner.destroyed.connect(leave)
