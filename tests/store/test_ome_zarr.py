"""OME-Zarr: pictures of every version are read, labels are written block by block."""

import numpy as np
import pytest
import yaozarrs
import zarr

from napari_unet.core.errors import ImageError, LabelsError
from napari_unet.core.geometry import Box
from napari_unet.store.ome_zarr import LABEL_BLOCK, create_label_zarr
from napari_unet.store.pictures import read_labels, read_picture

SEED = 3


def noise(*shape, dtype=np.uint8):
    """Noise, the same each time."""
    return np.random.default_rng(SEED).integers(0, 200, shape).astype(dtype)


def whole(source):
    """Every voxel of a picture, (C, ...)."""
    return source.read(Box.whole(source.shape))


def ome_group(path, raw, *, version="0.5", axes="tczyx", scale=None, levels=1):
    """An OME-Zarr picture of some version, with as many levels."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    scale = scale or [1.0] * raw.ndim
    datasets = []
    for level in range(levels):
        smaller = raw[..., :: 2**level, :: 2**level]
        array = group.create_array(str(level), shape=smaller.shape, dtype=raw.dtype, chunks=smaller.shape)
        array[:] = smaller
        sizes = {"type": "scale", "scale": [*scale[:-2], *(2.0**level * s for s in scale[-2:])]}
        corner = {"type": "translation", "translation": [0.0] * raw.ndim}
        datasets.append({"path": str(level), "coordinateTransformations": [sizes, corner]})
    kinds = {"t": "time", "c": "channel"}
    multiscale = {"datasets": datasets, "version": version}
    if version in ("0.4", "0.5"):
        multiscale["axes"] = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    elif version == "0.3":
        multiscale["axes"] = list(axes)
    content = {"multiscales": [multiscale]}
    group.attrs.update({"ome": {"version": version, **content}} if version == "0.5" else content)
    return path


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5"])
def test_ome_zarr_of_every_version_is_read(tmp_path, version):
    """Time, channels and planes are found whether axes are written as objects, as letters or not at all."""
    raw = noise(2, 3, 4, 20, 30)
    source = read_picture(ome_group(tmp_path / "a.ome.zarr", raw, version=version, levels=2))
    assert (source.shape, source.channels, source.is_color) == ((2, 4, 20, 30), 3, False)
    assert (whole(source) == np.moveaxis(raw, 1, 0)).all()


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [("yx", (20, 30), (20, 30)), ("zyx", (4, 20, 30), (4, 20, 30)), ("tczyx", (1, 1, 1, 20, 30), (20, 30))],
)
def test_single_axes_of_an_ome_zarr_are_dropped(tmp_path, axes, shape, expected):
    """A plane that is stored with five axes has the labels of a plane."""
    assert read_picture(ome_group(tmp_path / "a.zarr", noise(*shape), axes=axes)).shape == expected


def test_the_scale_of_an_ome_zarr_is_read(tmp_path):
    """The scale of the first level is the voxel size, channels left out."""
    path = ome_group(tmp_path / "a.zarr", noise(2, 3, 20, 30), axes="czyx", scale=[1.0, 2.0, 0.5, 0.25], levels=2)
    assert read_picture(path).voxel_size == (2.0, 0.5, 0.25)


def test_channels_of_an_ome_zarr_can_be_named(tmp_path):
    """The user may take another axis for the channels than the folder says; its scale is left out."""
    raw = noise(2, 20, 30)
    path = ome_group(tmp_path / "a.zarr", raw, axes="zyx", scale=[9.0, 0.5, 0.25])
    source = read_picture(path, channel_axis=0)
    assert (source.channels, source.voxel_size) == (2, (0.5, 0.25))
    assert (whole(source) == raw).all()


def test_a_plain_zarr_array_is_read(tmp_path):
    """A zarr array without any OME metadata is a picture like any array, its channel axis may be named."""
    raw = noise(2, 20, 30)
    zarr.create_array(tmp_path / "a.zarr", data=raw)
    assert read_picture(tmp_path / "a.zarr").shape == (2, 20, 30)
    assert (whole(read_picture(tmp_path / "a.zarr", channel_axis=0)) == raw).all()


def test_the_first_picture_of_a_bioformats_folder_is_read(tmp_path):
    """What bioformats2raw writes opens at its first picture."""
    raw = noise(20, 30)
    zarr.create_group(tmp_path / "a.zarr").attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    ome_group(tmp_path / "a.zarr" / "0", raw, axes="yx")
    assert (whole(read_picture(tmp_path / "a.zarr"))[0] == raw).all()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "no OME-Zarr picture"),
        ({"ome": {"version": "0.5", "plate": {}}}, "plate of many pictures"),
        ({"ome": {"multiscales": []}}, "cannot be read"),
        ({"ome": {"multiscales": [{"datasets": [{"path": "../../outside"}]}]}}, "cannot be read"),
        ({"ome": {"multiscales": [{"datasets": [{"path": "group"}], "axes": ["y", "x"]}]}}, "is no array"),
        ({"ome": "nonsense"}, "a.zarr'"),
        ({"multiscales": 3}, "cannot be read"),
    ],
)
def test_an_ome_zarr_without_a_picture_says_so(tmp_path, attributes, words):
    """Plates, empty groups, broken metadata and paths that lead out are refused by name."""
    group = zarr.create_group(tmp_path / "a.zarr", attributes=attributes)
    group.create_group("group")
    with pytest.raises(ImageError, match=r"\.$") as error:
        read_picture(tmp_path / "a.zarr")
    assert words in str(error.value)
    assert "a.zarr" in str(error.value)


@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40), (2, 3, 30, 40)])
def test_label_blocks_are_written_into_an_ome_zarr(tmp_path, shape):
    """Blocks of labels go into a valid OME-Zarr 0.5 that reads back with its voxel size."""
    path = tmp_path / "out" / "a.ome.zarr"
    array = create_label_zarr(path, shape, voxel_size=(2.0,) * len(shape))
    array[..., 5:9, 10:20] = 70_000
    yaozarrs.validate_zarr_store(str(path))
    labels = read_labels(path)
    assert labels.shape == shape
    assert labels.dtype == np.uint32
    assert np.unique(labels[..., 5:9, 10:20]).tolist() == [70_000]
    assert np.count_nonzero(labels) == np.prod(shape[:-2], dtype=int) * 40
    assert read_picture(path).voxel_size == (2.0,) * len(shape)


def test_a_huge_label_zarr_costs_nothing_until_it_is_written(tmp_path):
    """Background is not stored, and a block touches its own chunks alone."""
    array = create_label_zarr(tmp_path / "a.zarr", (3, 200_000, 200_000))
    array[1, 512:1024, 1024:1536] = 5
    assert array.nchunks_initialized == 1
    assert array.chunks == (1, LABEL_BLOCK, LABEL_BLOCK)


def test_labels_can_be_gone_on_with(tmp_path):
    """A resumed folder holds what was written before."""
    create_label_zarr(tmp_path / "a.zarr", (30, 40))[:5] = 3
    again = create_label_zarr(tmp_path / "a.zarr", (30, 40), resume=True)
    again[5:6] = 4
    assert np.unique(read_labels(tmp_path / "a.zarr")).tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("shape", "dtype", "resume", "words"),
    [
        ((30, 40), np.uint32, False, "is there already"),
        ((30, 41), np.uint32, True, "not uint32 of (30, 41)"),
        ((30, 40), np.int32, True, "not int32"),
    ],
)
def test_other_labels_are_not_overwritten(tmp_path, shape, dtype, resume, words):
    """A folder that is there is kept unless it is the same and to be resumed."""
    create_label_zarr(tmp_path / "a.zarr", (30, 40))[:] = 3
    with pytest.raises(LabelsError, match=r"\.$") as error:
        create_label_zarr(tmp_path / "a.zarr", shape, dtype=dtype, resume=resume)
    assert words in str(error.value)
    assert (read_labels(tmp_path / "a.zarr") == 3).all()


@pytest.mark.parametrize("content", ["nothing", "a file", "text"])
def test_what_is_no_label_zarr_is_not_resumed(tmp_path, content):
    """A folder or file that holds something else is left alone."""
    path = tmp_path / "a.zarr"
    if content == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "0").write_text(content)
    with pytest.raises(LabelsError, match="remove it, or choose"):
        create_label_zarr(path, (30, 40), resume=True)


def test_labels_of_others_may_be_ome_zarr(tmp_path):
    """Labels that another program stored with five axes are read as the plane that they are."""
    labels = noise(1, 1, 1, 8, 9, dtype=np.uint16)
    assert (read_labels(ome_group(tmp_path / "a.zarr", labels, version="0.4")) == labels[0, 0, 0]).all()
