"""Training from whole pictures into a file, and going on where it was stopped."""

import errno
import itertools
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError
from napari_unet.core.sizes import median_diameter, usual_scale
from napari_unet.core.synthetic import LOOKS
from napari_unet.engine import fit as engine
from napari_unet.engine.checkpoint import write_checkpoint
from napari_unet.engine.click_student import train_clicks
from napari_unet.engine.fit import (
    OFTEN,
    at_known_size,
    balanced,
    fit,
    fit_clicks,
    forget_checkpoint,
    half_made,
    made_pictures,
    new_student,
)
from napari_unet.nets.model import load_model
from napari_unet.nets.weights import rounded

SMALL = {"in_channels": 1, "out_channels": 2, "base_channels": 4, "depth": 1}
USUAL = engine.CHECKPOINT_EVERY
CARD = ModelCard("new", architecture=SMALL, diameter=9.0, trained_on="that")


@pytest.fixture
def student(quick, monkeypatch):
    """Make a model and its student, of few small crops; checkpoints and rows come at each step."""
    monkeypatch.setattr(engine, "FROM_PICTURES", replace(quick, micro=1, crop=16, train_norm=True))
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(engine, "ROW_EVERY", 1)
    return lambda seed=0, base="": new_student(CARD, base, "cpu", seed)


def same(a, b):
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_training_writes_one_file(student, correct, tmp_path):
    """The file holds the averaged weights and the card; the checkpoint goes when it is told to."""
    model, learner = student()
    rows = list(fit(model, learner, [correct(0)], tmp_path / "m.safetensors", steps=5))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 5]
    assert rows[-1]["progress"] == 1
    forget_checkpoint(tmp_path / "m.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    again = load_model(tmp_path / "m.safetensors", device="cpu")
    assert again.card.diameter == 9
    assert same(again.net.state_dict(), rounded(learner.average))


def test_an_interrupted_training_goes_on(student, correct, tmp_path):
    """Stopped and started again, a training counts on from its checkpoint and ends in the same weights."""
    corrections = [correct(0), correct(1)]
    model, learner = student()
    list(fit(model, learner, corrections, tmp_path / "whole.safetensors", steps=7))

    model, learner = student()
    job = fit(model, learner, corrections, tmp_path / "m.safetensors", steps=7)
    assert [row["step"] for row in itertools.islice(job, 5)] == [1, 2, 3, 4, 5]
    job.close()
    assert [p.name for p in tmp_path.glob("m.*")] == ["m.checkpoint.safetensors"]

    model, learner = student(seed=99)
    rows = list(fit(model, learner, corrections, tmp_path / "m.safetensors", steps=7))
    assert [row["step"] for row in rows] == [6, 7, 7]
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_slow_training_is_kept_as_often_as_a_fast_one(student, correct, tmp_path, monkeypatch):
    """Checkpoints come with the minutes: where each step takes half a minute, the second one is on disk."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", USUAL)
    monkeypatch.setattr(engine, "time", Mock(spec=time, monotonic=itertools.count(step=30.0).__next__))
    output, corrections = tmp_path / "m.safetensors", [correct(0)]
    model, learner = student()
    job = fit(model, learner, corrections, output, steps=9)
    kept = [(next(job)["step"], (tmp_path / "m.checkpoint.safetensors").exists()) for _ in range(2)]
    assert kept == [(1, False), (2, True)]
    job = fit_clicks(model, corrections, output, steps=9, seed=0)
    kept = [(next(job)["click_step"], (tmp_path / "m.clicks.checkpoint.safetensors").exists()) for _ in range(2)]
    assert kept == [(1, False), (2, True)]


def test_the_click_head_learns_last(student, correct, tmp_path, monkeypatch):
    """It is in the same file, the network is what it would be without, and half of what it sees is made."""
    monkeypatch.setattr(engine, "ROW_EVERY", 1)
    output, corrections = tmp_path / "m.safetensors", [correct(n) for n in range(4)]
    model, learner = student()
    list(fit(model, learner, corrections, output, steps=3))
    alone = load_model(output, device="cpu")
    seen = []

    def learn(student, corrections, *, steps):
        seen.extend(corrections)
        yield from train_clicks(student, corrections, steps=steps)

    monkeypatch.setattr(engine, "train_clicks", learn)
    rows = list(fit_clicks(model, half_made(corrections, [[correct(9)]]), output, steps=2, seed=0))
    assert [row["click_step"] for row in rows] == [1, 2]
    assert rows[-1]["progress"] == 1
    assert len(seen) == 8
    both = load_model(output, device="cpu")
    assert same(both.net.state_dict(), alone.net.state_dict())
    assert alone.click is None
    assert both.click is not None
    model, _ = student(base=str(output))
    assert model.click is not None
    assert model.card.click == both.card.click


def test_stopped_among_the_clicks_neither_part_begins_anew(student, correct, tmp_path):
    """The network is not trained twice; the head counts on from its checkpoint and ends in the same weights."""
    corrections = [correct(0), correct(1)]

    def through(name, *, stops=False):
        model, learner = student()
        steps = [row["step"] for row in fit(model, learner, corrections, tmp_path / name, steps=3)]
        job = fit_clicks(model, half_made(corrections, [[correct(9)]]), tmp_path / name, steps=5, seed=0)
        return steps, [row["click_step"] for row in itertools.islice(job, 3 if stops else None)]

    assert through("whole.safetensors") == ([1, 2, 3, 3], [1, 2, 3, 4, 5])
    assert through("m.safetensors", stops=True)[1] == [1, 2, 3]
    assert through("m.safetensors") == ([3], [4, 5])
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    forget_checkpoint(tmp_path / "m.safetensors")
    assert [p.name for p in tmp_path.glob("m.*")] == ["m.safetensors"]


def test_an_interrupted_checkpoint_leaves_the_one_before(student, correct, tmp_path, monkeypatch):
    """A checkpoint that breaks off in the middle is not taken for one: the training goes on from the last whole one."""
    model, learner = student()
    job = fit(model, learner, [correct(0)], tmp_path / "m.safetensors", steps=9)
    next(row for row in job if row["step"] == 3)
    real = Path.write_bytes

    def torn(path, data):
        real(path, data[:100])
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="disk full"):
        next(job)
    monkeypatch.setattr(Path, "write_bytes", real)
    assert not list(tmp_path.glob("*.part"))
    model, learner = student()
    assert next(fit(model, learner, [correct(0)], tmp_path / "m.safetensors", steps=9))["step"] == 4


def test_time_that_was_used_counts(student, correct, tmp_path):
    """A training by time that was stopped near its end has little left to do."""
    model, learner = student()
    write_checkpoint(learner, tmp_path / "m.checkpoint.safetensors", 1.0, CARD.trained_on)
    rows = list(fit(model, learner, [correct(0)], tmp_path / "m.safetensors", seconds=1e9))
    assert [(row["step"], row["loss"]) for row in rows] == [(0, None)]
    assert (tmp_path / "m.safetensors").exists()


def test_a_training_from_a_model_keeps_its_network(student, tmp_path, make_model):
    """From a base model its weights and network are taken, and the card tells the whole story."""
    base = make_model(depth=2, norm="none")
    base.card = replace(base.card, trained_on="first this")
    base.save(tmp_path / "base.safetensors")
    base = load_model(tmp_path / "base.safetensors", device="cpu")
    model, learner = student(base=str(tmp_path / "base.safetensors"))
    assert same(model.net.state_dict(), base.net.state_dict())
    assert same(learner.net.state_dict(), base.net.state_dict())
    assert (model.card.name, model.card.diameter) == (CARD.name, base.card.diameter)
    assert model.card.architecture == base.card.architecture
    assert model.card.trained_on == "first this; then that"
    assert model.card.parent


def test_more_crops_take_longer_steps(student):
    """The rate grows with the root of the crops in a step, also from a model that knows something."""
    usual = student()[1].recipe
    _, many = new_student(CARD, "", "cpu", 0, crops=usual.micro * 16)
    assert many.recipe.micro == usual.micro * 16
    assert many.recipe.learning_rate == pytest.approx(usual.learning_rate * 4)


def test_a_base_of_another_kind_is_a_sentence(student, tmp_path, make_model):
    """Objects cannot be learnt from a model of classes."""
    make_model("classes").save(tmp_path / "base.safetensors")
    with pytest.raises(ModelError, match="finds classes, not objects"):
        student(base=str(tmp_path / "base.safetensors"))


def test_each_kind_counts_alike_but_none_too_often(correct):
    """Four pictures beside sixteen are repeated four times, a single one eight times; another size is another kind."""
    many, few = [correct(n) for n in range(16)], [correct(n) for n in range(4)]
    listed = balanced([many, few])
    assert len(listed) == 16 + 4 * 4
    assert all(any(a is b for b in listed) for a in many + few)
    assert len(balanced([many])) == 16
    assert len(balanced([many, [], few[:1]])) == 16 + OFTEN
    smaller = [replace(c, image=c.image[:64], labels=c.labels[:64], trusted=c.trusted[:64]) for c in few]
    assert len(balanced([[*many, *smaller]])) == 16 + 4 * 4


def test_a_picture_that_is_drawn_often_is_kept_once(correct):
    """However often a picture is in the list, it is the same one at the size that the model knows."""
    one, two = correct(0), correct(1)
    sized = at_known_size([one, two, one], CARD)
    assert sized[0] is sized[2]
    assert sized[0] is not sized[1]
    assert sized[0].scale == pytest.approx(usual_scale(median_diameter(one.labels), 9.0))


def test_made_pictures_are_wholly_trusted():
    """What we made is known in every pixel, those of one look are a set, and the seed decides."""
    made, again = made_pictures(9, 4), made_pictures(9, 4)
    assert 1 < len(made) <= len(LOOKS)
    assert sum(map(len, made)) == 9
    assert all(c.trusted.all() and c.held_out is False for look in made for c in look)
    pairs = zip(itertools.chain(*made), itertools.chain(*again), strict=True)
    assert all(np.array_equal(one.labels, other.labels) for one, other in pairs)
    assert made_pictures(0, 4) == []
