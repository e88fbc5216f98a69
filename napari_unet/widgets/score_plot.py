"""The live curve: loss as a line, the score of each version as a dot; hover shows what it was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_unet.core.events import TrainStep, WeightsChanged
from napari_unet.widgets.icons import on_theme, theme_color

_MOST = 600  # points of loss kept: more than there are pixels
_HEIGHT, _HIGHEST = 50, 140
_WITH_LEGEND = 90  # from this height on there is room to say what the lines are
_LEGEND = 16
_PAD = 8
_SMOOTH = 0.2  # weight of the newest loss in the running mean


@dataclass(frozen=True)
class _Dot:
    """A version: after how many losses it took over, and its score."""

    place: int
    version: int
    score: float
    learnt: int


class ScorePlot(QWidget):
    """A small plot in napari's colours: loss falls (grey), the score of the versions rises (accent)."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        on_theme(self, self.update)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """As wide as the dock, as high as three lines: all that is needed at once fits into a small window (`grow`)."""
        return QSize(240, _HEIGHT)

    def grow(self, more: int) -> None:
        """Take `more` pixels of height, or give them back, as far as there is a use for them."""
        self.setFixedHeight(min(_HIGHEST, max(_HEIGHT, self.height() + more)))

    def forget(self) -> None:
        """Begin anew."""
        self._losses: list[float] = []
        self._first = 0  # how many losses were dropped at the left
        self._dots: list[_Dot] = []
        self._refused: list[int] = []
        self.update()

    def add(self, event: TrainStep | WeightsChanged) -> None:
        """Take one event of the learning in."""
        end = self._first + len(self._losses)
        if isinstance(event, WeightsChanged):
            self._dots.append(_Dot(end, event.version, event.score_after, event.learnt))
        elif event.kept is False:
            self._refused.append(end)
        elif math.isfinite(event.loss):
            before = self._losses[-1] if self._losses else event.loss
            self._losses.append(before + _SMOOTH * (event.loss - before))
            if len(self._losses) > _MOST:
                del self._losses[0]
                self._first += 1
        self.update()

    # --- drawing ---

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802  Qt's name and arguments
        """Draw the curve."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = theme_color("text", self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_faint(text, 0.05))
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        self._draw_losses(painter, _faint(text, 0.45))
        self._draw_refused(painter, _faint(text, 0.25))
        self._draw_dots(painter)
        self._draw_legend(painter)
        painter.end()

    def _draw_legend(self, painter: QPainter) -> None:
        """Say what the lines are, where there is room."""
        if self.height() < _WITH_LEGEND:
            return
        font = painter.font()
        font.setPixelSize(10)
        painter.setFont(font)
        place = QRectF(_PAD, self.height() - _LEGEND, self.width() - 2 * _PAD, _LEGEND - 3)
        painter.setPen(_faint(theme_color("text", self), 0.6))
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft, "loss")
        if self._shown():
            painter.setPen(self._accent)
            painter.drawText(place, Qt.AlignmentFlag.AlignRight, "score of each version")

    @property
    def _accent(self) -> QColor:
        """The theme's accent, so that it is seen on its background."""
        accent = theme_color("current", self)
        return accent.lighter(140) if theme_color("background", self).lightnessF() < 0.5 else accent.darker(160)

    def _draw_losses(self, painter: QPainter, color: QColor) -> None:
        if len(self._losses) < 2:
            return
        low, high = min(self._losses), max(self._losses)
        points = [
            QPointF(self._x(self._first + i), self._y((loss - low) / max(high - low, 1e-9)))
            for i, loss in enumerate(self._losses)
        ]
        painter.setPen(QPen(color, 1.4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(points))

    def _draw_refused(self, painter: QPainter, color: QColor) -> None:
        painter.setPen(QPen(color, 1, Qt.PenStyle.DotLine))
        for place in self._refused:
            if place >= self._first:
                x = self._x(place)
                painter.drawLine(QPointF(x, _PAD / 2), QPointF(x, self.height() - _PAD / 2))

    def _draw_dots(self, painter: QPainter) -> None:
        accent = self._accent
        points = [self._point(dot) for dot in self._shown()]
        painter.setPen(QPen(accent, 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(points))
        painter.setBrush(accent)
        painter.setPen(QPen(theme_color("background", self), 1.2))
        for point in points:
            painter.drawEllipse(point, 4.2, 4.2)

    def _shown(self) -> list[_Dot]:
        return [dot for dot in self._dots if math.isfinite(dot.score)]

    def _point(self, dot: _Dot) -> QPointF:
        scores = [d.score for d in self._shown()]
        low, high = min(scores), max(scores)
        # at least 0.1 of score from bottom to top: a small wobble is not to look like a fall
        room = max(high - low, 0.1)
        return QPointF(self._x(max(dot.place, self._first)), self._y((dot.score - (low + high - room) / 2) / room))

    def _x(self, place: int) -> float:
        end = max(1, len(self._losses) - 1)
        return _PAD + min(1.0, (place - self._first) / end) * (self.width() - 2 * _PAD)

    def _y(self, share: float) -> float:
        low = _LEGEND if self.height() >= _WITH_LEGEND else _PAD
        return self.height() - low - share * (self.height() - low - _PAD)

    # --- hovering ---

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802  Qt's name
        """Tell about the version, or the loss, under the mouse."""
        if event is None:
            return
        said = self.told_at(event.position())
        if said:
            QToolTip.showText(event.globalPosition().toPoint(), said, self)
        else:
            QToolTip.hideText()

    def told_at(self, point: QPointF) -> str:
        """What is known of the place under a point of the widget; '' for none."""
        near = [dot for dot in self._shown() if (self._point(dot) - point).manhattanLength() < 12]
        if near:
            dot = near[-1]
            return f"Version {dot.version}: score {dot.score:.2f}, learnt from {dot.learnt} corrections"
        if len(self._losses) < 2:
            return ""
        share = (point.x() - _PAD) / max(1, self.width() - 2 * _PAD)
        if not 0 <= share <= 1:
            return ""
        return f"Loss {self._losses[round(share * (len(self._losses) - 1))]:.3f}"

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802  Qt's name and arguments
        """Nothing is told once the mouse is gone."""
        QToolTip.hideText()


def _faint(color: QColor, opacity: float) -> QColor:
    faint = QColor(color)
    faint.setAlphaF(opacity)
    return faint
