"""Our AdamW takes torch's steps."""

import subprocess
import sys

import torch

from napari_unet.engine.adamw import AdamW


def two_nets():
    """The same small network twice."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    other.load_state_dict(net.state_dict())
    return net, other


def train(net, step, forget, steps=12):
    """A few steps down a fixed error."""
    x = torch.linspace(-1, 1, 20).reshape(5, 4)
    for _ in range(steps):
        forget()
        (net(x) - 1).square().mean().backward()
        step()


def test_the_steps_are_those_of_torch():
    """After a dozen steps the weights are torch's AdamW's within rounding."""
    net, other = two_nets()
    ours, theirs = AdamW(net.parameters(), 0.01), torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.01)
    train(net, lambda: ours.step(0.02), ours.forget_gradients)
    train(other, theirs.step, theirs.zero_grad)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_an_unhealthy_step_changes_nothing():
    """Where the gradients are no numbers, weights and what is known of the gradients stay as they are."""
    net, other = two_nets()
    ours = AdamW(net.parameters(), 0.01)
    train(net, lambda: ours.step(0.02, torch.tensor(True)), ours.forget_gradients, 3)
    theirs = AdamW(other.parameters(), 0.01)
    train(other, lambda: theirs.step(0.02), theirs.forget_gradients, 3)
    before = [p.detach().clone() for p in (*net.parameters(), *ours.means, *ours.squares)]
    for weight in net.parameters():
        weight.grad = torch.full_like(weight, torch.nan)
    ours.step(0.02, torch.tensor(False))
    assert all(torch.equal(a, b) for a, b in zip(before, (*net.parameters(), *ours.means, *ours.squares), strict=True))
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_it_goes_on_from_its_state():
    """Six steps, state, six steps equal twelve steps."""
    net, other = two_nets()
    whole, half = AdamW(net.parameters(), 0.01), AdamW(other.parameters(), 0.01)
    train(net, lambda: whole.step(0.02), whole.forget_gradients)
    train(other, lambda: half.step(0.02), half.forget_gradients, 6)
    later = AdamW(other.parameters(), 0.01)
    later.restore({k: v.clone() for k, v in half.state().items()})
    train(other, lambda: later.step(0.02), later.forget_gradients, 6)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_stays():
    """Neither step nor decay touches what was not used."""
    idle = torch.nn.Parameter(torch.ones(3))
    AdamW([idle], 0.5).step(0.1)
    assert torch.equal(idle, torch.ones(3))


def test_training_does_not_load_torchs_compiler():
    """The first round of learning must not hold the window with 800 modules to import."""
    code = (
        "import sys, torch\n"
        "from napari_unet.core.card import ModelCard\n"
        "from napari_unet.engine.student import FINE_TUNE, Student\n"
        "from napari_unet.nets.model import Model\n"
        "architecture = dict(in_channels=1, out_channels=2, base_channels=4, depth=1)\n"
        "Student(Model.create(ModelCard(architecture=architecture), device='cpu'), FINE_TUNE, 0)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
