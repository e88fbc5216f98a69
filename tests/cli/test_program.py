"""What all commands share: help, exit codes, and one sentence for every failure."""

import errno
import os
import subprocess
import sys
import tempfile
from unittest.mock import Mock

import pytest

from napari_unet import cli
from napari_unet.cli import program
from napari_unet.cli.program import loaded_model
from napari_unet.core.card import ModelCard
from napari_unet.core.errors import STOPPED, UNetLiveError
from napari_unet.nets.model import Model
from tests.cli.conftest import assert_refused

COMMANDS = ("predict", "train", "evaluate", "simulate", "info")


def test_a_model_is_loaded_again_when_its_file_is_another_one(tmp_path):
    """A worker that lives for many commands never predicts with a model that is gone."""
    path = tmp_path / "tiny.safetensors"
    card = ModelCard(name="tiny", architecture={"in_channels": 1, "out_channels": 2, "base_channels": 4, "depth": 2})
    for seed in (0, 1):
        model = Model.create(card, seed=seed, device="cpu")
        model.save(path)
        loaded = loaded_model(str(path), "cpu")
        assert loaded.sha256() == model.sha256()
        assert loaded_model(str(path), "cpu") is loaded


# --- failures and help ---


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (PermissionError(13, "Permission denied", "x.tif"), 1, "The system refused 'x.tif': Permission denied."),
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
        cli.run(lambda **_: STOPPED)
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


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EFBIG, 1), (errno.EACCES, 2), (errno.EROFS, 2)])
def test_a_full_disk_is_no_mistake_of_the_user(monkeypatch, tmp_path, number, code):
    """Wherever it is met, it has the exit code 1; a folder that may not be written into was named wrongly."""
    monkeypatch.setattr(tempfile, "TemporaryFile", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(UNetLiveError) as caught:
        program.make_folder(tmp_path)
    assert program.sentence_and_code(caught.value)[1] == code
