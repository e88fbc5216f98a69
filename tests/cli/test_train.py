"""unet-live train: a model that predicts, and the one sentence of every mistake."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.core.card import ModelCard
from napari_unet.engine import rehearsal as rehearsing
from napari_unet.engine.rehearsal import read as read_rehearsal
from napari_unet.nets.model import load_model
from tests.cli.conftest import assert_refused, discs


def train(unet_live, folders, output, *options):
    """Run three steps of a tiny training."""
    network = () if "--from" in options else ("--base-channels", "4")
    return unet_live("train", *folders, "-o", output, "--steps", "3", "--device", "cpu", *network, *options)


def test_train_writes_a_model_that_predicts(unet_live, folders, tmp_path):
    """Folders in, one file out: its card tells the data and the command, and the same seed gives the same weights."""
    output = tmp_path / "new" / "mine.safetensors"
    code, _, err = train(unet_live, folders, output, "--seed", "7")
    assert code == 0, err
    card = load_model(output, device="cpu").card
    assert "2 pictures, 8 objects, seed 7" in card.trained_on
    assert card.diameter == pytest.approx(16, abs=1)
    first = output.read_bytes()
    assert train(unet_live, folders, output, "--seed", "7")[0] == 0
    assert len(output.read_bytes()) == len(first)
    assert not list(output.parent.glob("*.checkpoint*"))
    rows = [json.loads(line) for line in output.with_suffix(".log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 3]


def test_the_card_names_no_place_and_no_file(unet_live, folders, model, tmp_path):
    """What goes round with a model says how it was made, and nothing of whose pictures these were."""
    other = tmp_path / "Patient Meier"
    shutil.copytree(folders[0], other / "images")
    shutil.copytree(folders[1], other / "labels")
    also, output = f"--also={other}", other / "mine.safetensors"
    code, _, err = train(unet_live, folders, output, also, "--leave-out", "Meier*", "--from", model)
    assert code == 0, err
    told = load_model(output, device="cpu").card.trained_on
    settings = "--steps 3 --device cpu --seed 0 --kind objects --crops 8 --synthetic 0 --rehearsal 0 --clicks 0"
    assert told.endswith(f"unet-live train {settings}")
    assert "Meier" not in told
    assert str(tmp_path) not in told


def test_rehearsed_is_what_the_model_knew_not_the_one_that_had_its_name(unet_live, folders, tmp_path):
    """A model made anew has no pictures of the one before; one that goes on in the same file keeps them."""
    output, beside = tmp_path / "m.safetensors", tmp_path / "m.rehearsal.npz"
    assert train(unet_live, folders, output, "--rehearsal", "2")[0] == 0
    assert train(unet_live, folders, output, "--from", output)[0] == 0
    assert len(read_rehearsal(beside)) == 2
    assert train(unet_live, folders, output)[0] == 0
    assert not beside.exists()


def test_train_goes_on_from_a_model(unet_live, folders, model, tmp_path):
    """With --from the weights begin where a model was, and the card names it as the parent."""
    code, _, err = train(unet_live, folders, tmp_path / "m.safetensors", "--from", model)
    assert code == 0, err
    assert load_model(tmp_path / "m.safetensors", device="cpu").card.parent == load_model(model, device="cpu").sha256()


def test_train_takes_more_sets_and_makes_pictures(unet_live, folders, tmp_path):
    """Sets with --also, made pictures with --synthetic; what --leave-out names is not read."""
    other = tmp_path / "other"
    shutil.copytree(folders[0], other / "images")
    shutil.copytree(folders[1], other / "labels")
    options = ("--also", other, "--synthetic", "3", "--leave-out", "b*", "--rehearsal", "5")
    code, _, err = train(unet_live, folders, tmp_path / "m.safetensors", *options)
    assert code == 0, err
    assert load_model(tmp_path / "m.safetensors", device="cpu").card.trained_on.startswith("5 pictures")
    assert len(read_rehearsal(tmp_path / "m.rehearsal.npz")) == 2  # of pictures, not of what was made
    assert_refused(train(unet_live, folders, tmp_path / "n.safetensors", "--leave-out", "*"), "--leave-out names all")


def test_a_training_is_through_when_its_rehearsal_is_written(unet_live, folders, tmp_path, monkeypatch):
    """Stopped before that, the same command writes it without learning anew."""
    output = tmp_path / "m.safetensors"
    with monkeypatch.context() as stopped:
        stopped.setattr(rehearsing, "write", Mock(side_effect=KeyboardInterrupt))
        assert train(unet_live, folders, output, "--rehearsal", "2")[0] != 0
    assert (tmp_path / "m.checkpoint.safetensors").is_file()
    assert train(unet_live, folders, output, "--rehearsal", "2")[0] == 0
    assert len(read_rehearsal(tmp_path / "m.rehearsal.npz")) == 2
    assert not (tmp_path / "m.checkpoint.safetensors").exists()


def begun(folder, *options):
    """The arguments of a training with a second set and a base model, all in one folder."""
    places = ("--also", folder / "also", "--from", folder / "base.safetensors", "--rehearsal", "2")
    return (folder / "images", folder / "labels"), folder / "m.safetensors", *places, *options


@pytest.fixture
def stopped(unet_live, folders, tmp_path, model, monkeypatch):
    """The folder of such a training that was stopped: all is there but what it rehearses."""
    for folder in folders:
        shutil.copytree(folder, tmp_path / "also" / folder.name)
    shutil.copy(model, tmp_path / "base.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(rehearsing, "write", Mock(side_effect=KeyboardInterrupt))
        assert train(unet_live, *begun(tmp_path))[0] == 130
    return tmp_path


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_training_goes_on_from_another_folder(unet_live, stopped, monkeypatch, is_moved):
    """The same pictures, named by other paths or moved with all else: nothing is learnt anew."""
    if is_moved:
        stopped = stopped.rename(stopped.with_name("moved"))
    monkeypatch.chdir(stopped)
    code, _, err = train(unet_live, *begun(stopped if is_moved else Path()))
    assert code == 0, err
    rows = [json.loads(line) for line in Path("m.log.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"] is None) for row in rows] == [(3, False), (3, True)]


@pytest.mark.parametrize("what", ["setting", "name", "labels", "set", "model"])
def test_a_training_of_something_else_does_not_go_on(unet_live, stopped, what):
    """Another setting, other pictures or another model to begin from: one sentence, and the checkpoint stays."""
    picture, truth = stopped / "images" / "a.tif", stopped / "labels" / "a.tif"
    arguments = begun(stopped, *(("--crops", "3") if what == "setting" else ()))
    if what == "name":
        picture.rename(picture.with_name("c.tif"))
        truth.rename(truth.with_name("c.tif"))
    elif what == "labels":
        tifffile.imwrite(truth, np.where(tifffile.imread(truth) == 1, 0, tifffile.imread(truth)))
    elif what == "set":
        (stopped / "also" / "images" / "a.tif").unlink()
        (stopped / "also" / "labels" / "a.tif").unlink()
    elif what == "model":
        base = load_model(stopped / "base.safetensors", device="cpu")
        base.card = replace(base.card, diameter=base.card.diameter + 1)
        base.replace_weights({name: value * 2 for name, value in base.state().items()})
        base.save(stopped / "base.safetensors")
    code, _, err = train(unet_live, *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("'m.checkpoint.safetensors' is a checkpoint of another training.")
    assert (stopped / "m.checkpoint.safetensors").is_file()


def test_train_takes_each_plane_of_a_stack(unet_live, folders, tmp_path):
    """A stack of two planes is two pictures."""
    for folder in folders:
        plane = tifffile.imread(folder / "b.tif")
        tifffile.imwrite(folder / "b.tif", np.stack([plane, plane[::-1]]))
    code, _, err = train(unet_live, folders, tmp_path / "m.safetensors")
    assert code == 0, err
    assert "3 pictures, 12 objects" in load_model(tmp_path / "m.safetensors", device="cpu").card.trained_on


@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_labels_that_say_nothing_are_refused(unet_live, folders, tmp_path, kind):
    """Where every pixel is left out there is nothing to learn from; one picture that says something is enough."""
    for path in folders[1].iterdir():
        truth = tifffile.imread(path)
        tifffile.imwrite(path, np.full_like(truth, 255))
    options = ("--ignore-label", "255", "--kind", kind)
    assert_refused(train(unet_live, folders, tmp_path / "m.safetensors", *options), "nothing to learn from")
    tifffile.imwrite(path, (truth > 0).astype(np.uint8))
    assert train(unet_live, folders, tmp_path / "m.safetensors", *options)[0] == 0


def test_masks_are_no_labels(unet_live, folders, tmp_path):
    """0 and 255 make one object of all: the user is told so, and how to go on; of classes it is as it should be."""
    numbered = train(unet_live, folders, tmp_path / "m.safetensors")
    assert "number no objects" not in numbered[2]
    for path in folders[1].iterdir():
        tifffile.imwrite(path, ((tifffile.imread(path) > 0) * 255).astype(np.uint8))
    code, _, err = train(unet_live, folders, tmp_path / "m.safetensors")
    assert (code, "of up to 4 pieces" in err) == (0, True)
    code, _, err = train(unet_live, folders, tmp_path / "c.safetensors", "--kind", "classes", "--ignore-label", "9")
    assert "number no objects" not in err


def test_train_learns_classes_and_ignores_a_label(unet_live, folders, tmp_path):
    """One output a class; the label of pixels of which nothing is known is no class."""
    truth = discs()[1] % 3
    truth[:8] = 255
    for path in folders[1].iterdir():
        tifffile.imwrite(path, truth)
    output = tmp_path / "m.safetensors"
    code, _, err = train(unet_live, folders, output, "--kind", "classes", "--ignore-label", "255")
    assert code == 0, err
    card = load_model(output, device="cpu").card
    assert card.classes == ("background", "class 1", "class 2")
    assert card.diameter == ModelCard.diameter  # of classes nothing is measured
    truth[truth == 1] = 4
    for path in folders[1].iterdir():
        tifffile.imwrite(path, truth)
    more = ("--kind", "classes", "--ignore-label", "255", "--from", output)
    assert_refused(train(unet_live, folders, tmp_path / "n.safetensors", *more), "3 classes", "5")


@pytest.mark.parametrize(("number", "named"), [(255, "0, 255"), (65535, "0, 65535")])
def test_classes_are_numbered_without_gaps(unet_live, folders, tmp_path, number, named):
    """Masks of 0 and 255 are two classes, and no network of 256."""
    for path in folders[1].iterdir():
        tifffile.imwrite(path, np.where(tifffile.imread(path) > 0, np.uint16(number), np.uint16(0)))
    output = tmp_path / "m.safetensors"
    assert_refused(train(unet_live, folders, output, "--kind", "classes"), named, "Number the classes")


def test_train_says_what_is_wrong_with_the_labels(unet_live, folders, tmp_path):
    """Labels of another shape, then none at all: one sentence each."""
    tifffile.imwrite(folders[1] / "a.tif", np.zeros((5, 5), np.uint8))
    assert_refused(train(unet_live, folders, tmp_path / "m.safetensors"), "a.tif", "(5, 5)")
    for path in folders[1].iterdir():
        path.unlink()
    assert_refused(train(unet_live, folders, tmp_path / "m.safetensors"), "labels")


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("m.pth", (), ".safetensors"),
        ("m.safetensors", ("--kind", "cats"), "cats"),
        ("m.safetensors", ("--minutes", "1"), "--minutes"),
        ("m.safetensors", ("--steps", "0"), "--steps"),
        ("m.safetensors", ("--from", "nothing"), "nothing"),
        ("m.safetensors", ("--from", "default", "--base-channels", "24"), "Leave out --base-channels"),
        ("m.safetensors", ("--kind", "classes", "--clicks", "5"), "--clicks"),
        ("m.safetensors", ("--kind", "classes", "--synthetic", "5"), "--synthetic"),
    ],
)
def test_train_says_what_is_wrong_with_an_option(unet_live, folders, tmp_path, name, options, word):
    """Options that make no training are refused before a step is made."""
    assert_refused(train(unet_live, folders, tmp_path / name, *options), word)
    assert not (tmp_path / name).exists()


def test_train_teaches_clicks_alone(unet_live, folders, model, tmp_path):
    """No step of the network, some of its click head: the masks are those of the model begun from."""
    assert train(unet_live, folders, tmp_path / "m.safetensors", "--from", model, "--steps=0", "--clicks=2")[0] == 0
    before, after = (load_model(path, device="cpu").state() for path in (model, tmp_path / "m.safetensors"))
    assert before.keys() < after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("number", [-1, 2**31, 2**32])
def test_train_refuses_labels_that_are_none(unet_live, folders, tmp_path, number):
    """Negative ones, and those of more than 31 bits, which would be taken for others."""
    path = folders[1] / "a.tif"
    tifffile.imwrite(path, np.where(tifffile.imread(path) > 0, np.int64(number), 0))
    assert_refused(train(unet_live, folders, tmp_path / "m.safetensors"), "a.tif", str(number), "--ignore-label")


def test_train_says_at_once_where_it_cannot_write(unet_live, folders, tmp_path):
    """Before anything is read."""
    (tmp_path / "file").write_text("no folder")
    assert_refused(train(unet_live, folders, tmp_path / "file" / "m.safetensors"), "Nothing can be written", "file")
