"""Voxels that hold no picture: what is taken for a frame, and what is put there."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.holes import fill_holes, is_framed, wide_holes


def bright(*shape):
    """A picture that is nowhere dark, (1, ...)."""
    return np.random.default_rng(0).integers(90, 250, (1, *shape)).astype(np.uint8)


def turned(raw, degrees):
    """It lies turned in a larger, black one."""
    return ndimage.rotate(raw, degrees, axes=(-2, -1), order=0)


def shifted(raw):
    """Black at two sides."""
    raw = raw.copy()
    raw[..., :12, :], raw[..., -9:] = 0, 0
    return raw


def gapped(raw):
    """Tiles of a mosaic, of which one is missing."""
    raw = raw.copy()
    raw[..., :50, -30:] = 0
    return raw


@pytest.mark.parametrize("framed", [shifted, gapped, lambda raw: turned(raw, 3), lambda raw: turned(raw, -5)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_what_is_black_around_a_picture_is_a_frame(framed, kind):
    """Pictures that were shifted, stitched or turned, of any type; without it there is none."""
    raw = bright(100, 140).astype(kind)
    assert not is_framed([raw])
    assert is_framed([framed(raw)])


def test_blocks_of_a_large_picture_show_a_frame():
    """Some blocks are black, some are not, some are in part."""
    raw = bright(120, 120)
    assert is_framed([raw, 0 * raw, shifted(raw)[..., :64, :]])
    assert is_framed([np.stack([raw, 0 * raw, raw, shifted(raw)], axis=1)])


def discs(size, count):
    """Bright, uneven objects on a background of exactly 0, (1, size, size)."""
    rng = np.random.default_rng(1)
    y, x = np.indices((size, size))
    shown = np.zeros((size, size), bool)
    for _ in range(count):
        a, b = rng.integers(0, size, 2)
        shown |= (y - a) ** 2 + (x - b) ** 2 < 15**2
    return np.where(shown, bright(size, size), 0)


def test_a_black_background_is_no_frame():
    """Few objects or many on it, one large one in the middle, or one that was drawn."""
    raw = bright(120, 120)
    y, x = np.indices((120, 120)) - 60
    assert not is_framed([discs(120, 4)])
    assert not is_framed([discs(120, 60)])
    assert not is_framed([np.where(y**2 + x**2 < 58**2, raw, 0)])
    assert not is_framed([np.where(np.abs(y) < 55, np.uint8(200), np.uint8(0))[None]])


def test_a_dark_picture_has_no_frame():
    """Where its own background is nearly as dark, it may be part of it; so are dark objects in a bright one."""
    raw = bright(120, 120)
    assert not is_framed([shifted((raw - 88) // 2)])
    assert not is_framed([np.where(discs(120, 4) > 0, 0, raw)])
    assert not is_framed([shifted(raw).astype(np.float32) - 100])
    assert not is_framed([0 * raw])


def test_black_in_one_channel_is_no_frame():
    """All of them must be black there."""
    raw = np.concatenate([bright(60, 60), shifted(bright(60, 60))])
    assert not is_framed([raw])
    assert is_framed([np.concatenate([shifted(bright(60, 60))] * 2)])


def test_holes_are_filled_with_mirror_images():
    """As far on the other side of the rim; where the picture ends, its last voxel."""
    x = np.full((1, 3, 9), np.nan, np.float32)
    x[..., 5:] = [5, 6, 7, 8]
    filled, holes = fill_holes(x)
    assert filled[0].tolist() == [[8, 8, 8, 7, 6, 5, 6, 7, 8]] * 3
    assert holes.tolist() == [[True] * 5 + [False] * 4] * 3
    assert np.isnan(x[0, 0, 0])


def test_what_has_no_holes_stays():
    """The same array, and no mask."""
    x = np.ones((2, 4, 4), np.float32)
    filled, holes = fill_holes(x)
    assert filled is x
    assert holes is None


def test_each_plane_and_channel_is_filled_by_itself():
    """A plane that is one hole becomes 0, and a channel does not show in another one; only holes of all count."""
    x = np.ones((2, 3, 6, 6), np.float32) * np.array([1, 2], np.float32).reshape(2, 1, 1, 1)
    x[:, 0], x[0, 1, :3], x[:, 2, :, :2] = np.nan, np.nan, np.nan
    filled, holes = fill_holes(x)
    assert not filled[:, 0].any()
    assert (filled[0, 1:] == 1).all()
    assert (filled[1, 1:] == 2).all()
    assert [int(plane.sum()) for plane in holes] == [36, 0, 12]


def test_single_voxels_and_lines_are_filled_and_no_holes():
    """A dead pixel, or a lost row, is no place where nothing may be found; a hole of 3 x 3 is one, also at the edge."""
    mask = np.zeros((20, 20), bool)
    mask[4, 4], mask[9] = True, True
    assert not wide_holes(mask).any()
    mask[0, :7] = mask[14:17, 14:17] = True
    mask[:2, :7] = True
    assert wide_holes(mask).sum() == 14 + 9
