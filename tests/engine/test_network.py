"""The network on one window."""

import numpy as np
import pytest
import torch

from napari_unet.engine.network import run_network


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.5])
def test_outputs_have_the_windows_size(make_model, size, scale):
    """Whatever the size and the scale, the outputs lie over the window."""
    x = np.random.default_rng(0).random((1, *size), np.float32)
    outputs = run_network(make_model(), x, scale)
    assert outputs.shape == (2, *size)
    assert outputs.dtype == np.float16
    assert np.isfinite(outputs).all()


def test_other_weights_are_tried_without_taking_over(make_model):
    """Outputs of other weights are those of a model that has them, and the model's own stay."""
    model, other = make_model(seed=0), make_model(seed=1)
    before = {key: value.clone() for key, value in model.net.state_dict().items()}
    x = np.random.default_rng(0).random((1, 40, 40), np.float32)
    tried = run_network(model, x, state=other.net.state_dict())
    assert np.array_equal(tried, run_network(other, x))
    assert not np.array_equal(tried, run_network(model, x))
    assert all(torch.equal(value, before[key]) for key, value in model.net.state_dict().items())


@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_weights_that_went_wrong_find_nothing(make_model, kind):
    """Outputs of weights that are not numbers are 0 and not NaN."""
    model = make_model(kind)
    state = {key: torch.full_like(value, torch.nan) for key, value in model.net.state_dict().items()}
    outputs = run_network(model, np.ones((1, 16, 16), np.float32), state=state)
    assert not outputs.any()


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_probabilities_of_classes_add_up(make_model, outputs):
    """Every class has a probability, one output meaning class 1 against background."""
    model = make_model("classes", out_channels=outputs)
    found = run_network(model, np.random.default_rng(0).random((1, 24, 24), np.float32)).astype(float)
    assert len(found) == max(outputs, 2)
    assert np.allclose(found.sum(0), 1, atol=2e-3)
