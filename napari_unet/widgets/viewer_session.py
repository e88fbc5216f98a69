"""One session a viewer, and the one door through which other threads reach Qt."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget

from napari_unet.core.errors import check_type
from napari_unet.widgets.canvas import OwnContext
from napari_unet.widgets.icons import follow_theme
from napari_unet.widgets.preferences import preferences

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from napari_unet.session.session import Session
    from napari_unet.session.state import SessionState

_OTHER = "napari-unet"  # another plugin, by other people, whose name differs from ours by a word

_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()
_endings: weakref.WeakKeyDictionary[Any, weakref.finalize[..., Any]] = weakref.WeakKeyDictionary()
_lasts: weakref.WeakKeyDictionary[Any, list[Callable[[], object]]] = weakref.WeakKeyDictionary()
_told: set[str] = set()
_spared: set[str] = set()


def session_of(viewer: Any) -> Session:
    """The session behind the docks of a napari viewer; made at the first call.

    It is closed with the viewer's window, when the application quits, or when the viewer is gone, whichever comes
    first; never when a dock or a layer is closed.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
    """
    viewer = real(viewer)
    check_type(viewer, ViewerModel, "Give a viewer of napari: napari.current_viewer().")
    session = _sessions.get(viewer)
    if session is None:
        # not at the top of the file: it loads torch, and napari reads our manifest at its start
        from napari_unet.session.session import Session

        session = Session()
        # torch, loaded beside the dock that is being made, would hold that up for a second
        session.hold(1.0)
        QTimer.singleShot(0, lambda: session.hold(0.0))
        chosen = preferences()
        if chosen.device != "auto":
            session.use_device(chosen.device)
        if not chosen.learn:
            session.learn(False)
        keep_session(viewer, session)
        session.state_changed.connect(_spare_collector)
        _warn_of_namesake()
    return session


def _spare_collector(state: SessionState) -> None:
    """Once a model is loaded for the first time, let Python's garbage collector pass over all that was loaded with it.

    napari and torch are some 400,000 objects that stay until the end. To look through them takes 100 to 300 ms, in
    which no thread runs, a few times in a session. What is thrown away later is found as before.
    """
    if state.model and not _spared:
        _spared.add(state.model)
        gc.freeze()


def keep_session(viewer: Any, session: Session) -> None:
    """Make `session` the one of this viewer, and close it with the viewer."""
    viewer = real(viewer)
    _sessions[viewer] = session
    ending = weakref.finalize(viewer, session.close)
    _endings[viewer] = ending
    app = QApplication.instance()
    if app is not None:
        app.aboutToQuit.connect(ending)


def real(viewer: Any) -> Any:
    """The viewer behind napari's proxy (which plugins' commands are given, and which does not live long)."""
    return getattr(viewer, "__wrapped__", viewer)


def close_with_window(widget: QWidget, viewer: Any) -> None:
    """Close the session when the window that shows `widget`, a panel, is destroyed; till then it has its theme.

    napari tells plugins nothing when a window closes, and a dock that is closed with its x lives on; the one
    thing that surely happens is that the main window is destroyed.
    """
    follow_theme(widget, real(viewer))
    widget.installEventFilter(_WindowWatch(widget, real(viewer)))


def before_closing(viewer: Any, act: Callable[[], object]) -> None:
    """Do something when the window of a viewer is about to close, while its layers are there; the newest first.

    A window that is closed with its X only dies: napari removes no layer then, and so tells nothing.
    """
    _lasts.setdefault(viewer, []).append(act)


class _Closing(QObject):
    """Sees that a window is about to close."""

    def __init__(self, window: QMainWindow, viewer: Any) -> None:
        super().__init__(window)
        self._viewer = weakref.ref(viewer)
        window.installEventFilter(self)

    def eventFilter(self, _: QObject | None, event: QEvent | None) -> bool:  # noqa: N802  Qt's name
        """Do what is to be done before; the user may still call the close off, so it is done at each."""
        viewer = self._viewer()
        if event is not None and event.type() == QEvent.Type.Close and viewer is not None:
            for act in reversed(_lasts.get(viewer, [])):
                act()
        return False


class _WindowWatch(QObject):
    """Waits until a dock has a main window."""

    def __init__(self, widget: QWidget, viewer: Any) -> None:
        super().__init__(widget)
        self._ending = _endings.get(viewer)
        self._viewer = weakref.ref(viewer)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(partial(self._look_for_window, widget))

    def eventFilter(self, widget: QObject | None, event: QEvent | None) -> bool:  # noqa: N802  Qt's name
        """See when the dock gets a parent, or is shown."""
        if self._ending is not None and event is not None and isinstance(widget, QWidget):
            if event.type() == QEvent.Type.ParentChange:
                # the parent is a dock that is not in its window yet
                self._soon.start(0)
            elif event.type() == QEvent.Type.Show:
                self._look_for_window(widget)
        return False

    def _look_for_window(self, widget: QWidget) -> None:
        parent: QWidget | None = widget
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()  # also from a floating dock, which is a window of its own
        if parent is not None and self._ending is not None:
            ending, self._ending = self._ending, None
            parent.destroyed.connect(lambda: ending())
            viewer = self._viewer()
            if viewer is not None and parent.findChild(_Closing) is None:
                _Closing(parent, viewer)
                OwnContext(parent, viewer)


class _Door(QObject):
    """Carries what a signal of another thread says into the main thread, and dies with its parent."""

    passed = Signal(object)

    def __init__(self, signal: SignalInstance, owner: QObject, slot: Callable[[Any], object]) -> None:
        super().__init__(owner)
        self.passed.connect(slot, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]  # PyQt6 types too little
        signal.connect(self._enter)
        owner.destroyed.connect(_Leaving(signal, self._enter))

    def _enter(self, message: object) -> None:
        # the owner may be destroyed between this thread's look at the list of listeners and here:
        # nobody is left who would want to know
        with suppress(RuntimeError):
            self.passed.emit(message)


class _Leaving:
    """Takes a listener off a signal; holds no reference to the door, so nothing is kept alive by it."""

    def __init__(self, signal: SignalInstance, listener: Callable[..., object]) -> None:
        self._signal = signal
        self._listener = weakref.WeakMethod(listener)

    def __call__(self, *_: object) -> None:
        # where the garbage collector takes the owner, it may have emptied this before: then the listener is gone, too
        listener = getattr(self, "_listener", lambda: None)()
        if listener is not None:
            self._signal.disconnect(listener, missing_ok=True)


def listen(signal: SignalInstance, owner: QObject, slot: Callable[[Any], object]) -> None:
    """Call `slot` in the main thread for each emission of `signal`, from whatever thread, while `owner` lives.

    The only way an event of the session enters Qt.

    Parameters
    ----------
    signal : psygnal.SignalInstance
        With one argument.
    owner : QObject
        A widget, or another object of the main thread.
    slot : callable
        Gets the argument.
    """
    _Door(signal, owner, slot)


def follow(signal: SignalInstance, owner: QObject, slot: Callable[..., object]) -> None:
    """Call `slot` at once for each emission of `signal`, one of the main thread, while `owner` lives.

    A dock that is closed with napari's x is destroyed while something may still hold its Python half: a slot
    that were left on the signal would fail, and so would everybody who emits it.

    Parameters
    ----------
    signal : psygnal.SignalInstance
        Emitted in the main thread alone; `listen` is for all others.
    owner : QObject
    slot : callable
        A method.
    """
    signal.connect(slot)
    owner.destroyed.connect(_Leaving(signal, slot))


def once(owner: QObject, milliseconds: int, slot: Callable[[], object]) -> QTimer:
    """A timer that fires once after it was started; starting it again begins anew."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(slot)
    return timer


def _warn_of_namesake() -> None:
    """Say once that another plugin of nearly our name is installed beside ours."""
    if _OTHER in _told:
        return
    _told.add(_OTHER)
    with suppress(PackageNotFoundError):
        distribution(_OTHER)
        show_warning(
            f"Another plugin, '{_OTHER}', is installed beside U-Net Live ('napari-unet-live'). "
            f"They are different programs: if you meant U-Net Live, remove the other one with 'pip uninstall {_OTHER}'."
        )
