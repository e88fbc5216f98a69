"""Small parts that all panels are made of, so that they look alike."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractButton,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets.icons import give_icon, on_theme, readable, theme_color

GAP = 3  # pixels between controls
_LABELS = 80  # width of the names of controls, so that all controls begin at one line


def column(owner: QWidget, side: int = 0, end: int | None = None) -> QVBoxLayout:
    """A column of rows as the layout of `owner`; margins at its sides, and at its ends if they differ, in pixels."""
    layout = QVBoxLayout(owner)
    end = side if end is None else end
    layout.setContentsMargins(side, end, side, end)
    layout.setSpacing(GAP)
    return layout


def row(*parts: QWidget, name: str = "", stretch: int | None = None) -> QWidget:
    """Controls side by side, behind their common name; part `stretch` takes the room left (-1: all share it)."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(GAP)
    if name:
        label = QLabel(name)
        label.setMinimumWidth(_LABELS)
        layout.addWidget(label)
    for place, part in enumerate(parts):
        layout.addWidget(part, 1 if stretch in (place, -1) else 0)
    if stretch is None:
        layout.addStretch(1)
    return holder


def named(widget: QWidget, name: str, tip: str) -> QWidget:
    """Give a control the name that tests and users' scripts find it by, and its tooltip."""
    widget.setObjectName(name)
    widget.setToolTip(tip)
    return widget


def button(text: str, name: str, tip: str, drawing: str = "") -> QPushButton:
    """A push button, with an icon if a drawing is named."""
    made = QPushButton(text)
    named(made, name, tip)
    if drawing:
        give_icon(made, drawing)
    return made


def small_button(drawing: str, name: str, tip: str) -> QPushButton:
    """A button that is an icon alone."""
    made = button("", name, tip, drawing)
    made.setFixedSize(28, 24)
    return made


def primary(made: QAbstractButton) -> None:
    """Make a button the large one of its panel, in the theme's accent."""

    def paint() -> None:
        accent, off = theme_color("current", made), theme_color("foreground", made).name()
        made.setStyleSheet(
            f"QPushButton {{ background-color: {accent.name()}; color: {readable_on(accent)}; font-weight: 600; "
            f"padding: 5px; border-radius: 3px; }} "
            f"QPushButton:hover {{ background-color: {accent.lighter(112).name()}; }} "
            f"QPushButton:disabled {{ background-color: {off}; color: {theme_color('secondary', made).name()}; }}"
        )

    paint()
    on_theme(made, paint)


def accent_bar(bar: QProgressBar) -> None:
    """Paint a progress bar in the theme's accent, as high as the large button it takes the place of."""

    def paint() -> None:
        accent, back, text = (theme_color(part, bar) for part in ("current", "foreground", "text"))
        # two colours, one text: the accent is thinned so that the text can be read on both
        accent.setAlphaF(0.6)
        bar.setStyleSheet(
            f"QProgressBar {{ background-color: {back.name()}; color: {text.name()}; border: none; border-radius: 3px; "
            f"min-height: 24px; }} QProgressBar::chunk {{ background-color: {accent.name(QColor.NameFormat.HexArgb)}; "
            "border-radius: 3px; }"
        )

    paint()
    on_theme(bar, paint)


def tool(made: QAbstractButton) -> None:
    """Make a checkable button flat, in the accent while it is on: while its tool is in hand, its overlay shown."""

    def paint() -> None:
        accent, back, over = (theme_color(part, made) for part in ("current", "foreground", "primary"))
        made.setStyleSheet(
            f"QAbstractButton {{ background-color: {back.name()}; border: none; border-radius: 3px; "
            f"padding: 2px; font-size: 11px; }} "
            f"QAbstractButton:hover {{ background-color: {over.name()}; }} "
            f"QAbstractButton:checked {{ background-color: {accent.name()}; color: {readable_on(accent)}; }} "
            f"QAbstractButton:disabled {{ color: {theme_color('secondary', made).name()}; }}"
        )

    paint()
    on_theme(made, paint)


def readable_on(back: QColor) -> str:
    """Black or white, whichever is easier to read on a colour."""
    return "white" if back.lightnessF() < 0.65 else "black"


def line(name: str, tip: str = "", *, wraps: bool = True, faint: bool = True) -> QLabel:
    """A line of text that tells a state."""
    label = QLabel()
    label.setObjectName(name)
    label.setToolTip(tip)
    label.setWordWrap(wraps)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    if faint:
        paint_text(label, "faint")
    return label


def paint_text(label: QLabel, manner: str) -> None:
    """Paint a line as 'plain', 'faint' or 'error', in the theme's colours."""

    def paint() -> None:
        color = theme_color("error" if label.property("manner") == "error" else "text", label)
        color = readable(color, theme_color("background", label))
        opacity, size = (0.68, "font-size: 11px; ") if label.property("manner") == "faint" else (1.0, "")
        label.setStyleSheet(f"{size}color: rgba({color.red()}, {color.green()}, {color.blue()}, {opacity});")

    first = label.property("manner") is None
    label.setProperty("manner", manner)
    paint()
    if first:
        on_theme(label, paint)


def duration(seconds: float | None) -> str:
    """A time left, in words: '12 s left', '3 min left'; '' while it is unknown."""
    if seconds is None:
        return ""
    return f"{max(1, round(seconds))} s left" if seconds < 100 else f"{round(seconds / 60)} min left"
