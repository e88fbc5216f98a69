"""ImageSource: boxes are read, mirrored and sampled; a picture is known again."""

import math

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.intensity import estimate_limits, normalize

SEED = 7


class Counted:
    """A lazy picture of any size that counts the bytes that were asked of it."""

    def __init__(self, shape, dtype=np.uint8):
        self.shape, self.dtype, self.bytes, self.reads = shape, np.dtype(dtype), 0, 0

    def __getitem__(self, index):
        """Give noise of the shape that the slices cut out."""
        shape = tuple(len(range(*i.indices(n))) for i, n in zip(index, self.shape, strict=True))
        self.bytes += math.prod(shape) * self.dtype.itemsize
        self.reads += 1
        assert self.bytes < 2**30, "a whole lazy picture was asked for"
        return np.random.default_rng(index[-1].start).integers(0, 200, shape).astype(self.dtype)

    def __array__(self, dtype=None, copy=None):
        """Never convert the whole."""
        raise AssertionError("a whole lazy picture was converted")


def noise(shape=(40, 50), dtype=np.uint8):
    """Noise of any type, the same each time."""
    return np.random.default_rng(SEED).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize(
    "shape", [(200_000, 200_000), (100_000, 60_000, 3), (2000, 4096, 4096), (50, 40, 30, 900, 800)]
)
def test_a_huge_picture_is_never_read_whole(shape):
    """Opening, limits, identity and a tile of a huge lazy picture ask for at most 10 MB, in few pieces."""
    data = Counted(shape)
    source = ImageSource.of_array(data)
    raw = source.read(Box.around([n // 2 for n in source.shape], (1,) * (len(source.shape) - 2) + (256, 256)))
    assert np.isfinite(normalize(raw, source.limits())).all()
    assert len(source.key()) == 64
    assert data.bytes < 10 * 2**20
    assert data.reads <= 130


def test_reading_asks_for_the_box_alone():
    """Of a lazy picture exactly the box is read, and of its channels those in use."""
    data = Counted((10, 4, 500, 500))
    ImageSource.of_array(data, channel_axis=1).select((1, 2)).read(Box((3, 10, 20), (4, 40, 60)))
    assert data.bytes == 2 * 30 * 40


# --- axes and channels ---------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
def test_channels_may_be_on_any_axis(axis):
    """Channels come first in what is read, whichever axis they are stored on."""
    raw = noise((5, 6, 7, 8))
    source = ImageSource.of_array(np.moveaxis(raw, 0, axis), channel_axis=axis)
    assert (source.shape, source.channels) == ((6, 7, 8), 5)
    assert (source.read(Box((1, 2, 3), (4, 5, 8))) == raw[:, 1:4, 2:5, 3:8]).all()


@pytest.mark.parametrize("axis", [4, -5])
def test_a_channel_axis_must_exist(axis):
    """An axis that the picture does not have is named in the sentence."""
    with pytest.raises(ImageError, match=f"no axis {axis}"):
        ImageSource.of_array(noise((2, 3, 4, 5)), channel_axis=axis)


def test_a_plane_with_channels_needs_two_axes_more():
    """A channel axis does not count as one of Y and X."""
    with pytest.raises(ImageError, match="1 axes besides"):
        ImageSource.of_array(noise((3, 40)), channel_axis=0)


def test_gray_can_be_insisted_on():
    """`rgb=False` makes a stack of what looks like colour."""
    source = ImageSource.of_array(noise((40, 50, 3)), rgb=False)
    assert (source.shape, source.channels, source.is_color) == ((40, 50, 3), 1, False)


@pytest.mark.parametrize("axis", [None, 0])
def test_colour_can_be_insisted_on(axis):
    """`rgb=True` makes colour of what does not look like it, on the last or on a named axis."""
    shape = (2, 2, 4) if axis is None else (4, 2, 2)
    source = ImageSource.of_array(noise(shape, np.int32), rgb=True, channel_axis=axis)
    assert (source.shape, source.channels, source.is_color) == ((2, 2), 3, True)


def test_colour_needs_three_channels():
    """Insisting on colour where there are two channels is refused."""
    with pytest.raises(ImageError, match="3 or 4 channels, but this one has 2"):
        ImageSource.of_array(noise((40, 50, 2)), rgb=True)


def test_alpha_is_left_out():
    """Of a colour picture with alpha, red, green and blue are read."""
    raw = noise((40, 50, 4))
    assert (ImageSource.of_array(raw).read(Box((0, 0), (9, 9))) == raw[:9, :9, :3].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("picked", [(0,), (3,), (1, 2), (2, 1), (0, 3), (4, 0, 2), (1, 1)])
def test_channels_are_selected_in_the_order_asked_for(picked):
    """A view with some channels reads them alone, and can be selected from again."""
    raw = noise((5, 20, 30))
    view = ImageSource.of_array(raw, channel_axis=0, voxel_size=(2, 3), name="plate").select(picked)
    assert (view.shape, view.channels, view.voxel_size, view.name) == ((20, 30), len(picked), (2.0, 3.0), "plate")
    box = Box((2, 3), (9, 11))
    assert (view.read(box) == raw[list(picked), 2:9, 3:11]).all()
    assert (view.select((len(picked) - 1,)).read(box)[0] == raw[picked[-1], 2:9, 3:11]).all()


@pytest.mark.parametrize("picked", [(), (5,), (-1,), (0, 9)])
def test_channels_that_are_not_there_cannot_be_selected(picked):
    """The sentence says which channels there are."""
    with pytest.raises(ImageError, match="from 0 to 4"):
        ImageSource.of_array(noise((5, 20, 30)), channel_axis=0).select(picked)


@pytest.mark.parametrize("picked", [1, "red", [0.5], [None]])
def test_channels_are_whole_numbers(picked):
    """What names no channels is a sentence."""
    with pytest.raises(ImageError, match="names no channels"):
        ImageSource.of_array(noise((5, 20, 30)), channel_axis=0).select(picked)


def test_selecting_all_channels_changes_nothing():
    """A colour picture with all its channels selected still is one."""
    source = ImageSource.of_array(noise((40, 50, 3)))
    assert source.select((0, 1, 2)).is_color
    assert not source.select((0, 1)).is_color
    assert not source.select((2, 1, 0)).is_color


@pytest.mark.parametrize(
    ("axes", "shape", "expected", "channels", "is_color"),
    [
        ("YX", (4, 5), (4, 5), 1, False),
        ("XY", (4, 5), (5, 4), 1, False),
        ("CYX", (2, 4, 5), (4, 5), 2, False),
        ("YXS", (4, 5, 3), (4, 5), 3, True),
        ("SYX", (4, 5, 6), (5, 6), 3, True),
        ("YXS", (4, 5, 2), (4, 5), 2, False),
        ("TCZYX", (1, 1, 1, 4, 5), (4, 5), 1, False),
        ("TCZYX", (3, 2, 1, 4, 5), (3, 4, 5), 2, False),
        ("TZCYX", (3, 6, 2, 4, 5), (3, 6, 4, 5), 2, False),
        ("ZTCYX", (3, 6, 2, 4, 5), (6, 3, 4, 5), 2, False),
        ("ZQYX", (3, 6, 4, 5), (6, 3, 4, 5), 1, False),
        ("CZYX", (1, 3, 1, 1), (3, 1, 1), 1, False),
        ("tczyx", (1, 2, 3, 4, 5), (3, 4, 5), 2, False),
        ("TCYXS", (6, 2, 4, 5, 3), (2, 6, 4, 5), 3, True),
    ],
)
def test_named_axes_find_their_places(axes, shape, expected, channels, is_color):
    """Axes come out as (others, T, Z, Y, X), single ones are dropped, channels are found."""
    raw = noise(shape)
    source = ImageSource.of_named_axes(raw, axes)
    assert (source.shape, source.channels, source.is_color) == (expected, channels, is_color)
    voxels = source.read(Box.whole(expected))
    assert voxels.shape == (channels, *expected)
    last = raw[..., 0] if axes.endswith("S") else raw[(0,) * (len(shape) - 2)]
    corner = last[(0,) * (last.ndim - 2)] if axes.endswith("S") else last
    if axes != "SYX":
        assert (voxels[(0,) * (voxels.ndim - 2)] == (corner.T if axes == "XY" else corner)).all()


@pytest.mark.parametrize(("axes", "shape"), [("YX", (2, 3, 4)), ("ZYY", (2, 3, 4)), ("ZX", (2, 3)), ("", (2, 3))])
def test_names_that_do_not_fit_are_refused(axes, shape):
    """Axes that are too few, twice there or lack Y or X are refused."""
    with pytest.raises(ImageError, match="do not fit"):
        ImageSource.of_named_axes(noise(shape), axes)


@pytest.mark.parametrize(
    ("given_size", "expected"),
    [
        (None, (1.0, 1.0, 1.0)),
        ((2, 0.5, 0.5), (2.0, 0.5, 0.5)),
        ((0.5, 0.5), (1.0, 0.5, 0.5)),
        ((9, 2, 0.5, 0.5), (2.0, 0.5, 0.5)),
        ((0, np.nan, np.inf), (1.0, 1.0, 1.0)),
        ((-2, -0.5, 0.5), (2.0, 0.5, 0.5)),
        (np.array([2, 1, 1]), (2.0, 1.0, 1.0)),
    ],
)
def test_voxel_sizes_are_made_sensible(given_size, expected):
    """Missing, zero, infinite and mirrored sizes become positive ones, counted from the last axis."""
    assert ImageSource.of_array(noise((5, 6, 7)), voxel_size=given_size).voxel_size == expected


def test_voxel_sizes_follow_named_axes():
    """Sizes given by letter go with their axes, wherever those come out."""
    source = ImageSource.of_named_axes(noise((3, 6, 4, 5)), "ZTYX", voxel_size={"Z": 2.0, "X": 0.5, "Y": 0.25})
    assert source.voxel_size == (1.0, 2.0, 0.25, 0.5)


# --- reading -------------------------------------------------------------------------------------


@st.composite
def pictures_and_boxes(draw, *, reach):
    """A small picture of 2 to 4 axes, and a box of at least one voxel that reaches so far outside."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6))
    raw = draw(hnp.arrays(np.uint8, shape))
    start = tuple(draw(st.integers(-reach, n - 1 + reach)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n + reach)) for a, n in zip(start, shape, strict=True))
    return raw, Box(start, stop)


@given(pictures_and_boxes(reach=0))
def test_a_box_inside_is_cut_out(picture):
    """Reading a box gives the voxels that numpy's slicing gives."""
    raw, box = picture
    assert (ImageSource.of_array(raw, rgb=False).read(box)[0] == raw[box.slices]).all()


@given(pictures_and_boxes(reach=15))
def test_a_box_outside_is_mirrored(picture):
    """Reading past the rim, however far and however small the picture, equals numpy's reflection of the whole."""
    raw, box = picture
    padded = np.pad(raw, 15, mode="reflect")
    expected = padded[box.shift((15,) * raw.ndim).slices]
    assert (ImageSource.of_array(raw, rgb=False).read_mirrored(box)[0] == expected).all()


@given(pictures_and_boxes(reach=4))
def test_mirroring_does_not_depend_on_what_holds_the_picture(picture):
    """A zarr picture with channels is mirrored like an array."""
    raw, box = picture
    array = ImageSource.of_array(raw, rgb=False).read_mirrored(box)
    lazy = ImageSource.of_array(da.from_array(np.stack([raw, raw]), chunks=2), channel_axis=0).read_mirrored(box)
    assert (lazy == array).all()


@pytest.mark.parametrize("box", [Box((-1, 0), (3, 3)), Box((0, 0), (41, 3)), Box((50, 50), (60, 60))])
def test_plain_reading_stays_inside(box):
    """A box that reaches outside is refused instead of being cut short."""
    with pytest.raises(ImageError, match="the picture is"):
        ImageSource.of_array(noise()).read(box)


def test_what_is_read_is_a_copy():
    """Changing what was read changes nothing in the user's picture."""
    raw = noise()
    source = ImageSource.of_array(raw)
    box = Box.whole(raw.shape)
    for voxels in (source.read(box), source.read_mirrored(box)):
        voxels[:] = 0
    assert (raw == noise()).all()


def test_a_memory_map_is_read_by_box(tmp_path):
    """A file mapped into memory works like an array, and stays as it was."""
    mapped = np.memmap(tmp_path / "raw.dat", np.uint16, "w+", shape=(60, 70))
    mapped[:] = noise((60, 70), np.uint16)
    source = ImageSource.of_array(np.memmap(tmp_path / "raw.dat", np.uint16, "r", shape=(60, 70)))
    assert (source.read(Box((5, 6), (9, 11)))[0] == mapped[5:9, 6:11]).all()


# --- limits and identity -------------------------------------------------------------------------


def test_limits_of_a_small_picture_are_exact():
    """Up to a million voxels every one counts, each channel by itself."""
    raw = noise((2, 100, 100), np.float32) * np.array([1, 5], np.float32)[:, None, None]
    assert ImageSource.of_array(raw, channel_axis=0).limits() == estimate_limits(raw)


def test_limits_of_colour_are_joint():
    """Red, green and blue have the same limits, and alpha has no part in them."""
    raw = noise((100, 100, 4))
    raw[..., 3] = 255
    limits = ImageSource.of_array(raw).limits()
    assert len(set(limits.high)) == 1
    assert limits.high[0] < 100


@pytest.mark.parametrize(
    ("shape", "tolerance"),
    [((1500, 2000), 0.005), ((60, 400, 600), 0.005), ((5000, 4500), 0.05), ((9, 9, 500, 600), 0.05)],
)
def test_limits_of_a_large_picture_are_nearly_exact(shape, tolerance):
    """Sampled limits are near those of the whole, though brightness changes along every axis."""
    rng = np.random.default_rng(SEED)
    ramps = sum(np.linspace(0, 1, n, dtype=np.float32).reshape([-1] + [1] * i) for i, n in enumerate(shape[::-1]))
    raw = ramps + rng.normal(0, 0.1, shape).astype(np.float32)
    sampled, exact = ImageSource.of_array(raw).limits(), estimate_limits(raw[np.newaxis])
    near = tolerance * (exact.high[0] - exact.low[0])
    assert sampled.low[0] == pytest.approx(exact.low[0], abs=near)
    assert sampled.high[0] == pytest.approx(exact.high[0], abs=near)


@pytest.mark.parametrize("shape", [(300, 400), (3, 100, 120), (4200, 4300)])
def test_limits_of_a_framed_picture_are_those_of_what_is_in_it(shape):
    """A black frame is known, read whole or in blocks; a channel alone has it, too."""
    raw = np.random.default_rng(SEED).integers(90, 250, shape).astype(np.uint8)
    raw[..., : shape[-2] // 8, :] = 0
    limits = ImageSource.of_array(raw).limits()
    assert limits.is_framed
    assert limits.low[0] >= 90
    assert ImageSource.of_array(np.stack([raw, raw]), channel_axis=0).select((1,)).limits().is_framed
    assert not ImageSource.of_array(raw[..., shape[-2] // 8 :, :]).limits().is_framed


def test_limits_are_estimated_once():
    """Asking again, or for a selection made anew, reads nothing."""
    data = Counted((3, 900, 900))
    source = ImageSource.of_array(data, channel_axis=0)
    first = source.limits(), source.limits((1,))
    before = data.bytes
    assert (source.limits(), source.select((1,)).limits()) == first
    assert data.bytes == before


def test_limits_of_some_channels_are_their_own():
    """Limits of a selection are those of its channels, in their order."""
    source = ImageSource.of_array(noise((3, 90, 90)) * np.array([1, 2, 3], np.uint8)[:, None, None], channel_axis=0)
    assert source.limits((2, 0)) == source.limits().select((2, 0))


def test_limits_use_the_smallest_level_that_is_large_enough():
    """Of a pyramid neither the huge level nor the thumbnail is sampled, and a level without all channels never."""
    levels = [Counted((2, n, n)) for n in (20_000, 4000, 1100, 200)] + [Counted((1, 1050, 1050))]
    ImageSource.of_array(levels, channel_axis=0).limits()
    assert [level.reads > 0 for level in levels] == [False, False, True, False, False]


def test_limits_do_not_depend_on_what_holds_the_picture():
    """The window (numpy, dask) and the command line (zarr) see the same figures and the same identity."""
    raw = noise((4500, 4000), np.uint16)
    arrays = [raw, da.from_array(raw, chunks=700), zarr.array(raw, chunks=(256, 256)), raw.astype(">u2")]
    sources = [ImageSource.of_array(array) for array in arrays]
    assert len({source.limits() for source in sources}) == 1
    assert len({source.key() for source in sources}) == 1


def test_the_identity_stays_the_same():
    """The identity of a picture is fixed for ever: projects of earlier versions are found by it."""
    raw = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert ImageSource.of_array(raw).key() == KEY_OF_12_PIXELS
    assert ImageSource.of_array(raw, name="other", voxel_size=(2, 2)).key() == KEY_OF_12_PIXELS


KEY_OF_12_PIXELS = "20db159c70843e0a2d26dc4ebdc032edb2cbc26d6921faccdb440eab708835b9"


def test_different_pictures_have_different_identities():
    """One voxel, the type, the shape, the channels or their order make another picture."""
    raw = noise((3, 40, 50))
    changed = raw.copy()
    changed[2, 39, 49] += 1
    variants = [
        ImageSource.of_array(raw, rgb=False),
        ImageSource.of_array(changed, rgb=False),
        ImageSource.of_array(raw.astype(np.int8), rgb=False),
        ImageSource.of_array(raw.reshape(3, 50, 40), rgb=False),
        ImageSource.of_array(raw, channel_axis=0),
        ImageSource.of_array(raw, channel_axis=0).select((0,)),
        ImageSource.of_array(raw, channel_axis=0).select((2, 1, 0)),
    ]
    assert len({source.key() for source in variants}) == len(variants)


def test_one_changed_pixel_of_a_camera_frame_is_another_picture():
    """Up to 2048 x 2048 every voxel has a part in the identity."""
    raw = np.zeros((2048, 2048), np.uint8)
    before = ImageSource.of_array(raw).key()
    raw[1234, 567] = 1
    assert ImageSource.of_array(raw).key() != before


def test_an_inverted_picture_has_the_same_voxels_and_other_limits():
    """What is read, and its identity, are those of the picture; channels chosen of it are inverted as well."""
    source = ImageSource.of_array(np.random.default_rng(0).integers(0, 200, (2, 30, 40)), channel_axis=0)
    inverted = source.inverted()
    assert (source.is_inverted, inverted.is_inverted, inverted.inverted().is_inverted) == (False, True, False)
    assert inverted.limits() == source.limits().inverted()
    assert inverted.select([1]).limits() == source.limits([1]).inverted() == inverted.limits([1])
    assert np.array_equal(inverted.read(Box((0, 0), (30, 40))), source.read(Box((0, 0), (30, 40))))
    assert inverted.key() == source.key()
