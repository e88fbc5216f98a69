"""Checkpoints: what learns goes on from them exactly, and nothing else is taken for one."""

import pytest
import safetensors.torch
import torch

from napari_unet.core.errors import ModelError
from napari_unet.engine.checkpoint import resume, write_checkpoint
from napari_unet.engine.click_student import ClickStudent
from napari_unet.engine.student import Student


@pytest.fixture(params=["network", "click head"])
def learning(request, make_model, quick):
    """Make a network or a click head that learns."""
    if request.param == "network":
        return lambda seed=0, **changes: Student(make_model(**changes), quick, seed)
    return lambda seed=0, **changes: ClickStudent(make_model(**changes), seed)


def test_it_goes_on_as_if_nothing_had_been(learning, correct, tmp_path):
    """Weights, their average, the optimiser, chance and the count are those of before."""

    def learn(student):
        student.study([correct(0)])
        student.advance(1e-3)

    first, path = learning(), tmp_path / "a.safetensors"
    learn(first)
    write_checkpoint(first, path, 0.25, "this")
    learn(first)
    second = learning(seed=7)
    assert resume(second, path, "this") == 0.25
    assert second.step == 1
    learn(second)
    for one, other in ((first.learns.state_dict(), second.learns.state_dict()), (first.average, second.average)):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_without_a_checkpoint_it_begins(learning, tmp_path):
    """Nothing of the budget is used."""
    student = learning()
    assert resume(student, tmp_path / "a.safetensors", "this") == 0
    assert student.step == 0


def test_a_checkpoint_of_another_training_is_a_sentence(learning, tmp_path):
    """Garbage, files without progress and checkpoints of another network or command are refused with what to do."""
    path, other = tmp_path / "a.safetensors", learning(in_channels=2)
    spoilers = [
        lambda: path.write_bytes(b"garbage"),
        lambda: safetensors.torch.save_file({"a": torch.zeros(1)}, path),
        lambda: safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={"progress": "half", "of": "this"}),
        lambda: safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={"progress": "0.5", "of": "this"}),
        lambda: write_checkpoint(other, path, 0.5, "this"),
        lambda: write_checkpoint(learning(), path, 0.5, "that"),
    ]
    for spoil in spoilers:
        spoil()
        with pytest.raises(ModelError, match=r"'a\.safetensors' is a checkpoint of another training"):
            resume(learning(), path, "this")
