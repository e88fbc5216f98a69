"""Our icons, painted in the colour of napari's theme, and repainted when the theme changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import QByteArray, QObject, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer

if TYPE_CHECKING:
    from qtpy.QtWidgets import QAbstractButton

_SIZES = (16, 20, 24, 32, 48)
_OFF = 0.3  # opacity on a button that is switched off


@cache
def _folder() -> Path:
    """Where the drawings lie: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "icons"
    return inside if inside.is_dir() else package.parent / "icons"


def theme_color(part: str = "icon") -> QColor:
    """A colour of napari's theme: 'icon', 'text', 'current', 'warning', 'error', 'background', 'foreground' ..."""
    theme = get_theme(get_settings().appearance.theme)
    return QColor(getattr(theme, part).as_hex())


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
        on_theme(button, lambda: button.setIcon(icon(str(button.property("drawing")))))
    button.setIcon(icon(name))


def on_theme(owner: QObject, repaint: Callable[[], object]) -> None:
    """Call `repaint` whenever the theme changes, while `owner` lives."""
    emitter = get_settings().appearance.events.theme

    def changed(_: object = None) -> None:
        repaint()

    emitter.connect(changed)
    owner.destroyed.connect(lambda *_: emitter.disconnect(changed))
