"""Pictures to labels, tile by tile."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.events import Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings
from napari_unet.engine import predict as engine
from napari_unet.engine.predict import plane_of, predict


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


def test_a_tile_out_of_the_new_view_is_broken_off(make_model, monkeypatch):
    """The view moves while a tile is computed: it ends there, and comes last; one that is still in view goes on."""
    model = make_model(base_channels=4)
    plane = plane_of(model, ImageSource.of_array(noise(64, 192)), core=64)
    views = [Box((0, 0), (64, 64)), Box((0, 128), (64, 192))]
    view, runs = [views[0]], []
    real = engine.outputs_of

    def moved(model, plane, tile, x):
        runs.append(tile.index)
        view[0] = views[1]
        return real(model, plane, tile, x)

    monkeypatch.setattr(engine, "outputs_of", moved)
    events = list(predict(model, plane, look=lambda: view[0]))
    cores = [event.core for event in events if isinstance(event, Prediction)]
    assert runs[0] == runs[-1] == (0, 0)
    assert runs[1] == (0, 2)
    assert cores[0] == views[1]
    assert len(cores) == len(runs) - 1 == 3
    plane.outputs.clear()
    runs.clear()
    view[0], views[1] = views[0], Box((0, 32), (64, 100))  # the tile is in both
    list(predict(model, plane, look=lambda: view[0]))
    assert sorted(runs) == [(0, 0), (0, 1), (0, 2)]


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


@pytest.mark.parametrize("hole", [0, np.nan])
def test_nothing_is_found_where_there_is_no_picture(make_model, hole):
    """In a black frame, and where voxels are no numbers; beside it there may be."""
    model = make_model(base_channels=4)
    framed = noise(96, 96) + 2000
    framed[:, :16] = hole
    plane = plane_of(model, ImageSource.of_array(framed), core=64)
    list(predict(model, plane))
    for index, outputs in plane.outputs.items():
        around = plane.grid.tile(index).around
        seen = slice(max(0, 16 - around.start[1]), None)
        assert not outputs[..., : seen.start].any()
        assert outputs[0, :, seen].all()


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


def test_a_model_of_another_version_predicts_anew(make_model):
    """A plane that an older version has predicted is computed again."""
    model = make_model()
    plane = plane_of(model, ImageSource.of_array(noise(60, 60)))
    run(model, plane)
    model.version = 5
    events = run(model, replace(plane))
    assert [type(event) for event in events] == [Progress, Prediction]
    assert events[1].version == 5
