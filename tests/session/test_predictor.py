"""What is predicted, and clicks: answered in the device thread before other work, and never left without an answer."""

import numpy as np
import pytest

from napari_unet.core.errors import ImageError
from napari_unet.core.events import WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.prompts import Prompts
from tests.session.conftest import discs, is_complete, start, whole


@pytest.fixture
def opened(make_session):
    """A session with the shipped model, its ear, and a stack of two slices."""
    session, ear = make_session(model="default")
    picture = session.open_picture("stack", ImageSource.of_array(blobs()[0]))
    ear.wait(lambda: session.state.model)
    return session, ear, picture


def answer(ear):
    """The newest answer to a click."""
    ear.wait(lambda: ear.of("object_found"))
    return ear.of("object_found")[-1]


def blobs():
    """A stack of two slices; a bright disc in each, in different places."""
    y, x = np.ogrid[:96, :128]
    stack = np.stack([(y - 30) ** 2 + (x - 40) ** 2 < 150, (y - 60) ** 2 + (x - 90) ** 2 < 150])
    noise = np.random.default_rng(0).normal(0, 0.05, stack.shape)
    return (stack + noise).astype(np.float32), stack


def test_a_click_finds_the_object_in_its_slice(opened):
    """The answer bears the number of the question, and lies in the slice that was asked for."""
    session, ear, picture = opened
    truth = blobs()[1][1]
    assert session.state.can_click
    number = session.click(picture.key, (1,), Prompts(((60.0, 90.0),)))
    found = answer(ear)
    assert (found.picture, found.request) == (picture.key, number)
    assert found.box.start[0] == 1
    got = np.zeros(picture.source.shape, bool)
    got[found.box.slices] = found.mask
    assert (got[1] & truth).sum() / (got[1] | truth).sum() > 0.8
    assert found.foreground > 0.5
    assert found.seconds > 0


def test_a_mask_so_far_and_more_clicks_are_taken(opened):
    """The second question mends what came of the first."""
    session, ear, picture = opened
    prompts = Prompts(((30.0, 40.0),), ((30.0, 60.0),))
    session.click(picture.key, (0,), prompts, (Box((20, 45), (40, 65)), np.ones((20, 20), bool)))
    found = answer(ear)
    got = np.zeros(picture.source.shape, bool)
    got[found.box.slices] = found.mask
    assert not got[0, 30, 60]
    assert got[0, 30, 40]


def test_a_click_that_fails_is_answered_with_nothing(opened):
    """A model without a click head: a sentence, and an empty mask so that nobody waits for ever."""
    session, ear, picture = opened
    session.use_model("classes")
    ear.wait_state(kind="classes", can_click=False)
    number = session.click(picture.key, (0,), Prompts(((30.0, 40.0),)))
    found = answer(ear)
    assert found.request == number
    assert not found.mask.any()
    assert "not trained for clicks" in ear.of("failed")[-1]
    assert session.state.model == "classes"


@pytest.mark.parametrize(
    ("lead", "prompts", "words"),
    [
        ((0,), Prompts(((30.0, 4000.0),)), "outside of the picture, (96, 128). Click on"),
        ((0,), Prompts(box=Box((300, 300), (400, 400))), "There is nothing of the picture"),
        ((0,), Prompts(((np.nan, 40.0),)), "no list of (y, x)"),
        ((7,), Prompts(((30.0, 40.0),)), "no plane (7,) in the picture"),
        ((), Prompts(((30.0, 40.0),)), "no plane () in the picture"),
    ],
)
def test_a_click_that_is_not_in_the_picture_is_a_sentence(opened, lead, prompts, words):
    """It is answered with nothing, and the next one finds its object."""
    session, ear, picture = opened
    session.click(picture.key, lead, prompts)
    assert not answer(ear).mask.any()
    assert words in ear.of("failed")[-1]
    ear.forget()
    session.click(picture.key, (0,), Prompts(((30.0, 40.0), (30.0, 4000.0))))  # a scribble that leaves the picture
    assert answer(ear).mask.any()
    assert not ear.of("failed")


def test_a_view_that_is_none_is_refused_at_once(make_session, source):
    """What was predicted and looked at before goes on as if nothing had been asked."""
    session, ear, picture = start(make_session, source)
    session.predict(picture.key, whole(picture))
    for ask in (session.predict, session.look_at):
        with pytest.raises(ImageError, match="3 axes, and the picture 2"):
            ask(picture.key, Box((0, 0, 0), (1, 9, 9)))
    assert picture.view == whole(picture)
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert not ear.of("failed")


def test_of_clicks_that_wait_the_newest_is_answered(opened):
    """What was asked before it, and has no answer yet, gets none: only the last mask is wanted."""
    session, ear, picture = opened
    numbers = [session.click(picture.key, (0,), Prompts(((30.0, 40.0 + i),))) for i in range(20)]
    ear.wait(lambda: any(found.request == numbers[-1] for found in ear.of("object_found")))
    assert len(ear.of("object_found")) < len(numbers)


def test_hovering_takes_the_place_of_no_click(opened):
    """Somebody waits for the answer to a click; only the newest place of the mouse is of interest."""
    session, ear, picture = opened
    number = session.click(picture.key, (0,), Prompts(((30.0, 40.0),)))
    hovers = [session.click(picture.key, (0,), Prompts(((30.0, 40.0 + i),)), hover=True) for i in range(5)]
    ear.wait(lambda: {found.request for found in ear.of("object_found")} >= {number, hovers[-1]})


def test_the_size_of_objects_is_measured_at_the_first_click(opened):
    """A picture that was not predicted yet is measured once, so that clicks see it at the size the model knows."""
    session, ear, picture = opened
    session.click(picture.key, (0,), Prompts(((30.0, 40.0),)))
    answer(ear)
    assert picture.measured == pytest.approx(24.4, rel=0.2)
    assert session.state.measured == picture.measured
    assert ear.of("progressed")[-1].done == ear.of("progressed")[-1].total  # no bar is left


@pytest.mark.parametrize("channels", [None, (0, 2)])
def test_colour_and_channels(opened, channels):
    """Pictures in colour and with channels chosen are clicked on as well; what was read is not read anew."""
    session, ear, _ = opened
    grey, truth = blobs()
    color = np.stack([grey[0] * 200 + 20, grey[0] * 60 + 40, grey[0] * 150 + 60], -1).clip(0, 255).astype(np.uint8)
    picture = session.open_picture("color", ImageSource.of_array(color))
    session.use_channels(picture.key, channels)
    for _ in range(2):
        ear.forget()
        session.click(picture.key, (), Prompts(((30.0, 40.0),)))
        found = answer(ear)
    got = np.zeros(truth[0].shape, bool)
    got[found.box.slices] = found.mask
    assert (got & truth[0]).sum() / (got | truth[0]).sum() > 0.7
    assert len(session._learner.device()._clicks._regions) == 1


def test_another_plane_that_is_looked_at_is_predicted(make_session):
    """A stack is predicted plane by plane, where the user moves to; after Cancel nothing is."""
    stack = np.stack([discs(seed)[0] for seed in range(3)])
    session, ear, picture = start(make_session, ImageSource.of_array(stack, rgb=False))
    planes = [Box((z, 0, 0), (z + 1, 256, 256)) for z in range(3)]
    session.predict(picture.key, planes[0])
    ear.wait(lambda: is_complete(ear))
    session.look_at(picture.key, planes[1])
    ear.wait(lambda: any(p.core.start[0] == 1 and p.done == p.total for p in ear.of("prediction_ready")))
    session.cancel()
    session.look_at(picture.key, planes[2])
    assert not session._worker.is_busy("predict")


@pytest.mark.parametrize("is_fresh", [True, False])
def test_what_was_learnt_refreshes_the_masks_only_where_the_user_wants_that(make_session, source, is_fresh):
    """'Keep the view fresh' switches it."""
    session, ear, picture = start(make_session, source)
    session.keep_fresh(is_fresh)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    before = session._predictor._request
    session._emit(WeightsChanged(1, 0.8, 0.9, 5, 1))
    assert session._predictor._request == before + is_fresh


def test_a_prediction_that_is_not_to_be_refreshed_is_not_begun_anew(quick, make_session, paint):
    """With 'Keep the view fresh' off it ends before the training goes on, so that it comes from one version."""
    wide = ImageSource.of_array(discs(shape=(256, 2600), count=60)[0])
    session, ear, picture = start(make_session, wide)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: ear.of("stepped"))
    session.keep_fresh(False)
    session.predict(picture.key, Box((0, 0), (256, 256)))
    ear.wait(lambda: is_complete(ear) and ear.of("weights_changed") and session.state.learning == "waiting")
    tiles = [place for place, (name, _) in enumerate(ear.said) if name == "prediction_ready"]
    assert len(tiles) > 4
    assert {name for name, _ in ear.said[tiles[0] : tiles[-1]]}.isdisjoint({"stepped", "weights_changed"})
    assert len({(p.request, p.version) for p in ear.of("prediction_ready")}) == 1
