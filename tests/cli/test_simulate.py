"""unet-live simulate: learning curves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from napari_unet.nets.click import new_head
from napari_unet.nets.model import load_model
from tests.cli.conftest import assert_refused


def test_simulate_refuses_what_it_cannot_do(unet_live, folders, model):
    """An order that is none, and two budgets at once."""
    assert_refused(unet_live("simulate", *folders, "--model", model, "--order", "random"), "left-to-right")
    assert_refused(unet_live("simulate", *folders, "--model", model, "--seconds", "1", "--steps", "1"), "--steps")
    assert_refused(unet_live("simulate", *folders, "--model", model, "--seconds", "0"), "--seconds")
    assert_refused(unet_live("simulate", *folders, "--model", model, "-o", "m.txt"), "m.txt", ".safetensors")
    inside = folders[0] / "a.tif" / "curve.svg"
    assert_refused(unet_live("simulate", *folders, "--model", model, "--plot", inside), "Nothing can be written")


@pytest.mark.parametrize("options", [(), ("--clicks",)])
@pytest.mark.parametrize(
    ("image", "labels", "words"),
    [((2, 32, 32), (2, 32, 32), ("stack", "(2, 32, 32)")), ((32, 32), (16, 32), ("(32, 32)", "(16, 32)"))],
)
def test_simulate_refuses_stacks_and_labels_of_another_shape(unet_live, folders, model, options, image, labels, words):
    """The annotator corrects planes, and knows each pixel of them."""
    tifffile.imwrite(folders[0] / "b.tif", np.zeros(image, np.uint8))
    tifffile.imwrite(folders[1] / "b.tif", np.zeros(labels, np.uint8))
    assert_refused(unet_live("simulate", *folders, "--model", model, *options), "b.tif", *words)


def test_simulate_tells_dice_of_classes(unet_live, folders):
    """A model of classes is scored by Dice, not by objects."""
    size = ("--rounds", "1", "--corrections", "2", "--steps", "1")
    code, out, err = unet_live("simulate", *folders, "--model", "classes", "--device", "cpu", *size)
    assert code == 0, err
    assert "dice" in out
    assert "ap50" not in out


def test_simulate_refuses_classes_that_the_model_lacks(unet_live, folders):
    """Before anything is predicted: they could neither be found nor be taught."""
    result = unet_live("simulate", *folders, "--model", "classes3", "--device", "cpu", "--rounds", "1")
    assert_refused(result, "knows the classes 0 to 2")


def test_simulate_refuses_labels_in_which_there_is_nothing_to_click_on(unet_live, folders, model):
    """No object, or specks alone."""
    for path in folders[1].iterdir():
        specks = np.zeros(tifffile.imread(path).shape, np.uint8)
        specks[3:6, 3:6] = 1
        tifffile.imwrite(path, specks)
    assert_refused(unet_live("simulate", "--clicks", *folders, "--model", model, "--device", "cpu"), "to click on")


def test_simulate_gives_a_learning_curve(unet_live, folders, model, tmp_path):
    """One point before and one after each round, for each seed, as JSON and as a picture."""
    size = ("--rounds", "1", "--corrections", "2", "--steps", "1", "--seeds", "2", "--plot", tmp_path / "curve.svg")
    size += ("-o", tmp_path / "learnt.safetensors", "--anew")
    code, out, err = unet_live("simulate", *folders, "--model", model, "--device", "cpu", *size, "--json")
    assert code == 0, err
    runs = json.loads(out)
    assert list(runs) == ["seed 0", "seed 1"]
    assert [[point["corrections"] for point in run] for run in runs.values()] == [[0, 2], [0, 2]]
    assert all(0 <= point["scores"]["ap50"] <= 1 for run in runs.values() for point in run)
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 2
    first, learnt = load_model(model, device="cpu"), load_model(tmp_path / "learnt.safetensors", device="cpu")
    assert learnt.card == replace(first.card, parent=first.sha256())


@pytest.fixture
def clicking_model(tmp_path, model):
    """The tiny model with a click head that knows nothing."""
    loaded = load_model(model, device="cpu")
    loaded.replace_click(new_head(loaded.net, 0))
    loaded.save(tmp_path / "clicking.safetensors")
    return tmp_path / "clicking.safetensors"


def test_simulate_counts_clicks_beside_other_ways(unet_live, folders, clicking_model, tmp_path):
    """Overlaps, clicks and milliseconds of each way, for each picture and for all, as JSON, text and picture."""
    options = ("--model", clicking_model, "--device", "cpu", "--clicks", "--objects", "1")
    code, out, err = unet_live("simulate", *folders, *options, "--json", "--plot", tmp_path / "clicks.svg")
    assert code == 0, err
    ways = json.loads(out)
    assert {"U-Net Live", "Otsu", "random walker", "watershed"} <= set(ways)
    assert [row["picture"] for row in ways["Otsu"]] == ["a", "b", "all"]
    facts = ways["U-Net Live"][-1]["facts"]
    assert facts["objects"] == 2
    assert {"iou@1", "iou@2", "iou@3", "iou@5", "iou@10", "noc@80", "noc@85", "noc@90", "ms"} <= set(facts)
    assert (tmp_path / "clicks.svg").read_text().count("<polyline") == len(ways)
    code, out, _ = unet_live("simulate", *folders, *options, "--only", "a")
    assert code == 0
    assert "objects 1, iou@1" in out


def test_what_could_not_be_kept_is_refused_before_anything_is_learnt(unet_live, folders, tmp_path):
    """A folder to draw into, and names that leave no picture: one sentence each."""
    assert_refused(unet_live("simulate", *folders, "--plot", tmp_path), "is a folder", "--plot")
    assert_refused(unet_live("simulate", *folders, "--only", "nothing*"), "is left", "--only names none of them.")


def test_simulate_learns_from_clicks(unet_live, folders, clicking_model):
    """With rounds, objects are kept and learnt from, and the clicks on held-out pictures are counted after each."""
    options = (
        "--model",
        clicking_model,
        "--device",
        "cpu",
        "--clicks",
        "--objects",
        "1",
        "--rounds",
        "1",
        "--steps",
        "1",
    )
    code, out, err = unet_live("simulate", *folders, *options, "--corrections", "1", "--json")
    assert code == 0, err
    points = json.loads(out)["seed 0"]
    assert len(points) == 2
    assert points[0]["kept"] == 0
    assert 0 <= points[1]["facts"]["iou@1"] <= 1


def test_simulate_needs_a_click_head_and_rounds(unet_live, folders, model):
    """One sentence each."""
    assert_refused(unet_live("simulate", *folders, "--model", model, "--clicks"), "not trained for clicks")
    assert_refused(unet_live("simulate", *folders, "--model", model, "--rounds", "0"), "--rounds")
