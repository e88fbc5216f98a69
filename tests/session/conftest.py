"""A tiny model, a picture of discs, corrections to set on it, and sessions that are listened to."""

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction, Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.engine.student import FROM_PICTURES, Recipe, Student
from napari_unet.engine.train import train
from napari_unet.nets.model import Model
from napari_unet.session import jobs
from napari_unet.session.session import Session

LONG = 60.0  # seconds after which a thing that is waited for does not come any more
QUICK = Recipe(crop=64, batch=1, learning_rate=1e-4, round_steps=4, patience=2, tolerance=1.0)
SIGNALS = ("prediction_ready", "object_found", "progressed", "stepped", "weights_changed", "state_changed", "failed")


def discs(seed=0, shape=(256, 256), count=30):
    """A picture of bright discs (Y, X), uint8, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for number in range(1, count + 1):
        cy, cx, radius = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(7, 12)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        near = (y - cy) ** 2 + (x - cx) ** 2 < (radius + 3) ** 2
        if not labels[near].any():
            labels[disc] = number
    image = 40 + 120 * (labels > 0) + rng.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8), labels


class Ear:
    """Hears all that a session says, and waits for it."""

    def __init__(self, session):
        self.session, self.said = session, []
        self.change = threading.Condition()
        for name in SIGNALS:
            getattr(session, name).connect(partial(self.hear, name), check_nargs=False)

    def hear(self, name, value):
        """Note one emission."""
        with self.change:
            self.said.append((name, value))
            self.change.notify_all()

    def of(self, name):
        """What one signal has said."""
        return [value for said, value in list(self.said) if said == name]

    def wait(self, fact, seconds=LONG):
        """Wait until something holds; looked at when something is said, and now and then."""
        end = time.monotonic() + seconds
        with self.change:
            while not fact():
                assert time.monotonic() < end, (self.of("failed"), self.session.state)
                self.change.wait(0.05)

    def wait_state(self, **facts):
        """Wait until the state has these facts."""
        self.wait(lambda: all(getattr(self.session.state, name) == value for name, value in facts.items()))

    def forget(self):
        """Begin anew."""
        with self.change:
            self.said.clear()


def start(make_session, source, path=None, *, measured=None, **kwargs):
    """A session with the picture, and its model loaded; how the model sees it is taken as measured already."""
    session, ear = make_session(**kwargs)
    picture = session.open_picture("discs", source, path=path)
    ear.wait(lambda: session.state.model)
    picture.note_sight(measured or session.state.diameter, is_inverted=False)
    return session, ear, picture


def whole(picture):
    """The box of a picture."""
    return Box.whole(picture.source.shape)


def is_complete(ear):
    """Whether the last tile has come."""
    return any(p.done == p.total for p in ear.of("prediction_ready"))


def bytes_in_use(session):
    """The file of the model in use (nothing runs meanwhile)."""
    return session._learner.device().model.to_bytes()


def predicted(session, ear, picture):
    """The labels of the whole picture, from the model in use."""
    ear.forget()
    session.predict(picture.key, Box.whole(picture.source.shape))
    ear.wait(lambda: any(p.done == p.total for p in ear.of("prediction_ready")))
    return {p.core: p.labels for p in ear.of("prediction_ready")}


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test sees the projects of another one, and none takes more than one core."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(jobs, "usable_cores", lambda: 1)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """A tiny model of objects that has learnt to find discs."""
    torch.manual_seed(0)
    architecture = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2, "norm": "group"}
    model = Model.create(ModelCard(name="tiny", architecture=architecture, diameter=18.0), device="cpu")
    corrections = []
    for seed in range(4):
        image, labels = discs(100 + seed, (128, 128), 12)
        corrections.append(Correction(image, labels, np.ones(labels.shape, bool)))
    student = Student(model, Recipe(**{**vars(FROM_PICTURES), "crop": 64, "micro": 4, "learning_rate": 3e-3}), seed=0)
    for _ in train(student, corrections, steps=80):
        pass
    model.replace_weights(student.average, version=0)
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    model.save(path)
    return path


@pytest.fixture
def source():
    """The picture of discs."""
    return ImageSource.of_array(discs()[0], name="discs")


@pytest.fixture
def quick(monkeypatch):
    """Rounds of the training are short, and always take over."""
    monkeypatch.setattr(jobs, "fine_tune", partial(jobs.fine_tune, recipe=QUICK))
    # a few steps may spoil so small a model; what may take over has tests of its own (engine/test_gate.py)
    monkeypatch.setattr("napari_unet.engine.train._why_not", lambda *_, **__: "")


@pytest.fixture
def train_gate(monkeypatch):
    """Lets the training go on only one event at a time: `train_gate.release()` gives one."""
    semaphore, learn = threading.Semaphore(0), jobs.fine_tune

    def gated(*args, **kwargs):
        for event in learn(*args, **kwargs):
            semaphore.acquire(timeout=60)
            yield event

    monkeypatch.setattr(jobs, "fine_tune", gated)
    yield semaphore
    semaphore.release(100_000)


@pytest.fixture
def make_session(model_file):
    """Function that makes a session with the tiny model, and its ear; closed at the end, and no thread is left."""
    before, made = set(threading.enumerate()), []

    def make(**kwargs):
        session = Session(**{"model": str(model_file), "device": "cpu", **kwargs})
        made.append(session)
        return session, Ear(session)

    yield make
    for session in made:
        session.close(LONG)
    assert {t for t in threading.enumerate() if t.name.startswith("unet-live")} <= before


@pytest.fixture
def paint():
    """Function that sets a disc in a picture: its edit, of 20 x 20 pixels around a place."""

    def edit_of(picture, center, label=1, tool="paint"):
        box = Box.around(center, (20,) * 2)
        y, x = np.mgrid[-10:10, -10:10]
        disc = y**2 + x**2 < 81
        return Edit(picture.key, box, np.where(disc, label, 0).astype(np.int32), disc, tool)

    return edit_of


@pytest.fixture
def errors(monkeypatch):
    """What threads did not catch; without this fixture it fails a test."""
    caught = []
    monkeypatch.setattr(threading, "excepthook", lambda args: caught.append(args.exc_value))
    return caught
