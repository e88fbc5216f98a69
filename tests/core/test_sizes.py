"""How large objects are, and the scale at which a network knows them."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.errors import ImageError
from napari_unet.core.sizes import (
    LARGEST_SCALE,
    SMALLEST_SCALE,
    contrast_of_parts,
    median_diameter,
    scale_for,
    usual_scale,
)


def disc(radius, number=1):
    """Labels of one disc, in a plane twice as wide."""
    y, x = np.ogrid[-2 * radius : 2 * radius + 1, -2 * radius : 2 * radius + 1]
    return (y**2 + x**2 <= radius**2).astype(np.int32) * number


def test_diameter_is_that_of_the_disc_with_the_median_area():
    """Discs of radius 10 measure about 20 pixels; of several planes all objects count."""
    assert median_diameter(disc(10)) == pytest.approx(20, abs=0.5)
    assert median_diameter(disc(10), disc(5), disc(20, 10**9)) == pytest.approx(20, abs=0.5)


def test_nothing_has_no_diameter():
    """Background and specks have no size."""
    speck = np.zeros((4, 4), np.int32)
    assert median_diameter(speck) is None
    speck[0, 0] = 1
    assert median_diameter(speck) is None
    assert median_diameter() is None


@pytest.mark.parametrize(
    ("diameter", "scale"),
    [
        (24.0, 1.0),
        (48.0, 0.5),
        (16.0, 1.5),
        (20.0, 1.0),
        (29.0, 1.0),
        (1.0, LARGEST_SCALE),
        (1e4, SMALLEST_SCALE),
        (None, 1),
    ],
)
def test_objects_are_brought_to_the_size_that_is_known(diameter, scale):
    """Twice as large objects halve the scale; far away from the known size it stays within bounds."""
    assert usual_scale(diameter, 24.0) == scale


@pytest.mark.parametrize(("diameter", "scale"), [(24.0, 1.0), (24.9, 1.0), (12.0, 2.0), (1.0, 24.0), (240.0, 0.1)])
def test_a_size_that_the_user_gives_counts(diameter, scale):
    """However far it is from the known one; what makes next to no difference is left as it is."""
    assert scale_for(diameter, 24.0) == scale


@pytest.mark.parametrize("diameter", [0, -3, 0.5, float("nan"), float("inf"), "30"])
def test_no_size_is_a_sentence(diameter):
    """Objects of no width are the user's mistake."""
    with pytest.raises(ImageError, match="pixels wide"):
        scale_for(diameter, 24.0)


def colony(rows=6, side=12):
    """A square of cells side by side, as (cells, the whole), in a plane that is wider."""
    cells = np.zeros((rows * side + 20, rows * side + 20), np.int32)
    cells[10:-10, 10:-10] = np.kron(np.arange(1, rows**2 + 1).reshape(rows, rows), np.ones((side, side), np.int32))
    return cells, (cells > 0).astype(np.int32)


@pytest.mark.parametrize("rim", [-1, 1])
def test_cells_of_a_colony_are_parted_by_rims_that_are_all_alike(rim):
    """Darker or brighter than the insides, whatever noise there is."""
    cells, whole = colony()
    inner = ndimage.minimum_filter(cells, 3) == ndimage.maximum_filter(cells, 3)
    image = np.random.default_rng(0).normal(0, 0.3, cells.shape) + rim * ~inner
    assert contrast_of_parts(image, cells, whole) > 2
    assert contrast_of_parts(image + 1e3, cells, whole) > 2


def test_pieces_of_one_object_are_not_parted():
    """Neither by noise nor by texture, whose bright and dark places lie anywhere."""
    cells, whole = colony()
    noise = np.random.default_rng(0).normal(0, 1, cells.shape)
    assert contrast_of_parts(noise, cells, whole) < 0.5
    assert contrast_of_parts(ndimage.gaussian_filter(noise, 3), cells, whole) < 0.5
    assert contrast_of_parts(np.ones(cells.shape), cells, whole) == 0


def test_few_pieces_or_such_that_fill_little_say_nothing():
    """Three rims may be alike by chance, and specks in an object are no parts of it."""
    cells, whole = colony(2)
    image = (ndimage.minimum_filter(cells, 3) == ndimage.maximum_filter(cells, 3)).astype(float)
    assert contrast_of_parts(image, cells, whole) == 0
    cells, whole = colony()
    image = (ndimage.minimum_filter(cells, 3) == ndimage.maximum_filter(cells, 3)).astype(float)
    assert contrast_of_parts(image, cells, whole) > 2
    assert contrast_of_parts(image, np.where(cells % 2, cells, 0), whole) == 0
    assert contrast_of_parts(image, cells, np.zeros_like(whole)) == 0
    assert contrast_of_parts(image, np.zeros_like(cells), whole) == 0
