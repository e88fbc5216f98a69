"""Pictures of any kind to labels, and tiles put together."""

import numpy as np
import pytest
import torch

from napari_unet.core.errors import DeviceError, ImageError
from napari_unet.core.events import Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.metrics import evaluate
from napari_unet.core.sizes import scale_for
from napari_unet.engine import network
from napari_unet.engine import predict as engine
from napari_unet.engine.forward import forward
from napari_unet.engine.predict import plane_of, predict
from napari_unet.engine.segment import Assembly, segment, segment_source


def noise(*shape, seed=0):
    """A smooth random picture."""
    raw = np.random.default_rng(seed).normal(size=shape)
    for axis in (-1, -2):
        raw = raw + np.roll(raw, 1, axis) + np.roll(raw, 2, axis)
    return (1000 + 200 * raw).astype(np.float32)


# --- pictures ---------------------------------------------------------------------------------


def test_discs_are_found(disc_model, draw):
    """A trained model finds the discs of a picture it never saw."""
    image, labels = draw(1, shape=(150, 170), count=12)
    found = segment(disc_model, image)
    assert (found.dtype, found.shape) == (np.int32, image.shape)
    assert evaluate(found, labels)["ap50"] > 0.8
    assert sorted(np.unique(found)) == list(range(found.max() + 1))


def test_small_pictures_are_looked_at_from_four_sides(disc_model, draw, monkeypatch):
    """Mirrored pictures have mirrored masks then; large ones are looked at once, as classes are."""
    image, _ = draw(3, shape=(96, 128), count=10)
    runs = []
    monkeypatch.setattr(network, "forward", lambda *args, **how: runs.append(args[1]) or forward(*args, **how))
    found = segment_source(disc_model, ImageSource.of_array(image), scale=1)
    assert len(runs) == 4
    mirrored = segment_source(disc_model, ImageSource.of_array(image[::-1, ::-1]), scale=1)
    assert np.mean((mirrored[::-1, ::-1] > 0) == (found > 0)) > 0.999
    runs.clear()
    monkeypatch.setattr(engine, "SMALL", image.size - 1)
    segment_source(disc_model, ImageSource.of_array(image), scale=1)
    assert len(runs) == 1


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
    found = segment(disc_model, large, diameter=diameter)
    assert evaluate(found, large_labels)["ap50"] > 0.8


def test_the_diameter_is_measured_when_none_is_given(disc_model, draw):
    """A picture at thrice the size is predicted like the original without a word."""
    image, labels = draw(1, shape=(100, 120), count=8)
    large, large_labels = np.kron(image, np.ones((3, 3), np.float32)), np.kron(labels, np.ones((3, 3), np.int32))
    assert evaluate(segment(disc_model, large), large_labels)["ap50"] > 0.8


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
    assert found.min() >= 0
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
        ((40, 50, 1), 1, {}),
        ((40, 50, 1), 3, {}),
        ((40, 50, 2), 3, {}),
        ((40, 50, 2), 1, {"channels": [1]}),
        ((40, 50, 3), 3, {}),
        ((40, 50, 4), 3, {}),
        ((40, 50, 3), 1, {}),
        ((40, 50, 3), 1, {"channels": [1]}),
        ((40, 50, 3), 3, {"channels": [0, 2]}),
        ((40, 50, 5), 1, {"channels": [4]}),
        ((40, 50, 5), 5, {}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_and_colour_pictures(make_model, shape, reads, options, dtype):
    """Grey, RGB and RGBA pictures of any type, and those of more channels, are read by models of other channels."""
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    assert segment(make_model(in_channels=reads), image, **options).shape == (40, 50)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (3, 3, 3), (4, 100, 4), (100, 2, 3)])
def test_a_strip_in_colour_is_no_stack(make_model, shape):
    """A model of planes takes three axes of which the last is 3 or 4 long for colours, however few rows there are."""
    assert segment(make_model(in_channels=3), np.zeros(shape, np.uint8)).shape == shape[:2]


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
    with pytest.raises(ImageError, match="has 5 channels; the model reads 1"):
        segment_source(make_model(), source)
    assert segment_source(make_model(), source.select([4])).shape == (40, 40)
    with pytest.raises(ImageError, match="has 5 channels; the model reads 1"):
        segment(make_model(), noise(40, 40, 5))  # it was taken for planes that are 5 pixels wide


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


@pytest.mark.parametrize("diameter", [3000, 1e9])
def test_objects_much_larger_than_the_picture_cost_no_memory(disc_model, draw, diameter):
    """What is seen around a picture is never larger than the picture."""
    image, _ = draw(7)
    plane = plane_of(disc_model, ImageSource.of_array(image), scale=scale_for(diameter, disc_model.card.diameter))
    tile = next(iter(plane.grid.tiles()))
    assert max(tile.window.shape) <= 4 * max(image.shape)
    assert segment(disc_model, image, diameter=diameter).shape == image.shape
