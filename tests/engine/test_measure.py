"""How the model sees a picture best: how large objects are, and whether it is to be inverted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.events import Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.metrics import evaluate
from napari_unet.core.sizes import median_diameter
from napari_unet.engine import looks as seen
from napari_unet.engine import measure as engine
from napari_unet.engine.measure import measure
from napari_unet.engine.segment import segment
from tests.engine.conftest import part


def measured(model, image, view=None, expected=None):
    """The size that is found in a picture as it is, and in how many looks."""
    looks, found = [], measure(model, ImageSource.of_array(image), view, expected=expected, as_it_is=True)
    try:
        while True:
            looks.append(next(found))
    except StopIteration as end:
        assert all(isinstance(look, Progress) for look in looks)
        return end.value.diameter, len(looks)


@pytest.mark.parametrize("zoom", [1, 2, 4])
def test_the_size_is_that_of_the_objects(disc_model, draw, zoom):
    """Discs are measured at whatever size they are, also at four times the one that was trained."""
    image, labels = draw(1, shape=(160, 160), count=14)
    found, _ = measured(disc_model, np.kron(image, np.ones((zoom, zoom), np.float32)))
    assert found == pytest.approx(zoom * median_diameter(labels), rel=0.25)


def test_a_size_that_is_expected_is_looked_for_too(disc_model, draw):
    """Looked at as it asks for, until looks agree; it counts where nothing else shows, but not against what does."""
    image, labels = draw(1, shape=(160, 160), count=14)
    truth = median_diameter(labels)
    looks = measured(disc_model, image)[1]
    found, more = measured(disc_model, image, expected=2.5 * truth)
    assert found == pytest.approx(truth, rel=0.25)
    assert looks < more <= looks + engine.LOOKS_EXPECTED
    assert measured(disc_model, image, expected=1.3 * truth)[1] == looks  # about what shows anyhow
    assert measured(disc_model, image, expected=8 * truth)[0] == pytest.approx(truth, rel=0.25)
    assert measured(disc_model, np.full((64, 64), 100, np.float32), expected=30.0)[0] == 30


@pytest.mark.parametrize(
    ("near", "strife", "size"), [(25, 0.1, 40), (25, 0.105, 40), (25, 0.14, 25), (20, 0.14, 40), (20, 0.2, 20)]
)
def test_an_expected_size_is_believed_unless_the_network_contradicts_itself(
    disc_model, monkeypatch, near, strife, size
):
    """The user's first objects may be the largest ones: what shows at their scale must hang together as well.

    Where nothing else is of about that size, it may hang together less.
    """
    looks = seen.Look(near, 0.1), seen.Look(14.0, 0.3), seen.Look(40.0, strife)
    assert _found(disc_model, monkeypatch, *looks) == size


def test_an_expected_size_decides_nothing_where_the_looks_say_another_one(disc_model, monkeypatch):
    """Two looks that agree are believed; and what one of them said has been weighed already."""
    near, far = seen.Look(30.0, 0.12), seen.Look(23.0, 0.1)
    own = seen.Look(31.0, 0.08)
    disc_model.card = replace(disc_model.card, diameter=10.0)
    assert _found(disc_model, monkeypatch, near, replace(far, diameter=33.0), replace(own, diameter=40.0)) == 33
    assert _found(disc_model, monkeypatch, near, far, own) == 23
    assert _found(disc_model, monkeypatch, near, far, replace(own, diameter=40.0)) == 40


def test_a_look_of_the_expected_size_is_believed_against_one_that_is_far_from_it(disc_model, monkeypatch):
    """Cells in a dense colony: from afar the colony shows, as well or better, and the user has drawn cells."""
    near, far = seen.Look(35.0, 0.16), seen.Look(100.0, 0.15)
    assert _found(disc_model, monkeypatch, near, far, replace(near, strife=0.18)) == 35
    assert _found(disc_model, monkeypatch, near, far, replace(near, strife=0.3)) == 100


def _found(model, monkeypatch, near, far, own):
    """The size that three looks make: as it is, from afar, and as 44 pixels ask for."""
    looks = iter((near, far, own))
    monkeypatch.setattr(seen.Looks, "closely", lambda *how: _at_once(next(looks)))
    return measured(model, np.zeros((64, 64), np.float32), expected=44.0)[0]


def _at_once(value):
    """A look that needs no work."""
    return value
    yield


def test_looks_go_on_until_they_agree_and_none_is_made_twice(disc_model, monkeypatch):
    """What is seen from too near is seldom right at once; and what was seen at a scale is known."""
    known, scales = disc_model.card.diameter, []

    def look(model, source, view, scale):
        yield Progress("predict", "", 0, 1)
        scales.append(scale)
        return seen.Look(known * (3 if scale == 1 else 2), 0.05)

    monkeypatch.setattr(seen, "_look", look)
    assert measured(disc_model, np.zeros((64, 64), np.float32))[0] == 2 * known
    assert scales == pytest.approx([1, 1 / 3, 1 / 2])


def test_an_expected_size_gets_a_third_look(disc_model, monkeypatch):
    """Of a kind just learnt the second look is not right yet either."""
    known, scales = disc_model.card.diameter, []
    sizes = {1: 1, 0.5: 1, 0.4: 2.2}

    def look(model, source, view, scale):
        yield Progress("predict", "", 0, 1)
        scales.append(scale)
        return seen.Look(known * sizes.get(round(scale, 3), 1.8), 0.05)

    monkeypatch.setattr(seen, "_look", look)
    found, _ = measured(disc_model, np.zeros((64, 64), np.float32), expected=2.5 * known)
    assert scales == pytest.approx([1, 0.5, 0.4, 1 / 2.2, 1 / 1.8])
    assert found == pytest.approx(1.8 * known)


def test_nothing_has_no_size(disc_model):
    """An empty picture is looked at twice, from near and from far, and says nothing."""
    found, looks = measured(disc_model, np.full((64, 64), 100, np.float32))
    assert found is None
    assert looks == 2


def test_a_model_of_classes_measures_nothing(make_model):
    """Only objects have a size."""
    assert measured(make_model("classes"), np.zeros((64, 64), np.float32)) == (None, 0)


def test_other_parts_are_looked_at_when_the_view_shows_little(disc_model, draw, monkeypatch):
    """The view comes first; where it is empty, the rest of the plane is looked at; of a stack its plane alone."""
    monkeypatch.setattr(seen, "SIDE", 160)
    image, labels = draw(1, shape=(160, 160), count=14)
    stack = np.full((2, 400, 400), 100, np.float32)
    stack[1, :160, :160] = image
    found, looks = measured(disc_model, stack, Box((1, 300, 300), (2, 400, 400)))
    assert found == pytest.approx(median_diameter(labels), rel=0.25)
    assert looks > 1
    assert measured(disc_model, stack, Box((0, 0, 0), (1, 100, 100)))[0] is None


@pytest.mark.parametrize("shown", [(0,), (7,), (3, 4, 5)])
def test_of_a_stack_some_planes_are_looked_at(disc_model, draw, shown):
    """Objects have their size wherever they show in a stack, whose first planes are often empty."""
    image, labels = draw(1, shape=(160, 160), count=14)
    large = np.kron(image, np.ones((2, 2), np.float32))
    stack = np.full((8, *large.shape), 100, np.float32)
    stack[list(shown)] = large
    found, _ = measured(disc_model, stack)
    assert found == pytest.approx(2 * median_diameter(labels), rel=0.25)


@pytest.mark.parametrize(
    ("far", "strife", "size"),
    [
        (50.0, (0.1, 0.2), 20),
        (50.0, (0.1, 0.105), 50),
        (50.0, (0.2, 0.1), 50),
        (16.0, (0.2, 0.1), 20),
    ],
)
def test_what_is_larger_than_known_is_measured_from_afar(disc_model, monkeypatch, far, strife, size):
    """There it is whole; unless the outputs fit each other worse there, or it is no larger than the model knows."""

    def look(model, source, view, scale):
        yield Progress("predict", "", 0, 1)
        return seen.Look(20.0, strife[0]) if scale == 1 else seen.Look(far, strife[1])

    monkeypatch.setattr(seen, "_look", look)
    assert measured(disc_model, np.zeros((64, 64), np.float32))[0] == size


@pytest.mark.parametrize("zoom", [1, 3])
def test_a_picture_is_seen_inverted_where_the_model_knows_it_so(disc_model, draw, zoom):
    """A model of bright discs finds dark ones as well once dark is bright, at their size; bright ones as they are."""
    image, labels = draw(1, shape=(240, 240), count=40)
    assert labels.max() > 1.2 * engine.MANY
    image, labels = (np.kron(each, np.ones((zoom, zoom), each.dtype)) for each in (image, labels))
    for dark, raw in ((False, image), (True, 1000 - image)):
        source = ImageSource.of_array(raw)
        sight = engine.measured_by(disc_model, source)
        assert sight.is_inverted == dark
        assert sight.diameter == pytest.approx(median_diameter(labels), rel=0.25)
        reading, _ = engine.as_seen_by(disc_model, source)
        assert reading.is_inverted == dark
        assert evaluate(segment(disc_model, raw), labels)["ap50"] > 0.7


def test_with_a_size_that_is_given_only_the_side_is_looked_for(disc_model, draw):
    """What the user says of the size stands, and is where both ways are looked at."""
    image, labels = draw(1, shape=(240, 240), count=40)
    given = 1.1 * median_diameter(labels)
    for dark, raw in ((False, image), (True, 1000 - image)):
        assert engine.measured_by(disc_model, ImageSource.of_array(raw), given=given) == engine.Sight(given, dark)
        reading, scale = engine.as_seen_by(disc_model, ImageSource.of_array(raw), given)
        assert reading.is_inverted == dark
        assert scale == pytest.approx(disc_model.card.diameter / given)


@pytest.mark.parametrize(
    ("plain", "inverted", "is_inverted"),
    [
        ((0.95, 0.1), (1.0, 0.05), False),  # it is steady as it is: nobody looks
        ((0.7, 0.1), (0.8, 0.09), True),
        ((0.7, 0.1), (0.72, 0.05), False),
        ((0.7, 0.1), (0.9, 0.11), False),
        ((None, 0.1), (0.9, 0.05), False),  # too few objects to tell
        ((0.7, 0.1), (None, 0.05), False),
    ],
)
def test_inverted_it_must_be_steadier_and_contradict_itself_less(disc_model, monkeypatch, plain, inverted, is_inverted):
    """One of the two alone may be chance."""

    def of(looks):
        return inverted if looks._source.is_inverted else plain

    monkeypatch.setattr(engine, "_best", lambda looks, _: _at_once(seen.Look(20.0, of(looks)[1])))
    monkeypatch.setattr(seen.Looks, "at_size", lambda looks, _: _at_once(seen.Look(20.0, of(looks)[1])))
    monkeypatch.setattr(seen.Looks, "steadiness", lambda looks, *_: _at_once(of(looks)[0]))
    sight = engine.measured_by(disc_model, ImageSource.of_array(np.zeros((64, 64), np.float32)))
    assert sight == engine.Sight(20.0, is_inverted)


def test_the_side_that_was_learnt_is_looked_at_first(disc_model, monkeypatch):
    """It stays unless the other one is clearly better, whichever the picture is given in; a size is measured in it."""
    steadiness = {False: 0.7, True: 0.72}
    monkeypatch.setattr(
        engine, "_best", lambda looks, _: _at_once(seen.Look(20.0, 0.1 - looks._source.is_inverted / 20))
    )
    monkeypatch.setattr(seen.Looks, "steadiness", lambda looks, *_: _at_once(steadiness[looks._source.is_inverted]))
    source = ImageSource.of_array(np.zeros((64, 64), np.float32))
    for learnt in (False, True):
        disc_model.card = replace(disc_model.card, is_inverted=learnt)
        for given in (source, source.inverted()):
            sight = engine.measured_by(disc_model, given)
            assert sight.is_inverted == sight.of(given).is_inverted == learnt
            assert engine.measured_by(disc_model, given, as_it_is=True) == engine.Sight(20.0)
    steadiness[False] = 0.9
    assert engine.measured_by(disc_model, source).is_inverted  # but the network contradicts itself more
    steadiness[True] = 0.95
    assert engine.measured_by(disc_model, source).is_inverted


def test_classes_are_seen_as_they_were_learnt(make_model):
    """Nothing is measured for them."""
    model = make_model("classes")
    source = ImageSource.of_array(np.zeros((64, 64), np.float32))
    assert engine.measured_by(model, source).of(source) is source
    model.card = replace(model.card, is_inverted=True)
    assert engine.measured_by(model, source).of(source).is_inverted


@pytest.fixture
def colony():
    """A colony of cells of 12 pixels, as (picture, cells, the whole)."""
    cells = np.zeros((92, 92), np.int32)
    cells[10:-10, 10:-10] = np.kron(np.arange(1, 37).reshape(6, 6), np.ones((12, 12), np.int32))
    inner = ndimage.minimum_filter(cells, 3) == ndimage.maximum_filter(cells, 3)
    image = np.random.default_rng(0).normal(0, 0.2, cells.shape) - ~inner
    return image.astype(np.float32), cells, (cells > 0).astype(np.int32)


@pytest.mark.parametrize(("strife", "size"), [(engine.IN_DOUBT * 1.1, 12), (engine.IN_DOUBT * 0.9, 72)])
def test_a_colony_is_not_taken_for_an_object(disc_model, monkeypatch, colony, strife, size):
    """From afar it shows as well as an object, but the rims in it part cells. Without doubt nobody looks nearer."""
    image, cells, whole = colony
    fours = np.where(cells, 1 + (cells - 1) // 12 * 3 + (cells - 1) % 6 // 2, 0).astype(np.int32)
    disc_model.card = replace(disc_model.card, diameter=24.0)

    def look(model, source, view, scale):
        yield Progress("predict", "", 0, 1)
        shown, diameter = (cells, 12.0) if scale > 1 else (fours, 24.0) if scale == 1 else (whole, 72.0)
        return seen.Look(diameter, strife * min(scale, 1), scale, part(shown, image))

    monkeypatch.setattr(seen, "_look", look)
    assert measured(disc_model, image)[0] == size


def test_an_object_that_falls_into_pieces_stays_one(disc_model, monkeypatch, colony):
    """Where nothing parts the pieces, they are none."""
    image, cells, whole = colony

    def look(model, source, view, scale):
        yield Progress("predict", "", 0, 1)
        if scale > 1:
            return seen.Look(12.0, 0.2, scale, part(cells, np.zeros_like(image)))
        return seen.Look(72.0, 0.2, scale, part(whole))

    monkeypatch.setattr(seen, "_look", look)
    assert measured(disc_model, image)[0] == 72
