"""Raw intensities to network input: limits, normalising and fitting of channels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import ImageError
from napari_unet.core.intensity import (
    Limits,
    estimate_limits,
    fit_channels,
    limits_from,
    normalize,
    normalize_with_holes,
)

NUMBERS = hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64))
RAW = NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=4, max_side=4)))


@given(RAW, st.booleans())
def test_whatever_comes_in_what_goes_out_is_finite(raw, joint):
    """Limits of any numbers are in order, and what they normalise is finite, float32 and from -0.5 to 2."""
    limits = estimate_limits(raw, joint=joint)
    assert all(a <= b for a, b in zip(limits.low, limits.high, strict=True))
    x = normalize(raw, limits)
    assert x.dtype == np.float32
    assert x.shape == raw.shape
    assert np.isfinite(x).all()
    assert x.min() >= -0.5
    assert x.max() <= 2


def test_percentiles_become_0_and_1():
    """Percentiles 1 and 99.8 of the finite values become 0 and 1."""
    raw = np.linspace(0, 1000, 1001)[np.newaxis]
    limits = estimate_limits(raw)
    assert limits == Limits((10.0,), (998.0,))
    assert normalize(np.array([[10.0, 504.0, 998.0]]), limits).tolist() == [[0.0, 0.5, 1.0]]


def test_one_hot_pixel_drowns_nothing():
    """A single pixel of enormous value neither moves the limits nor leaves the range."""
    seed = np.random.default_rng(1)
    raw = seed.normal(100, 10, (1, 64, 64))
    clean = estimate_limits(raw)
    raw[0, 5, 5] = 1e30
    assert estimate_limits(raw).high[0] == pytest.approx(clean.high[0], rel=0.1)
    assert normalize(raw, clean)[0, 5, 5] == 2


@pytest.mark.parametrize("value", [0, 7, -3, 255])
def test_a_constant_picture_becomes_0(value):
    """A picture of one value has limits one apart and becomes 0 everywhere."""
    raw = np.full((1, 4, 4), value, np.int16)
    assert estimate_limits(raw) == Limits((float(value),), (value + 1.0,))
    assert not normalize(raw, estimate_limits(raw)).any()


def test_a_few_bright_objects_on_black_are_seen():
    """Where nearly every pixel is 0, the brightest one becomes 1 instead of everything becoming 0."""
    raw = np.zeros((1, 100, 100), np.uint16)
    raw[0, 50, 50] = 500
    assert normalize(raw, estimate_limits(raw))[0, 50, 50] == 1


def test_colour_keeps_its_hue():
    """Joint limits are the same for red, green and blue; separate ones are not."""
    raw = np.stack([np.arange(100), np.arange(100) + 50, np.arange(100) * 2])
    assert len(set(estimate_limits(raw, joint=True).high)) == 1
    assert len(set(estimate_limits(raw).high)) == 3


def test_what_is_not_finite_is_left_out():
    """NaN and infinities do not move the limits; they become what is next to them, the top and the bottom."""
    raw = np.arange(300, dtype=np.float32).reshape(1, -1)
    spoilt = np.concatenate([[[np.inf, -np.inf]], raw, [[np.nan]]], axis=1)
    assert estimate_limits(spoilt) == estimate_limits(raw)
    seen = normalize(spoilt, estimate_limits(raw))[0]
    assert seen[:2].tolist() == [2.0, -0.5]
    assert seen[-1] == pytest.approx(1, abs=0.02)


def test_a_hole_is_as_what_is_around_it():
    """In each channel alone: in a bright picture it is no dark object, and none in an inverted one."""
    raw = np.stack([np.linspace(0, 100, 401), np.full(401, 70.0)])
    raw[1, :40] = 0
    whole = normalize(raw, Limits((0, 0), (100, 100)))
    raw[:, 390:] = np.nan
    seen = normalize(raw, Limits((0, 0), (100, 100)))
    assert np.array_equal(seen[:, :390], whole[:, :390])
    assert np.array_equal(seen[:, 390:], whole[:, 388:377:-1])
    assert normalize(raw, Limits((100, 100), (0, 0)))[1, 390:] == pytest.approx(np.full(11, 0.3))
    assert np.isnan(normalize_with_holes(raw, Limits((0, 0), (100, 100)))[:, 390:]).all()


def test_a_frame_is_left_out():
    """What is black around a picture does not move its limits, and is seen as a hole; in others 0 is a value as any."""
    raw = np.random.default_rng(0).integers(90, 250, (1, 100, 100)).astype(np.uint8)
    framed = np.pad(raw, [(0, 0), (9, 0), (0, 9)])
    limits = estimate_limits(framed)
    assert limits == replace(estimate_limits(raw), is_framed=True)
    assert limits.inverted().is_framed
    assert limits_from(limits, 1).is_framed
    assert np.array_equal(normalize(framed, limits)[:, 9:, :100], normalize(raw, limits))
    assert np.array_equal(normalize(framed, limits)[:, 8, :100], normalize(raw, limits)[:, 1])
    assert np.isnan(normalize_with_holes(framed, limits)).sum() == 109 * 109 - 100 * 100
    assert normalize(framed, estimate_limits(framed, is_framed=False))[0, 0, 0] == 0


def test_nothing_finite_gives_0_and_1():
    """A channel without any finite value has limits 0 and 1 and becomes finite."""
    raw = np.full((1, 3, 3), np.nan)
    assert estimate_limits(raw) == Limits((0.0,), (1.0,))
    assert not normalize(raw, estimate_limits(raw)).any()


def test_limits_of_some_channels():
    """Selecting channels keeps their own limits, in the order asked for."""
    assert Limits((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).select((2, 0)) == Limits((3.0, 1.0), (6.0, 4.0))


@pytest.mark.parametrize(
    ("have", "wanted", "expected"),
    [
        ([1], 1, [1]),
        ([1], 3, [1, 1, 1]),
        ([1, 2], 3, [1, 2, 0]),
        ([1, 2, 3], 1, [2]),
        ([1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_channels_are_fitted(have, wanted, expected):
    """One channel is repeated, two are filled up to three, colour becomes gray."""
    x = np.array(have, np.float32).reshape(-1, 1, 1) * np.ones((1, 2, 2), np.float32)
    fitted = fit_channels(x, wanted)
    assert fitted[:, 0, 0].tolist() == expected
    assert fitted.dtype == np.float32
    assert np.isnan(fit_channels(np.nan * x, wanted)).all()


@pytest.mark.parametrize(("have", "wanted"), [(4, 1), (4, 3), (2, 1), (3, 2), (2, 4)])
def test_other_numbers_of_channels_are_the_users_choice(have, wanted):
    """Where channels would have to be guessed, a sentence says where to choose them."""
    with pytest.raises(ImageError, match=f"has {have} channels; the model reads {wanted}. Choose"):
        fit_channels(np.zeros((have, 2, 2), np.float32), wanted)


def test_inverted_limits_show_dark_as_bright():
    """1 less what the picture is otherwise, whatever is clipped."""
    raw = np.array([[[0.0, 10.0, 20.0, 1000.0, -1000.0]], [[10.0, 0.0, 20.0, 15.0, 5.0]]])
    limits = Limits((0.0, 0.0), (20.0, 10.0))
    assert np.array_equal(normalize(raw, limits.inverted()), 1 - normalize(raw, limits))
    assert limits.inverted().inverted() == limits
    mixed = Limits((0.0, 10.0), (20.0, 0.0))
    assert np.array_equal(normalize(raw, mixed)[0], normalize(raw, limits)[0])
    assert np.array_equal(normalize(raw, mixed)[1], 1 - normalize(raw, limits)[1])
