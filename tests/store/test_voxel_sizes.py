"""The extent of voxels in label files that others read."""

import numpy as np
import pytest

from napari_unet.core.image import ImageSource
from napari_unet.store.pictures import read_picture, write_labels


@pytest.mark.parametrize(
    ("size", "kept"),
    [(3.3e-10, True), (0.1083, True), (1e9, True), (1e-11, False), (1e-300, False), (1e11, False)],
)
def test_labels_are_written_whatever_a_file_says_of_its_voxels(tmp_path, size, kept):
    """A size that no TIFF can hold, such as one in metres may be, is as one that is not known."""
    picture = ImageSource.of_array(np.zeros((2, 8, 9), np.uint8), voxel_size=(2 * size, size, size))
    write_labels(tmp_path / "a.tif", np.ones((2, 8, 9), np.int32), like=picture)
    known = (2 * size, size, size) if kept else (1.0, 1.0, 1.0)
    assert read_picture(tmp_path / "a.tif").voxel_size == pytest.approx(known)
