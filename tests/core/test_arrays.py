"""Awkward arrays as pictures: each either works or is refused in a sentence."""

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from napari_unet.core.arrays import last_channels_axis
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.intensity import normalize

SEED = 7


class Broken:
    """A lazy picture whose file is gone."""

    shape, dtype = (64, 64), np.dtype(np.uint8)

    def __getitem__(self, index):
        """Fail as a network share does."""
        raise OSError("[Errno 5] Input/output\nerror")


class Liar(Broken):
    """An array that gives another shape than it was asked for."""

    def __getitem__(self, index):
        """Give one voxel."""
        return np.zeros((1, 1))


class Unknown(Broken):
    """An array of a type that numpy does not know, such as a torch tensor."""

    dtype = "torch.bfloat16"


class Pyramid(list):
    """A list by another name, as napari's multiscale data is."""

    shape, dtype = (64, 64), np.dtype(np.uint8)


def noise(shape=(40, 50), dtype=np.uint8):
    """Noise of any type, the same each time."""
    return np.random.default_rng(SEED).integers(0, 100, shape).astype(dtype)


def with_values(*values, dtype=np.float32):
    """Noise with some values put into it."""
    raw = noise(dtype=dtype)
    raw.flat[: len(values)] = values
    return raw


def read_only():
    """An array that must not be written into."""
    raw = noise()
    raw.flags.writeable = False
    return raw


def full(dtype):
    """The smallest and the largest number of an integer type."""
    info = np.iinfo(dtype)
    return with_values(info.min, info.max, dtype=dtype)


def record():
    """An array of records."""
    return np.zeros((8, 8), [("a", "u1"), ("b", "f4")])


def masked(dtype):
    """A masked array with enormous values under its mask."""
    raw = noise(dtype=dtype)
    raw[:5] = 120
    return np.ma.array(raw, mask=np.arange(40)[:, None] * np.ones(50) < 5, fill_value=99)


# what is given -> shape and channels of the picture
WORKS = {
    "1 px": (np.zeros((1, 1), np.uint8), (1, 1), 1),
    "1 row": (noise((1, 300)), (1, 300), 1),
    "1 column": (noise((300, 1)), (300, 1), 1),
    "constant": (np.full((9, 9), 7, np.uint16), (9, 9), 1),
    "zeros": (np.zeros((9, 9)), (9, 9), 1),
    "one NaN": (with_values(np.nan), (40, 50), 1),
    "all NaN": (np.full((9, 9), np.nan), (9, 9), 1),
    "infinities": (with_values(np.inf, -np.inf, np.nan), (40, 50), 1),
    "all infinite": (np.full((9, 9), np.inf), (9, 9), 1),
    "negative": (noise(dtype=np.int16) - np.int16(200), (40, 50), 1),
    "enormous": (with_values(1e308, -1e308, dtype=np.float64), (40, 50), 1),
    "tiny": (noise(dtype=np.float64) * 1e-300, (40, 50), 1),
    "subnormal": (noise(dtype=np.float32) * np.float32(1e-44), (40, 50), 1),
    "bool": (noise() > 50, (40, 50), 1),
    **{np.dtype(t).name: (full(t), (40, 50), 1) for t in "bBhHiIqQ"},
    "constant uint64 max": (np.full((9, 9), 2**64 - 1, np.uint64), (9, 9), 1),
    **{np.dtype(t).name: (noise(dtype=t), (40, 50), 1) for t in "efdg"},
    "float16 max": (with_values(65504, -65504, dtype=np.float16), (40, 50), 1),
    "big-endian uint16": (noise(dtype=">u2"), (40, 50), 1),
    "big-endian float32": (noise(dtype=">f4"), (40, 50), 1),
    "not contiguous": (noise((80, 100))[::2, ::-2], (40, 50), 1),
    "Fortran order": (np.asfortranarray(noise()), (40, 50), 1),
    "broadcast": (np.broadcast_to(np.uint8(3), (40, 50)), (40, 50), 1),
    "read-only": (read_only(), (40, 50), 1),
    "RGB": (noise((40, 50, 3)), (40, 50), 3),
    "RGBA": (noise((40, 50, 4)), (40, 50), 3),
    "float RGBA": (noise((40, 50, 4), np.float32) / 100, (40, 50), 3),
    "RGB stack": (noise((2, 40, 50, 3)), (2, 40, 50), 3),
    "stack": (noise((5, 40, 50)), (5, 40, 50), 1),
    "stack of 3": (noise((3, 40, 50)), (3, 40, 50), 1),
    "thin stack": (noise((40, 3, 3)), (40, 3, 3), 1),
    "int32 colour": (noise((40, 50, 3), np.int32), (40, 50), 3),
    "int32 stack that is no colour": (noise((5, 40, 50, 3), np.int32), (5, 40, 50, 3), 1),
    "4-D": (noise((2, 3, 20, 20)), (2, 3, 20, 20), 1),
    "5-D": (noise((2, 2, 3, 20, 20)), (2, 2, 3, 20, 20), 1),
    "masked integers": (masked(np.uint8), (40, 50), 1),
    "masked floats": (masked(np.float32), (40, 50), 1),
    "all masked": (np.ma.masked_all((9, 9), np.float32), (9, 9), 1),
    "dask": (da.from_array(noise(), chunks=(16, 16)), (40, 50), 1),
    "dask RGB": (da.from_array(noise((40, 50, 3)), chunks=(16, 16, 3)), (40, 50), 3),
    "zarr": (zarr.array(noise(), chunks=(16, 16)), (40, 50), 1),
    "multiscale": ([noise(), noise((20, 25))], (40, 50), 1),
    "multiscale of zarr": ((zarr.array(noise()), zarr.array(noise((20, 25)))), (40, 50), 1),
    "multiscale RGB": ([noise((40, 50, 3)), noise((20, 25, 3))], (40, 50), 3),
    "multiscale of napari": (Pyramid([noise(), noise((20, 25))]), (40, 50), 1),
    "pyramid with a level of other axes": ([noise(), noise((2, 20, 25))], (40, 50), 1),
    "masked array without a mask": (np.ma.array(noise()), (40, 50), 1),
}

# what is given -> a word of the sentence
REFUSED = {
    "no rows": (np.zeros((0, 5)), "empty"),
    "no columns": (np.zeros((5, 0), np.uint8), "empty"),
    "no planes": (np.zeros((0, 5, 5)), "empty"),
    "0-D": (np.array(3.0), "no axes"),
    "a number": (np.float32(3), "no axes"),
    "1-D": (np.zeros(5), "1 axis"),
    "6-D": (np.zeros((2,) * 6), "6 axes"),
    "complex": (np.zeros((5, 5), complex), "complex"),
    "objects": (np.full((5, 5), None), "Python objects"),
    "text": (np.full((5, 5), "a"), "text"),
    "bytes": (np.full((5, 5), b"a"), "text"),
    "new text": (np.full((5, 5), "a", np.dtypes.StringDType()), "text"),
    "records": (record(), "records"),
    "dates": (np.zeros((5, 5), "M8[s]"), "dates"),
    "durations": (np.zeros((5, 5), "m8[s]"), "durations"),
    "unknown type": (Unknown(), "unknown to numpy"),
    "an empty list": ([], "empty list"),
    "a list of lists": ([[1, 2], [3, 4]], "list"),
    "a path": ("picture.tif", "str"),
    "nothing": (None, "NoneType"),
    "a pyramid of text": ([noise(), np.full((5, 5), "a")], "text"),
    "unknown shape": (da.from_array(noise())[da.from_array(noise())[:, 0] > 3], "not known yet"),
}

FAILS_LATER = {"broken": (Broken(), "OSError: [Errno 5] Input/output error"), "liar": (Liar(), "(1, 1)")}


def sentence(error):
    """The error's text, which is one line and ends in a full stop."""
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("data", "shape", "channels"), WORKS.values(), ids=WORKS.keys())
def test_an_awkward_picture_works(data, shape, channels):
    """It has the shape of its label layer, and is finite, float32 and in range once normalised."""
    source = ImageSource.of_array(data)
    assert (source.shape, source.channels, source.is_color) == (shape, channels, channels == 3)
    assert source.voxel_size == (1.0,) * len(shape)
    box = Box.around([n // 2 for n in shape], [min(n, 64) for n in shape]).clip(shape)
    raw = source.read(box)
    assert raw.shape == (channels, *box.shape)
    assert raw.dtype == source.dtype
    assert raw.dtype.isnative
    assert raw.dtype.kind in "uif"
    assert raw.flags.c_contiguous
    assert raw.flags.writeable
    limits = source.limits()
    assert len(limits.low) == channels
    x = normalize(raw, limits)
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= 2
    assert source.read_mirrored(box.grow((1, 1))).shape[1:] == box.grow((1, 1)).shape
    assert len(source.key()) == 64


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_picture_is_refused(data, words):
    """It is refused when it is opened, in a sentence that says what is wrong."""
    with pytest.raises(ImageError) as error:
        ImageSource.of_array(data)
    assert words in sentence(error)


@pytest.mark.parametrize(("data", "words"), FAILS_LATER.values(), ids=FAILS_LATER.keys())
@pytest.mark.parametrize("use", [ImageSource.limits, ImageSource.key, lambda source: source.read(Box((0, 0), (2, 2)))])
def test_an_array_that_fails_says_so(data, words, use):
    """What goes wrong inside a foreign array arrives as one sentence with its reason."""
    with pytest.raises(ImageError) as error:
        use(ImageSource.of_array(data))
    assert words in sentence(error)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)))
@settings(max_examples=200)
def test_any_array_works_or_is_refused(data):
    """Whatever type and shape an array has, it is normalised to finite numbers or refused in a sentence."""
    if data.dtype.kind in "cSUmM" or data.ndim < 2 or not data.size:
        with pytest.raises(ImageError) as error:
            ImageSource.of_array(data)
        sentence(error)
        return
    source = ImageSource.of_array(data)
    x = normalize(source.read(Box.whole(source.shape)), source.limits())
    assert np.isfinite(x).all()
    assert len(source.key()) == 64


def test_masked_voxels_are_left_out():
    """Masked voxels are read as NaN or 0, never as what lies under the mask."""
    box = Box.whole((40, 50))
    assert np.isnan(ImageSource.of_array(masked(np.float32)).read(box)[0, :5]).all()
    assert not ImageSource.of_array(masked(np.uint8)).read(box)[0, :5].any()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(bool, np.uint8), (">u2", np.uint16), (np.longdouble, np.float64), (np.float16, np.float16), ("u8", np.uint64)],
)
def test_types_are_kept_where_they_can_be(dtype, expected):
    """bool, foreign byte order and extended floats are read as their nearest plain type; values stay."""
    raw = (noise() > 50).astype(dtype)
    source = ImageSource.of_array(raw)
    assert source.dtype == expected
    assert (source.read(Box.whole(raw.shape))[0] == raw).all()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((40, 50), None),
        ((40, 50, 1), 2),
        ((3, 3, 2), 2),
        ((1, 40, 1), None),
        ((40, 50, 3), None),
        ((40, 50, 5), 2),
        ((7, 30, 50, 9), None),
        ((64, 64, 16), 2),
        ((64, 64, 17), None),
        ((6, 40, 50), None),
        ((19, 40, 5), None),
        ((6, 64, 64, 12), 3),
    ],
)
def test_a_last_axis_is_channels_where_it_is_no_width(shape, axis):
    """Stacks of narrow planes stay stacks: the axes before the last are much longer where that holds channels."""
    assert last_channels_axis(shape) == axis
