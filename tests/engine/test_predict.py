"""Pictures to labels, tile by tile."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.errors import DeviceError, ImageError
from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings
from napari_unet.core.metrics import evaluate
from napari_unet.engine import predict as engine
from napari_unet.engine.network import run_network
from napari_unet.engine.predict import Assembly, plane_of, predict, segment, segment_source


def noise(*shape, seed=0):
    """A smooth random picture."""
    raw = np.random.default_rng(seed).normal(size=shape)
    for axis in (-1, -2):
        raw = raw + np.roll(raw, 1, axis) + np.roll(raw, 2, axis)
    return (1000 + 200 * raw).astype(np.float32)


def stitched(plane):
    """The network's outputs for a plane that was predicted, put together from the tiles' cores."""
    shape = plane.grid.plane.shape[-len(plane.grid.core) :]
    count = len(next(iter(plane.outputs.values())))
    whole = np.full((count, *shape), np.nan, np.float32)
    for tile in plane.grid.tiles():
        inside = tile.core.within(tile.around).slices[-len(shape) :]
        whole[(slice(None), *tile.core.slices[-len(shape) :])] = plane.outputs[tile.index][(slice(None), *inside)]
    return whole


def run(model, plane, **options):
    """All events of a prediction."""
    return list(predict(model, plane, **options))


# --- tiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"norm": "batch"}, (230, 201)),
        ({"norm": "none"}, (230, 201)),
        ({"norm": "batch", "depth": 3}, (190, 333)),
        ({"norm": "batch", "depth": 1}, (65, 129)),
    ],
)
def test_seams_cannot_be_seen(make_model, settings, shape):
    """Tiles give what the whole picture in one piece gives, everywhere, to a thousandth."""
    model = make_model(**settings)
    source = ImageSource.of_array(noise(*shape))
    tiles, whole = plane_of(model, source, core=64), plane_of(model, source, core=1024)
    run(model, tiles)
    run(model, whole)
    assert len(tiles.outputs) > 5
    assert len(whole.outputs) == 1
    assert np.ptp(stitched(whole)[0]) > 0.05
    assert np.abs(stitched(tiles) - stitched(whole)).max() < 1e-3


def test_seams_cannot_be_seen_in_a_volume(make_model):
    """Tiles of a volume agree with the volume in one piece, too."""
    model = make_model(norm="batch", ndim=3, depth=1, base_channels=4)
    source = ImageSource.of_array(noise(10, 40, 37))
    tiles, whole = plane_of(model, source, core=64), plane_of(model, source, core=1024)
    events = run(model, tiles)
    run(model, whole)
    assert len(tiles.outputs) > 2
    assert len(whole.outputs) == 1
    assert all(len(event.window.start) == 3 for event in events if isinstance(event, Prediction))
    assert np.abs(stitched(tiles) - stitched(whole)).max() < 1e-3


def test_a_tile_costs_less_than_the_whole(make_model):
    """The network never reads more than a core with its halo at once."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(400, 400)), core=64)
    assert max(n for tile in plane.grid.tiles() for n in tile.window.shape) <= 64 + 2 * plane.grid.halo


def test_every_event_says_how_far_it_is(make_model):
    """Each tile gives its progress, then its objects; both count up to the number of tiles."""
    model = make_model()
    events = run(model, plane_of(model, ImageSource.of_array(noise(130, 100)), core=64), picture="p", request=7)
    assert [type(event) for event in events] == [Progress, Prediction] * 6
    assert [event.done for event in events[1::2]] == [1, 2, 3, 4, 5, 6]
    assert {event.total for event in events} == {6}
    assert all(event.seconds_left >= 0 for event in events[::2])
    assert {(event.picture, event.request, event.version) for event in events[1::2]} == {("p", 7, 0)}
    for event in events[1::2]:
        assert event.labels.shape == event.doubt.shape == event.window.shape
        assert (event.labels.dtype, event.doubt.dtype) == (np.int32, np.float16)
        assert event.doubt.min() >= 0
        assert event.doubt.max() <= 1


def test_tiles_in_view_come_first(make_model):
    """The first tile lies in the view; when the view moves, the next one lies in the new view."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(320, 320)), core=64)
    view = [Box((256, 256), (320, 320))]
    job = predict(model, plane, look=lambda: view[0])
    first = [next(job), next(job)][1]
    assert first.core == Box((256, 256), (320, 320))
    view[0] = Box((10, 200), (30, 250))
    second = [next(job), next(job)][1]
    assert second.core == Box((0, 192), (64, 256))
    rest = [event.core for event in job if isinstance(event, Prediction)]
    assert len({first.core, second.core, *rest}) == 25


def test_without_a_view_tiles_come_row_by_row(make_model):
    """A prediction that nobody watches runs over the picture in reading order."""
    model = make_model()
    events = run(model, plane_of(model, ImageSource.of_array(noise(130, 130)), core=64))
    starts = [event.core.start for event in events if isinstance(event, Prediction)]
    assert starts == sorted(starts)


def test_a_prediction_ends_between_two_tiles(make_model):
    """A closed prediction leaves what is done, and the next one goes on from there."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(130, 130)), core=64)
    job = predict(model, plane)
    for _ in range(4):
        next(job)
    job.close()
    assert len(plane.outputs) == 2
    events = run(model, plane)
    assert sum(isinstance(event, Progress) for event in events) == 9 - 2
    assert sum(isinstance(event, Prediction) for event in events) == 9


def test_nothing_is_computed_twice(disc_model, draw):
    """With the outputs there, other thresholds build other objects without running the network."""
    plane = plane_of(disc_model, ImageSource.of_array(draw(1)[0]), core=64)
    first = run(disc_model, plane)
    again = run(disc_model, plane)
    assert not any(isinstance(event, Progress) for event in again)
    for a, b in zip([e for e in first if isinstance(e, Prediction)], again, strict=True):
        assert np.array_equal(a.labels, b.labels)
    fewer = run(disc_model, plane, settings=InstanceSettings(min_area=10_000))
    assert not any(isinstance(event, Progress) or event.labels.any() for event in fewer)


def test_new_weights_are_used_from_the_next_tile_on(make_model):
    """Weights that take over in the middle of a prediction make every later tile, and say so."""
    model, other = make_model(seed=0), make_model(seed=1)
    plane = plane_of(model, ImageSource.of_array(noise(130, 130)), core=64)
    job = predict(model, plane)
    versions = [[next(job), next(job)][1].version]
    model.replace_weights(other.net.state_dict())
    versions += [event.version for event in job if isinstance(event, Prediction)]
    assert versions == [0] + [1] * 8
    assert len(plane.outputs) == 8
    assert sum(isinstance(event, Progress) for event in run(model, plane)) == 1


def test_outputs_that_are_not_kept_take_no_memory(make_model):
    """Without `keep_outputs` a plane holds no outputs, neither on the way nor at the end."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(130, 130)), core=64)
    held = [len(plane.outputs) for event in predict(model, plane, keep_outputs=False) if isinstance(event, Prediction)]
    assert held == [0] * 9
    assert not plane.outputs


def test_a_picture_is_read_tile_by_tile(make_model):
    """Never is more of a lazy picture asked for than a tile's window, once its intensities are known."""

    class Lazy:
        shape, dtype, ndim = (3000, 3000), np.dtype(np.uint8), 2
        largest = 0

        def __getitem__(self, key):
            part = np.zeros(self.shape, bool)[key]
            self.largest = max(self.largest, part.size)
            return part.astype(np.uint8)

    data, model = Lazy(), make_model(base_channels=4)
    source = ImageSource.of_array(data)
    source.limits()
    data.largest = 0
    plane = plane_of(model, source, core=512)
    job = predict(model, plane, keep_outputs=False)
    for _ in range(8):
        next(job)
    assert data.largest <= (512 + 2 * plane.grid.halo) ** 2


# --- the network on a window ------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.5])
def test_outputs_have_the_windows_size(make_model, size, scale):
    """Whatever the size and the scale, the outputs lie over the window."""
    x = np.random.default_rng(0).random((1, *size), np.float32)
    outputs = run_network(make_model(), x, scale)
    assert outputs.shape == (2, *size)
    assert outputs.dtype == np.float16
    assert np.isfinite(outputs).all()


def test_other_weights_are_tried_without_taking_over(make_model):
    """Outputs of other weights are those of a model that has them, and the model's own stay."""
    model, other = make_model(seed=0), make_model(seed=1)
    before = {key: value.clone() for key, value in model.net.state_dict().items()}
    x = np.random.default_rng(0).random((1, 40, 40), np.float32)
    tried = run_network(model, x, state=other.net.state_dict())
    assert np.array_equal(tried, run_network(other, x))
    assert not np.array_equal(tried, run_network(model, x))
    assert all(torch.equal(value, before[key]) for key, value in model.net.state_dict().items())


@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_weights_that_went_wrong_find_nothing(make_model, kind):
    """Outputs of weights that are not numbers are 0 and not NaN."""
    model = make_model(kind)
    state = {key: torch.full_like(value, torch.nan) for key, value in model.net.state_dict().items()}
    outputs = run_network(model, np.ones((1, 16, 16), np.float32), state=state)
    assert not outputs.any()


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_probabilities_of_classes_add_up(make_model, outputs):
    """Every class has a probability, one output meaning class 1 against background."""
    model = make_model("classes", out_channels=outputs)
    found = run_network(model, np.random.default_rng(0).random((1, 24, 24), np.float32)).astype(float)
    assert len(found) == max(outputs, 2)
    assert np.allclose(found.sum(0), 1, atol=2e-3)


# --- pictures ---------------------------------------------------------------------------------


def test_discs_are_found(disc_model, draw):
    """A trained model finds the discs of a picture it never saw."""
    image, labels = draw(1, shape=(150, 170), count=12)
    found = segment(disc_model, image)
    assert (found.dtype, found.shape) == (np.int32, image.shape)
    assert evaluate(found, labels)["ap50"] > 0.8
    assert sorted(np.unique(found)) == list(range(found.max() + 1))


def test_discs_are_found_in_small_tiles(disc_model, draw):
    """Put together from many small tiles, the objects are those of the whole picture in one piece."""
    image, _ = draw(2, shape=(200, 180), count=16)
    source = ImageSource.of_array(image)
    assembly = Assembly(np.zeros(image.shape, np.int32))
    for event in predict(disc_model, plane_of(disc_model, source, core=32)):
        if isinstance(event, Prediction):
            assembly.add(event)
    assembly.finish()
    assert evaluate(assembly.labels, segment(disc_model, image))["map"] > 0.95


def test_the_diameter_rescales(disc_model, draw):
    """A picture at thrice the size is predicted like the original when its objects' diameter is given."""
    image, labels = draw(1, shape=(100, 120), count=8)
    large, large_labels = np.kron(image, np.ones((3, 3), np.float32)), np.kron(labels, np.ones((3, 3), np.int32))
    diameter = 3 * disc_model.card.diameter
    assert plane_of(disc_model, ImageSource.of_array(large), diameter=diameter).scale == pytest.approx(1 / 3)
    found = segment(disc_model, large, diameter=diameter)
    assert evaluate(found, large_labels)["ap50"] > 0.8


def test_a_diameter_like_the_models_changes_nothing(disc_model, draw):
    """Objects of about the trained size are not rescaled."""
    source = ImageSource.of_array(draw(1)[0])
    for diameter in (None, disc_model.card.diameter, disc_model.card.diameter * 1.04):
        assert plane_of(disc_model, source, diameter=diameter).scale == 1


@pytest.mark.parametrize("diameter", [0, -3, 0.2, np.nan, np.inf])
def test_a_diameter_that_is_none_is_a_sentence(disc_model, draw, diameter):
    """Objects are at least a pixel wide."""
    with pytest.raises(ImageError, match="Give a diameter of 1 or more"):
        segment(disc_model, draw(1)[0], diameter=diameter)


def test_a_stack_is_taken_plane_by_plane(disc_model, draw):
    """Each plane of a stack has the objects of its own, and no id is in two planes."""
    planes = [draw(seed)[0] for seed in (1, 2, 3)]
    reports = []
    source = ImageSource.of_array(np.stack(planes), rgb=False)
    found = segment_source(disc_model, source, report=reports.append)
    for plane, image in zip(found, planes, strict=True):
        alone = segment(disc_model, image)
        assert len(np.unique(plane)) == len(np.unique(alone))
        assert evaluate(plane, alone)["map"] > 0.9  # the intensities of the whole stack count
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    assert sum(len(np.unique(plane)) - 1 for plane in found) == found.max()
    assert [(r.done, r.total) for r in reports] == [(1, 3), (2, 3), (3, 3)]
    assert reports[-1].seconds_left == 0


def test_a_volume_needs_a_model_of_volumes(make_model):
    """A 3-D model labels a volume as a whole, and refuses a picture without depth."""
    model = make_model(ndim=3, depth=1, base_channels=4)
    assert segment(model, noise(6, 24, 24)).shape == (6, 24, 24)
    with pytest.raises(ImageError, match="Choose a 2-D model"):
        segment(model, noise(24, 24))


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_classes_are_ids(make_model, outputs):
    """A model of classes gives the class of each pixel, the same in tiles as in one piece."""
    model = make_model("classes", out_channels=outputs, norm="batch")
    image = noise(120, 100)
    found = segment(model, image)
    assert found.dtype == np.int32
    assert 0 <= found.min()
    assert found.max() < max(outputs, 2)
    assembly = Assembly(np.zeros(image.shape, np.int32))
    for event in predict(model, plane_of(model, ImageSource.of_array(image), core=32)):
        if isinstance(event, Prediction):
            assembly.add(event)
    assert (assembly.labels == found).mean() > 0.999


@pytest.mark.parametrize(
    ("shape", "reads", "options"),
    [
        ((40, 50), 1, {}),
        ((40, 50), 3, {}),
        ((40, 50, 3), 3, {}),
        ((40, 50, 4), 3, {}),
        ((40, 50, 3), 1, {}),
        ((40, 50, 3), 1, {"channels": [1]}),
        ((40, 50, 3), 3, {"channels": [0, 2]}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_and_colour_pictures(make_model, shape, reads, options, dtype):
    """Grey, RGB and RGBA pictures of any type are read by models of one and of three channels."""
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    assert segment(make_model(in_channels=reads), image, **options).shape == (40, 50)


def test_masks_do_not_depend_on_the_type(disc_model, draw):
    """A picture as uint16, as float and scaled by any factor has the same masks."""
    image = np.round(draw(1)[0].clip(0))
    masks = [segment(disc_model, a) for a in (image, image.astype(np.uint16), image * 7.5 + 300, image.astype(">f8"))]
    assert masks[0].any()
    for other in masks[1:]:
        assert evaluate(other, masks[0])["iou"] > 0.99


def test_too_many_channels_are_a_sentence(make_model):
    """A picture of more channels than the model reads says what to choose."""
    source = ImageSource.of_array(noise(5, 40, 40), channel_axis=0)
    with pytest.raises(ImageError, match="has 5 channels; the model reads 1. Choose"):
        segment_source(make_model(), source)
    assert segment_source(make_model(), source.select([4])).shape == (40, 40)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((30, 40), np.uint8),
        np.full((30, 40), 65535, np.uint16),
        np.full((30, 40), np.nan),
        np.full((30, 40), np.inf),
        np.array([[5.0]]),
        np.zeros((1, 300)),
        np.zeros((30, 40), bool),
        np.where(np.eye(40) > 0, np.nan, 1.0),
        -np.arange(1200.0).reshape(30, 40),
        np.arange(1200).reshape(30, 40).astype(">i4"),
    ],
)
@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_strange_pictures_have_masks(make_model, kind, image):
    """Constant, tiny, thin, negative and infinite pictures, and those that are no numbers, have masks of their size."""
    assert segment(make_model(kind), image).shape == image.shape


def test_little_memory_means_smaller_tiles(disc_model, draw, monkeypatch):
    """Where the device runs out of memory, tiles are halved until they fit; the masks are the same."""
    image, _ = draw(2, shape=(300, 280), count=20)
    expected = segment(disc_model, image)
    real, sizes = engine.run_network, []

    def scarce(model, x, *rest, **options):
        sizes.append(max(x.shape[-2:]))
        if sizes[-1] > 250:
            raise torch.OutOfMemoryError
        return real(model, x, *rest, **options)

    monkeypatch.setattr(engine, "run_network", scarce)
    assert evaluate(segment(disc_model, image), expected)["map"] > 0.95
    assert max(sizes) > 250 > min(sizes)


def test_no_memory_at_all_is_a_sentence(disc_model, draw, monkeypatch):
    """Where not even the smallest tile fits, the error says what to do."""

    def none(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine, "run_network", none)
    with pytest.raises(DeviceError, match="--device cpu"):
        segment(disc_model, draw(1)[0])


# --- assembling -------------------------------------------------------------------------------


def tile(labels, window, core, **options):
    """A prediction that says what a test needs."""
    labels = np.asarray(labels, np.int32)
    return Prediction("p", window, core, labels, "objects", np.zeros(labels.shape, np.float16), **options)


def test_joins_of_joins_are_one_object():
    """An object of which three tiles each saw a part, found to be one bit by bit, ends as one."""
    labels = np.zeros((1, 60), np.int32)
    assembly = Assembly(labels)
    for start in (0, 20, 40):
        part = Box((0, start), (1, start + 20))
        assembly.add(tile(np.ones((1, 20)), part, part))
    assert len(np.unique(labels)) == 3
    for start, stop in ((15, 25), (35, 45)):
        window = Box((0, start - 14), (1, stop + 14))
        assembly.add(tile(np.ones(window.shape), window, Box((0, start), (1, stop))))
    assembly.finish()
    assert (labels == 1).all()


def test_objects_are_numbered_without_gaps():
    """Objects that vanished on the way leave no gap in the numbers."""
    labels = np.zeros((1, 30), np.int32)
    assembly = Assembly(labels)
    whole = Box((0, 0), (1, 30))
    assembly.add(tile(np.repeat([1, 2, 3], 10)[None], whole, whole))
    assembly.add(tile(np.repeat([0, 1, 0], 10)[None], whole, whole))
    assembly.add(tile(np.repeat([0, 2, 1], 10)[None], whole, whole))
    assembly.finish()
    assert np.unique(labels).tolist() == [0, 1, 2]


def test_labels_can_be_written_where_they_are_wanted(disc_model, draw):
    """An array that is handed in is filled and given back."""
    image, _ = draw(1)
    target = np.zeros(image.shape, np.int32)
    assert segment_source(disc_model, ImageSource.of_array(image), labels=target) is target
    assert np.array_equal(target, segment(disc_model, image))


def test_a_model_of_another_version_predicts_anew(make_model):
    """A plane that an older version has predicted is computed again."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(60, 60)))
    run(model, plane)
    model.version = 5
    events = run(model, replace(plane))
    assert [type(event) for event in events] == [Progress, Prediction]
    assert events[1].version == 5
