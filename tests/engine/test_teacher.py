"""The teacher: a model as it was, which counts the less the less it agrees with itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.engine import teacher as engine
from napari_unet.engine.sampling import network_input
from napari_unet.engine.student import Student
from napari_unet.engine.teacher import ASKED, KNOWN, LEAST, Teacher
from napari_unet.engine.train import fine_tune
from tests.engine.conftest import correct_discs


def heed(teacher, model, corrections, enough=2):
    """Let it follow at once; in how many pieces of work it did."""
    return sum(1 for _ in teacher.heed(model, corrections, enough))


def test_the_model_in_use_becomes_the_teacher_once_enough_is_new(disc_model, taught):
    """Not at every new correction, but at so many of them; one that was added to counts as new."""
    teacher = Teacher(disc_model)
    first = teacher.net
    heed(teacher, disc_model, taught[:2])
    heed(teacher, disc_model, taught[:3])
    assert teacher.net is first
    heed(teacher, disc_model, [*taught[:1], replace(taught[1]), taught[2]])
    assert teacher.net is not first
    second = teacher.net
    heed(teacher, disc_model, [*taught[:1], replace(taught[1])])
    assert teacher.net is second


def test_who_knows_what_it_sees_is_trusted(disc_model, make_model):
    """A model that knows discs agrees with itself on them; one of random weights does not."""
    known = [correct_discs(seed) for seed in range(ASKED)]
    teacher, model = Teacher(disc_model), make_model()
    assert heed(teacher, disc_model, known) == 2 * ASKED
    assert teacher.trust > 0.8
    assert teacher.knew_it
    stranger = Teacher(model)
    heed(stranger, model, known)
    assert LEAST <= stranger.trust < 0.5 * teacher.trust
    assert not stranger.knew_it


def test_what_was_known_at_first_is_asked_of_the_first_model(disc_model, make_model):
    """Once more when the first corrections were few; what was learnt meanwhile says nothing of it."""
    known = [correct_discs(seed) for seed in range(3 * ASKED)]
    teacher, learnt = Teacher(disc_model), make_model()
    heed(teacher, disc_model, known[:1])
    assert teacher.knew_it
    assert heed(teacher, learnt, known[: 2 * ASKED]) == 4 * ASKED
    assert teacher.knew_it
    assert teacher.trust < KNOWN
    assert heed(teacher, learnt, known) == 2 * ASKED


def test_each_training_asks_the_same_of_what_the_model_first_was(disc_model, make_model, taught, monkeypatch):
    """Of the first corrections; of itself as it is now, of the newest."""
    asked = []

    def note(model, corrections):
        asked.append((model, corrections))
        yield
        return KNOWN

    monkeypatch.setattr(engine, "_trust", note)
    corrections = [replace(taught[0]) for _ in range(ASKED + 1)]
    learnt = make_model()
    learnt.origin = disc_model
    for model, first in ((learnt, disc_model), (disc_model, None)):
        teacher = Teacher(model)
        heed(teacher, model, corrections)
        assert teacher.knew_it
        assert asked == [(model, corrections[1:]), (first or teacher.first, corrections[:-1])]
        asked.clear()


def test_a_model_that_strayed_stays_near_what_it_is_now(disc_model, make_model):
    """What it learnt of one kind is not lost to another one that it knew from the beginning."""
    learnt = make_model()
    learnt.origin = disc_model
    assert Teacher(learnt).start is disc_model.net
    learnt.strayed = True
    teacher = Teacher(learnt)
    assert teacher.first is disc_model
    assert all(torch.equal(a, b) for a, b in zip(teacher.start.parameters(), learnt.net.parameters(), strict=True))


def test_few_corrections_decide_only_for_a_while(disc_model, taught, monkeypatch):
    """What more of them say of the first model counts."""
    trust = iter([1.0, 0.3, 0.3, 1.0])

    def said(*_):
        yield
        return next(trust)

    monkeypatch.setattr(engine, "_trust", said)
    teacher, knew = Teacher(disc_model), []
    for count in (1, ASKED, ASKED):
        heed(teacher, disc_model, [replace(taught[0]) for _ in range(count)])
        knew.append(teacher.knew_it)
    assert knew == [True, False, False]


@pytest.mark.parametrize(("share", "trust"), [(1, 1), (2, 0.25), (99, LEAST)])
def test_trust_is_the_square_of_what_is_found_in_the_mirror_too(disc_model, taught, monkeypatch, share, trust):
    """Of all objects together, so that a place with one of them decides little."""
    labels = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((8, 8), np.int32))
    few = np.where(labels % share == 0, labels, 0) if share > 1 else labels
    shown = iter([labels, few] * len(taught))
    monkeypatch.setattr(engine, "_objects", lambda *_: next(shown))
    teacher = Teacher(disc_model)
    heed(teacher, disc_model, taught)
    assert teacher.trust == pytest.approx(trust, abs=0.01)


def test_who_finds_nothing_is_hardly_trusted(disc_model, taught, monkeypatch):
    """Nothing in the mirror, too, is no knowledge."""
    monkeypatch.setattr(engine, "_objects", lambda *_: np.zeros((8, 8), np.int32))
    teacher = Teacher(disc_model)
    heed(teacher, disc_model, taught)
    assert teacher.trust == LEAST


def test_of_classes_a_teacher_is_not_asked(make_model, taught):
    """They have no objects to agree on."""
    model = make_model("classes")
    teacher = Teacher(model)
    assert heed(teacher, model, taught) == 0
    assert teacher.trust == 1


def test_of_a_large_picture_the_middle_is_asked_about(disc_model, monkeypatch):
    """A whole picture would take seconds, in one piece of work."""
    seen = []
    monkeypatch.setattr(engine, "SIDE", 32)
    monkeypatch.setattr(
        engine, "run_network", lambda model, x, *_, **how: seen.append(x) or np.zeros((2, *x.shape[1:]))
    )
    heed(Teacher(disc_model), disc_model, [known := correct_discs(0)])
    middle = (slice(None), *(slice((n - 32) // 2, (n + 32) // 2) for n in known.labels.shape))
    assert all(np.array_equal(x, network_input(known, 1)[middle]) for x in seen)


def test_what_a_teacher_says_counts_as_much_as_it_is_trusted(disc_model, quick, taught):
    """The loss of the same crops grows in proportion to its trust."""

    def loss(trust):
        student = Student(disc_model, replace(quick, teacher=4.0), 0)
        student.net.load_state_dict({n: v + 0.01 if v.is_floating_point() else v for n, v in student.average.items()})
        student.teacher.trust = trust
        student.study(taught)
        return float(student._losses[0])

    own = loss(0.0)
    assert loss(1.0) - own > 1e-3
    assert loss(0.25) - own == pytest.approx((loss(1.0) - own) / 4, rel=0.01)


def test_a_training_asks_its_teacher_first(make_model, quick, taught, monkeypatch):
    """Before the first step, and only if what it says counts."""
    asked = []
    monkeypatch.setattr(engine, "_objects", lambda *_: asked.append(1) or np.zeros((8, 8), np.int32))
    for strength in (0.0, 4.0):
        for event in fine_tune(make_model(), taught, steps=1, recipe=replace(quick, teacher=strength)):
            if event.step:
                break
        assert bool(asked) == bool(strength)
