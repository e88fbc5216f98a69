"""A session that computes nothing, and a viewer with a picture that has two cells."""

import gc
import inspect

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QLabel

from napari_unet.core.events import Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.instances import InstanceSettings
from napari_unet.session.session import Picture, Session, SessionState
from napari_unet.widgets import viewer_session
from napari_unet.widgets.desk import desk_of


class FakeSession:
    """Notes what it is asked for; keeps edits in memory as the real one does."""

    prediction_ready = Session.prediction_ready
    progressed = Session.progressed
    stepped = Session.stepped
    weights_changed = Session.weights_changed
    state_changed = Session.state_changed
    failed = Session.failed

    def __init__(self):
        self.state = SessionState(model="Generalist", device="CPU, 2 cores")
        self.pictures = {}
        self.history = []
        self.settings = InstanceSettings()
        self.calls = []
        self.edits = []
        self.withdrawn = []
        self.saved_masks = None

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

    def model_names(self):
        """Two models to choose from."""
        return [("default", "Generalist (shipped)"), ("tiny", "Tiny")]

    def device_names(self):
        """One device to choose from."""
        return ["cpu"]

    def corrections_in(self, key):
        """How many edits a picture has."""
        return sum(edit.picture == key for edit in self.edits)

    def open_picture(self, name, source, *, path=None):
        """Know the picture by its name."""
        self.calls.append(("open_picture", name))
        if name not in self.pictures:
            truth = np.zeros(source.shape, np.int32)
            taught = np.zeros(source.shape, np.uint8)
            self.pictures[name] = Picture(name, name, source, truth, taught, self.saved_masks)
        return self.pictures[name]

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
