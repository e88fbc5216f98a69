"""A recorded step gives the gradients of the step itself."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from napari_unet.core.card import ModelCard
from napari_unet.engine import recorded
from napari_unet.engine.recorded import AGAIN, RecordedStep
from napari_unet.engine.student import Student
from napari_unet.nets.model import Model

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Graph:
    """Stands for a device's: its memory stays where it was recorded, and what it computes is written there."""

    def __init__(self, compute, parameters):
        self.compute, self.parameters, self.replays = compute, parameters, 0
        self.loss = compute()
        self.places = [p.grad for p in self.parameters]

    def replay(self):
        self.replays += 1
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.compute()
        with torch.no_grad():
            self.loss.copy_(loss)
            for place, parameter in zip(self.places, self.parameters, strict=True):
                place.copy_(parameter.grad)
                parameter.grad = None


@pytest.fixture
def recording(monkeypatch):
    """From now on steps of a network are recorded by a stand-in for a device; gives the graphs."""
    made = []

    def start(net):
        def record(compute, device):
            made.append(Graph(compute, list(net.parameters())))
            return made[-1], made[-1].loss

        monkeypatch.setattr(recorded, "recorded", record)
        return made

    return start


def step_of(net):
    """The step of a linear fit."""

    def compute(x, wanted):
        loss = ((net(x) - wanted) ** 2).mean()
        loss.backward()
        return loss.detach()

    return RecordedStep(net, compute)


def gradients_of(net, x, wanted):
    """The gradients of the same without any of it."""
    return torch.autograd.grad(((net(x) - wanted) ** 2).mean(), list(net.parameters()))


def test_each_step_has_the_gradients_of_its_own_tensors_and_of_the_weights_of_now(recording):
    """Of what was recorded nothing but the places stays."""
    net = nn.Linear(3, 1)
    made = recording(net)
    step = step_of(net)
    for number in range(2 * AGAIN):
        x, wanted = torch.randn(4, 3), torch.randn(4, 1)
        with torch.no_grad():
            net.weight += 0.1 * number
        loss = step(x, wanted)
        assert float(loss) == pytest.approx(((net(x) - wanted) ** 2).mean().item())
        for parameter, gradient in zip(net.parameters(), gradients_of(net, x, wanted), strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert [graph.replays for graph in made] == [AGAIN + 1]


def test_gradients_that_an_optimiser_dropped_are_there_again(recording):
    """An optimiser forgets gradients after each step."""
    net = nn.Linear(3, 1)
    recording(net)
    step = step_of(net)
    for _ in range(AGAIN + 2):
        step(torch.ones(4, 3), torch.ones(4, 1))
        assert all(p.grad is not None for p in net.parameters())
        for parameter in net.parameters():
            parameter.grad = None


def test_other_shapes_are_computed_as_they_come_and_recorded_anew(recording):
    """A graph is of one shape."""
    net = nn.Linear(3, 1)
    made = recording(net)
    step = step_of(net)
    for count in (4, 4, 4, 5, 5, 5):
        x, wanted = torch.randn(count, 3), torch.randn(count, 1)
        step(x, wanted)
        torch.testing.assert_close(net.weight.grad, gradients_of(net, x, wanted)[0])
    assert [graph.replays for graph in made] == [1, 1]


def test_what_cannot_be_recorded_is_computed_each_time(monkeypatch):
    """A device without memory for it learns on; it is not asked again."""
    tried, net = [], nn.Linear(3, 1)

    def refuse(compute, device):
        tried.append(device)
        compute()
        raise RuntimeError("no memory")

    monkeypatch.setattr(recorded, "recorded", refuse)
    step = step_of(net)
    for _ in range(2 * AGAIN):
        x, wanted = torch.randn(4, 3), torch.randn(4, 1)
        step(x, wanted)
        torch.testing.assert_close(net.weight.grad, gradients_of(net, x, wanted)[0])
    assert len(tried) == 1


def taught_weights(student, corrections, steps=8):
    """The weights after some steps."""
    for _ in range(steps):
        student.study(corrections)
        student.advance(1e-3)
    return torch.cat([p.detach().flatten().cpu() for p in student.net.parameters()])


def test_a_student_learns_the_same_with_its_teacher_and_what_it_rehearses(
    make_model, correct, quick, recording, monkeypatch
):
    """Crops, the strength of the teacher, and the teacher itself are those of now."""
    recipe, corrections = replace(quick, teacher=4.0, rehearse_every=2), [correct(seed) for seed in range(2)]
    weights, others = [], make_model(seed=1)
    for is_recorded in (False, True):
        monkeypatch.setattr(Student, "_is_recorded", property(lambda _, so=is_recorded: so))
        student = Student(make_model(), recipe, 0, [correct(5)])
        graphs = recording(student.net)
        taught_weights(student, corrections)
        student.teacher.net, student.teacher.trust = others.net, 0.5  # another one, as after a take-over
        weights.append(taught_weights(student, corrections))
    assert [graph.replays for graph in graphs] == [8 - AGAIN + 1] * 2
    torch.testing.assert_close(*weights)


@needs_cuda
def test_a_device_records_what_a_student_does(correct, quick, monkeypatch):
    """On a real device, and it does record."""
    recipe, corrections, weights = replace(quick, teacher=4.0), [correct(seed) for seed in range(3)], []
    for again in (AGAIN, 1000):
        monkeypatch.setattr(recorded, "AGAIN", again)
        card = ModelCard(architecture={"in_channels": 1, "out_channels": 2, "base_channels": 8, "depth": 2})
        student = Student(Model.create(card, seed=0, device="cuda"), recipe, 0)
        weights.append(taught_weights(student, corrections))
        assert (student._recorded[1]._graph is not None) == (again == AGAIN)
    torch.testing.assert_close(*weights, rtol=1e-2, atol=1e-3)
