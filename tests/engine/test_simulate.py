"""Learning curves: the simulated annotator and the model, as in the app."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.corrections import TAUGHT
from napari_unet.core.errors import ModelError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.engine import simulate as engine
from napari_unet.engine import train as training
from napari_unet.engine.pool import Pool
from napari_unet.engine.simulate import Known, simulate
from napari_unet.nets.model import Model, classes_of


@pytest.fixture
def known(draw):
    """Function that makes pictures of discs whose truth is known."""

    def make(*seeds, look="dark"):
        drawn = {seed: draw(seed, look=look) for seed in seeds}
        return [Known(f"p{seed}", ImageSource.of_array(image), labels) for seed, (image, labels) in drawn.items()]

    return make


def test_corrections_make_the_model_better(disc_model, known, quick):
    """A model of bright discs learns dark ones from a few corrections, on pictures that are only scored."""
    budget = {"rounds": 3, "corrections": 3, "steps": 60, "recipe": quick}
    points = list(simulate(disc_model, known(1, 2, 3), known(50, 51), **budget))
    assert [point.corrections for point in points][:2] == [0, 3]
    assert points[-1].scores["ap50"] > points[0].scores["ap50"] + 0.3
    assert any(point.took_over for point in points)
    assert points[-1].right > points[1].right
    assert points[1].user_seconds > 3 * 1.5
    assert 0 < points[1].train_seconds < points[3].train_seconds
    assert sum(points[1].acts.values()) == 3


def test_the_model_learns_nothing_that_was_not_drawn(disc_model, known, monkeypatch):
    """What reaches the training is trusted only where the annotator corrected; held-out pictures are not in it."""
    seen = []

    def learn(model, pool, **_):
        seen.extend(pool)
        return iter(())

    monkeypatch.setattr(engine, "fine_tune", learn)
    pictures = known(1, 2, 3)
    pool = Pool()
    points = list(simulate(disc_model, pictures, known(50), rounds=1, corrections=2, pool=pool))
    assert sum(points[1].acts.values()) == 2
    assert seen == list(pool) != []
    trusted = sum(int(correction.trusted.sum()) for correction in seen)
    assert 0 < trusted < 0.2 * sum(known.truth.size for known in pictures)
    for correction in seen:
        assert not correction.labels[~correction.trusted].all()
        assert any(np.array_equal(correction.image[0], p.source.read(Box.whole(p.truth.shape))[0]) for p in pictures)


@pytest.mark.parametrize(("anew", "steps"), [(False, [60]), (True, [20, 20, 20])])
def test_one_training_goes_on_from_round_to_round(disc_model, known, quick, monkeypatch, anew, steps):
    """As in the app: corrections that come later begin no new student, and steps are counted on; unless it rested."""
    students, learn = [], training.Student

    def begun(*given, **named):
        students.append(learn(*given, **named))
        return students[-1]

    monkeypatch.setattr(training, "Student", begun)
    budget = {"rounds": 3, "corrections": 2, "steps": 20, "recipe": quick}
    points = list(simulate(disc_model, known(1, 2, 3), known(50), anew=anew, **budget))
    assert len(points) == 4
    assert [student.step for student in students] == steps


def test_steps_are_rounds_of_the_same_length_on_any_machine(disc_model, known, quick, monkeypatch):
    """A budget of steps is used up however slow the machine is, and a round is not cut short by its seconds."""
    ends = []

    def take_over(self, state, version=None, replace=Model.replace_weights):
        ends.append(version)
        replace(self, state, version=version)

    monkeypatch.setattr(Model, "replace_weights", take_over)
    slow = replace(quick, round_steps=10, round_seconds=0.0)
    list(simulate(disc_model, known(1, 2), known(50), rounds=1, corrections=2, steps=20, recipe=slow))
    assert len(ends) == 2


def test_masks_that_the_user_set_stay(disc_model, known):
    """A prediction of the next round goes around what was corrected in an earlier one."""
    desk = engine._Desk(disc_model, known(1))
    _, acts = desk.correct(3)
    set_by_user = desk._pictures[0].taught >= TAUGHT
    before = desk._masks[0][set_by_user]
    desk._predict(0)
    assert len(acts) == 3
    assert np.array_equal(desk._masks[0][set_by_user], before)


def test_when_all_is_right_nothing_is_left_to_do(disc_model, known):
    """A picture that is right is accepted as a whole, and the annotator goes on to the next."""
    desk = engine._Desk(disc_model, known(1, 2, look="bright"))
    for _ in range(12):
        right, acts = desk.correct(4)
    assert right == 1
    assert {act.kind for act in acts} == {"right"}


def test_places_are_gone_through_from_left_to_right(disc_model, known):
    """Every place of a picture once, in the order of reading, the next picture after the last one."""
    desk = engine._Desk(disc_model, known(1, 2, look="bright"), engine.LEFT_TO_RIGHT)
    for index in (0, 1):
        desk._predict(index)
        desk._masks[index] = desk.known[index].truth.copy()
    places = list(itertools.islice(desk._places, 2 * 4))
    boxes = [place for index, place in places if index == 0]
    assert [box.start for box in boxes] == sorted(box.start for box in boxes)
    assert sum(int(np.prod(box.shape)) for box in boxes) == desk.known[0].truth.size
    assert {index for index, _ in places} == {0, 1}


def test_the_place_in_most_doubt_comes_first(disc_model, known):
    """Suggested places: of all pictures, where most is in doubt, and another one next."""
    desk = engine._Desk(disc_model, known(1, 2, look="bright"), engine.SUGGESTED)
    for index in (0, 1):
        desk._predict(index)
        desk._masks[index] = desk.known[index].truth.copy()
        desk._doubt[index][...] = 0
    desk._doubt[1][10:30, 70:90] = 1
    desk._doubt[0][60:75, 10:25] = 0.5
    (first, place), (second, _) = itertools.islice(desk._places, 2)
    assert (first, second) == (1, 0)
    assert not place.intersect(Box((10, 70), (30, 90))).is_empty
    assert desk._doubtful(0).masks is desk._masks[0]  # where places give no objects, these are looked for


def test_a_place_is_left_when_all_in_it_is_right(disc_model, known):
    """What is wrong in a place is corrected there before the next one, also across rounds."""
    desk = engine._Desk(disc_model, known(1), engine.LEFT_TO_RIGHT)
    desk.correct(1)
    desk._masks[0] = np.zeros_like(desk._masks[0])
    desk._pictures[0].taught[...] = 0
    box = next(desk._places)[1]
    truth = desk.known[0].truth
    middles = [ndimage.center_of_mass(truth == n) for n in np.unique(truth[truth > 0])]
    inside = sum(all(a <= c < b for a, c, b in zip(box.start, m, box.stop, strict=True)) for m in middles)
    assert inside >= 1
    for _ in range(inside):
        assert desk._act(0, box) is not None
        desk._take(0, desk._act(0, box))
    assert desk._act(0, box) is None
    assert next(desk._places)[1] != box


def test_strokes_teach_classes(disc_model, known, quick):
    """With two classes the discs are the foreground; strokes make it better, and Dice is what counts."""
    model = classes_of(disc_model, 2)
    budget = {"rounds": 4, "corrections": 3, "steps": 60, "recipe": quick}
    points = list(simulate(model, known(1, 2, 3, 4), known(50, 51), **budget))  # dark, and it knows bright ones
    assert points[1].acts == {"stroke": 3}
    assert points[-1].scores["dice"] > points[0].scores["dice"] + 0.3


def test_confused_classes_are_no_success(disc_model, known, monkeypatch):
    """With three classes the score is that of each class, and not of all foreground together."""
    pictures = [replace(each, truth=1 + (each.truth > 0).astype(np.int32)) for each in known(50)]
    desk = engine._Desk(classes_of(disc_model, 3), [])
    for answer, dice in ((pictures[0].truth, 1.0), (3 - pictures[0].truth, 0.0)):
        monkeypatch.setattr(engine, "segment_source", lambda *_, answer=answer, **__: answer)
        assert desk.score(pictures)["dice"] == dice


def test_where_there_is_no_object_nothing_was_wrong(disc_model, known):
    """The share of what was right before is 1 there, and not 0."""
    empty = [replace(each, truth=0 * each.truth) for each in known(1)]
    right, acts = engine._Desk(disc_model, empty).correct(1)
    assert right == 1
    assert len(acts) == 1


def test_strokes_are_spread_over_pictures(disc_model, known):
    """A few in each picture, however much more is wrong in it."""
    desk = engine._Desk(classes_of(disc_model, 2), known(1, 2, 3))
    _, acts = desk.correct(7)
    assert [act.edit.picture for act in acts] == [desk.known[n].name for n in (0, 0, 0, 1, 1, 1, 2)]


def test_what_cannot_be_simulated_is_said(make_model, known):
    """A model of volumes; strokes of classes from place to place."""
    with pytest.raises(ModelError, match="2-D"):
        next(simulate(make_model(ndim=3), known(1), known(2)))
    with pytest.raises(ModelError, match="--order"):
        next(simulate(make_model("classes"), known(1), known(2), order=engine.SUGGESTED))
