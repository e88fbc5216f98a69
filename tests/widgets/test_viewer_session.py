"""One session a viewer; the door from threads to Qt dies with its owner; the session closes with the viewer."""

import gc
import inspect
import threading
import time

import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from psygnal import Signal
from qtpy.QtCore import QObject, QThread
from qtpy.QtWidgets import QWidget

from napari_unet.session.learner import Learner
from napari_unet.session.session import Session
from napari_unet.session.state import SessionState
from napari_unet.widgets import viewer_session
from napari_unet.widgets.viewer_session import listen, session_of
from tests.widgets.conftest import FakeSession


class Source:
    """Something that emits from other threads."""

    told = Signal(int)


def emit_from_a_thread(source, *numbers):
    """Emit and wait for the thread."""
    thread = threading.Thread(target=lambda: [source.told.emit(n) for n in numbers])
    thread.start()
    thread.join()


def test_the_fake_session_has_the_methods_of_the_real_one():
    """Tests stand on a fake: what it overrides must be called like the real thing."""
    for name, fake in vars(FakeSession).items():
        if callable(fake) and not name.startswith("_") and hasattr(Session, name):
            expected = list(inspect.signature(getattr(Session, name)).parameters)
            assert list(inspect.signature(fake).parameters) == expected, name


def test_a_viewer_and_its_proxy_have_one_session(qapp, session):
    """Plugins' commands are given a proxy: it leads to the same session."""
    model = ViewerModel()
    viewer_session.keep_session(model, session)
    assert session_of(model) is session
    assert session_of(PublicOnlyProxy(model)) is session


def test_no_work_begins_before_the_next_turn_of_the_event_loop(qtbot, monkeypatch):
    """A dock that is being made would wait for torch, which the first work loads; the model comes all the same."""
    begun, load = [], Learner._load
    monkeypatch.setattr(Learner, "_load", lambda self, wish: begun.append(wish) or load(self, wish))
    session = session_of(viewer := ViewerModel())
    time.sleep(0.3)
    assert not begun
    qtbot.waitUntil(lambda: bool(session.state.model), timeout=30_000)
    assert session_of(viewer) is session
    session.close()


def test_the_session_closes_when_the_viewer_is_gone(qapp, session):
    """Nobody holds the viewer any more: the session is closed, once."""
    model = ViewerModel()
    viewer_session.keep_session(model, session)
    del model
    gc.collect()
    assert session.names_called().count("close") == 1


def test_removing_all_layers_does_not_close_the_session(viewer, desk, session):
    """Napari clears the layers before a window closes, and users clear them too."""
    viewer.layers.clear()
    assert "close" not in session.names_called()


def test_what_a_thread_emits_arrives_in_the_main_thread(qtbot):
    """The slot runs in the thread of its owner, not in the emitting one."""
    source, owner, seen = Source(), QObject(), []
    listen(source.told, owner, lambda number: seen.append((number, QThread.currentThread())))
    emit_from_a_thread(source, 1, 2)
    qtbot.waitUntil(lambda: len(seen) == 2)
    assert seen == [(1, owner.thread()), (2, owner.thread())]


def test_a_dock_that_is_deleted_while_a_thread_emits_hears_nothing_and_breaks_nothing(qtbot):
    """Thirty docks come and go under a stream of events: no error, and no listener is left."""
    source = Source()
    stop = threading.Event()

    def stream():
        while not stop.is_set():
            source.told.emit(0)
            stop.wait(0.0005)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        for _ in range(30):
            dock, seen = QWidget(), []
            listen(source.told, dock, seen.append)
            qtbot.waitUntil(lambda seen=seen: bool(seen))
            dock.deleteLater()
            qtbot.waitSignal(dock.destroyed).wait()
    finally:
        stop.set()
        thread.join()
    assert len(source.told) == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_the_plugin_with_nearly_our_name_is_told_of_once(monkeypatch, is_there):
    """Users who installed the other one by mistake are told, but not at every viewer."""
    told = []

    def find(name):
        if not is_there:
            raise viewer_session.PackageNotFoundError(name)

    monkeypatch.setattr(viewer_session, "distribution", find)
    monkeypatch.setattr(viewer_session, "show_warning", told.append)
    monkeypatch.setattr(viewer_session, "_told", set())
    viewer_session._warn_of_namesake()
    viewer_session._warn_of_namesake()
    assert len(told) == is_there


def test_the_collector_passes_over_what_was_loaded_once(monkeypatch):
    """When a model is loaded for the first time, and not before or again."""
    frozen = []
    monkeypatch.setattr(viewer_session.gc, "freeze", lambda: frozen.append(1))
    monkeypatch.setattr(viewer_session, "_spared", set())
    viewer_session._spare_collector(SessionState())
    assert not frozen
    for name in ("Generalist", "Generalist", "another"):
        viewer_session._spare_collector(SessionState(model=name))
    assert len(frozen) == 1
