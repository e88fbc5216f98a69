"""What a call from Python says to arguments of another kind: what to give, before anything is done."""

import math
import re

import numpy as np
import pytest

import napari_unet
from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
LABELS = np.pad(np.ones((8, 8), np.int32), 12)


@pytest.fixture(scope="module")
def model():
    """A tiny untrained model."""
    architecture = {"in_channels": 1, "out_channels": 2, "base_channels": 4, "depth": 2}
    return napari_unet.Model.create(ModelCard(name="tiny", architecture=architecture), seed=0, device="cpu")


@pytest.fixture
def correction():
    """A correction of a square."""
    return napari_unet.Correction(IMAGE, LABELS, np.ones(LABELS.shape, bool))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda m, c: napari_unet.segment("default", IMAGE),
            "Give a model: load_model('default'). This is",
        ),
        (lambda m, c: napari_unet.ClickSegmenter(None), "Give a model: load_model('default')."),
        (lambda m, c: napari_unet.fine_tune("default", [c]), "Give a model: load_model('default')."),
        (lambda m, c: napari_unet.fine_tune(m, c), "Give corrections: [Correction("),
        (lambda m, c: napari_unet.fine_tune(m, None), "Give corrections: [Correction("),
        (lambda m, c: napari_unet.fine_tune(m, [(IMAGE, LABELS, LABELS > 0)]), "This is of type tuple."),
        (lambda m, c: napari_unet.fine_tune(m, [c], steps="1"), "Give steps and seconds as numbers"),
        (lambda m, c: napari_unet.fine_tune(m, [c], seconds="1"), "Give steps and seconds as numbers"),
        (lambda m, c: napari_unet.fine_tune(m, [c], seed=1.5), "Give a whole number from 0 to"),
        (lambda m, c: napari_unet.fine_tune(m, [c], seed=None), "Give a whole number from 0 to"),
        (lambda m, c: napari_unet.Project.open(None), "Give the folder of a project: 'cells.unetproj'."),
        (lambda m, c: napari_unet.Project.create(3), "Give the folder of a project: 'cells.unetproj'."),
        (lambda m, c: napari_unet.session_of(None), "Give a viewer of napari: napari.current_viewer()."),
    ],
)
def test_an_argument_of_another_kind_is_a_sentence(model, correction, call, words):
    """Never a failure from somewhere inside."""
    with pytest.raises(TypeError, match=re.escape(words)):
        call(model, correction)


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_corrections_may_be_any_iterable(model, correction, kind):
    """A generator is used up by the first look at it, and is learnt from all the same; so are numbers of numpy."""
    events = list(napari_unet.fine_tune(model.copy(), kind([correction]), steps=np.int64(1), seed=np.int32(3)))
    assert any(isinstance(event, napari_unet.TrainStep) for event in events)


@pytest.mark.parametrize("budget", [{"seconds": math.nan}, {"seconds": -1}, {"steps": math.nan}, {"steps": -1}])
def test_a_budget_that_is_none_is_refused(model, correction, budget):
    """What is no length of time, or less than none, is said at once, and nothing is learnt."""
    with pytest.raises(ModelError, match="Give a number above 0"):
        napari_unet.fine_tune(model, [correction], **budget)
