"""Pictures of discs, corrections of them, small models, and one way of computing on every computer."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.geometry import Box
from napari_unet.core.intensity import Limits
from napari_unet.engine import device
from napari_unet.engine.augment import Augmentation
from napari_unet.engine.evaluate import outputs_on, score_of
from napari_unet.engine.looks import _Part
from napari_unet.engine.student import Recipe, Student
from napari_unet.engine.train import train
from napari_unet.nets.model import Model

TINY = {"in_channels": 1, "out_channels": 2, "base_channels": 6, "depth": 2, "norm": "group"}
QUICK = Recipe(
    crop=48,
    micro=4,
    batch=1,
    learning_rate=4e-3,
    round_steps=25,
    round_seconds=1e9,
    augmentation=Augmentation(scale=1.1, elastic=1.0, grey=0.2),
)


def score_on(model, state, correction):
    """The score of some weights on a correction, with the thresholds of a model."""
    return score_of(model.card, outputs_on(model, state, correction), correction)


@contextmanager
def one_way_of_computing():
    """float32 in torch and one thread, whatever the processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_multiplies_bfloat16", lambda: False)
        patch.setattr(device, "has_openvino", lambda: False)
        patch.setattr(device, "_chosen", {})
        device._number_type.cache_clear()
        yield
    device._number_type.cache_clear()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _one_way_of_computing():
    """The same figures everywhere."""
    with one_way_of_computing():
        yield


def draw_discs(seed=0, shape=(96, 96), count=7, *, look="bright"):
    """A picture of discs that do not touch, (Y, X) float32, and its labels; look: 'bright' or 'dark' discs."""
    random = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels, circles = np.zeros(shape, np.int32), []
    while len(circles) < count:
        cy, cx, radius = random.uniform([8, 8, 6], [shape[0] - 8, shape[1] - 8, 11]).tolist()
        if all((cy - a) ** 2 + (cx - b) ** 2 > (radius + r + 3) ** 2 for a, b, r in circles):
            circles.append((cy, cx, radius))
            labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = len(circles)
    clean = (labels > 0) * 1.0 if look == "bright" else np.where(labels > 0, 0.2, 0.9)
    return (100 + 1000 * (clean + random.normal(0, 0.05, shape))).astype(np.float32), labels


def correct_discs(seed=0, part=1.0, *, look="bright", held_out=False, count=7):
    """A correction of such a picture: a part of the discs, and of the background if it is not all of them."""
    image, labels = draw_discs(seed, count=count, look=look)
    trusted = np.isin(labels, np.arange(1, max(1, round(part * count)) + 1))
    trusted |= (labels == 0) & ((np.indices(labels.shape).sum(0) % 12 == 0) | (part == 1))
    return Correction(image, np.where(trusted, labels, 0), trusted, Limits((100.0,), (1100.0,)), held_out)


def make_tiny(kind="objects", *, seed=0, **architecture) -> Model:
    """An untrained model; BatchNorm has random statistics."""
    card = ModelCard(name="tiny", kind=kind, architecture=TINY | architecture, diameter=17.0)
    model = Model.create(card, seed=seed, device="cpu")
    random = torch.Generator().manual_seed(seed)
    for key, value in model.net.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand(value.shape, generator=random) * 0.4 + (0.8 if "var" in key else -0.2))
    return model


@pytest.fixture(scope="session")
def _trained():
    """A model that finds bright discs."""
    with one_way_of_computing():
        model = make_tiny()
        student = Student(model, QUICK, 0)
        for _ in train(student, [correct_discs(seed) for seed in range(100, 108)], steps=150):
            pass
        model.replace_weights(student.average, version=0)
    return model


@pytest.fixture
def disc_model(_trained):
    """A model that finds bright discs, to do with as one likes."""
    return _trained.copy()


@pytest.fixture
def make_model():
    """Make an untrained model."""
    return make_tiny


@pytest.fixture
def draw():
    """Draw discs."""
    return draw_discs


@pytest.fixture
def correct():
    """Correct a picture of discs."""
    return correct_discs


@pytest.fixture
def quick():
    """A recipe with which small models learn discs in seconds."""
    return QUICK


@pytest.fixture
def taught():
    """Six partial corrections of another look than the model knows, one of them held out."""
    return [correct_discs(seed, 0.5, look="dark", held_out=seed == 5) for seed in range(6)]


def run_torchscript(program, pictures) -> torch.Tensor:
    """What a program of ours gives for a batch; `program` is its path, or an open file."""
    with torch.no_grad():
        given: torch.Tensor = torch.jit.load(program)(pictures)
    return given


def part(labels, image=None, box=None):
    """A part of a picture that was looked at."""
    image = np.zeros(labels.shape, np.float32) if image is None else image
    return _Part(box or Box.whole(labels.shape), image, labels)
