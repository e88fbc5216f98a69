"""Objects and classes: what was set for one kind of model is not learnt by the other, and is not lost."""

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.events import WeightsChanged
from napari_unet.nets.model import Model
from tests.session.conftest import start


@pytest.fixture
def class_file(tmp_path):
    """A tiny model of three classes that knows nothing."""
    torch.manual_seed(0)
    architecture = {"in_channels": 3, "out_channels": 3, "base_channels": 4, "depth": 2, "norm": "group"}
    card = ModelCard(name="three", kind="classes", classes=("ground", "a", "b"), architecture=architecture)
    path = tmp_path / "three.safetensors"
    Model.create(card, device="cpu").save(path)
    return path


def learnt_from(session):
    """The labels that a training would learn from now."""
    return {int(n) for c in session._learner._pool for n in np.unique(c.labels[c.trusted])}


def test_objects_are_not_learnt_as_classes_and_come_back(make_session, model_file, class_file, source, paint, tmp_path):
    """Said in one sentence; each kind has its own truth, its own count, and its own undo. Also tomorrow."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.learn(False)
    for number, y in ((7, 60), (8, 100)):
        session.add_edit(paint(picture, (y, 60), number))
    assert session._keeper.flush(60)
    before = picture.truth.copy(), picture.taught.copy()

    session.use_model(str(class_file))
    ear.wait_state(kind="classes")
    ear.wait(lambda: ear.of("failed"))
    assert ear.of("failed")[0] == (
        "This model tells classes apart: it does not learn from the 2 corrections made with a model of objects. "
        "They are kept, and come back with such a model."
    )
    session.turn()
    assert not picture.taught.any()
    assert (session.state.corrections, session.corrections_in(picture.key)) == (0, 0)
    assert learnt_from(session) == set()
    session.add_edit(paint(picture, (60, 60), 2))
    assert session._keeper.flush(60)
    assert learnt_from(session) == {2}
    assert session.state.corrections == 1

    session.use_model(str(model_file))
    ear.wait_state(kind="objects")
    session.turn()
    assert np.array_equal(picture.truth, before[0])
    assert np.array_equal(picture.taught, before[1])
    assert learnt_from(session) == {7, 8}
    assert session.state.corrections == 2
    session.use_model(str(class_file))
    ear.wait_state(kind="classes")
    session.close(60)

    session, ear, again = start(make_session, source, path=path)
    ear.wait_state(kind="classes")
    assert session._keeper.flush(60)
    session.turn()
    assert set(np.unique(again.truth[again.taught != 0])) == {2}
    assert not np.isin(again.masks, (7, 8)).any()
    assert learnt_from(session) == {2}
    session.use_model(str(model_file))
    ear.wait_state(kind="objects")
    session.turn()
    assert np.array_equal(again.truth, before[0])
    assert learnt_from(session) == {7, 8}


def test_each_kind_has_its_own_masks(make_session, model_file, class_file, source, paint, tmp_path):
    """Those of objects are not shown among classes, also in a picture that is opened later, and come back with them."""
    path = tmp_path / "discs.tif"
    session, ear, picture = start(make_session, source, path=path)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60), 7))
    assert session._keeper.flush(60)
    objects, classes = np.full(source.shape, 5, np.int32), np.ones(source.shape, np.int32)
    session.keep_masks(picture.key, objects.copy())
    picture.masks = objects.copy()
    for file, kind, shown in ((class_file, "classes", 0), (model_file, "objects", 5), (class_file, "classes", 1)):
        session.use_model(str(file))
        ear.wait_state(kind=kind)
        session.turn()
        assert picture.masks[200, 200] == shown
        session.keep_masks(picture.key, classes if kind == "classes" else objects)
    session.close(60)

    session, ear, again = start(make_session, source, path=path)
    ear.wait_state(kind="classes")
    session.turn()
    assert (again.masks == 1).all()
    session.use_model(str(model_file))
    ear.wait_state(kind="objects")
    session.turn()
    assert again.masks[60, 60] == 7
    assert again.masks[200, 200] == 5


def test_a_model_of_classes_goes_on_learning_in_a_project_with_objects(
    quick, make_session, class_file, source, paint, tmp_path
):
    """Their numbers are no classes: the training ended with an error, which said nothing of where they came from."""
    session, ear, picture = start(make_session, source, path=tmp_path / "discs.tif")
    session.learn(False)
    session.add_edit(paint(picture, (100, 60), 57))
    session.use_model(str(class_file))
    ear.wait_state(kind="classes")
    for x in (40, 100):
        session.add_edit(paint(picture, (60, x), 1))
    ear.wait(lambda: session._keeper.flush(1))
    ear.forget()
    session.learn(True)
    ear.wait(lambda: any(isinstance(event, WeightsChanged) for event in session.history))
    assert ear.of("failed") == []
