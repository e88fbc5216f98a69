"""Chunks of labels on disk that are held in memory."""

import numpy as np
import pytest
import zarr

from napari_unet.store.held import HeldChunks

SHAPE, CHUNKS = (2, 50, 70), (1, 16, 32)
CHUNK_BYTES = 16 * 32 * 4


@pytest.fixture
def array(tmp_path):
    """An array on disk, with something in it."""
    made = zarr.create_array(tmp_path / "labels", shape=SHAPE, chunks=CHUNKS, dtype=np.uint32, fill_value=0)
    made[0, :20, :20] = 7
    return made


def some_box(rng):
    """Slices of some part of it."""
    bounds = [sorted(rng.choice(n + 1, 2, replace=False)) for n in SHAPE]
    return tuple(slice(int(a), int(b)) for a, b in bounds)


@pytest.mark.parametrize("most", [0, 3 * CHUNK_BYTES, 2**28])
def test_it_is_the_array_whatever_is_held(array, most):
    """Parts are read as they were written, and all of it is on disk in the end."""
    rng, held, wanted = np.random.default_rng(0), HeldChunks(array, most), array[:]
    assert held.shape == SHAPE
    for number in range(60):
        part = some_box(rng)
        if number % 2:
            held[part] = wanted[part] = rng.integers(9, size=wanted[part].shape, dtype=np.uint32)
        else:
            read = held[part]
            assert np.array_equal(read, wanted[part])
            read[:] = 99  # a copy
    held.flush()
    assert np.array_equal(array[:], wanted)


def noted(array):
    """The array, and which parts of it are written."""

    class Noted:
        shape, chunks, dtype, written = array.shape, array.chunks, array.dtype, []

        def __getitem__(self, part):
            return array[part]

        def __setitem__(self, part, values):
            self.written.append(part)
            array[part] = values

    return Noted()


def test_a_chunk_is_written_once(array):
    """However many parts share it; and one that nobody wrote to is not."""
    watched = noted(array)
    held = HeldChunks(watched)
    for left in range(0, 30, 10):
        held[0:1, 0:16, left : left + 10] = np.ones((1, 16, 10), np.uint32)
        assert held[0:1, 0:40, 0:70].sum() > 0
    assert watched.written == []
    held.flush()
    held.flush()
    assert watched.written == [(slice(0, 1), slice(0, 16), slice(0, 32))]


def test_no_more_is_held_than_may_be(array):
    """What was used longest ago makes room, and is written then."""
    watched = noted(array)
    held = HeldChunks(watched, 2 * CHUNK_BYTES)
    first, second, third = (slice(0, 16), slice(16, 32), slice(32, 48))
    for rows in (first, second, first, third):
        held[0:1, rows, 0:32] = np.full((1, 16, 32), rows.start + 1, np.uint32)
    assert [part[1] for part in watched.written] == [second]
    assert held[0:1, second, 0:32].min() == 17
    assert [part[1] for part in watched.written] == [second, first]
