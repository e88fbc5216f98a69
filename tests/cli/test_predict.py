"""unet-live predict: what it writes, what it leaves alone, and the one sentence of every mistake."""

import os

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet.cli import predict as command
from napari_unet.core.card import ModelCard
from napari_unet.nets.model import Model
from napari_unet.store.pictures import read_labels, read_picture
from tests.cli.conftest import assert_refused, discs


def test_predict_writes_labels_of_files_and_folders(unet_live, model, folders, tmp_path):
    """TIFF, PNG and colour pictures each give NAME.tif with labels of the picture's size."""
    Image.fromarray(discs()[0]).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([discs()[0]] * 3, -1)).save(tmp_path / "colour.png")
    out = tmp_path / "out"
    code, _, err = unet_live(
        "predict", folders[0], tmp_path / "gray.png", tmp_path / "colour.png", "-o", out, "--model", model
    )
    assert code == 0, err
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "b.tif", "colour.tif", "gray.tif"]
    assert all(read_labels(path).shape == (64, 64) for path in out.iterdir())


def test_predict_gives_an_ome_zarr_for_an_ome_zarr(unet_live, model, tmp_path):
    """The labels of an OME-Zarr are one too, and nothing half-written stays beside it."""
    zarr.save_array(tmp_path / "cells.ome.zarr", discs()[0])
    code, _, err = unet_live("predict", tmp_path / "cells.ome.zarr", "-o", tmp_path / "out", "--model", model)
    assert code == 0, err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cells.ome.zarr"]
    assert read_labels(tmp_path / "out" / "cells.ome.zarr").shape == (64, 64)


@pytest.mark.parametrize("options", [("--channels", "1"), ("--channels", "2,0"), ("--diameter", "12")])
def test_predict_takes_channels_and_a_diameter(unet_live, model, tmp_path, options):
    """Options change what the network reads, never the size of the masks."""
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([discs()[0]] * 3, -1), photometric="rgb")
    code, _, err = unet_live("predict", tmp_path / "rgb.tif", "-o", tmp_path / "out", "--model", model, *options)
    assert code == 0, err
    assert read_labels(tmp_path / "out" / "rgb.tif").shape == (64, 64)


def test_predict_leaves_masks_alone_that_are_there(unet_live, model, folders, tmp_path):
    """A second run goes on where the first one stopped: what is there is not computed again."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.tif").write_bytes(b"mine")
    code, _, err = unet_live("predict", folders[0], "-o", out, "--model", model)
    assert code == 0
    assert "1 of 2 pictures have masks in" in err
    assert "are left out. To make them anew, name another folder with -o." in err
    assert (out / "a.tif").read_bytes() == b"mine"
    assert (out / "b.tif").exists()
    assert unet_live("predict", folders[0], "-o", out, "--model", "there is none")[0] == 0  # not even loaded


def test_predict_goes_on_after_a_bad_picture(unet_live, model, folders, tmp_path):
    """A damaged picture gives one sentence with its name and exit code 2; the others get their masks."""
    (folders[0] / "a.tif").write_bytes(b"no picture")
    assert_refused(unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model), "a.tif")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.tif"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_predict_says_which_files_it_does_not_read(unet_live, model, folders, tmp_path):
    """A file that was named is never left out without a word, also where the others have their masks already."""
    (tmp_path / "inner.czi").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")  # of the name of a picture, and none
    (folders[0] / "moved.tif").symlink_to(tmp_path / "gone.tif")
    arguments = ("predict", folders[0], tmp_path / "inner.czi", tmp_path / "a.txt", "-o", tmp_path / "out")
    code, _, err = unet_live(*arguments, "--model", model)
    assert code == 2
    assert "inner.czi': the ending '.czi' is not read" in err
    assert "TIFF, PNG, JPEG or OME-Zarr" in err
    assert "a.txt'" in err
    assert "moved.tif': it is a link" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.tif", "b.tif"]
    (folders[0] / "moved.tif").unlink()
    code, _, err = unet_live(*arguments, "--model", model)
    assert (code, "inner.czi" in err) == (2, True)


def test_predict_goes_on_whatever_a_picture_does(unet_live, model, folders, tmp_path, monkeypatch):
    """A failure of our own, too, is told with the name of its picture, and the others get their masks."""
    real = command.write_labels

    def fails(target, *rest):
        if target.name == "a.tif":
            raise RuntimeError("what nobody foresaw")
        real(target, *rest)

    monkeypatch.setattr(command, "write_labels", fails)
    code, _, err = unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model)
    assert code == 1
    assert "a.tif" in err
    assert "what nobody foresaw" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.tif"]


def test_predict_names_the_picture_that_lacks_a_channel(unet_live, model, folders, tmp_path):
    """What is wrong with one picture is said with its name."""
    (folders[0] / "b.tif").unlink()
    result = unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model, "--channels", "4")
    assert_refused(result, "a.tif", "Channels 4")


def test_predict_refuses_two_pictures_of_one_name(unet_live, model, folders, tmp_path):
    """Two pictures whose masks would have one name are not written over each other."""
    Image.fromarray(discs()[0]).save(folders[0] / "a.png")
    assert_refused(unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model), "a.png", "a.tif")


def test_predict_never_writes_over_the_picture(unet_live, model, folders):
    """Masks into the pictures' own folder are refused, not taken for masks that are there."""
    assert_refused(unet_live("predict", folders[0], "-o", folders[0], "--model", model), "another folder")


@pytest.mark.parametrize("output", ["pictures", "pictures/../pictures"])
def test_predict_writes_no_masks_among_pictures(unet_live, model, tmp_path, output):
    """The next run would take them for pictures: that is said before the first. Files that are named may lie there."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(discs()[0]).save(folder / "gray.png")
    result = unet_live("predict", folder, "-o", tmp_path / output, "--model", model)
    assert_refused(result, "among the pictures", "another folder")
    assert [path.name for path in folder.iterdir()] == ["gray.png"]
    for _ in range(2):
        assert unet_live("predict", folder / "gray.png", "-o", tmp_path / output, "--model", model)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["gray.png", "gray.tif"]


def test_predict_says_at_once_where_it_cannot_write(unet_live, model, folders):
    """A file is no folder, and that is said before anything is computed."""
    assert_refused(unet_live("predict", folders[0], "-o", folders[1] / "a.tif", "--model", model), "a.tif", "written")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--model", "nothing.safetensors"), "nothing.safetensors"),
        (("--device", "toaster"), "toaster"),
        (("--channels", "red"), "red"),
        (("--diameter", "0"), "diameter"),
        (("--diameter", "wide"), "--diameter"),
        (("--diameter", "nan"), "diameter"),
        (("--nosuch",), "--nosuch"),
        (("lost.tif",), "lost.tif"),
    ],
)
def test_predict_says_what_is_wrong_with_an_option(unet_live, model, folders, tmp_path, options, word):
    """A mistake on the command line is one sentence and exit code 2."""
    given = options if "--model" in options else (*options, "--model", model)
    assert_refused(unet_live("predict", folders[0], "-o", tmp_path / "out", *given), word)


@pytest.mark.parametrize("largest", [2**26, 1000], ids=["TIFF", "OME-Zarr"])
def test_the_masks_of_a_time_series_are_one(unet_live, model, tmp_path, monkeypatch, largest):
    """Frames stay frames: the masks have the axes of the picture."""
    monkeypatch.setattr(command, "LARGE", largest)
    frames = np.stack([discs(seed)[0] for seed in range(2)])
    tifffile.imwrite(tmp_path / "cells.tif", frames, imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    code, _, err = unet_live(
        "predict", tmp_path / "cells.tif", "-o", out, "--model", model, "--channels", "0", "--diameter", "16"
    )
    assert code == 0, err
    written = read_picture(next(out.iterdir()))
    assert (written.letters, written.shape) == ("TYX", frames.shape)
    if largest == 1000:
        assert [axis["type"] for axis in zarr.open(out / "cells.ome.zarr").attrs["ome"]["multiscales"][0]["axes"]] == [
            "time",
            "space",
            "space",
        ]


def test_a_time_series_is_no_volume(unet_live, tmp_path):
    """A model that reads volumes does not take moments for planes."""
    architecture = {"in_channels": 1, "out_channels": 2, "base_channels": 4, "depth": 2, "ndim": 3}
    model = tmp_path / "deep.safetensors"
    Model.create(ModelCard(name="deep", architecture=architecture), seed=0, device="cpu").save(model)
    frames = np.stack([discs(seed)[0] for seed in range(4)])
    tifffile.imwrite(tmp_path / "time.tif", frames, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "depth.tif", frames, imagej=True, metadata={"axes": "ZYX"})
    out = tmp_path / "out"
    assert_refused(unet_live("predict", tmp_path / "time.tif", "-o", out, "--model", model), "time.tif", "time series")
    code, _, err = unet_live("predict", tmp_path / "depth.tif", "-o", out, "--model", model)
    assert code == 0, err
    assert read_picture(out / "depth.tif").letters == "ZYX"


def test_what_else_a_file_holds_is_told(unet_live, model, folders, tmp_path):
    """Of a file of two pictures the first is read; every command that reads it says so in one sentence, and goes on."""
    with tifffile.TiffWriter(folders[0] / "a.tif", ome=True) as writer:
        writer.write(discs()[0])
        writer.write(discs()[0][:40])
    said = "a.tif' holds 2 pictures, and only the first is read. Save each in a file of its own."
    code, _, err = unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model)
    assert (code, err.count(said), err.count("only the first")) == (0, 1, 1)
    assert read_labels(tmp_path / "out" / "a.tif").shape == (64, 64)
    for truth in (folders[1], folders[1] / "a.tif"):
        given = folders[0] if truth == folders[1] else folders[0] / "a.tif"
        code, _, err = unet_live("evaluate", given, truth)
        assert (code, err.count(said), err.count("only the first")) == (0, 1, 1)
