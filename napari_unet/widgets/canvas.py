"""The canvas: the widget that napari draws a viewer on, and its OpenGL context."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QWidget


def canvas_of(window: QWidget) -> QOpenGLWidget | None:
    """The canvas of napari in one of its windows; None where there is none.

    Parameters
    ----------
    window : QWidget
        Of a main window what is in the middle is searched, for a dock of another plugin may have a canvas, too.
    """
    middle = window.centralWidget() if isinstance(window, QMainWindow) else window
    canvases = middle.findChildren(QOpenGLWidget) if middle is not None else []
    return next((canvas for canvas in canvases if type(canvas).__name__ == "CanvasBackendDesktop"), None)


class OwnContext(QObject):
    """Has napari free what layers held on the graphics card in the context of the canvas that drew them.

    When a layer is removed, napari 0.9.2 deletes its textures and programs in whatever OpenGL context is current,
    and that is mostly the one in which Qt puts the window together. Mesa's software renderers, at least those of
    Mesa 22.3, then unbind what the canvas draws with without knowing it, and the next drawing is a segmentation
    fault. To make the canvas's own context current before is all that is missing.

    Parameters
    ----------
    window : QMainWindow
        Owns this object.
    viewer : napari.Viewer
        That the window shows.
    """

    def __init__(self, window: QMainWindow, viewer: Any) -> None:
        super().__init__(window)
        self._window = window
        events = viewer.layers.events
        # napari deletes when it hears `removed` or `end_batch`, and hears them before any plugin does: so it must be
        # done at what comes before these; `removed`, as `end_batch` may follow
        for event in (events.begin_batch, events.removing, events.removed):
            event.connect(self._enter)

    def _enter(self) -> None:
        # a window that is being destroyed has no canvas any more, and draws nothing
        with suppress(RuntimeError):
            canvas = canvas_of(self._window)
            if canvas is not None and canvas.isValid():
                canvas.makeCurrent()
