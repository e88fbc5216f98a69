"""unet-live evaluate: labels against the truth."""

import json
import shutil

import numpy as np
import pytest
import tifffile

from tests.cli.conftest import assert_refused


def test_evaluate_gives_perfect_labels_one(unet_live, folders):
    """Labels against themselves score 1 in every figure, per picture and in the mean."""
    code, out, _ = unet_live("evaluate", folders[1], folders[1], "--json")
    scores = json.loads(out)
    assert code == 0
    assert set(scores["pictures"]) == {"a", "b"}
    assert set(scores["mean"]) == {"ap50", "ap75", "map", "dice", "iou", "f1", "pq"}
    assert set(scores["mean"].values()) == {1.0}


def test_evaluate_prints_a_table(unet_live, folders):
    """Two files give a row for the picture and one for the mean."""
    code, out, _ = unet_live("evaluate", folders[1] / "a.tif", folders[1] / "b.tif")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["ap50", "a", "mean"]
    assert out.splitlines()[-1].split()[1] == "1.000"


def test_evaluate_says_what_does_not_fit(unet_live, folders, tmp_path):
    """Labels of another size, and files that are not there, give one sentence each."""
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((5, 5), np.uint8))
    assert_refused(unet_live("evaluate", tmp_path / "small.tif", folders[1] / "a.tif"))
    assert_refused(unet_live("evaluate", tmp_path / "lost.tif", folders[1] / "a.tif"), "lost.tif")


def test_evaluate_says_what_is_left_out(unet_live, folders, tmp_path):
    """Truth without a prediction is named; two files of one name are refused; a picture that does not fit is named."""
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(folders[1] / "a.tif", few)
    code, out, err = unet_live("evaluate", few, folders[1], "--json")
    assert code == 0
    assert set(json.loads(out)["pictures"]) == {"a"}
    assert "Left out, for nothing has their name: 1 in" in err
    assert "b.tif" in err
    shutil.copy(folders[1] / "b.tif", few)
    tifffile.imwrite(few / "a.tif", np.zeros((5, 5), np.uint8))
    assert_refused(unet_live("evaluate", few, folders[1]), "a.tif", "(5, 5)")
    shutil.copy(folders[1] / "a.tif", few / "a.tiff")
    assert_refused(unet_live("evaluate", few, folders[1]), "a.tif", "a.tiff", "same name")


def test_one_file_is_found_in_a_folder_of_truth(unet_live, folders):
    """The truth of a picture may be a folder, in which it has the same name."""
    code, out, _ = unet_live("evaluate", folders[1] / "b.tif", folders[1], "--json")
    assert code == 0
    assert set(json.loads(out)["pictures"]) == {"b"}


def test_a_file_that_is_no_labels_is_named_once(unet_live, folders, tmp_path):
    """The sentence names the file that is wrong, and no other."""
    tifffile.imwrite(tmp_path / "half.tif", np.full((64, 64), 0.5, np.float32))
    _, _, err = refused = unet_live("evaluate", folders[1] / "a.tif", tmp_path / "half.tif")
    assert_refused(refused, "half.tif")
    assert err.count(".tif") == 1


@pytest.mark.parametrize(("axes", "score"), [("TYX", 1.0), ("ZYX", 0.0)])
def test_an_object_of_a_time_series_is_one_of_each_moment(unet_live, tmp_path, axes, score):
    """Truth whose ids follow a cell through time says the same as ids of each frame; in a volume it is one object."""
    truth = np.zeros((3, 20, 20), np.uint16)
    truth[:, 4:9, 4:9], truth[:, 12:, 12:] = 1, 2
    found = np.where(truth > 0, truth + 2 * np.arange(3, dtype=np.uint16)[:, None, None], 0)
    tifffile.imwrite(tmp_path / "truth.tif", truth, imagej=True, metadata={"axes": axes})
    tifffile.imwrite(tmp_path / "found.tif", found, photometric="minisblack")
    code, out, err = unet_live("evaluate", tmp_path / "found.tif", tmp_path / "truth.tif", "--json")
    assert code == 0, err
    assert json.loads(out)["mean"]["ap50"] == score
