"""Sizes and sides: at which scale a session reads its pictures, and whether inverted."""

import numpy as np
import pytest

from napari_unet.core.image import ImageSource
from napari_unet.engine.measure import Sight
from napari_unet.session import jobs
from tests.session.conftest import is_complete, start, whole


def test_the_size_of_objects_is_measured_once(make_session, source, monkeypatch):
    """The first prediction measures, the picture is read at the scale that fits, and the next one measures no more."""
    session, ear, picture = start(make_session, source)
    picture.measured, asked = None, []

    def measure(model, source, view, *, expected, given, as_it_is):
        asked.append((view, expected, given, as_it_is))
        return Sight(2 * session.state.diameter)
        yield

    monkeypatch.setattr(jobs, "measure", measure)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear))
    assert (picture.scale, picture.measured) == (0.5, session.state.measured)
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: session.state.predicting is False)
    assert asked == [(whole(picture), None, None, True)]
    session.use_diameter(session.state.diameter)  # the user's word counts, and no word is the measured size again
    assert (picture.scale, session.state.given) == (1, session.state.diameter)
    session.use_diameter(None)
    assert (picture.scale, session.state.given) == (0.5, None)


def test_a_measured_size_is_kept_with_the_project(make_session, source, paint, tmp_path):
    """Tomorrow the picture is read at the same scale: what it was taught at."""
    session, _, picture = start(make_session, source, path=tmp_path / "discs.tif", measured=51.0)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    session.close(60)
    again, ear = make_session()
    reopened = again.open_picture("discs", source, path=tmp_path / "discs.tif")
    assert reopened.measured == 51
    ear.wait(lambda: again.state.model)
    assert reopened.scale == pytest.approx(again.state.diameter / 51)


def test_what_the_user_draws_tells_the_size_in_other_pictures(make_session, source, paint, monkeypatch):
    """After three objects a picture without any of the user's is measured anew, with that size in mind."""
    asked = []

    def measure(model, source, view, *, expected, given, as_it_is):
        asked.append(expected)
        return Sight(expected, is_inverted=False)
        yield

    monkeypatch.setattr(jobs, "measure", measure)
    session, ear, picture = start(make_session, source)
    session.learn(False)
    other = session.open_picture("other", ImageSource.of_array(np.random.default_rng(0).random((64, 64))))
    other.measured = 3.0
    for place in ((40, 40), (60, 60), (90, 90)):
        session.add_edit(paint(picture, place))
    assert (picture.measured, other.measured) == (session.state.diameter, None)
    session.predict(other.key, whole(other))
    ear.wait(lambda: is_complete(ear))
    assert other.measured == asked[0] == picture.measured


@pytest.mark.parametrize("given", [None, 9.0])
def test_a_picture_is_seen_inverted_from_the_first_look_on(make_session, source, paint, monkeypatch, tmp_path, given):
    """Masks, clicks and corrections read it so, those of before too, and tomorrow as well; that is asked once."""
    asked = []

    def measure(model, source, view, *, expected, given, as_it_is):
        asked.append((given, as_it_is))
        return Sight(given or 18.0, None if as_it_is else True)
        yield

    monkeypatch.setattr(jobs, "measure", measure)
    session, ear = make_session()
    picture = session.open_picture("discs", source, path=tmp_path / "discs.tif")
    ear.wait(lambda: session.state.model)
    session.learn(False)
    session.add_edit(paint(picture, (60, 60)))
    ear.wait(lambda: len(session._learner._pool) == 1)
    limits = source.limits()
    assert session._learner._pool[0].limits == limits
    session.use_diameter(given)
    for _ in range(2):
        session.predict(picture.key, whole(picture))
        ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert asked == [(given, False)]
    assert picture.reading.limits() == limits.inverted()
    assert picture.measured == (None if given else 18)
    ear.wait(lambda: session._learner._pool[0].limits == limits.inverted())
    ear.forget()
    session.invert(picture.key, False)  # the user says otherwise: predicted and learnt anew, and never asked again
    ear.wait(lambda: session._learner._pool[0].limits == limits)
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert asked == [(given, False)]
    session.add_edit(paint(picture, (90, 90)))
    session.close(60)
    again, ear = make_session()
    reopened = again.open_picture("discs", source, path=tmp_path / "discs.tif")
    assert reopened.reading.limits() == limits
    assert reopened.is_inverted is False


def test_a_size_that_is_known_stays_when_the_side_is_looked_for(make_session, source, monkeypatch):
    """What the user drew before the first prediction told it, or a project of before sides were noted."""
    asked = []

    def measure(model, source, view, *, expected, given, as_it_is):
        asked.append(given)
        return Sight(given, is_inverted=True)
        yield

    monkeypatch.setattr(jobs, "measure", measure)
    session, ear, picture = start(make_session, source)
    picture.measured, picture.is_inverted = 31.0, None
    session.predict(picture.key, whole(picture))
    ear.wait(lambda: is_complete(ear) and not session.state.predicting)
    assert asked == [31]
    assert (picture.measured, picture.is_inverted) == (31, True)
