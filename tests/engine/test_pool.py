"""Pool: what is on disk, as corrections to learn from, while others read them."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_unet.core.corrections import HELD_OUT, TAUGHT, Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.picture import Picture
from napari_unet.core.prompts import Prompts
from napari_unet.core.sides import SQUARE
from napari_unet.engine import pool as pooling
from napari_unet.engine.pool import CONTEXT, Pool
from napari_unet.engine.sampling import split


@pytest.fixture
def picture():
    """A picture of 4 x 4 squares and three channels, each voxel another value."""
    shape = (SQUARE * 4, SQUARE * 4)
    data = np.arange(3 * shape[0] * shape[1], dtype=np.float32).reshape(3, *shape)
    source = ImageSource.of_array(data, channel_axis=0)
    return Picture("p", "p", source, np.zeros(shape, np.int32), np.zeros(shape, np.uint8))


def spot(y, x, label=1, size=10, held_out=False, **kwargs):
    """An edit that sets a small square object with its corner at a place."""
    box = Box((y, x), (y + size, x + size))
    return Edit("p", box, np.full(box.shape, label, np.int32), np.ones(box.shape, bool), held_out=held_out, **kwargs)


def test_a_correction_holds_the_picture_around_and_trusts_what_was_set(picture):
    """The region is the square with its surroundings; image, labels and mask are those of the picture."""
    pool = Pool()
    pool.take(picture, [spot(200, 200, 7)])
    (correction,) = pool
    region = Box((SQUARE - CONTEXT,) * 2, (2 * SQUARE + CONTEXT,) * 2)
    assert correction.image.shape == (3, *region.shape)
    assert np.array_equal(correction.image, picture.source.read(region))
    assert correction.trusted.sum() == 100
    assert (correction.labels[correction.trusted] == 7).all()
    assert correction.trusted[200 - region.start[0], 200 - region.start[1]]
    assert correction.held_out is False
    assert correction.own == Box((CONTEXT,) * 2, (CONTEXT + SQUARE,) * 2)
    assert correction.limits == picture.source.limits()


def test_nothing_of_a_large_edit_is_left_out(picture):
    """An accepted region of many squares teaches in all of them."""
    pool = Pool()
    whole = Box.whole(picture.source.shape)
    pool.take(picture, [Edit("p", whole, np.ones(whole.shape, np.int32), np.ones(whole.shape, bool), "region")])
    assert len(pool) == 16
    assert len(pool[2:5]) == 3
    assert sum(c.trusted.sum() for c in pool) >= np.prod(whole.shape)


def test_squares_of_a_large_edit_share_what_surrounds_them(picture, monkeypatch):
    """A voxel lies in those of six squares, and is kept once; what is learnt is what each would say alone."""
    whole = Box.whole(picture.source.shape)
    labels = np.random.default_rng(0).integers(0, 9, whole.shape, np.int32)
    pools = []
    for shared in (pooling.SHARED, 1):
        monkeypatch.setattr(pooling, "SHARED", shared)
        pools.append(Pool())
        for held_out, part in ((False, slice(None, None, 2)), (True, slice(1, None, 2))):
            trusted = np.zeros(whole.shape, bool)
            trusted[part] = True
            pools[-1].take(picture, [Edit("p", whole, labels, trusted, "region", held_out)])
    for one, alone in zip(*pools, strict=True):
        for name in ("image", "labels", "trusted"):
            assert np.array_equal(getattr(one, name), getattr(alone, name))
        assert (one.own, one.held_out) == (alone.own, alone.held_out)
    assert _held(pools[0]) == labels.size * (3 * 4 + 4 + 2)  # three channels, labels, and where either side knows them
    assert _held(pools[1]) > 3 * _held(pools[0])


def _held(pool):
    """Bytes of the arrays behind the corrections of a pool, each once."""
    arrays = [getattr(c, name) for c in pool for name in ("image", "labels", "trusted")]
    bases = [array if array.base is None else array.base for array in arrays]
    return sum({id(base): base.nbytes for base in bases}.values())


def test_held_out_voxels_are_in_no_correction_that_teaches(picture):
    """Where squares overlap, each side has its own voxels only."""
    pool = Pool()
    rng = np.random.default_rng(0)
    for number in range(40):
        y, x = (int(n) for n in rng.integers(0, SQUARE * 4 - 10, 2))
        pool.take(picture, [spot(y, x, number + 1, held_out=bool(number % 3 == 0))])
    taught, held_out = split(list(pool))
    said = pool._said["p", ""].taught
    assert sum(c.trusted.sum() for c in taught) >= (said == TAUGHT).sum()
    assert sum(c.trusted.sum() for c in held_out) >= (said == HELD_OUT).sum()
    teaching = {float(v) for c in taught for v in c.image[0][c.trusted]}  # each voxel has a value of its own
    scoring = {float(v) for c in held_out for v in c.image[0][c.trusted]}
    assert teaching.isdisjoint(scoring)
    assert len(teaching) == (said == TAUGHT).sum()


def test_a_later_edit_overrides_an_earlier_one_in_every_square_it_meets(picture):
    """Corrections that overlap are all built anew, and hold what was set last."""
    pool = Pool()
    pool.take(picture, [spot(100, 100, 1), spot(150, 150, 2)])
    assert len(pool) == 2
    pool.take(picture, [spot(120, 120, 3, size=40)])
    for correction in pool:
        assert set(np.unique(correction.labels[correction.trusted])) <= {1, 3}
        assert (correction.labels == 3).sum() == 1600


def test_an_undo_removes_what_was_taught(picture):
    """A correction of which nothing is left is gone; the others lose the voxels."""
    pool = Pool()
    edit = spot(60, 60)
    pool.take(picture, [edit, spot(300, 300, 2)])
    pool.take(picture, [replace(edit, tool="undo", taught=np.zeros(edit.box.shape, np.uint8))])
    (left,) = pool
    assert (left.labels[left.trusted] == 2).all()


def test_clicks_go_with_what_they_showed(picture):
    """Each correction near an object has its clicks, in its own pixels, until they are taken back."""
    shown = Prompts(((205.0, 206.0),), ((215.0, 206.0),))
    pool = Pool()
    edit = spot(200, 200, 7, prompts=shown)
    pool.take(picture, [edit, spot(20, 20, 8)])
    corner = SQUARE - CONTEXT
    near = {c.prompts for c in pool if c.trusted.shape[0] == SQUARE + 2 * CONTEXT}
    assert near == {(Prompts(((205.0 - corner, 206.0 - corner),), ((215.0 - corner, 206.0 - corner),)),)}
    undo = replace(edit, tool="undo", prompts=None, taught=np.zeros(edit.box.shape, np.uint8))
    pool.take(picture, [undo])
    assert all(c.prompts == () for c in pool)


def test_other_channels_and_another_scale_build_all_anew(picture):
    """After the model reads other channels, or another size, every correction does."""
    pool = Pool()
    pool.take(picture, [spot(60, 60), spot(300, 300, held_out=True)])
    picture.channels, picture.scale = (2, 0), 0.5
    pool.rebuild({"p": picture, "nothing was set in it": replace(picture, key="nothing was set in it")})
    assert len(pool) == 2
    for correction in pool:
        assert len(correction.image) == 2
        assert correction.scale == 0.5
        assert correction.image[0].min() > correction.image[1].max()
    pool.rebuild({})
    assert len(pool) == 2


def test_what_can_only_score_cannot_teach(picture):
    """A training needs something to learn from."""
    pool = Pool()
    pool.take(picture, [spot(60, 60, held_out=True)])
    assert not pool.can_teach
    pool.take(picture, [spot(300, 300)])
    assert pool.can_teach


def test_reading_back_begins_the_picture_anew(picture):
    """What another project said of a picture is gone; forgetting drops everything."""
    pool = Pool()
    pool.take(picture, [spot(60, 60), spot(300, 300)])
    pool.read_back(picture, [spot(60, 300, 5)])
    (correction,) = pool
    assert set(np.unique(correction.labels[correction.trusted])) == {5}
    pool.forget()
    assert list(pool) == []


def test_what_the_user_does_meanwhile_is_not_seen(picture):
    """The pool has a record of its own: what is in the picture but not on disk is not learnt, nor half of it."""
    pool = Pool()
    picture.truth[...], picture.taught[...] = 9, TAUGHT
    pool.take(picture, [spot(60, 60)])
    (correction,) = pool
    assert correction.trusted.sum() == 100
    assert (correction.labels[correction.trusted] == 1).all()


def test_a_stack_is_learnt_plane_by_plane():
    """In a picture with depth a correction is one plane."""
    shape = (4, SQUARE, SQUARE)
    source = ImageSource.of_array(np.random.default_rng(0).random(shape).astype(np.float32))
    picture = Picture("p", "p", source, np.zeros(shape, np.int32), np.zeros(shape, np.uint8))
    box = Box((2, 10, 10), (3, 20, 20))
    pool = Pool()
    pool.take(picture, [Edit("p", box, np.ones(box.shape, np.int32), np.ones(box.shape, bool))])
    (correction,) = pool
    assert correction.labels.shape == (SQUARE, SQUARE)
    assert np.array_equal(correction.image[0], source.read(Box((2, 0, 0), (3, SQUARE, SQUARE)))[0, 0])


def test_it_can_be_read_while_it_grows(picture):
    """One thread takes edits in while another goes through the corrections; none of them is ever half built."""
    pool, torn, is_done = Pool(), [], threading.Event()

    def read():
        while not is_done.is_set():
            for correction in pool:
                numbers = np.unique(correction.labels[correction.trusted])
                torn.extend(numbers[numbers == 0])
            split(list(pool))

    reader = threading.Thread(target=read)
    reader.start()
    rng = np.random.default_rng(1)
    for number in range(1, 60):
        y, x = (int(n) for n in rng.integers(0, SQUARE * 4 - 10, 2))
        pool.take(picture, [spot(y, x, number)])
    is_done.set()
    reader.join(20)
    assert torn == []
