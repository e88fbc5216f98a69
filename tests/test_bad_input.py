"""Whatever array is opened, it is predicted whole or refused in one sentence, and the session goes on.

The rows are what napari 0.9.2 lets through, what it refuses, and what Python users pass by themselves.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from napari.layers import Image

from napari_unet.core.card import ModelCard
from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ImageError, LabelsError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.nets.model import Model
from napari_unet.session import jobs
from napari_unet.session.session import Session
from napari_unet.widgets.layers import known_labels, source_of
from tests.session.conftest import LONG, Ear

SIDE = 24
PLAIN = np.random.default_rng(0).integers(0, 200, (SIDE, SIDE)).astype(np.uint8)
FLOAT = PLAIN.astype(np.float32)
INTEGERS = ("int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
HUGE = (20_000, 20_000)


def holed(value: float, part: Any = np.s_[3:9, 4:7]) -> np.ndarray:
    """The plain picture as floats, with something else in a part of it."""
    data = FLOAT.copy()
    data[part] = value
    return data


def noise(*shape: int) -> np.ndarray:
    """A picture of any shape, uint8."""
    return np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)


_count = itertools.count(2)


def another() -> np.ndarray:
    """A good picture that was never seen: of a known one the session has the network's outputs still."""
    return np.random.default_rng(next(_count)).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)


def locked() -> np.ndarray:
    """A picture that nobody may write into."""
    data = PLAIN.copy()
    data.flags.writeable = False
    return data


class Torn:
    """A lazy array that cannot be read, as of a file that is gone."""

    shape, dtype, ndim = (SIDE, SIDE), np.dtype(np.uint8), 2

    def __getitem__(self, index: object) -> np.ndarray:
        raise OSError("the share is gone")


class Short(Torn):
    """A lazy array that gives less than what was asked for."""

    def __getitem__(self, index: object) -> np.ndarray:
        return np.zeros((2, 2), np.uint8)


PREDICTED: dict[str, Callable[[], Any]] = {
    "plain": lambda: PLAIN,
    "one pixel": lambda: np.full((1, 1), 7, np.uint8),
    "one row": lambda: noise(1, 40),
    "one column": lambda: noise(40, 1),
    "two pixels": lambda: noise(1, 2),
    "a side of no power of two": lambda: noise(37, 53),
    "constant": lambda: np.full((SIDE, SIDE), 9, np.uint8),
    "zeros": lambda: np.zeros((SIDE, SIDE), np.float32),
    "all NaN": lambda: np.full((SIDE, SIDE), np.nan, np.float32),
    "some NaN": lambda: holed(np.nan),
    "one NaN": lambda: holed(np.nan, np.s_[0, 0]),
    "Inf": lambda: holed(np.inf),
    "minus Inf": lambda: holed(-np.inf),
    "all Inf": lambda: np.full((SIDE, SIDE), np.inf, np.float32),
    "Inf and minus Inf": lambda: np.where(PLAIN > 100, np.inf, -np.inf),
    "negative": lambda: -FLOAT,
    "negative whole numbers": lambda: PLAIN.astype(np.int16) - 300,
    "the largest floats": lambda: holed(np.finfo(np.float32).max),
    "the smallest floats": lambda: FLOAT * np.finfo(np.float32).tiny,
    "bool": lambda: PLAIN > 100,
    **{kind: lambda kind=kind: PLAIN.astype(kind) for kind in INTEGERS},
    "uint64 max": lambda: np.full((SIDE, SIDE), 2**64 - 1, np.uint64),
    "uint64 from 0 to max": lambda: np.where(PLAIN > 100, np.uint64(2**64 - 1), np.uint64(0)),
    "int64 min to max": lambda: np.where(PLAIN > 100, np.int64(2**63 - 1), np.int64(-(2**63))),
    "float16": lambda: FLOAT.astype(np.float16),
    "float16 max": lambda: np.full((SIDE, SIDE), np.finfo(np.float16).max, np.float16),
    "float32": lambda: FLOAT,
    "float64": lambda: FLOAT.astype(np.float64),
    "long double": lambda: FLOAT.astype(np.longdouble),
    "big-endian whole numbers": lambda: PLAIN.astype(">u2"),
    "big-endian floats": lambda: FLOAT.astype(">f4"),
    "non-contiguous": lambda: noise(2 * SIDE, 2 * SIDE)[::2, ::2],
    "backwards": lambda: PLAIN[::-1, ::-1],
    "Fortran order": lambda: np.asfortranarray(PLAIN),
    "read-only": locked,
    "broadcast": lambda: np.broadcast_to(np.arange(SIDE, dtype=np.uint8), (SIDE, SIDE)),
    "RGB": lambda: noise(SIDE, SIDE, 3),
    "RGBA": lambda: noise(SIDE, SIDE, 4),
    "float RGBA": lambda: noise(SIDE, SIDE, 4) / np.float32(255),
    "2 channels": lambda: ImageSource.of_array(noise(2, SIDE, SIDE), channel_axis=0),
    "3-D": lambda: noise(3, SIDE, SIDE),
    "4-D": lambda: noise(2, 3, SIDE, SIDE),
    "5-D": lambda: noise(1, 2, 3, SIDE, SIDE),
    "masked": lambda: np.ma.masked_greater(PLAIN, 100),
    "masked floats": lambda: np.ma.masked_greater(FLOAT, 100),
    "all masked": lambda: np.ma.masked_all((SIDE, SIDE), np.uint8),
    "dask": lambda: da.from_array(PLAIN, chunks=10),
    "zarr": lambda: zarr.array(PLAIN),
    "multiscale": lambda: [noise(SIDE, SIDE), noise(SIDE // 2, SIDE // 2)],
    "multiscale whose levels differ in axes": lambda: [noise(SIDE, SIDE), noise(2, 3, 4)],
    "napari image of NaN": lambda: source_of(Image(holed(np.nan))),
    "napari image of RGB": lambda: source_of(Image(noise(SIDE, SIDE, 3))),
    "napari image of bool": lambda: source_of(Image(PLAIN > 100)),
    "napari image, rotated and squeezed": lambda: source_of(Image(PLAIN, scale=(3, 0.1), rotate=30)),
    "napari image with a channel axis": lambda: source_of(Image(noise(2, SIDE, SIDE), axis_labels=("c", "y", "x"))),
    "napari multiscale": lambda: source_of(Image([noise(64, 64), noise(32, 32)], multiscale=True)),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "no pixel": lambda: np.zeros((0, 0)),
    "no row": lambda: np.zeros((0, SIDE), np.uint8),
    "no column": lambda: np.zeros((SIDE, 0), np.uint8),
    "no plane": lambda: np.zeros((0, SIDE, SIDE), np.uint8),
    "no channel": lambda: ImageSource.of_array(np.zeros((SIDE, SIDE, 0), np.uint8), channel_axis=-1),
    "a number": lambda: np.array(3),
    "a line": lambda: np.zeros(SIDE),
    "6-D": lambda: noise(1, 1, 1, 1, SIDE, SIDE),
    "colour that is none": lambda: ImageSource.of_array(PLAIN, rgb=True),
    "a channel axis that is not there": lambda: ImageSource.of_array(PLAIN, channel_axis=5),
    "more channels than the model reads": lambda: ImageSource.of_array(noise(SIDE, SIDE, 5), channel_axis=-1),
    "complex": lambda: PLAIN.astype(complex),
    "object": lambda: PLAIN.astype(object),
    "string": lambda: PLAIN.astype(str),
    "bytes": lambda: PLAIN.astype("S3"),
    "structured": lambda: np.zeros((SIDE, SIDE), [("a", np.uint8), ("b", np.float32)]),
    "dates": lambda: PLAIN.astype("datetime64[s]"),
    "durations": lambda: PLAIN.astype("timedelta64[s]"),
    "nothing": lambda: None,
    "text": lambda: "picture.tif",
    "a dict": lambda: {"data": PLAIN},
    "an empty list": list,
    "lists of numbers": lambda: [[1, 2], [3, 4]],
    "levels of which one is complex": lambda: [PLAIN, PLAIN.astype(complex)],
    "dask of an unknown length": lambda: da.from_array(PLAIN)[da.from_array(PLAIN[:, 0]) > 100],
    "a file that is gone": Torn,
    "an array that gives too little": Short,
}


@dataclass
class Outcome:
    """What became of a picture: tiles, or a sentence."""

    source: ImageSource | None
    tiles: list
    sentences: list[str]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One session with a tiny model for all pictures, and its ear."""
    architecture = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    Model.create(ModelCard(name="tiny", architecture=architecture), seed=0, device="cpu").save(path)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "usable_cores", lambda: 1)
        session = Session(model=str(path), device="cpu")
        ear = Ear(session)
        ear.wait_state(model="tiny")
        yield SimpleNamespace(session=session, ear=ear)
        session.close(LONG)
    torch.set_num_threads(threads)


def take(bench: SimpleNamespace, make: Callable[[], Any], *, tiles: int | None = None) -> Outcome:
    """Open and predict what `make` gives, as the dock does; until all tiles (or some) are there, or it is refused."""
    session, ear = bench.session, bench.ear
    ear.forget()
    try:
        data = make()
        source = data if isinstance(data, ImageSource) else ImageSource.of_array(data)
        picture = session.open_picture("picture", source)
    except ImageError as error:
        return Outcome(None, [], [str(error)])

    def is_over() -> bool:
        arrived = ear.of("prediction_ready")
        return bool(ear.of("failed")) or any(p.done >= (tiles or p.total) for p in arrived)

    lead = len(source.shape) - 2
    session.predict(
        picture.key, Box((0,) * len(source.shape), (1,) * lead + tuple(min(n, 64) for n in source.shape[lead:]))
    )
    ear.wait(is_over)
    session.cancel()
    ear.wait_state(predicting=False)
    session.close_picture(picture.key)
    return Outcome(source, ear.of("prediction_ready"), ear.of("failed"))


def assert_whole(outcome: Outcome) -> None:
    """Every pixel of the plane is written by one tile, by labels as labels must be."""
    assert outcome.sentences == []
    shape = outcome.source.shape
    written = np.zeros(shape, int)
    for tile in outcome.tiles:
        assert tile.labels.shape == tile.doubt.shape == tile.window.shape
        assert tile.labels.dtype == np.int32
        assert tile.labels.min() >= 0
        assert np.isfinite(tile.doubt).all()
    for core in {tile.core for tile in outcome.tiles}:  # a closer look at some may have come, too
        written[core.slices] += 1
    plane = (0,) * (len(shape) - 2)
    assert (written[plane] == 1).all()


def assert_one_sentence(sentences: list[str]) -> None:
    """It is said once, in one line that ends as sentences do, and nobody's traceback shows through."""
    assert len(sentences) == 1, sentences
    assert re.fullmatch(r"[A-Z'].*\.", sentences[0]), sentences[0]
    assert "Something went wrong" not in sentences[0]


@pytest.mark.parametrize("make", PREDICTED.values(), ids=PREDICTED)
def test_an_awkward_picture_is_predicted_whole(bench, make):
    """All tiles of it arrive, with sound labels; a good picture is predicted after it."""
    assert_whole(take(bench, make))
    assert_whole(take(bench, another))


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_is_no_picture_is_refused_in_one_sentence(bench, make):
    """One sentence says what is wrong with it; a good picture is predicted after it."""
    outcome = take(bench, make)
    assert outcome.tiles == []
    assert_one_sentence(outcome.sentences)
    assert_whole(take(bench, another))


def test_a_picture_that_tears_while_it_is_predicted_is_said_in_one_sentence(bench):
    """A file that goes away after it was opened fails its prediction, and not the next one."""

    class Going(Torn):
        """Can be read for its identity, and no more."""

        left = 1

        def __getitem__(self, index):
            if not self.left:
                raise OSError("the share is gone")
            self.left -= 1
            return noise(SIDE, SIDE)[index]

    outcome = take(bench, Going)
    assert outcome.tiles == []
    assert_one_sentence(outcome.sentences)
    assert_whole(take(bench, another))


def test_doubles_from_the_smallest_to_the_largest_are_predicted(bench):
    """A range that no float64 holds is no reason to fail."""
    limits = np.finfo(np.float64)
    assert_whole(take(bench, lambda: np.where(PLAIN > 100, limits.max, limits.min)))


def test_a_picture_of_many_channels_is_predicted_from_some_of_them(bench):
    """Of five channels, the three that were chosen are read."""
    assert_whole(take(bench, lambda: ImageSource.of_array(noise(5, SIDE, SIDE), channel_axis=0).select((0, 4, 2))))


def test_a_picture_in_a_file_is_predicted_from_there(bench, tmp_path):
    """A memmap is read box by box."""
    data = np.memmap(tmp_path / "picture.raw", np.uint16, "w+", shape=(SIDE, SIDE))
    data[...] = PLAIN
    assert_whole(take(bench, lambda: data))


def test_a_huge_lazy_picture_gives_its_first_tiles_at_once(bench):
    """Of 400 million pixels that no memory holds, the tile in view arrives first."""
    outcome = take(bench, lambda: da.zeros(HUGE, np.uint8, chunks=1000), tiles=1)
    assert outcome.sentences == []
    assert outcome.tiles[0].core.start == (0, 0)
    assert outcome.tiles[0].total > 100


WRONG_CORRECTIONS: dict[str, tuple[Any, Any, Any]] = {
    "labels of another shape": (PLAIN, np.zeros((4, 4), int), np.ones((4, 4), bool)),
    "trusted of another shape": (PLAIN, np.zeros((SIDE, SIDE), int), np.ones((4, 4), bool)),
    "float labels": (PLAIN, np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE), bool)),
    "bool labels": (PLAIN, PLAIN > 100, np.ones((SIDE, SIDE), bool)),
    "complex labels": (PLAIN, np.zeros((SIDE, SIDE), complex), np.ones((SIDE, SIDE), bool)),
    "labels of objects": (PLAIN, np.zeros((SIDE, SIDE), object), np.ones((SIDE, SIDE), bool)),
    "labels of text": (PLAIN, np.zeros((SIDE, SIDE), str), np.ones((SIDE, SIDE), bool)),
    "trusted of whole numbers": (PLAIN, np.zeros((SIDE, SIDE), int), np.ones((SIDE, SIDE), int)),
    "no labels": (PLAIN, None, None),
    "a number for labels": (PLAIN, 3, np.ones((SIDE, SIDE), bool)),
    "colour labels": (PLAIN, np.zeros((SIDE, SIDE, 3), int), np.ones((SIDE, SIDE, 3), bool)),
}


@pytest.mark.parametrize("parts", WRONG_CORRECTIONS.values(), ids=WRONG_CORRECTIONS)
def test_a_correction_that_is_none_is_refused(parts):
    """Labels that cannot lie over the picture are refused in one sentence, before anything learns from them."""
    with pytest.raises(LabelsError) as caught:
        Correction(*parts)
    assert_one_sentence([str(caught.value)])


@pytest.mark.parametrize("shape", [(4, 4), (SIDE, SIDE + 1), (1, SIDE, SIDE)])
def test_saved_masks_of_another_size_are_not_shown(bench, shape):
    """Masks that a project kept for a picture of another size are refused in one sentence."""
    picture = bench.session.open_picture("picture", ImageSource.of_array(PLAIN))
    picture.masks = np.zeros(shape, np.int32)
    try:
        with pytest.raises(ImageError) as caught:
            known_labels(picture)
    finally:
        bench.session.close_picture(picture.key)
    assert_one_sentence([str(caught.value)])
