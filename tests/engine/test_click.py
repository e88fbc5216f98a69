"""Click to segment: masks of discs from clicks, boxes and scribbles, in pictures of any size."""

import numpy as np
import pytest
import torch

from napari_unet.core.errors import ImageError, ModelError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.prompt_maps import MAPS
from napari_unet.core.prompts import Prompts
from napari_unet.engine import click as engine
from napari_unet.engine.click import ClickSegmenter


def iou(a, b):
    """Intersection over union."""
    return (a & b).sum() / (a | b).sum()


class Glass(torch.nn.Module):
    """A click head that shows the bright parts of the picture, without what was said not to be the object."""

    def forward(self, shown):
        """The picture is the first channel; then the clicks on the object and beside it, the box and the old mask."""
        (picture, *_), (_, negative, box, before) = shown[:, :-MAPS].unbind(1), shown[:, -MAPS:].unbind(1)
        logits = 10 * picture - 5 - 50 * negative
        logits = torch.where(box.amax((1, 2), keepdim=True) > 0, logits - 50 * (1 - box), logits)
        return torch.where(before.amax((1, 2), keepdim=True) > 0, logits - 50 * (1 - before), logits)[:, None]


class Shortsighted(Glass):
    """A click head that sees small things only from near: else it takes much around a click, and is not sure of it."""

    def forward(self, shown):
        """The bright part, if it is large enough."""
        if (shown[:, 0] > 0.5).sum() >= 120:
            return super().forward(shown)
        around = torch.nn.functional.max_pool2d(shown[:, -MAPS, None], 25, 1, 12)
        return around - 0.5


class Inside(Glass):
    """A click head that takes a little around a click, and is not sure of it, where it sees no rim at all."""

    def forward(self, shown):
        """The bright part, if there is anything beside it."""
        if (shown[:, 0] < 0.5).any():
            return super().forward(shown)
        return torch.nn.functional.max_pool2d(shown[:, -MAPS, None], 15, 1, 7) - 0.5


@pytest.fixture
def click_model(disc_model, monkeypatch):
    """A model whose click head sees the picture alone: what it gives shows whether all lies where it should."""
    features = disc_model.net.settings["base_channels"]
    monkeypatch.setattr(engine, "shown", lambda seen, logits, x: x.repeat(1, features + 1, 1, 1))
    disc_model.click = Glass()
    return disc_model


@pytest.fixture
def clicker(click_model, draw):
    """A segmenter that looks at a picture of discs, and their labels."""
    image, labels = draw(41)
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(image, diameter=17)
    return segmenter, labels


def middle(mask):
    """The middle of a disc."""
    return tuple(np.argwhere(mask).mean(0))


def test_one_click_gives_the_object_and_no_other(clicker):
    """The mask is that of the disc under the click, in the picture's own pixels."""
    segmenter, labels = clicker
    for number in range(1, labels.max() + 1):
        mask = segmenter.segment([middle(labels == number)])
        assert mask.shape == labels.shape
        assert mask.dtype == bool
        assert iou(mask, labels == number) > 0.9


def test_objects_much_larger_than_the_picture_cost_no_memory(clicker, draw):
    """Whoever gives such a diameter gets a mask, and no more is looked at than there is."""
    segmenter, _ = clicker
    image, _ = draw(7)
    segmenter.set_image(image, diameter=1e9)
    assert segmenter.segment([(50, 50)]).shape == image.shape


def test_a_box_and_a_scribble_are_prompts(clicker):
    """A box around a disc, or a line through it, shows it as well as a click does."""
    segmenter, labels = clicker
    truth = labels == 2
    box = Box.of_mask(truth)
    line = [(y, x) for y, x in np.argwhere(truth)[:: max(1, truth.sum() // 12)]]
    assert iou(segmenter.segment([], box=box), truth) > 0.9
    assert iou(segmenter.segment([], box=(*box.start, *box.stop)), truth) > 0.9
    backwards = segmenter.segment([], box=(*box.stop, *box.start))
    assert np.array_equal(backwards, segmenter.segment([], box=box))
    assert iou(segmenter.segment(line), truth) > 0.9


def test_a_mask_is_mended(clicker):
    """Two discs taken for one: a click beside the object takes the wrong one away."""
    segmenter, labels = clicker
    wanted, other = labels == 1, labels == 2
    mended = segmenter.segment([middle(wanted)], [middle(other)], previous=wanted | other)
    assert iou(mended, wanted) > 0.85
    assert not (mended & other).any()
    assert 0 < segmenter.segment([], [middle(other)], previous=wanted | other).sum() < (wanted | other).sum()


def test_every_click_is_followed(clicker):
    """Where the head does not see it so, the click decides: dark ground is object, the middle of one is not."""
    segmenter, labels = clicker
    y, x = (round(c) for c in middle(labels == 1))
    ground = np.argwhere(labels == 0)
    beside = tuple(int(c) for c in ground[np.abs(np.hypot(*(ground - (y, x)).T) - 14).argmin()])
    before = segmenter.segment([(y, x)])
    both = segmenter.segment([(y, x), beside], previous=before)
    assert before[y, x]
    assert not before[beside]
    assert both[beside]
    assert both[y, x]
    assert not segmenter.segment([beside], [(y, x)])[y, x]


def test_clicks_closer_than_the_networks_pixels_are_followed(click_model, draw):
    """At a fifth of the size neighbouring pixels are one to the network, but not to the user."""
    image, labels = draw(41)
    large = np.kron(image, np.ones((5, 5), image.dtype))
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(large, diameter=17 * 5)
    y, x = (round(5 * c) for c in middle(labels == 1))
    on, beside = [(y, x), (y + 3, x), (y + 1, x + 1)], [(y + 1, x), (y + 2, x), (y, x + 1)]
    mask = segmenter.segment(on, beside)
    assert all(mask[point] for point in on)
    assert not any(mask[point] for point in beside)


def test_large_objects_are_whole(click_model, draw):
    """Discs five times as large as the window expects: the window grows until they are in it."""
    image, labels = draw(41)
    large, truth = np.kron(image, np.ones((6, 6), np.float32)), np.kron(labels, np.ones((6, 6), int)) == 3
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(large, diameter=17)
    assert iou(segmenter.segment([middle(truth)]), truth) > 0.9
    assert iou(segmenter.segment([middle(truth)], previous=truth), truth) > 0.9


def test_what_it_is_unsure_of_is_looked_at_from_nearer_by(click_model):
    """A speck that is not seen at the usual size is found at four times that; the ground around it is left out."""
    y, x = np.ogrid[:200, :200]
    speck = (y - 90) ** 2 + (x - 110) ** 2 <= 3.2**2
    click_model.click = Shortsighted()
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(speck.astype(np.float32), diameter=click_model.card.diameter)
    assert iou(segmenter.segment([(90, 110)]), speck) > 0.7
    # in a box, and where a mask is mended, there is something to go by
    assert segmenter.segment([(90, 110)], box=(80, 100, 101, 121)).sum() > 2 * speck.sum()
    assert segmenter.segment([(90, 110)], previous=speck).sum() > 2 * speck.sum()


@pytest.mark.parametrize("point", [(300, 300), (250, 380)])
def test_an_object_that_fills_the_window_is_seen_from_afar(click_model, point):
    """One click inside of a disc twice as wide as the window gives all of it, and not a dot."""
    y, x = np.ogrid[:600, :620]
    disc = (y - 300) ** 2 + (x - 300) ** 2 <= 200**2
    click_model.click = Inside()
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(disc.astype(np.float32), diameter=click_model.card.diameter)
    assert iou(segmenter.segment([point]), disc) > 0.95


@pytest.mark.parametrize("previous", [None, (0, 0)])
def test_clicks_far_apart_are_followed_though_nothing_is_there(clicker, previous):
    """The window stays as large as they ask for, however small the mask is."""
    segmenter, _ = clicker
    segmenter.set_image(np.pad(np.ones((1, 1), np.float32), [(199, 0), (299, 0)]), diameter=17)
    on, beside = [(0, 0), (128, 244)], [(129, 243)]
    known = None if previous is None else segmenter.segment([previous])
    mask = segmenter.segment(on, beside, previous=known)
    assert [bool(mask[point]) for point in on + beside] == [True, True, False]


def test_what_is_larger_than_any_window_is_seen_in_one(clicker, monkeypatch):
    """Two clicks, or a box, say themselves how far away they are to be seen from."""
    segmenter, _ = clicker
    monkeypatch.setattr(engine, "FARTHEST", 1)
    bright = np.zeros((700, 700), np.float32)
    bright[20:680, 20:680] = 1
    segmenter.set_image(bright, diameter=17)
    assert iou(segmenter.segment([(30, 30), (670, 670)]), bright > 0) > 0.9
    assert iou(segmenter.segment([], box=(18, 18, 682, 682)), bright > 0) > 0.9


def test_what_is_said_of_the_outside_does_not_count(click_model, draw, monkeypatch):
    """The head may say anything of pixels beyond the edge: a disc that the edge cuts is found, and from close by."""
    image, labels = draw(41, shape=(200, 96))
    column = round(middle(labels == 1)[1])
    image, truth = np.ascontiguousarray(image[:, column:]), labels[:, column:] == 1
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(image, diameter=17)
    said, levels, place = click_model.click.forward, [], segmenter._window
    monkeypatch.setattr(click_model.click, "forward", lambda shown: torch.where(shown[:, :1] == 0, 9.0, said(shown)))
    monkeypatch.setattr(segmenter, "_window", lambda *a: levels.append(a[2]) or place(*a))
    assert iou(segmenter.segment([middle(truth)]), truth) > 0.85
    assert set(levels) == {0}


def test_windows_lie_on_the_networks_own_pixels(clicker):
    """Features are shown as they are, never mixed: wherever the click is, the head sees pixels of the picture."""
    segmenter, _ = clicker
    seen = []
    said = segmenter._click.forward
    segmenter._click.forward = lambda shown: seen.append(shown[0, 0]) or said(shown)
    segmenter.segment([(48.0, 48.0)])
    segmenter.segment([(48.5, 48.2)])
    first, second = seen
    shifts = [torch.roll(first, (y, x), (0, 1))[2:-2, 2:-2] for y in (-1, 0) for x in (-1, 0)]
    assert any(torch.equal(shift, second[2:-2, 2:-2]) for shift in shifts)


def test_a_region_is_read_once(clicker, monkeypatch):
    """Clicks in the same place cost the head alone; new weights ask for reading anew."""
    segmenter, labels = clicker
    read = []
    real = engine.shown
    monkeypatch.setattr(engine, "shown", lambda *a: read.append(1) or real(*a))
    first = segmenter.segment([middle(labels == 1)])
    count = len(read)
    assert count >= 1
    assert np.array_equal(segmenter.segment([middle(labels == 1)]), first)
    assert len(read) == count
    segmenter.model.replace_weights(segmenter.model.net.state_dict())
    assert np.array_equal(segmenter.segment([middle(labels == 1)]), first)
    assert len(read) == 2 * count
    segmenter.set_image(np.zeros((50, 60)), diameter=17)
    segmenter.segment([(3, 3)])
    assert len(read) > 2 * count


@pytest.mark.parametrize("box", [(-4000, -4000, 20, 20), (0, 0, 10**7, 50), (-(10**6), 40, 10**6, 10**6)])
def test_a_box_may_reach_far_outside(clicker, box):
    """What is inside counts, whoever asks."""
    segmenter, labels = clicker
    inside = Box(box[:2], box[2:]).clip(labels.shape)
    expected = segmenter.segment([], box=inside)
    assert np.array_equal(segmenter.segment([], box=box), expected)
    assert np.array_equal(segmenter.answer(Prompts(box=Box(box[:2], box[2:]))).over(labels.shape), expected)


def test_regions_are_forgotten(click_model, draw, monkeypatch):
    """Memory stays bounded however far one clicks about."""
    monkeypatch.setattr(engine, "KEPT", 3)
    segmenter = ClickSegmenter(click_model)
    segmenter.set_image(np.tile(draw(1)[0], (6, 6)), diameter=17)
    for y in range(20, 570, 90):
        segmenter.segment([(y, y)])
    assert len(segmenter._regions) == 3


def test_a_plane_of_a_stack_is_clicked_on(click_model, draw):
    """In the plane in view, not in the first one."""
    images, labels = zip(*(draw(seed) for seed in (41, 42)), strict=True)
    segmenter = ClickSegmenter(click_model)
    segmenter.look_at(ImageSource.of_array(np.stack(images)), (1,), 1.0)
    found = segmenter.answer(Prompts((middle(labels[1] == 1),)))
    assert iou(found.over(labels[1].shape), labels[1] == 1) > 0.9


@pytest.mark.parametrize("point", [(0, 0), (95, 95), (0, 95), (-4, 50), (500, 500)])
def test_clicks_at_and_beyond_the_edge(clicker, point):
    """Nothing breaks, and the mask has the picture's size; a click outside of the picture shows nothing."""
    segmenter, labels = clicker
    mask = segmenter.segment([point])
    assert mask.shape == labels.shape
    assert mask.any() == all(0 <= c < 96 for c in point)


def test_nothing_shown_is_nothing_found(clicker):
    """Without a click, a box or a mask there is no object; a mask alone stays about as it is."""
    segmenter, labels = clicker
    assert not segmenter.segment([]).any()
    assert not segmenter.segment([], [(5, 5)]).any()
    assert not segmenter.segment([], previous=np.zeros(labels.shape, bool)).any()


def test_what_cannot_be_clicked_on_is_a_sentence(click_model, make_model):
    """A model without a click head, no picture yet, a stack."""
    with pytest.raises(ModelError, match="not trained for clicks"):
        ClickSegmenter(make_model())
    segmenter = ClickSegmenter(click_model)
    with pytest.raises(ImageError, match="set_image"):
        segmenter.segment([(1, 1)])
    with pytest.raises(ImageError, match="3 axes"):
        segmenter.set_image(np.zeros((5, 40, 40)))
    segmenter.set_image(np.zeros((40, 50)), diameter=17)
    with pytest.raises(ImageError, match="must be alike"):
        segmenter.segment([(1, 1)], previous=np.ones((10, 10), bool))


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros((0, 9)), {}),
        (np.zeros((9, 9), complex), {}),
        (np.zeros((5, 9, 9)), {}),
        (np.zeros((9, 9)), {"channels": (3,)}),
        (np.zeros((9, 9)), {"diameter": -1.0}),
        (np.zeros((30, 30)), {"diameter": "wide"}),
    ],
)
def test_a_refused_picture_leaves_none(clicker, image, options):
    """Clicks that were meant for it are not answered with a mask of the picture before."""
    segmenter, labels = clicker
    with pytest.raises((ImageError, TypeError)):
        segmenter.set_image(image, **options)
    with pytest.raises(ImageError, match="Call set_image first"):
        segmenter.segment([middle(labels == 1)])


def test_how_sure_the_network_is_is_told(clicker):
    """The mean of what it says of foreground over the mask; nothing where nothing is found."""
    segmenter, labels = clicker
    found = segmenter.answer(Prompts((middle(labels == 1),)))
    assert found.foreground == pytest.approx(1.0, abs=0.15)  # the fake network says what the picture shows
    assert segmenter.answer(Prompts()).foreground == 0
