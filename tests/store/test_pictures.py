"""Picture and label files: what other programs write is read, what we write others read, damage is named."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_unet.core.errors import ImageError, LabelsError, ProjectError
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.store import pictures
from napari_unet.store.pictures import read_labels, read_picture, write_labels

SEED = 3
ZYX = {"axes": "ZYX"}


def noise(*shape, dtype=np.uint8):
    """Noise, the same each time."""
    return np.random.default_rng(SEED).integers(0, 200, shape).astype(dtype)


def whole(source):
    """Every voxel of a picture, (C, ...)."""
    return source.read(Box.whole(source.shape))


# --- TIFF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "options", "shape", "channels", "is_color"),
    [
        (noise(20, 30), {}, (20, 30), 1, False),
        (noise(20, 30, dtype=np.float32), {}, (20, 30), 1, False),
        (noise(20, 30, dtype=">u2"), {"byteorder": ">"}, (20, 30), 1, False),
        (noise(20, 30), {"compression": "zlib", "predictor": True}, (20, 30), 1, False),
        (noise(40, 50), {"tile": (16, 16), "compression": "zlib"}, (40, 50), 1, False),
        (noise(20, 30) > 100, {}, (20, 30), 1, False),
        (noise(5, 20, 30), {"photometric": "minisblack"}, (5, 20, 30), 1, False),
        (noise(5, 20, 30), {"photometric": "minisblack", "metadata": None}, (5, 20, 30), 1, False),
        (noise(20, 30, 3), {"photometric": "rgb"}, (20, 30), 3, True),
        (noise(20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (20, 30), 3, True),
        (noise(3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}, (20, 30), 3, True),
        (noise(20, 30, 3), {"photometric": "minisblack"}, (20, 30), 3, True),
        (noise(20, 30, 5), {"photometric": "minisblack"}, (20, 30), 5, False),
        (noise(2, 20, 30), {"imagej": True, "metadata": {"axes": "CYX"}}, (20, 30), 2, False),
        (noise(4, 3, 2, 20, 30), {"imagej": True, "metadata": {"axes": "TZCYX"}}, (4, 3, 20, 30), 2, False),
        (noise(4, 2, 3, 20, 30), {"ome": True, "metadata": {"axes": "TCZYX"}}, (4, 3, 20, 30), 2, False),
        (noise(3, 4, 20, 30), {"ome": True, "metadata": {"axes": "ZTYX"}}, (4, 3, 20, 30), 1, False),
        (noise(1, 1, 20, 30), {"ome": True, "metadata": {"axes": "ZCYX"}}, (20, 30), 1, False),
    ],
)
def test_tiffs_of_all_kinds_are_read(tmp_path, raw, options, shape, channels, is_color):
    """Axes, channels and colour of plain, ImageJ and OME files are found; their voxels are unchanged."""
    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, raw, **options)
    source = read_picture(path)
    assert (source.shape, source.channels, source.is_color) == (shape, channels, is_color)
    assert source.name == "picture.tif"
    expected = raw[..., :3] if raw.shape[-1] == 4 else raw
    assert np.sort(whole(source), axis=None).tolist() == np.sort(expected, axis=None).tolist()


@pytest.mark.parametrize("large", [2**28, 1000], ids=["at once", "box by box"])
@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"tile": (16, 16), "compression": "zlib"}])
def test_pages_that_were_written_one_by_one_are_a_stack(tmp_path, monkeypatch, options, large):
    """None is lost: they are a stack to other programs, too. Pages of other sizes are no part of it."""
    monkeypatch.setattr(pictures, "LARGE", large)
    pages = noise(3, 40, 50)
    with tifffile.TiffWriter(tmp_path / "a.tif") as alike, tifffile.TiffWriter(tmp_path / "b.tif") as others:
        for page in pages:
            alike.write(page, **options)
        others.write(pages[0], **options)
        others.write(pages[1, :20], **options)
    assert (whole(read_picture(tmp_path / "a.tif"))[0] == pages).all()
    assert (whole(read_picture(tmp_path / "b.tif"))[0] == pages[0]).all()
    assert (read_labels(tmp_path / "a.tif") == pages).all()


@pytest.mark.parametrize("raw", [noise(20, 30), noise(20, 30, dtype=np.uint16), noise(20, 30, 3), noise(4, 20, 30)])
def test_lzw_needs_no_other_package(tmp_path, raw):
    """LZW, which many microscopes write, is read with what every installation has."""
    first, *others = [Image.fromarray(plane) for plane in (raw if raw.shape[0] == 4 else [raw])]
    first.save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=others)
    voxels = whole(read_picture(tmp_path / "a.tif"))
    assert (voxels == (np.moveaxis(raw, -1, 0) if raw.shape[-1] == 3 else raw[np.newaxis])).all()


def test_a_compression_that_nothing_knows_says_what_to_install(tmp_path, monkeypatch):
    """Where neither tifffile nor Pillow can unpack a picture as it is, the sentence names the package."""
    Image.fromarray(noise(20, 30, dtype=np.uint16)).save(tmp_path / "a.tif", compression="tiff_lzw")

    def refuse(_series):
        raise ValueError("<COMPRESSION.LERC> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    monkeypatch.setattr(pictures.ImageSequence, "Iterator", lambda image: [image.convert("L")])
    with pytest.raises(ImageError, match="pip install imagecodecs"):
        read_picture(tmp_path / "a.tif")


def test_channels_of_a_tiff_can_be_named(tmp_path):
    """Where a file does not say which axis holds channels, the user may; one too far is refused by name."""
    raw = noise(2, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", raw, photometric="minisblack")
    source = read_picture(tmp_path / "a.tif", channel_axis=0)
    assert (source.shape, source.channels) == ((20, 30), 2)
    assert (whole(source) == raw).all()
    with pytest.raises(ImageError, match=r"'.*a\.tif': the picture has 3 axes, so there is no axis 3"):
        read_picture(tmp_path / "a.tif", channel_axis=3)


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "resolution": (2, 4), "metadata": {"axes": "ZYX", "spacing": 1.5, "unit": "um"}},
        {"ome": True, "metadata": {f"PhysicalSize{a}": s for a, s in (("Z", 1.5), ("Y", 0.25), ("X", 0.5))} | ZYX},
    ],
    ids=["ImageJ", "OME"],
)
def test_voxel_sizes_are_read(tmp_path, options):
    """The extent of a voxel comes out in the order Z, Y, X."""
    tifffile.imwrite(tmp_path / "a.tif", noise(4, 20, 30), photometric="minisblack", **options)
    assert read_picture(tmp_path / "a.tif").voxel_size == (1.5, 0.25, 0.5)


def test_a_resolution_that_says_nothing_is_ignored(tmp_path):
    """Dots per inch of a drawing program are no voxel size."""
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), resolution=(72, 36), metadata=None)
    assert read_picture(tmp_path / "a.tif").voxel_size == (1.0, 1.0)


LARGE_TIFFS = {
    "plain": {},
    "tiles": {"tile": (64, 64), "compression": "zlib"},
    "one strip a plane": {"compression": "zlib", "rowsperstrip": 200},
    "OME": {"ome": True, "metadata": ZYX, "tile": (64, 64)},
}


@pytest.mark.parametrize("options", LARGE_TIFFS.values(), ids=LARGE_TIFFS.keys())
def test_a_large_tiff_is_read_box_by_box(tmp_path, monkeypatch, options):
    """A file over the limit is opened without reading its planes, and gives the same voxels."""
    raw = noise(3, 200, 300, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", raw, photometric="minisblack", **options)
    monkeypatch.setattr(pictures, "LARGE", 1000)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)
    source = read_picture(tmp_path / "a.tif")
    assert source.shape == raw.shape
    box = Box((1, 50, 60), (3, 150, 90))
    assert (source.read(box)[0] == raw[box.slices]).all()


def test_a_large_tiff_of_huge_strips_is_read_at_once(tmp_path, monkeypatch):
    """Where each box would unpack the whole plane again, it is unpacked once."""
    raw = noise(200, 300)
    tifffile.imwrite(tmp_path / "a.tif", raw, compression="zlib", rowsperstrip=200)
    monkeypatch.setattr(pictures, "LARGE", 1000)
    monkeypatch.setattr(pictures, "LARGEST_PART", 1000)
    assert (whole(read_picture(tmp_path / "a.tif"))[0] == raw).all()


def test_levels_of_a_pyramidal_tiff_are_used(tmp_path, monkeypatch):
    """The first level is the picture; the smaller ones belong to it."""
    raw = noise(2, 256, 256)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(raw, subifds=1, tile=(64, 64), compression="zlib", metadata={"axes": "CYX"})
        writer.write(raw[:, ::2, ::2], subfiletype=1, tile=(64, 64), compression="zlib")
    monkeypatch.setattr(pictures, "LARGE", 1000)
    source = read_picture(tmp_path / "a.ome.tif")
    assert (source.shape, source.channels) == ((256, 256), 2)
    assert (whole(source) == raw).all()
    assert source.limits() == ImageSource.of_array(raw, channel_axis=0).limits()


# --- PNG and JPEG --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "channels", "is_color"),
    [
        (noise(20, 30), 1, False),
        (noise(20, 30, dtype=np.uint16) * 300, 1, False),
        (noise(20, 30) > 100, 1, False),
        (noise(20, 30, 2), 1, False),
        (noise(20, 30, 3), 3, True),
        (noise(20, 30, 4), 3, True),
        (noise(2, 2, 3), 3, True),
    ],
    ids=["gray", "16 bit", "1 bit", "gray and alpha", "colour", "colour and alpha", "tiny colour"],
)
def test_pngs_of_all_kinds_are_read(tmp_path, raw, channels, is_color):
    """Gray and colour are told apart, alpha is left out, values stay."""
    iio.imwrite(tmp_path / "a.png", raw)
    source = read_picture(tmp_path / "a.png")
    assert (source.channels, source.is_color) == (channels, is_color)
    expected = raw[np.newaxis] if raw.ndim == 2 else np.moveaxis(raw, -1, 0)[:channels]
    values = whole(source)
    assert ((values > 0) == expected).all() if raw.dtype == bool else (values == expected).all()


def test_a_palette_is_looked_up(tmp_path):
    """A PNG that stores numbers of a palette is read as the colours that the user sees."""
    colours = noise(20, 30, 3) // 100 * 255
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert (whole(read_picture(tmp_path / "a.png")) == np.moveaxis(colours, -1, 0)).all()


def test_only_the_formats_that_are_named_are_opened(tmp_path):
    """A PostScript program that is called picture.png is refused, not run."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="cannot identify"):
        read_picture(tmp_path / "a.png")


def test_a_jpeg_is_read(tmp_path):
    """Capital endings are endings too."""
    iio.imwrite(tmp_path / "a.JPG", noise(20, 30, 3))
    assert read_picture(tmp_path / "a.JPG").is_color


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tiff", "a.png", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"hello", bytes(4000)])
def test_a_file_that_is_no_picture_is_named(tmp_path, name, content):
    """Empty, cut and foreign files are refused in one sentence that names them."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=r"\.$") as error:
        read_picture(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_truncated_file_never_raises_anything_else(tmp_path, name, keep):
    """A file cut short at any place either opens or is refused in a sentence."""
    path = tmp_path / name
    iio.imwrite(path, noise(60, 60))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    try:
        assert whole(read_picture(path)).shape == (1, 60, 60)
    except ImageError as error:
        assert name in str(error)  # noqa: PT017 - both ends are allowed here


@pytest.mark.parametrize(
    ("name", "words"), [("a.czi", "ending '.czi'"), ("missing.tif", "no such file"), ("folder", "is a folder")]
)
def test_what_cannot_be_read_is_named(tmp_path, name, words):
    """Other formats, missing files and plain folders are refused with what to do."""
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError) as error:
        read_picture(tmp_path / name)
    assert words in str(error.value)


def test_an_unusable_picture_is_refused_by_name(tmp_path):
    """A complex TIFF is refused with the file's name before the reason."""
    tifffile.imwrite(tmp_path / "fft.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(ImageError, match=r"fft\.tif': the picture holds complex numbers"):
        read_picture(tmp_path / "fft.tif")


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (3, 20, 30), (4, 20, 30), (2, 3, 20, 30), (2, 2, 3, 20, 30)])
@pytest.mark.parametrize(("largest", "kind"), [(0, np.uint16), (65_535, np.uint16), (65_536, np.uint32)])
def test_labels_come_back_as_they_were_written(tmp_path, shape, largest, kind):
    """Labels of 2 to 5 axes are the same after writing and reading, in the smallest type that holds them."""
    labels = noise(*shape, dtype=np.int64) * bool(largest)
    labels.flat[0] = largest
    write_labels(tmp_path / "new" / "a.tif", labels)
    back = read_labels(tmp_path / "new" / "a.tif")
    assert back.dtype == kind
    assert (back == labels).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tif"]


def test_labels_are_plain_tiff_for_others(tmp_path):
    """What other programs see is a zlib TIFF of gray planes, compressed well, with the picture's voxel size."""
    labels = np.kron(np.arange(12, dtype=np.int32).reshape(3, 2, 2), np.ones((1, 50, 50), np.int32))
    picture = ImageSource.of_array(labels, voxel_size=(2.0, 0.5, 0.25))
    write_labels(tmp_path / "a.tif", labels, like=picture)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.series[0].axes == "ZYX"
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        assert (tif.asarray() == labels).all()
    assert (tmp_path / "a.tif").stat().st_size < labels.size / 4
    assert read_picture(tmp_path / "a.tif").voxel_size == (2.0, 0.5, 0.25)


@pytest.mark.parametrize(
    ("axes", "shape", "letters"),
    [
        ("TYX", (3, 20, 30), "TYX"),
        ("ZYX", (3, 20, 30), "ZYX"),
        ("TZCYX", (2, 4, 3, 20, 30), "TZYX"),
        ("YX", (9, 9), "YX"),
    ],
)
def test_labels_have_the_axes_of_their_picture(tmp_path, axes, shape, letters):
    """Frames of a time series do not become planes of a volume."""
    tifffile.imwrite(tmp_path / "a.tif", noise(*shape), imagej=True, metadata={"axes": axes})
    source = read_picture(tmp_path / "a.tif")
    assert source.letters == source.select([0]).letters == letters
    write_labels(tmp_path / "labels.tif", noise(*source.shape, dtype=np.int32), like=source)
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        assert tif.series[0].axes == letters


def test_writing_labels_replaces_them_whole(tmp_path, monkeypatch):
    """A write that fails leaves the earlier labels and no other file."""
    path = tmp_path / "a.tif"
    write_labels(path, np.ones((4, 4), int))

    def full(_self, _fd, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.FileSystem, "write", full)
    with pytest.raises(ProjectError, match="disk is full"):
        write_labels(path, np.full((4, 4), 2))
    monkeypatch.undo()
    assert (read_labels(path) == 1).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((4, 4)), "float64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4), -1), "-1"),
        (np.full((4, 4), 2**32), "4294967296"),
        (np.full((4, 4), 2**64 - 1, np.uint64), "18446744073709551615"),
        (np.zeros(4, int), "(4,)"),
        (np.zeros((0, 4), int), "(0, 4)"),
        (np.zeros((5, 4), int), "(5, 4)"),
    ],
)
def test_what_is_no_labels_is_not_written(tmp_path, labels, words):
    """Fractions, masks, negative and enormous numbers and other shapes than the picture's are refused."""
    with pytest.raises(LabelsError, match=r"\.$") as error:
        write_labels(tmp_path / "a.tif", labels, like=ImageSource.of_array(noise(4, 4)))
    assert words in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        (noise(8, 9, dtype=np.float32), np.int64),
        (noise(8, 9, dtype=np.int16) - np.int16(100), np.int16),
        (noise(8, 9) > 100, np.uint8),
        (noise(8, 9, dtype=">u2"), np.uint16),
    ],
)
def test_labels_of_other_programs_are_read(tmp_path, raw, dtype):
    """Floats that are whole numbers, negative labels, masks and foreign byte order are taken."""
    tifffile.imwrite(tmp_path / "a.tif", raw)
    labels = read_labels(tmp_path / "a.tif")
    assert labels.dtype == dtype
    assert (labels == raw).all()


def test_labels_may_be_png(tmp_path):
    """16-bit PNG labels are read like TIFF."""
    iio.imwrite(tmp_path / "a.png", noise(8, 9, dtype=np.uint16))
    assert (read_labels(tmp_path / "a.png") == noise(8, 9)).all()


@pytest.mark.parametrize(
    ("raw", "options", "words"),
    [
        (noise(8, 9, 3), {"photometric": "rgb"}, "colour"),
        (noise(2, 8, 9), {"imagej": True, "metadata": {"axes": "CYX"}}, "2 channels"),
        (np.full((8, 9), 0.5), {}, "not whole"),
        (np.full((8, 9), np.nan), {}, "not whole"),
        (np.full((8, 9), np.inf), {}, "not whole"),
        (np.full((8, 9), 1e300), {}, "not whole"),
    ],
)
def test_pictures_are_no_labels(tmp_path, raw, options, words):
    """Colour, channels and fractions are refused in a sentence that names the file."""
    tifffile.imwrite(tmp_path / "a.tif", raw, **options)
    with pytest.raises(LabelsError, match=r"a\.tif'.*\.$") as error:
        read_labels(tmp_path / "a.tif")
    assert words in str(error.value)
