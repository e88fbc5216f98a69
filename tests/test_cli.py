"""The headless commands: what they write, what they leave alone, and the one sentence of every failure."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image

from napari_unet import cli
from napari_unet.core.card import ModelCard
from napari_unet.engine.rehearsal import read as read_rehearsal
from napari_unet.nets.model import Model, load_model
from napari_unet.store.pictures import read_labels

COMMANDS = ("predict", "train", "evaluate", "info")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny untrained model in a file: no shipped weights are needed."""
    architecture = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    Model.create(ModelCard(name="tiny", architecture=architecture), seed=0, device="cpu").save(path)
    return path


@pytest.fixture
def unet_live(monkeypatch, capsys):
    """Function that runs the command line in this process: (exit code, stdout, stderr)."""
    threads = torch.get_num_threads()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["unet-live", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run(cli.app)
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    yield run
    torch.set_num_threads(threads)


def discs(seed=0, side=64):
    """A picture of bright discs (Y, X), uint8, and its labels."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for number, (cy, cx) in enumerate([(14, 14), (14, 46), (44, 20), (46, 48)], start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 64] = number
    noise = np.random.default_rng(seed).normal(0, 8, labels.shape)
    return (40 + 120 * (labels > 0) + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def folders(tmp_path):
    """Folders of two pictures and of their labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for seed, name in enumerate("ab"):
        image, truth = discs(seed)
        tifffile.imwrite(images / f"{name}.tif", image)
        tifffile.imwrite(labels / f"{name}.tif", truth)
    return images, labels


def assert_refused(result, *words):
    """Exit code 2, and one sentence on stderr that holds these words."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    assert err.endswith(".\n")
    assert "Traceback" not in err
    for word in words:
        assert word in err


# --- predict ---


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
    assert "1 of 2 pictures have masks" in err
    assert (out / "a.tif").read_bytes() == b"mine"
    assert (out / "b.tif").exists()
    assert unet_live("predict", folders[0], "-o", out, "--model", "there is none")[0] == 0  # not even loaded


def test_predict_goes_on_after_a_bad_picture(unet_live, model, folders, tmp_path):
    """A damaged picture gives one sentence with its name and exit code 2; the others get their masks."""
    (folders[0] / "a.tif").write_bytes(b"no picture")
    assert_refused(unet_live("predict", folders[0], "-o", tmp_path / "out", "--model", model), "a.tif")
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


# --- train ---


def train(unet_live, folders, output, *options):
    """Run three steps of a tiny training."""
    size = ("--steps", "3", "--base-channels", "4", "--device", "cpu")
    return unet_live("train", *folders, "-o", output, *size, *options)


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
    assert_refused(train(unet_live, folders, tmp_path / "n.safetensors", "--leave-out", "*"), "name")


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
    truth[truth == 1] = 4
    for path in folders[1].iterdir():
        tifffile.imwrite(path, truth)
    more = ("--kind", "classes", "--ignore-label", "255", "--from", output)
    assert_refused(train(unet_live, folders, tmp_path / "n.safetensors", *more), "3 classes", "5")


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
        ("m.safetensors", ("--kind", "classes", "--clicks", "5"), "--clicks"),
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


# --- evaluate, info ---


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


def test_info_tells_what_a_bug_report_needs(unet_live):
    """Versions, devices, what was chosen of them, and the shipped models, in both forms."""
    code, out, _ = unet_live("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert set(facts) == {"system", "python", "packages", "devices", "chosen", "models"}
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["chosen"] in facts["devices"].values()
    assert "python" in unet_live("info")[1]


# --- failures and help ---


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (PermissionError(13, "Permission denied", "x.tif"), 1, "The system refused 'x.tif': Permission denied.\n"),
        (RuntimeError("a\nb."), 1, "Something went wrong inside U-Net Live (RuntimeError: a b); report"),
    ],
)
def test_a_failure_of_ours_is_one_sentence_too(capsys, error, code, sentence):
    """What nobody foresaw ends in one line and exit code 1, never in a traceback."""

    def command(**_):
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(command)
    said = capsys.readouterr().err
    assert end.value.code == code
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_ctrl_c_says_so_and_no_more(capsys):
    """The exit code is the shell's own for it."""
    with pytest.raises(SystemExit) as end:
        cli.run(lambda **_: cli.STOPPED)
    assert (end.value.code, capsys.readouterr().err) == (130, "Stopped.\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(unet_live, command):
    """--help says what a command does and what its options are."""
    code, out, _ = unet_live(command, "--help")
    assert code == 0
    assert "--help" in out


def test_help_is_quick():
    """Asking the installed command for help loads neither torch nor Qt, nor napari."""
    code = """
import sys
from napari_unet.app import main
sys.argv = ["unet-live", "--help"]
try:
    main()
except SystemExit as end:
    loaded = {"torch", "qtpy", "PyQt6", "PySide6", "napari"} & {name.split(".")[0] for name in sys.modules}
    sys.exit(f"{sorted(loaded)}" if loaded else end.code)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in (*COMMANDS, "open", "demo"))


def test_the_process_itself_ends_with_two_after_a_users_mistake(tmp_path):
    """What scripts look at: exit code 2, nothing on stdout, one line on stderr."""
    code = "from napari_unet.app import main; main()"
    arguments = [sys.executable, "-c", code, "predict", "lost.tif", "-o", str(tmp_path)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert_refused((result.returncode, result.stdout, result.stderr), "lost.tif")


def test_simulate_refuses_what_it_cannot_do(unet_live, folders, model):
    """An order that is none, and two budgets at once."""
    assert_refused(unet_live("simulate", *folders, "--model", model, "--order", "random"), "left-to-right")
    assert_refused(unet_live("simulate", *folders, "--model", model, "--seconds", "1", "--steps", "1"), "--steps")


def test_simulate_tells_dice_of_classes(unet_live, folders):
    """A model of classes is scored by Dice, not by objects."""
    size = ("--rounds", "1", "--corrections", "2", "--steps", "1")
    code, out, err = unet_live("simulate", *folders, "--model", "classes", "--device", "cpu", *size)
    assert code == 0, err
    assert "dice" in out
    assert "ap50" not in out


def test_simulate_gives_a_learning_curve(unet_live, folders, model, tmp_path):
    """One point before and one after each round, for each seed, as JSON and as a picture."""
    size = ("--rounds", "1", "--corrections", "2", "--steps", "1", "--seeds", "2", "--plot", tmp_path / "curve.svg")
    size += ("-o", tmp_path / "learnt.safetensors")
    code, out, err = unet_live("simulate", *folders, "--model", model, "--device", "cpu", *size, "--json")
    assert code == 0, err
    runs = json.loads(out)
    assert list(runs) == ["seed 0", "seed 1"]
    assert [[point["corrections"] for point in run] for run in runs.values()] == [[0, 2], [0, 2]]
    assert all(0 <= point["scores"]["ap50"] <= 1 for run in runs.values() for point in run)
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 2
    assert load_model(tmp_path / "learnt.safetensors", device="cpu").card == load_model(model, device="cpu").card
