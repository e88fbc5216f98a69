"""Hand: clicks, drags and keys on napari's canvas, through Qt's own events, as a person's hand makes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from qtpy import QtTest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QWidget

STEPS = 4
PAUSE_MS = 17  # a screen's refresh: vispy leaves out moves that follow each other more closely

Point = Sequence[float]
QTest: Any = QtTest.QTest  # its type stubs know no static methods


def wait(milliseconds: int) -> None:
    """Let the window live for a while."""
    QTest.qWait(milliseconds)


class Hand:
    """Works on the canvas of a viewer in 2-D view.

    Parameters
    ----------
    viewer : napari.Viewer
        With a window on a (virtual) screen.
    canvas : QWidget
        The native widget on which napari draws.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self.viewer, self.canvas = viewer, canvas

    def pixel(self, point: Point) -> QPoint:
        """Where a point (y, x) of the world is on the canvas."""
        camera = self.viewer.scene.camera
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        y, x = middle + (np.array(point) - np.array(camera.center[-2:])) * camera.zoom
        return QPoint(round(x), round(y))

    def drag(self, points: Sequence[Point]) -> None:
        """Press at the first point, move over the others, release at the last."""
        left = Qt.MouseButton.LeftButton
        QTest.mouseMove(self.canvas, self.pixel(points[0]))
        QTest.mousePress(self.canvas, left, pos=self.pixel(points[0]))
        for a, b in pairwise(points):
            for share in np.linspace(0, 1, STEPS + 1)[1:]:
                self._move_pressed(self.pixel(np.array(a) + share * (np.array(b) - np.array(a))))
        QTest.mouseRelease(self.canvas, left, pos=self.pixel(points[-1]))
        QApplication.processEvents()

    def click(self, point: Point, *, right: bool = False) -> None:
        """Press and release at a point, with the left button or with the right one."""
        button = Qt.MouseButton.RightButton if right else Qt.MouseButton.LeftButton
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.mouseClick(self.canvas, button, pos=self.pixel(point))
        QApplication.processEvents()

    def press(self, key: Qt.Key) -> None:
        """Press and release a key, with the focus on the canvas."""
        QTest.keyClick(self.canvas, key)
        QApplication.processEvents()

    def _move_pressed(self, spot: QPoint) -> None:
        """Move with the button down."""
        QTest.qWait(PAUSE_MS)
        move = QMouseEvent(
            QEvent.Type.MouseMove,
            QPointF(spot),
            QPointF(self.canvas.mapToGlobal(spot)),
            Qt.MouseButton.NoButton,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, move)
