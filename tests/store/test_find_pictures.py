"""Which pictures there are among files and in folders."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.core.errors import ImageError
from napari_unet.store.pictures import create_label_zarr, find_pictures, find_unread, read_picture, unread_in


def test_pictures_are_found_in_folders(tmp_path):
    """Folders give their pictures, sorted; OME-Zarr is one; hidden, deeper and other files are skipped."""
    for name in ("b.tif", "a.PNG", "c.ome.tiff", "d.jpeg", "notes.txt", "._b.tif", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "e.tif").write_bytes(b"")
    (tmp_path / "folder.tif").mkdir()
    create_label_zarr(tmp_path / "f.ome.zarr", (2, 2))
    zarr.create_array(tmp_path / "unnamed", data=np.zeros((2, 2), np.uint8))
    names = [path.name for path in find_pictures([tmp_path])]
    assert names == ["a.PNG", "b.tif", "c.ome.tiff", "d.jpeg", "f.ome.zarr", "unnamed"]


def test_files_and_folders_may_be_mixed(tmp_path):
    """A file that is named and lies in a named folder too comes once; of others, those that were named are told."""
    for name in ("a.tif", "b.tif", "c.txt", "d.txt", ".e.tif"):
        (tmp_path / name).write_bytes(b"")
    paths = [tmp_path / "b.tif", str(tmp_path), str(tmp_path / "c.txt"), tmp_path / ".e.tif"]
    assert find_pictures(paths) == [tmp_path / ".e.tif", tmp_path / "a.tif", tmp_path / "b.tif"]
    assert find_unread(paths) == [tmp_path / "c.txt"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_picture_is_found_once_however_it_is_spelled(tmp_path, monkeypatch):
    """Relative, absolute and with dots between it is the same file; a link to it is a picture of its own."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").touch()
    (tmp_path / "in" / "b.tif").symlink_to(tmp_path / "in" / "a.tif")
    monkeypatch.chdir(tmp_path)
    spelled = [Path("in/a.tif"), tmp_path / "in" / "a.tif", Path("in/../in/a.tif"), Path("in")]
    assert find_pictures(spelled) == [Path("in/a.tif"), Path("in/b.tif")]


def test_a_link_that_leads_nowhere_is_said(tmp_path):
    """A picture that was moved away is missed, not left out."""
    (tmp_path / "a.tif").symlink_to(tmp_path / "gone.tif")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "gone.txt")
    assert find_pictures([tmp_path]) == [tmp_path / "a.tif"]
    with pytest.raises(ImageError, match=r"a\.tif': it is a link to a file that is not there"):
        read_picture(tmp_path / "a.tif")


def test_finding_nothing_is_an_error(tmp_path):
    """A folder without pictures, an unknown file, a missing path and nothing at all are mistakes with a sentence."""
    (tmp_path / "a.czi").write_bytes(b"")
    for paths, words in (
        ([tmp_path], "no picture in"),
        ([tmp_path / "a.czi"], "a.czi"),
        ([tmp_path / "missing"], "no file or folder"),
        ([], "what was named"),
    ):
        with pytest.raises(ImageError, match=r"\.$") as error:
            find_pictures(paths)
        assert words in str(error.value)


PAGE = np.arange(512 * 512, dtype=np.uint16).reshape(512, 512)
PLAIN = {"metadata": None}
TILES = {"metadata": None, "tile": (64, 64)}


@pytest.mark.parametrize(
    ("name", "pages", "count"),
    [
        ("one.tif", [(PAGE, {})], 1),
        ("stack.tif", [(PAGE, {}), (PAGE, {})], 1),
        ("images.ome.tif", [(PAGE, {}), (PAGE, {}), (PAGE[:40], {})], 3),
        ("sizes.tif", [(PAGE, {}), (PAGE[:40], {})], 2),
        ("plain sizes.tif", [(PAGE, PLAIN), (PAGE[:40], PLAIN)], 2),
        ("pyramid.tif", [(PAGE, TILES), (PAGE[::2, ::2].copy(), TILES | {"subfiletype": 1})], 1),
        ("thumbnail.tif", [(PAGE, PLAIN), (PAGE[::9, ::7].copy(), PLAIN | {"subfiletype": 1})], 1),
    ],
)
def test_what_else_a_tiff_holds_is_told(tmp_path, name, pages, count):
    """Other images and pages of other sizes are not read, and never left out without a word; copies are no others."""
    with tifffile.TiffWriter(tmp_path / name) as writer:
        for page, options in pages:
            writer.write(page, **options)
    said = unread_in(tmp_path / name)
    assert (f"{name}' holds {count} pictures, and only the first is read." in said) == (count > 1)
    assert bool(said) == (count > 1)


def test_what_else_an_ome_zarr_holds_is_told(tmp_path):
    """So are the other pictures of what bioformats2raw writes, each of which can be named."""
    zarr.create_group(tmp_path / "a.zarr").attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for number in ("0", "2", "10"):
        create_label_zarr(tmp_path / "a.zarr" / number, (2, 2))
    assert "holds 3 pictures" in unread_in(tmp_path / "a.zarr")
    assert str(tmp_path / "a.zarr" / "2") in unread_in(tmp_path / "a.zarr")
    assert unread_in(tmp_path / "a.zarr" / "2") == ""
    assert read_picture(tmp_path / "a.zarr" / "2").shape == (2, 2)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "missing.tif", "folder.zarr"])
def test_nothing_is_told_of_what_cannot_be_read(tmp_path, name):
    """Whoever reads it says what is wrong."""
    (tmp_path / "a.tif").write_bytes(b"no picture")
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "folder.zarr").mkdir()
    assert unread_in(tmp_path / name) == ""
