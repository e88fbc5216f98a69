"""The network in its fastest form."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.engine import forward as forwarding
from napari_unet.engine.device import backend_for, backend_of, choose, kind_of
from napari_unet.engine.forward import UnwantedError, forward, forward_with_features, while_wanted
from napari_unet.engine.openvino import compiled
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.model import Model

FORMS = ["torch", pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("openvino"), reason="an extra"))]


@pytest.fixture
def model():
    """A network of the usual kind, with statistics as if it had been trained."""
    card = ModelCard("t", architecture={"in_channels": 2, "out_channels": 2, "base_channels": 8, "depth": 3})
    model = Model.create(card, seed=0, device="cpu")
    for norm in model.net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
            norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    return model


def exact(form):
    """A form in float32."""
    return replace(backend_for("cpu"), dtype=torch.float32, form=form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(8, 8), (40, 72)])
def test_every_form_gives_what_the_network_gives(model, form, size):
    """Logits in float32 are those of the network itself, whatever the size."""
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model.net(x)
    found = forward(model, x, backend=exact(form))
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_features_are_the_networks(model, form):
    """The features that clicks are answered from are those of the last decoder."""
    choose(model, exact(form))
    x = torch.randn(1, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    logits, features = forward_with_features(model, x)
    with torch.no_grad():
        assert torch.allclose(features, model.net.features(x), atol=1e-4)
        assert torch.allclose(logits, model.net(x), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_what_nobody_wants_is_broken_off(model, form):
    """It ends with an error of its own after a part of the work; the next run is right, and is not asked any more."""
    x = torch.randn(1, 2, 512, 512, generator=torch.Generator().manual_seed(0))
    whole = forward(model, x, backend=exact(form))
    asked = []
    with pytest.raises(UnwantedError), while_wanted(lambda: bool(asked.append(1)) or len(asked) < 2):
        forward(model, x, backend=exact(form))
    assert len(asked) == 2
    with torch.no_grad():
        other = model.net(x[..., :320, :336])
    assert torch.allclose(forward(model, x[..., :320, :336], backend=exact(form)), other, atol=1e-4)
    assert torch.allclose(forward(model, x, backend=exact(form)), whole, atol=1e-4)
    assert len(asked) == 2
    with while_wanted(lambda: True):
        assert torch.allclose(forward(model, x, backend=exact(form)), whole, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_new_weights_are_noticed(model, form):
    """After weights have taken over, under whatever number, the form is made anew."""
    backend, x = exact(form), torch.randn(1, 2, 16, 16)
    before = forward(model, x, backend=backend).clone()
    assert torch.equal(forward(model, x, backend=backend), before)
    other = Model.create(model.card, seed=5, device="cpu")
    model.replace_weights(other.net.state_dict(), version=model.version)
    with torch.no_grad():
        assert torch.allclose(forward(model, x, backend=backend), model.net(x), atol=1e-4)
    assert not torch.allclose(forward(model, x, backend=backend), before, atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_made_once(model, form, monkeypatch):
    """As long as the weights stay, nothing is folded again."""
    made = []
    fold = forwarding.fold_norm
    monkeypatch.setattr(forwarding, "fold_norm", lambda *of: made.append(1) or fold(*of))
    for _ in range(3):
        forward(model, torch.zeros(1, 2, 8, 8), backend=exact(form))
    assert len(made) == 1


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_may_use_one_model(model, form):
    """Each gets what it asked for, as if it were alone."""
    backend, sizes = exact(form), [(64, 64), (128, 64), (64, 128), (128, 128)]
    pictures = [torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0)) for size in sizes]
    alone = [forward(model, x, backend=backend) for x in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda x: [forward(model, x, backend=backend) for _ in range(8)], pictures))
    assert all(torch.equal(wanted, one) for wanted, found in zip(alone, together, strict=True) for one in found)


def test_short_numbers_give_what_torch_gives_of_rounded_ones(model):
    """Bfloat16 in torch: to the bit what its autocast makes of float32 weights."""
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    short = replace(exact("torch"), dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        wanted = fold_norm(model.net)(x).float()
    assert torch.equal(forward(model, x, backend=short), wanted)
    assert not torch.equal(wanted, forward(model, x, backend=exact("torch")))


def test_what_cannot_be_compiled_runs_in_torch():
    """A network with group normalisation is not for OpenVINO, and is answered all the same."""
    settings = {"in_channels": 1, "out_channels": 2, "base_channels": 8, "depth": 2, "norm": "group"}
    model = Model.create(ModelCard("g", architecture=settings), seed=0, device="cpu")
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(forward(model, x, backend=exact("openvino")), model.net(x), atol=1e-4)


def test_a_compiled_network_keeps_its_weights(model):
    """What becomes of a network's weights later changes nothing of what was compiled before."""
    pytest.importorskip("openvino")
    net, x = fold_norm(model.net), torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    run = compiled(net, torch.float32, 1)
    before = run(x, None)[0]
    for tensor in net.parameters():
        tensor.zero_()
    gc.collect()
    assert torch.equal(run(x, None)[0], before)
    assert before.abs().max() > 0


def test_a_signal_is_handled_after_networks_were_compiled_and_forgotten():
    """In whichever order they go: Ctrl+C after that ended the process with a crash."""
    pytest.importorskip("openvino")
    code = """
import signal, sys, torch
from napari_unet.engine.openvino import compiled
from napari_unet.nets.unet import UNet
net = UNet(1, 2, base_channels=4, depth=1, norm="none").eval()
runs = [compiled(net, torch.float32, 1) for _ in range(2)]
del runs[0]
del runs[0]
signal.signal(signal.SIGINT, lambda *_: sys.exit(3))
signal.raise_signal(signal.SIGINT)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3


def test_the_outputs_are_ones_own(model):
    """What was given once is not written over by the next call."""
    backend = exact("openvino" if find_spec("openvino") else "torch")
    first = forward(model, torch.zeros(1, 2, 16, 16), backend=backend)
    kept = first.clone()
    forward(model, torch.ones(1, 2, 16, 16), backend=backend)
    assert torch.equal(first, kept)


def test_models_alike_are_chosen_for_alike(model):
    """A choice counts for all models of the same layers and training on the same device, and for no others."""
    chosen = replace(backend_for("cpu"), core=123)
    choose(model, chosen)
    assert backend_of(Model.create(model.card, seed=9, device="cpu")) == chosen
    other = Model.create(ModelCard("o", architecture={**model.card.architecture, "base_channels": 16}), device="cpu")
    assert backend_of(other) == backend_for("cpu")
    assert kind_of(other) != kind_of(model)
