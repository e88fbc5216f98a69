"""The click head: what it is shown, and that it travels with its model."""

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError
from napari_unet.core.prompt_maps import MAPS
from napari_unet.nets.click import encode, new_head
from napari_unet.nets.model import Model, model_from_bytes


@pytest.fixture
def model():
    """An untrained model with a click head."""
    architecture = {"in_channels": 1, "out_channels": 2, "base_channels": 4, "depth": 2}
    made = Model.create(ModelCard(architecture=architecture), device="cpu")
    made.replace_click(new_head(made.net, 3))
    return made


def same(a, b):
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_head_is_shown_features_outputs_and_the_picture(model):
    """Their order is fixed, for the weights depend on it; the head reads just as many channels, and the prompts."""
    x = torch.rand(2, 1, 16, 20)
    seen = encode(model.net, x)
    logits = model.net(x)
    assert seen.shape == (2, 4 + 2 + 1, 16, 20)
    assert torch.allclose(seen[:, :4], model.net.features(x))
    assert torch.allclose(seen[:, 4:5], torch.sigmoid(logits[:, :1]))
    assert torch.allclose(seen[:, 5:6], logits[:, 1:].clamp(-1, 2))
    assert torch.equal(seen[:, 6:], x)
    assert model.click.settings["in_channels"] == seen.shape[1] + MAPS
    assert model.click(torch.rand(1, 11, 96, 96)).shape == (1, 1, 96, 96)


def test_the_same_seed_gives_the_same_head(model):
    """Random weights come from the seed, and leave torch's own generator alone."""
    before = torch.random.get_rng_state()
    assert same(new_head(model.net, 3).state_dict(), model.click.state_dict())
    assert not same(new_head(model.net, 4).state_dict(), model.click.state_dict())
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_head_travels_in_the_file(model):
    """Saved, read, saved again: both networks are the same; a copy has a head of its own."""
    again = model_from_bytes(model.to_bytes())
    assert again.card.click == model.click.settings
    assert model_from_bytes(again.to_bytes()).to_bytes() == again.to_bytes()
    assert all(
        np.allclose(a, b, atol=1e-3) for a, b in zip(again.state().values(), model.state().values(), strict=True)
    )
    copy = model.copy()
    assert same(copy.state(), model.state())
    copy.click.head.bias.data += 1
    assert not same(copy.state(), model.state())


def test_a_model_without_a_head_is_read_as_ever(model):
    """No head, nothing of it in the file."""
    model.replace_click(None)
    again = model_from_bytes(model.to_bytes())
    assert again.click is None
    assert again.card.click == {}
    assert not any(name.startswith("click.") for name in again.state())


def test_weights_of_the_network_and_of_the_head_take_over_together_or_alone(model):
    """Those of the network alone leave the head; another head's are refused, and nothing has changed then."""
    other = model.copy()
    other.net.head.bias.data += 1
    other.click.head.bias.data += 1
    head = {k: v.clone() for k, v in model.click.state_dict().items()}
    model.replace_weights(other.net.state_dict())
    assert model.version == 1
    assert same(model.net.state_dict(), other.net.state_dict())
    assert same(model.click.state_dict(), head)
    model.replace_weights(other.state())
    assert same(model.state(), other.state())
    strange = {**other.state(), "click.head.bias": torch.zeros(3)}
    strange["head.bias"] = strange["head.bias"] + 5
    with pytest.raises(ModelError, match="another network"):
        model.replace_weights(strange)
    assert same(model.state(), other.state())
    assert model.version == 2


def test_a_damaged_head_is_a_sentence(model):
    """A card that promises another head than the file holds."""
    model.card = ModelCard(architecture=model.net.settings, click={**model.click.settings, "base_channels": 8})
    with pytest.raises(ModelError, match="damaged"):
        model_from_bytes(model.to_bytes())
    model.click.head.bias.data[:] = torch.nan
    model.card = ModelCard(architecture=model.net.settings, click=dict(model.click.settings))
    with pytest.raises(ModelError, match="not numbers"):
        model_from_bytes(model.to_bytes())
