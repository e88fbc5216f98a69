"""A session that computes nothing, and a viewer with a picture that has two cells."""

import gc
import inspect
from itertools import pairwise

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel

from napari_unet.core.events import ObjectMask, Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.instances import InstanceSettings
from napari_unet.session.session import Picture, Session, SessionState, Version
from napari_unet.widgets import viewer_session
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.shortcuts import register

LEARNING = SessionState(
    learning="learning",
    corrections=27,
    pictures=3,
    learnt=25,
    version=2,
    versions=(Version(0, None, 0), Version(1, 0.81, 9), Version(2, 0.84, 25)),
)


class FakeSession:
    """Notes what it is asked for; keeps edits in memory as the real one does."""

    prediction_ready = Session.prediction_ready
    object_found = Session.object_found
    progressed = Session.progressed
    stepped = Session.stepped
    weights_changed = Session.weights_changed
    state_changed = Session.state_changed
    failed = Session.failed
    restored = Session.restored

    def __init__(self):
        self.state = SessionState(model="Generalist", device="CPU, 2 cores", can_click=True)
        self.pictures = {}
        self.contents = {}
        self.history = []
        self.settings = InstanceSettings()
        self.calls = []
        self.edits = []
        self.withdrawn = []
        self.saved_masks = None
        self.clicks = []
        self.hovers = []
        self.answers = True

    def __getattr__(self, name):
        """Every other method of the session notes its call and does nothing."""
        signature = inspect.signature(getattr(Session, name))

        def noted(*args, **kwargs):
            signature.bind(self, *args, **kwargs)
            self.calls.append((name, *args, *kwargs.values()))

        return noted

    def names_called(self):
        """Methods that were called, in order."""
        return [call[0] for call in self.calls]

    def device_names(self):
        """One device to choose from."""
        return ["cpu"]

    def corrections_in(self, key):
        """How many edits a picture has."""
        return sum(edit.picture == key for edit in self.edits)

    def open_picture(self, name, source, *, path=None):
        """Know the picture by its content; its key is its name, with a number if another one has that."""
        self.calls.append(("open_picture", name))
        known = self.contents.get(source.key())
        if known in self.pictures:
            return self.pictures[known]
        key = name if name not in self.pictures else f"{name} {len(self.pictures) + 1}"
        self.contents[source.key()] = key
        truth, taught = np.zeros(source.shape, np.int32), np.zeros(source.shape, np.uint8)
        self.pictures[key] = Picture(key, name, source, truth, taught, self.saved_masks)
        return self.pictures[key]

    def rename_picture(self, key, name):
        """Know it by another name."""
        self.pictures[key].name = name

    def click(self, key, lead, prompts, previous=None, *, hover=False):
        """Find a disc of radius 6 around the middle of the clicks (or of the box), less where a click says no."""
        self.clicks.append((key, lead, prompts, previous))
        self.hovers += [len(self.clicks)] * hover
        if self.answers:
            self.answer(len(self.clicks))
        return len(self.clicks)

    def answer(self, number):
        """Give the answer to a click."""
        key, _, prompts, _ = self.clicks[number - 1]
        middle = np.mean(prompts.positive, axis=0) if prompts.positive else np.array(prompts.box.center)
        y, x = np.ogrid[: self.pictures[key].truth.shape[-2], : self.pictures[key].truth.shape[-1]]
        plane = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 36
        for point in prompts.negative:
            plane &= (y - point[0]) ** 2 + (x - point[1]) ** 2 >= 9
        self.tell_mask(number, plane)

    def tell_mask(self, number, plane):
        """Say what the object of a click is; no voxel, as when the click failed."""
        key, lead, *_ = self.clicks[number - 1]
        box = Box.of_mask(plane) or Box((0, 0), (1, 1))
        whole = Box((*lead, *box.start), (*(i + 1 for i in lead), *box.stop))
        mask = plane[box.slices].reshape(whole.shape)
        self.object_found.emit(ObjectMask(key, whole, mask, 0.9, request=number, seconds=0.01))

    def add_edit(self, edit):
        """Keep the edit."""
        self.edits.append(edit)
        picture = self.pictures[edit.picture]
        edit.apply(picture.truth, picture.taught)

    def withdraw(self, key, box, labels, taught):
        """Put back what was before."""
        self.withdrawn.append(box)
        picture = self.pictures[key]
        picture.truth[box.slices] = labels
        picture.taught[box.slices] = taught

    def close(self, timeout=2.0):
        """Count the call."""
        self.calls.append(("close",))


def cells(shape=(60, 80)):
    """Labels of a plane with two round cells, 1 and 2."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    plane = np.zeros(shape[-2:], np.int32)
    plane[(y - 20) ** 2 + (x - 20) ** 2 < 64] = 1
    plane[(y - 40) ** 2 + (x - 50) ** 2 < 100] = 2
    return plane


def predicted(labels, key="picture", window=None, core=None, **more):
    """A prediction of `labels` over `window` (the whole picture unless told)."""
    window = window or Box.whole(labels.shape)
    doubt = np.full(labels.shape, 0.5, np.float16)
    return Prediction(key, window, core or window, labels.astype(np.int32), "objects", doubt, **more)


def text_of(panel, name):
    """What a line of a panel says."""
    return panel.findChild(QLabel, name).text()


def tell(qtbot, session, signal, event, until):
    """Emit an event of the session, and wait until it is shown."""
    if isinstance(event, SessionState):
        session.state = event
    getattr(session, signal).emit(event)
    qtbot.waitUntil(until)


@pytest.fixture
def session():
    """The session that computes nothing."""
    return FakeSession()


@pytest.fixture
def viewer(qapp, session):
    """A viewer without a window, with the picture 'picture' of 60 x 80 pixels."""
    model = ViewerModel()
    viewer_session.keep_session(model, session)
    model.add_image(np.random.default_rng(0).random((60, 80), dtype=np.float32), name="picture")
    yield model
    model.layers.clear()
    gc.collect()


@pytest.fixture
def desk(viewer):
    """The desk of the viewer, with the picture in hand and its label layer."""
    desk = desk_of(viewer)
    desk.take(viewer.layers["picture"])
    desk.add_masks()
    return desk


@pytest.fixture
def masks(desk):
    """The label layer in hand, with two predicted cells."""
    desk.masks.paste(predicted(cells()))
    return desk.masks


class Hand:
    """Clicks, drags and keys at places of the picture, through Qt's events."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.canvas = viewer.window._qt_viewer.canvas.native

    def pixel(self, point):
        """Where a voxel (y, x) is on the canvas."""
        camera = self.viewer.scene.camera
        center, size = np.array(camera.center[-2:]), self.canvas.size()
        middle = np.array([size.height(), size.width()]) / 2
        y, x = middle + (np.array(point) - center) * camera.zoom
        return QPoint(round(x), round(y))

    def drag(self, *points, modifier=Qt.KeyboardModifier.NoModifier):
        """Press at the first point, move over the others, release at the last."""
        QTest.mouseMove(self.canvas, self.pixel(points[0]))
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, modifier, self.pixel(points[0]))
        self._move_and_release(points, modifier)

    def double(self, *points, modifier=Qt.KeyboardModifier.NoModifier):
        """The same, right after another press there: Qt tells it as a double click."""
        spot = QPointF(self.pixel(points[0]))
        above, left = QPointF(self.canvas.mapToGlobal(spot)), Qt.MouseButton.LeftButton
        press = QMouseEvent(QEvent.Type.MouseButtonDblClick, spot, above, left, left, modifier)
        QApplication.sendEvent(self.canvas, press)
        self._move_and_release(points, modifier)

    def _move_and_release(self, points, modifier):
        for a, b in pairwise(points):
            for share in np.linspace(0, 1, 6)[1:]:
                spot = self.pixel(np.array(a) + share * (np.array(b) - np.array(a)))
                self._move_pressed(spot, modifier)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, modifier, self.pixel(points[-1]))
        QApplication.processEvents()

    def _move_pressed(self, spot, modifier):
        at, above = QPointF(spot), QPointF(self.canvas.mapToGlobal(spot))
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        QTest.qWait(12)  # vispy leaves out moves that follow each other more closely than a screen can show
        move = QMouseEvent(QEvent.Type.MouseMove, at, above, none, left, modifier)
        QApplication.sendEvent(self.canvas, move)

    def point_at(self, point):
        """Move the mouse there, with no button down."""
        QTest.mouseMove(self.canvas, self.pixel(point))
        QApplication.processEvents()

    def press(self, key):
        """Press a key with the focus on the canvas."""
        QTest.keyClick(self.canvas, key)
        QApplication.processEvents()


@pytest.fixture
def hand(make_napari_viewer, session, qtbot):
    """A hand over a real window with two predicted cells."""
    viewer = make_napari_viewer(show=True)
    register()
    viewer_session.keep_session(viewer, session)
    viewer.add_image(np.random.default_rng(0).random((60, 80), dtype=np.float32), name="picture")
    desk = desk_of(viewer)
    desk.take(viewer.layers["picture"])
    desk.add_masks().paste(predicted(cells()))
    desk.masks.refresh()
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.reset_view()
    QApplication.processEvents()
    return Hand(viewer)


@pytest.fixture
def window(make_napari_viewer, session):
    """A real napari window with the fake session behind it."""
    viewer = make_napari_viewer()
    viewer_session.keep_session(viewer, session)
    return viewer
